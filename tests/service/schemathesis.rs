//! A stranger reads the document and tries to prove it wrong: schemathesis, against the real executable.

use std::process::Command;

use serde_json::json;

use crate::process::{Real, skip};

/// Examples of each route and phase: about a minute in all.
const EXAMPLES: &str = "15";

/// Where `.ci/run` has put it, or else wherever it is found.
fn program() -> String {
    std::env::var("SCHEMATHESIS").unwrap_or_else(|_| "schemathesis".into())
}

#[expect(clippy::disallowed_methods, reason = "a tool that asks the service, not something the service runs")]
fn schemathesis(arguments: &[&str], token: &str) -> std::io::Result<(bool, String)> {
    // It keeps what it found beneath where it is started.
    let directory = tempfile::tempdir()?;
    let mut command = Command::new(program());
    command.args(arguments).current_dir(directory.path());
    let output = command.env("PORTCULLIS_TOKEN", token).env("NO_COLOR", "1").output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_with_the_document_finds_nothing_wrong() {
    if let Err(error) = schemathesis(&["--version"], "") {
        skip(&format!("`{}` cannot be run ({error}); `pip install schemathesis`", program()));
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let settings = [
        ("ALLOWED_COMMANDS", "echo,cat,ls"),
        ("MAX_EXECUTION_TIME", "2"),
        // Nobody reads the log before the end, and a pipe holds little.
        ("PORTCULLIS_LOG", "error"),
        ("PORTCULLIS_QUEUE_LIMIT", "100000"),
        ("PORTCULLIS_QUEUE_LIMIT_PER_USER", "100000"),
    ];
    let Some(real) = Real::start(directory.path(), &settings).await else { return };
    // What the examples name.
    real.client
        .submit(json!({"executionId": "test-123", "command": "echo 'Hello, World!'"}))
        .await
        .expect_status(201);
    real.client.ended("test-123").await;

    let url = format!("http://{}/openapi.json", real.client.address);
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/service/schemathesis.toml");
    let token = real.client.token.clone();
    let run = move || {
        let phases = "examples,coverage,fuzzing";
        let arguments = ["--config-file", config, "run", &url, "--checks", "all", "--phases", phases];
        // The same questions each time: a failure can be seen again.
        let bounds = ["--max-examples", EXAMPLES, "--seed", "20261201", "--no-color"];
        schemathesis(&[&arguments[..], &bounds[..]].concat(), &token)
    };
    let (found_nothing, report) = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    assert!(found_nothing, "{report}");
    assert!(report.contains("Selected: ") && !report.contains("Selected: 0/"), "{report}");
    real.signal("TERM");
    let (code, log) = real.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("panic"), "{log}");
}
