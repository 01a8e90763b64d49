//! What is accepted, what is not, and in which order it runs.

use std::sync::Arc;

use async_trait::async_trait;
use mockall::mock;
use portcullis_core::*;
use time::OffsetDateTime;

use super::doubles::*;
use crate::{Config, Engine, Parts, SubmitError, Submitted};

mock! {
    Launcher {}
    #[async_trait]
    impl Launcher for Launcher {
        async fn launch(
            &self,
            permit: Permit,
            observer: Arc<dyn ExecutionObserver>,
        ) -> Result<Outcome, LaunchError>;
        fn capacity(&self) -> usize;
    }
}

mock! {
    Notifier {}
    #[async_trait]
    impl Notifier for Notifier {
        fn announce(&self, update: Update);
        async fn conclude(&self, update: Update) -> Result<(), NotifyError>;
    }
}

#[tokio::test(start_paused = true)]
async fn denied_command_line_never_reaches_the_launcher_and_leaves_an_audit_record() {
    let mut launcher = MockLauncher::new();
    launcher.expect_launch().never();
    let mut notifier = MockNotifier::new();
    notifier.expect_announce().never();
    notifier.expect_conclude().never();
    let store = FaultyStore::new(&Journal::default());
    let engine = Engine::start(
        Parts {
            policy: Arc::new(AllButRm),
            launcher: Arc::new(launcher),
            store: store.clone(),
            notifier: Arc::new(notifier),
        },
        Config::default(),
    )
    .await
    .unwrap();

    let answer = engine.submit(&ann(), Some(id("x")), Submission::of("rm -rf /")).await;

    let Err(SubmitError::Denied(denial)) = answer else { panic!("{answer:?}") };
    let refusals = store.inner.refusals(9).await.unwrap();
    let [refusal] = refusals.as_slice() else { panic!("{refusals:?}") };
    assert_eq!((refusal.principal_name.as_str(), refusal.command.as_str()), ("ann", "rm -rf /"));
    assert_eq!((&refusal.denial, &refusal.execution_id), (&*denial, &Some(id("x"))));
    assert_eq!(store.inner.read(&id("x")).await.unwrap(), None);
    assert_eq!(engine.stats().denied["program/not-allowed"], 1);
}

#[tokio::test(start_paused = true)]
async fn refusal_that_cannot_be_recorded_is_an_error_and_runs_nothing() {
    let service = Service::start(1).await;
    service.store.set_away(true);
    let answer = service.submit("x", "rm -rf /").await;
    assert!(matches!(answer, Err(SubmitError::Store(_))), "{answer:?}");
    assert_eq!(service.launcher.launches.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn policy_that_breaks_decides_nothing_and_leaves_nothing_recorded_or_running() {
    let service = Service::start(1).await;
    let answer = service.submit("x", "mistake").await;
    let Err(SubmitError::Unjudged(panicked)) = answer else { panic!("{answer:?}") };
    assert_eq!(panicked.to_string(), "internal failure: as the test wanted");
    assert!(service.engine.judge(&ann(), &Submission::of("mistake")).is_err());
    assert_eq!(service.stats().panics, 2);
    assert_eq!(service.store.inner.read(&id("x")).await.unwrap(), None);
    assert_eq!(service.store.inner.refusals(9).await.unwrap(), []);
    assert_eq!(service.launcher.launches.load(std::sync::atomic::Ordering::SeqCst), 0);
    let x = service.accept("x", "echo a").await;
    assert_eq!(service.told(&x).await, "completed/exit");
}

#[tokio::test(start_paused = true)]
async fn submission_without_an_id_gets_one() {
    let service = Service::start(1).await;
    let mut ids = std::collections::HashSet::new();
    for _ in 0..2 {
        match service.engine.submit(&ann(), None, Submission::of("echo a")).await.unwrap() {
            Submitted::New(record) => ids.insert(record.id),
            other => panic!("{other:?}"),
        };
    }
    assert_eq!(ids.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn same_submission_is_the_same_execution_and_another_is_turned_away() {
    let service = Service::start(1).await;
    let x = service.accept("x", "echo a").await;
    assert_eq!(service.told(&x).await, "completed/exit");

    assert!(matches!(service.submit("x", "echo a").await, Ok(Submitted::Same(record)) if record.id == x));
    let answer = service.submit("x", "echo b").await;
    assert!(matches!(answer, Err(SubmitError::IdTaken(_))), "{answer:?}");
    let answer = service.engine.submit(&principal("bob"), Some(x.clone()), Submission::of("echo a")).await;
    assert!(matches!(answer, Err(SubmitError::IdTaken(_))), "{answer:?}");
    assert_eq!(service.journal.count("run echo a"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_a_hundred_equal_submissions_at_once_is_new_and_runs_once() {
    // Fewer places than submissions: the same submission takes one.
    let config = Config { queue_limit: 1, queue_limit_per_principal: 1, ..Config::default() };
    let service = Arc::new(Service::with(4, config).await);
    let submissions: Vec<_> = (0..100)
        .map(|_| {
            let service = Arc::clone(&service);
            tokio::spawn(async move { service.submit("x", "echo a").await })
        })
        .collect();
    let (mut new, mut same) = (0, 0);
    for submission in submissions {
        match submission.await.unwrap().unwrap() {
            Submitted::New(_) => new += 1,
            Submitted::Same(_) => same += 1,
        }
    }
    assert_eq!((new, same), (1, 99));
    assert_eq!(service.told(&id("x")).await, "completed/exit");
    assert_eq!(service.journal.count("run echo a"), 1);
}

#[tokio::test(start_paused = true)]
async fn full_queue_turns_away_before_acceptance_but_answers_what_it_knows() {
    let config = Config { queue_limit: 3, queue_limit_per_principal: 2, ..Config::default() };
    let service = Service::with(1, config).await;
    for name in ["a", "b", "c"] {
        service.accept(name, "wait").await; // one runs, two wait
    }
    let answer = service.submit("d", "wait").await;
    assert!(matches!(answer, Err(SubmitError::PrincipalBusy { retry_after }) if retry_after >= SECOND));
    assert_eq!(service.store.inner.read(&id("d")).await.unwrap(), None);
    assert!(matches!(service.submit("a", "wait").await, Ok(Submitted::Same(_))));
    assert!(matches!(service.submit("b", "wait a").await, Err(SubmitError::IdTaken(_))));

    let bob = principal("bob");
    let submit = |name| service.engine.submit(&bob, Some(id(name)), Submission::of("wait"));
    assert!(matches!(submit("e").await, Ok(Submitted::New(_))));
    assert!(matches!(submit("f").await, Err(SubmitError::Busy { .. })));
    assert!(matches!(submit("b").await, Err(SubmitError::IdTaken(_))), "another principal's is not shown");
    assert_eq!(service.stats().turned_away_busy, 1);

    // What ends makes room; bob's goes first, since nothing of his runs.
    let cell = service.cell().await;
    cell.start().await;
    cell.exit(0).await;
    service.ended(&id("a")).await;
    service.cell().await;
    assert!(matches!(submit("f").await, Ok(Submitted::New(_))));
}

#[tokio::test(start_paused = true)]
async fn many_submissions_of_one_delay_anothers_single_one_by_less_than_one_execution() {
    let service = Service::start(1).await;
    for n in 0..20 {
        service.accept(&format!("a{n}"), &format!("sleep {}", 10 + n)).await;
    }
    eventually(|| async { service.journal.position("run sleep 10") }).await;
    let began = tokio::time::Instant::now();
    let bobs = service.engine.submit(&principal("bob"), Some(id("b")), Submission::of("echo b")).await;
    assert!(matches!(bobs, Ok(Submitted::New(_))));
    service.ended(&id("b")).await;
    assert!(began.elapsed() < 11 * SECOND, "{:?}", began.elapsed());
    assert_eq!(service.told(&id("a19")).await, "completed/exit");
    assert!(service.journal.position("run echo b") < service.journal.position("run sleep 11"));
}

#[tokio::test(start_paused = true)]
async fn no_more_run_at_once_than_there_are_cells() {
    // The launcher asserts it.
    let service = Service::start(3).await;
    for n in 0..20 {
        service.accept(&format!("a{n}"), "sleep 5").await;
    }
    eventually(|| async { (service.engine.load().running == 3).then_some(()) }).await;
    assert_eq!(service.engine.load().queued, 17);
    let began = tokio::time::Instant::now();
    for n in 0..20 {
        assert_eq!(service.told(&id(&format!("a{n}"))).await, "completed/exit");
    }
    assert!(began.elapsed() <= 36 * SECOND, "seven rounds of five seconds: {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn caller_who_hangs_up_while_the_record_is_written_leaves_it_running() {
    let service = Service::start(1).await;
    let submission = service.submit("x", "echo a");
    // The store yields before it accepts: the caller goes away in between.
    let hung_up = tokio::time::timeout(std::time::Duration::ZERO, submission).await;
    assert!(hung_up.is_err());
    assert_eq!(service.told(&id("x")).await, "completed/exit");
}

#[tokio::test(start_paused = true)]
async fn start_ends_what_was_left_open_and_tells_it() {
    let journal = Journal::default();
    let store = FaultyStore::new(&journal);
    for name in ["was-running", "was-waiting"] {
        let new = NewExecution {
            id: id(name),
            owner: ann().id,
            owner_name: "ann".into(),
            command: "echo a".into(),
            fingerprint: Fingerprint([0; 32]),
            programs: vec![],
            rules: vec![],
            limits: Limits::default(),
            accepted_at: OffsetDateTime::now_utc(),
            provenance: Default::default(),
            start: None,
        };
        store.inner.accept(new).await.unwrap();
    }
    store.inner.claim(&id("was-running"), OffsetDateTime::now_utc(), &confinement()).await.unwrap();

    let service = Service::on(store, journal, 1, Config::default()).await;

    assert_eq!(service.told(&id("was-running")).await, "lost/service_died");
    assert_eq!(service.told(&id("was-waiting")).await, "failed/interrupted");
    service.all_told().await;
    assert_eq!(service.listener.last_of(&id("was-running")).unwrap().status, Status::Lost);
    assert_eq!(service.listener.last_of(&id("was-waiting")).unwrap().status, Status::Failed);
    assert_eq!(service.stats().ended[&(Status::Lost, Reason::ServiceDied)], 1);
}
