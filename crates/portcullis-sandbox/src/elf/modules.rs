//! Directories of what known programs load at run time by name: an ELF file does not say so.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::libraries::Library;

/// Bounds of a search for shared objects beneath a directory.
const MAX_ENTRIES: usize = 20_000;
const MAX_DEPTH: usize = 8;

/// Programs that convert between encodings by the C library, whose modules are many: others need none where the
/// locale is UTF-8, as it is in a cell.
const CONVERTS: [&str; 5] = ["iconv", "git", "less", "man", "vim"];

/// Returns the directories of modules of a program and of its libraries, as far as they are there. They hold
/// shared objects and data; java's holds two helpers of its own, too.
pub(super) fn directories(program: &Path, libraries: &[Library]) -> Vec<PathBuf> {
    let mut found = BTreeSet::new();
    let mut add = |directory: PathBuf| {
        if let Ok(directory) = fs::canonicalize(directory)
            && directory.is_dir()
        {
            found.insert(directory);
        }
    };
    for library in libraries {
        let Some(directory) = library.file.parent() else { continue };
        let name = library.path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        if name.starts_with("libc.so.") && CONVERTS.iter().any(|known| program.ends_with(known)) {
            add(directory.join("gconv"));
        } else if name.starts_with("libcrypto.so.") {
            add(directory.join("ossl-modules"));
            add(directory.join(name.replace("libcrypto.so.", "engines-")));
        } else if name.starts_with("libperl.so.") {
            perl(directory, &mut add);
        } else if name.starts_with("libpython3.") {
            let version = name.trim_start_matches("libpython").split(".so").next().unwrap_or_default();
            if let Some(prefix) = directory.ancestors().find(|a| a.join("lib/python3").is_dir()) {
                python(prefix, version, &mut add);
            }
        }
    }
    let name = program.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let prefix = program.parent().and_then(Path::parent);
    if let (Some(version), Some(prefix)) = (name.strip_prefix("python"), prefix) {
        python(prefix, version, &mut add);
    } else if name.starts_with("perl") {
        for library in libraries.iter().filter_map(|library| library.file.parent()) {
            perl(library, &mut add);
        }
    } else if let ("java" | "javac" | "jar" | "jshell", Some(home)) = (&*name, prefix)
        && home.join("lib/server").is_dir()
    {
        add(home.join("lib"));
    }
    found.into_iter().collect()
}

fn python(prefix: &Path, version: &str, add: &mut impl FnMut(PathBuf)) {
    let library = prefix.join("lib").join(format!("python{version}"));
    for place in ["lib-dynload", "site-packages", "dist-packages"] {
        add(library.join(place));
    }
    // Debian's places beside.
    for place in [
        prefix.join("lib/python3/dist-packages"),
        prefix.join("local/lib").join(format!("python{version}/dist-packages")),
    ] {
        add(place);
    }
}

fn perl(directory: &Path, add: &mut impl FnMut(PathBuf)) {
    for place in ["perl-base", "perl", "perl5"] {
        add(directory.join(place));
    }
}

/// Returns the shared objects beneath a directory, without following links, as far as its bounds go.
pub(super) fn shared_objects(directory: &Path) -> Vec<PathBuf> {
    let mut objects = Vec::new();
    let mut pending = vec![(directory.to_owned(), 0)];
    let mut seen = 0;
    while let Some((directory, depth)) = pending.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            seen += 1;
            if seen > MAX_ENTRIES {
                return objects;
            }
            let Ok(kind) = entry.file_type() else { continue };
            let name = entry.file_name();
            if kind.is_dir() && depth < MAX_DEPTH {
                pending.push((entry.path(), depth + 1));
            } else if kind.is_file() && is_shared_object(name.as_bytes()) {
                objects.push(entry.path());
            }
        }
    }
    objects.sort();
    objects
}

/// Whether a name ends in `.so` or goes on from there with a version.
fn is_shared_object(name: &[u8]) -> bool {
    name.ends_with(b".so") || name.windows(4).any(|window| window == b".so.")
}
