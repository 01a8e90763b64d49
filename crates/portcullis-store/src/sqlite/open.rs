//! From a path to connections: the directory, the lock, whose file it is, and its schema.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::schema::{self, Owner};
use super::writer::CHECKPOINT_PAGES;

/// How long a connection waits for a lock that another program holds on the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the log is made at a start.
const LOG_BYTES: u64 = CHECKPOINT_PAGES as u64 * (4_096 + 24) + 32;

/// The smallest page that SQLite has.
const SMALLEST_PAGE_BYTES: u64 = 512;

/// Why a database could not be opened. Whatever it is, the file is left as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused a directory or file.
    #[error("could not {operation} `{path}`")]
    Files {
        /// What was tried.
        operation: &'static str,
        /// Which directory or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another server has the database open.
    #[error(
        "the database `{path}` is in use by another server: stop that one, or give this one a data directory of its own"
    )]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// Another program, such as a database shell or a backup, holds a lock on the database.
    #[error("the database `{path}` is locked by another program: end that program and start again")]
    Locked {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The file is an SQLite database, and not one of ours.
    #[error(
        "`{path}` is a database of another application (application id `{application_id}`): give another path"
    )]
    Foreign {
        /// The database.
        path: PathBuf,
        /// What its header says.
        application_id: i32,
    },
    /// A newer release wrote the database.
    #[error(
        "the database `{path}` has schema version `{found}`, and this release knows only those up to `{known}`: run the newer release, or restore the backup made before it"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema version.
        found: usize,
        /// The last version that this release knows.
        known: usize,
    },
    /// An older release wrote the database, and only a server brings it up to date.
    #[error(
        "the database `{path}` has schema version `{found}`, and this release works with `{known}`: start the service once, which brings it up to date"
    )]
    Older {
        /// The database.
        path: PathBuf,
        /// Its schema version; 0 for an empty one.
        found: usize,
        /// The version wanted.
        known: usize,
    },
    /// The file is no SQLite database, or a damaged one.
    #[error(
        "`{path}` is damaged, or no database at all: keep it aside and restore a backup, or start without it"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The schema could not be brought up to date; it is the old one still.
    #[error("could not bring the database `{path}` from schema version `{from}` to `{to}`")]
    Migrate {
        /// The database.
        path: PathBuf,
        /// Its schema version.
        from: usize,
        /// The version wanted.
        to: usize,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// SQLite refused something else.
    #[error("could not {operation} the database `{path}`")]
    Database {
        /// What was tried.
        operation: &'static str,
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// A database that is ours alone, with an up-to-date schema.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) path: PathBuf,
    /// Locked for as long as it is open. It is a file beside the database, since closing any descriptor of
    /// the database itself would drop SQLite's own locks (fcntl(2)).
    _lock: File,
}

impl Database {
    /// Takes the lock, makes or checks the file, and brings its schema up to date. Returns the connection
    /// that may write.
    pub(super) fn open(path: &Path) -> Result<(Self, Connection), OpenError> {
        let path = prepare_directory(path)?;
        let lock = lock(&path)?;
        prepare_file(&path)?;
        let found = check(&path)?;

        let fail = |operation| {
            let path = path.clone();
            move |source| failed(operation, path, source)
        };
        let mut writer = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(fail("open"))?;
        if found.is_none() {
            // Only possible before the first table exists. It lets a later version give space back.
            writer.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(fail("set up"))?;
        }
        set_up_writer(&writer).map_err(fail("set up"))?;
        let (from, to) = (found.unwrap_or(0), schema::MIGRATIONS.len());
        if found != Some(to) {
            schema::migrate(&mut writer, schema::MIGRATIONS).map_err(|source| OpenError::Migrate {
                path: path.clone(),
                from,
                to,
                source,
            })?;
            tracing::info!(path = %path.display(), from, to, "brought the database's schema up to date");
        }
        if let Err(error) = lengthen_log(&path) {
            // Costs nothing but time: SQLite lengthens it itself, bit by bit.
            tracing::warn!(path = %path.display(), %error, "could not make room in the log ahead");
        }
        Ok((Self { path, _lock: lock }, writer))
    }

    /// Opens a further connection, which only reads.
    pub(super) fn reader(&self) -> Result<Connection, OpenError> {
        connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .map_err(|source| failed("open", self.path.clone(), source))
    }

    /// Opens a further connection, which copies the log into the database beside the writer.
    pub(super) fn checkpointer(&self) -> Result<Connection, OpenError> {
        let fail = |source| failed("open", self.path.clone(), source);
        let connection = connect(&self.path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(fail)?;
        connection.pragma_update(None, "wal_autocheckpoint", 0).map_err(fail)?;
        Ok(connection)
    }
}

fn prepare_directory(path: &Path) -> Result<PathBuf, OpenError> {
    let path = std::path::absolute(path).map_err(files("find", path))?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    if !directory.is_dir() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(files("make the directory", directory))?;
        if let Some(parent) = directory.parent() {
            sync_directory(parent)?;
        }
    }
    Ok(path)
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(files("open the lock file", &name))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(files("lock", &name)(source)),
    }
}

/// Makes the file before SQLite does: nobody else may read it for a moment, and its name must be on the disk
/// before the first record. SQLite gives its log the permissions of the database.
fn prepare_file(path: &Path) -> Result<(), OpenError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => {
            file.sync_all().map_err(files("sync", path))?;
            sync_directory(path.parent().unwrap_or(Path::new("/")))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs::metadata(path).map_err(files("look at", path))?;
            // SQLite takes a file shorter than its smallest page for an empty one, and would write over it.
            if (1..SMALLEST_PAGE_BYTES).contains(&found.len()) {
                return Err(OpenError::Damaged {
                    path: path.to_owned(),
                    source: sqlite_error(rusqlite::ffi::SQLITE_NOTADB, "the file is too short".into()),
                });
            }
            let mode = found.permissions().mode();
            if mode & 0o077 != 0 {
                tracing::warn!(path = %path.display(), mode = format!("{:o}", mode & 0o777),
                    "the database could be opened by other users; it is now its owner's alone");
                fs::set_permissions(path, Permissions::from_mode(0o600))
                    .map_err(files("set the permissions of", path))?;
            }
            Ok(())
        }
        Err(error) => Err(files("make the database", path)(error)),
    }
}

/// Returns the schema version of the file, and `None` when it is empty; changes nothing.
pub(super) fn check(path: &Path) -> Result<Option<usize>, OpenError> {
    let fail = |source| failed("read", path.to_owned(), source);
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(fail)?;
    // A log left by a crash stays what it is until the file is known to be ours.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(fail)?;
    let known = schema::MIGRATIONS.len();
    match schema::owner(&connection).map_err(fail)? {
        Owner::Nobody => Ok(None),
        Owner::Us(found) if found <= known => Ok(Some(found)),
        Owner::Us(found) => Err(OpenError::Newer { path: path.to_owned(), found, known }),
        Owner::Another(application_id) => Err(OpenError::Foreign { path: path.to_owned(), application_id }),
    }
}

pub(super) fn connect(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    // What a damaged or forged file holds is read as data, never carried out.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "cache_size", -4_096)?;
    // Only undone writes need it: the pages as they were before each write of a group.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

fn set_up_writer(writer: &Connection) -> rusqlite::Result<()> {
    let mode: String = writer.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        // As on a file system without shared memory; group commit and readers beside it need the log.
        let problem = format!("the file system gives journal mode `{mode}` instead of `wal`");
        return Err(sqlite_error(rusqlite::ffi::SQLITE_CANTOPEN, problem));
    }
    writer.pragma_update(None, "synchronous", "FULL")?;
    // After a burst the log shrinks again.
    writer.pragma_update(None, "journal_size_limit", 64 << 20)
}

/// Writes zeros behind what the log holds, up to the length at which it is first copied into the database. A sync
/// of blocks that are written already carries data alone; one of a file that has grown waits for the file system's
/// journal, too (measured on ext4: 117 µs and 172 µs). SQLite reads a log up to the first frame that lacks the salts
/// of its header, which zeros do; see sqlite.org/fileformat2.html#the_write_ahead_log. Nobody else has the database
/// open yet, and closing a descriptor of the log drops no lock: SQLite has none on that file.
fn lengthen_log(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    // There is one: going to it was the first thing that the writer did.
    let mut log = OpenOptions::new().append(true).open(name)?;
    let zeros = vec![0; 1 << 18];
    let mut length = log.metadata()?.len();
    while length < LOG_BYTES {
        let piece = zeros.get(..usize::try_from(LOG_BYTES - length).unwrap_or(usize::MAX)).unwrap_or(&zeros);
        log.write_all(piece)?;
        length += piece.len() as u64;
    }
    log.sync_all()
}

fn sqlite_error(code: i32, problem: String) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), Some(problem))
}

pub(super) fn sync_directory(directory: &Path) -> Result<(), OpenError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(files("sync the directory", directory))
}

pub(super) fn files(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Files { operation, path, source }
}

pub(super) fn failed(operation: &'static str, path: PathBuf, source: rusqlite::Error) -> OpenError {
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Locked { path, source },
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => OpenError::Damaged { path, source },
        _ => OpenError::Database { operation, path, source },
    }
}
