//! The file: opened to be added to, one write for each line, opened again when it was rotated.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portcullis_sandbox::Account;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Entry;

/// How often it is looked whether the path leads to the open file still.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What happens when the file cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Nothing is accepted, and a refusal is answered as a failure, until it can be written again.
    Refuse,
    /// The service goes on; what is missing is counted and logged.
    Continue,
}

/// Why an entry is not in the file.
#[derive(Debug, thiserror::Error)]
#[error("could not write the audit log `{}`", .path.display())]
pub struct AuditError {
    /// Where it should be.
    pub path: PathBuf,
    /// What the system answered.
    #[source]
    pub source: io::Error,
}

/// The audit log.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    on_failure: OnFailure,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    looked: Instant,
    /// Whether the file may end with a part of a line.
    cut_off: bool,
    /// Whether the latest write failed.
    failing: bool,
    written: u64,
    failures: u64,
    /// Which second it is, how many authentications failed in it, and how many of those are not in the file.
    second: i64,
    in_second: u64,
    left_out: u64,
}

/// Entries of failed authentications in one second: anybody can make them.
const FAILED_AUTHENTICATIONS: u64 = 20;

/// A line: the entry with what every line has. `n` counts from the start, so that a gap is seen.
#[derive(Serialize)]
struct Line<'a> {
    time: &'a str,
    n: u64,
    #[serde(flatten)]
    entry: &'a Entry,
}

impl Audit {
    /// Opens the file, or makes it for its owner alone. One that root makes, or had made, becomes the service's own
    /// user's: opened it stays, also for whoever root becomes, and it can be opened again.
    ///
    /// # Errors
    /// When it cannot be opened, or is not a regular file.
    pub fn open(
        path: &Path,
        on_failure: OnFailure,
        account: Option<&Account>,
    ) -> Result<Arc<Self>, AuditError> {
        let failed = |source| AuditError { path: path.to_owned(), source };
        let (file, cut_off) = open(path).map_err(failed)?;
        if let Some(account) = account {
            let found = file.metadata().map_err(failed)?;
            if found.uid() == 0 && found.nlink() == 1 {
                fchown(&file, Some(account.uid), Some(account.gid)).map_err(failed)?;
            }
        }
        let state = State {
            file,
            looked: Instant::now(),
            cut_off,
            failing: false,
            written: 0,
            failures: 0,
            second: 0,
            in_second: 0,
            left_out: 0,
        };
        Ok(Arc::new(Self { path: path.to_owned(), on_failure, state: Mutex::new(state) }))
    }

    /// Adds an entry. What it returns is for whoever may refuse what the entry is about; it is logged here.
    ///
    /// # Errors
    /// When the line is not in the file as a whole, and that is to be a reason to refuse.
    pub fn note(&self, entry: &Entry) -> Result<(), AuditError> {
        self.add(&mut self.state(), entry)
    }

    /// Adds an entry of a failed authentication, unless there were too many in this second.
    pub(super) fn note_stranger(&self, entry: Entry) {
        let mut state = self.state();
        let second = OffsetDateTime::now_utc().unix_timestamp();
        if second != state.second {
            (state.second, state.in_second) = (second, 0);
        }
        state.in_second += 1;
        if state.in_second > FAILED_AUTHENTICATIONS {
            state.left_out += 1;
            return;
        }
        let left_out = Some(std::mem::take(&mut state.left_out)).filter(|left_out| *left_out > 0);
        let _ = self.add(&mut state, &Entry { left_out, ..entry });
    }

    /// Opens the file at the path, which may be another one by now.
    pub fn reopen(&self) {
        self.look(&mut self.state());
    }

    /// Tries whether entries can be written, when the latest could not.
    pub(super) fn check(&self) -> Result<(), AuditError> {
        let mut state = self.state();
        if state.failing { self.add(&mut state, &Entry::of("again", None)) } else { Ok(()) }
    }

    /// Returns how many entries were written, how many were not, and whether the latest was not.
    pub(crate) fn counts(&self) -> (u64, u64, bool) {
        let state = self.state();
        (state.written, state.failures, state.failing)
    }

    fn add(&self, state: &mut State, entry: &Entry) -> Result<(), AuditError> {
        let usable =
            if state.failing || state.looked.elapsed() >= LOOK_EVERY { self.look(state) } else { true };
        let number = state.written + state.failures + 1;
        let written = match usable {
            true => write(state, &line(number, entry)),
            false => Err(io::Error::new(io::ErrorKind::NotFound, "it was removed, and cannot be made again")),
        };
        match written {
            Ok(()) => {
                state.written += 1;
                if std::mem::take(&mut state.failing) {
                    tracing::info!(path = %self.path.display(), missing = state.failures, "the audit log is written again");
                }
                Ok(())
            }
            Err(source) => {
                state.failures += 1;
                if !std::mem::replace(&mut state.failing, true) {
                    let path = self.path.display();
                    tracing::error!(%path, error = %source, "the audit log cannot be written");
                }
                match self.on_failure {
                    OnFailure::Refuse => Err(AuditError { path: self.path.clone(), source }),
                    OnFailure::Continue => Ok(()),
                }
            }
        }
    }

    /// Opens the file again when the path does not lead to it any more. One that was renamed, where no other can be
    /// opened, goes on being written: no entry is lost. Returns whether there is a file that somebody can read.
    fn look(&self, state: &mut State) -> bool {
        state.looked = Instant::now();
        let Ok(ours) = state.file.metadata() else { return false };
        let there = fs::symlink_metadata(&self.path);
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            return true;
        }
        match open(&self.path) {
            Ok((file, cut_off)) => {
                (state.file, state.cut_off) = (file, cut_off);
                tracing::info!(path = %self.path.display(), "the audit log was rotated, and is opened again");
                true
            }
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(%path, %error, "the audit log was rotated, and cannot be opened again: the old file is written");
                ours.nlink() > 0
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the file; also says whether it ends with a part of a line. See open(2): `O_NOFOLLOW`, since a link there may be
/// somebody else's; `O_NONBLOCK`, so that a pipe does not hang us.
fn open(path: &Path) -> io::Result<(File, bool)> {
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed();
    let mut options = OpenOptions::new();
    let file = options.read(true).append(true).create(true).mode(0o600).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut last = *b"\n";
    if found.len() > 0 {
        file.read_exact_at(&mut last, found.len() - 1)?;
    }
    Ok((file, last != *b"\n"))
}

/// Writes one line with one call, behind the end of whatever was cut off before.
fn write(state: &mut State, line: &[u8]) -> io::Result<()> {
    let mut whole = Vec::with_capacity(line.len() + 1);
    if state.cut_off {
        whole.push(b'\n');
    }
    whole.extend_from_slice(line);
    match state.file.write(&whole)? {
        written if written == whole.len() => {
            state.cut_off = false;
            Ok(())
        }
        written => {
            // Of a single byte that was the line end, nothing is left to be ended.
            state.cut_off |= written > 0;
            Err(io::Error::new(io::ErrorKind::WriteZero, "only a part of the line was written"))
        }
    }
}

fn line(n: u64, entry: &Entry) -> Vec<u8> {
    let time = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
    let text = serde_json::to_string(&Line { time: &time, n, entry }).unwrap_or_default();
    let mut line = escaped(&text);
    line.push('\n');
    line.into_bytes()
}

/// Escapes what JSON allows and a terminal or an editor would act on. In JSON, such characters stand in strings alone.
fn escaped(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        let acts = matches!(c, '\u{7f}'..='\u{9f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if acts {
            escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn audit(path: &Path) -> Arc<Audit> {
        Audit::open(path, OnFailure::Refuse, None).unwrap()
    }

    fn said(text: &str) -> Entry {
        Entry { command: Some(text.into()), ..Entry::of("permit", None) }
    }

    /// Reads the lines that are whole.
    fn commands(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        let values = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        values.map(|value| value["command"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn each_entry_is_one_line_whatever_it_holds_in_a_file_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let audit = audit(&path);
        let hostile = "echo 'a\n{\"event\":\"permit\"}' \r\x1b[2J\u{9b}\u{202e}\u{2028}\u{7f}\0\"\\";
        audit.note(&said(hostile)).unwrap();
        audit.note(&said("two")).unwrap();
        assert_eq!(commands(&path), [hostile, "two"]);
        let bytes = fs::read(&path).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(text.chars().all(|c| c == '\n' || c.is_ascii_graphic() || c == ' '), "{text}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_line_that_was_cut_off_spoils_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        fs::write(&path, "{\"time\":\"x\",\"n\":1,\"event\":\"permit\",\"command\":\"cut").unwrap();
        audit(&path).note(&said("whole")).unwrap();
        assert_eq!(commands(&path), ["whole"]);
        audit(&path).note(&said("again")).unwrap();
        assert_eq!(commands(&path), ["whole", "again"]);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_again_and_one_that_was_emptied_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let (path, old) = (directory.path().join("audit.jsonl"), directory.path().join("audit.jsonl.1"));
        let audit = audit(&path);
        audit.note(&said("one")).unwrap();
        fs::rename(&path, &old).unwrap();
        audit.reopen();
        audit.note(&said("two")).unwrap();
        assert_eq!((commands(&old), commands(&path)), (vec!["one".into()], vec!["two".into()]));
        // logrotate's copytruncate.
        fs::copy(&path, &old).unwrap();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
        audit.note(&said("three")).unwrap();
        assert_eq!(commands(&path), ["three"]);
        assert!(!fs::read(&path).unwrap().contains(&0), "no hole in front of it");
        // Without a signal it is noticed by itself.
        fs::rename(&path, &old).unwrap();
        audit.state().looked = Instant::now().checked_sub(LOOK_EVERY).unwrap();
        audit.note(&said("four")).unwrap();
        assert_eq!((commands(&old), commands(&path)), (vec!["three".into()], vec!["four".into()]));
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(directory.path().join("elsewhere"), &link).unwrap();
        for path in [directory.path(), &link, Path::new("/dev/null"), &directory.path().join("no/such")] {
            assert!(Audit::open(path, OnFailure::Refuse, None).is_err(), "{}", path.display());
        }
    }

    #[test]
    fn what_cannot_be_written_is_refused_or_counted_as_was_chosen() {
        // Writing to it fails with ENOSPC: full(4).
        let full = || OpenOptions::new().append(true).open("/dev/full").unwrap();
        let directory = tempfile::tempdir().unwrap();
        for (name, on_failure, refused) in [("a", OnFailure::Refuse, true), ("b", OnFailure::Continue, false)]
        {
            let path = directory.path().join(name);
            let audit = Audit::open(&path, on_failure, None).unwrap();
            audit.state().file = full();
            assert_eq!(audit.note(&said("lost")).is_err(), refused);
            assert_eq!(audit.counts(), (0, 1, true));
            // The next look finds that the path leads to another file, which can be written.
            audit.note(&said("kept")).unwrap();
            assert_eq!(audit.counts(), (1, 1, false));
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains("\"n\":2,"), "{text}");
        }
    }

    #[test]
    fn strangers_do_not_fill_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let audit = audit(&path);
        for _ in 0..1_000 {
            audit.note_stranger(said("x"));
        }
        let lines = commands(&path).len() as u64;
        // Two seconds, should the clock have turned meanwhile.
        assert!((FAILED_AUTHENTICATIONS..=2 * FAILED_AUTHENTICATIONS).contains(&lines), "{lines}");
        audit.state().second = 0;
        audit.note_stranger(said("y"));
        assert!(fs::read_to_string(&path).unwrap().contains("\"leftOut\":"));
    }
}
