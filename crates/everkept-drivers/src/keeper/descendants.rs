//! Who descends from a process, as `/proc` has it at one look.
//!
//! Never: the last word. Processes come and go while it looks; whoever must be sure looks again.

use nix::unistd::Pid;
use std::{collections::BTreeMap, fs};

/// Children before their children.
pub fn of(ancestor: Pid) -> Vec<Pid> {
    let mut children = BTreeMap::<i32, Vec<i32>>::new();
    for (pid, parent) in processes() {
        children.entry(parent).or_default().push(pid);
    }
    let mut found = vec![ancestor.as_raw()];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        // Taken out, so that even a nonsensical table ends.
        found.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    found.into_iter().skip(1).map(Pid::from_raw).collect()
}

fn processes() -> impl Iterator<Item = (i32, i32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read(entry.path().join("stat")).ok()?;
        Some((pid, parent(&String::from_utf8_lossy(&stat))?))
    })
}

/// `PID (NAME) STATE PARENT ...`, where a name may hold anything, brackets too.
fn parent(stat: &str) -> Option<i32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_hides_no_parent() {
        assert_eq!(parent("12 (a) b (c)) S 7 12 12 0"), Some(7));
    }
}
