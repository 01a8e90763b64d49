//! What is allowed and cannot be started, on the real parts: a `failed` record with reason `start_failed`, which says what
//! is wrong, and nothing of the line has run.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use portcullis_core::{Reason, Status};
use serde_json::json;

use crate::process::Real;

#[tokio::test]
async fn what_cannot_start_is_a_failed_record_that_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let (tools, data) = (directory.path().join("tools"), directory.path().join("data"));
    fs::create_dir(&tools).unwrap();
    fs::create_dir(&data).unwrap();
    let make = |name: &str, bytes: &[u8], mode: u32| {
        fs::write(tools.join(name), bytes).unwrap();
        fs::set_permissions(tools.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    make("plain", b"#!/bin/sh\n", 0o644);
    make("orphan", b"#!/no/such/interpreter\n", 0o755);
    make("text", b"neither\n", 0o755);
    let id = String::from_utf8_lossy(&fs::read("/usr/bin/id").unwrap()).contains("libc.so.6");
    if id {
        let mut bytes = fs::read("/usr/bin/id").unwrap();
        let at = bytes.windows(9).position(|window| window == b"libc.so.6").unwrap();
        bytes.splice(at..at + 9, *b"libq.so.6");
        make("unlinked", &bytes, 0o755);
    }
    for folder in [directory.path(), &tools] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mounts = format!("{}:/tools", tools.display());
    let settings = [
        ("ALLOWED_COMMANDS", "echo,absent,plain,orphan,text,unlinked,passing,cat"),
        ("PORTCULLIS_MOUNTS", &mounts),
        ("PORTCULLIS_PROGRAM_PATH", "/usr/bin:/bin:/tools"),
    ];
    fs::copy("/usr/bin/id", tools.join("passing")).unwrap();
    let Some(real) = Real::start(&data, &settings).await else { return };

    let mut cases = vec![
        ("absent", "is in none of"),
        ("plain", "is not executable"),
        ("orphan", "interpreter cannot be run"),
        ("text", "neither an ELF file nor a script"),
    ];
    if id {
        cases.push(("unlinked", "needs the library `libq.so.6`"));
    }
    for (program, problem) in cases {
        let record = real.client.run(program, &format!("echo before; {program}")).await;
        assert_eq!((record.status, record.reason), (Status::Failed, Some(Reason::StartFailed)), "{record:?}");
        assert_eq!((record.start_time, record.exit_code), (None, None), "{record:?}");
        assert_eq!(record.output.as_deref().unwrap_or_default(), "", "nothing of it ran: {record:?}");
        let message = record.message.unwrap_or_default();
        assert!(
            message.contains(&format!("cannot run `{program}`")) && message.contains(problem),
            "{message}"
        );
    }

    // A step: found once, and gone when a view is made that is to execute it.
    let level = real.client.run("level", "echo x").await.confinement.map(|found| found.level);
    if level.is_some_and(|level| level >= portcullis_core::Level::Namespaces) {
        let record = real.client.run("passing", "passing -u").await;
        assert_eq!(record.status, Status::Completed, "{record:?}");
        fs::remove_file(tools.join("passing")).unwrap();
        // Whichever of the cells has found it; another says that it is absent.
        let record = real.client.run("gone", "echo before | passing -u; passing -u | cat").await;
        assert_eq!((record.status, record.reason), (Status::Failed, Some(Reason::StartFailed)), "{record:?}");
        let message = record.message.unwrap_or_default();
        assert!(message.contains("`view: clone program`") || message.contains("is in none of"), "{message}");

        let body = json!({"executionId": "nowhere", "command": "echo x", "workingDirectory": "none/such"});
        real.client.submit(body).await.expect_status(201);
        let record = real.client.ended("nowhere").await;
        assert_eq!(record.status, Status::Completed, "beneath a fresh workspace it is made: {record:?}");
    }
    real.signal("TERM");
    assert_eq!(real.ended().await.0, Some(0));
}
