//! Keeps the map true: what `docs` and the style page say of the tree is read off the tree.
//!
//! Each rule is a function from files to complaints, tried on small examples of its own, and then on the project.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends where it cannot go on")]

mod documents;
mod manifests;
mod rust;
mod sources;
mod tree;

/// Fails with all complaints at once.
#[track_caller]
fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n  {}\n", complaints.join("\n  "));
}
