//! Between records and rows.

use std::fmt;

use portcullis_core::{
    Ending, Execution, ExecutionId, Fingerprint, OutputChunk, OutputStream, Provenance, Reason, Refusal,
    Status,
};
use rusqlite::Row;
use rusqlite::types::{Type, ValueRef};
use serde::Serialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;

/// A row of `executions`.
#[derive(Debug)]
pub(super) struct Stored {
    /// Its place in the file, which `chunks` refers to.
    pub(super) n: i64,
    pub(super) execution: Execution,
}

/// The columns that [`stored`] reads, in its order.
macro_rules! columns {
    () => {
        "n, id, owner, owner_name, command, fingerprint, programs, rules, limits, accepted_at, started_at, \
         confinement, status, last_seq, output_bytes, reason, exit_code, signal, ended_at, usage, truncated, \
         message, provenance"
    };
}
pub(super) use columns;

/// Reads a row of [`columns`].
pub(super) fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let execution = Execution {
        id: parsed(row, 1, |text| ExecutionId::parse(text).ok())?,
        owner: row.get(2)?,
        owner_name: row.get(3)?,
        command: row.get(4)?,
        fingerprint: Fingerprint(row.get(5)?),
        programs: json(row, 6)?,
        rules: json(row, 7)?,
        limits: json(row, 8)?,
        accepted_at: time(row.get(9)?),
        provenance: optional_json(row, 22)?.unwrap_or_default(),
        started_at: row.get::<_, Option<i64>>(10)?.map(time),
        confinement: optional_json(row, 11)?,
        status: parsed(row, 12, Status::parse)?,
        last_seq: count(row, 13)?,
        output_bytes: count(row, 14)?,
        ending: match row.get::<_, Option<i64>>(18)? {
            None => None,
            Some(ended_at) => Some(Ending {
                status: parsed(row, 12, Status::parse)?,
                reason: parsed(row, 15, Reason::parse)?,
                exit_code: row.get(16)?,
                signal: row.get(17)?,
                ended_at: time(ended_at),
                usage: optional_json(row, 19)?,
                truncated: row.get(20)?,
                message: row.get(21)?,
            }),
        },
    };
    Ok(Stored { n: row.get(0)?, execution })
}

/// Reads a row of `seq, stream, at, bytes`.
pub(super) fn chunk(row: &Row<'_>) -> rusqlite::Result<OutputChunk> {
    Ok(OutputChunk {
        seq: count(row, 0)?,
        stream: stream(row, 1)?,
        at: time(row.get(2)?),
        bytes: row.get(3)?,
    })
}

pub(super) fn stream(row: &Row<'_>, column: usize) -> rusqlite::Result<OutputStream> {
    let named = |text: &str| {
        [OutputStream::Stdout, OutputStream::Stderr].into_iter().find(|stream| stream.as_str() == text)
    };
    parsed(row, column, named)
}

/// Reads a row of `at, principal, principal_name, execution_id, command, denial, provenance`.
pub(super) fn refusal(row: &Row<'_>) -> rusqlite::Result<Refusal> {
    Ok(Refusal {
        at: time(row.get(0)?),
        principal: row.get(1)?,
        principal_name: row.get(2)?,
        execution_id: match row.get_ref(3)? {
            ValueRef::Null => None,
            _ => Some(parsed(row, 3, |text| ExecutionId::parse(text).ok())?),
        },
        command: row.get(4)?,
        denial: json(row, 5)?,
        provenance: optional_json(row, 6)?.unwrap_or_default(),
    })
}

/// Returns a value as the JSON that a column holds.
pub(super) fn to_json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|source| rusqlite::Error::ToSqlConversionFailure(source.into()))
}

/// Returns where something came from as a column holds it; nothing when nothing is known.
pub(super) fn provenance(provenance: &Provenance) -> rusqlite::Result<Option<String>> {
    (*provenance != Provenance::default()).then(|| to_json(provenance)).transpose()
}

/// Returns a count as SQLite keeps it. Chunks and bytes are counted one by one, so that none comes near the end.
pub(super) fn to_integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Reads a time.
pub(super) fn time(nanoseconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(nanoseconds))
        .expect("64 bits of nanoseconds lie within the years that the type holds")
}

/// Reads a count.
pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value = row.get::<_, i64>(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    serde_json::from_str(text(row, column)?).map_err(|source| unreadable(column, source))
}

fn optional_json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        _ => json(row, column).map(Some),
    }
}

fn parsed<T>(row: &Row<'_>, column: usize, parse: impl FnOnce(&str) -> Option<T>) -> rusqlite::Result<T> {
    let text = text(row, column)?;
    parse(text).ok_or_else(|| unreadable(column, UnknownWord(text.to_owned())))
}

fn text<'r>(row: &'r Row<'_>, column: usize) -> rusqlite::Result<&'r str> {
    row.get_ref(column)?.as_str().map_err(|source| unreadable(column, source))
}

fn unreadable(column: usize, source: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(source))
}

/// A word that this release does not know.
#[derive(Debug)]
struct UnknownWord(String);

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` has no meaning here", self.0.escape_debug())
    }
}

impl std::error::Error for UnknownWord {}
