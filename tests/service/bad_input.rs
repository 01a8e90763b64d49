//! Bad input is answered with what is wrong and what is accepted, and leaves nothing behind.

use std::sync::atomic::Ordering;

use portcullis_api::ProblemCode as Code;
use serde_json::json;

use crate::contract::{DOCUMENT, resolved};
use crate::served::Served;

#[tokio::test]
async fn every_wrong_member_is_named_by_its_pointer() {
    let served = Served::start().await;
    for (body, code, pointers) in [
        ("", Code::RequestMalformed, vec![]),
        ("{", Code::RequestMalformed, vec![]),
        ("{\"command\":\"\u{0}\"}", Code::RequestMalformed, vec![]),
        (r#"{"command":"x"} {}"#, Code::RequestMalformed, vec![]),
        (r#"{"command":"x","timeout":1e999}"#, Code::RequestMalformed, vec![]),
        (r#"{"command":"\ud800"}"#, Code::RequestMalformed, vec![]),
        (r#"{"a":[[[[[[[[1]]]]]]]]}"#, Code::RequestMalformed, vec![]),
        ("[]", Code::RequestInvalid, vec![""]),
        ("\"ls\"", Code::RequestInvalid, vec![""]),
        ("{}", Code::RequestInvalid, vec!["/command"]),
        (r#"{"command":null}"#, Code::RequestInvalid, vec!["/command"]),
        (r#"{"command":["ls"]}"#, Code::RequestInvalid, vec!["/command"]),
        (r#"{"command":""}"#, Code::RequestInvalid, vec!["/command"]),
        (r#"{"command":" \t\n"}"#, Code::RequestInvalid, vec!["/command"]),
        (r#"{"command":"echo \u0000"}"#, Code::RequestInvalid, vec!["/command"]),
        (r#"{"command":"x","command":"y"}"#, Code::RequestInvalid, vec!["/command"]),
        (r#"{"command":"x","timeout":0}"#, Code::RequestInvalid, vec!["/timeout"]),
        (r#"{"command":"x","timeout":-1}"#, Code::RequestInvalid, vec!["/timeout"]),
        (r#"{"command":"x","timeout":"10"}"#, Code::RequestInvalid, vec!["/timeout"]),
        (r#"{"command":"x","timeout":1e300}"#, Code::RequestInvalid, vec!["/timeout"]),
        (r#"{"command":"x","stdin":1}"#, Code::RequestInvalid, vec!["/stdin"]),
        (r#"{"command":"x","env":"A=1"}"#, Code::RequestInvalid, vec!["/env"]),
        (r#"{"command":"x","env":{"A":1}}"#, Code::RequestInvalid, vec!["/env/A"]),
        (r#"{"command":"x","env":{"A/B~":1}}"#, Code::RequestInvalid, vec!["/env/A~1B~0"]),
        (r#"{"command":"x","env":{"A":"1","A":"2"}}"#, Code::RequestInvalid, vec!["/env/A"]),
        (r#"{"command":"x","workingDirectory":7}"#, Code::RequestInvalid, vec!["/workingDirectory"]),
        (r#"{"command":"x","executionId":7}"#, Code::ExecutionIdInvalid, vec!["/executionId"]),
        (r#"{"command":"x","shell":"bash"}"#, Code::RequestInvalid, vec!["/shell"]),
        (
            r#"{"command":7,"executionId":"a b","timeout":true,"x":1}"#,
            Code::RequestInvalid,
            vec!["/command", "/executionId", "/timeout", "/x"],
        ),
    ] {
        let asked = served.request("POST", "/api/commands").header("content-type", "application/json");
        let answer = asked.body(body.to_owned()).send().await.expect_status(400);
        let problem = answer.expect_problem(code);
        let found: Vec<_> = problem.errors.iter().map(|member| member.pointer.as_str()).collect();
        assert_eq!(found, pointers, "{body}");
        for pointer in pointers {
            assert!(problem.error.contains(pointer), "{problem}");
        }
    }
    let too_long = json!({"command": "x".repeat(65_537)});
    served.submit(too_long).await.expect_problem(Code::RequestInvalid);
    let invalid_utf8 = b"{\"command\":\"\xff\"}".to_vec();
    let asked = served.request("POST", "/api/commands").header("content-type", "application/json");
    asked.body(invalid_utf8).send().await.expect_problem(Code::RequestMalformed);
    assert_eq!(served.actor.launches.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn parameters_are_held_to_what_a_route_takes() {
    let served = Served::start().await;
    served.run("x", "echo x").await;
    for (path, pointer) in [
        ("/api/commands/x?verbose=1", "?verbose"),
        ("/api/commands/allowed?user=bob", "?user"),
        ("/api/commands?owner=bob", "?owner"),
        ("/api/commands?limit=0", "?limit"),
        ("/api/commands?limit=201", "?limit"),
        ("/api/commands?status=canceled", "?status"),
        ("/api/commands?acceptedFrom=yesterday", "?acceptedFrom"),
        ("/api/commands?acceptedBefore=2025-03-25", "?acceptedBefore"),
        ("/api/commands?cursor=none-of-ours", "?cursor"),
        ("/api/commands/x/output?stream=both", "?stream"),
        ("/api/commands/x/output?stream=stdout&stream=stderr", "?stream"),
        ("/api/commands/x/events?lastEventId=abc", "?lastEventId"),
        ("/api/commands/x/events?lastEventId=3", "?lastEventId"),
    ] {
        let problem = served.get(path).await.expect_status(400).expect_problem(Code::RequestInvalid);
        assert_eq!(problem.errors[0].pointer, pointer, "{path}");
    }
    served.get("/api/commands/x?%zz").await.expect_problem(Code::RequestMalformed);
}

#[tokio::test]
async fn only_json_is_taken() {
    let served = Served::start().await;
    let body = json!({"command": "echo x"}).to_string();
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1"]
    {
        let asked = served.request("POST", "/api/commands").header("content-type", media_type);
        asked.body(body.clone()).send().await.expect_status(415).expect_problem(Code::RequestMediaType);
    }
    served
        .request("POST", "/api/commands")
        .body(body.clone())
        .send()
        .await
        .expect_problem(Code::RequestMediaType);
    let asked = served.request("POST", "/api/commands").header("content-type", "application/json");
    let compressed = asked.header("content-encoding", "gzip").body(body.clone()).send().await;
    compressed.expect_problem(Code::RequestMediaType);
    let asked =
        served.request("POST", "/api/commands").header("content-type", "application/json; charset=utf-8");
    asked.body(body).send().await.expect_status(201);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_one_at_the_limit_is_not() {
    let served = Served::start_with(|wanted| wanted.http.body_limit_bytes = 100_000).await;
    let body = |bytes: usize| {
        let frame = json!({"command": "cat", "stdin": ""}).to_string().len();
        json!({"command": "cat", "stdin": "x".repeat(bytes - frame)})
    };
    served.submit(body(100_000)).await.expect_status(201);
    let problem = served.submit(body(100_001)).await.expect_status(413).expect_problem(Code::RequestTooLarge);
    assert!(problem.error.contains("100000"), "{problem}");
    // The same without a length beforehand.
    let mut chunked = b"POST /api/commands HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer alice\r\n\
        Content-Type: application/json\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        .to_vec();
    for _ in 0..3 {
        chunked.extend(format!("{:x}\r\n{}\r\n", 50_000, "x".repeat(50_000)).into_bytes());
    }
    chunked.extend(b"0\r\n\r\n");
    assert!(served.raw(&chunked).await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn routes_methods_and_targets_that_are_none_are_named() {
    let served = Served::start().await;
    for path in [
        "//",
        "/api",
        "/api/commands/",
        "/api/commands/x/y",
        "/health/",
        "/problems/x/y",
        "/api/commands/x/cancel/",
    ] {
        served.get(path).await.expect_status(404).expect_problem(Code::RouteUnknown);
    }
    for (method, path, allow) in [
        ("DELETE", "/health", "GET, HEAD, OPTIONS"),
        ("DELETE", "/api/commands", "POST, GET, HEAD, OPTIONS"),
        ("PUT", "/api/commands/x", "GET, HEAD, OPTIONS"),
        ("GET", "/api/commands/x/cancel", "POST, OPTIONS"),
        ("GET", "/api/commands/validate", "POST, OPTIONS"),
        ("BREW", "/api/commands/allowed", "GET, HEAD, OPTIONS"),
    ] {
        let answer = served.request(method, path).send().await.expect_status(405);
        answer.expect_problem(Code::RouteMethod);
        assert_eq!(answer.header("allow"), allow, "{method} {path}");
        let options = served.request("OPTIONS", path).token(None).send().await.expect_status(204);
        assert_eq!(options.header("allow"), allow, "{path}");
    }
    let long = format!("/api/commands/{}", "x".repeat(9_000));
    served.get(&long).await.expect_status(414).expect_problem(Code::RequestTargetTooLong);
}

#[tokio::test]
async fn head_is_get_without_its_body() {
    let served = Served::start().await;
    served.run("x", "echo x").await;
    for path in ["/health", "/api/commands/x", "/api/commands/x/events"] {
        let answer = served.request("HEAD", path).send().await.expect_status(200);
        assert!(answer.body.is_empty(), "{path}");
    }
    let get = served.get("/api/commands/x").await;
    let head = served.request("HEAD", "/api/commands/x").send().await;
    assert_eq!(head.header("content-length"), get.body.len().to_string());
    served.request("HEAD", "/api/commands/y").send().await.expect_status(404);
}

#[tokio::test]
async fn every_code_is_explained_where_its_type_points() {
    let served = Served::start().await;
    for code in Code::ALL {
        let answer =
            served.request("GET", &code.type_reference()).token(None).send().await.expect_status(200);
        assert!(String::from_utf8_lossy(&answer.body).contains(code.explanation()), "{code}");
    }
}

/// Sends a body and expects one member to be named, with what is accepted.
async fn refused(served: &Served, path: &str, body: serde_json::Value, pointer: &str) {
    let problem = served.request("POST", path).json(&body).send().await.expect_status(400);
    let problem: portcullis_api::Problem = problem.read();
    let found: Vec<_> = problem.errors.iter().map(|member| member.pointer.as_str()).collect();
    assert_eq!(found, [pointer], "{path} {body}");
    let detail = &problem.errors[0].detail;
    let says = ["accepted", "required", "not a member", "NUL", "name of a variable"];
    assert!(says.iter().any(|word| detail.contains(word)), "{path} {body}: {detail}");
}

/// Every route that takes a body, every member of it that the document knows, every kind of value that it does not take.
#[tokio::test]
async fn every_member_of_every_request_has_a_type() {
    let served = Served::start().await;
    let kinds = [
        ("boolean", json!(true)),
        ("number", json!(7.5)),
        ("string", json!("x")),
        ("array", json!([[]])),
        ("object", json!({"a": {}})),
    ];
    let mut cases = 0;
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        let Some(body) = item.pointer("/post/requestBody/content/application~1json/schema") else { continue };
        for (name, member) in resolved(body)["properties"].as_object().unwrap() {
            // An id is a string.
            let types = member.get("type").cloned().unwrap_or(json!("string")).to_string();
            for (kind, value) in &kinds {
                // An integer takes no fraction.
                if types.contains(kind) {
                    continue;
                }
                let mut body = json!({"command": "echo x"});
                body[name] = value.clone();
                refused(&served, path, body, &format!("/{name}")).await;
                cases += 1;
            }
        }
    }
    assert!(cases > 100, "{cases}");
    assert_eq!(served.actor.launches.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn every_member_of_every_request_has_a_range_and_an_encoding() {
    let served = Served::start().await;
    let long = |bytes: usize| "x".repeat(bytes);
    let everywhere = [
        (json!({"command": ""}), "/command"),
        (json!({"command": long(65_537)}), "/command"),
        (json!({"command": "echo \0"}), "/command"),
        (json!({"command": "x", "executionId": ""}), "/executionId"),
        (json!({"command": "x", "executionId": long(129)}), "/executionId"),
        (json!({"command": "x", "executionId": "\u{e9}"}), "/executionId"),
        (json!({"command": "x", "timeout": 0}), "/timeout"),
        (json!({"command": "x", "timeout": 0.0005}), "/timeout"),
        (json!({"command": "x", "timeout": 31_536_001}), "/timeout"),
        (json!({"command": "x", "env": {"": "1"}}), "/env/"),
        (json!({"command": "x", "env": {"A=B": "1"}}), "/env/A=B"),
        (json!({"command": "x", "env": {"A": "\0"}}), "/env/A"),
        (json!({"command": "x", "workingDirectory": ""}), "/workingDirectory"),
        (json!({"command": "x", "workingDirectory": long(4_096)}), "/workingDirectory"),
        (json!({"command": "x", "workingDirectory": "a\0"}), "/workingDirectory"),
    ];
    let with_bounds = [
        (json!({"command": "x", "memory_limit": -1}), "/memory_limit"),
        (json!({"command": "x", "memory_limit": 0.5}), "/memory_limit"),
        (json!({"command": "x", "allowed_paths": [1]}), "/allowed_paths/0"),
    ];
    for path in ["/api/commands", "/api/commands/execute", "/api/commands/validate", "/api/execute"] {
        for (body, pointer) in everywhere.iter().chain(with_bounds.iter().filter(|_| path != "/api/commands"))
        {
            refused(&served, path, body.clone(), pointer).await;
        }
        let json = "application/json";
        for body in
            [&b"{\"command\":\"\xff\"}"[..], br#"{"command":"\ud800"}"#, b"\xef\xbb\xbf{}", b"\xff\xfe{\0}\0"]
        {
            let asked = served.request("POST", path).header("content-type", json).body(body.to_vec());
            asked.send().await.expect_status(400).expect_problem(Code::RequestMalformed);
        }
    }
    assert_eq!(served.actor.launches.load(Ordering::SeqCst), 0);
}

/// Every parameter of every query that the document knows: twice, not UTF-8, and one that no route has.
#[tokio::test]
async fn every_parameter_of_every_query_is_held_to_its_form() {
    let served = Served::start().await;
    served.run("x", "echo x").await;
    let mut cases = 0;
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation.get("security").is_some() {
                continue;
            }
            let asked = path.replace("{id}", "x");
            let ask = |query: String| {
                let asked = served.request(&method.to_uppercase(), &format!("{asked}?{query}"));
                asked.json(&json!({"command": "echo x"})).send()
            };
            let problem = ask("none=1".into()).await.expect_status(400).expect_problem(Code::RequestInvalid);
            assert_eq!(problem.errors[0].pointer, "?none", "{path}");
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            for parameter in parameters.iter().map(resolved).filter(|parameter| parameter["in"] == "query") {
                let (name, good) = (parameter["name"].as_str().unwrap(), &parameter["example"]);
                let good = good.as_str().map_or_else(|| good.to_string(), str::to_owned);
                let twice = ask(format!("{name}={good}&{name}={good}")).await.expect_status(400);
                let twice = twice.expect_problem(Code::RequestInvalid);
                assert_eq!(twice.errors[0].pointer, format!("?{name}"), "{path}");
                for encoding in ["%ff", "%", "%c3%28"] {
                    ask(format!("{name}={encoding}")).await.expect_problem(Code::RequestMalformed);
                }
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 8);
    for (header, written) in [("last-event-id", "\u{e9}"), ("last-event-id", "-1"), ("last-event-id", "9")] {
        let asked = served.request("GET", "/api/commands/x/events").header(header, written).send().await;
        let problem = asked.expect_status(400).expect_problem(Code::RequestInvalid);
        assert_eq!(problem.errors[0].pointer, "Last-Event-ID", "{written}");
    }
}
