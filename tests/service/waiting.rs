//! Answers that are held back until there is a result: `Prefer: wait`.

use std::time::{Duration, Instant};

use portcullis_api::{ExecutionView, ProblemCode};
use portcullis_core::Status;
use serde_json::json;

use crate::answers::Answer;
use crate::served::{PATIENCE, Served};

/// Submits with a preference.
async fn submit(served: &Served, prefer: &str, body: serde_json::Value) -> Answer {
    served.request("POST", "/api/commands").header("prefer", prefer).json(&body).send().await
}

async fn read(served: &Served, prefer: &str, id: &str) -> Answer {
    served.request("GET", &format!("/api/commands/{id}")).header("prefer", prefer).send().await
}

#[tokio::test]
async fn one_request_goes_from_the_line_to_the_final_record() {
    let served = Served::start().await;
    let answer = submit(&served, "wait=20", json!({"executionId": "a", "command": "echo hello"})).await;
    let answer = answer.expect_status(200);
    assert_eq!(answer.header("location"), "/api/commands/a");
    assert_eq!(answer.header("preference-applied"), "wait=20");
    let record: ExecutionView = answer.read();
    assert_eq!((record.status, record.output.as_deref()), (Status::Completed, Some("hello")));
    // It is the record that everybody reads, from memory and from the store.
    assert_eq!(served.get("/api/commands/a").await.expect_status(200).json(), answer.json());
    let again = submit(&served, "wait=20", json!({"executionId": "a", "command": "echo hello"})).await;
    assert_eq!(again.expect_status(200).json(), answer.json());
    let waited = read(&served, "wait=20", "a").await.expect_status(200);
    assert_eq!((waited.json(), waited.header("preference-applied")), (answer.json(), "wait=20"));
}

#[tokio::test]
async fn what_is_refused_or_not_there_is_answered_at_once() {
    let served = Served::start().await;
    let denied = submit(&served, "wait=60", json!({"command": "rm x"})).await;
    denied.expect_problem(ProblemCode::CommandNotAllowed);
    let missing = read(&served, "wait=60", "nothing").await;
    missing.expect_problem(ProblemCode::ExecutionNotFound);
}

#[tokio::test]
async fn a_read_waits_for_the_end_and_no_longer_than_it_prefers() {
    let served = Served::start().await;
    served.submit(json!({"executionId": "a", "command": "sleep"})).await.expect_status(201);
    let began = Instant::now();
    let answer = read(&served, "wait=1, respond-async", "a").await.expect_status(200);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(answer.header("preference-applied"), "wait=1");
    let record: ExecutionView = answer.read();
    assert!(!record.status.is_terminal(), "{record:?}");
    // A wait of no time shows how far it has come.
    assert!(!read(&served, "wait=0", "a").await.read::<ExecutionView>().status.is_terminal());

    let waiting = read(&served, "wait=60", "a");
    let cancelling = async { served.request("POST", "/api/commands/a/cancel").send().await };
    let (waited, cancelled) = tokio::join!(waiting, cancelling);
    cancelled.expect_status(200);
    let record: ExecutionView = waited.expect_status(200).read();
    assert_eq!(record.status, Status::Cancelled);
}

#[tokio::test]
async fn a_submission_that_is_not_over_in_time_is_answered_as_it_is() {
    let served = Served::start_with(|wanted| wanted.cells = 1).await;
    let answer = submit(&served, "wait=1", json!({"executionId": "a", "command": "sleep"})).await;
    let answer = answer.expect_status(202);
    assert_eq!((answer.header("location"), answer.header("retry-after")), ("/api/commands/a", "1"));
    assert_eq!(answer.read::<ExecutionView>().status, Status::Running);
    let answer = submit(&served, "wait=0", json!({"executionId": "b", "command": "echo x"})).await;
    let record: ExecutionView = answer.expect_status(202).read();
    assert_eq!((record.status, record.output), (Status::Scheduled, None));
}

#[tokio::test]
async fn who_prefers_not_to_wait_is_told_that_it_goes_on() {
    let served = Served::start_with(|wanted| wanted.cells = 1).await;
    let body = json!({"executionId": "a", "command": "sleep"});
    let answer = submit(&served, "respond-async", body.clone()).await.expect_status(202);
    assert_eq!(answer.json(), json!({"executionId": "a", "status": "scheduled"}));
    assert_eq!(answer.header("location"), "/api/commands/a");
    assert_eq!(answer.header("preference-applied"), "respond-async");
    // RFC 7240 §4.3: together they are a wait that may end without a result.
    let both = submit(&served, "respond-async, wait=1", body).await.expect_status(202);
    assert_eq!(both.header("preference-applied"), "respond-async, wait=1");
    assert_eq!(both.json()["status"], "running");
    served.request("POST", "/api/commands/a/cancel").send().await.expect_status(200);
    // What is over does not go on, whatever is preferred.
    let body = json!({"executionId": "a", "command": "sleep"});
    assert_eq!(submit(&served, "respond-async", body).await.expect_status(200).json()["status"], "cancelled");
}

#[tokio::test]
async fn what_cannot_be_read_is_no_preference() {
    let served = Served::start().await;
    for prefer in ["wait", "wait=soon", "respond-asynchronously", "wait=-1", "handling=strict"] {
        let answer = submit(&served, prefer, json!({"command": "echo x"})).await.expect_status(201);
        assert_eq!(answer.json()["status"], "scheduled", "{prefer}");
        assert!(!answer.headers.contains_key("preference-applied"), "{prefer}");
    }
}

#[tokio::test]
async fn who_hangs_up_leaves_the_execution_running_and_waits_no_more() {
    let served = Served::start_with(|wanted| wanted.http.connection_limit = 1).await;
    let submitted = submit(&served, "wait=60", json!({"executionId": "a", "command": "sleep"}));
    // The only connection there may be waits, and goes for the next one.
    assert!(tokio::time::timeout(Duration::from_millis(200), submitted).await.is_err());
    let record: ExecutionView = tokio::time::timeout(PATIENCE, served.get("/api/commands/a"))
        .await
        .unwrap()
        .expect_status(200)
        .read();
    assert!(!record.status.is_terminal());
}

#[tokio::test]
async fn a_connection_that_waits_gives_way_to_a_new_one() {
    let served = Served::start_with(|wanted| wanted.http.connection_limit = 1).await;
    served.submit(json!({"executionId": "a", "command": "sleep"})).await.expect_status(201);
    let waiting = async {
        let request = format!(
            "GET /api/commands/a HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nPrefer: wait=60\r\n\r\n",
            served.address, served.token
        );
        // Returns when the service closes the connection, without an answer.
        served.raw(request.as_bytes()).await
    };
    let newcomer = async {
        // The wait has begun when the record's route has been asked; until then the newcomer waits in its turn.
        served.get("/health").await.expect_status(200)
    };
    let (unanswered, _) = tokio::join!(waiting, newcomer);
    assert_eq!(unanswered, "");
}
