//! Lists of executions.

use std::sync::Arc;

use portcullis_core::{ExecutionStore, ListQuery, NewExecution, Status};
use time::macros::datetime;

use super::{START, accept, after, assert_refused, completed, confinement, id, new};

async fn page(store: &dyn ExecutionStore, query: &ListQuery) -> (Vec<String>, Option<String>) {
    let page = store.list(query).await.unwrap();
    (page.executions.iter().map(|execution| execution.id.to_string()).collect(), page.next)
}

/// Reads every page and checks that each but the last is full.
async fn all_pages(store: &dyn ExecutionStore, query: ListQuery) -> Vec<String> {
    let mut query = query;
    let mut all = Vec::new();
    loop {
        let (names, next) = page(store, &query).await;
        all.extend(names.clone());
        if next.is_none() {
            return all;
        }
        assert_eq!(names.len(), query.limit);
        assert!(all.len() < 100, "the pages do not end: {all:?}");
        query.cursor = next;
    }
}

/// By the time of acceptance, then by id; whole records; an empty store has an empty page.
pub async fn lists_are_newest_first(store: Arc<dyn ExecutionStore>) {
    let query = ListQuery { limit: 10, ..ListQuery::default() };
    assert_eq!(page(&*store, &query).await, (vec![], None));
    for (name, seconds) in [("b", 5), ("a", 5), ("d", 1), ("c", 9)] {
        accept(&*store, NewExecution { accepted_at: after(seconds), ..new(name) }).await;
    }
    let names = ["c", "b", "a", "d"].map(String::from).to_vec();
    assert_eq!(page(&*store, &query).await, (names, None));
    store.claim(&id("c"), after(10), &confinement()).await.unwrap();
    store.finish(&id("c"), completed(after(11))).await.unwrap();
    let listed = store.list(&query).await.unwrap().executions;
    assert_eq!(Some(&listed[0]), store.read(&id("c")).await.unwrap().as_ref());
}

/// For every size of a page, with many records of one instant.
pub async fn pages_follow_each_other_without_gap_or_repetition(store: Arc<dyn ExecutionStore>) {
    for n in 0..20 {
        let accepted_at = if n < 12 { START } else { after(n) };
        accept(&*store, NewExecution { accepted_at, ..new(&format!("a{n:02}")) }).await;
    }
    let wanted: Vec<String> = (0..20).rev().map(|n| format!("a{n:02}")).collect();
    for limit in [1, 2, 3, 7, 19, 20, 21, usize::MAX] {
        let query = ListQuery { limit, ..ListQuery::default() };
        assert_eq!(all_pages(&*store, query).await, wanted, "{limit}");
    }
}

/// Who pages sees what there was.
pub async fn a_newer_record_does_not_move_the_next_page(store: Arc<dyn ExecutionStore>) {
    for n in 0..4 {
        accept(&*store, NewExecution { accepted_at: after(n), ..new(&format!("a{n}")) }).await;
    }
    let query = ListQuery { limit: 2, ..ListQuery::default() };
    let (first, cursor) = page(&*store, &query).await;
    accept(&*store, NewExecution { accepted_at: after(9), ..new("b") }).await;
    let (second, end) = page(&*store, &ListQuery { cursor, ..query }).await;
    assert_eq!((first, second, end), (vec!["a3".into(), "a2".into()], vec!["a1".into(), "a0".into()], None));
}

/// One by one, and together.
pub async fn each_filter_lists_what_it_names_and_nothing_else(store: Arc<dyn ExecutionStore>) {
    let accept = |name: &'static str, owner: &str, seconds, programs: &[&str]| {
        let new = NewExecution {
            owner: owner.into(),
            accepted_at: after(seconds),
            programs: programs.iter().map(|&program| program.into()).collect(),
            ..new(name)
        };
        let store = Arc::clone(&store);
        async move { store.accept(new).await.unwrap() }
    };
    accept("a", "u-1", 1, &["ls"]).await;
    accept("b", "u-1", 2, &["ls", "grep"]).await;
    accept("c", "u-2", 3, &["grep"]).await;
    accept("d", "u-2", 4, &["l\"s", "lsof"]).await;
    store.claim(&id("b"), after(5), &confinement()).await.unwrap();
    store.finish(&id("c"), completed(after(6))).await.unwrap();

    let all = ListQuery { limit: 10, ..ListQuery::default() };
    let owner = |owner: &str| ListQuery { owner: Some(owner.into()), ..all.clone() };
    let status = |status| ListQuery { status: Some(status), ..all.clone() };
    let program = |program: &str| ListQuery { program: Some(program.into()), ..all.clone() };
    let from = |time| ListQuery { accepted_from: Some(time), ..all.clone() };
    let before = |time| ListQuery { accepted_before: Some(time), ..all.clone() };
    for (query, wanted) in [
        (owner("u-1"), "b a"),
        (owner("u-2"), "d c"),
        (owner("u-"), ""),
        (owner("U-1"), ""),
        (status(Status::Scheduled), "d a"),
        (status(Status::Running), "b"),
        (status(Status::Completed), "c"),
        (status(Status::Lost), ""),
        (program("ls"), "b a"),
        (program("grep"), "c b"),
        (program("l\"s"), "d"),
        (program("%"), ""),
        (program(""), ""),
        (from(after(3)), "d c"),
        (before(after(3)), "b a"),
        (from(datetime!(9999-01-01 0:00 UTC)), ""),
        (before(datetime!(9999-01-01 0:00 UTC)), "d c b a"),
        (from(datetime!(0001-01-01 0:00 UTC)), "d c b a"),
        (ListQuery { accepted_before: Some(after(4)), ..from(after(2)) }, "c b"),
        (ListQuery { program: Some("grep".into()), ..owner("u-2") }, "c"),
        (ListQuery { status: Some(Status::Completed), ..owner("u-1") }, ""),
    ] {
        assert_eq!(page(&*store, &query).await.0.join(" "), wanted, "{query:?}");
    }
}

/// A page is filled with what matches, however much lies between.
pub async fn filters_hold_across_pages(store: Arc<dyn ExecutionStore>) {
    for n in 0..30 {
        let owner = if n % 3 == 0 { "u-1" } else { "u-2" };
        let programs = if n % 5 == 0 { vec!["ls".into()] } else { vec!["cat".into()] };
        let new = NewExecution { owner: owner.into(), programs, ..new(&format!("a{n:02}")) };
        accept(&*store, NewExecution { accepted_at: after(n / 4), ..new }).await;
    }
    let query = ListQuery { owner: Some("u-1".into()), limit: 3, ..ListQuery::default() };
    let wanted: Vec<String> = (0..30).rev().filter(|n| n % 3 == 0).map(|n| format!("a{n:02}")).collect();
    assert_eq!(all_pages(&*store, query).await, wanted);
    let query = ListQuery { program: Some("ls".into()), limit: 2, ..ListQuery::default() };
    let wanted: Vec<String> = (0..30).rev().filter(|n| n % 5 == 0).map(|n| format!("a{n:02}")).collect();
    assert_eq!(all_pages(&*store, query).await, wanted);
}

/// It comes from a caller.
pub async fn a_cursor_that_no_page_gave_is_refused(store: Arc<dyn ExecutionStore>) {
    accept(&*store, new("a")).await;
    for cursor in ["", "a", "0", "' OR 1", "\0", "0000000000000000.\0", "🦀🦀🦀🦀.a", &"9".repeat(1_000)]
    {
        let query = ListQuery { cursor: Some(cursor.into()), limit: 1, ..ListQuery::default() };
        assert_refused(store.list(&query).await);
    }
}

/// A page without a record would say that there is none.
pub async fn a_limit_of_zero_counts_as_one(store: Arc<dyn ExecutionStore>) {
    accept(&*store, new("a")).await;
    accept(&*store, new("b")).await;
    let (names, next) = page(&*store, &ListQuery::default()).await;
    assert_eq!(names, ["b"]);
    let (names, next) = page(&*store, &ListQuery { cursor: next, ..ListQuery::default() }).await;
    assert_eq!((names, next), (vec!["a".into()], None));
}
