//! Where Claude Code writes its sessions: one file for each, in a folder named after the directory it works in.
//!
//! Read in 2.1.328; it also finds a session in another directory's folder.
//! Never: the folder of its settings and credentials, which is the one above.

use crate::transcript::{Found, Shelf, entries, is_plain};
use everkept_agent::Kept;
use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

/// A folder's name that would be longer is cut and ends in a number made of the whole.
const LONGEST: usize = 200;

pub struct Projects(PathBuf);

impl Projects {
    /// `variable` is what the agent sees in its environment.
    pub fn of(variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let set = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let folder = set("CLAUDE_CONFIG_DIR").or_else(|| Some(set("HOME")?.join(".claude")))?;
        Some(Self(folder.join("projects")))
    }
}

impl Shelf for Projects {
    fn files(&self, kept: &Kept) -> io::Result<Vec<Found>> {
        let name = format!("{}.jsonl", kept.session);
        let path = self.find(&kept.directory, &name)?;
        Ok(path.map(|path| Found { name, path, until: None }).into_iter().collect())
    }

    fn find(&self, directory: &Path, name: &str) -> io::Result<Option<PathBuf>> {
        let Some(place) = self.place(directory, name) else { return Ok(None) };
        if place.is_file() {
            return Ok(Some(place));
        }
        Ok(entries(&self.0)?.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file()))
    }

    fn place(&self, directory: &Path, name: &str) -> Option<PathBuf> {
        let plain = name.strip_suffix(".jsonl").is_some_and(is_plain);
        // It sees where it really is.
        let real = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
        plain.then(|| self.0.join(folder_of(&real.to_string_lossy())).join(name))
    }
}

/// As the agent reckons, which counts in the units of UTF-16.
fn folder_of(directory: &str) -> String {
    let plain = |unit: u16| u8::try_from(unit).ok().filter(u8::is_ascii_alphanumeric).map_or('-', char::from);
    let mut name: String = directory.encode_utf16().map(plain).collect();
    if name.len() > LONGEST {
        let sum = directory.encode_utf16().fold(0_i32, |sum, unit| sum.wrapping_mul(31).wrapping_add(i32::from(unit)));
        name.truncate(LONGEST);
        name.push('-');
        name.push_str(&base_36(sum.unsigned_abs()));
    }
    name
}

fn base_36(mut number: u32) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit(number % 36, 36).expect("it is below 36"));
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_named_as_the_agent_names_it() {
        assert_eq!(folder_of("/tmp/w.x/Ünï_1"), "-tmp-w-x--n--1");
        assert_eq!(folder_of("/😀"), "---");
        // Reckoned by the agent's own code.
        let long = format!("/{}", "long/".repeat(60));
        assert_eq!(folder_of(&long), format!("{}-du969b", &"-long".repeat(60)[..200]));
    }

    #[test]
    fn only_an_id_names_a_file() {
        let projects = Projects::of(|name| (name == "HOME").then(|| "/home/x".into())).expect("a home");
        assert_eq!(projects.place(Path::new("/nowhere"), "a-1.jsonl"), Some("/home/x/.claude/projects/-nowhere/a-1.jsonl".into()));
        for name in ["../a.jsonl", "a/b.jsonl", ".jsonl", "a", "a.jsonl/..", "\0.jsonl", "..jsonl"] {
            assert_eq!(projects.place(Path::new("/nowhere"), name), None, "{name:?}");
        }
    }
}
