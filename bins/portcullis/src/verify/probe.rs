//! How checks ask: as a caller that knows nothing but the documented API.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use portcullis_core::ExecutionId;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::Trouble;
use crate::http::HttpError;
use crate::service::{Service, beginning_of, execution_path};

/// How often a record is read while a check waits.
const POLL: Duration = Duration::from_millis(50);

/// Asks one service.
pub(super) struct Probe<'a> {
    service: &'a Service,
}

/// An answer of the service.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) media_type: String,
    /// The body as JSON, and `null` when it is none.
    pub(super) json: Value,
    body: Bytes,
}

impl Reply {
    /// Returns a member of the body as text.
    pub(super) fn text(&self, member: &str) -> &str {
        self.json.get(member).and_then(Value::as_str).unwrap_or_default()
    }

    /// Describes the answer to a person.
    pub(super) fn describe(&self) -> String {
        format!("status {}: {}", self.status.as_u16(), beginning_of(&self.body))
    }

    /// Finds a status other than the expected ones wrong, and says what usually causes it.
    pub(super) fn expect(self, accepted: &[u16], what: &str) -> Result<Self, Trouble> {
        if accepted.contains(&self.status.as_u16()) {
            return Ok(self);
        }
        let mend = match (self.status.as_u16(), self.text("code")) {
            (401, _) => "name the token's file with `--token-file FILE` or PORTCULLIS_TOKEN_FILE".into(),
            (403, "auth/forbidden") => "give the user of this token the permission to run commands".into(),
            (400 | 403, "command/not-allowed" | "command/malformed") => {
                "the checks use `echo` and `grep`: let the rules allow them to this user".into()
            }
            (404, _) => "is this the service's own address, without `/api`?".into(),
            (429 | 503, _) => "the service is busy, starting or shutting down: try again in a moment".into(),
            (500.., _) => "the service's log says more".into(),
            _ => "compare the answer with docs/api.md".into(),
        };
        Err(Trouble { expected: what.into(), came: self.describe(), mend, hopeless: false })
    }
}

impl<'a> Probe<'a> {
    pub(super) fn new(service: &'a Service) -> Self {
        Self { service }
    }

    /// Sends a request; any answer is a reply.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Reply, Trouble> {
        let body = body.map(|body| Bytes::from(body.to_string()));
        let request = format!("an answer to {method} {path}");
        let answer = self.service.client().call(method, path, body).await.map_err(|error| Trouble {
            expected: request,
            came: error.to_string(),
            mend: match &error {
                HttpError::Connect { .. } => {
                    "start the service with `portcullis-server`, or name it with `--url http://HOST:PORT`"
                        .into()
                }
                _ => "look into the service's log".into(),
            },
            hopeless: matches!(error, HttpError::Connect { .. }),
        })?;
        Ok(Reply {
            status: answer.status,
            media_type: answer
                .headers
                .get(http::header::CONTENT_TYPE)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned(),
            json: serde_json::from_slice(&answer.body).unwrap_or(Value::Null),
            body: answer.body,
        })
    }

    /// Submits a line that must be accepted, and returns its id.
    pub(super) async fn submit(&self, line: &str, timeout: Option<u32>) -> Result<ExecutionId, Trouble> {
        let id = ExecutionId::generate();
        let mut body = json!({ "command": line, "executionId": id.as_str() });
        if let (Some(timeout), Some(members)) = (timeout, body.as_object_mut()) {
            members.insert("timeout".into(), timeout.into());
        }
        let expected = "status 201 with our `executionId` and `status` `scheduled`";
        let reply = self.ask(Method::POST, "/api/commands", Some(body)).await?.expect(&[201], expected)?;
        if reply.text("executionId") != id.as_str() || reply.text("status") != "scheduled" {
            return Err(Trouble {
                expected: expected.into(),
                came: reply.describe(),
                mend: "compare the answer with docs/api.md: is this a Portcullis service?".into(),
                hopeless: false,
            });
        }
        Ok(id)
    }

    /// Reads the record of an execution.
    pub(super) async fn read(&self, id: &ExecutionId) -> Result<Reply, Trouble> {
        let reply = self.ask(Method::GET, &execution_path(id, ""), None).await?;
        reply.expect(&[200], "status 200 with the record of the execution")
    }

    /// Reads the record until its status is another than these, and returns it.
    pub(super) async fn wait_while(
        &self,
        id: &ExecutionId,
        passing: &[&str],
        patience: Duration,
    ) -> Result<Reply, Trouble> {
        let began = Instant::now();
        loop {
            let reply = self.read(id).await?;
            if !passing.contains(&reply.text("status")) {
                return Ok(reply);
            }
            if began.elapsed() > patience {
                return Err(Trouble {
                    expected: format!("an execution that leaves `{}`", passing.join("` and `")),
                    came: format!("after {} s its status is `{}`", patience.as_secs(), reply.text("status")),
                    mend: "are all cells taken? `portcullis list --status running` shows your own executions"
                        .into(),
                    hopeless: false,
                });
            }
            sleep(POLL).await;
        }
    }
}
