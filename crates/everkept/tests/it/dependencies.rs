//! The arrows between the crates are those of ARCHITECTURE.md and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What each crate may depend on, of ours.
const MAY: &[(&str, &[&str])] = &[
    ("everkept-core", &[]),
    ("everkept-store", &["everkept-core"]),
    ("everkept-store-sql", &["everkept-core", "everkept-store"]),
    ("everkept-agent", &["everkept-core"]),
    ("everkept-drivers", &["everkept-core", "everkept-agent", "everkept-api"]),
    ("everkept-engine", &["everkept-core", "everkept-store", "everkept-agent"]),
    ("everkept-api", &["everkept-core"]),
    ("everkept-server", &["everkept-core", "everkept-engine", "everkept-api"]),
    (
        "everkept",
        &[
            "everkept-core",
            "everkept-store",
            "everkept-store-sql",
            "everkept-agent",
            "everkept-drivers",
            "everkept-engine",
            "everkept-api",
            "everkept-server",
        ],
    ),
    // Plays a process under the keeper in tests; nothing of ours depends on it.
    ("xtask", &["everkept-drivers"]),
];

#[test]
fn the_crates_depend_on_each_other_as_the_table_says_and_no_further() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let mut manifests: Vec<_> = std::fs::read_dir(root.join("crates")).unwrap().map(|entry| entry.unwrap().path()).collect();
    manifests.push(root.join("xtask"));
    let mut found = BTreeMap::new();
    for folder in manifests {
        let manifest: toml::Table = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap().parse().unwrap();
        let name = manifest["package"]["name"].as_str().unwrap().to_owned();
        let mut ours = BTreeSet::new();
        for section in ["dependencies", "build-dependencies"] {
            let names = manifest.get(section).and_then(|table| table.as_table()).into_iter().flat_map(|table| table.keys());
            ours.extend(names.filter(|name| name.starts_with("everkept") || *name == "xtask").cloned());
        }
        assert!(!manifest.contains_key("features"), "{name}: no feature flags between our own crates");
        found.insert(name, ours);
    }
    let may: BTreeMap<String, BTreeSet<String>> =
        MAY.iter().map(|(name, may)| ((*name).to_owned(), may.iter().map(|it| (*it).to_owned()).collect())).collect();
    assert_eq!(found.keys().collect::<Vec<_>>(), may.keys().collect::<Vec<_>>(), "every crate is in the table");
    for (name, ours) in &found {
        let beyond: Vec<_> = ours.difference(&may[name]).collect();
        assert!(beyond.is_empty(), "{name} may not depend on {beyond:?}");
    }
}

#[test]
fn the_core_has_no_clock_no_chance_and_no_io() {
    let manifest = include_str!("../../../everkept-core/Cargo.toml").parse::<toml::Table>().unwrap();
    let held: Vec<_> = manifest["dependencies"].as_table().unwrap().keys().cloned().collect();
    assert_eq!(held, ["serde", "serde_json", "sha2", "thiserror", "uuid"]);
}
