//! The real executable with every real part at once: SQLite, the Auth peer, the Socket.IO peer, and a browser.

#[path = "../peers/node.rs"]
mod node;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

use crate::process::{Real, skip};
use node::Node;

const LISTENER: &str = "socket-service/listener.mjs";

/// Runs the client against a service, as somebody with this token.
#[expect(clippy::disallowed_methods, reason = "this is our own client, not something the service runs")]
fn client(executable: &Path, address: &str, token_file: &Path) -> Output {
    Command::new(executable)
        .args(["--url", &format!("http://{address}"), "--token-file", token_file.to_str().unwrap(), "verify"])
        .env_clear()
        .output()
        .unwrap()
}

#[tokio::test]
async fn the_six_checks_pass_with_all_real_parts_and_a_browser_sees_start_progress_and_end() {
    if !node::can_run("auth-service") || !node::can_run("socket-service") {
        return;
    }
    let (mut auth, auth_port) = Node::start_server("auth-service/server.mjs", &[]).await;
    let auth_url = format!("http://127.0.0.1:{auth_port}/api");
    let checked = [("AUTH_SERVICE_URL", auth_url.as_str())];
    let (mut socket, socket_port) = Node::start_server("socket-service/server.mjs", &checked).await;
    let socket_url = format!("http://127.0.0.1:{socket_port}");
    let directory = tempfile::tempdir().unwrap();
    let settings = [
        ("AUTH_SERVICE_URL", auth_url.as_str()),
        ("SOCKET_SERVICE_URL", socket_url.as_str()),
        ("ALLOWED_COMMANDS", "ls,echo,cat,grep,find,pwd,sleep"),
    ];
    let Some(mut real) = Real::start(directory.path(), &settings).await else { return };
    real.client.token = "alice-token".into();

    // A browser that has joined before the command is sent sees all of it.
    let mut browser = Node::start(LISTENER, &[&socket_url, "watched", "alice-token"], &[]);
    browser.next("joined").await;
    let line = "echo one; sleep 0.4; echo two; sleep 0.4; echo three";
    let record = real.client.run("watched", line).await;
    assert_eq!(
        (record.user.as_str(), record.output.as_deref()),
        ("alice", Some("one\ntwo\nthree")),
        "{record:?}"
    );
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last: &serde_json::Value| last["status"] == "running") {
        let status = browser.next("execution-status").await;
        assert_eq!(status["executionId"], "watched");
        seen.push(status);
    }
    let start = seen.first().unwrap();
    assert_eq!((&start["status"], &start["progress"]), (&json!("running"), &json!(1)), "{seen:?}");
    let end = seen.last().unwrap();
    let wanted = (&json!("completed"), &json!(100), &json!("one\ntwo\nthree"));
    assert_eq!((&end["status"], &end["progress"], &end["output"]), wanted, "{seen:?}");
    let in_between = seen.iter().filter(|status| status["output"] == "one" || status["output"] == "one\ntwo");
    assert!(in_between.count() >= 1, "progress in {seen:?}");
    let progress: Vec<_> = seen.iter().map(|status| status["progress"].as_u64().unwrap()).collect();
    assert!(progress.is_sorted(), "{progress:?}");

    // Only the Auth peer knew the token; another user sees nothing of it, and a stranger is nobody.
    assert_eq!(auth.next("request").await["path"], "/api/user");
    let asked = real.client.request("GET", "/api/commands/watched").token("bob-token");
    asked.send().await.expect_status(404);
    let asked = real.client.request("GET", "/api/commands/watched").token("logged-out-token");
    asked.send().await.expect_status(401);

    let executable = Path::new(env!("CARGO_BIN_EXE_portcullis-server")).with_file_name("portcullis");
    if executable.exists() {
        let token_file = directory.path().join("alice");
        std::fs::write(&token_file, "alice-token\n").unwrap();
        let address = real.client.address.to_string();
        let verified = tokio::task::spawn_blocking(move || client(&executable, &address, &token_file)).await;
        let verified = verified.unwrap();
        let said = String::from_utf8_lossy(&verified.stdout).into_owned();
        assert!(verified.status.success(), "{said}{}", String::from_utf8_lossy(&verified.stderr));
        assert!(said.contains("6 of 6 checks passed"), "{said}");
    } else {
        skip("portcullis is not built: `cargo build -p portcullis`");
    }

    real.signal("TERM");
    let (code, log) = real.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("alice-token"), "{log}");
    assert!(directory.path().join("portcullis.db").exists());
    // What was told last is on the disk as told: nothing is told again after a restart.
    let Some(again) = Real::start(directory.path(), &settings).await else { return };
    again.signal("TERM");
    assert_eq!(again.ended().await.0, Some(0));
    socket.kill();
}
