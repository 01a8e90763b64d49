//! What another process does to a database that a server may have open: SQLite lets them in one after the other.

use std::path::Path;

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};

use rusqlite::{Connection, OpenFlags, params};
use time::OffsetDateTime;

use super::open::{OpenError, check, connect, failed, files, sync_directory};
use super::{rows, schema};

/// An endpoint that has answered that it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisabledEndpoint {
    /// Its name in the configuration.
    pub name: String,
    /// Where it is disabled.
    pub url: String,
    /// Since when.
    pub since: OffsetDateTime,
}

/// A database that a server may be working with.
#[derive(Debug)]
pub struct Beside {
    connection: Connection,
    path: std::path::PathBuf,
}

impl Beside {
    /// Opens a database of this version; makes and changes nothing.
    ///
    /// # Errors
    /// See [`OpenError`]; [`OpenError::Older`] when no server of this version has opened it yet.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        std::fs::metadata(path).map_err(files("look at", path))?;
        let known = schema::MIGRATIONS.len();
        match check(path)? {
            Some(found) if found == known => {}
            found => {
                return Err(OpenError::Older { path: path.to_owned(), found: found.unwrap_or(0), known });
            }
        }
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .map_err(|source| failed("open", path.to_owned(), source))?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// Copies the database to a file that is not there yet: the state of one moment, whole and compact, while the
    /// server goes on writing. Returns its size in bytes.
    ///
    /// The copy is made under another name beside it, synced, and then given its name, which thus always names a whole
    /// one. It can be read by its owner alone. While it is made, the log of the database grows by what is written.
    ///
    /// # Errors
    /// When the file is there, or cannot be made; then nothing of it is left.
    pub fn back_up(&self, to: &Path) -> Result<u64, OpenError> {
        let to = std::path::absolute(to).map_err(files("find", to))?;
        if to.symlink_metadata().is_ok() {
            return Err(files("make the backup", &to)(std::io::ErrorKind::AlreadyExists.into()));
        }
        let mut beside = to.as_os_str().to_owned();
        beside.push(format!(".part-{}", std::process::id()));
        let beside = std::path::PathBuf::from(beside);
        let copied = self.copy(&beside, &to);
        if copied.is_err() {
            // It is ours: its name is made of our process's number, and `copy` makes it anew.
            let _ = fs::remove_file(&beside);
        }
        copied
    }

    fn copy(&self, beside: &Path, to: &Path) -> Result<u64, OpenError> {
        let _ = fs::remove_file(beside);
        // Made by us, for nobody else to read; SQLite writes into an empty file as into none.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside);
        let file = file.map_err(files("make the backup", beside))?;
        // See sqlite.org/lang_vacuum.html: one read transaction, beside which others write. The other way, page by
        // page, begins anew with each write of another process.
        let name = beside.to_str().ok_or_else(|| {
            files("name the backup", beside)(std::io::Error::other("its path is not UTF-8"))
        })?;
        self.connection
            .execute("VACUUM INTO ?", [name])
            .map_err(|source| failed("copy", self.path.clone(), source))?;
        fs::set_permissions(beside, Permissions::from_mode(0o600)).map_err(files("protect", beside))?;
        file.sync_all().map_err(files("sync", beside))?;
        let bytes = file.metadata().map_err(files("look at", beside))?.len();
        // Not renamed onto: somebody may have made a file of that name meanwhile.
        fs::hard_link(beside, to).map_err(files("make the backup", to))?;
        fs::remove_file(beside).map_err(files("remove", beside))?;
        sync_directory(to.parent().unwrap_or(Path::new("/")))?;
        Ok(bytes)
    }

    /// Lists the endpoints that are disabled.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn disabled_endpoints(&self) -> Result<Vec<DisabledEndpoint>, OpenError> {
        let read = || {
            let mut statement =
                self.connection.prepare("SELECT name, url, at FROM disabled_endpoints ORDER BY name")?;
            let endpoints = statement.query_map([], |row| {
                Ok(DisabledEndpoint { name: row.get(0)?, url: row.get(1)?, since: rows::time(row.get(2)?) })
            })?;
            endpoints.collect::<rusqlite::Result<_>>()
        };
        read().map_err(|source| failed("read", self.path.clone(), source))
    }

    /// Enables an endpoint; a server that runs posts to it again within 5 s. Returns whether it was
    /// disabled.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn enable_endpoint(&self, name: &str) -> Result<bool, OpenError> {
        let removed = self.connection.execute("DELETE FROM disabled_endpoints WHERE name = ?", params![name]);
        removed.map(|rows| rows > 0).map_err(|source| failed("write", self.path.clone(), source))
    }
}
