//! How an execution begins and ends.

use std::sync::Arc;
use std::time::Duration;

use portcullis_core::{
    Acceptance, Claim, Confinement, Delivery, Ending, ExecutionStore, Fingerprint, Finish, Level, Limits,
    NewExecution, Reason, Start, Status,
};
use time::macros::{datetime, offset};

use super::{
    START, accept, after, assert_refused, assert_unknown, chunk, completed, confinement, id, new, provenance,
};

/// A record is what it was made of, `scheduled`, without output or ending.
pub async fn an_accepted_execution_is_read_back_as_it_was(store: Arc<dyn ExecutionStore>) {
    let new = NewExecution { provenance: provenance(), ..new("a") };
    let execution = accept(&*store, new.clone()).await;
    assert_eq!(store.read(&id("a")).await.unwrap().as_ref(), Some(&execution));
    let back = NewExecution {
        start: None,
        id: execution.id,
        owner: execution.owner,
        owner_name: execution.owner_name,
        command: execution.command,
        fingerprint: execution.fingerprint,
        programs: execution.programs,
        rules: execution.rules,
        limits: execution.limits,
        accepted_at: execution.accepted_at,
        provenance: execution.provenance,
    };
    assert_eq!(back, new);
    assert_eq!(execution.status, Status::Scheduled);
    assert_eq!((execution.started_at, execution.confinement, execution.ending), (None, None, None));
    assert_eq!((execution.last_seq, execution.output_bytes), (0, 0));
}

/// Idempotence: whoever repeats a submission finds the first one, wherever it is by now.
pub async fn the_same_submission_again_gives_the_record_as_it_is_now(store: Arc<dyn ExecutionStore>) {
    let first = accept(&*store, new("a")).await;
    let again = || store.accept(NewExecution { accepted_at: after(9), ..new("a") });
    assert_eq!(again().await.unwrap(), Acceptance::Same(Box::new(first)));
    store.claim(&id("a"), after(1), &confinement()).await.unwrap();
    store.append(&id("a"), vec![chunk(1, b"x")]).await.unwrap();
    store.finish(&id("a"), completed(after(2))).await.unwrap();
    let now = store.read(&id("a")).await.unwrap().unwrap();
    assert_eq!(again().await.unwrap(), Acceptance::Same(Box::new(now)));
}

/// Another principal, or another submission of the same one; the record stays as it was.
pub async fn an_id_that_belongs_to_something_else_is_taken(store: Arc<dyn ExecutionStore>) {
    let first = accept(&*store, new("a")).await;
    for other in [
        NewExecution { owner: "u-2".into(), ..new("a") },
        NewExecution { fingerprint: Fingerprint([8; 32]), ..new("a") },
    ] {
        assert_eq!(store.accept(other).await.unwrap(), Acceptance::Taken);
    }
    assert_eq!(store.read(&id("a")).await.unwrap(), Some(first));
    // Ids are told apart byte for byte.
    accept(&*store, NewExecution { owner: "u-2".into(), ..new("A") }).await;
}

/// 100 at once: one is new, 99 are the same.
pub async fn of_many_equal_submissions_at_once_one_is_new(store: Arc<dyn ExecutionStore>) {
    let mut calls = Vec::new();
    for _ in 0..100 {
        let store = Arc::clone(&store);
        calls.push(tokio::spawn(async move { store.accept(new("a")).await.unwrap() }));
    }
    let mut firsts = 0;
    for call in calls {
        match call.await.unwrap() {
            Acceptance::New(_) => firsts += 1,
            Acceptance::Same(execution) => assert_eq!(execution.status, Status::Scheduled),
            Acceptance::Taken => panic!("taken by itself"),
        }
    }
    assert_eq!(firsts, 1);
}

/// Accepted a second time it is the same execution, and not claimed a second time.
pub async fn an_execution_that_starts_at_once_is_accepted_and_claimed_in_one(store: Arc<dyn ExecutionStore>) {
    let start = Start { at: after(1), confinement: confinement() };
    let at_once = || NewExecution { start: Some(start.clone()), ..new("a") };
    let accepted = accept(&*store, at_once()).await;
    assert_eq!((accepted.status, accepted.started_at), (Status::Running, Some(after(1))));
    assert_eq!(accepted.confinement, Some(confinement()));
    assert_eq!(store.read(&id("a")).await.unwrap(), Some(accepted.clone()));
    let again = store.accept(at_once()).await.unwrap();
    assert_eq!(again, Acceptance::Same(Box::new(accepted.clone())));
    let claim = store.claim(&id("a"), after(2), &confinement()).await.unwrap();
    assert_eq!(claim, Claim::Refused(Box::new(accepted)));
    // One that waits is not claimed by being submitted again.
    let waiting = accept(&*store, new("b")).await;
    let again = store.accept(NewExecution { start: Some(start), ..new("b") }).await.unwrap();
    assert_eq!(again, Acceptance::Same(Box::new(waiting)));
    // What had started may have run; what had not, never did.
    let recovery = store.recover(after(9)).await.unwrap();
    assert_eq!((recovery.lost, recovery.interrupted), (vec![id("a")], vec![id("b")]));
}

/// The second claim is told the record that stands.
pub async fn an_execution_is_claimed_once(store: Arc<dyn ExecutionStore>) {
    accept(&*store, new("a")).await;
    let Claim::Claimed(claimed) = store.claim(&id("a"), after(1), &confinement()).await.unwrap() else {
        panic!("the first claim is refused")
    };
    assert_eq!(claimed.status, Status::Running);
    assert_eq!(claimed.started_at, Some(after(1)));
    assert_eq!(claimed.confinement, Some(confinement()));
    let other = Confinement { level: Level::Full, landlock_abi: None, cgroup: None, weaker: Vec::new() };
    let second = store.claim(&id("a"), after(2), &other).await.unwrap();
    assert_eq!(second, Claim::Refused(claimed.clone()));
    assert_eq!(store.read(&id("a")).await.unwrap(), Some(*claimed));
}

/// 100 at once: one is ours to run.
pub async fn of_many_claims_at_once_one_wins(store: Arc<dyn ExecutionStore>) {
    accept(&*store, new("a")).await;
    let mut calls = Vec::new();
    for n in 0..100 {
        let store = Arc::clone(&store);
        calls.push(tokio::spawn(
            async move { store.claim(&id("a"), after(n), &confinement()).await.unwrap() },
        ));
    }
    let mut records = Vec::new();
    let mut wins = 0;
    for call in calls {
        match call.await.unwrap() {
            Claim::Claimed(execution) => {
                wins += 1;
                records.push(execution);
            }
            Claim::Refused(execution) => records.push(execution),
        }
    }
    assert_eq!(wins, 1);
    assert!(records.iter().all(|record| *record == records[0]), "claims were told different starts");
}

/// INVARIANT (one end): 100 at once, each with an ending of its own; all are told the one that stands.
pub async fn of_many_endings_at_once_one_is_written(store: Arc<dyn ExecutionStore>) {
    accept(&*store, new("a")).await;
    store.claim(&id("a"), after(1), &confinement()).await.unwrap();
    let mut calls = Vec::new();
    for n in 0..100 {
        let store = Arc::clone(&store);
        let ending = Ending { exit_code: Some(n), status: Status::Failed, ..completed(after(2)) };
        calls.push(tokio::spawn(async move { store.finish(&id("a"), ending).await.unwrap() }));
    }
    let mut written = 0;
    let mut told = Vec::new();
    for call in calls {
        match call.await.unwrap() {
            Finish::Written(execution) => {
                written += 1;
                told.push(execution);
            }
            Finish::AlreadyEnded(execution) => told.push(execution),
        }
    }
    let stands = store.read(&id("a")).await.unwrap().unwrap();
    assert_eq!(written, 1);
    assert!(told.iter().all(|record| **record == stands), "some were told another ending");
}

/// Every member, present and absent; every status and reason.
pub async fn an_ending_comes_back_as_it_was(store: Arc<dyn ExecutionStore>) {
    use Status::{Cancelled, Completed, Failed, Lost, Timeout};
    let statuses = [Completed, Failed, Cancelled, Timeout, Lost];
    for (n, reason) in Reason::ALL.into_iter().enumerate() {
        let name = format!("a{n}");
        let full = Ending {
            status: statuses[n % statuses.len()],
            reason,
            signal: Some(9),
            exit_code: Some(i32::MIN),
            truncated: true,
            message: Some("ended\0 \u{1F6D1} 'so'".into()),
            ..completed(after(2))
        };
        let ending = if n.is_multiple_of(2) {
            full
        } else {
            Ending { signal: None, exit_code: None, usage: None, message: None, truncated: false, ..full }
        };
        accept(&*store, new(&name)).await;
        let Finish::Written(execution) = store.finish(&id(&name), ending.clone()).await.unwrap() else {
            panic!("it had ended already")
        };
        assert_eq!(execution.ending, Some(ending.clone()));
        assert_eq!(execution.status, ending.status);
        assert_eq!(store.read(&id(&name)).await.unwrap(), Some(*execution));
    }
}

/// As when it is cancelled while it waits.
pub async fn an_execution_that_ended_before_its_start_is_never_claimed(store: Arc<dyn ExecutionStore>) {
    accept(&*store, new("a")).await;
    let cancelled = Ending { status: Status::Cancelled, reason: Reason::Cancelled, ..completed(after(1)) };
    store.finish(&id("a"), cancelled).await.unwrap();
    let Claim::Refused(execution) = store.claim(&id("a"), after(2), &confinement()).await.unwrap() else {
        panic!("it was claimed")
    };
    assert_eq!((execution.status, execution.started_at), (Status::Cancelled, None));
}

/// `running` is no end.
pub async fn a_status_that_is_not_terminal_ends_nothing(store: Arc<dyn ExecutionStore>) {
    accept(&*store, new("a")).await;
    for status in [Status::Scheduled, Status::Running] {
        assert_refused(store.finish(&id("a"), Ending { status, ..completed(after(1)) }).await);
    }
    assert_eq!(store.read(&id("a")).await.unwrap().unwrap().ending, None);
}

/// Reading answers `None`; everything else says that there is no such execution.
pub async fn what_is_not_stored_is_unknown_to_every_call(store: Arc<dyn ExecutionStore>) {
    accept(&*store, new("a")).await;
    let b = id("b");
    assert_eq!(store.read(&b).await.unwrap(), None);
    assert_unknown(store.claim(&b, after(1), &confinement()).await);
    assert_unknown(store.append(&b, vec![chunk(1, b"x")]).await);
    assert_unknown(store.append(&b, Vec::new()).await);
    assert_unknown(store.finish(&b, completed(after(1))).await);
    assert_unknown(store.output(&b, 0, 1).await);
    assert_unknown(store.delivered(&b, Delivery::Delivered).await);
}

/// In every place of a record; a time with an offset comes back as the same instant.
pub async fn times_are_kept_to_the_nanosecond(store: Arc<dyn ExecutionStore>) {
    let times = [
        datetime!(1969-12-31 23:59:59.999999999 UTC),
        datetime!(2026-02-28 23:59:59.000000001 +14:00),
        datetime!(2262-04-11 23:47:16.854775807 UTC),
        datetime!(1677-09-21 00:12:43.145224192 UTC),
    ];
    for (n, at) in times.into_iter().enumerate() {
        let name = id(&format!("a{n}"));
        accept(&*store, NewExecution { accepted_at: at, ..new(name.as_str()) }).await;
        store.claim(&name, at, &confinement()).await.unwrap();
        store.append(&name, vec![portcullis_core::OutputChunk { at, ..chunk(1, b"x") }]).await.unwrap();
        store.finish(&name, completed(at)).await.unwrap();
        let execution = store.read(&name).await.unwrap().unwrap();
        assert_eq!(execution.accepted_at, at);
        assert_eq!(execution.accepted_at.offset(), offset!(UTC));
        assert_eq!(execution.started_at, Some(at));
        assert_eq!(execution.ending.unwrap().ended_at, at);
        assert_eq!(store.output(&name, 0, 1).await.unwrap()[0].at, at);
    }
}

/// Rather than kept as another one.
pub async fn a_time_that_cannot_be_kept_is_refused_and_leaves_nothing(store: Arc<dyn ExecutionStore>) {
    let far = datetime!(9999-01-01 0:00 UTC);
    assert_refused(store.accept(NewExecution { accepted_at: far, ..new("a") }).await);
    assert_eq!(store.read(&id("a")).await.unwrap(), None);
    let execution = accept(&*store, new("a")).await;
    assert_refused(store.claim(&id("a"), far, &confinement()).await);
    let late = portcullis_core::OutputChunk { at: far, ..chunk(2, b"y") };
    assert_refused(store.append(&id("a"), vec![chunk(1, b"x"), late]).await);
    assert_refused(store.finish(&id("a"), completed(far)).await);
    assert_refused(store.refuse(super::refusal("x", far)).await);
    assert_eq!(store.read(&id("a")).await.unwrap(), Some(execution));
    assert_eq!(store.refusals(1).await.unwrap(), []);
}

/// NUL, quotes, line ends, code points of every length, nothing at all; and the ends of every number.
pub async fn texts_are_kept_whatever_they_hold(store: Arc<dyn ExecutionStore>) {
    let long = "\u{10FFFF}".repeat(50_000);
    for (n, text) in ["", "\0", "a\0b", "'; DROP TABLE executions; --", "\r\n\t\"\\", "é\u{2028}🦀", &long]
        .into_iter()
        .enumerate()
    {
        let new = NewExecution {
            owner: text.into(),
            owner_name: text.into(),
            command: text.into(),
            programs: vec![text.into(), String::new()],
            rules: vec![text.into(); 3],
            limits: Limits {
                wall_time: Duration::MAX,
                cpu_time: Duration::ZERO,
                memory_bytes: u64::MAX,
                processes: u32::MAX,
                open_files: 0,
                file_size_bytes: 0,
                disk_bytes: u64::MAX,
                output_bytes: u64::MAX,
                grace_period: Duration::new(0, 999_999_999),
            },
            accepted_at: START,
            ..new(&format!("a{n}"))
        };
        let accepted = accept(&*store, new.clone()).await;
        let read = store.read(&new.id).await.unwrap().unwrap();
        assert_eq!(read, accepted);
        assert_eq!((read.owner, read.owner_name, read.command), (new.owner, new.owner_name, new.command));
        assert_eq!((read.programs, read.rules, read.limits), (new.programs, new.rules, new.limits));
    }
}
