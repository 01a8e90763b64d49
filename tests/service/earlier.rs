//! Callers that were written for the earlier service: their requests, word for word.

use std::time::Duration;

use portcullis_api::ProblemCode as Code;
use portcullis_server::http::{Anonymous, Network};
use serde_json::{Value, json};

use crate::answers::Answer;
use crate::process::Real;
use crate::served::{Client, Served};

/// A service at which nobody has to say who asks, as the operator wanted it.
async fn open_to_all() -> Served {
    Served::start_with(|wanted| wanted.http.anonymous = Some(agents())).await
}

fn agents() -> Anonymous {
    let near = Network::parse("127.0.0.0/8").unwrap();
    Anonymous::new("agents".into(), vec!["runner".into()], vec![near])
}

/// The agents' `CommandClient`: a JSON content type on every request, no token, every status but 200 a failure.
struct CommandClient<'a>(&'a Client);

impl CommandClient<'_> {
    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, String> {
        let asked = self.0.request(method, path).token(None).header("content-type", "application/json");
        let answer = match body {
            Some(body) => asked.body(body.to_string()).send().await,
            None => asked.send().await,
        };
        match answer.status {
            200 => Ok(answer.json()),
            _ => Err(String::from_utf8(answer.body.to_vec()).unwrap()),
        }
    }

    async fn execute(&self, command: &str) -> Result<Value, String> {
        let body = json!({"command": command, "timeout": 30, "network_access": false, "memory_limit": 512,
                          "allowed_paths": ["/workspace"]});
        self.ask("POST", "/api/commands/execute", Some(body)).await
    }
}

#[tokio::test]
async fn the_agents_client_works_unchanged() {
    let served = open_to_all().await;
    let client = CommandClient(&served);
    let done = client.execute("complain oh").await.unwrap();
    assert_eq!(
        (&done["exit_code"], &done["stdout"], &done["stderr"]),
        (&json!(2), &json!("before\n"), &json!("oh\n"))
    );
    assert_eq!(
        (&done["duration_ms"], &done["status"], &done["reason"]),
        (&json!(5), &json!("failed"), &json!("exit"))
    );
    // What bounds nothing is said, since bounds come from the rules.
    assert_eq!(done["ignored"], json!(["allowed_paths", "memory_limit"]));
    assert_eq!(client.execute("echo x").await.unwrap()["exit_code"], 0);
    for (command, code) in [("kill 9", 137), ("exit 137", 137), ("missing", 125)] {
        assert_eq!(client.execute(command).await.unwrap()["exit_code"], code, "{command}");
    }
    let late = json!({"command": "sleep", "timeout": 1});
    let late = client.ask("POST", "/api/commands/execute", Some(late)).await.unwrap();
    assert_eq!((&late["exit_code"], &late["status"]), (&json!(124), &json!("timeout")));
    assert!(client.execute("rm -rf /").await.unwrap_err().contains("not allowed"));

    let id = done["execution_id"].as_str().unwrap();
    let record = client.ask("GET", &format!("/api/commands/{id}"), None).await.unwrap();
    assert_eq!((&record["exitCode"], &record["user"]), (&json!(2), &json!("agents")));
    served
        .request("POST", "/api/commands")
        .token(None)
        .json(&json!({"executionId": "s", "command": "sleep"}))
        .send()
        .await;
    let cancelled = client.ask("POST", "/api/commands/s/cancel", None).await.unwrap();
    assert_eq!(cancelled["status"], "cancelled");
    let allowed = client.ask("GET", "/api/commands/allowed", None).await.unwrap();
    assert_eq!(allowed["allowed_commands"], json!(["echo", "git"]));
    for (command, valid) in [("echo x", true), ("rm x", false)] {
        let body = json!({"command": command, "allowed_paths": ["/a"], "memory_limit": 512, "network_access": false});
        let judged = client.ask("POST", "/api/commands/validate", Some(body)).await.unwrap();
        assert_eq!((&judged["valid"], &judged["is_valid"]), (&json!(valid), &json!(valid)));
        assert!(judged["message"].is_string() && judged["reason"].is_string() != valid, "{judged}");
    }
}

/// Polls as the scripts do, until the status is one that they know for an end.
async fn poll(client: &Client, id: &str) -> Value {
    for _ in 0..100 {
        let answer = client.request("GET", &format!("/api/execution/{id}")).token(None).send().await;
        let record = answer.expect_status(200).json();
        if ["completed", "failed", "canceled"].contains(&record["status"].as_str().unwrap()) {
            assert_eq!(record["progress"], 100);
            return record;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{id} does not end");
}

async fn execute(client: &Client, command: &str) -> Answer {
    let body = json!({"command": command, "timeout": 10});
    client.request("POST", "/api/execute").token(None).json(&body).send().await
}

/// The verification script's steps, with the lines that a service allows.
async fn verify(client: &Client) {
    let health = client.request("GET", "/health").token(None).send().await.expect_status(200);
    assert_eq!(health.json(), json!({"status": "ok"}));
    for (command, output) in [
        ("echo hello", "hello"),
        ("echo 'Argument 1' 'Argument 2'", "Argument 1 Argument 2"),
        ("echo 'Test' | grep Test", "Test"),
        ("echo 'line1\nline2\nline3' | grep 'line2'", "line2"),
    ] {
        let accepted = execute(client, command).await;
        assert!([200, 201].contains(&accepted.status), "{accepted:?}");
        assert_eq!(accepted.json()["status"], "queued");
        let id = accepted.json()["executionId"].as_str().unwrap().to_owned();
        assert_eq!(accepted.header("location"), format!("/api/execution/{id}"));
        let record = poll(client, &id).await;
        assert_eq!((&record["status"], &record["error"]), (&json!("completed"), &json!(null)), "{record}");
        assert_eq!(record["output"], output, "{record}");
    }
    for command in ["rm -rf /", "sudo rm -rf /", "echo 'test' && rm -rf /"] {
        let refused = execute(client, command).await;
        assert!([400, 403].contains(&refused.status), "{refused:?}");
        let error = refused.json()["error"].as_str().unwrap().to_lowercase();
        assert!(error.contains("not allowed"), "{error}");
    }
}

#[tokio::test]
async fn the_verification_script_passes_on_the_real_service() {
    let directory = tempfile::tempdir().unwrap();
    let settings = [
        ("ALLOWED_COMMANDS", "echo,grep,ls,sleep"),
        ("PORTCULLIS_ANONYMOUS_USER", "agents"),
        ("PORTCULLIS_LOG_FORMAT", "json"),
    ];
    let Some(real) = Real::start(directory.path(), &settings).await else { return };
    verify(&real.client).await;
    let listed = execute(&real.client, "ls -la | grep '.'").await.json();
    assert_eq!(poll(&real.client, listed["executionId"].as_str().unwrap()).await["status"], "completed");
    let long = execute(&real.client, "sleep 60").await.json();
    let id = long["executionId"].as_str().unwrap();
    let path = format!("/api/execution/{id}/cancel");
    let cancelled = real.client.request("POST", &path).token(None).send().await.expect_status(200);
    assert_eq!(cancelled.json()["status"], "canceled");
    assert_eq!(poll(&real.client, id).await["status"], "canceled");
    real.signal("TERM");
    let (code, log) = real.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("requests without a token act as a user"), "{log}");
}

#[tokio::test]
async fn the_earlier_paths_are_deprecated_and_name_what_takes_their_place() {
    let served = Served::start().await;
    served.run("x", "complain oh").await;
    for (method, path, successor) in [
        ("POST", "/api/execute", "/api/commands"),
        ("GET", "/api/execution/x", "/api/commands/x"),
        ("GET", "/api/execution/nothing", "/api/commands/nothing"),
        ("POST", "/api/execution/x/cancel", "/api/commands/x/cancel"),
    ] {
        let answer = served.request(method, path).send().await;
        assert_eq!(answer.header("deprecation"), "@1796083200", "{path}");
        let link = format!("<{successor}>; rel=\"successor-version\"");
        assert!(answer.header("link").starts_with(&link), "{answer:?}");
    }
    assert!(!served.get("/api/commands/x").await.headers.contains_key("deprecation"));
    let record = served.get("/api/execution/x").await.expect_status(200).json();
    assert_eq!((&record["status"], &record["error"]), (&json!("failed"), &json!("oh")));
    assert_eq!((&record["output"], &record["exitCode"]), (&json!("before"), &json!(2)));
    // Its callers' ids never counted; a token is as good as ever.
    let body = json!({"command": "sleep", "timeout": 0.01, "executionId": "x"});
    let answer = served.request("POST", "/api/execute").json(&body).send().await.expect_status(201);
    let id = answer.json()["executionId"].as_str().unwrap().to_owned();
    assert_ne!(id, "x");
    let late = poll_as_alice(&served, &id).await;
    assert_eq!((&late["status"], &late["error"]), (&json!("failed"), &json!("Execution timed out")));
    let ended = served.request("POST", "/api/execution/x/cancel").send().await.expect_status(409);
    ended.expect_problem(Code::ExecutionAlreadyEnded);
}

async fn poll_as_alice(served: &Served, id: &str) -> Value {
    served.ended(id).await;
    served.get(&format!("/api/execution/{id}")).await.expect_status(200).json()
}

#[tokio::test]
async fn without_the_operators_word_nobody_acts_without_a_token() {
    let served = Served::start().await;
    let client = CommandClient(&served);
    for error in [
        client.execute("echo x").await.unwrap_err(),
        client.ask("GET", "/api/commands/allowed", None).await.unwrap_err(),
    ] {
        assert!(error.contains("auth/missing"), "{error}");
    }
    execute(&served, "echo x").await.expect_status(401).expect_problem(Code::AuthMissing);
    assert_eq!(served.engine.stats().accepted, 0);
}

#[tokio::test]
async fn who_acts_without_a_token_is_a_program_near_by_and_sees_its_own_alone() {
    let served = open_to_all().await;
    served.run("alices", "echo x").await;
    let nobody = || served.request("GET", "/api/commands/alices").token(None);
    nobody().send().await.expect_status(404).expect_problem(Code::ExecutionNotFound);
    let own = format!("http://{}", served.address);
    for (name, value) in [
        ("origin", own.as_str()),
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-mode", "navigate"),
        ("x-forwarded-for", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1"),
    ] {
        nobody().header(name, value).send().await.expect_status(401).expect_problem(Code::AuthMissing);
    }
    let wrong = served.request("GET", "/api/commands/alices").token("mallory").send().await;
    wrong.expect_status(401).expect_problem(Code::AuthInvalidToken);
    let elsewhere = Network::parse("192.0.2.0/24").unwrap();
    let far = Anonymous::new("agents".into(), Vec::new(), vec![elsewhere]);
    let served = Served::start_with(|wanted| wanted.http.anonymous = Some(far)).await;
    execute(&served, "echo x").await.expect_status(401).expect_problem(Code::AuthMissing);
}

#[tokio::test]
async fn who_runs_and_waits_is_answered_sooner_than_a_gateway_gives_up() {
    let served = Served::start_with(|wanted| wanted.http.execute_wait = Duration::from_millis(50)).await;
    let asked = served.request("POST", "/api/commands/execute");
    let answer = asked.json(&json!({"executionId": "x", "command": "sleep", "timeout": 60})).send().await;
    let answer = answer.expect_status(202);
    assert_eq!((answer.header("location"), answer.header("retry-after")), ("/api/commands/x", "1"));
    assert_eq!(answer.json()["status"], "running");
    let ended = served.request("POST", "/api/commands/x/cancel").send().await.expect_status(200);
    assert_eq!(ended.json()["status"], "cancelled");
    let default = portcullis_server::http::HttpConfig::new(portcullis_server::http::Hosts::new(
        served.address,
        Vec::new(),
    ));
    assert!(default.execute_wait < Duration::from_secs(120));
}
