//! What of the server's environment an agent gets to see.
//!
//! Never: a variable because nobody thought of it. What is not on the list is not handed down, so no secret of the
//! server's, and nothing that tells one agent that it runs inside another.

use std::{collections::BTreeMap, ffi::OsString};

const NAMES: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "TERM",
    "TMPDIR",
    "TZ",
    "SHELL",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];
const PREFIXES: &[&str] = &["LC_", "XDG_", "SSL_CERT_"];

/// The allowed part of `ours`, and over it what the agent's configuration gives.
pub fn of_agent(ours: impl Iterator<Item = (OsString, OsString)>, given: &BTreeMap<String, String>) -> BTreeMap<OsString, OsString> {
    let given = given.iter().map(|(name, value)| (name.into(), value.into()));
    ours.filter(|(name, _)| name.to_str().is_some_and(allowed)).chain(given).collect()
}

/// One variable as an agent sees it.
pub fn variable_of_agent(name: &str, given: &BTreeMap<String, String>) -> Option<OsString> {
    let ours = || allowed(name).then(|| std::env::var_os(name)).flatten();
    given.get(name).map(OsString::from).or_else(ours)
}

fn allowed(name: &str) -> bool {
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_sees_what_is_listed_and_what_it_is_given() {
        let ours = ["PATH", "LC_ALL", "XDG_DATA_HOME", "EVERKEPT_TOKEN", "CLAUDE_CODE_ENTRYPOINT", "CLAUDECODE", "AWS_SECRET_ACCESS_KEY"];
        let ours = ours.into_iter().map(|name| (name.into(), "ours".into()));
        let given = BTreeMap::from([("API_KEY".to_owned(), "given".to_owned()), ("PATH".to_owned(), "given".to_owned())]);
        let expected = [("API_KEY", "given"), ("LC_ALL", "ours"), ("PATH", "given"), ("XDG_DATA_HOME", "ours")];
        assert_eq!(of_agent(ours, &given), expected.into_iter().map(|(name, value)| (name.into(), value.into())).collect());
    }
}
