//! One id, one execution, one owner.

use portcullis_api::ProblemCode;
use serde_json::json;
use std::sync::atomic::Ordering;

use crate::served::Served;

#[tokio::test]
async fn the_same_submission_again_is_the_same_execution() {
    let served = Served::start().await;
    let body = json!({"executionId": "x", "command": "echo x", "timeout": 5});
    served.submit(body.clone()).await.expect_status(201);
    served.ended("x").await;
    let again = served.submit(body).await.expect_status(200);
    assert_eq!(again.json(), json!({"executionId": "x", "status": "completed"}));
    assert_eq!(again.header("location"), "/api/commands/x");
    assert_eq!(served.actor.launches.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn anything_else_under_a_taken_id_is_a_conflict() {
    let served = Served::start().await;
    served.run("x", "echo x").await;
    for body in [
        json!({"executionId": "x", "command": "echo y"}),
        json!({"executionId": "x", "command": "echo x", "timeout": 5}),
        json!({"executionId": "x", "command": "echo x", "stdin": ""}),
    ] {
        served.submit(body).await.expect_status(409).expect_problem(ProblemCode::ExecutionIdTaken);
    }
    let body = json!({"executionId": "x", "command": "echo x"});
    let bobs = served.request("POST", "/api/commands").token("bob").json(&body).send().await;
    bobs.expect_problem(ProblemCode::ExecutionIdTaken);
    assert_eq!(served.actor.launches.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_hundred_equal_submissions_at_once_are_one_execution() {
    let served = Served::start().await;
    let mut answers = Vec::new();
    let submit = || served.submit(json!({"executionId": "x", "command": "echo x"}));
    let mut pending: Vec<_> = (0..100).map(|_| Box::pin(submit())).collect();
    std::future::poll_fn(|cx| {
        pending.retain_mut(|answer| match answer.as_mut().poll(cx) {
            std::task::Poll::Ready(answer) => {
                answers.push(answer.status);
                false
            }
            std::task::Poll::Pending => true,
        });
        if pending.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    served.ended("x").await;
    answers.sort_unstable();
    assert_eq!(answers, [vec![200; 99], vec![201]].concat());
    assert_eq!(served.actor.launches.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn another_users_execution_is_told_apart_from_no_execution_by_nothing() {
    let served = Served::start().await;
    served.run("hers", "echo x").await;
    for (method, path) in [
        ("GET", "/api/commands/ID"),
        ("POST", "/api/commands/ID/cancel"),
        ("GET", "/api/commands/ID/events"),
        ("GET", "/api/commands/ID/output"),
    ] {
        let mut answers = Vec::new();
        for id in ["hers", "none"] {
            let answer = served.request(method, &path.replace("ID", id)).token("bob").send().await;
            let mut problem = answer.expect_problem(ProblemCode::ExecutionNotFound);
            problem.instance.clear();
            let body = serde_json::to_string(&problem).unwrap().replace(id, "ID");
            let mut headers = answer.headers.clone();
            headers.remove("date");
            answers.push((body, headers));
        }
        assert_eq!(answers[0], answers[1], "{method} {path}");
    }
}

#[tokio::test]
async fn ids_that_traverse_or_inject_are_refused_in_paths_and_bodies() {
    let served = Served::start().await;
    let long = "x".repeat(129);
    for id in ["%2e%2e", "..%2Fx", "a%2Fb", "a%00b", "a%20b", "a%0Ab", "%ff", "%zz", "-x", "%C3%A9", &long] {
        for path in [format!("/api/commands/{id}"), format!("/api/commands/{id}/output")] {
            served.get(&path).await.expect_status(400).expect_problem(ProblemCode::ExecutionIdInvalid);
        }
    }
    // A word that is a route of its own is none.
    for word in ["allowed", "execute", "validate"] {
        let answer = served.get(&format!("/api/commands/{word}/output")).await.expect_status(400);
        answer.expect_problem(ProblemCode::ExecutionIdInvalid);
    }
    for id in ["", "../x", "a/b", "a\0b", "a b", "a\n", &long, "validate"] {
        let answer = served.submit(json!({"executionId": id, "command": "echo x"})).await.expect_status(400);
        let problem = answer.expect_problem(ProblemCode::ExecutionIdInvalid);
        assert_eq!(problem.errors[0].pointer, "/executionId");
    }
    // Percent-encoding is another way to write the same id.
    served.run("a:b", "echo x").await;
    served.get("/api/commands/a%3Ab").await.expect_status(200);
}
