//! `run` and `watch`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use serde_json::{Value, json};

use crate::client::{Client, program};
use crate::peer::{Peer, Reply, Request, accept, event, exited, id_of, output, problem, record};

/// Accepts a line and answers the stream of its events with what the function says.
fn service(events: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Peer {
    Peer::start(move |request| match request.line.as_str() {
        "POST /api/commands" => accept(request),
        line if line.ends_with("/events") => events(request),
        line => panic!("{line}"),
    })
}

/// A service whose executions end like this at once.
fn ending(members: Value) -> Peer {
    service(move |request| Reply::Events(event(1, "end", &record(&id_of(request), members.clone()))))
}

#[test]
fn output_becomes_ours_stream_by_stream_and_the_exit_code_too() {
    let peer = service(|request| {
        let id = id_of(request);
        Reply::Events(
            event(0, "status", &record(&id, json!({})))
                + &output(1, "stdout", "one\n")
                + ": heartbeat\n\n"
                + &output(2, "stderr", "two\n")
                + "id: 3\nevent: output\ndata: {\"seq\":3,\"stream\":\"stdout\",\"time\":\"2025-03-25T16:17:12.000Z\",\"data\":\"/wAK\",\"encoding\":\"base64\"}\n\n"
                + &event(4, "end", &exited(&id, 3)),
        )
    });
    let ended = Client::new(["run", "cat x | grep y"]).at(&peer.url()).run();
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
        (Some(3), "one\n\u{fffd}\0\n", "two\n")
    );
    let submitted = &peer.requests_of("POST /api/commands")[0].body;
    assert_eq!(submitted["command"], "cat x | grep y");
    assert_eq!(submitted.as_object().unwrap().len(), 2, "a line alone sends its id and nothing else");
}

#[test]
fn words_are_quoted_and_options_are_sent() {
    let peer = ending(json!({"status": "completed", "reason": "exit", "exitCode": 0}));
    let ended = Client::new([
        "run",
        "--timeout",
        "2.5",
        "--id",
        "mine-1",
        "--env",
        "LANG=C",
        "-e",
        "A=b=c",
        "--workdir",
        "sub",
        "--stdin",
        "--",
        "grep",
        "-e",
        "a|b",
        "it's",
        "--json",
    ])
    .at(&peer.url())
    .stdin("given\n")
    .run();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        peer.requests_of("POST /api/commands")[0].body,
        json!({
            "command": r"grep -e 'a|b' 'it'\''s' --json", "executionId": "mine-1", "timeout": 2.5,
            "stdin": "given\n", "env": {"LANG": "C", "A": "b=c"}, "workingDirectory": "sub",
        })
    );
}

#[test]
fn every_end_has_its_exit_code_and_a_word_where_the_code_says_too_little() {
    for (members, code, said) in [
        (json!({"status": "failed", "reason": "signal", "signal": 11}), 139, "ended by signal 11"),
        (json!({"status": "timeout", "reason": "time_limit", "signal": 15}), 124, "timed out after 60 s"),
        (json!({"status": "cancelled", "reason": "cancelled"}), 130, "cancelled"),
        (json!({"status": "failed", "reason": "memory_limit"}), 137, "used up its memory of 512 MiB"),
        (
            json!({"status": "failed", "reason": "start_failed", "message": "no `x`"}),
            125,
            "did not start: no `x`",
        ),
        (json!({"status": "lost", "reason": "service_died"}), 125, "what it had done is unknown"),
    ] {
        let peer = ending(members);
        let ended = Client::new(["run", "x"]).at(&peer.url()).run();
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn a_refused_line_is_125_and_shows_the_place_and_the_way_out() {
    let peer = Peer::start(|_| {
        let denial = json!({"code": "program/not-allowed", "span": {"start": 5, "end": 7}, "subject": "rm",
            "rule": null, "message": "`rm` is not allowed", "suggestion": null, "further": []});
        let Reply::Json(status, mut body) = problem(403, "command/not-allowed", "command not allowed: `rm`")
        else {
            unreachable!()
        };
        body["denial"] = denial;
        Reply::Json(status, body)
    });
    let ended = Client::new(["run", "ls | rm x"]).at(&peer.url()).run();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(125), ""));
    assert!(ended.stderr.contains("ls | rm x\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains("`rm` is not allowed"), "{}", ended.stderr);
    let ended = Client::new(["run", "--", "ls | rm x"]).at(&peer.url()).run();
    assert!(ended.stderr.contains("leave the `--` out"), "{}", ended.stderr);
}

#[test]
fn a_connection_lost_in_mid_stream_is_made_again_behind_the_last_event() {
    let connections = AtomicUsize::new(0);
    let peer = service(move |request| {
        let id = id_of(request);
        match connections.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::Events(
                event(0, "status", &record(&id, json!({})))
                    + &output(1, "stdout", "a")
                    + &output(2, "stdout", "b")
                    + "id: 3\nevent: output\ndata: {\"seq\":3,\"str",
            ),
            1 => problem(503, "service/draining", "the service is shutting down"),
            // One that resumes too early repeats nothing either.
            _ => Reply::Events(
                output(2, "stdout", "b") + &output(3, "stdout", "c") + &event(4, "end", &exited(&id, 0)),
            ),
        }
    });
    let ended = Client::new(["run", "x"]).at(&peer.url()).run();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "abc"), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("connecting again") && ended.stderr.contains("connected again"),
        "{}",
        ended.stderr
    );
    let positions: Vec<_> = peer
        .requests()
        .iter()
        .filter(|request| request.line.ends_with("/events"))
        .map(|request| request.header("last-event-id").map(str::to_owned))
        .collect();
    assert_eq!(positions, [None, Some("2".into()), Some("2".into())]);
}

#[test]
fn a_watch_goes_on_over_a_restart_of_the_service() {
    let (cut, until_cut) = mpsc::channel::<()>();
    let until_cut = Mutex::new(Some(until_cut));
    let first = Peer::start(move |request| {
        let until_cut = until_cut.lock().unwrap().take().unwrap();
        let id = id_of(request);
        let events = event(0, "status", &record(&id, json!({}))) + &output(1, "stderr", "begun\n");
        Reply::EventsThen(events, Box::new(move |_| until_cut.recv().unwrap_or_default()))
    });
    let address = first.address();
    let mut watching = Client::new(["watch", "abc"]).at(&first.url()).start();
    watching.await_stderr("begun\n");
    // The place is gone before the connection is: the next try is refused.
    drop(first);
    cut.send(()).unwrap();
    watching.await_stderr("connecting again");
    let second = Peer::start_at(address, |request| {
        assert_eq!(request.header("last-event-id"), Some("1"));
        let id = id_of(request);
        Reply::Events(output(2, "stdout", "after\n") + &event(3, "end", &exited(&id, 0)))
    });
    let ended = watching.wait();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "after\n"), "{}", ended.stderr);
    drop(second);
}

#[test]
fn a_record_that_ends_before_our_position_is_taken_as_the_end() {
    // The service died with output that it had sent and not stored: to our position it can only say no.
    let connections = AtomicUsize::new(0);
    let peer = Peer::start(move |request| match request.line.as_str() {
        "POST /api/commands" => accept(request),
        line if line.ends_with("/events") => match connections.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::Events(output(1, "stdout", "a\n") + &output(2, "stdout", "b\n")),
            _ => problem(400, "request/invalid", "`?lastEventId` is 2; this execution's last event is 1"),
        },
        _ => Reply::Json(200, record(&id_of(request), json!({"status": "lost", "reason": "service_died"}))),
    });
    let ended = Client::new(["run", "x"]).at(&peer.url()).run();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(125), "a\nb\n"), "{}", ended.stderr);
}

#[test]
fn a_submission_whose_answer_is_lost_is_sent_again_under_the_same_id() {
    let submissions = AtomicUsize::new(0);
    let peer = Peer::start(move |request| match request.line.as_str() {
        "POST /api/commands" if submissions.fetch_add(1, Ordering::SeqCst) == 0 => Reply::Hangup,
        "POST /api/commands" => {
            Reply::Json(200, json!({"executionId": request.body["executionId"], "status": "running"}))
        }
        _ => Reply::Events(event(1, "end", &exited(&id_of(request), 0))),
    });
    let ended = Client::new(["run", "x"]).at(&peer.url()).run();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let submitted = peer.requests_of("POST /api/commands");
    assert_eq!(submitted.len(), 2);
    assert_eq!(submitted[0].body, submitted[1].body);
}

/// A service that runs a line until it is told to end it; `cancel` answers the cancellation, and may tell it.
fn cancellable(
    cancel: impl Fn(&mpsc::Sender<()>) -> Reply + Send + Sync + 'static,
) -> (Peer, mpsc::Sender<()>) {
    let (end, until_end) = mpsc::channel();
    let until_end = Mutex::new(Some(until_end));
    let from_outside = end.clone();
    let end = Mutex::new(end);
    let peer = Peer::start(move |request| match request.line.as_str() {
        "POST /api/commands" => accept(request),
        line if line.ends_with("/events") => {
            let until_end = until_end.lock().unwrap().take().unwrap();
            let id = id_of(request);
            let begun = event(0, "status", &record(&id, json!({}))) + &output(1, "stderr", "begun\n");
            Reply::EventsThen(
                begun,
                Box::new(move |stream| {
                    use std::io::Write;
                    until_end.recv().unwrap_or_default();
                    let end =
                        record(&id, json!({"status": "cancelled", "reason": "cancelled", "signal": 15}));
                    write!(stream, "{}", event(2, "end", &end)).ok();
                }),
            )
        }
        line if line.ends_with("/cancel") => {
            let end = end.lock().unwrap().clone();
            cancel(&end)
        }
        line => panic!("{line}"),
    });
    (peer, from_outside)
}

#[test]
fn ctrl_c_cancels_the_execution_and_waits_for_its_end() {
    for signal in ["INT", "TERM"] {
        let (peer, _end) = cancellable(|end| {
            end.send(()).unwrap();
            Reply::Json(200, json!({"status": "cancelled"}))
        });
        let mut running = Client::new(["run", "--id", "long", "x"]).at(&peer.url()).start();
        running.await_stderr("begun\n");
        running.signal(signal);
        let ended = running.wait();
        assert_eq!(ended.code, Some(130), "{}", ended.stderr);
        assert!(ended.stderr.contains("cancelling"), "{}", ended.stderr);
        assert_eq!(peer.requests_of("POST /api/commands/long/cancel").len(), 1);
    }
}

#[test]
fn ctrl_c_twice_leaves_at_once() {
    let (_never, forever) = mpsc::channel::<()>();
    let forever = Mutex::new(forever);
    let (peer, _end) = cancellable(move |_| {
        forever.lock().unwrap().recv().ok();
        Reply::Hangup
    });
    let mut running = Client::new(["run", "x"]).at(&peer.url()).start();
    running.await_stderr("begun\n");
    running.signal("INT");
    running.await_stderr("again leaves at once");
    running.signal("INT");
    assert_eq!(running.wait().code, Some(130));
}

#[test]
fn a_cancellation_that_fails_is_said_and_the_execution_followed_on() {
    let (peer, end) = cancellable(|_| problem(503, "store/unavailable", "the records cannot be written"));
    let mut running = Client::new(["run", "x"]).at(&peer.url()).start();
    running.await_stderr("begun\n");
    running.signal("INT");
    running.await_stderr("could not cancel: the records cannot be written");
    end.send(()).unwrap();
    assert_eq!(running.wait().code, Some(130));
}

#[test]
fn when_nobody_reads_our_output_the_execution_is_cancelled() {
    let peer = Peer::start(|request| match request.line.as_str() {
        "POST /api/commands" => accept(request),
        line if line.ends_with("/events") => Reply::EventsThen(
            output(1, "stdout", "first\n"),
            Box::new(|stream| {
                use std::io::Write;
                // Until the client is gone: its kernel refuses what it does not want.
                for seq in 2.. {
                    if write!(stream, "{}", output(seq, "stdout", "more\n")).is_err() {
                        return;
                    }
                }
            }),
        ),
        _ => Reply::Json(200, json!({"status": "cancelled"})),
    });
    let mut running = Client::new(["run", "--id", "flood", "x"]).at(&peer.url()).start();
    assert_eq!(running.read_and_close_stdout(6), "first\n");
    assert_eq!(running.wait().code, Some(141));
    assert_eq!(peer.requests_of("POST /api/commands/flood/cancel").len(), 1);
}

#[test]
fn detached_prints_the_id_and_leaves_it_running() {
    let peer = Peer::start(accept);
    let ended = Client::new(["run", "-d", "--id", "later", "x"]).at(&peer.url()).run();
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "later\n", ""));
    assert_eq!(peer.requests().len(), 1);
}

#[test]
fn json_prints_the_record_and_nothing_else() {
    let peer = Peer::start(|request| match request.line.as_str() {
        "POST /api/commands" => accept(request),
        line if line.ends_with("/events") => {
            Reply::Events(output(1, "stdout", "x\n") + &event(2, "end", &exited(&id_of(request), 4)))
        }
        _ => {
            let mut record = exited(&id_of(request), 4);
            record["output"] = "x".into();
            record["ofALaterVersion"] = true.into();
            Reply::Json(200, record)
        }
    });
    let ended = Client::new(["run", "--json", "--id", "j", "x"]).at(&peer.url()).run();
    let record: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(4), ""));
    assert_eq!((&record["output"], &record["ofALaterVersion"]), (&json!("x"), &json!(true)));
}

#[test]
fn an_event_stream_that_cannot_be_read_is_an_error_and_no_endless_loop() {
    let peer = service(|_| Reply::Events("id: 1\nevent: output\ndata: not json\n\n".into()));
    let ended = Client::new(["run", "--id", "odd", "x"]).at(&peer.url()).run();
    assert_eq!(ended.code, Some(125));
    assert!(ended.stderr.contains("cannot be read"), "{}", ended.stderr);
    assert!(ended.stderr.contains("`portcullis watch odd` goes on"), "{}", ended.stderr);
}

#[test]
fn on_a_terminal_output_cannot_drive_it() {
    // script(1) of util-linux gives a process a terminal.
    if !program("script").arg("--version").output().is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("PORTCULLIS_REQUIRE_ALL").is_none(), "there is no script(1) here");
        eprintln!("SKIPPED: there is no script(1) here");
        return;
    }
    let peer = Arc::new(service(|request| {
        Reply::Events(
            output(1, "stdout", "\u{1b}[31mred\u{1b}[0m \u{1b}]0;title\u{7}\u{1b}[2J\n")
                + &event(2, "end", &exited(&id_of(request), 0)),
        )
    }));
    let line = format!("{} --url {} run x", env!("CARGO_BIN_EXE_portcullis"), peer.url());
    let output = program("script").args(["-q", "-e", "-c", &line, "/dev/null"]).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("\u{1b}[31mred\u{1b}[0m \\x1b]0;title\\x07\\x1b[2J"), "{shown:?}");
}
