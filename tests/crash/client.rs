//! Who submits, and reads what was recorded.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as Connections;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use portcullis_api::{ExecutionList, ExecutionView};
use portcullis_core::Status;

use crate::service::{PATIENCE, until};

/// What became of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Submitted {
    /// 201 or 200: it is on record.
    Acknowledged,
    /// Any other answer.
    Refused(u16),
    /// No answer: it may be on record or not.
    Unanswered,
}

#[derive(Clone)]
pub(crate) struct Client {
    url: String,
    token: String,
    connections: Connections<HttpConnector, Full<Bytes>>,
}

impl Client {
    pub(crate) fn new(url: &str, token: &str) -> Self {
        let connections = Connections::builder(TokioExecutor::new()).build_http();
        Self { url: url.to_owned(), token: token.to_owned(), connections }
    }

    /// Asks; `None` when there is no whole answer.
    async fn ask(&self, method: &str, path: &str, body: String) -> Option<(u16, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(Full::from(body))
            .unwrap();
        let whole = async {
            let answer = self.connections.request(request).await.ok()?;
            let status = answer.status().as_u16();
            Some((status, answer.into_body().collect().await.ok()?.to_bytes()))
        };
        // Nobody is killed with a socket that stays open: silence is a defect.
        tokio::time::timeout(PATIENCE, whole).await.expect("an answer, or the end of the connection")
    }

    pub(crate) async fn submit(&self, id: &str, command: &str) -> Submitted {
        let body = serde_json::json!({"executionId": id, "command": command}).to_string();
        match self.ask("POST", "/api/commands", body).await {
            Some((200 | 201, _)) => Submitted::Acknowledged,
            Some((status, _)) => Submitted::Refused(status),
            None => Submitted::Unanswered,
        }
    }

    /// Submits what must be accepted.
    pub(crate) async fn accepted(&self, id: &str, command: &str) {
        assert_eq!(self.submit(id, command).await, Submitted::Acknowledged, "{command}");
    }

    /// Reads a record with its output; `None` when there is none, or nobody answers.
    pub(crate) async fn record(&self, id: &str) -> Option<ExecutionView> {
        let (status, body) = self.ask("GET", &format!("/api/commands/{id}"), String::new()).await?;
        assert!(matches!(status, 200 | 404), "{status}: {}", String::from_utf8_lossy(&body));
        (status == 200).then(|| serde_json::from_slice(&body).unwrap())
    }

    /// Cancels an execution, and returns its record when that was answered with it.
    pub(crate) async fn cancel(&self, id: &str) -> Option<ExecutionView> {
        let (status, body) = self.ask("POST", &format!("/api/commands/{id}/cancel"), String::new()).await?;
        (status == 200).then(|| serde_json::from_slice(&body).unwrap())
    }

    /// Waits until a record is as wanted.
    pub(crate) async fn until(&self, id: &str, wanted: impl Fn(&ExecutionView) -> bool) -> ExecutionView {
        until(id, async || self.record(id).await.filter(&wanted)).await
    }

    pub(crate) async fn ended(&self, id: &str) -> ExecutionView {
        self.until(id, |record| record.status.is_terminal()).await
    }

    /// Reads all records without their output.
    pub(crate) async fn all(&self, status: Option<Status>) -> Vec<ExecutionView> {
        let mut all = Vec::new();
        let filter = status.map(|status| format!("&status={}", status.as_str())).unwrap_or_default();
        let mut cursor = String::new();
        loop {
            let path = format!("/api/commands?limit=200{filter}{cursor}");
            let (status, body) = self.ask("GET", &path, String::new()).await.expect("an answer");
            assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
            let page: ExecutionList = serde_json::from_slice(&body).unwrap();
            all.extend(page.executions);
            let Some(next) = page.next else { return all };
            cursor = format!("&cursor={next}");
        }
    }

    /// Reads the newest records without their output.
    pub(crate) async fn newest(&self) -> Vec<ExecutionView> {
        let answer = self.ask("GET", "/api/commands?limit=100", String::new()).await;
        let (status, body) = answer.expect("an answer");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice::<ExecutionList>(&body).unwrap().executions
    }

    pub(crate) async fn is_well(&self) -> bool {
        let asked = self.ask("GET", "/health", String::new());
        tokio::time::timeout(Duration::from_secs(5), asked).await.is_ok_and(|answer| answer.is_some())
    }
}
