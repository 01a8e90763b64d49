//! The files of the project.

use std::fs;
use std::path::{Path, PathBuf};

/// Directories that hold what is built or fetched, not what is written.
const NOT_OURS: [&str; 3] = [".git", "node_modules", "target"];

/// Returns the root of the project.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Returns the paths of all files of the project below a directory, relative to the root, sorted. A directory that
/// is not there has no files.
pub(crate) fn files_below(directory: &str) -> Vec<String> {
    let root = root();
    let mut found = Vec::new();
    let mut open = vec![root.join(directory)];
    while let Some(directory) = open.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && !NOT_OURS.contains(&name.as_str()) && !name.starts_with("target-") {
                open.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path().strip_prefix(&root).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

/// Reads a file of the project. One that another process takes away meanwhile is empty.
pub(crate) fn read(path: &str) -> String {
    let bytes = fs::read(root().join(path)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns the folders of our crates: `crates/…` and `bins/…`.
pub(crate) fn crates() -> Vec<String> {
    let mut folders = Vec::new();
    for room in ["crates", "bins"] {
        for entry in fs::read_dir(root().join(room)).unwrap() {
            let entry = entry.unwrap();
            if entry.path().join("Cargo.toml").is_file() {
                folders.push(format!("{room}/{}", entry.file_name().to_string_lossy()));
            }
        }
    }
    folders.sort();
    folders
}

/// Returns our Rust files with their texts.
pub(crate) fn rust_files() -> Vec<(String, String)> {
    ["crates", "bins", "tests", "fuzz"]
        .into_iter()
        .flat_map(files_below)
        .filter(|path| path.ends_with(".rs"))
        .map(|path| {
            let text = read(&path);
            (path, text)
        })
        .collect()
}

#[test]
fn the_tree_is_found_and_what_is_not_ours_is_left_out() {
    let files = files_below("");
    assert!(files.iter().any(|file| file == "tests/tidy/tree.rs"));
    assert!(!files.iter().any(|file| file.starts_with("target/") || file.contains("node_modules/")));
    assert!(crates().len() >= 10);
}
