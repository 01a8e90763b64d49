//! Where the paths of a permit lie, and how they are opened: by their text, as the verdict knew them.
//!
//! A verdict judges a path by its text alone. So a path is resolved by its text here too, never by what
//! directories and links say now: what a command has moved or planted meanwhile leads nowhere else.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use portcullis_core::ViewPath;

use crate::rights::{COMMON, COMMON_ON_THE_HOST, SINKS};
use crate::sys;

/// Where paths of the view lie for the processes of an execution.
#[derive(Debug)]
pub(crate) struct Paths<'a> {
    /// The workspace, as the permit names it.
    workspace: &'a ViewPath,
    /// The directory of the host that stands for it at level `landlock`.
    host_workspace: Option<&'a Path>,
    /// The configured mounts.
    mounts: &'a [ViewPath],
    /// Those beneath which a permit may give the right to write.
    writable: &'a [ViewPath],
}

impl<'a> Paths<'a> {
    pub(crate) fn new(
        workspace: &'a ViewPath,
        host_workspace: Option<&'a Path>,
        mounts: &'a [ViewPath],
        writable: &'a [ViewPath],
    ) -> Self {
        Self { workspace, host_workspace, mounts, writable }
    }

    /// Returns where a path lies.
    pub(crate) fn locate(&self, path: &ViewPath) -> PathBuf {
        let (top, rest) = self.split(path);
        top.join(rest)
    }

    /// Returns the directory that is there whatever commands do, and what of the path lies beneath it.
    fn split<'p>(&self, path: &'p ViewPath) -> (&'a Path, &'p str) {
        match self.host_workspace {
            Some(host) if path.is_beneath(self.workspace) => (
                host,
                path.as_str().strip_prefix(self.workspace.as_str()).unwrap_or("").trim_start_matches('/'),
            ),
            _ => (Path::new("/"), path.as_str().trim_start_matches('/')),
        }
    }

    /// Whether a path lies where something may be written. In a view of our own everything else is read-only.
    fn is_writable(&self, path: &ViewPath) -> bool {
        self.host_workspace.is_none()
            || SINKS.contains(&path.as_str())
            || path.is_beneath(self.workspace)
            || self.writable.iter().any(|mount| path.is_beneath(mount))
    }

    /// Opens the directory of a path, following no link beneath what is there whatever commands do; returns it
    /// with the last name.
    fn walk(&self, path: &ViewPath) -> io::Result<(OwnedFd, CString)> {
        let (top, rest) = self.split(path);
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let mut directory = sys::open_at(None, &CString::new(top.as_os_str().as_bytes())?, flags, 0)?;
        let mut parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
        let last = parts.pop().unwrap_or(".");
        for part in parts {
            let part = CString::new(part)?;
            directory = sys::open_at(Some(directory.as_fd()), &part, flags | libc::O_NOFOLLOW, 0)?;
        }
        Ok((directory, CString::new(last)?))
    }

    /// Makes a directory the working directory, following no link.
    pub(crate) fn enter(&self, directory: &ViewPath) -> io::Result<()> {
        let (parent, name) = self.walk(directory)?;
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        sys::change_directory(sys::open_at(Some(parent.as_fd()), &name, flags, 0)?.as_fd())
    }

    /// Opens for writing without following a link at any component, so that nothing planted in the workspace
    /// leads elsewhere.
    pub(crate) fn open_to_write(&self, path: &ViewPath, how: i32) -> io::Result<OwnedFd> {
        if !self.is_writable(path) {
            return Err(io::Error::from_raw_os_error(libc::EACCES));
        }
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_NOFOLLOW | libc::O_NOCTTY | how;
        let (directory, name) = self.walk(path)?;
        sys::open_at(Some(directory.as_fd()), &name, flags, 0o666)
    }

    /// Opens for reading. A link is followed to what the command may read itself, and to nothing else; nothing
    /// of `/proc` is handed on, since what is opened there would be this process and not the command.
    pub(crate) fn open_to_read(&self, path: &ViewPath, readable: &[ViewPath]) -> io::Result<OwnedFd> {
        let located = self.locate(path);
        let name = CString::new(located.as_os_str().as_bytes())?;
        let fd = sys::open_at(None, &name, libc::O_RDONLY | libc::O_NOCTTY, 0)?;
        let refused = || io::Error::from_raw_os_error(libc::EACCES);
        if sys::file_system_type(fd.as_fd())? == libc::PROC_SUPER_MAGIC {
            return Err(refused());
        }
        let opened = opened_path(&fd)?;
        let judged = opened == located || self.may_read(&opened, readable);
        if judged && self.is_visible(&opened) { Ok(fd) } else { Err(refused()) }
    }

    /// Opens a directory to list it for a pattern; `from` is the working directory. As with reading, a link is
    /// followed to what the command may list itself, and to nothing else.
    pub(crate) fn open_to_list(
        &self,
        from: &ViewPath,
        directory: &Path,
        readable: &[ViewPath],
    ) -> Option<OwnedFd> {
        let name = CString::new(directory.as_os_str().as_bytes()).ok()?;
        let fd = sys::open_at(None, &name, libc::O_RDONLY | libc::O_DIRECTORY, 0).ok()?;
        let opened = opened_path(&fd).ok()?;
        let by_its_text = normalise(&self.locate(from).join(directory));
        let judged = opened == by_its_text || self.may_read(&opened, readable);
        (judged && self.is_visible(&opened)).then_some(fd)
    }

    /// Whether a path of the host is one that a view would show; in a view of our own everything is.
    fn is_visible(&self, opened: &Path) -> bool {
        self.host_workspace.is_none_or(|workspace| opened.starts_with(workspace))
            || self.mounts.iter().any(|mount| opened.starts_with(mount.as_str()))
            || COMMON_ON_THE_HOST.iter().any(|top| opened.starts_with(top))
    }

    fn may_read(&self, opened: &Path, readable: &[ViewPath]) -> bool {
        COMMON.iter().any(|top| opened.starts_with(top))
            || readable.iter().any(|top| opened.starts_with(self.locate(top)))
    }
}

/// Resolves a path by its text. Names need not be UTF-8.
fn normalise(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(normal.pop()),
            Component::RootDir | Component::Prefix(_) | Component::Normal(_) => normal.push(part),
        }
    }
    normal
}

/// Returns where an open file lies, as the kernel names it. See proc_pid_fd(5).
fn opened_path(fd: &OwnedFd) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ViewPath {
        ViewPath::parse(text).unwrap()
    }

    #[test]
    fn a_link_is_read_through_only_to_what_may_be_read() {
        let host = tempfile::tempdir().unwrap();
        let root = host.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("mine")).unwrap();
        std::fs::create_dir(root.join("other")).unwrap();
        std::fs::write(root.join("mine/file"), "").unwrap();
        std::fs::write(root.join("other/file"), "").unwrap();
        std::os::unix::fs::symlink("../other/file", root.join("mine/out")).unwrap();
        std::os::unix::fs::symlink("file", root.join("mine/within")).unwrap();
        std::os::unix::fs::symlink("../other", root.join("mine/directory")).unwrap();
        let workspace = path("/workspace");
        let paths = Paths::new(&workspace, Some(&root), &[], &[]);
        let readable = [path("/workspace/mine")];
        for (asked, opens) in [
            ("/workspace/mine/file", true),
            ("/workspace/mine/within", true),
            ("/workspace/other/file", true), // judged by that very name
            ("/workspace/mine/out", false),
            ("/workspace/mine/directory/file", false),
            ("/proc/self/status", false),
            ("/etc/hostname", false), // of the host, which no view shows
            ("/dev/null", true),
        ] {
            assert_eq!(paths.open_to_read(&path(asked), &readable).is_ok(), opens, "{asked}");
        }
        for (asked, opens) in
            [("mine", true), ("other/../mine/.", true), ("other", true), ("mine/directory", false)]
        {
            let opened = paths.open_to_list(&workspace, &root.join(asked), &readable);
            assert_eq!(opened.is_some(), opens, "{asked}");
        }
    }

    #[test]
    fn writing_and_entering_follow_no_link() {
        let host = tempfile::tempdir().unwrap();
        std::fs::create_dir(host.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", host.path().join("link")).unwrap();
        let workspace = path("/workspace");
        let paths = Paths::new(&workspace, Some(host.path()), &[], &[]);
        assert!(paths.open_to_write(&path("/workspace/real/f"), libc::O_TRUNC).is_ok());
        assert!(paths.open_to_write(&path("/workspace/link/f"), libc::O_TRUNC).is_err());
        assert!(paths.enter(&path("/workspace/link")).is_err());
        assert!(paths.open_to_write(&path("/dev/null"), libc::O_APPEND).is_ok());
        let outside = ViewPath::parse(host.path().join("outside").to_str().unwrap()).unwrap();
        assert!(
            paths.open_to_write(&outside, libc::O_TRUNC).is_err(),
            "of the host, and not in the workspace"
        );
    }
}
