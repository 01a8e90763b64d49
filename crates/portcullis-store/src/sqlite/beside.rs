//! What another process does to a database that a server may have open: SQLite lets them in one after the other.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, params};
use time::OffsetDateTime;

use super::open::{OpenError, check, connect, failed, files};
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
