//! How much of the disk the records take, and the way back for what they take no longer.

use rusqlite::Connection;

use super::trouble::Trouble;

/// Free pages that are always kept, for what is written next: 4 MiB.
const KEPT_PAGES: u64 = 1_024;
/// Beyond these, a part of the file that may be free; above it, room is given back.
const KEPT_PART: u64 = 8;
/// Pages that one step gives back: half a MiB.
const STEP_PAGES: u64 = 128;

/// Returns the bytes of pages that hold something.
pub(super) fn taken(connection: &Connection) -> Result<u64, Trouble> {
    let pages = pragma(connection, "page_count")?.saturating_sub(pragma(connection, "freelist_count")?);
    Ok(pages * pragma(connection, "page_size")?)
}

/// Gives some of the free pages back to the file system; returns whether there are more to give.
///
/// Pages of the file's end are moved into free ones (sqlite.org/pragma.html#pragma_incremental_vacuum). A file that was
/// made without that ability, by hand, stays as it is.
pub(super) fn give_back(connection: &Connection) -> Result<bool, Trouble> {
    let (all, free) = (pragma(connection, "page_count")?, pragma(connection, "freelist_count")?);
    let kept = KEPT_PAGES.max(all / KEPT_PART);
    if free <= kept || pragma(connection, "auto_vacuum")? != 2 {
        return Ok(false);
    }
    let step = STEP_PAGES.min(free - kept);
    // Each of its rows, which are empty, stands for one page.
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({step})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(free - step > kept)
}

fn pragma(connection: &Connection, name: &str) -> Result<u64, Trouble> {
    let value: i64 = connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))?;
    Ok(u64::try_from(value).unwrap_or(0))
}
