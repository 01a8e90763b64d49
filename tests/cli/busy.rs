//! `run` with a service that has no room, and where words of our own stand.

use std::ffi::OsStr;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::client::{Client, program};
use crate::peer::{Peer, Reply, Request, accept, event, exited, id_of, output, record};

/// Answers that there is no room, and when to come back.
fn busy(status: u16, code: &str, seconds: u32) -> Reply {
    let body = json!({"type": format!("/problems/{code}"), "title": "Busy", "status": status, "detail": "busy",
        "instance": "urn:uuid:1", "code": code, "error": "too many are waiting"});
    let body = body.to_string();
    let head = format!("content-type: application/problem+json\r\ncontent-length: {}", body.len());
    Reply::Raw(format!("HTTP/1.1 {status} X\r\n{head}\r\nretry-after: {seconds}\r\n\r\n{body}").into_bytes())
}

#[test]
fn a_busy_service_is_asked_again_when_it_says_and_the_line_runs_once() {
    let asked = AtomicUsize::new(0);
    let peer = Peer::start(move |request| match request.line.as_str() {
        "POST /api/commands" if asked.fetch_add(1, Ordering::SeqCst) == 0 => busy(429, "queue/user-full", 1),
        "POST /api/commands" => accept(request),
        _ => Reply::Events(event(1, "end", &exited(&id_of(request), 0))),
    });
    let ended = Client::new(["run", "x"]).at(&peer.url()).run();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("too many are waiting"), "{}", ended.stderr);
    assert!(ended.stderr.contains("trying again in 1 s"), "{}", ended.stderr);
    let submitted = peer.requests_of("POST /api/commands");
    assert_eq!(submitted.len(), 2);
    assert_eq!(submitted[0].body, submitted[1].body, "with the same id it is the same execution");
}

#[test]
fn a_service_that_is_busy_for_longer_than_anybody_waits_is_a_failure_at_once() {
    let peer = Peer::start(|_| busy(503, "queue/full", 60));
    let ended = Client::new(["run", "x"]).at(&peer.url()).run();
    assert_eq!(ended.code, Some(125), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: try again in 60 s"), "{}", ended.stderr);
    assert_eq!(peer.requests_of("POST /api/commands").len(), 1);
}

/// Accepts a line and answers the stream of its events with what the function says.
fn service(events: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Peer {
    Peer::start(move |request| match request.line.as_str() {
        "POST /api/commands" => accept(request),
        _ => events(request),
    })
}

#[test]
fn remarks_of_ours_begin_a_line_of_their_own() {
    for (stream, wanted) in [("stderr", "unfinished\nportcullis: "), ("stdout", "portcullis: ")] {
        let peer = service(move |request| {
            let end = record(&id_of(request), json!({"status": "timeout", "reason": "time_limit"}));
            Reply::Events(output(1, stream, "unfinished") + &event(2, "end", &end))
        });
        let ended = Client::new(["run", "x"]).at(&peer.url()).run();
        assert!(ended.stderr.starts_with(wanted), "{stream}: {:?}", ended.stderr);
    }
    // Both into one, as on a terminal.
    let peer = service(move |request| {
        let end = record(&id_of(request), json!({"status": "timeout", "reason": "time_limit"}));
        Reply::Events(output(1, "stdout", "unfinished") + &event(2, "end", &end))
    });
    let home = tempfile::tempdir().unwrap();
    let both = program("sh")
        .args(["-c", "exec 2>&1; exec \"$0\" run x", env!("CARGO_BIN_EXE_portcullis")])
        .env_clear()
        .envs([("PORTCULLIS_URL", OsStr::new(&peer.url())), ("PORTCULLIS_DATA_DIR", home.path().as_os_str())])
        .output()
        .unwrap();
    let both = String::from_utf8(both.stdout).unwrap();
    assert!(both.starts_with("unfinished\nportcullis: "), "{both:?}");
}
