//! The pages that say which test serves what, held against the tests there are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const REQUIREMENTS: &str = include_str!("../../../../docs/requirements.md");
const PROMISES: &str = include_str!("../../../../docs/promises.md");
const README: &str = include_str!("../../../../README.md");

/// Every function marked as a test, in every crate, and those of the suite that every store passes.
fn tests() -> BTreeSet<String> {
    fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => sources(&path, into),
                false if path.extension().is_some_and(|it| it == "rs") => into.push(path),
                false => {}
            }
        }
    }
    let mut files = Vec::new();
    sources(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap(), &mut files);
    let mut tests = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        let mut marked = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with("#[") {
                marked |= line.contains("test");
                assert!(!line.starts_with("#[ignore"), "no test is ignored");
            } else if let Some((_, rest)) = line.split_once("fn ").filter(|(_, rest)| marked || rest.ends_with("(stores: &impl Stores) {"))
            {
                tests.insert(rest.split(['(', '<']).next().unwrap().to_owned());
                marked = false;
            } else if !line.is_empty() {
                marked = false;
            }
        }
    }
    tests
}

/// The rows of a page's tables: their first cell, and the names in their last.
fn rows(page: &str) -> Vec<(String, String, Vec<String>)> {
    let cells = page.lines().filter(|line| line.starts_with("| ") && !line.contains("---"));
    let cells = cells.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>());
    let named = |cell: &str| cell.split('`').skip(1).step_by(2).filter(|it| it.contains('_')).map(str::to_owned).collect();
    cells.map(|cells| (cells[0].clone(), cells.last().unwrap().clone(), named(cells.last().unwrap()))).collect()
}

#[test]
fn on_13_ag_14_ag_n4_the_requirements_and_promises_name_tests_that_exist() {
    let tests = tests();
    assert!(tests.len() > 200, "{}", tests.len());
    let mut ids = BTreeSet::new();
    for (id, cell, named) in rows(REQUIREMENTS).into_iter().chain(rows(PROMISES)) {
        if id == "id" || id == "promise" {
            continue;
        }
        assert!(
            !named.is_empty() || cell.starts_with("not yet") || cell.starts_with("the kills above"),
            "{id} is served by nothing: {cell}"
        );
        for name in named {
            assert!(tests.contains(&name), "{id} names {name}, which is no test");
        }
        assert!(ids.insert(id.clone()), "{id} stands twice");
    }
    let count = |prefix: &str| ids.iter().filter(|id| id.starts_with(prefix)).count();
    let counts = ["ON-", "WS-", "OC-", "AG-", "SE-", "TU-"].map(|prefix| (prefix, count(prefix)));
    assert_eq!(counts, [("ON-", 17), ("WS-", 24), ("OC-", 16), ("AG-", 22), ("SE-", 12), ("TU-", 9)], "every line is there");
}

#[test]
fn the_readme_links_every_promise_that_is_made() {
    for (promise, _, _) in rows(PROMISES).into_iter().filter(|(id, _, _)| id != "promise") {
        assert!(README.contains(&format!("**{promise}**")), "{promise} is not in the README");
    }
}
