//! What probes are told.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use crate::served::Served;

/// Asks as a probe does: without a token.
async fn ready(served: &Served) -> (u16, Value) {
    let answer = served.request("GET", "/readyz").token(None).send().await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn a_service_that_is_well_is_alive_and_ready_and_says_how_it_confines() {
    let served = Served::start().await;
    let answer = served.request("GET", "/livez").token(None).send().await.expect_status(200);
    assert_eq!(answer.json(), json!({"status": "ok"}));
    let confinement = json!({"level": "full", "landlockAbi": 7, "cgroup": "v2", "weaker": []});
    let wanted = json!({"ready": true, "problems": [], "confinement": confinement, "cells": 4});
    assert_eq!(ready(&served).await, (200, wanted));
}

#[tokio::test]
async fn a_draining_service_is_alive_and_not_ready() {
    let served = Served::start().await;
    served.engine.drain(Duration::ZERO).await;
    let (status, answer) = ready(&served).await;
    assert_eq!((status, &answer["problems"]), (503, &json!(["the service is shutting down"])));
    served.get("/livez").await.expect_status(200);
    served.get("/health").await.expect_status(200);
}

#[tokio::test]
async fn a_service_whose_launcher_has_ended_is_not_ready() {
    let served = Served::start().await;
    served.actor.dead.store(true, Ordering::SeqCst);
    let (status, answer) = ready(&served).await;
    assert_eq!((status, &answer["problems"]), (503, &json!(["the launcher has ended"])));
}

#[tokio::test]
async fn a_service_whose_store_cannot_write_is_not_ready_until_it_can() {
    let served = Served::start().await;
    served.store.broken.store(true, Ordering::SeqCst);
    let (status, answer) = ready(&served).await;
    assert_eq!(status, 503);
    assert!(answer["problems"][0].as_str().unwrap().contains("no space left on device"), "{answer}");
    served.store.broken.store(false, Ordering::SeqCst);
    // An answer counts for a second.
    while ready(&served).await.0 != 200 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn many_probes_at_once_try_the_store_once() {
    let served = Served::start().await;
    let mut probes = tokio::task::JoinSet::new();
    for _ in 0..50 {
        probes.spawn(served.request("GET", "/readyz").token(None).send());
    }
    for answer in probes.join_all().await {
        assert_eq!(answer.status, 200);
    }
    assert!(served.store.probes.load(Ordering::SeqCst) < 5);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_told_from_one_that_refuses() {
    use portcullis_core::{ExecutionStore, Launcher};
    use portcullis_server::health::{Health, StoreState};

    let served = Served::start().await;
    let (launcher, store) = (served.actor.clone() as std::sync::Arc<dyn Launcher>, served.store.clone());
    let store = store as std::sync::Arc<dyn ExecutionStore>;
    let health = Health::new(
        served.engine.clone(),
        launcher,
        store,
        crate::doubles::confinement(),
        Default::default(),
    );
    served.store.broken.store(true, Ordering::SeqCst);
    assert!(matches!(health.store().await, StoreState::Refuses(_)));
    assert!(health.is_alive().await, "a restart gives the disk no room");
    served.store.silent.store(true, Ordering::SeqCst);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(health.store().await, StoreState::Silent);
    assert!(!health.is_alive().await);
    assert!(health.readiness().await.problems[0].contains("did not answer"));
}
