//! A web page must not act behind its user's back.

use portcullis_api::ProblemCode as Code;
use serde_json::json;

use crate::served::Served;

#[tokio::test]
async fn names_that_are_not_ours_are_not_answered() {
    let served = Served::start().await;
    for path in ["/health", "/api/commands/allowed"] {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: attacker.example:5000\r\nConnection: close\r\n\r\n");
        assert!(served.raw(request.as_bytes()).await.starts_with("HTTP/1.1 421 "), "{path}");
        let absolute = format!(
            "GET http://attacker.example{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        );
        assert!(served.raw(absolute.as_bytes()).await.starts_with("HTTP/1.1 421 "), "{path}");
    }
}

#[tokio::test]
async fn pages_of_other_sites_are_refused_and_nothing_runs() {
    let served = Served::start().await;
    let body = json!({"executionId": "x", "command": "echo x"});
    for (name, value) in [
        ("origin", "https://attacker.example"),
        ("origin", "null"),
        ("origin", "http://localhost:1"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let asked = served.request("POST", "/api/commands").json(&body).header(name, value);
        asked.send().await.expect_status(403).expect_problem(Code::RequestCrossSite);
    }
    served.get("/api/commands/x").await.expect_status(404);
    let own = format!("http://{}", served.address);
    let asked = served.request("POST", "/api/commands").json(&body).header("origin", &own);
    asked.header("sec-fetch-site", "same-origin").send().await.expect_status(201);
}

#[tokio::test]
async fn a_preflight_gets_no_leave() {
    let served = Served::start().await;
    let asked =
        served.request("OPTIONS", "/api/commands").token(None).header("origin", "https://attacker.example");
    asked.header("access-control-request-method", "POST").send().await.expect_status(403);
}
