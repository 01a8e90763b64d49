//! The rules in force, and how they are read again while the service runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use portcullis_core::{AllowedProgram, Limits, Policy, Principal, ProgramName, Submission, Verdict};
use portcullis_policy::{Rulebook, RulebookError, RulebookPolicy};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::audit::{Audit, Entry};
use crate::config::Config;
use crate::report;
use crate::supervisor::Supervisor;

/// A policy that another takes the place of at once: each judgement is by one rulebook from its beginning to its
/// end. What was permitted before keeps its permit.
#[derive(Debug)]
pub struct Rules {
    current: RwLock<Arc<RulebookPolicy>>,
    /// Where the rulebook came from; a list of programs has no file.
    file: Option<PathBuf>,
    caps: Limits,
}

/// Why the rules were not replaced. Those from before are in force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// They did not come from a file.
    #[error(
        "there is no rulebook to read again: the rules are a list of programs, which is read at the start alone; \
         set `PORTCULLIS_RULEBOOK`, or restart the service"
    )]
    NoFile,
    /// The file cannot be read.
    #[error("could not read the rulebook `{}`{}", .path.display(), who(.source))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The file is no rulebook, or one of its own tests fails.
    #[error("the rulebook `{}` is wrong", .path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong with it.
        source: RulebookError,
    },
}

/// Says as whom a file was not readable, when that is why: root may have started the service.
fn who(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let uid = portcullis_sandbox::current_uid();
            format!(" as uid {uid}, which the service has been since its start: let that user read it")
        }
        _ => String::new(),
    }
}

impl Rules {
    /// Returns the rules of the configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let caps = config.limits.clone();
        let policy = RulebookPolicy::new(config.rulebook.clone(), caps.clone());
        Self { current: RwLock::new(Arc::new(policy)), file: config.rulebook_file.clone(), caps }
    }

    /// Reads the file again and puts its rules in force, all of them or none; returns them.
    ///
    /// # Errors
    /// When anything is wrong with the file. Then nothing has changed.
    pub fn reload(&self) -> Result<Rulebook, ReloadError> {
        let path = self.file.clone().ok_or(ReloadError::NoFile)?;
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|source| ReloadError::Unreadable { path: path.clone(), source })?;
        let rulebook = Rulebook::parse(&text).map_err(|source| ReloadError::Wrong { path, source })?;
        let policy = Arc::new(RulebookPolicy::new(rulebook.clone(), self.caps.clone()));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = policy;
        Ok(rulebook)
    }

    fn current(&self) -> Arc<RulebookPolicy> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn path(&self) -> &Path {
        self.file.as_deref().unwrap_or(Path::new("-"))
    }
}

impl Policy for Rules {
    fn judge(&self, principal: &Principal, submission: &Submission) -> Verdict {
        self.current().judge(principal, submission)
    }

    fn programs(&self, submission: &Submission) -> Vec<ProgramName> {
        self.current().programs(submission)
    }

    fn allowed(&self, principal: &Principal) -> Vec<AllowedProgram> {
        self.current().allowed(principal)
    }
}

/// Begins to listen to SIGHUP: from now on it ends nothing.
///
/// # Errors
/// When the runtime cannot.
pub fn hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// Reads the rules again at each SIGHUP, and says in the log what came of it. Ends with the runtime.
pub async fn reload_when_told(
    mut hangups: Signal,
    rules: Arc<Rules>,
    config: portcullis_sandbox::Config,
    supervisor: Arc<Supervisor>,
    audit: Option<Arc<Audit>>,
) {
    while hangups.recv().await.is_some() {
        supervisor.reloading();
        if let Some(audit) = &audit {
            audit.reopen();
        }
        let read = {
            let (rules, config) = (Arc::clone(&rules), config.clone());
            // Reading a large rulebook and running its tests takes a while.
            let read =
                move || rules.reload().inspect(|rulebook| report::what_cannot_be_held(&config, rulebook));
            tokio::task::spawn_blocking(read).await
        };
        if let Some(audit) = &audit {
            let what = if matches!(read, Ok(Ok(_))) { "in force" } else { "unchanged" };
            let _ = audit.note(&Entry::of("reload", what.to_owned()));
        }
        match read {
            Ok(Ok(_)) => {
                tracing::info!(file = %rules.path().display(), "the rulebook was read again and is in force");
                supervisor.reloaded("the rulebook was read again");
            }
            // Nothing has failed: who rotates the audit log, for one, sends this signal whatever the rules are.
            Ok(Err(error @ ReloadError::NoFile)) => {
                tracing::info!(audit_log = audit.is_some(), reason = %error, "told to read files again");
                supervisor.reloaded("the rules are a list of programs and stay as they were");
            }
            Ok(Err(error)) => {
                log(&rules, &error);
                supervisor.reloaded("the rulebook could not be read again; the one before is in force");
            }
            Err(panicked) => {
                tracing::error!(error = %panicked, "reading the rulebook broke; the one before is in force");
                supervisor.reloaded("the rulebook could not be read again; the one before is in force");
            }
        }
    }
}

/// Says every reason with its place.
fn log(rules: &Rules, error: &ReloadError) {
    const MESSAGE: &str = "the rulebook was not read again; the one before is in force";
    let file = rules.path().display();
    match error {
        ReloadError::Wrong { source, .. } => {
            for problem in source.problems() {
                let (line, column, reason) = (problem.line, problem.column, problem.message.as_str());
                tracing::error!(%file, line, column, reason, "{MESSAGE}");
            }
        }
        other => tracing::error!(%file, reason = report::chain(other), "{MESSAGE}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn rules(file: Option<PathBuf>) -> Rules {
        let rulebook = Rulebook::from_allowlist(["ls"]).unwrap();
        let caps = Limits::default();
        let current = RwLock::new(Arc::new(RulebookPolicy::new(rulebook, caps.clone())));
        Rules { current, file, caps }
    }

    fn allows(rules: &Rules, line: &str) -> bool {
        matches!(rules.judge(&Principal::local(), &Submission::of(line)), Verdict::Permit(..))
    }

    #[test]
    fn rules_are_replaced_as_a_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("rules.toml");
        let rules = rules(Some(file.clone()));
        let book = |programs: &str, rest: &str| {
            let text = format!("version = 1\n[[rule]]\nname = \"a\"\nprograms = [{programs}]\n{rest}");
            fs::write(&file, text).unwrap();
        };
        assert!(matches!(rules.reload().unwrap_err(), ReloadError::Unreadable { .. }));
        assert!(allows(&rules, "ls") && !allows(&rules, "cat x"));

        book("\"cat\"", "");
        rules.reload().unwrap();
        assert!(allows(&rules, "cat x") && !allows(&rules, "ls"));

        // Neither a key that nobody knows nor a test that fails lets any of the new rules in.
        for (rest, line) in [("progams = []\n", 5), ("[[rule.test]]\nallow = [\"cat /etc/passwd\"]\n", 5)] {
            book("\"ls\"", rest);
            let ReloadError::Wrong { source, .. } = rules.reload().unwrap_err() else { panic!("{rest}") };
            assert!(source.problems().iter().any(|problem| problem.line >= line), "{source}");
            assert!(allows(&rules, "cat x") && !allows(&rules, "ls"), "{rest}");
        }
    }

    #[test]
    fn a_list_of_programs_has_nothing_to_be_read_again() {
        let rules = rules(None);
        assert!(rules.reload().unwrap_err().to_string().contains("`PORTCULLIS_RULEBOOK`"));
        assert!(allows(&rules, "ls"));
    }
}
