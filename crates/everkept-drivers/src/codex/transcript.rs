//! Where Codex writes its threads: one file for each under the day it began, a fork's only with what is its own.
//!
//! Measured with 0.169: its databases of threads are made anew from the files.
//! Never: anything outside the folder of sessions.

use crate::{
    json::{self, Object},
    transcript::{Found, Shelf, entries, is_plain},
};
use everkept_agent::Kept;
use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

/// More forks of forks than anybody makes.
const MOST_ANCESTORS: usize = 64;
/// The first line of a file has the agent's instructions in it.
const MAX_HEAD_BYTES: u64 = 16 * 1024 * 1024;
const ID_BYTES: usize = 36;

pub struct Rollouts {
    sessions: PathBuf,
    archived: PathBuf,
}

impl Rollouts {
    /// `variable` is what the agent sees in its environment.
    pub fn of(variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let set = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = set("CODEX_HOME").or_else(|| Some(set("HOME")?.join(".codex")))?;
        Some(Self { sessions: home.join("sessions"), archived: home.join("archived_sessions") })
    }

    /// The file of a thread among the agent's sessions.
    fn of_thread(&self, thread: &str) -> io::Result<Option<PathBuf>> {
        if !is_plain(thread) {
            return Ok(None);
        }
        let end = format!("-{thread}.jsonl");
        for year in entries(&self.sessions)? {
            for month in entries(&year)? {
                for day in entries(&month)? {
                    if let Some(path) = entries(&day)?.into_iter().find(|path| ends_with(path, &end)) {
                        return Ok(Some(path));
                    }
                }
            }
        }
        Ok(None)
    }

    fn name_of(&self, path: &Path) -> Option<String> {
        path.strip_prefix(&self.sessions).ok()?.to_str().map(str::to_owned).filter(|name| is_name(name))
    }
}

impl Shelf for Rollouts {
    fn files(&self, kept: &Kept) -> io::Result<Vec<Found>> {
        let mut found: Vec<Found> = Vec::new();
        let mut next = Some((kept.session.to_string(), None));
        while let Some((thread, until)) = next.take() {
            // Most times it lies where it lay.
            let known = kept.files.iter().find(|file| thread_of(&file.name) == Some(&thread)).map(|file| self.sessions.join(&file.name));
            let path = match known.filter(|path| path.is_file()) {
                Some(path) => Some(path),
                None => self.of_thread(&thread)?,
            };
            let Some((path, name)) = path.and_then(|path| Some((path.clone(), self.name_of(&path)?))) else { break };
            if found.len() > MOST_ANCESTORS || found.iter().any(|found| found.name == name) {
                break;
            }
            next = base(&path)?;
            found.push(Found { name, path, until });
        }
        Ok(found)
    }

    fn find(&self, _directory: &Path, name: &str) -> io::Result<Option<PathBuf>> {
        if !is_name(name) {
            return Ok(None);
        }
        let place = self.sessions.join(name);
        if place.is_file() {
            return Ok(Some(place));
        }
        let Some(thread) = thread_of(name) else { return Ok(None) };
        if let Some(path) = self.of_thread(thread)? {
            return Ok(Some(path));
        }
        let end = format!("-{thread}.jsonl");
        Ok(entries(&self.archived)?.into_iter().find(|path| ends_with(path, &end)))
    }

    fn place(&self, _directory: &Path, name: &str) -> Option<PathBuf> {
        is_name(name).then(|| self.sessions.join(name))
    }
}

fn ends_with(path: &Path, end: &str) -> bool {
    // Old ones it may have packed.
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.strip_suffix(".zst").unwrap_or(name).ends_with(end))
}

/// `2026/11/20/rollout-2026-11-20T12-00-00-<id>.jsonl`
fn is_name(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    match parts[..] {
        [year, month, day, file] => {
            let stem = file.strip_prefix("rollout-").and_then(|file| file.strip_suffix(".jsonl"));
            digits(year, 4) && digits(month, 2) && digits(day, 2) && stem.is_some_and(is_plain)
        }
        _ => false,
    }
}

fn thread_of(name: &str) -> Option<&str> {
    let stem = name.strip_suffix(".jsonl")?;
    stem.get(stem.len().checked_sub(ID_BYTES)?..)
}

/// What a fork goes on from: another thread, up to a byte of its file.
fn base(path: &Path) -> io::Result<Option<(String, Option<u64>)>> {
    let mut head = Vec::new();
    BufReader::new(File::open(path)?.take(MAX_HEAD_BYTES)).read_until(b'\n', &mut head)?;
    let text = json::text(&head);
    let base = Object::parse(&text).unwrap_or_default().object("payload").object("history_base");
    let until = base.get("end_byte_offset").and_then(json::Value::number);
    Ok(base.text("thread_id").map(|thread| (thread, until)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "2026/11/20/rollout-2026-11-20T12-00-00-01a1fb70-d170-7a51-ba14-5d045ae857f3.jsonl";

    #[test]
    fn only_the_agents_own_kind_of_name_names_a_file() {
        let rollouts = Rollouts::of(|name| (name == "CODEX_HOME").then(|| "/x".into())).expect("a home");
        assert_eq!(rollouts.place(Path::new("/"), NAME), Some(Path::new("/x/sessions").join(NAME)));
        assert_eq!(thread_of(NAME), Some("01a1fb70-d170-7a51-ba14-5d045ae857f3"));
        let bad = ["", "a.jsonl", "../11/20/rollout-a.jsonl", "2026/11/20/../rollout-a.jsonl", "2026/11/20/rollout-a/b.jsonl"];
        for name in bad.into_iter().chain(["/2026/11/20/rollout-a.jsonl", "2026/11/20/rollout-.jsonl", "2026/11/20/auth.json"]) {
            assert_eq!(rollouts.place(Path::new("/"), name), None, "{name:?}");
        }
    }

    #[test]
    fn a_fork_is_its_own_file_and_what_it_goes_on_from() {
        let folder = tempfile::tempdir().expect("a folder");
        let rollouts = Rollouts::of(|name| (name == "CODEX_HOME").then(|| folder.path().into())).expect("a home");
        let id = |n: u8| format!("01a1fb70-d170-7a51-ba14-5d045ae857f{n}");
        let name = |n: u8| format!("2026/11/2{n}/rollout-2026-11-2{n}T12-00-00-{}.jsonl", id(n));
        let write = |n: u8, base: Option<(u8, u64)>| {
            let base = base.map(|(of, end)| serde_json::json!({ "thread_id": id(of), "end_byte_offset": end }));
            let path = rollouts.sessions.join(name(n));
            std::fs::create_dir_all(path.parent().expect("a day")).expect("made");
            let head = serde_json::json!({ "type": "session_meta", "payload": { "id": id(n), "history_base": base } });
            std::fs::write(path, format!("{head}\n{{}}\n")).expect("written");
        };
        let files = |n: u8| {
            let kept =
                Kept { directory: "/".into(), session: everkept_core::AgentSessionId::new(id(n)).expect("an id"), files: Vec::new() };
            let found = rollouts.files(&kept).expect("read");
            found.into_iter().map(|found| (found.name, found.until)).collect::<Vec<_>>()
        };
        write(1, None);
        write(2, Some((1, 70)));
        write(3, Some((2, 90)));
        assert_eq!(files(3), [(name(3), None), (name(2), Some(90)), (name(1), Some(70))]);
        assert_eq!(files(4), []);
        write(1, Some((3, 5)));
        assert_eq!(files(3).len(), 3, "round and round it goes once");
        std::fs::remove_file(rollouts.sessions.join(name(2))).expect("removed");
        assert_eq!(files(3), [(name(3), None)], "what is not there cannot be kept");
    }
}
