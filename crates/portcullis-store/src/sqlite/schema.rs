//! The tables, and how an older database becomes a newer one.

use rusqlite::{Connection, TransactionBehavior};

/// Marks a database file as ours: `PCLS`. See sqlite.org/pragma.html#pragma_application_id.
pub(super) const APPLICATION_ID: i32 = 0x5043_4C53;

/// What turns the schema of version n (the place in the list) into that of version n + 1. A released step
/// is never changed: a later change is a further step.
pub(super) const MIGRATIONS: &[&str] = &[VERSION_1, VERSION_2, VERSION_3];

/// Times are nanoseconds since 1970, lists and structures are JSON, statuses and reasons the words on the wire.
///
/// `n` is an execution's place in the file and never leaves it. `chunks` has no rowid of its own, so that an
/// execution's output lies together, in order. `executions_unsettled` holds what is open, and what has ended
/// and is not told: it stays small however much is kept. Each index costs an acceptance a page to sync.
const VERSION_1: &str = "
    CREATE TABLE executions (
        n            INTEGER PRIMARY KEY,
        id           TEXT    NOT NULL UNIQUE,
        owner        TEXT    NOT NULL,
        owner_name   TEXT    NOT NULL,
        command      TEXT    NOT NULL,
        fingerprint  BLOB    NOT NULL,
        programs     TEXT    NOT NULL,
        rules        TEXT    NOT NULL,
        limits       TEXT    NOT NULL,
        accepted_at  INTEGER NOT NULL,
        started_at   INTEGER,
        confinement  TEXT,
        status       TEXT    NOT NULL,
        last_seq     INTEGER NOT NULL DEFAULT 0,
        output_bytes INTEGER NOT NULL DEFAULT 0,
        reason       TEXT,
        exit_code    INTEGER,
        signal       INTEGER,
        ended_at     INTEGER,
        usage        TEXT,
        truncated    INTEGER,
        message      TEXT,
        delivery     TEXT    NOT NULL DEFAULT 'undelivered'
                             CHECK (delivery IN ('undelivered', 'delivered', 'given_up')),
        CHECK ((ended_at IS NULL) = (status IN ('scheduled', 'running')))
    ) STRICT;
    CREATE INDEX executions_by_acceptance ON executions (accepted_at, id);
    CREATE INDEX executions_by_owner ON executions (owner, accepted_at, id);
    CREATE INDEX executions_by_end ON executions (ended_at) WHERE ended_at IS NOT NULL;
    CREATE INDEX executions_unsettled ON executions (ended_at, id) WHERE delivery = 'undelivered';

    CREATE TABLE chunks (
        execution INTEGER NOT NULL,
        seq       INTEGER NOT NULL,
        stream    TEXT    NOT NULL CHECK (stream IN ('stdout', 'stderr')),
        at        INTEGER NOT NULL,
        bytes     BLOB    NOT NULL,
        PRIMARY KEY (execution, seq)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE refusals (
        n              INTEGER PRIMARY KEY,
        at             INTEGER NOT NULL,
        principal      TEXT    NOT NULL,
        principal_name TEXT    NOT NULL,
        execution_id   TEXT,
        command        TEXT    NOT NULL,
        denial         TEXT    NOT NULL
    ) STRICT;
    CREATE INDEX refusals_by_time ON refusals (at);
";

/// Where a submission came from, as JSON; what is older came from somewhere unknown.
const VERSION_2: &str = "
    ALTER TABLE executions ADD COLUMN provenance TEXT;
    ALTER TABLE refusals ADD COLUMN provenance TEXT;
";

/// What endpoints are to be posted, which of them are disabled, and marks of what retention has removed.
///
/// The numbers of `postings` are never given again, so that who notes the end of one never means another.
/// `expired` holds for each removed execution a number made of its owner and id (see `marks`), the newest only.
const VERSION_3: &str = "
    CREATE TABLE postings (
        n         INTEGER PRIMARY KEY AUTOINCREMENT,
        endpoint  TEXT    NOT NULL,
        execution INTEGER NOT NULL,
        made_at   INTEGER NOT NULL,
        due_at    INTEGER NOT NULL,
        attempts  INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX postings_by_due ON postings (endpoint, due_at, n);
    CREATE INDEX postings_by_execution ON postings (execution);

    CREATE TABLE disabled_endpoints (
        name TEXT    NOT NULL PRIMARY KEY,
        url  TEXT    NOT NULL,
        at   INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE expired (
        n    INTEGER PRIMARY KEY,
        mark INTEGER NOT NULL UNIQUE
    ) STRICT;
";

/// Whose database a file is, by its own header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// It has no tables yet.
    Nobody,
    /// It is ours, of this schema version.
    Us(usize),
    /// It is another application's, with this application id.
    Another(i32),
}

/// Reads whose database this is.
pub(super) fn owner(connection: &Connection) -> rusqlite::Result<Owner> {
    let read = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let tables = read("SELECT count(*) FROM sqlite_schema")?;
    let application_id = connection.query_row("PRAGMA application_id", [], |row| row.get::<_, i32>(0))?;
    let version = read("PRAGMA user_version")?;
    Ok(match (application_id, tables, usize::try_from(version)) {
        (APPLICATION_ID, _, Ok(version)) => Owner::Us(version),
        (0, 0, Ok(0)) => Owner::Nobody,
        (id, _, _) => Owner::Another(id),
    })
}

/// Brings the schema to the last version that `migrations` knows, all steps in one transaction: whatever
/// interrupts it, the file holds the old schema or the new one.
pub(super) fn migrate(connection: &mut Connection, migrations: &[&str]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version = transaction.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))?;
    for step in migrations.iter().skip(usize::try_from(version).unwrap_or(usize::MAX)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", migrations.len() as i64)?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(connection: &Connection) -> Vec<String> {
        let mut statement =
            connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn only_the_missing_steps_are_taken() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert_eq!(owner(&connection).unwrap(), Owner::Nobody);
        let steps = ["CREATE TABLE a (x)", "CREATE TABLE b (x)", "DROP TABLE a; CREATE TABLE c (x)"];
        migrate(&mut connection, &steps[..1]).unwrap();
        assert_eq!((owner(&connection).unwrap(), tables(&connection)), (Owner::Us(1), vec!["a".into()]));
        migrate(&mut connection, &steps).unwrap();
        migrate(&mut connection, &steps).unwrap();
        assert_eq!(owner(&connection).unwrap(), Owner::Us(3));
        assert_eq!(tables(&connection), ["b", "c"]);
    }

    #[test]
    fn a_step_that_fails_leaves_the_old_schema() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &["CREATE TABLE a (x)"]).unwrap();
        let steps = ["CREATE TABLE a (x)", "CREATE TABLE b (x)", "DROP TABLE a; CREATE TABLE b (x)"];
        assert!(migrate(&mut connection, &steps).is_err());
        assert_eq!((owner(&connection).unwrap(), tables(&connection)), (Owner::Us(1), vec!["a".into()]));
    }

    #[test]
    fn a_file_of_another_application_is_recognised() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
        assert_eq!(owner(&connection).unwrap(), Owner::Another(0));
        connection.execute_batch("PRAGMA application_id = 7").unwrap();
        assert_eq!(owner(&connection).unwrap(), Owner::Another(7));
    }
}
