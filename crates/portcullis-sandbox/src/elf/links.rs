//! Follows symbolic links on the host and remembers them, so that a view can have the same ones.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

/// As many as the kernel follows in one path.
const MAX_LINKS: usize = 40;

/// A symbolic link on the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Link {
    /// Where it is: absolute, and no link itself in any component before the last.
    pub(crate) path: PathBuf,
    /// What it says.
    pub(crate) target: PathBuf,
}

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolved {
    /// The path without a link in it.
    pub(super) file: PathBuf,
    /// The links on the way, in order.
    pub(super) links: Vec<Link>,
}

/// Follows an absolute path to what it names.
pub(super) fn resolve(path: &Path) -> io::Result<Resolved> {
    let mut rest: VecDeque<OsString> = VecDeque::new();
    let mut file = PathBuf::from("/");
    let mut links = Vec::new();
    prepend(&mut rest, path);
    while let Some(part) = rest.pop_front() {
        if part == ".." {
            file.pop();
            continue;
        }
        file.push(&part);
        let metadata = file.symlink_metadata()?;
        if !metadata.is_symlink() {
            continue;
        }
        if links.len() == MAX_LINKS {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        let target = file.read_link()?;
        links.push(Link { path: file.clone(), target: target.clone() });
        file.pop();
        if target.is_absolute() {
            file = PathBuf::from("/");
        }
        prepend(&mut rest, &target);
    }
    Ok(Resolved { file, links })
}

fn prepend(rest: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => rest.push_front(name.to_owned()),
            Component::ParentDir => rest.push_front("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_as_the_kernel_does_and_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::write(root.join("usr/bin/mawk"), "").unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        symlink(root.join("alternatives"), root.join("usr/bin/awk")).unwrap();
        symlink("bin/../bin/mawk", root.join("alternatives")).unwrap();
        let found = resolve(&root.join("bin/awk")).unwrap();
        assert_eq!(found.file, fs::canonicalize(root.join("bin/awk")).unwrap());
        let paths: Vec<_> = found.links.iter().map(|link| link.path.strip_prefix(&root).unwrap()).collect();
        assert_eq!(paths, ["bin", "usr/bin/awk", "alternatives", "bin"].map(Path::new));
    }

    #[test]
    fn a_loop_of_links_ends() {
        let directory = tempfile::tempdir().unwrap();
        symlink("b", directory.path().join("a")).unwrap();
        symlink("a", directory.path().join("b")).unwrap();
        let error = resolve(&directory.path().join("a")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    }

    #[test]
    fn a_file_is_no_directory() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("f"), "").unwrap();
        let error = resolve(&directory.path().join("f/x")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    }
}
