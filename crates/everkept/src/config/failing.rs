//! What follows when an agent fails: how often a prompt is given again, and who is asked then.
//!
//! Never a list without an end, or an entry that asks the same again.

use super::Wrong;
use everkept_core::{AgentName, Fallback, ModelName};
use serde::Deserialize;
use toml::Spanned;

/// The most a prompt is given again.
const MOST_RETRIES: u32 = 10;
/// The most that may stand in, one after the other.
const MOST_FALLBACKS: usize = 16;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Failing {
    pub retry_prompts: u32,
    pub fallback: Vec<Fallback>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileFallback {
    agent: Option<Spanned<String>>,
    model: Option<Spanned<String>>,
}

/// The two keys as they stand in the file.
pub(super) struct FileFailing {
    pub retry_prompts: Option<Spanned<u32>>,
    pub fallback: Option<Spanned<Vec<Spanned<FileFallback>>>>,
}

impl FileFailing {
    pub fn check(self) -> Result<Failing, Wrong> {
        let retry_prompts = match self.retry_prompts {
            Some(times) if *times.get_ref() > MOST_RETRIES => {
                return Err((Some(times.span()), format!("retry_prompts must be at most {MOST_RETRIES}")));
            }
            times => times.map_or(0, Spanned::into_inner),
        };
        let Some(list) = self.fallback else { return Ok(Failing { retry_prompts, fallback: Vec::new() }) };
        if list.get_ref().len() > MOST_FALLBACKS {
            return Err((Some(list.span()), format!("fallback must be at most {MOST_FALLBACKS}")));
        }
        let fallback = list.into_inner().into_iter().map(FileFallback::check).collect::<Result<_, _>>()?;
        Ok(Failing { retry_prompts, fallback })
    }
}

impl FileFallback {
    fn check(entry: Spanned<Self>) -> Result<Fallback, Wrong> {
        let span = entry.span();
        let Self { agent, model } = entry.into_inner();
        if agent.is_none() && model.is_none() {
            return Err((Some(span), "fallback names neither an agent nor a model; write it as { model = \"provider/model\" }".into()));
        }
        let wrong =
            |key: &str, at: &Spanned<String>, refusal: everkept_core::Refusal| (Some(at.span()), format!("fallback.{key}: {refusal}"));
        let agent = agent.map(|at| AgentName::new(at.get_ref().clone()).map_err(|refusal| wrong("agent", &at, refusal))).transpose()?;
        let model = model.map(|at| ModelName::new(at.get_ref().clone()).map_err(|refusal| wrong("model", &at, refusal))).transpose()?;
        Ok(Fallback { agent, model })
    }
}
