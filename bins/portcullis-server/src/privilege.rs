//! From root to the service's own user.
//!
//! Root starts the service to have the launcher give each execution a uid of its own. Everything else works without: so
//! once the launcher is started, the port bound and the token read, the service hands what it keeps to its user and
//! becomes that, for good.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use portcullis_api::URL_FILE;
use portcullis_sandbox::{Account, current_uid, give_up_privilege, obstacle};

use crate::compose::{ComposeError, DATABASE_FILE};
use crate::config::{Config, ServiceUser, StoreKind};

/// Why privilege was not given up.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// The user that was asked for cannot be had.
    #[error("cannot become the user {account} of `PORTCULLIS_USER`: {problem}")]
    Unavailable {
        /// The user.
        account: Account,
        /// What is in the way.
        problem: String,
    },
    /// The data directory is not the service's alone.
    #[error(
        "the data directory `{directory}` holds `{found}`, which is not the service's, so it is not given to {account}: \
         set `PORTCULLIS_DATA_DIR` to a directory of the service's own, or give this one to that user yourself"
    )]
    Shared {
        /// The directory.
        directory: String,
        /// What is in it.
        found: String,
        /// Who was to get it.
        account: Account,
    },
    /// The user does not reach the data directory.
    #[error(
        "having given up root, {account} does not reach the data directory `{directory}`: let that user pass the \
         directories above it (`chmod o+x`), or set `PORTCULLIS_DATA_DIR` to another place or `PORTCULLIS_USER` to \
         another user"
    )]
    OutOfReach {
        /// The directory.
        directory: String,
        /// Who tried.
        account: Account,
        /// What the system answered.
        source: io::Error,
    },
    /// The file system refused.
    #[error(transparent)]
    File(#[from] ComposeError),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] portcullis_sandbox::GiveUpError),
}

/// Gives up what the service does not need from here on, root above all. Call it after everything that needs root and
/// before there is a second thread.
///
/// # Errors
/// See [`PrivilegeError`]; the caller ends then.
pub fn give_up(config: &Config) -> Result<(), PrivilegeError> {
    let account = match &config.user {
        Some(user) => reachable(user)?,
        None => None,
    };
    if let Some(account) = account {
        hand_over(&config.data_dir, account)?;
    }
    give_up_privilege(account)?;
    let Some(account) = account else { return Ok(()) };
    if config.store == StoreKind::Sqlite {
        let directory = config.data_dir.display().to_string();
        let account = account.clone();
        fs::read_dir(&config.data_dir).map_err(|source| PrivilegeError::OutOfReach {
            directory,
            account,
            source,
        })?;
    }
    tracing::info!(user = %account, "root is given up, but for the launcher");
    if let Some(file) = &config.rulebook_file
        && let Err(error) = File::open(file)
    {
        let (file, error) = (file.display(), error.to_string());
        tracing::warn!(%file, error, user = %account, "the rulebook cannot be read again by SIGHUP: let that user read it");
    }
    Ok(())
}

/// Returns the account, if it can be had. One that nobody asked for may be missed: then it is said.
fn reachable(user: &ServiceUser) -> Result<Option<&Account>, PrivilegeError> {
    let account = &user.account;
    match obstacle(account) {
        None => Ok(Some(account)),
        Some(problem) if user.asked_for => {
            Err(PrivilegeError::Unavailable { account: account.clone(), problem })
        }
        Some(problem) => {
            tracing::warn!(
                problem,
                user = %account,
                "the service stays uid {}, with no capability: it cannot become its own user",
                current_uid()
            );
            Ok(None)
        }
    }
}

/// Directory of the launcher's, in the data directory. It stays root's: what is beneath it the launcher trusts.
const CELLS: &str = "cells";

/// Makes the data directory and what the service keeps in it the user's, also what it kept as root in an earlier life.
fn hand_over(data_dir: &Path, account: &Account) -> Result<(), PrivilegeError> {
    let at = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| ComposeError::File { operation, path, source }
    };
    let owner = fs::metadata(data_dir).map_err(at("look at the data directory", data_dir))?.uid();
    if owner == account.uid {
        // Where root has not all its capabilities it may not; then the directory is missed at level `landlock` alone.
        let _ = make_cells(data_dir);
    } else {
        if let Some(found) = stranger(data_dir).map_err(at("list the data directory", data_dir))? {
            let directory = data_dir.display().to_string();
            return Err(PrivilegeError::Shared { directory, found, account: account.clone() });
        }
        let directory = File::open(data_dir).map_err(at("open the data directory", data_dir))?;
        make_cells(data_dir).map_err(at("make `cells` in", data_dir))?;
        // A cell without a view of its own passes through, to its workspace; each file in it is its owner's alone.
        let mode = fs::Permissions::from_mode(0o711);
        directory.set_permissions(mode).map_err(at("set the mode of", data_dir))?;
        fchown(&directory, Some(account.uid), Some(account.gid))
            .map_err(at("give the data directory to the service's user", data_dir))?;
    }
    let database = ["", "-wal", "-shm", "-journal", ".lock"].map(|end| format!("{DATABASE_FILE}{end}"));
    for name in database.iter().map(String::as_str).chain([URL_FILE]) {
        let path = data_dir.join(name);
        // Of a link, or of a name that another file has too, an earlier life as that user may be the author: neither is
        // followed. What is not root's was never kept by root.
        let flags = cautiously();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Ok(file) => file,
            // Absent, or another's already and closed to a root without CAP_DAC_OVERRIDE.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) =>
            {
                continue;
            }
            Err(error) => return Err(at("open", &path)(error).into()),
        };
        let found = file.metadata().map_err(at("look at", &path))?;
        if found.is_file() && found.nlink() == 1 && found.uid() == 0 {
            fchown(&file, Some(account.uid), Some(account.gid))
                .map_err(at("give to the service's user", &path))?;
        }
    }
    Ok(())
}

fn make_cells(data_dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o711).create(data_dir.join(CELLS)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// `O_NOFOLLOW`, and `O_NONBLOCK`, so that a pipe under one of our names does not hang the start. See open(2).
fn cautiously() -> i32 {
    (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed()
}

/// Returns the name of something that shows a directory to be somebody else's too: a directory or a hidden file.
fn stranger(data_dir: &Path) -> io::Result<Option<String>> {
    for entry in fs::read_dir(data_dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let hidden = name.starts_with('.') && !name.starts_with(&format!(".{URL_FILE}."));
        if hidden || (entry.file_type()?.is_dir() && name != CELLS) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_somebody_elses_too_is_told_by_what_is_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let stranger = || stranger(directory.path()).unwrap();
        for ours in ["portcullis.db", "token", "url", ".url.77", "rules.toml"] {
            fs::write(directory.path().join(ours), "").unwrap();
        }
        fs::create_dir(directory.path().join("cells")).unwrap();
        assert_eq!(stranger(), None);
        for theirs in [".bashrc", "lib"] {
            let path = directory.path().join(theirs);
            fs::create_dir(&path).unwrap();
            assert_eq!(stranger().as_deref(), Some(theirs));
            fs::remove_dir(&path).unwrap();
        }
    }
}
