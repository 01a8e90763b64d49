//! Secrets in files: named by `NAME_FILE`, or put in place by systemd.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// More than any secret needs; a file that holds more is another file.
const MAX_BYTES: u64 = 64 << 10;

/// Reads a secret: the file's text without the line break at its end, which editors and `echo` put there.
///
/// # Errors
/// Says what is wrong with the file, as the end of a sentence about it: it is not there or not to be read, it is no
/// plain file, others may write it, it is empty, longer than [`MAX_BYTES`], or not text.
pub(super) fn read(path: &Path) -> Result<String, String> {
    if !path.is_absolute() {
        return Err("is not named by an absolute path".into());
    }
    let file = open(path).map_err(|error| format!("could not be read: {error}"))?;
    // Asked of the open file, not of the name, which may mean another file by now.
    let metadata = file.metadata().map_err(|error| format!("could not be examined: {error}"))?;
    if !metadata.is_file() {
        return Err("is not a plain file".into());
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o002 != 0 {
        return Err(format!(
            "may be written by anybody (mode {mode:04o}), who then chooses the secret; `chmod o-w` it"
        ));
    }
    let mut bytes = Vec::new();
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("could not be read: {error}"))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("holds more than {MAX_BYTES} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "holds bytes that are not UTF-8".to_owned())?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.trim().is_empty() {
        return Err("is empty".into());
    }
    Ok(text.to_owned())
}

/// Links are followed: that is how Kubernetes mounts secrets.
fn open(path: &Path) -> io::Result<File> {
    // Nonblocking: the open of a pipe that somebody put here must not hang the start.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// Says so when everybody on the machine may read a file. That is no error: in a container, where nobody else is,
/// Docker and Kubernetes mount secrets with the modes 0444 and 0644.
pub(super) fn readable_by_others(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.mode() & 0o7777;
    let open = mode & 0o004 != 0;
    open.then(|| format!("everybody on this machine may read it (mode {mode:04o}); `chmod 600` it"))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[track_caller]
    fn check(content: &[u8], mode: u32, wanted: Result<&str, &str>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let wanted = wanted.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(read(&path), wanted);
    }

    #[test]
    fn a_secret_is_the_files_text_without_the_line_break_at_its_end() {
        check(b"s3cret", 0o600, Ok("s3cret"));
        check(b"s3cret\n", 0o400, Ok("s3cret"));
        check(b"s3cret\r\n", 0o440, Ok("s3cret"));
        check(b" two words \n\n", 0o600, Ok(" two words \n"));
    }

    #[test]
    fn what_is_no_secret_is_told_apart() {
        check(b"", 0o600, Err("is empty"));
        check(b" \n", 0o600, Err("is empty"));
        check(b"\xff\xfe", 0o600, Err("holds bytes that are not UTF-8"));
        check(&[b'x'; 65_537], 0o600, Err("holds more than 65536 bytes"));
        check(&[b'x'; 65_536], 0o600, Ok(&"x".repeat(65_536)));
        let chosen = "may be written by anybody (mode 0666), who then chooses the secret; `chmod o-w` it";
        check(b"s3cret", 0o666, Err(chosen));
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()), Err("is not a plain file".into()));
        assert!(
            read(&directory.path().join("x")).unwrap_err().starts_with("could not be read: No such file")
        );
        assert_eq!(read(Path::new("secret")), Err("is not named by an absolute path".into()));
    }

    #[test]
    fn a_secret_behind_a_link_is_read_and_one_that_is_open_to_all_is_spoken_of() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("..data"), directory.path().join("secret"));
        fs::write(&path, "s3cret").unwrap();
        symlink(&path, &link).unwrap();
        for (mode, spoken_of) in [(0o644, true), (0o440, false), (0o600, false)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&link).as_deref(), Ok("s3cret"));
            assert_eq!(readable_by_others(&link).is_some(), spoken_of, "{mode:o}");
        }
    }
}
