//! Turns allowed effects into rights: what the kernel must let a program do so that it can do what its words say, and
//! nothing beside it.

use portcullis_core::{Rights, ViewPath};

use super::bounds::Bounds;
use super::path::Target;
use crate::effects::{EffectKind, Reach};
use crate::rulebook::{Bound, WriteBound};

/// Programs that do not write into a file but put a new one in its place: they make a temporary file beside it, or
/// remove the old one first. That takes rights on the directory that holds it.
const REPLACERS: [&str; 10] =
    ["gunzip", "gzip", "install", "ln", "mv", "patch", "rsync", "sed", "wget", "zip"];

/// Adds the rights for an effect on paths.
pub(super) fn add(
    bounds: &Bounds<'_>,
    kind: EffectKind,
    reach: Reach,
    targets: &[Target<'_>],
    rights: &mut Rights,
) {
    for target in targets {
        let place = target.root();
        match kind {
            EffectKind::Read | EffectKind::Examine => rights.read.push(place),
            EffectKind::Write => {
                write(bounds, reach, &place, rights);
                rights.write.push(place);
            }
            EffectKind::Delete => {
                // Who removes a tree lists it first.
                rights.read.push(place.clone());
                rights.delete.push(place);
            }
            EffectKind::Execute => {
                rights.read.push(place);
                project_code(bounds, rights);
            }
            EffectKind::Network | EffectKind::Privilege => {}
        }
    }
}

/// Adds what writing a path takes beside writing it.
fn write(bounds: &Bounds<'_>, reach: Reach, place: &ViewPath, rights: &mut Rights) {
    let workspace = &bounds.book.workspace;
    if !place.is_beneath(workspace) {
        return;
    }
    if reach == Reach::Tree {
        // Archives are unpacked over what is there: the old entry is listed and removed before the new one is made.
        rights.read.push(place.clone());
        if bounds.operations.delete >= Bound::Workspace {
            rights.delete.push(place.clone());
        }
    }
    if REPLACERS.contains(&bounds.program) {
        rights.read.push(place.clone());
        rights.delete.push(place.clone());
        if place != workspace {
            rights.write.extend(place.parent());
        }
    }
}

/// Adds the rights for an effect on the repository, which lies in the workspace. Git writes a file by renaming a new one
/// into its place, in its own directory and, when it checks out, in the working tree.
pub(super) fn add_repository(bounds: &Bounds<'_>, kind: EffectKind, rights: &mut Rights) {
    let workspace = &bounds.book.workspace;
    rights.read.push(workspace.clone());
    if matches!(kind, EffectKind::Write | EffectKind::Delete) {
        rights.write.push(workspace.clone());
        rights.delete.push(workspace.clone());
    }
}

/// Adds what code of the project may do: all that the operations allow in the workspace.
fn project_code(bounds: &Bounds<'_>, rights: &mut Rights) {
    let workspace = &bounds.book.workspace;
    rights.read.push(workspace.clone());
    if bounds.operations.write >= WriteBound::Workspace {
        rights.write.push(workspace.clone());
    }
    if bounds.operations.delete >= Bound::Workspace {
        rights.delete.push(workspace.clone());
    }
}
