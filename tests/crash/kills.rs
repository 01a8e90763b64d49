//! One kill at a time: who dies, who goes on, and what is said of it.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_api::ExecutionView;
use portcullis_core::{Level, Reason, Status};

use crate::processes::{self, expect_no_orphans, groups_of};
use crate::service::{Ground, Service, until};

const TWO_CELLS: [(&str, &str); 2] = [("PORTCULLIS_CELLS", "2"), ("MAX_EXECUTION_TIME", "50")];

/// Submits lines under these ids that leave their mark and wait at the gate.
async fn submit_waiting(ground: &Ground, service: &Service, ids: &[&str]) {
    for id in ids {
        service.client.accepted(id, &ground.line(id, &ground.wait())).await;
    }
}

/// Waits until a line waits at the gate, and its mark is in the record.
async fn expect_waiting(service: &Service, id: &str) {
    let printed = |record: &ExecutionView| record.output.as_deref() == Some(id);
    service.client.until(id, |record| record.status == Status::Running && printed(record)).await;
}

/// Judges lines of this test, all of which were acknowledged.
async fn judge(ground: &Ground, service: &Service, ids: &[&str]) {
    let submitted: BTreeMap<String, String> =
        ids.iter().map(|id| ((*id).to_owned(), format!("{id}\ndone"))).collect();
    let acknowledged: BTreeSet<String> = submitted.keys().cloned().collect();
    let verdict = ground.judge(&service.client, submitted, acknowledged, Vec::new()).await;
    println!("{verdict}");
    verdict.expect_nothing_wrong();
}

#[track_caller]
fn check(record: &ExecutionView, status: Status, reason: Reason) {
    assert_eq!((record.status, record.reason), (status, Some(reason)), "{record:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_nothing_that_it_acknowledged_and_leaves_nothing() {
    kill_server(Level::Full).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_cell_costs_the_execution_in_it_and_no_other() {
    kill_cell(Level::Full).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_launcher_ends_what_runs_and_the_next_start_is_sound() {
    kill_launcher(Level::Full).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_command_is_an_end_by_signal() {
    kill_commands(Level::Full).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_is_refused_while_the_first_lives_and_takes_over_when_it_is_dead() {
    start_twice(Level::Full).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_killed_at_once_leave_nothing_in_whatever_order() {
    kill_all(Level::Full).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_was_told_and_not_answered_is_told_again() {
    let ground = Ground::new(Level::Full, &TWO_CELLS).await;
    let Some(service) = ground.start().await else { return };
    ground.peer.be_silent(true);
    service.client.accepted("a", &ground.line("a", "true")).await;
    check(&service.client.ended("a").await, Status::Completed, Reason::Exit);
    let ends = |id: &str| {
        ground.peer.updates().get(id).map_or(0, |told| told.iter().filter(|told| told.is_final()).count())
    };
    // The first update has no answer, so the last one has to wait: both are open when the service dies.
    until("the first update", async || ground.peer.updates().contains_key("a").then_some(())).await;
    service.kill();
    ground.peer.be_silent(false);

    let Some(service) = ground.start().await else { return };
    until("the end, told", async || (ends("a") > 0).then_some(())).await;
    // Again with an end that is told, and not answered.
    ground.peer.be_silent(true);
    service.client.accepted("b", &ground.line("b", "true")).await;
    until("the first update", async || ground.peer.updates().contains_key("b").then_some(())).await;
    check(&service.client.ended("b").await, Status::Completed, Reason::Exit);
    service.kill();
    let Some(service) = ground.start().await else { return };
    until("the end, told", async || (ends("b") > 0).then_some(())).await;
    service.kill();
    let before = ends("b");
    ground.peer.be_silent(false);
    let Some(service) = ground.start().await else { return };
    until("the end, told again", async || (ends("b") > before).then_some(())).await;
    judge(&ground, &service, &["a", "b"]).await;
    assert_eq!(service.end().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_was_answered_stands() {
    let ground = Ground::new(Level::Full, &TWO_CELLS).await;
    let Some(service) = ground.start().await else { return };
    submit_waiting(&ground, &service, &["run", "other", "queued"]).await;
    for id in ["run", "other"] {
        expect_waiting(&service, id).await;
    }
    for id in ["queued", "run"] {
        let answered = service.client.cancel(id).await.expect("an answer");
        check(&answered, Status::Cancelled, Reason::Cancelled);
    }
    service.kill();
    let Some(service) = ground.start().await else { return };
    for id in ["queued", "run"] {
        check(&service.client.record(id).await.unwrap(), Status::Cancelled, Reason::Cancelled);
    }
    check(&service.client.record("other").await.unwrap(), Status::Lost, Reason::ServiceDied);
    judge(&ground, &service, &["run", "other", "queued"]).await;
    assert_eq!(service.end().await, Some(0));
}

/// Where the host refuses namespaces, nothing of the kernel ends a tree as a whole.
mod without_namespaces {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn all_killed_at_once_leave_nothing_in_whatever_order() {
        kill_all(Level::Landlock).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_killed_server_loses_nothing_that_it_acknowledged_and_leaves_nothing() {
        kill_server(Level::Landlock).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_killed_cell_costs_the_execution_in_it_and_no_other() {
        kill_cell(Level::Landlock).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_killed_launcher_ends_what_runs_and_the_next_start_is_sound() {
        kill_launcher(Level::Landlock).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_killed_command_is_an_end_by_signal() {
        kill_commands(Level::Landlock).await;
    }
}

async fn kill_server(level: Level) {
    let ground = Ground::new(level, &TWO_CELLS).await;
    let Some(service) = ground.start().await else { return };
    let ids = ["r1", "r2", "q1", "q2", "q3"];
    submit_waiting(&ground, &service, &ids).await;
    for id in ["r1", "r2"] {
        expect_waiting(&service, id).await;
    }
    let launcher = service.launcher.clone();
    assert!(!processes::with_text(&ground.token).is_empty(), "they run before");
    let confinement = service.client.record("r1").await.unwrap().confinement.unwrap();
    assert_eq!(confinement.level == Level::Landlock, level == Level::Landlock, "{confinement:?}");
    service.kill();
    expect_no_orphans(&launcher, &ground.token);

    let Some(service) = ground.start().await else { return };
    for id in ["r1", "r2"] {
        let record = service.client.record(id).await.unwrap();
        check(&record, Status::Lost, Reason::ServiceDied);
        assert_eq!(record.output.as_deref(), Some(id), "output that was stored is kept");
    }
    for id in ["q1", "q2", "q3"] {
        let record = service.client.record(id).await.unwrap();
        check(&record, Status::Failed, Reason::Interrupted);
        assert!(record.start_time.is_none(), "{record:?}");
    }
    judge(&ground, &service, &ids).await;
    assert!(groups_of(&launcher).is_empty());
    assert_eq!(ground.strange_files(), [""; 0]);

    // And it is of use.
    service.client.accepted("next", &ground.line("next", "true")).await;
    check(&service.client.ended("next").await, Status::Completed, Reason::Exit);
    let launcher = service.launcher.clone();
    assert_eq!(service.end().await, Some(0));
    expect_no_orphans(&launcher, &ground.token);
    assert!(groups_of(&launcher).is_empty());
}

async fn kill_cell(level: Level) {
    let ground = Ground::new(level, &TWO_CELLS).await;
    let Some(service) = ground.start().await else { return };
    let ids = ["a", "b", "c"];
    submit_waiting(&ground, &service, &ids).await;
    for id in ["a", "b"] {
        expect_waiting(&service, id).await;
    }
    let victim = processes::cells_of(&service.launcher)[0];
    assert!(processes::signal("KILL", victim));
    let lost = until("the loss", async || {
        let lost = service.client.all(Some(Status::Lost)).await;
        lost.first().map(|record| record.execution_id.as_str().to_owned())
    })
    .await;
    let record = service.client.record(&lost).await.unwrap();
    check(&record, Status::Lost, Reason::ServiceDied);
    assert_eq!(record.output.as_deref(), Some(lost.as_str()));

    // A new cell takes the one that waited; the gate then opens for it and for the neighbour.
    expect_waiting(&service, "c").await;
    ground.open_gate();
    let neighbour = if lost == "a" { "b" } else { "a" };
    for id in [neighbour, "c"] {
        check(&service.client.ended(id).await, Status::Completed, Reason::Exit);
    }
    judge(&ground, &service, &ids).await;
    assert_eq!(service.end().await, Some(0));
}

async fn kill_launcher(level: Level) {
    let ground = Ground::new(level, &TWO_CELLS).await;
    let Some(service) = ground.start().await else { return };
    let ids = ["a", "b", "c"];
    submit_waiting(&ground, &service, &ids).await;
    for id in ["a", "b"] {
        expect_waiting(&service, id).await;
    }
    let launcher = service.launcher.clone();
    assert!(processes::signal("KILL", launcher.pid));
    expect_no_orphans(&launcher, &ground.token);
    // Whether the server goes on or ends by itself: what it wrote stands.
    service.kill();

    let Some(service) = ground.start().await else { return };
    for id in ["a", "b"] {
        check(&service.client.record(id).await.unwrap(), Status::Lost, Reason::ServiceDied);
    }
    let waited = service.client.record("c").await.unwrap();
    assert_eq!(waited.status, Status::Failed, "{waited:?}");
    assert!(matches!(waited.reason, Some(Reason::StartFailed | Reason::Interrupted)), "{waited:?}");
    judge(&ground, &service, &ids).await;
    assert!(groups_of(&launcher).is_empty());
    assert_eq!(service.end().await, Some(0));
}

async fn kill_all(level: Level) {
    let ground = Ground::new(level, &TWO_CELLS).await;
    for first in ["cells", "launcher", "server"] {
        let Some(service) = ground.start().await else { return };
        let id = format!("before-{first}");
        submit_waiting(&ground, &service, &[&id]).await;
        expect_waiting(&service, &id).await;
        let launcher = service.launcher.clone();
        let mut pids = processes::cells_of(&launcher);
        assert_eq!(pids.len(), 2);
        match first {
            "cells" => pids.extend([launcher.pid, service.pid()]),
            "launcher" => pids.splice(0..0, [launcher.pid, service.pid()]).for_each(drop),
            _ => pids.splice(0..0, [service.pid(), launcher.pid]).for_each(drop),
        }
        processes::kill_together(&pids);
        expect_no_orphans(&launcher, &ground.token);
        service.kill();
        let Some(service) = ground.start().await else { return };
        check(&service.client.record(&id).await.unwrap(), Status::Lost, Reason::ServiceDied);
        assert!(groups_of(&launcher).is_empty());
        assert_eq!(service.end().await, Some(0));
    }
    let Some(service) = ground.start().await else { return };
    judge(&ground, &service, &["before-cells", "before-launcher", "before-server"]).await;
    assert_eq!(service.end().await, Some(0));
}

async fn kill_commands(level: Level) {
    let ground = Ground::new(level, &TWO_CELLS).await;
    let Some(service) = ground.start().await else { return };
    submit_waiting(&ground, &service, &["command", "init"]).await;
    for id in ["command", "init"] {
        expect_waiting(&service, id).await;
    }
    // First one command, then the first process of the other execution.
    let victim = processes::with_text(&ground.wait())[0];
    assert!(processes::signal("KILL", victim));
    until("the end of one", async || {
        (service.client.all(Some(Status::Failed)).await.len() == 1).then_some(())
    })
    .await;
    let victim = processes::inits_of(&service.launcher)[0];
    assert!(processes::signal("KILL", victim));
    for id in ["command", "init"] {
        let record = service.client.ended(id).await;
        check(&record, Status::Failed, Reason::Signal);
        assert_eq!((record.signal, record.output.as_deref()), (Some(9), Some(id)), "{record:?}");
    }
    judge(&ground, &service, &["command", "init"]).await;
    let launcher = service.launcher.clone();
    assert_eq!(service.end().await, Some(0));
    expect_no_orphans(&launcher, &ground.token);
}

async fn start_twice(level: Level) {
    let ground = Ground::new(level, &TWO_CELLS).await;
    let Some(first) = ground.start().await else { return };
    submit_waiting(&ground, &first, &["a"]).await;
    expect_waiting(&first, "a").await;
    let mut second = ground.spawn();
    let code = until("the second one's end", async || second.try_wait().unwrap()).await.code();
    assert_eq!(code, Some(1), "{}", ground.log());
    assert!(ground.log().contains("could not open the database"), "{}", ground.log());
    ground.open_gate();
    check(&first.client.ended("a").await, Status::Completed, Reason::Exit);
    first.client.accepted("b", &ground.line("b", "true")).await;
    check(&first.client.ended("b").await, Status::Completed, Reason::Exit);
    assert!(first.client.is_well().await);
    first.kill();

    let Some(second) = ground.start().await else { return };
    judge(&ground, &second, &["a", "b"]).await;
    assert_eq!(second.end().await, Some(0));
}
