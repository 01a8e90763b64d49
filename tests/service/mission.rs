//! Each sentence of the mission, once, from outside.

use portcullis_api::ProblemCode;
use portcullis_core::{Reason, Status};
use serde_json::json;
use std::sync::atomic::Ordering;

use crate::served::Served;

#[tokio::test]
async fn health_answers_anybody_that_it_is_well() {
    let served = Served::start().await;
    let answer = served.request("GET", "/health").token(None).send().await.expect_status(200);
    assert_eq!(answer.json(), json!({"status": "ok"}));
}

#[tokio::test]
async fn a_command_is_accepted_as_scheduled_under_the_callers_id_and_runs_to_its_record() {
    let served = Served::start().await;
    let body = json!({"executionId": "test-123", "command": "echo 'Hello, World!'"});
    let answer = served.submit(body).await.expect_status(201);
    assert_eq!(answer.json(), json!({"executionId": "test-123", "status": "scheduled"}));
    assert_eq!(answer.header("location"), "/api/commands/test-123");
    let record = served.ended("test-123").await;
    assert_eq!(record.status, Status::Completed);
    assert_eq!(record.command, "echo 'Hello, World!'");
    assert_eq!(record.output.as_deref(), Some("Hello, World!"));
    assert_eq!(record.stdout.as_deref(), Some("Hello, World!\n"));
    assert_eq!((record.exit_code, record.reason, record.progress), (Some(0), Some(Reason::Exit), 100));
    assert!(record.accepted_at <= record.start_time.unwrap());
    assert!(record.start_time <= record.end_time);
    assert_eq!(record.user, "alice");
    assert_eq!(record.usage.unwrap().cpu_time_ms, 3);
    assert_eq!((record.rules, record.programs), (vec!["base".to_owned()], vec!["echo".to_owned()]));
}

#[tokio::test]
async fn a_record_has_the_members_of_the_mission_from_the_beginning() {
    let served = Served::start_with(|wanted| wanted.cells = 1).await;
    served.submit(json!({"executionId": "first", "command": "sleep"})).await.expect_status(201);
    served.submit(json!({"executionId": "second", "command": "echo x"})).await.expect_status(201);
    let record = served.get("/api/commands/second").await.expect_status(200).json();
    assert_eq!(record["status"], "scheduled");
    for member in ["executionId", "status", "command", "output", "exitCode", "startTime", "endTime"] {
        assert!(record.get(member).is_some(), "{member} in {record}");
    }
    assert_eq!((&record["output"], &record["exitCode"]), (&json!(null), &json!(null)));
}

#[tokio::test]
async fn a_missing_id_is_made_by_the_service() {
    let served = Served::start().await;
    let answer = served.submit(json!({"command": "echo x"})).await.expect_status(201);
    let id = answer.json()["executionId"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 36);
    assert_eq!(answer.header("location"), format!("/api/commands/{id}"));
    assert_eq!(served.ended(&id).await.output.as_deref(), Some("x"));
}

#[tokio::test]
async fn a_command_that_is_not_allowed_is_refused_with_its_place_and_rule_and_never_runs() {
    let served = Served::start().await;
    let body = json!({"executionId": "x", "command": "echo a && rm -rf /"});
    let answer = served.submit(body).await.expect_status(403);
    let problem = answer.expect_problem(ProblemCode::CommandNotAllowed);
    assert!(problem.error.contains("not allowed"), "{problem}");
    let denial = problem.denial.unwrap();
    assert_eq!((denial.span.start, denial.span.end), (10, 12));
    assert_eq!((denial.code.as_str(), denial.subject.as_str()), ("program/not-allowed", "rm"));
    assert_eq!(denial.rule.unwrap().line, Some(3));
    assert_eq!(denial.suggestion.as_deref(), Some("leave it out"));
    served.get("/api/commands/x").await.expect_problem(ProblemCode::ExecutionNotFound);
    assert_eq!(served.actor.launches.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_command_that_cannot_be_understood_is_refused_as_a_bad_request() {
    let served = Served::start().await;
    let answer = served.submit(json!({"command": "echo $(id)"})).await.expect_status(400);
    let problem = answer.expect_problem(ProblemCode::CommandMalformed);
    assert!(problem.error.contains("not allowed"), "{problem}");
    assert_eq!(problem.denial.unwrap().span.start, 5);
}

#[tokio::test]
async fn a_running_command_is_cancelled_and_stays_so() {
    let served = Served::start().await;
    served.submit(json!({"executionId": "x", "command": "sleep"})).await.expect_status(201);
    for _ in 0..2 {
        let record = served.request("POST", "/api/commands/x/cancel").send().await.expect_status(200).json();
        assert_eq!((&record["status"], &record["reason"]), (&json!("cancelled"), &json!("cancelled")));
    }
}

#[tokio::test]
async fn a_command_that_has_ended_cannot_be_cancelled_and_its_record_is_in_the_answer() {
    let served = Served::start().await;
    served.run("x", "echo x").await;
    // As callers which exist do it: with a media type and no body.
    let asked = served.request("POST", "/api/commands/x/cancel").header("content-type", "application/json");
    let problem = asked.send().await.expect_status(409).expect_problem(ProblemCode::ExecutionAlreadyEnded);
    assert!(problem.error.contains("completed"), "{problem}");
    assert_eq!(problem.execution.unwrap().status, Status::Completed);
}

#[tokio::test]
async fn a_command_past_its_time_ends_as_timeout() {
    let served = Served::start().await;
    served.submit(json!({"executionId": "x", "command": "sleep", "timeout": 0.01})).await.expect_status(201);
    let record = served.ended("x").await;
    assert_eq!((record.status, record.reason), (Status::Timeout, Some(Reason::TimeLimit)));
    assert_eq!((record.exit_code, record.limits.wall_time_ms), (None, 10));
}

#[tokio::test]
async fn an_exit_code_a_signal_and_a_failed_start_are_told_apart() {
    let served = Served::start().await;
    let exited = served.run("a", "exit 137").await;
    assert_eq!((exited.status, exited.reason), (Status::Failed, Some(Reason::Exit)));
    assert_eq!((exited.exit_code, exited.signal), (Some(137), None));
    let killed = served.run("b", "kill 9").await;
    assert_eq!(
        (killed.status, killed.reason, killed.signal),
        (Status::Failed, Some(Reason::Signal), Some(9))
    );
    let missing = served.run("c", "nothing").await;
    assert_eq!((missing.status, missing.reason), (Status::Failed, Some(Reason::StartFailed)));
    assert!(missing.message.unwrap().contains("nothing"));
}

#[tokio::test]
async fn input_reaches_the_command() {
    let served = Served::start().await;
    let body = json!({"executionId": "x", "command": "cat", "stdin": "zeile 1\nzeile 2\n"});
    served.submit(body).await.expect_status(201);
    assert_eq!(served.ended("x").await.output.as_deref(), Some("zeile 1\nzeile 2"));
}

#[tokio::test]
async fn an_execution_belongs_to_the_service_and_not_to_the_connection() {
    let served = Served::start().await;
    served.submit(json!({"executionId": "x", "command": "gated"})).await.expect_status(201);
    let mut watcher = served.events("x", None).await;
    while watcher.next().await.unwrap().kind != "output" {}
    drop(watcher);
    served.actor.gate.add_permits(2);
    assert_eq!(served.ended("x").await.output.as_deref(), Some("1\n2\n3"));
}

#[tokio::test]
async fn what_may_run_can_be_asked_beforehand_without_a_trace() {
    let served = Served::start().await;
    let allowed = served.get("/api/commands/allowed").await.expect_status(200).json();
    assert_eq!(allowed["allowed_commands"], json!(["echo", "git"]));
    // Members that callers of another service send are passed over.
    let validate = async |command: &str| {
        let body = json!({"command": command, "allowed_paths": [], "memory_limit": 512});
        served.request("POST", "/api/commands/validate").json(&body).send().await.expect_status(200).json()
    };
    let valid = validate("echo x").await;
    assert_eq!(
        (&valid["valid"], &valid["is_valid"], &valid["reason"]),
        (&json!(true), &json!(true), &json!(null))
    );
    let denied = validate("rm x").await;
    assert_eq!((&denied["valid"], &denied["is_valid"]), (&json!(false), &json!(false)));
    assert!(denied["message"].as_str().unwrap().contains("not allowed"), "{denied}");
    assert!(denied["reason"].is_string(), "{denied}");
    assert_eq!(denied["denial"]["span"], json!({"start": 0, "end": 2}));
    assert_eq!(served.actor.launches.load(Ordering::SeqCst), 0);
}
