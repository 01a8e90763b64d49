//! The real executable with who watches over it, and when its launcher dies.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use portcullis_core::{Reason, Status};
use serde_json::json;

use crate::process::{Real, kill};
use crate::served::PATIENCE;

/// A service manager that listens at a path.
pub(crate) struct Manager(UnixDatagram);

impl Manager {
    pub(crate) fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(socket)
    }

    /// Waits for what it is told next.
    pub(crate) async fn told(&self) -> String {
        let begun = Instant::now();
        let mut bytes = [0; 512];
        loop {
            match self.0.recv(&mut bytes) {
                Ok(length) => return String::from_utf8(bytes[..length].to_vec()).unwrap(),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
            assert!(begun.elapsed() < PATIENCE, "the service manager is told nothing");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Returns the pid of the service's launcher: its one child.
fn launcher_of(real: &Real) -> String {
    let pid = real.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.trim().to_owned()
}

#[tokio::test]
async fn a_service_manager_is_told_of_start_life_and_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = Manager::at(&path);
    let settings = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "200000")];
    let Some(real) = Real::start(directory.path(), &settings).await else { return };
    let ready = manager.told().await;
    assert!(ready.starts_with("READY=1\nSTATUS=confinement "), "{ready}");
    for _ in 0..3 {
        assert_eq!(manager.told().await, "WATCHDOG=1");
    }
    real.signal("TERM");
    while manager.told().await != "STOPPING=1\nSTATUS=letting what runs end" {}
    let (code, log) = real.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("ERROR") && !log.contains("launcher has ended"), "{log}");
}

#[tokio::test]
async fn signals_for_the_whole_service_leave_the_launcher_to_what_runs() {
    let directory = tempfile::tempdir().unwrap();
    // Longer than this test waits for anything: what ends earlier was ended by the friendly signal.
    let settings = [("ALLOWED_COMMANDS", "sleep"), ("PORTCULLIS_GRACE_PERIOD_SECONDS", "600")];
    let Some(real) = Real::start(directory.path(), &settings).await else { return };
    let launcher = launcher_of(&real);
    real.client.submit(json!({"executionId": "x", "command": "sleep 0.5"})).await.expect_status(201);
    let mut events = real.client.events("x", None).await;
    while events.next().await.unwrap().data["status"] != "running" {}
    for signal in ["TERM", "INT", "HUP"] {
        kill(signal, &launcher);
    }
    // For a command it means what it always does.
    real.client.submit(json!({"executionId": "y", "command": "sleep 60"})).await.expect_status(201);
    let mut events = real.client.events("y", None).await;
    while events.next().await.unwrap().data["status"] != "running" {}
    let cancelled = real.client.request("POST", "/api/commands/y/cancel").send().await.expect_status(200);
    assert_eq!(cancelled.json()["status"], "cancelled");
    assert_eq!(real.client.ended("x").await.status, Status::Completed);
    real.signal("TERM");
    let (code, log) = real.ended().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test]
async fn when_the_launcher_dies_the_service_records_the_truth_and_ends_to_be_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let settings =
        [("ALLOWED_COMMANDS", "sleep"), ("PORTCULLIS_CELLS", "1"), ("PORTCULLIS_DRAIN_SECONDS", "600")];
    let Some(real) = Real::start(directory.path(), &settings).await else { return };
    let launcher = launcher_of(&real);
    for id in ["runs", "waits"] {
        real.client.submit(json!({"executionId": id, "command": "sleep 60"})).await.expect_status(201);
    }
    let mut events = real.client.events("runs", None).await;
    while events.next().await.unwrap().data["status"] != "running" {}
    kill("KILL", &launcher);
    let (code, log) = real.ended().await;
    assert_eq!(code, Some(1), "{log}");
    assert_eq!(log.matches("the launcher has ended").count(), 1, "{log}");

    let Some(again) = Real::start(directory.path(), &settings).await else { return };
    let read = async |id: &str| -> portcullis_api::ExecutionView {
        again.client.get(&format!("/api/commands/{id}")).await.expect_status(200).read()
    };
    let (ran, waited) = (read("runs").await, read("waits").await);
    assert_eq!((ran.status, ran.reason), (Status::Lost, Some(Reason::ServiceDied)), "{ran:?}");
    assert_eq!((waited.status, waited.reason), (Status::Failed, Some(Reason::Interrupted)), "{waited:?}");
    again.client.get("/readyz").await.expect_status(200);
    again.signal("TERM");
    let (code, log) = again.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("\"lost\":0,\"interrupted\":0"), "nothing was left open: {log}");
}
