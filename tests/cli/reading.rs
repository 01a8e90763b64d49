//! The commands that ask one question.

use serde_json::{Value, json};

use crate::client::Client;
use crate::peer::{Peer, Reply, exited, id_of, problem, record};

#[test]
fn the_service_and_its_token_are_found_without_being_named() {
    let peer = Peer::start(|_| Reply::Json(200, json!({"allowed_commands": ["ls", "pwd"]})));
    let ended = Client::new(["allowed"]).file("url", &peer.url()).file("token", "s3cret\n").run();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "ls\npwd\n"), "{}", ended.stderr);
    let request = &peer.requests()[0];
    assert_eq!(request.line, "GET /api/commands/allowed");
    assert_eq!(request.header("authorization"), Some("Bearer s3cret"));
}

#[test]
fn a_named_token_file_is_read_and_a_variable_is_taken() {
    let peer = Peer::start(|_| Reply::Json(200, json!({"allowed_commands": []})));
    let client = Client::new(["allowed"]).at(&peer.url()).file("mine", "from-file");
    let file = client.home().join("mine");
    assert_eq!(client.env("PORTCULLIS_TOKEN_FILE", file).run().code, Some(0));
    assert_eq!(
        Client::new(["allowed"]).at(&peer.url()).env("PORTCULLIS_TOKEN", "from-variable").run().code,
        Some(0)
    );
    let sent: Vec<_> =
        peer.requests().iter().map(|r| r.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(sent, ["Bearer from-file", "Bearer from-variable"]);
}

#[test]
fn a_service_that_is_not_there_is_said_with_what_to_do() {
    let gone = Peer::start(|_| Reply::Hangup).url();
    let ended = Client::new(["status", "x"]).at(&gone).run();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(125), ""));
    assert!(ended.stderr.contains(&format!("error: cannot connect to `{gone}`")), "{}", ended.stderr);
    assert!(ended.stderr.contains("`portcullis-server` starts it"), "{}", ended.stderr);
}

#[test]
fn a_token_that_is_missing_or_wrong_is_said_with_what_to_do() {
    let peer = Peer::start(|request| match request.header("authorization") {
        None => problem(401, "auth/missing", "no token was sent"),
        Some(_) => problem(401, "auth/invalid-token", "the token is not known"),
    });
    let ended = Client::new(["list"]).at(&peer.url()).run();
    assert_eq!(ended.code, Some(125));
    assert!(ended.stderr.contains("--token-file"), "{}", ended.stderr);
    // The token here belongs to a service elsewhere: it is not sent, and that is said.
    let ended =
        Client::new(["list"]).at(&peer.url()).file("url", "http://127.0.0.1:9").file("token", "x").run();
    assert!(ended.stderr.contains("belongs to another service"), "{}", ended.stderr);
    let ended = Client::new(["list"]).at(&peer.url()).env("PORTCULLIS_TOKEN", "wrong").run();
    assert!(ended.stderr.contains("the token is not known (auth/invalid-token)"), "{}", ended.stderr);
}

#[test]
fn what_is_no_portcullis_service_is_recognised() {
    let page = b"HTTP/1.1 404 X\r\ncontent-type: text/html\r\ncontent-length: 12\r\n\r\n<h1>Hi\x1b</h1>";
    let peer = Peer::start(|_| Reply::Raw(page.to_vec()));
    let ended = Client::new(["status", "x"]).at(&peer.url()).run();
    assert_eq!(ended.code, Some(125));
    assert!(
        ended.stderr.contains("answered 404") && ended.stderr.contains("Portcullis service?"),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains('\x1b'), "{:?}", ended.stderr);
}

#[test]
fn a_record_is_shown_to_people_and_handed_to_programs_as_it_came() {
    let peer = Peer::start(|request| {
        let mut record = exited(&id_of(request), 1);
        record["ofALaterVersion"] = 7.into();
        Reply::Json(200, record)
    });
    let ended = Client::new(["status", "abc"]).at(&peer.url()).run();
    assert_eq!(ended.code, Some(0));
    assert!(ended.stdout.contains("exit with code 1") && ended.stdout.contains("abc"), "{}", ended.stdout);
    let ended = Client::new(["--json", "status", "abc"]).at(&peer.url()).run();
    assert_eq!(serde_json::from_str::<Value>(&ended.stdout).unwrap()["ofALaterVersion"], 7);
}

#[test]
fn a_list_is_asked_for_with_its_filters() {
    let peer = Peer::start(|_| Reply::Json(200, json!({"executions": [exited("a", 0)], "next": "c/2"})));
    let arguments = [
        "list",
        "--status",
        "failed",
        "--program",
        "a b",
        "-n",
        "5",
        "--cursor",
        "x=y",
        "--since",
        "2025-03-25T16:17:12+02:00",
    ];
    let ended = Client::new(arguments).at(&peer.url()).run();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(
        ended.stdout.contains("completed") && ended.stdout.contains("more: --cursor c/2"),
        "{}",
        ended.stdout
    );
    assert_eq!(
        peer.requests()[0].line,
        "GET /api/commands?limit=5&status=failed&program=a%20b&acceptedFrom=2025-03-25T16%3A17%3A12%2B02%3A00&cursor=x%3Dy"
    );
}

#[test]
fn a_cancellation_says_what_became_of_it() {
    let peer = Peer::start(|request| match id_of(request).as_str() {
        "running" => {
            Reply::Json(200, record("running", json!({"status": "cancelled", "reason": "cancelled"})))
        }
        "ended" => {
            let Reply::Json(status, mut body) = problem(409, "execution/already-ended", "it had ended")
            else {
                unreachable!()
            };
            body["execution"] = exited("ended", 0);
            Reply::Json(status, body)
        }
        _ => problem(404, "execution/not-found", "the execution does not exist"),
    });
    let check = |id: &str, code, stdout: &str, stderr: &str| {
        let ended = Client::new(["cancel", id]).at(&peer.url()).run();
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), stdout), "{}", ended.stderr);
        assert!(ended.stderr.contains(stderr), "{}", ended.stderr);
    };
    check("running", 0, "running cancelled\n", "");
    check("ended", 1, "ended had ended already: completed\n", "");
    check("other", 125, "", "`portcullis list` shows your executions");
}

#[test]
fn nobody_is_sent_to_watch_what_is_not_there() {
    let peer = Peer::start(|_| problem(404, "execution/expired", "it was removed"));
    let ended = Client::new(["watch", "old"]).at(&peer.url()).run();
    assert_eq!(ended.code, Some(125));
    assert!(ended.stderr.contains("it was removed") && !ended.stderr.contains("goes on"), "{}", ended.stderr);
}

#[test]
fn output_comes_back_byte_for_byte() {
    let peer = Peer::start(|request| {
        assert_eq!(request.line, "GET /api/commands/abc/output?stream=stdout");
        Reply::Raw(b"HTTP/1.1 200 X\r\ncontent-type: application/octet-stream\r\ncontent-length: 6\r\n\r\n\x1b[2Ja\n".to_vec())
    });
    let ended = Client::new(["output", "--stream", "stdout", "abc"]).at(&peer.url()).run();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "\x1b[2Ja\n"));
}

#[test]
fn check_says_whether_and_why_not() {
    let peer = Peer::start(|request| match request.body["command"].as_str() {
        Some("ls") => Reply::Json(
            200,
            json!({"valid": true, "is_valid": true, "message": "allowed", "rules": ["base"], "programs": ["ls"]}),
        ),
        _ => Reply::Json(
            200,
            json!({"valid": false, "is_valid": false, "message": "command not allowed: no", "denial":
                {"code": "program/not-allowed", "span": {"start": 0, "end": 2}, "subject": "rm", "rule": null,
                 "message": "`rm` is not allowed", "suggestion": null, "further": []}}),
        ),
    });
    let ended = Client::new(["check", "ls"]).at(&peer.url()).run();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "allowed by base\n"), "{}", ended.stderr);
    let ended = Client::new(["check", "--", "rm", "a b"]).at(&peer.url()).run();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stdout.contains("rm 'a b'\n") && ended.stdout.contains("`rm` is not allowed"),
        "{}",
        ended.stdout
    );
    assert!(peer.requests().iter().all(|request| request.line == "POST /api/commands/validate"));
}

#[test]
fn wrong_use_is_2_and_says_what_is_right() {
    for (arguments, said) in [
        (&["run"][..], "there is no command line"),
        (&["run", "echo", "hi"], "in pieces"),
        (&["run", "--timeout", "0", "ls"], "seconds above 0"),
        (&["--token", "x", "list"], "unexpected argument"),
    ] {
        let ended = Client::new(arguments).at("http://127.0.0.1:9").run();
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{}", ended.stderr);
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
}

#[test]
fn help_and_version_are_results() {
    for arguments in [&["-h"][..], &["run", "-h"], &["policy", "check", "--help"], &["check", "-h"]] {
        let ended = Client::new(arguments).run();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        assert!(ended.stdout.contains("Examples:\n  portcullis"), "{}", ended.stdout);
    }
    let ended = Client::new(["--version"]).run();
    assert_eq!(ended.stdout, concat!("portcullis ", env!("CARGO_PKG_VERSION"), "\n"));
}
