//! The audit log of the real executable: what stands in it, and that it survives rotation, a full disk and a kill.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::{Real, skip};
use crate::served::PATIENCE;

/// Reads the entries of a file; a line that is no whole entry fails.
#[track_caller]
fn entries(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// Waits until a file has an entry like this.
async fn entry(path: &Path, wanted: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        if let Some(found) = entries(path).into_iter().find(&wanted) {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", fs::read_to_string(path).unwrap());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn of<'a>(event: &'a str, id: &'a str) -> impl Fn(&Value) -> bool + 'a {
    move |entry| entry["event"] == event && entry["executionId"] == id
}

fn settings(file: &Path) -> [(&'static str, &str); 1] {
    [("PORTCULLIS_AUDIT_LOG", file.to_str().unwrap())]
}

#[tokio::test]
async fn what_was_asked_refused_and_done_stands_in_the_audit_log() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.jsonl");
    let Some(real) = Real::start(directory.path(), &settings(&file)).await else { return };
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let line = "echo 'two\nlines'";
    let asked = real
        .client
        .request("POST", "/api/commands")
        .header("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01"));
    asked.json(&json!({"executionId": "one", "command": line})).send().await.expect_status(201);
    real.client.ended("one").await;
    real.client.submit(json!({"executionId": "no", "command": "rm -rf /"})).await.expect_status(403);
    real.client.submit(json!({"executionId": "long", "command": "find / -name x"})).await;
    real.client.request("GET", "/api/commands").token("not-the-token").send().await.expect_status(401);
    real.client.request("GET", "/api/commands").token(None).send().await.expect_status(401);
    let cancelled = real.client.request("POST", "/api/commands/one/cancel").send().await;
    cancelled.expect_status(409);

    let permit = entry(&file, of("permit", "one")).await;
    assert_eq!((&permit["command"], &permit["user"]), (&json!(line), &json!("local")));
    assert_eq!((&permit["rules"], &permit["traceId"]), (&json!(["ALLOWED_COMMANDS"]), &json!(trace)));
    assert!(permit["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{permit}");
    let end = entry(&file, of("end", "one")).await;
    assert_eq!(
        (&end["status"], &end["reason"], &end["exitCode"]),
        (&json!("completed"), &json!("exit"), &json!(0))
    );
    assert_eq!(end["traceId"], trace);
    assert!(end["confinement"].is_string());
    let deny = entry(&file, of("deny", "no")).await;
    assert_eq!((&deny["command"], &deny["code"]), (&json!("rm -rf /"), &json!("program/not-allowed")));
    for code in ["invalid", "missing"] {
        let refused = entry(&file, |entry| entry["event"] == "authentication" && entry["code"] == code).await;
        assert!(refused["peer"].is_string());
    }
    entry(&file, of("cancel", "one")).await;

    let text = fs::read_to_string(&file).unwrap();
    for secret in ["not-the-token", &real.client.token] {
        assert!(!text.contains(secret), "a token is in the audit log");
    }
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    real.signal("TERM");
    let (code, log) = real.ended().await;
    assert_eq!(code, Some(0), "{log}");
    let entries = entries(&file);
    assert_eq!((&entries[0]["event"], &entries.last().unwrap()["event"]), (&json!("start"), &json!("stop")));
    let numbers: Vec<_> = entries.iter().map(|entry| entry["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=entries.len() as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_audit_log_is_rotated_in_both_ways_of_logrotate_and_loses_no_entry() {
    let directory = tempfile::tempdir().unwrap();
    let (file, old) = (directory.path().join("audit.jsonl"), directory.path().join("audit.jsonl.1"));
    let Some(real) = Real::start(directory.path(), &settings(&file)).await else { return };
    real.client.run("before", "echo a").await;
    entry(&file, of("end", "before")).await;
    // Renamed, and a signal.
    fs::rename(&file, &old).unwrap();
    real.signal("HUP");
    let begun = Instant::now();
    while !file.exists() {
        assert!(begun.elapsed() < PATIENCE, "the file is not made again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    real.client.run("between", "echo a").await;
    entry(&file, |entry| entry["event"] == "reload").await;
    entry(&file, of("end", "between")).await;
    entry(&old, of("end", "before")).await;
    // Copied and cut to nothing.
    fs::copy(&file, &old).unwrap();
    OpenOptions::new().write(true).open(&file).unwrap().set_len(0).unwrap();
    real.client.run("after", "echo a").await;
    entry(&file, of("end", "after")).await;
    assert_eq!(entries(&file).len(), 2);
    entry(&old, of("end", "between")).await;
}

#[tokio::test]
async fn after_a_kill_no_part_of_a_line_is_taken_for_a_whole_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.jsonl");
    let Some(real) = Real::start(directory.path(), &settings(&file)).await else { return };
    for n in 0..20 {
        real.client
            .submit(json!({"executionId": format!("e{n}"), "command": "echo a"}))
            .await
            .expect_status(201);
    }
    real.signal("KILL");
    real.ended().await;
    // Whatever was acknowledged is there; then a part of a line, as a death in mid-write would leave it.
    for n in 0..20 {
        entry(&file, of("permit", &format!("e{n}"))).await;
    }
    let whole = entries(&file).len();
    let mut open = OpenOptions::new().append(true).open(&file).unwrap();
    open.write_all(b"{\"time\":\"2026-12-01T00:00:00Z\",\"n\":77,\"event\":\"permit\",\"command\":\"ec")
        .unwrap();
    let Some(real) = Real::start(directory.path(), &settings(&file)).await else { return };
    real.client.run("later", "echo a").await;
    let text = fs::read_to_string(&file).unwrap();
    let read: Vec<Option<Value>> = text.lines().map(|line| serde_json::from_str(line).ok()).collect();
    let spoilt: Vec<_> = read.iter().enumerate().filter(|(_, entry)| entry.is_none()).collect();
    assert_eq!(spoilt.len(), 1, "{text}");
    assert_eq!(spoilt[0].0, whole);
    assert_eq!(read[whole + 1].as_ref().unwrap()["event"], "start");
}

/// A small disk, which goes when this does.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one; `None`, said aloud, where that is not allowed.
    #[expect(clippy::disallowed_methods, reason = "mount(8) is no command of the service's")]
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs"]).arg(&at).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at));
        }
        skip("no small disk can be mounted here: a full one is not tried");
        None
    }
}

impl Drop for SmallDisk {
    #[expect(clippy::disallowed_methods, reason = "umount(8) is no command of the service's")]
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn while_the_disk_of_the_audit_log_is_full_nothing_runs_unless_that_was_chosen() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let Some(disk) = SmallDisk::mount(directory.path().join("disk")) else { return };
    let (file, filler) = (disk.0.join("audit.jsonl"), disk.0.join("filler"));
    for (choice, data) in [("refuse", "a"), ("continue", "b")] {
        let settings = [settings(&file)[0], ("PORTCULLIS_AUDIT_FAILURE", choice)];
        let Some(real) = Real::start(&directory.path().join(data), &settings).await else { return };
        let mut open = fs::File::create(&filler).unwrap();
        while open.write_all(&[0; 512]).is_ok() {}
        // The file's last page has room for some entries more.
        let mut refused = false;
        for _ in 0..40 {
            let answer = real.client.submit(json!({"command": "echo a"})).await;
            refused |= answer.status == 503;
        }
        assert_eq!(refused, choice == "refuse");
        if refused {
            let ready = real.client.get("/readyz").await.expect_status(503);
            assert!(String::from_utf8_lossy(&ready.body).contains("audit log"), "{ready:?}");
        }
        drop(open);
        fs::remove_file(&filler).unwrap();
        real.client.submit(json!({"executionId": data, "command": "echo a"})).await.expect_status(201);
        real.client.get("/readyz").await;
        // What stands in the file is whole, but for at most the parts that the full disk took.
        let text = fs::read_to_string(&file).unwrap();
        let last =
            text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find(of("permit", data));
        assert!(last.is_some(), "{text}");
        for line in text.lines().filter(|line| serde_json::from_str::<Value>(line).is_err()) {
            assert!(line.starts_with('{') && !line.ends_with('}'), "{line}");
        }
        real.signal("TERM");
        real.ended().await;
        fs::remove_file(&file).unwrap();
    }
}
