//! The reading operations, each on whatever connection it is given.

use portcullis_core::{
    Execution, ExecutionId, Finder, ListPage, ListQuery, Located, OutputChunk, Place, Refusal, StoreError,
};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, params, params_from_iter};

use super::rows::{self, Stored, columns, stored, to_integer};
use super::trouble::Trouble;
use crate::cursor::Cursor;
use crate::rules;

/// Finds the row of an id.
pub(super) fn find(connection: &Connection, id: &ExecutionId) -> rusqlite::Result<Option<Stored>> {
    connection
        .prepare_cached(concat!("SELECT ", columns!(), " FROM executions WHERE id = ?"))?
        .query_row([id.as_str()], stored)
        .optional()
}

/// Finds the row of an id that must exist.
pub(super) fn known(connection: &Connection, id: &ExecutionId) -> Result<Stored, Trouble> {
    find(connection, id)?.ok_or_else(|| StoreError::Unknown(id.clone()).into())
}

/// Finds the place in the file of an execution that must exist.
fn number(connection: &Connection, id: &ExecutionId) -> Result<i64, Trouble> {
    let n: Option<i64> = connection
        .prepare_cached("SELECT n FROM executions WHERE id = ?")?
        .query_row([id.as_str()], |row| row.get(0))
        .optional()?;
    n.ok_or_else(|| StoreError::Unknown(id.clone()).into())
}

/// Reads lengths and no bytes: SQLite takes the length of a blob from the header of its row, and does not load it.
pub(super) fn locate(connection: &Connection, id: &ExecutionId, place: Place) -> Result<Located, Trouble> {
    let n = number(connection, id)?;
    let mut statement = connection.prepare_cached(
        "SELECT seq, stream, length(bytes) FROM chunks WHERE execution = ? AND seq <= ? ORDER BY seq",
    )?;
    let mut rows = statement.query(params![n, to_integer(place.last_seq)])?;
    let mut finder = Finder::new(place);
    while let Some(row) = rows.next()? {
        finder.pass(rows::count(row, 0)?, rows::stream(row, 1)?, rows::count(row, 2)?);
    }
    Ok(finder.found())
}

pub(super) fn output(
    connection: &Connection,
    id: &ExecutionId,
    after_seq: u64,
    max_bytes: usize,
) -> Result<Vec<OutputChunk>, Trouble> {
    let n = number(connection, id)?;
    let mut statement = connection.prepare_cached(
        "SELECT seq, stream, at, bytes FROM chunks WHERE execution = ? AND seq > ? ORDER BY seq",
    )?;
    let mut rows = statement.query(params![n, to_integer(after_seq)])?;
    let mut chunks = Vec::new();
    let mut bytes = 0_usize;
    while let Some(row) = rows.next()? {
        bytes = bytes.saturating_add(row.get_ref(3)?.as_blob().map_err(rusqlite::Error::from)?.len());
        if bytes > max_bytes && !chunks.is_empty() {
            break;
        }
        chunks.push(rows::chunk(row)?);
    }
    Ok(chunks)
}

pub(super) fn list(connection: &Connection, query: &ListQuery) -> Result<ListPage, Trouble> {
    let cursor = query.cursor.as_deref().map(Cursor::decode).transpose()?;
    let size = rules::page_size(query.limit);
    let (sql, values) = list_statement(query, cursor, size + 1);
    let mut executions = executions(connection, &sql, params_from_iter(values))?;
    let more = executions.len() > size;
    executions.truncate(size);
    let next = executions.last().filter(|_| more).map(|last| Cursor::behind(last).encode());
    Ok(ListPage { executions, next })
}

fn list_statement(query: &ListQuery, cursor: Option<Cursor>, limit: usize) -> (String, Vec<Value>) {
    let mut sql = String::from(concat!("SELECT ", columns!(), " FROM executions WHERE true"));
    let mut values: Vec<Value> = Vec::new();
    if let Some(owner) = &query.owner {
        sql += " AND owner = ?";
        values.push(owner.clone().into());
    }
    if let Some(status) = query.status {
        sql += " AND status = ?";
        values.push(status.as_str().to_owned().into());
    }
    if let Some(from) = query.accepted_from {
        sql += " AND accepted_at >= ?";
        values.push(rules::bound_in_nanoseconds(from).into());
    }
    if let Some(before) = query.accepted_before {
        sql += " AND accepted_at < ?";
        values.push(rules::bound_in_nanoseconds(before).into());
    }
    if let Some(program) = &query.program {
        sql += " AND EXISTS (SELECT 1 FROM json_each(programs) WHERE value = ?)";
        values.push(program.clone().into());
    }
    if let Some(cursor) = cursor {
        sql += " AND (accepted_at, id) < (?, ?)";
        values.push(cursor.accepted_at.into());
        values.push(cursor.id.into());
    }
    sql += " ORDER BY accepted_at DESC, id DESC LIMIT ?";
    values.push(to_integer(limit as u64).into());
    (sql, values)
}

pub(super) fn refusals(connection: &Connection, limit: usize) -> Result<Vec<Refusal>, Trouble> {
    let mut statement = connection.prepare_cached(
        "SELECT at, principal, principal_name, execution_id, command, denial, provenance FROM refusals
         ORDER BY n DESC LIMIT ?",
    )?;
    let refusals = statement.query_map([to_integer(limit as u64)], rows::refusal)?;
    Ok(refusals.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn undelivered(connection: &Connection, limit: usize) -> Result<Vec<Execution>, Trouble> {
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM executions WHERE delivery = 'undelivered' AND ended_at IS NOT NULL ORDER BY ended_at, id LIMIT ?"
    );
    Ok(executions(connection, sql, [to_integer(limit as u64)])?)
}

/// Counts what has ended, by its index alone.
pub(super) fn count_ended(connection: &Connection) -> Result<u64, Trouble> {
    Ok(connection
        .prepare_cached("SELECT count(*) FROM executions WHERE ended_at IS NOT NULL")?
        .query_row([], |row| rows::count(row, 0))?)
}

/// Whether something with this mark was removed.
pub(super) fn is_marked(connection: &Connection, mark: i64) -> Result<bool, Trouble> {
    Ok(connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM expired WHERE mark = ?)")?
        .query_row([mark], |row| row.get(0))?)
}

fn executions(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
) -> rusqlite::Result<Vec<Execution>> {
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_map(parameters, |row| stored(row).map(|stored| stored.execution))?.collect()
}

#[cfg(test)]
mod tests {
    use portcullis_core::Status;
    use time::macros::datetime;

    use super::*;
    use crate::sqlite::schema;

    /// Returns how SQLite goes about a statement, without looking at any data.
    fn plan(sql: &str, values: Vec<Value>) -> String {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection, schema::MIGRATIONS).unwrap();
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = statement.query_map(params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
        steps.map(Result::unwrap).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn every_list_follows_an_index_from_its_newest_record_without_sorting() {
        let cursor = Cursor { accepted_at: 5, id: "a".into() };
        let all = ListQuery {
            status: Some(Status::Lost),
            accepted_from: Some(datetime!(2026-01-01 0:00 UTC)),
            accepted_before: Some(datetime!(2026-02-01 0:00 UTC)),
            program: Some("ls".into()),
            ..ListQuery::default()
        };
        let owned = ListQuery { owner: Some("u-1".into()), ..ListQuery::default() };
        for (query, cursor, wanted) in [
            (ListQuery::default(), None, "SCAN executions USING INDEX executions_by_acceptance"),
            (
                ListQuery::default(),
                Some(cursor.clone()),
                "SEARCH executions USING INDEX executions_by_acceptance",
            ),
            (all.clone(), Some(cursor.clone()), "SEARCH executions USING INDEX executions_by_acceptance"),
            (owned.clone(), None, "SEARCH executions USING INDEX executions_by_owner (owner=?)"),
            (
                owned.clone(),
                Some(cursor.clone()),
                "SEARCH executions USING INDEX executions_by_owner (owner=? AND",
            ),
            (
                ListQuery { owner: owned.owner, ..all },
                Some(cursor),
                "executions_by_owner (owner=? AND accepted_at>?",
            ),
        ] {
            let (sql, values) = list_statement(&query, cursor, 10);
            let plan = plan(&sql, values);
            assert!(plan.contains(wanted) && !plan.contains("TEMP B-TREE"), "{sql}: {plan}");
        }
    }

    #[test]
    fn what_waits_is_found_without_looking_at_what_is_settled() {
        for condition in ["IS NULL", "IS NOT NULL"] {
            let sql = format!(
                "SELECT n FROM executions WHERE delivery = 'undelivered' AND ended_at {condition}
                 ORDER BY ended_at, id LIMIT 1"
            );
            let plan = plan(&sql, Vec::new());
            assert!(plan.contains("executions_unsettled") && !plan.contains("TEMP B-TREE"), "{plan}");
        }
    }
}
