//! Webhooks, verified by the official library of Standard Webhooks.

use std::sync::Arc;

use portcullis_core::{
    Ending, ExecutionId, ExecutionStore as _, Fingerprint, Limits, NewExecution, Outbox as _, Provenance,
    Reason, Status,
};
use portcullis_notify::{RunningWebhooks, SigningSecret, WebhookConfig, Webhooks};
use portcullis_store::MemoryStore;
use time::OffsetDateTime;

use crate::node::{self, Node};
use crate::url;

const RECEIVER: &str = "webhooks/receiver.mjs";
const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

async fn posting(port: u16, secrets: &[&str]) -> (Arc<MemoryStore>, RunningWebhooks) {
    let secrets = secrets.iter().map(|secret| SigningSecret::parse(secret).unwrap()).collect();
    let config = WebhookConfig {
        allowed_networks: vec!["127.0.0.1".parse().unwrap()],
        ..WebhookConfig::new("ci", url(port), secrets)
    };
    let store = Arc::new(MemoryStore::new());
    let webhooks = Webhooks::new(vec![config]).unwrap();
    webhooks.subscribe(&*store).await.unwrap();
    let running = webhooks.start(store.clone(), "https://portcullis.example");
    (store, running)
}

async fn end(store: &MemoryStore, id: &str) {
    let id = ExecutionId::parse(id).unwrap();
    let now = OffsetDateTime::now_utc();
    let new = NewExecution {
        id: id.clone(),
        owner: "u-1".into(),
        owner_name: "ánn \u{2028}".into(),
        command: "make".into(),
        fingerprint: Fingerprint([1; 32]),
        programs: vec!["make".into()],
        rules: Vec::new(),
        limits: Limits::default(),
        accepted_at: now,
        provenance: Provenance::default(),
        start: None,
    };
    store.accept(new).await.unwrap();
    let ending = Ending {
        status: Status::Timeout,
        reason: Reason::TimeLimit,
        exit_code: None,
        signal: None,
        ended_at: now,
        usage: None,
        truncated: false,
        message: Some("it was ended at its time limit".into()),
    };
    store.finish(&id, ending).await.unwrap();
}

#[tokio::test]
async fn a_message_verifies_with_the_official_library_also_while_its_secret_changes() {
    if !node::can_run("webhooks") {
        return;
    }
    // The receiver has the old secret, then the new one; the sender has both meanwhile.
    for (receivers, senders) in [(OLD, &[OLD][..]), (OLD, &[NEW, OLD]), (NEW, &[NEW, OLD])] {
        let (mut receiver, port) = Node::start_server(RECEIVER, &[("SECRET", receivers)]).await;
        let (store, _running) = posting(port, senders).await;
        end(&store, "e-1").await;
        let message = receiver.next("message").await;
        let payload = &message["payload"];
        assert_eq!(payload["type"], "execution.timeout", "{payload}");
        assert_eq!(
            (&payload["data"]["executionId"], &payload["data"]["user"]),
            (&"e-1".into(), &"ánn \u{2028}".into())
        );
        assert!(message["id"].as_str().unwrap().starts_with("msg_"));
    }
}

#[tokio::test]
async fn a_message_that_does_not_verify_is_kept_and_tried_again() {
    if !node::can_run("webhooks") {
        return;
    }
    let (mut receiver, port) = Node::start_server(RECEIVER, &[("SECRET", NEW)]).await;
    let (store, running) = posting(port, &[OLD]).await;
    end(&store, "e-1").await;
    let refused = receiver.next("refused").await;
    assert!(refused["problem"].as_str().unwrap().contains("No matching signature"), "{refused}");
    while running.watch().stats()[0].failed == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.waiting("ci").await.unwrap(), 1);
}
