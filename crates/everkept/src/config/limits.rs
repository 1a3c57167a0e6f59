//! How long tools, turns and sessions may take, and how long an agent may say nothing.
//!
//! Never a time that does not lie within the next greater one.

use super::Wrong;
use everkept_core::Limits;
use serde::Deserialize;
use std::{num::NonZeroU32, time::Duration};
use toml::Spanned;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileLimits {
    silence_s: Option<Spanned<NonZeroU32>>,
    progress_s: Option<Spanned<NonZeroU32>>,
    tool_s: Option<Spanned<NonZeroU32>>,
    turn_s: Option<Spanned<NonZeroU32>>,
    session_s: Option<Spanned<NonZeroU32>>,
}

impl FileLimits {
    pub fn check(self) -> Result<Limits, Wrong> {
        let usual = Limits::default();
        let time = |given: &Option<Spanned<NonZeroU32>>, usual| {
            given.as_ref().map_or(usual, |seconds| Duration::from_secs(seconds.get_ref().get().into()))
        };
        let limits = Limits {
            silence: time(&self.silence_s, usual.silence),
            progress: time(&self.progress_s, usual.progress),
            tool: time(&self.tool_s, usual.tool),
            turn: time(&self.turn_s, usual.turn),
            session: time(&self.session_s, usual.session),
        };
        let pairs = [
            ("tool_s", limits.tool, &self.tool_s, "turn_s", limits.turn, &self.turn_s),
            ("turn_s", limits.turn, &self.turn_s, "session_s", limits.session, &self.session_s),
        ];
        for (inner, less, at, outer, more, or_at) in pairs {
            if less >= more {
                let span = at.as_ref().or(or_at.as_ref()).map(Spanned::span);
                return Err((span, format!("{inner} ({} s) must be less than {outer} ({} s)", less.as_secs(), more.as_secs())));
            }
        }
        Ok(limits)
    }
}
