//! Both stores answer alike, whatever is asked of them in whatever order.

use std::fmt::Debug;

use portcullis_core::{
    Closing, Delivery, Ending, ExecutionStore, Fingerprint, ListQuery, NewExecution, OutputChunk, Reason,
    Start, Status,
};
use proptest::prelude::*;
use tempfile::TempDir;

use super::open;
use crate::conformance::{after, chunk, completed, confinement, id, new, refusal};
use crate::{MemoryStore, SqliteStore};

const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Ask {
    Accept { name: &'static str, owner: u8, print: u8, at: u64, starts: bool },
    Claim { name: &'static str, at: u64 },
    Append { name: &'static str, seqs: Vec<u64>, bytes: usize },
    Close { name: &'static str, status: Status, at: u64, seqs: Vec<u64>, delivery: Option<Delivery> },
    Output { name: &'static str, after_seq: u64, max_bytes: usize },
    List { query: ListQuery },
    NextPage,
    Delivered { name: &'static str, delivery: Delivery },
    Undelivered { limit: usize },
    Refuse { at: u64 },
    Recover { at: u64 },
    Expire { before: u64 },
    Reopen,
}

fn ask() -> impl Strategy<Value = Ask> {
    let name = || prop::sample::select(&NAMES);
    let at = || 0_u64..20;
    let status = || {
        prop::sample::select(vec![
            Status::Scheduled,
            Status::Running,
            Status::Completed,
            Status::Failed,
            Status::Cancelled,
            Status::Timeout,
            Status::Lost,
        ])
    };
    let delivery = || prop::sample::select(vec![Delivery::Delivered, Delivery::GivenUp]);
    let query = (
        prop::option::of(0_u8..2),
        prop::option::of(status()),
        prop::option::of(at()),
        prop::option::of(at()),
        prop::option::of(prop::sample::select(vec!["echo", "cat", "ls"])),
        0_usize..4,
    )
        .prop_map(|(owner, status, from, before, program, limit)| ListQuery {
            owner: owner.map(|owner| format!("u-{owner}")),
            status,
            accepted_from: from.map(after),
            accepted_before: before.map(after),
            program: program.map(Into::into),
            limit,
            cursor: None,
        });
    prop_oneof![
        6 => (name(), 0_u8..2, 0_u8..2, at(), any::<bool>())
            .prop_map(|(name, owner, print, at, starts)| Ask::Accept { name, owner, print, at, starts }),
        3 => (name(), at()).prop_map(|(name, at)| Ask::Claim { name, at }),
        4 => (name(), prop::collection::vec(0_u64..6, 0..4), 0_usize..3)
            .prop_map(|(name, seqs, bytes)| Ask::Append { name, seqs, bytes }),
        4 => (name(), 1_u64..6, 1_usize..3)
            .prop_map(|(name, last, bytes)| Ask::Append { name, seqs: (1..=last).collect(), bytes }),
        2 => (name(), status(), at())
            .prop_map(|(name, status, at)| Ask::Close { name, status, at, seqs: vec![], delivery: None }),
        3 => (name(), status(), at(), prop::collection::vec(0_u64..6, 0..4), prop::option::of(delivery()))
            .prop_map(|(name, status, at, seqs, delivery)| Ask::Close { name, status, at, seqs, delivery }),
        2 => (name(), 0_u64..6, 0_usize..9)
            .prop_map(|(name, after_seq, max_bytes)| Ask::Output { name, after_seq, max_bytes }),
        2 => query.prop_map(|query| Ask::List { query }),
        2 => Just(Ask::NextPage),
        2 => (name(), delivery())
            .prop_map(|(name, delivery)| Ask::Delivered { name, delivery }),
        2 => (0_usize..4).prop_map(|limit| Ask::Undelivered { limit }),
        1 => at().prop_map(|at| Ask::Refuse { at }),
        1 => at().prop_map(|at| Ask::Recover { at }),
        1 => at().prop_map(|before| Ask::Expire { before }),
        1 => Just(Ask::Reopen),
    ]
}

fn text(answer: impl Debug) -> String {
    format!("{answer:?}")
}

/// Asks one store. `page` is the list that was asked for last, with the cursor behind what was answered.
async fn answer(store: &dyn ExecutionStore, ask: &Ask, page: &mut ListQuery) -> String {
    match ask.clone() {
        Ask::Accept { name, owner, print, at, starts } => {
            let new = NewExecution {
                owner: format!("u-{owner}"),
                fingerprint: Fingerprint([print; 32]),
                accepted_at: after(at),
                start: starts.then(|| Start { at: after(at), confinement: confinement() }),
                ..new(name)
            };
            text(store.accept(new).await)
        }
        Ask::Claim { name, at } => text(store.claim(&id(name), after(at), &confinement()).await),
        Ask::Append { name, seqs, bytes } => {
            let chunks: Vec<OutputChunk> = seqs.iter().map(|&seq| chunk(seq, &b"xyz"[..bytes])).collect();
            text(store.append(&id(name), chunks).await)
        }
        Ask::Close { name, status, at, seqs, delivery } => {
            let ending = Ending { status, reason: Reason::Signal, ..completed(after(at)) };
            let output = seqs.iter().map(|&seq| chunk(seq, b"z")).collect();
            text(store.close(&id(name), Closing { ending, output, delivery }).await)
        }
        Ask::Output { name, after_seq, max_bytes } => {
            text(store.output(&id(name), after_seq, max_bytes).await)
        }
        Ask::List { query } => {
            *page = query;
            list(store, page).await
        }
        Ask::NextPage => list(store, page).await,
        Ask::Delivered { name, delivery } => text(store.delivered(&id(name), delivery).await),
        Ask::Undelivered { limit } => text(store.undelivered(limit).await),
        Ask::Refuse { at } => text(store.refuse(refusal("cat /etc/passwd", after(at))).await),
        Ask::Recover { at } => text(store.recover(after(at)).await),
        Ask::Expire { before } => text(store.expire(after(before)).await),
        Ask::Reopen => String::new(),
    }
}

async fn list(store: &dyn ExecutionStore, page: &mut ListQuery) -> String {
    let listed = store.list(page).await;
    page.cursor = listed.as_ref().ok().and_then(|page| page.next.clone());
    text(listed)
}

/// Everything that can be read.
async fn whole(store: &dyn ExecutionStore) -> String {
    let everything = ListQuery { limit: 100, ..ListQuery::default() };
    let mut whole = vec![
        text(store.list(&everything).await),
        text(store.undelivered(100).await),
        text(store.refusals(100).await),
    ];
    for name in NAMES {
        whole.push(text(store.read(&id(name)).await));
        whole.push(text(store.output(&id(name), 0, usize::MAX).await));
    }
    whole.join("\n")
}

async fn compare(asks: &[Ask]) -> Result<(), TestCaseError> {
    let directory: TempDir = tempfile::tempdir().unwrap();
    let memory = MemoryStore::new();
    let mut sqlite: SqliteStore = open(&directory);
    let (mut page_of_memory, mut page_of_sqlite) = (ListQuery::default(), ListQuery::default());
    for ask in asks {
        if matches!(ask, Ask::Reopen) {
            drop(sqlite);
            sqlite = open(&directory);
        }
        let wanted = answer(&memory, ask, &mut page_of_memory).await;
        prop_assert!(!wanted.contains("Unavailable"), "{ask:?}: {wanted}");
        prop_assert_eq!(answer(&sqlite, ask, &mut page_of_sqlite).await, wanted, "{:?}", ask);
    }
    prop_assert_eq!(whole(&sqlite).await, whole(&memory).await);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_and_sqlite_answer_alike(asks in prop::collection::vec(ask(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(compare(&asks))?;
    }
}
