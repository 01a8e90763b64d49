//! The real executable is given other rules while it runs.

use std::fs;

use portcullis_core::Status;
use serde_json::json;

use crate::life::Manager;
use crate::process::Real;

/// Asks whether a line would be permitted.
async fn allows(real: &Real, line: &str) -> bool {
    let body = json!({ "command": line });
    let answer = real.client.request("POST", "/api/commands/validate").json(&body).send().await;
    answer.expect_status(200).json()["valid"].as_bool().unwrap()
}

/// Has the rules read again, and returns what the service manager is told of it.
async fn hang_up(real: &Real, manager: &Manager) -> String {
    real.signal("HUP");
    assert!(manager.told().await.starts_with("RELOADING=1\n"));
    manager.told().await
}

#[tokio::test]
async fn a_hangup_puts_new_rules_in_force_whole_or_not_at_all_and_permits_stay() {
    let directory = tempfile::tempdir().unwrap();
    let (file, socket) = (directory.path().join("rules.toml"), directory.path().join("notify"));
    let book = |programs: &str, rest: &str| {
        let text = format!("version = 1\n\n[[rule]]\nname = \"a\"\nprograms = [{programs}]\n{rest}");
        fs::write(&file, text).unwrap();
    };
    book("\"sleep\", \"echo\"", "");
    let manager = Manager::at(&socket);
    let settings = [
        ("PORTCULLIS_RULEBOOK", file.to_str().unwrap()),
        ("NOTIFY_SOCKET", socket.to_str().unwrap()),
        ("PORTCULLIS_CELLS", "1"),
    ];
    let Some(real) = Real::start(directory.path(), &settings).await else { return };
    assert!(manager.told().await.starts_with("READY=1\n"));
    assert!(allows(&real, "echo a").await && !allows(&real, "ls").await);

    // One runs and one waits when the rules change.
    for (id, line) in [("runs", "sleep 1"), ("waits", "echo still permitted")] {
        real.client.submit(json!({"executionId": id, "command": line})).await.expect_status(201);
    }
    book("\"ls\"", "");
    let told = hang_up(&real, &manager).await;
    assert_eq!(told, "READY=1\nSTATUS=the rulebook was read again");
    assert!(allows(&real, "ls").await && !allows(&real, "echo a").await);
    for id in ["runs", "waits"] {
        assert_eq!(real.client.ended(id).await.status, Status::Completed, "{id}");
    }

    book("\"cat\"", "progams = []\n\n[[rule.test]]\nallow = [\"cat /etc/passwd\"]\n");
    let told = hang_up(&real, &manager).await;
    assert!(told.contains("the one before is in force"), "{told}");
    assert!(allows(&real, "ls").await && !allows(&real, "cat a").await);
    fs::remove_file(&file).unwrap();
    assert!(hang_up(&real, &manager).await.contains("the one before is in force"));
    assert!(allows(&real, "ls").await);

    book("\"cat\"", "");
    hang_up(&real, &manager).await;
    assert!(allows(&real, "cat a").await && !allows(&real, "ls").await);
    real.signal("TERM");
    let (code, log) = real.ended().await;
    assert_eq!(code, Some(0), "{log}");
    let wrong: Vec<serde_json::Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|event: &serde_json::Value| {
            event["message"] == "the rulebook was not read again; the one before is in force"
        })
        .collect();
    let (known, missing) = (&wrong[0], wrong.last().unwrap());
    assert_eq!((&known["file"], &known["line"]), (&json!(file.to_str()), &json!(6)), "{known}");
    assert!(known["reason"].as_str().unwrap().contains("programs"), "the nearest key is named: {known}");
    assert!(missing["reason"].as_str().unwrap().contains("could not read the rulebook"), "{missing}");
    assert_eq!(log.matches("the rulebook was read again and is in force").count(), 2, "{log}");
}

#[tokio::test]
async fn a_list_of_programs_stays_in_force_at_a_hangup() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("notify");
    let manager = Manager::at(&socket);
    let settings = [("ALLOWED_COMMANDS", "ls"), ("NOTIFY_SOCKET", socket.to_str().unwrap())];
    let Some(real) = Real::start(directory.path(), &settings).await else { return };
    assert!(manager.told().await.starts_with("READY=1\n"));
    assert!(
        hang_up(&real, &manager).await.contains("the rules are a list of programs and stay as they were")
    );
    assert!(allows(&real, "ls").await && !allows(&real, "cat a").await);
    real.signal("TERM");
    let (code, log) = real.ended().await;
    assert!(code == Some(0) && log.contains("there is no rulebook to read again"), "{log}");
    // Log rotation sends this signal: it is no error to have no rulebook.
    assert!(!log.contains("\"ERROR\""), "{log}");
}
