//! `verify`, against a service that keeps its promises, and against one that breaks one of them.

use std::collections::HashMap;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::client::{Client, Ended};
use crate::peer::{Peer, Reply, Request, accept, id_of, problem, record};

/// Which promise is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    HealthSaysMore,
    OutputIsCut,
    MemberIsMissing,
    DoesNotStart,
    RefusalSaysLittle,
    RefusedIsRecorded,
    RunsAnything,
    CancelDoesNothing,
    EndsByItself,
    QuotesAreLost,
    NoTimeout,
    GrepIsNotAllowed,
}

/// A service with records and no processes: it knows the lines of `verify` by what they look like.
struct Service {
    fault: Fault,
    records: Mutex<HashMap<String, Value>>,
}

impl Service {
    fn answer(&self, request: &Request) -> Reply {
        let mut records = self.records.lock().unwrap();
        match request.line.as_str() {
            "GET /health" if self.fault == Fault::HealthSaysMore => {
                Reply::Json(200, json!({"status": "ok", "more": true}))
            }
            "GET /health" => Reply::Json(200, json!({"status": "ok"})),
            "POST /api/commands" => self.submit(request, &mut records),
            line if line.ends_with("/cancel") => {
                let Some(record) = records.get_mut(&id_of(request)) else {
                    return problem(404, "execution/not-found", "there is none");
                };
                if self.fault != Fault::CancelDoesNothing {
                    record["status"] = "cancelled".into();
                }
                Reply::Json(200, record.clone())
            }
            _ => match records.get(&id_of(request)) {
                None => problem(404, "execution/not-found", "there is none"),
                Some(record) => Reply::Json(200, record.clone()),
            },
        }
    }

    fn submit(&self, request: &Request, records: &mut HashMap<String, Value>) -> Reply {
        let line = request.body["command"].as_str().unwrap();
        let id = request.body["executionId"].as_str().unwrap();
        let end = "2025-03-25T16:17:13.000Z";
        let mut members = json!({"command": line, "endTime": end});
        if line.contains("rm -rf") && self.fault != Fault::RunsAnything {
            if self.fault == Fault::RefusedIsRecorded {
                records.insert(id.into(), record(id, members));
            }
            let says =
                if self.fault == Fault::RefusalSaysLittle { "no" } else { "command not allowed: `rm`" };
            return problem(403, "command/not-allowed", says);
        }
        let endless = line.contains(r"\1\1\2\2") || line.starts_with("sleep");
        if self.fault == Fault::GrepIsNotAllowed && line.contains("grep") {
            return problem(403, "command/not-allowed", "command not allowed: `grep`");
        }
        let ended = if endless {
            match (self.fault, request.body["timeout"].as_f64()) {
                (Fault::EndsByItself, None) => json!({"status": "completed", "exitCode": 1, "output": ""}),
                (Fault::NoTimeout, Some(_)) => json!({"status": "failed", "exitCode": 1, "output": ""}),
                (_, Some(_)) => json!({"status": "timeout"}),
                (_, None) => json!({"status": "running", "endTime": null}),
            }
        } else {
            let output = match self.fault {
                Fault::OutputIsCut => "Hello",
                _ if line.contains("Hello") => "Hello, World!",
                Fault::QuotesAreLost => "     1\tline2 quoted\ndone; its all here",
                _ => "     1\tline2 \"quoted\"\ndone; it's all  here",
            };
            match self.fault {
                Fault::DoesNotStart => {
                    json!({"status": "failed", "reason": "start_failed", "message": "no cell is available"})
                }
                _ => json!({"status": "completed", "exitCode": 0, "output": output}),
            }
        };
        members.as_object_mut().unwrap().extend(ended.as_object().unwrap().clone());
        let mut record = record(id, members);
        if self.fault == Fault::MemberIsMissing {
            record.as_object_mut().unwrap().remove("endTime");
        }
        records.insert(id.into(), record);
        accept(request)
    }
}

fn verify(fault: Fault, arguments: &[&str]) -> Ended {
    let service = Service { fault, records: Mutex::default() };
    let peer = Peer::start(move |request| service.answer(request));
    Client::new(["verify"].iter().chain(arguments)).at(&peer.url()).run()
}

/// Runs the six checks and returns the names of those that failed, with all that was said of them.
#[track_caller]
fn check(fault: Fault, failing: &[&str], said: &str) {
    let ended = verify(fault, &["--json"]);
    let result: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{}", ended.stderr));
    let checks = result["checks"].as_array().unwrap();
    assert_eq!(checks.len(), 6);
    let failed: Vec<_> = checks.iter().filter(|check| check["passed"] != true).collect();
    let names: Vec<_> = failed.iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(names, failing, "{result:#}");
    assert_eq!(ended.code, Some(i32::from(!failing.is_empty())));
    for check in failed {
        for member in ["expected", "came", "mend"] {
            assert!(check[member].as_str().is_some_and(|text| !text.is_empty()), "{member} of {check:#}");
        }
    }
    assert!(ended.stdout.contains(said), "{}", ended.stdout);
}

#[test]
fn a_service_that_keeps_its_promises_passes_six_checks() {
    let ended = verify(Fault::None, &[]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 7, "{}", ended.stdout);
    for (line, name) in lines.iter().zip([
        "health",
        "allowed command",
        "refused command",
        "cancellation",
        "complex command",
        "timeout",
    ]) {
        assert!(line.starts_with(&format!("ok    {name}")), "{line}");
    }
    assert!(lines[6].starts_with("6 of 6 checks passed at http://127.0.0.1:"), "{}", lines[6]);
}

#[test]
fn each_broken_promise_fails_its_check_and_no_other() {
    check(Fault::HealthSaysMore, &["health"], "another service");
    check(Fault::MemberIsMissing, &["allowed command"], "it lacks endTime");
    check(Fault::RefusalSaysLittle, &["refused command"], "says it is not allowed");
    check(Fault::RefusedIsRecorded, &["refused command"], "must not run");
    check(Fault::RunsAnything, &["refused command"], "STOP this service");
    check(Fault::EndsByItself, &["cancellation"], "it ended before");
    check(Fault::QuotesAreLost, &["complex command"], "quoted");
    check(Fault::NoTimeout, &["timeout"], "limit of 1 s");
    check(Fault::None, &[], "\"passed\": true");
}

#[test]
fn a_service_that_cannot_run_fails_all_that_runs_and_says_what_to_do() {
    check(Fault::OutputIsCut, &["allowed command", "complex command"], "Hello");
    check(Fault::DoesNotStart, &["allowed command", "complex command"], "portcullis-server doctor");
}

#[test]
fn a_rulebook_without_grep_is_checked_with_sleep_instead() {
    check(Fault::GrepIsNotAllowed, &["complex command"], "let the rules allow them");
}

#[test]
fn a_cancellation_without_effect_is_waited_for_and_reported() {
    check(Fault::CancelDoesNothing, &["cancellation"], "its status is `running`");
}

#[test]
fn when_nothing_listens_the_rest_is_not_tried() {
    let gone = Peer::start(|_| Reply::Hangup).url();
    let ended = Client::new(["verify", "--url", &gone]).run();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stdout.contains("FAIL  health") && ended.stdout.contains("0 of 6 checks passed"),
        "{}",
        ended.stdout
    );
    assert_eq!(ended.stdout.matches("not tried").count(), 5, "{}", ended.stdout);
    assert!(ended.stdout.contains("start the service"), "{}", ended.stdout);
}

#[test]
fn a_missing_token_is_named_as_the_trouble() {
    let peer = Peer::start(|request| match request.line.as_str() {
        "GET /health" => Reply::Json(200, json!({"status": "ok"})),
        _ => problem(401, "auth/missing", "no token was sent"),
    });
    let ended = Client::new(["verify"]).at(&peer.url()).run();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stdout.contains("1 of 6 checks passed"), "{}", ended.stdout);
    assert!(ended.stdout.contains("--token-file"), "{}", ended.stdout);
}
