//! What endpoints are to be posted: rows beside the records.

use async_trait::async_trait;
use portcullis_core::{Due, Outbox, Posting, Settled, StoreError, Subscription};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use time::OffsetDateTime;

use super::SqliteStore;
use super::rows::{self, columns, stored, to_integer};
use super::trouble::Trouble;
use super::writer::Durability;
use crate::rules;

/// Rows that one step of a clearing removes; what else waits to be written comes between the steps.
const STEP_ROWS: u64 = 512;

#[async_trait]
impl Outbox for SqliteStore {
    async fn subscribe(&self, subscriptions: Vec<Subscription>) -> Result<u64, StoreError> {
        let all = subscriptions.clone();
        let disabled = self
            .writer
            .write("note who is posted to", Durability::Synced, move |connection| subscribe(connection, &all))
            .await?;
        self.subscribers.set(subscriptions.clone(), disabled);
        let mut removed = 0;
        for endpoint in self.readers.read("read who waits", endpoints).await? {
            if !subscriptions.iter().any(|one| one.endpoint == endpoint) {
                removed += self.clear(endpoint, u64::MAX).await?;
            }
        }
        self.subscribers.stir();
        Ok(removed)
    }

    async fn made(&self) {
        self.subscribers.made().await;
    }

    async fn due(&self, endpoint: &str, now: OffsetDateTime, limit: usize) -> Result<Due, StoreError> {
        let endpoint = endpoint.to_owned();
        self.readers.read("read what is due", move |connection| due(connection, &endpoint, now, limit)).await
    }

    async fn settle(&self, n: u64, settled: Settled) -> Result<(), StoreError> {
        self.writer
            .write("note a posting", Durability::Written, move |connection| settle(connection, n, settled))
            .await
    }

    async fn tidy(
        &self,
        endpoint: &str,
        keep: usize,
        made_before: Option<OffsetDateTime>,
        latest: OffsetDateTime,
    ) -> Result<u64, StoreError> {
        let name = endpoint.to_owned();
        let found = self
            .readers
            .read("look over what waits", move |connection| {
                look_over(connection, &name, keep, made_before, latest)
            })
            .await?;
        if found.late {
            let name = endpoint.to_owned();
            self.writer
                .write("make late postings due", Durability::Written, move |connection| {
                    hasten(connection, &name, latest)
                })
                .await?;
        }
        match found.last_to_go {
            Some(last) => self.clear(endpoint.to_owned(), last).await,
            None => Ok(0),
        }
    }

    async fn disable(&self, endpoint: &str, at: OffsetDateTime) -> Result<u64, StoreError> {
        let Some(url) = self.subscribers.url(endpoint) else { return Ok(0) };
        self.subscribers.set_disabled(endpoint, true);
        let name = endpoint.to_owned();
        self.writer
            .write("note that an endpoint is disabled", Durability::Synced, move |connection| {
                disable(connection, &name, &url, at)
            })
            .await?;
        self.clear(endpoint.to_owned(), u64::MAX).await
    }

    async fn disabled_since(&self, endpoint: &str) -> Result<Option<OffsetDateTime>, StoreError> {
        let Some(url) = self.subscribers.url(endpoint) else { return Ok(None) };
        let name = endpoint.to_owned();
        let since = self
            .readers
            .read("read whether an endpoint is disabled", move |connection| {
                disabled_since(connection, &name, &url)
            })
            .await?;
        if since.is_none() {
            self.subscribers.set_disabled(endpoint, false);
        }
        Ok(since)
    }

    async fn waiting(&self, endpoint: &str) -> Result<u64, StoreError> {
        let endpoint = endpoint.to_owned();
        self.readers.read("count what waits", move |connection| waiting(connection, &endpoint)).await
    }
}

impl SqliteStore {
    /// Removes the postings of an endpoint up to a number, a few at a time, and counts them.
    async fn clear(&self, endpoint: String, last: u64) -> Result<u64, StoreError> {
        let mut removed = 0;
        loop {
            let name = endpoint.clone();
            let step = self
                .writer
                .write("remove postings", Durability::Written, move |connection| {
                    clear_step(connection, &name, last)
                })
                .await?;
            removed += step;
            if step < STEP_ROWS {
                return Ok(removed);
            }
        }
    }
}

/// Makes a posting. Part of the transaction that writes the ending.
pub(super) fn make(connection: &Connection, endpoint: &str, execution: i64, at: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO postings (endpoint, execution, made_at, due_at) VALUES (?, ?, ?, ?)")?
        .execute(params![endpoint, execution, at, at])
        .map(|_| ())
}

/// Forgets who is disabled and is not subscribed there any more; returns who still is.
fn subscribe(connection: &Connection, all: &[Subscription]) -> Result<Vec<String>, Trouble> {
    let known: Vec<(String, String)> = connection
        .prepare("SELECT name, url FROM disabled_endpoints")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut disabled = Vec::new();
    for (name, url) in known {
        if all.iter().any(|one| one.endpoint == name && one.url == url) {
            disabled.push(name);
        } else {
            connection.execute("DELETE FROM disabled_endpoints WHERE name = ?", [name])?;
        }
    }
    Ok(disabled)
}

fn endpoints(connection: &Connection) -> Result<Vec<String>, Trouble> {
    let mut statement = connection.prepare("SELECT DISTINCT endpoint FROM postings")?;
    let names = statement.query_map([], |row| row.get(0))?;
    Ok(names.collect::<rusqlite::Result<_>>()?)
}

fn due(connection: &Connection, endpoint: &str, now: OffsetDateTime, limit: usize) -> Result<Due, Trouble> {
    let now = rules::bound_in_nanoseconds(now);
    let numbers: Vec<(i64, i64, i64, u32)> = connection
        .prepare_cached(
            "SELECT n, execution, made_at, attempts FROM postings WHERE endpoint = ? AND due_at <= ?
             ORDER BY due_at, n LIMIT ?",
        )?
        .query_map(params![endpoint, now, to_integer(limit as u64)], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut postings = Vec::with_capacity(numbers.len());
    for (n, execution, made_at, attempts) in numbers {
        let found = connection
            .prepare_cached(concat!("SELECT ", columns!(), " FROM executions WHERE n = ?"))?
            .query_row([execution], stored)
            .optional()?;
        // Its record goes with its postings; who reads between two steps may still miss it.
        let Some(found) = found else { continue };
        postings.push(Posting {
            n: u64::try_from(n).unwrap_or(0),
            execution: found.execution,
            made_at: rows::time(made_at),
            attempts,
        });
    }
    let next: Option<i64> = connection
        .prepare_cached("SELECT min(due_at) FROM postings WHERE endpoint = ? AND due_at > ?")?
        .query_row(params![endpoint, now], |row| row.get(0))?;
    Ok(Due { postings, next: next.map(rows::time) })
}

fn settle(connection: &Connection, n: u64, settled: Settled) -> Result<(), Trouble> {
    match settled {
        Settled::Over => {
            connection.prepare_cached("DELETE FROM postings WHERE n = ?")?.execute([to_integer(n)])?;
        }
        Settled::Again(at) => {
            let at = rules::nanoseconds("the next attempt", at)?;
            connection
                .prepare_cached("UPDATE postings SET due_at = ?, attempts = attempts + 1 WHERE n = ?")?
                .execute([at, to_integer(n)])?;
        }
    }
    Ok(())
}

/// What is wrong with what waits for an endpoint.
struct Found {
    /// Some is due only after a clock that was set back.
    late: bool,
    /// The newest that is too much or too old. What is made later has a higher number.
    last_to_go: Option<u64>,
}

fn look_over(
    connection: &Connection,
    endpoint: &str,
    keep: usize,
    made_before: Option<OffsetDateTime>,
    latest: OffsetDateTime,
) -> Result<Found, Trouble> {
    let number = |row: &Row<'_>| row.get::<_, Option<i64>>(0);
    let too_many = connection
        .prepare_cached("SELECT n FROM postings WHERE endpoint = ? ORDER BY n DESC LIMIT 1 OFFSET ?")?
        .query_row(params![endpoint, to_integer(keep as u64)], number)
        .optional()?
        .flatten();
    let too_old = match made_before {
        None => None,
        Some(before) => connection
            .prepare_cached("SELECT max(n) FROM postings WHERE endpoint = ? AND made_at < ?")?
            .query_row(params![endpoint, rules::bound_in_nanoseconds(before)], number)?,
    };
    let late = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM postings WHERE endpoint = ? AND due_at > ?)")?
        .query_row(params![endpoint, rules::bound_in_nanoseconds(latest)], |row| row.get(0))?;
    let last_to_go = too_many.max(too_old).and_then(|n| u64::try_from(n).ok());
    Ok(Found { late, last_to_go })
}

fn hasten(connection: &Connection, endpoint: &str, latest: OffsetDateTime) -> Result<(), Trouble> {
    let latest = rules::bound_in_nanoseconds(latest);
    connection
        .prepare_cached(
            "UPDATE postings SET due_at = made_at WHERE endpoint = ?1 AND due_at > ?2 AND made_at <= ?2",
        )?
        .execute(params![endpoint, latest])?;
    connection
        .prepare_cached("UPDATE postings SET due_at = ?2, made_at = ?2 WHERE endpoint = ?1 AND due_at > ?2")?
        .execute(params![endpoint, latest])?;
    Ok(())
}

fn clear_step(connection: &Connection, endpoint: &str, last: u64) -> Result<u64, Trouble> {
    let removed = connection
        .prepare_cached(
            "DELETE FROM postings WHERE n IN (SELECT n FROM postings WHERE endpoint = ? AND n <= ? LIMIT ?)",
        )?
        .execute(params![endpoint, to_integer(last), to_integer(STEP_ROWS)])?;
    Ok(removed as u64)
}

fn disable(connection: &Connection, name: &str, url: &str, at: OffsetDateTime) -> Result<(), Trouble> {
    connection.execute(
        "INSERT OR REPLACE INTO disabled_endpoints (name, url, at) VALUES (?, ?, ?)",
        params![name, url, rules::nanoseconds("the time", at)?],
    )?;
    Ok(())
}

fn disabled_since(connection: &Connection, name: &str, url: &str) -> Result<Option<OffsetDateTime>, Trouble> {
    let at: Option<i64> = connection
        .prepare_cached("SELECT at FROM disabled_endpoints WHERE name = ? AND url = ?")?
        .query_row([name, url], |row| row.get(0))
        .optional()?;
    Ok(at.map(rows::time))
}

fn waiting(connection: &Connection, endpoint: &str) -> Result<u64, Trouble> {
    Ok(connection
        .prepare_cached("SELECT count(*) FROM postings WHERE endpoint = ?")?
        .query_row([endpoint], |row| rows::count(row, 0))?)
}
