//! The writing operations. Each runs inside a transaction that the writer opened: it checks first and writes
//! after, so that an operation that answers with a refusal has changed nothing.

use portcullis_core::{
    Acceptance, Claim, Closing, Confinement, Delivery, Ending, Execution, ExecutionId, Finish, NewExecution,
    OutputChunk, Recovery, Refusal, Status, StoreError, Subscription,
};
use rusqlite::{Connection, OptionalExtension as _, params};
use time::{OffsetDateTime, UtcOffset};

use super::postings;
use super::queries::{find, known};
use super::room;
use super::rows::{self, Stored, columns, stored, to_integer, to_json};
use super::trouble::Trouble;
use crate::marks;
use crate::rules::{self, Progress};

/// Executions that one step of an expiry removes; what else waits to be written comes between the steps.
const EXPIRE_ROWS: usize = 64;
/// Bytes of output after which a step of an expiry removes no further execution.
const EXPIRE_BYTES: u64 = 4 << 20;

pub(super) fn accept(connection: &Connection, new: NewExecution) -> Result<Acceptance, Trouble> {
    let accepted_at = rules::nanoseconds("the execution", new.accepted_at)?;
    let start = new.start.as_ref();
    let started_at = start.map(|start| rules::nanoseconds("the claim", start.at)).transpose()?;
    let inserted = connection
        .prepare_cached(
            "INSERT INTO executions (id, owner, owner_name, command, fingerprint, programs, rules, limits,
                 accepted_at, started_at, confinement, status, provenance)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            new.id.as_str(),
            new.owner,
            new.owner_name,
            new.command,
            new.fingerprint.0,
            to_json(&new.programs)?,
            to_json(&new.rules)?,
            to_json(&new.limits)?,
            accepted_at,
            started_at,
            start.map(|start| to_json(&start.confinement)).transpose()?,
            if start.is_some() { Status::Running } else { Status::Scheduled }.as_str(),
            rows::provenance(&new.provenance)?,
        ])?;
    if inserted == 1 {
        return Ok(Acceptance::New(Box::new(new.into_execution())));
    }
    Ok(match find(connection, &new.id)? {
        Some(stored) if rules::is_same(&stored.execution, &new) => {
            Acceptance::Same(Box::new(stored.execution))
        }
        _ => Acceptance::Taken,
    })
}

pub(super) fn claim(
    connection: &Connection,
    id: &ExecutionId,
    at: OffsetDateTime,
    confinement: &Confinement,
) -> Result<Claim, Trouble> {
    let started_at = rules::nanoseconds("the claim", at)?;
    let Stored { n, mut execution } = known(connection, id)?;
    if execution.status != Status::Scheduled {
        return Ok(Claim::Refused(Box::new(execution)));
    }
    connection
        .prepare_cached(
            "UPDATE executions SET status = 'running', started_at = ?, confinement = ? WHERE n = ?",
        )?
        .execute(params![started_at, to_json(confinement)?, n])?;
    execution.status = Status::Running;
    execution.started_at = Some(at.to_offset(UtcOffset::UTC));
    execution.confinement = Some(confinement.clone());
    Ok(Claim::Claimed(Box::new(execution)))
}

pub(super) fn append(
    connection: &Connection,
    id: &ExecutionId,
    chunks: Vec<OutputChunk>,
) -> Result<(), Trouble> {
    // Only what is needed: this is the call that is made most often.
    let found = connection
        .prepare_cached(
            "SELECT n, ended_at IS NOT NULL, last_seq, output_bytes FROM executions WHERE id = ?",
        )?
        .query_row([id.as_str()], |row| {
            let stored = Progress { ended: row.get(1)?, last_seq: rows::count(row, 2)? };
            Ok((row.get::<_, i64>(0)?, stored, rows::count(row, 3)?))
        })
        .optional()?;
    let (n, stored, mut output_bytes) = found.ok_or_else(|| StoreError::Unknown(id.clone()))?;
    let chunks = rules::new_chunks(id, stored, chunks)?;
    let Some(last) = chunks.last() else { return Ok(()) };
    insert_chunks(connection, n, &chunks)?;
    output_bytes += chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum::<u64>();
    connection
        .prepare_cached("UPDATE executions SET last_seq = ?, output_bytes = ? WHERE n = ?")?
        .execute(params![to_integer(last.seq), to_integer(output_bytes), n])?;
    Ok(())
}

fn insert_chunks(connection: &Connection, n: i64, chunks: &[OutputChunk]) -> Result<(), Trouble> {
    let mut insert = connection
        .prepare_cached("INSERT INTO chunks (execution, seq, stream, at, bytes) VALUES (?, ?, ?, ?, ?)")?;
    for chunk in chunks {
        let at = rules::nanoseconds("output", chunk.at)?;
        insert.execute(params![n, to_integer(chunk.seq), chunk.stream.as_str(), at, chunk.bytes])?;
    }
    Ok(())
}

/// Writes an ending with the last of the output, and a posting for each of `subscribed` that wants it.
pub(super) fn close(
    connection: &Connection,
    id: &ExecutionId,
    closing: Closing,
    subscribed: &[Subscription],
) -> Result<Finish, Trouble> {
    let Closing { ending, output, delivery } = closing;
    rules::check_ending(id, &ending)?;
    let mut found = known(connection, id)?;
    if found.execution.ending.is_some() {
        return Ok(Finish::AlreadyEnded(Box::new(found.execution)));
    }
    let stored = Progress { ended: false, last_seq: found.execution.last_seq };
    let output = rules::new_chunks(id, stored, output)?;
    insert_chunks(connection, found.n, &output)?;
    found.execution.last_seq = output.last().map_or(stored.last_seq, |chunk| chunk.seq);
    found.execution.output_bytes += output.iter().map(|chunk| chunk.bytes.len() as u64).sum::<u64>();
    Ok(Finish::Written(Box::new(end(connection, found, ending, delivery, subscribed)?)))
}

pub(super) fn refuse(connection: &Connection, refusal: &Refusal) -> Result<(), Trouble> {
    let at = rules::nanoseconds("the refusal", refusal.at)?;
    connection
        .prepare_cached(
            "INSERT INTO refusals (at, principal, principal_name, execution_id, command, denial, provenance)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            at,
            refusal.principal,
            refusal.principal_name,
            refusal.execution_id.as_ref().map(ExecutionId::as_str),
            refusal.command,
            to_json(&refusal.denial)?,
            rows::provenance(&refusal.provenance)?,
        ])?;
    Ok(())
}

pub(super) fn recover(
    connection: &Connection,
    at: OffsetDateTime,
    subscribed: &[Subscription],
) -> Result<Recovery, Trouble> {
    rules::nanoseconds("the recovery", at)?;
    let open: Vec<Stored> = connection
        .prepare(concat!(
            "SELECT ",
            columns!(),
            " FROM executions WHERE delivery = 'undelivered' AND ended_at IS NULL
             ORDER BY accepted_at, id"
        ))?
        .query_map([], stored)?
        .collect::<rusqlite::Result<_>>()?;
    let mut recovery = Recovery::default();
    for found in open {
        let ending = rules::left_open(&found.execution, at);
        let ended = end(connection, found, ending, None, subscribed)?;
        match ended.status {
            Status::Lost => recovery.lost.push(ended.id),
            _ => recovery.interrupted.push(ended.id),
        }
    }
    Ok(recovery)
}

pub(super) fn delivered(
    connection: &Connection,
    id: &ExecutionId,
    delivery: Delivery,
) -> Result<(), Trouble> {
    let updated = connection
        .prepare_cached("UPDATE executions SET delivery = ? WHERE id = ? AND ended_at IS NOT NULL")?
        .execute([word(Some(delivery)), id.as_str()])?;
    if updated == 0 {
        known(connection, id)?;
        return Err(rules::nothing_to_deliver(id).into());
    }
    Ok(())
}

/// What one step of an expiry did.
pub(super) struct Expired {
    pub(super) executions: u64,
    /// Whether there may be more to remove.
    pub(super) more: bool,
}

pub(super) fn expire(connection: &Connection, ended_before: OffsetDateTime) -> Result<Expired, Trouble> {
    let before = rules::bound_in_nanoseconds(ended_before);
    let step = remove_oldest(connection, before, EXPIRE_ROWS)?;
    let refusals = remove_refusals(connection, before)?;
    Ok(Expired { executions: step.removed as u64, more: step.more || refusals == EXPIRE_ROWS })
}

/// Removes some of the executions that ended first, at most so many.
pub(super) fn remove_some(connection: &Connection, most: u64) -> Result<Expired, Trouble> {
    let most = usize::try_from(most).unwrap_or(usize::MAX).min(EXPIRE_ROWS);
    let step = remove_oldest(connection, i64::MAX, most)?;
    Ok(Expired { executions: step.removed as u64, more: step.removed > 0 })
}

/// Removes some of the executions that ended first, and what was refused before their end, when records take more
/// bytes than these.
pub(super) fn remove_beyond(connection: &Connection, bytes: u64) -> Result<Expired, Trouble> {
    if room::taken(connection)? <= bytes {
        return Ok(Expired { executions: 0, more: false });
    }
    let step = remove_oldest(connection, i64::MAX, EXPIRE_ROWS)?;
    let refusals = remove_refusals(connection, step.last_end.unwrap_or(i64::MAX))?;
    Ok(Expired { executions: step.removed as u64, more: step.removed + refusals > 0 })
}

/// What one step of a removal did.
struct Step {
    removed: usize,
    /// Whether there may be more that ended before the bound.
    more: bool,
    /// When the last of them ended.
    last_end: Option<i64>,
}

/// Removes at most `limit` of the executions that ended first, before a time, with all that hangs on them.
fn remove_oldest(connection: &Connection, before: i64, limit: usize) -> Result<Step, Trouble> {
    let old: Vec<(i64, i64, String, String, i64)> = connection
        .prepare_cached(
            "SELECT n, output_bytes, owner, id, ended_at FROM executions WHERE ended_at < ?
             ORDER BY ended_at LIMIT ?",
        )?
        .query_map([before, to_integer(limit as u64)], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut step = Step { removed: 0, more: old.len() == limit, last_end: None };
    let mut bytes = 0_u64;
    for (n, output_bytes, owner, id, ended_at) in old {
        if bytes > EXPIRE_BYTES {
            step.more = true;
            break;
        }
        bytes = bytes.saturating_add(u64::try_from(output_bytes).unwrap_or(0));
        connection.prepare_cached("DELETE FROM chunks WHERE execution = ?")?.execute([n])?;
        connection.prepare_cached("DELETE FROM postings WHERE execution = ?")?.execute([n])?;
        connection.prepare_cached("DELETE FROM executions WHERE n = ?")?.execute([n])?;
        if let Ok(id) = ExecutionId::parse(&id) {
            connection
                .prepare_cached("INSERT OR REPLACE INTO expired (mark) VALUES (?)")?
                .execute([marks::mark(&owner, &id)])?;
        }
        step.removed += 1;
        step.last_end = Some(ended_at);
    }
    if step.removed > 0 {
        connection
            .prepare_cached("DELETE FROM expired WHERE n <= (SELECT max(n) FROM expired) - ?")?
            .execute([to_integer(marks::MOST as u64)])?;
    }
    Ok(step)
}

fn remove_refusals(connection: &Connection, before: i64) -> Result<usize, Trouble> {
    let oldest = "DELETE FROM refusals WHERE n IN (SELECT n FROM refusals WHERE at < ? ORDER BY at LIMIT ?)";
    Ok(connection.prepare_cached(oldest)?.execute([before, to_integer(EXPIRE_ROWS as u64)])?)
}

/// Writes the schema version that is there already, which SQLite does not look at before it writes.
pub(super) fn probe(connection: &Connection) -> Result<(), Trouble> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Ok(connection.pragma_update(None, "user_version", version)?)
}

/// Returns what `executions.delivery` says of a terminal update.
fn word(delivery: Option<Delivery>) -> &'static str {
    match delivery {
        None => "undelivered",
        Some(Delivery::Delivered) => "delivered",
        Some(Delivery::GivenUp) => "given_up",
    }
}

/// Writes an ending, how far the output has come, and what is to be posted of it. The caller has seen, in the same transaction, that there is
/// no ending.
fn end(
    connection: &Connection,
    found: Stored,
    ending: Ending,
    delivery: Option<Delivery>,
    subscribed: &[Subscription],
) -> Result<Execution, Trouble> {
    let Stored { n, mut execution } = found;
    let ended_at = rules::nanoseconds("the ending", ending.ended_at)?;
    let updated = connection
        .prepare_cached(
            "UPDATE executions SET status = ?, reason = ?, exit_code = ?, signal = ?, ended_at = ?, usage = ?,
                 truncated = ?, message = ?, last_seq = ?, output_bytes = ?, delivery = ?
             WHERE n = ? AND ended_at IS NULL",
        )?
        .execute(params![
            ending.status.as_str(),
            ending.reason.as_str(),
            ending.exit_code,
            ending.signal,
            ended_at,
            ending.usage.as_ref().map(to_json).transpose()?,
            ending.truncated,
            ending.message,
            to_integer(execution.last_seq),
            to_integer(execution.output_bytes),
            word(delivery),
            n,
        ])?;
    debug_assert_eq!(updated, 1, "INVARIANT (one end)");
    for subscription in subscribed {
        if subscription.wants(ending.status, &execution.programs) {
            postings::make(connection, &subscription.endpoint, n, ended_at)?;
        }
    }
    execution.status = ending.status;
    execution.ending = Some(Ending { ended_at: ending.ended_at.to_offset(UtcOffset::UTC), ..ending });
    Ok(execution)
}
