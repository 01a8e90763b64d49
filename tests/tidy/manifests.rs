//! Arrows between our crates, and what a manifest must say.

use std::collections::BTreeSet;

use crate::none;
use crate::tree::{crates, files_below, read};

/// What each crate may import of ours. Development dependencies do not count: a test may look from anywhere.
const ARROWS: [(&str, &[&str]); 10] = [
    ("crates/portcullis-core", &[]),
    ("crates/portcullis-policy", &["portcullis-core"]),
    ("crates/portcullis-sandbox", &["portcullis-core"]),
    ("crates/portcullis-store", &["portcullis-core"]),
    ("crates/portcullis-notify", &["portcullis-core"]),
    ("crates/portcullis-identity", &["portcullis-core"]),
    ("crates/portcullis-engine", &["portcullis-core"]),
    ("crates/portcullis-api", &["portcullis-core"]),
    ("bins/portcullis", &["portcullis-api", "portcullis-core", "portcullis-policy"]),
    (
        "bins/portcullis-server",
        &[
            "portcullis-api",
            "portcullis-core",
            "portcullis-engine",
            "portcullis-identity",
            "portcullis-notify",
            "portcullis-policy",
            "portcullis-sandbox",
            "portcullis-store",
        ],
    ),
];

/// What a crate may not know, whoever wrote it: the policy and the nouns need no runtime and no Linux, the engine
/// no HTTP, no SQL and no Linux.
const STRANGERS: [(&str, &[&str]); 4] = [
    ("crates/portcullis-core", &["tokio", "libc", "http", "hyper", "hyper-util", "rusqlite"]),
    ("crates/portcullis-policy", &["tokio", "libc", "http", "hyper", "hyper-util", "rusqlite"]),
    ("crates/portcullis-engine", &["libc", "http", "hyper", "hyper-util", "rusqlite"]),
    ("crates/portcullis-api", &["tokio", "libc", "http", "hyper", "hyper-util", "rusqlite"]),
];

/// Returns what a crate's own code depends on: `[dependencies]`, `[build-dependencies]`, and those of targets.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let manifest: toml::Table = toml::from_str(manifest).unwrap();
    let targets = manifest.get("target").and_then(toml::Value::as_table).cloned().unwrap_or_default();
    let mut tables: Vec<toml::Table> =
        targets.values().filter_map(|target| target.as_table().cloned()).collect();
    tables.push(manifest);
    let mut found = BTreeSet::new();
    for table in &tables {
        for kind in ["dependencies", "build-dependencies"] {
            let listed = table.get(kind).and_then(toml::Value::as_table);
            for (name, value) in listed.into_iter().flatten() {
                // A dependency may go by another name: `package` is what it is.
                let package = value.get("package").and_then(toml::Value::as_str).unwrap_or(name);
                found.insert(package.to_owned());
            }
        }
    }
    found
}

fn wrong_arrows(folder: &str, manifest: &str) -> Vec<String> {
    let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == folder) else {
        return vec![format!("{folder} is not in the map: draw its arrows in docs/architecture.md and here")];
    };
    let strangers = STRANGERS.iter().find(|(known, _)| *known == folder).map_or(&[][..], |(_, names)| names);
    dependencies(manifest)
        .into_iter()
        .filter(|name| {
            let ours = name.starts_with("portcullis");
            ours && !allowed.contains(&name.as_str()) || strangers.contains(&name.as_str())
        })
        .map(|name| format!("{folder} imports {name}"))
        .collect()
}

#[test]
fn arrows_between_our_crates_are_those_of_the_map() {
    let folders = crates();
    none(
        folders
            .iter()
            .flat_map(|folder| wrong_arrows(folder, &read(&format!("{folder}/Cargo.toml"))))
            .collect(),
    );
    for (folder, _) in ARROWS {
        assert!(folders.iter().any(|known| known == folder), "{folder} is in the map and not in the tree");
    }
}

#[test]
fn a_wrong_arrow_is_seen_wherever_it_is_drawn() {
    let check = |manifest: &str, wanted: &[&str]| {
        assert_eq!(wrong_arrows("crates/portcullis-policy", manifest), wanted, "{manifest}");
    };
    check("[dependencies]\nportcullis-core.workspace = true\nserde = '1'", &[]);
    check("[dev-dependencies]\nportcullis-store.workspace = true", &[]);
    check("[dependencies]\ntokio = '1'", &["crates/portcullis-policy imports tokio"]);
    for table in ["dependencies", "build-dependencies", "target.'cfg(unix)'.dependencies"] {
        check(
            &format!("[{table}]\nstore = {{ package = 'portcullis-store', path = '../x' }}"),
            &["crates/portcullis-policy imports portcullis-store"],
        );
    }
    assert!(wrong_arrows("crates/portcullis-new", "")[0].contains("not in the map"));
}

#[test]
fn every_crate_has_its_sentence_its_lints_and_its_folders_name() {
    let mut complaints = Vec::new();
    for folder in crates() {
        let manifest: toml::Table = toml::from_str(&read(&format!("{folder}/Cargo.toml"))).unwrap();
        let package = manifest["package"].as_table().unwrap();
        let name = package["name"].as_str().unwrap();
        if folder.rsplit('/').next() != Some(name) {
            complaints.push(format!("{folder} holds the crate {name}"));
        }
        if package.get("description").and_then(toml::Value::as_str).is_none_or(str::is_empty) {
            complaints.push(format!("{folder} has no description"));
        }
        let inherits = |table: Option<&toml::Value>| {
            table.and_then(|value| value.get("workspace")).and_then(toml::Value::as_bool) == Some(true)
        };
        if !inherits(manifest.get("lints")) {
            complaints.push(format!("{folder} does not take the workspace's lints"));
        }
        for key in ["version", "edition", "rust-version", "license"] {
            if !inherits(package.get(key)) {
                complaints.push(format!("{folder} has a {key} of its own"));
            }
        }
        let roots = ["src/lib.rs", "src/main.rs"].map(|root| format!("{folder}/{root}"));
        let present: Vec<_> = roots.iter().map(|root| read(root)).filter(|text| !text.is_empty()).collect();
        if !present.iter().all(|text| text.starts_with("//! ")) || present.is_empty() {
            complaints.push(format!("{folder} does not open with what it is for"));
        }
        if folder != "crates/portcullis-sandbox"
            && !present.iter().all(|text| text.contains("#![forbid(unsafe_code)]"))
        {
            complaints.push(format!("{folder} does not forbid unsafe code"));
        }
    }
    none(complaints);
}

#[test]
fn every_room_of_tests_is_a_target_and_every_target_is_there() {
    let mut complaints = Vec::new();
    let mut declared = BTreeSet::new();
    for folder in crates() {
        let manifest: toml::Table = toml::from_str(&read(&format!("{folder}/Cargo.toml"))).unwrap();
        let targets = manifest.get("test").and_then(toml::Value::as_array).cloned().unwrap_or_default();
        for target in targets {
            let path = target["path"].as_str().unwrap().trim_start_matches("../").to_owned();
            if path.starts_with("tests/") {
                declared.insert(path);
            }
        }
    }
    for path in files_below("tests").into_iter().filter(|path| path.ends_with("/main.rs")) {
        // A helper program of a room is no room.
        if path.split('/').count() == 3 && !declared.contains(&path) {
            complaints.push(format!("{path} is no [[test]] of a crate in bins: nobody runs it"));
        }
    }
    none(complaints);
}
