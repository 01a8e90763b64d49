//! How executions end: nothing is left, whoever ends them.

use std::sync::Arc;
use std::time::Duration;

use portcullis_core::{Ended, Level, StopReason};

use crate::harness::{Line, Watcher, bench, check, check_end, has};
use crate::host::{runs, wait_until};

fn stopping_after(text: &'static str) -> Arc<Watcher> {
    Arc::new(Watcher { stop_after: Some(text), ..Watcher::default() })
}

/// Returns a number of seconds that no other run of these tests on this host has, to know our processes by.
fn mark(number: u32) -> String {
    format!("{number}{:07}", std::process::id())
}

#[test]
fn exit_codes_and_signals_are_told_as_they_are() {
    check_end(Line::probe("exit 0"), Ended::Exited(0));
    check_end(Line::probe("exit 3"), Ended::Exited(3));
    check_end(Line::probe("exit 137"), Ended::Exited(137));
    check_end(Line::probe("signal 9"), Ended::Signaled(9));
    check_end(Line::probe("signal 6"), Ended::Signaled(6));
}

#[test]
fn a_cancelled_execution_is_asked_first() {
    if !has(Level::Namespaces) {
        return;
    }
    let line = Line::probe("polite").limit(|l| l.grace_period = Duration::from_secs(20));
    let ran = bench().run_watched(line, stopping_after("waiting for TERM")).unwrap();
    assert_eq!(ran.outcome.ended, Ended::Stopped(StopReason::Cancelled));
    assert!(ran.stdout.contains("ending as asked"), "{ran:?}");
    assert!(
        ran.outcome.usage.wall_time < Duration::from_secs(15),
        "its grace period was not waited for: {ran:?}"
    );
}

#[test]
fn a_cancelled_execution_that_does_not_listen_is_killed_after_its_grace() {
    if !has(Level::Namespaces) {
        return;
    }
    let line =
        Line::probe(&format!("stubborn {}", mark(42))).limit(|l| l.grace_period = Duration::from_millis(300));
    let ran = bench().run_watched(line, stopping_after("deaf to TERM")).unwrap();
    assert_eq!(ran.outcome.ended, Ended::Stopped(StopReason::Cancelled));
    assert!(ran.outcome.usage.wall_time >= Duration::from_millis(300), "{ran:?}");
    assert!(!runs(&format!("stubborn {}", mark(42))));
}

#[test]
fn a_daemon_does_not_outlive_its_execution() {
    if !has(Level::Namespaces) {
        return;
    }
    let ran = bench().run(Line::probe(&format!("hide {}", mark(71)))).unwrap();
    assert_eq!(ran.outcome.ended, Ended::Exited(0), "it ends with its command, not with the daemon: {ran:?}");
    assert!(ran.stdout.contains("hidden"), "the daemon was alive before: {ran:?}");
    assert!(!runs(&format!("hide {}", mark(71))), "and is dead after");
}

#[test]
fn every_process_of_a_bomb_is_gone_when_it_is_told() {
    if !has(Level::Namespaces) {
        return;
    }
    let line = Line::probe(&format!("bomb {}", mark(33))).limit(|l| l.processes = 30);
    drop(bench().run(line).unwrap());
    assert!(!runs(&format!("bomb {}", mark(33))));
}

#[test]
fn a_dropped_launch_kills_and_the_cell_is_made_anew() {
    use portcullis_core::{ExecutionObserver, Launcher};
    if !has(Level::Namespaces) {
        return;
    }
    let bench = bench();
    let watcher = Arc::new(Watcher::default());
    let observer: Arc<dyn ExecutionObserver> = Arc::<Watcher>::clone(&watcher);
    bench.runtime.block_on(async {
        let launch = bench.sandbox.launch(Line::probe(&format!("stubborn {}", mark(53))).permit(), observer);
        tokio::select! {
            ended = launch => panic!("{ended:?}"),
            () = watcher.seen.notified() => {}
        }
    });
    wait_until("the end of a dropped execution", || !runs(&format!("stubborn {}", mark(53))));
    for _ in 0..4 {
        check(Line::probe("print still here"), &["still", "here"]);
    }
}

#[test]
fn nothing_is_found_of_an_earlier_execution() {
    if !has(Level::Namespaces) {
        return;
    }
    // More executions than cells, so that each cell is used again.
    for _ in 0..4 {
        check_end(
            Line::of("touch /workspace/left /tmp/left").write("/workspace").write("/tmp"),
            Ended::Exited(0),
        );
        let look =
            Line::calls("access -100 s:/workspace/left 0 , access -100 s:/tmp/left 0").write("/workspace");
        check(look, &["access ! ENOENT", "access ! ENOENT"]);
    }
}
