//! An execution as a stream of events.

use std::time::Duration;

use portcullis_api::ProblemCode as Code;
use portcullis_core::ExecutionStore as _;
use serde_json::json;

use crate::answers::{Event, Stream};
use crate::served::{PATIENCE, Served};

async fn all(mut stream: Stream) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        events.push(event);
    }
    events
}

/// Shows events as `kind id: what they say`.
fn shown(events: &[Event]) -> Vec<String> {
    let show = |event: &Event| match event.kind.as_str() {
        "output" => format!("output {}: {:?}", event.id, event.text()),
        kind => format!("{kind} {}: {}", event.id, event.data["status"].as_str().unwrap()),
    };
    events.iter().map(show).collect()
}

/// Runs three pieces of output, each stored before the next is written.
async fn run_in_three_pieces(served: &Served) {
    served.submit(json!({"executionId": "x", "command": "gated"})).await.expect_status(201);
    let mut events = served.events("x", None).await;
    while let Some(event) = events.next().await {
        if event.kind == "output" {
            served.actor.gate.add_permits(1);
        }
    }
}

#[tokio::test]
async fn what_is_stored_comes_first_then_what_arrives_then_exactly_one_end() {
    let served = Served::start().await;
    served.submit(json!({"executionId": "x", "command": "gated"})).await.expect_status(201);
    let mut early = served.events("x", None).await;
    while early.next().await.unwrap().kind != "output" {}
    let mut stream = served.events("x", None).await;
    let mut late = Vec::new();
    while let Some(event) = stream.next().await {
        if event.kind == "output" {
            served.actor.gate.add_permits(1);
        }
        late.push(event);
    }
    let late = shown(&late);
    assert_eq!(
        late,
        [
            "status 0: running",
            "output 1: \"1\\n\"",
            "output 2: \"2\\n\"",
            "output 3: \"3\\n\"",
            "end 4: completed"
        ]
    );
    assert_eq!(shown(&all(early).await), late[2..]);
    // Who asks when all is over gets the same.
    assert_eq!(shown(&all(served.events("x", None).await).await)[1..], late[1..]);
}

#[tokio::test]
async fn a_watcher_resumes_without_gap_or_repetition_wherever_it_broke_off() {
    let served = Served::start().await;
    run_in_three_pieces(&served).await;
    let whole = shown(&all(served.events("x", None).await).await);
    for position in 0..=3 {
        let resumed = shown(&all(served.events("x", Some(&position.to_string())).await).await);
        assert_eq!(resumed[0], format!("status {position}: completed"));
        assert_eq!(resumed[1..], whole[1 + position..], "from {position}");
        let asked = served.request("GET", &format!("/api/commands/x/events?lastEventId={position}"));
        assert_eq!(shown(&all(asked.stream().await).await), resumed);
    }
    // Behind the end there is nothing, and a browser is told not to come again.
    let asked = served.request("GET", "/api/commands/x/events").header("last-event-id", "4");
    assert!(asked.send().await.expect_status(204).body.is_empty());
    for wrong in ["5", "99999999999999999999", "-1", "abc", "1 2", "0x1", ""] {
        let asked = served.request("GET", "/api/commands/x/events").header("last-event-id", wrong);
        asked.send().await.expect_status(400).expect_problem(Code::RequestInvalid);
    }
}

#[tokio::test]
async fn a_position_that_a_running_execution_has_not_reached_is_refused() {
    let served = Served::start().await;
    served.submit(json!({"executionId": "x", "command": "gated"})).await.expect_status(201);
    let mut events = served.events("x", None).await;
    while events.next().await.unwrap().kind != "output" {}
    let asked = served.request("GET", "/api/commands/x/events").header("last-event-id", "2");
    asked.send().await.expect_status(400).expect_problem(Code::RequestInvalid);
}

#[tokio::test]
async fn output_stays_data_whatever_it_holds() {
    let served = Served::start().await;
    served.run("x", "bytes").await;
    let events = all(served.events("x", None).await).await;
    let [status, output, end] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((status.kind.as_str(), output.kind.as_str(), end.kind.as_str()), ("status", "output", "end"));
    assert_eq!(output.data["encoding"], "base64");
    assert_eq!(output.text(), "Yf8ADQpkYXRhOiB4CgpldmVudDogZW5kCg==");
    assert_eq!((&output.data["stream"], &output.data["seq"]), (&json!("stdout"), &json!(1)));
}

#[tokio::test]
async fn the_end_carries_the_record_without_its_output() {
    let served = Served::start().await;
    served.run("x", "complain oh").await;
    let end = all(served.events("x", None).await).await.pop().unwrap();
    assert_eq!((&end.data["status"], &end.data["exitCode"]), (&json!("failed"), &json!(2)));
    assert_eq!((&end.data["output"], &end.data["outputBytes"]), (&json!(null), &json!(10)));
}

#[tokio::test]
async fn silence_is_broken_by_a_heartbeat() {
    let served = Served::start_with(|wanted| wanted.http.heartbeat = Duration::from_millis(20)).await;
    served.submit(json!({"executionId": "x", "command": "sleep"})).await.expect_status(201);
    let mut events = served.events("x", None).await;
    events.heartbeat().await;
    served.request("POST", "/api/commands/x/cancel").send().await.expect_status(200);
    let events = all(events).await;
    assert_eq!(shown(&events).last().unwrap(), "end 1: cancelled");
}

#[tokio::test]
async fn a_watcher_that_stops_reading_is_let_go_and_disturbs_nobody() {
    let served = Served::start_with(|wanted| wanted.http.write_patience = Duration::from_millis(200)).await;
    let body = json!({"executionId": "x", "command": "flood 8000000"});
    served.submit(body).await.expect_status(201);
    // More than the kernel's buffers hold; it reads nothing of it.
    let stuck = tokio::net::TcpStream::connect(served.address).await.unwrap();
    let request =
        b"GET /api/commands/x/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer alice\r\n\r\n";
    stuck.writable().await.unwrap();
    assert_eq!(stuck.try_write(request).unwrap(), request.len());
    let record = served.ended("x").await;
    assert_eq!(record.output_bytes, 8_000_000);
    // Until the service has hung up, it takes what we send.
    let begun = std::time::Instant::now();
    while stuck.try_write(b"x").is_ok() {
        assert!(begun.elapsed() < PATIENCE, "the service waits for ever");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(begun.elapsed() < PATIENCE);
    served.get("/api/commands/x").await.expect_status(200);
}

#[tokio::test]
async fn a_position_that_retention_has_removed_is_said_to_be_gone() {
    let served = Served::start().await;
    run_in_three_pieces(&served).await;
    let later = time::OffsetDateTime::now_utc() + Duration::from_secs(1);
    assert_eq!(served.store.expire(later).await.unwrap(), 1);
    for position in ["0", "2", "4"] {
        let asked = served.request("GET", "/api/commands/x/events").header("last-event-id", position);
        let problem = asked.send().await.expect_status(404).expect_problem(Code::ExecutionExpired);
        assert!(problem.detail.contains("removed when its retention was over"), "{problem}");
    }
    // Under its name there may be another one by now, which has not come so far.
    served.run("x", "echo x").await;
    let asked = served.request("GET", "/api/commands/x/events").header("last-event-id", "4");
    let problem = asked.send().await.expect_status(400).expect_problem(Code::RequestInvalid);
    assert!(problem.detail.contains("the last event of this execution is 2"), "{problem}");
}
