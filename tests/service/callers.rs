//! Who is let in, and how much of the service one caller gets.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis_api::ProblemCode as Code;
use serde_json::{Value, json};
use tracing_subscriber::util::SubscriberInitExt;

use crate::served::Served;

#[tokio::test]
async fn nothing_but_health_is_done_without_a_token() {
    let served = Served::start().await;
    served.run("x", "echo x").await;
    for (method, path) in [
        ("POST", "/api/commands"),
        ("GET", "/api/commands"),
        ("GET", "/api/commands/x"),
        ("POST", "/api/commands/x/cancel"),
        ("GET", "/api/commands/x/events"),
        ("GET", "/api/commands/x/output"),
        ("POST", "/api/commands/validate"),
        ("GET", "/api/commands/allowed"),
    ] {
        let missing = served.request(method, path).token(None).send().await.expect_status(401);
        missing.expect_problem(Code::AuthMissing);
        assert_eq!(missing.header("www-authenticate"), r#"Bearer realm="portcullis""#);
        let invalid = served.request(method, path).token("mallory").send().await.expect_status(401);
        invalid.expect_problem(Code::AuthInvalidToken);
        assert!(invalid.header("www-authenticate").contains(r#"error="invalid_token""#));
    }
}

#[tokio::test]
async fn tokens_elsewhere_than_in_the_header_are_not_looked_at() {
    let served = Served::start().await;
    let asked = served.request("GET", "/api/commands/allowed?access_token=alice").token(None);
    asked.send().await.expect_problem(Code::AuthMissing);
    let asked = served.request("GET", "/api/commands/allowed").token(None).header("cookie", "token=alice");
    asked.send().await.expect_problem(Code::AuthMissing);
    let asked =
        served.request("GET", "/api/commands/allowed").token(None).header("authorization", "Basic YTpi");
    asked.send().await.expect_problem(Code::AuthMissing);
    let twice = served.request("GET", "/api/commands/allowed").header("authorization", "Bearer bob");
    twice.send().await.expect_problem(Code::AuthInvalidToken);
}

#[tokio::test]
async fn a_user_without_the_permission_is_told_which_one() {
    let served = Served::start().await;
    let asked = served.request("POST", "/api/commands").token("guest").json(&json!({"command": "echo x"}));
    let problem = asked.send().await.expect_status(403).expect_problem(Code::AuthForbidden);
    assert!(problem.error.contains("permission denied") && problem.error.contains("run agents"), "{problem}");
}

/// The log of a test, which runs on one thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Keeps what is logged until the guard is dropped.
    fn keep(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_span_list(false);
        subscriber.with_writer(move || log.clone()).finish().set_default()
    }

    /// Returns the lines that hold a text.
    fn with(&self, text: &str) -> Vec<Value> {
        let log = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        log.lines().filter(|l| l.contains(text)).map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[tokio::test]
async fn a_refusal_is_one_line_of_the_log_that_says_who_was_refused_what() {
    let log = Log::default();
    let guard = log.keep();
    let served = Served::start().await;
    let refused = served.submit(json!({"command": "cat a; rm a"})).await.expect_status(403);
    let problem = refused.expect_problem(Code::CommandNotAllowed);
    let asked = served.request("POST", "/api/commands").token("guest").json(&json!({"command": "echo x"}));
    asked.send().await.expect_status(403);
    served.run("x", "echo x").await;
    drop(guard);

    let alice = log.with("alice").into_iter().filter(|line| line["execution_id"] != "x").collect::<Vec<_>>();
    let [denied] = alice.as_slice() else { panic!("{alice:?}") };
    assert_eq!((&denied["message"], &denied["level"]), (&json!("denied"), &json!("INFO")));
    assert_eq!((&denied["user"], &denied["user_id"]), (&json!("alice"), &json!("id-alice")));
    assert_eq!((&denied["programs"], &denied["rule"]), (&json!("cat,rm"), &json!("base")));
    let request = denied["span"]["request_id"].as_str().unwrap();
    assert!(problem.instance.ends_with(request), "{request} is not {}", problem.instance);

    let guest = log.with("guest");
    let [refused] = guest.as_slice() else { panic!("{guest:?}") };
    assert_eq!(
        (&refused["message"], &refused["code"]),
        (&json!("request refused"), &json!("auth/forbidden"))
    );
    assert_eq!((&refused["user"], &refused["user_id"]), (&json!("guest"), &json!("id-guest")));

    let ran: Vec<_> = log.with("\"x\"").iter().map(|line| line["message"].clone()).collect();
    assert_eq!(ran, ["accepted", "started", "ended"], "nobody is told: nobody listens");
}

#[tokio::test]
async fn while_nobody_can_say_who_asks_nobody_is_let_in() {
    let served = Served::start().await;
    let asked = served.request("POST", "/api/commands").token("down").json(&json!({"command": "echo x"}));
    let answer = asked.send().await.expect_status(503);
    let problem = answer.expect_problem(Code::AuthUnavailable);
    assert_eq!(answer.header("retry-after"), "7");
    assert!(!problem.error.contains("connection refused"), "causes are for the log: {problem}");
}

#[tokio::test]
async fn a_body_is_not_waited_for_from_who_may_not_ask() {
    let served = Served::start().await;
    let answer = served
        .raw(
            b"POST /api/commands HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer mallory\r\n\
              Content-Type: application/json\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    let answer = served
        .raw(
            b"POST /api/commands HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer mallory\r\nExpect: 100-continue\r\n\
              Content-Type: application/json\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "no `100 Continue` first: {answer}");
}

#[tokio::test]
async fn one_user_with_too_many_waiting_is_turned_away_and_another_is_not() {
    let served = Served::start_with(|wanted| {
        wanted.cells = 1;
        wanted.engine.queue_limit = 3;
        wanted.engine.queue_limit_per_principal = 2;
    })
    .await;
    served.submit(json!({"executionId": "running", "command": "sleep"})).await.expect_status(201);
    let mut events = served.events("running", None).await;
    while events.next().await.unwrap().data["status"] != "running" {}
    for _ in 0..2 {
        served.submit(json!({"command": "echo x"})).await.expect_status(201);
    }
    let refused = served.submit(json!({"command": "echo x"})).await.expect_status(429);
    refused.expect_problem(Code::QueueUserFull);
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0);
    let bobs = || served.request("POST", "/api/commands").token("bob").json(&json!({"command": "echo x"}));
    bobs().send().await.expect_status(201);
    let refused = bobs().send().await.expect_status(503);
    refused.expect_problem(Code::QueueFull);
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0);
}

#[tokio::test]
async fn while_records_cannot_be_written_nothing_is_accepted() {
    let served = Served::start().await;
    served.store.broken.store(true, Ordering::SeqCst);
    let answer = served.submit(json!({"executionId": "x", "command": "echo x"})).await.expect_status(503);
    let problem = answer.expect_problem(Code::StoreUnavailable);
    assert!(!problem.error.contains("no space"), "causes are for the log: {problem}");
    answer.header("retry-after");
    served.get("/api/commands/x").await.expect_problem(Code::StoreUnavailable);
    served.store.broken.store(false, Ordering::SeqCst);
    assert_eq!(served.actor.launches.load(Ordering::SeqCst), 0);
    served.run("x", "echo x").await;
}

#[tokio::test]
async fn a_mistake_of_ours_costs_one_answer() {
    let served = Served::start().await;
    let answer = served.submit(json!({"command": "panic"})).await.expect_status(500);
    let problem = answer.expect_problem(Code::Internal);
    assert!(!problem.error.contains("as the test wanted"), "reasons are for the log: {problem}");
    assert_eq!(served.actor.launches.load(Ordering::SeqCst), 0);
    served.run("x", "echo x").await;
}

#[tokio::test]
async fn while_draining_new_work_is_refused_and_records_are_still_read() {
    let served = Served::start().await;
    served.submit(json!({"executionId": "x", "command": "gated"})).await.expect_status(201);
    let mut events = served.events("x", None).await;
    while events.next().await.unwrap().kind != "output" {}
    let draining = tokio::spawn({
        let engine = served.engine.clone();
        async move { engine.drain(Duration::from_secs(60)).await }
    });
    while !served.engine.load().draining {
        tokio::task::yield_now().await;
    }
    let refused = served.submit(json!({"command": "echo x"})).await.expect_status(503);
    refused.expect_problem(Code::ServiceDraining);
    refused.header("retry-after");
    served.get("/api/commands/x").await.expect_status(200);
    served.actor.gate.add_permits(2);
    draining.await.unwrap();
    assert_eq!(served.ended("x").await.output.as_deref(), Some("1\n2\n3"));
    served.close().await;
}
