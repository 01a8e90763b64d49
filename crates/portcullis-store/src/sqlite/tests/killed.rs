//! The process is killed while it writes, again and again on one database.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use portcullis_core::{ExecutionStore, Status};

use super::{open, path};
use crate::SqliteStore;
use crate::conformance::{accept, after, chunk, completed, confinement, id, new};

/// Names the database to the process that is to be killed.
const VICTIM: &str = "PORTCULLIS_TEST_VICTIM";
const LIVES: usize = 8;

/// The process's own part: it writes, and prints each thing once it is acknowledged.
async fn write_for_ever(database: &Path, life: &str) {
    let store = SqliteStore::open(database).unwrap();
    store.recover(after(100)).await.unwrap();
    for n in 0.. {
        let name = format!("l{life}-{n}");
        accept(&store, new(&name)).await;
        println!("acknowledged: accepted {name}");
        store.claim(&id(&name), after(1), &confinement()).await.unwrap();
        println!("acknowledged: running {name}");
        store.append(&id(&name), vec![chunk(1, b"x"), chunk(2, b"y")]).await.unwrap();
        println!("acknowledged: appended {name}");
        store.finish(&id(&name), completed(after(2))).await.unwrap();
        println!("acknowledged: ended {name}");
    }
}

fn start(database: &Path, life: usize) -> Child {
    #[expect(clippy::disallowed_methods, reason = "what is to be killed has to be a process of its own")]
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("sqlite::tests::killed::what_was_acknowledged_is_there_however_often_the_process_is_killed")
        .env(VICTIM, format!("{life} {}", database.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn what_was_acknowledged_is_there_however_often_the_process_is_killed() {
    if let Ok(victim) = std::env::var(VICTIM) {
        let (life, database) = victim.split_once(' ').unwrap();
        return write_for_ever(Path::new(database), life).await;
    }
    let directory = tempfile::tempdir().unwrap();
    drop(open(&directory));
    let mut acknowledged: Vec<(String, String)> = Vec::new();
    for life in 0..LIVES {
        let mut child = start(&path(&directory), life);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut note = |line: String| {
            // The test harness of the process prints lines of its own.
            if let Some(told) = line.strip_prefix("acknowledged: ") {
                let (what, name) = told.split_once(' ').unwrap();
                acknowledged.push((what.into(), name.into()));
            }
        };
        lines.by_ref().take(40 + 7 * life).for_each(&mut note);
        child.kill().unwrap();
        // What it had printed before it died was acknowledged as well.
        lines.for_each(&mut note);
        assert!(!child.wait().unwrap().success());

        let store = open(&directory);
        for (what, name) in &acknowledged {
            let execution = store.read(&id(name)).await.unwrap();
            let execution = execution.unwrap_or_else(|| panic!("{name}, {what}, is gone"));
            let output = store.output(&id(name), 0, 99).await.unwrap();
            match what.as_str() {
                "accepted" => {}
                "running" => assert!(execution.started_at.is_some(), "{name}"),
                "appended" => assert_eq!(output, [chunk(1, b"x"), chunk(2, b"y")], "{name}"),
                _ => assert_eq!(execution.status, Status::Completed, "{name}"),
            }
        }
    }
    assert!(acknowledged.len() > 8 * 40, "{}", acknowledged.len());
}
