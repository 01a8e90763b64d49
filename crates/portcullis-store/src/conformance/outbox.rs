//! What endpoints are to be posted: made with endings, kept until settled, bounded.

use std::sync::Arc;
use std::time::Duration;

use portcullis_core::{
    Closing, Delivery, Due, Ending, ExecutionStore, NewExecution, Outbox, Posting, Settled, Status,
    StoreError, Subscription,
};

use super::{START, accept, after, completed, confinement, ended, id, new};

/// A store that keeps postings beside its records.
pub trait Both: ExecutionStore + Outbox {}
impl<S: ExecutionStore + Outbox> Both for S {}

/// Makes one test of each case of [`Outbox`]; as [`conformance_tests!`](crate::conformance_tests).
#[macro_export]
macro_rules! outbox_tests {
    ($open:expr) => {
        $crate::outbox_tests! { @each $open;
            without_a_subscription_nothing_is_posted
            an_ending_makes_a_posting_for_each_endpoint_that_wants_it
            what_a_start_found_open_is_posted_too
            a_second_ending_posts_nothing
            postings_are_due_oldest_first_and_the_next_is_named
            a_posting_that_is_tried_again_is_due_later_and_one_that_is_over_is_gone
            a_disabled_endpoint_is_posted_nothing_and_stays_disabled_at_its_place
            postings_of_an_endpoint_that_is_not_named_any_more_are_removed
            tidying_keeps_the_newest_and_removes_what_is_too_old
            postings_from_beyond_a_clock_that_was_set_back_are_made_due
            a_posting_goes_with_its_record
            who_waits_for_postings_is_told
        }
    };
    (@each $open:expr; $($case:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let (store, _kept) = $open.await;
            $crate::conformance::$case(std::sync::Arc::new(store)).await;
        }
    )*};
}

fn to(endpoint: &str) -> Subscription {
    let url = format!("https://{endpoint}.example/hook");
    Subscription { endpoint: endpoint.into(), url, ..Subscription::default() }
}

async fn due(store: &dyn Both, endpoint: &str) -> Vec<Posting> {
    store.due(endpoint, after(1_000_000), 1_000).await.unwrap().postings
}

fn names(postings: &[Posting]) -> Vec<String> {
    postings.iter().map(|posting| posting.execution.id.to_string()).collect()
}

/// And nothing is kept for later.
pub async fn without_a_subscription_nothing_is_posted(store: Arc<dyn Both>) {
    ended(&*store, "a", after(1)).await;
    store.subscribe(vec![to("ci")]).await.unwrap();
    assert_eq!(due(&*store, "ci").await, []);
    assert_eq!(store.waiting("ci").await.unwrap(), 0);
}

/// By status and program; whatever becomes of the terminal update of the Socket Service.
pub async fn an_ending_makes_a_posting_for_each_endpoint_that_wants_it(store: Arc<dyn Both>) {
    let failures = Subscription { statuses: vec![Status::Failed, Status::Lost], ..to("failures") };
    let greps = Subscription { programs: vec!["grep".into()], ..to("greps") };
    store.subscribe(vec![to("all"), failures, greps]).await.unwrap();
    accept(&*store, NewExecution { programs: vec!["cat".into(), "grep".into()], ..new("a") }).await;
    let closing = Closing { delivery: Some(Delivery::Delivered), ..completed(after(1)).into() };
    store.close(&id("a"), closing).await.unwrap();
    accept(&*store, new("b")).await;
    store.finish(&id("b"), Ending { status: Status::Failed, ..completed(after(2)) }).await.unwrap();
    assert_eq!(names(&due(&*store, "all").await), ["a", "b"]);
    assert_eq!(names(&due(&*store, "failures").await), ["b"]);
    assert_eq!(names(&due(&*store, "greps").await), ["a"]);
    let posting = due(&*store, "all").await.swap_remove(0);
    assert_eq!((posting.made_at, posting.attempts), (after(1), 0));
    assert_eq!(Some(posting.execution), store.read(&id("a")).await.unwrap());
}

/// Those that were lost and those that never ran.
pub async fn what_a_start_found_open_is_posted_too(store: Arc<dyn Both>) {
    accept(&*store, new("ran")).await;
    store.claim(&id("ran"), after(1), &confinement()).await.unwrap();
    accept(&*store, new("waited")).await;
    store
        .subscribe(vec![Subscription { statuses: vec![Status::Lost], ..to("lost") }, to("all")])
        .await
        .unwrap();
    store.recover(after(2)).await.unwrap();
    assert_eq!(names(&due(&*store, "lost").await), ["ran"]);
    assert_eq!(store.waiting("all").await.unwrap(), 2);
}

/// INVARIANT (one end).
pub async fn a_second_ending_posts_nothing(store: Arc<dyn Both>) {
    store.subscribe(vec![to("ci")]).await.unwrap();
    ended(&*store, "a", after(1)).await;
    store.finish(&id("a"), completed(after(2))).await.unwrap();
    assert_eq!(store.waiting("ci").await.unwrap(), 1);
}

/// At most as many as asked for.
pub async fn postings_are_due_oldest_first_and_the_next_is_named(store: Arc<dyn Both>) {
    store.subscribe(vec![to("ci"), to("other")]).await.unwrap();
    for (name, seconds) in [("c", 30), ("a", 10), ("b", 20)] {
        ended(&*store, name, after(seconds)).await;
    }
    assert_eq!(names(&store.due("ci", after(25), 10).await.unwrap().postings), ["a", "b"]);
    assert_eq!(store.due("ci", after(25), 10).await.unwrap().next, Some(after(30)));
    assert_eq!(names(&store.due("ci", after(30), 2).await.unwrap().postings), ["a", "b"]);
    assert_eq!(store.due("ci", after(30), 2).await.unwrap().next, None);
    assert_eq!(store.due("nobody", after(30), 2).await.unwrap(), Due::default());
}

/// Each endpoint for itself.
pub async fn a_posting_that_is_tried_again_is_due_later_and_one_that_is_over_is_gone(store: Arc<dyn Both>) {
    store.subscribe(vec![to("ci"), to("other")]).await.unwrap();
    ended(&*store, "a", after(1)).await;
    let n = due(&*store, "ci").await[0].n;
    store.settle(n, Settled::Again(after(60))).await.unwrap();
    let found = store.due("ci", after(59), 10).await.unwrap();
    assert_eq!((found.postings, found.next), (vec![], Some(after(60))));
    let again = store.due("ci", after(60), 10).await.unwrap().postings;
    assert_eq!((again[0].n, again[0].attempts, again[0].made_at), (n, 1, after(1)));
    store.settle(n, Settled::Over).await.unwrap();
    store.settle(n, Settled::Over).await.unwrap();
    store.settle(n, Settled::Again(after(9))).await.unwrap();
    assert_eq!(due(&*store, "ci").await, []);
    assert_eq!(names(&due(&*store, "other").await), ["a"]);
    // No number is given again.
    ended(&*store, "b", after(2)).await;
    assert!(due(&*store, "ci").await[0].n > n);
}

/// What waited for it is gone, others go on, and elsewhere it begins anew.
pub async fn a_disabled_endpoint_is_posted_nothing_and_stays_disabled_at_its_place(store: Arc<dyn Both>) {
    store.subscribe(vec![to("ci"), to("other")]).await.unwrap();
    ended(&*store, "a", after(1)).await;
    assert_eq!(store.disabled_since("ci").await.unwrap(), None);
    assert_eq!(store.disable("ci", after(2)).await.unwrap(), 1);
    ended(&*store, "b", after(3)).await;
    assert_eq!(due(&*store, "ci").await, []);
    assert_eq!(names(&due(&*store, "other").await), ["a", "b"]);
    assert_eq!(store.disabled_since("ci").await.unwrap(), Some(after(2)));

    store.subscribe(vec![to("ci"), to("other")]).await.unwrap();
    assert_eq!(store.disabled_since("ci").await.unwrap(), Some(after(2)));
    ended(&*store, "c", after(4)).await;
    assert_eq!(due(&*store, "ci").await, []);

    let elsewhere = Subscription { url: "https://new.example/".into(), ..to("ci") };
    store.subscribe(vec![elsewhere, to("other")]).await.unwrap();
    assert_eq!(store.disabled_since("ci").await.unwrap(), None);
    ended(&*store, "d", after(5)).await;
    assert_eq!(names(&due(&*store, "ci").await), ["d"]);
    assert_eq!(store.disable("nobody", after(6)).await.unwrap(), 0);
}

/// And counted.
pub async fn postings_of_an_endpoint_that_is_not_named_any_more_are_removed(store: Arc<dyn Both>) {
    store.subscribe(vec![to("ci"), to("other")]).await.unwrap();
    for n in 0..700 {
        ended(&*store, &format!("a{n}"), after(n)).await;
    }
    assert_eq!(store.subscribe(vec![to("other")]).await.unwrap(), 700);
    assert_eq!(store.subscribe(vec![to("other"), to("ci")]).await.unwrap(), 0);
    assert_eq!((store.waiting("ci").await.unwrap(), store.waiting("other").await.unwrap()), (0, 700));
}

/// Of one endpoint, and nothing of another.
pub async fn tidying_keeps_the_newest_and_removes_what_is_too_old(store: Arc<dyn Both>) {
    store.subscribe(vec![to("ci"), to("other")]).await.unwrap();
    for n in 0..6 {
        ended(&*store, &format!("a{n}"), after(n)).await;
    }
    let tidy = async |keep, before| store.tidy("ci", keep, before, after(100)).await.unwrap();
    assert_eq!(tidy(6, None).await, 0);
    assert_eq!(tidy(5, Some(START)).await, 1);
    assert_eq!(tidy(9, Some(after(3))).await, 2);
    assert_eq!(names(&due(&*store, "ci").await), ["a3", "a4", "a5"]);
    assert_eq!(tidy(0, None).await, 3);
    assert_eq!(store.waiting("other").await.unwrap(), 6);
}

/// Also when the execution itself ended beyond it.
pub async fn postings_from_beyond_a_clock_that_was_set_back_are_made_due(store: Arc<dyn Both>) {
    store.subscribe(vec![to("ci")]).await.unwrap();
    ended(&*store, "tried", after(5)).await;
    ended(&*store, "ahead", after(9_000)).await;
    let n = due(&*store, "ci").await[0].n;
    store.settle(n, Settled::Again(after(8_000))).await.unwrap();
    assert_eq!(store.tidy("ci", 10, None, after(100)).await.unwrap(), 0);
    assert_eq!(names(&store.due("ci", after(100), 10).await.unwrap().postings), ["tried", "ahead"]);
}

/// So that nothing waits without a record to tell of.
pub async fn a_posting_goes_with_its_record(store: Arc<dyn Both>) {
    store.subscribe(vec![to("ci")]).await.unwrap();
    ended(&*store, "old", after(1)).await;
    ended(&*store, "new", after(3)).await;
    store.expire(after(2)).await.unwrap();
    assert_eq!(names(&due(&*store, "ci").await), ["new"]);
    assert_eq!(store.waiting("ci").await.unwrap(), 1);
}

/// Whoever comes first.
pub async fn who_waits_for_postings_is_told(store: Arc<dyn Both>) {
    store.subscribe(vec![to("ci")]).await.unwrap();
    store.made().await; // there may be some from before
    let ending = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            ended(&*store, "a", after(1)).await;
        }
    });
    let told = tokio::time::timeout(Duration::from_secs(30), store.made()).await;
    assert!(told.is_ok(), "nobody was told");
    ending.await.unwrap();
    assert!(!matches!(store.due("ci", after(1), 1).await, Err(StoreError::Unavailable { .. })));
    assert_eq!(names(&due(&*store, "ci").await), ["a"]);
}
