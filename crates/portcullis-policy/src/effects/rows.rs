//! Which rows of the tables a piece of work has used: for the coverage of a rulebook's tests.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::options::Given;
use super::table::{self, Opt, Table};

thread_local! {
    /// The options read on this thread since somebody wanted to know, by their place in memory: tables stay where they are.
    static USED: RefCell<Option<BTreeSet<usize>>> = const { RefCell::new(None) };
}

/// The rows of one table, which a program or one of its sub-commands has to itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rows {
    /// The program, or `program/sub-command`.
    pub table: String,
    /// How many rows it has: one for each option.
    pub all: usize,
    /// The rows that no test has used, each by the name that rules and messages use.
    pub unused: Vec<&'static str>,
}

/// Notes the options that were told apart, if somebody wants to know.
pub(super) fn note(given: &[Given<'_>]) {
    USED.with_borrow_mut(|used| {
        if let Some(used) = used {
            used.extend(given.iter().map(|given| place(given.option)));
        }
    });
}

/// Does some work, and returns which rows of these programs' tables it has not used.
pub(crate) fn unused_by<R>(work: impl FnOnce() -> R, programs: &BTreeSet<String>) -> (R, Vec<Rows>) {
    USED.set(Some(BTreeSet::new()));
    let done = work();
    let used = USED.take().unwrap_or_default();
    // Tables whose name begins with `+` behind the program are parts that others include, but for the program's own options.
    let belongs = |name: &str| {
        let (program, of) = name.split_once('/').unwrap_or((name, ""));
        programs.contains(program) && (!of.starts_with('+') || of == "+global")
    };
    let tables =
        table::names().filter(|name| belongs(name)).filter_map(|name| Some((name, table::find(name)?)));
    let rows = tables.filter_map(|(name, Table { options, .. })| {
        let unused = options.iter().filter(|option| !used.contains(&place(option)));
        let unused: Vec<_> = unused.map(Opt::canonical).collect();
        let table = name.trim_end_matches("/+global").to_owned();
        (!options.is_empty()).then_some(Rows { table, all: options.len(), unused })
    });
    (done, rows.collect())
}

fn place(option: &'static Opt) -> usize {
    std::ptr::from_ref(option).addr()
}
