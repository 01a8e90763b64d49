//! The service's routes, as calls.

use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Method, StatusCode};
use portcullis_api::{
    AllowedCommands, ExecutionList, ExecutionView, Judgement, Problem, SubmitRequest, SubmitResponse,
};
use portcullis_core::ExecutionId;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::{Failure, of_problem};
use crate::http::{Answer, Client, HttpError, percent_encode};
use crate::target::Target;

/// A service that can be asked.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    client: Client,
    passed_over: Vec<String>,
}

/// An answer, read, and as it came: `--json` prints the latter, so that members of later versions are kept.
#[derive(Debug, Clone)]
pub(crate) struct Read<T> {
    pub(crate) value: T,
    pub(crate) json: Value,
}

/// Why a call gave no answer of the kind that was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// There was no answer at all.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The service says why not.
    #[error("{problem}")]
    Problem {
        /// What it says.
        problem: Box<Problem>,
        /// When to try again, if it says that.
        retry_after: Option<String>,
    },
    /// The answer is none that a Portcullis service gives.
    #[error("`{url}` answered {status} with something that is not Portcullis's: {problem}")]
    Strange {
        /// Who answered.
        url: String,
        /// With which status.
        status: StatusCode,
        /// What is strange about it.
        problem: String,
    },
}

impl CallError {
    /// Returns the status of the answer, if there was one.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Http(_) => None,
            Self::Problem { problem, .. } => StatusCode::from_u16(problem.status).ok(),
            Self::Strange { status, .. } => Some(*status),
        }
    }

    /// Returns when a busy service wants to be asked again, if it is busy and says so.
    pub(crate) fn again_after(&self) -> Option<Duration> {
        let busy =
            matches!(self.status(), Some(StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE));
        match self {
            Self::Problem { retry_after: Some(seconds), .. } if busy => {
                // RFC 9110 §10.2.3 knows dates as well; no Portcullis service sends one.
                seconds.parse().ok().map(|seconds: u32| Duration::from_secs(seconds.max(1).into()))
            }
            _ => None,
        }
    }

    /// Whether the same call may succeed a little later: nobody answered, or the service is starting or ending.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Http(HttpError::Connect { .. } | HttpError::Lost { .. } | HttpError::Deadline { .. })
        ) || matches!(
            self.status(),
            Some(StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
        )
    }
}

impl Service {
    /// Opens nothing yet.
    pub(crate) fn at(target: Target) -> Self {
        let token = target.token.map(|token| token.secret);
        Self { client: Client::new(target.url, token), passed_over: target.passed_over }
    }

    /// Returns the client beneath, for calls that are not the API's.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Tells a person why a call failed, with what is known here about the token.
    pub(crate) fn failure(&self, error: CallError) -> Failure {
        let unauthorized = error.status() == Some(StatusCode::UNAUTHORIZED);
        let failure = match error {
            CallError::Http(error) => error.into(),
            CallError::Problem { problem, retry_after } => of_problem(&problem, retry_after.as_deref()),
            CallError::Strange { .. } => Failure::new(error.to_string())
                .hint("is this the address of a Portcullis service? `portcullis verify` looks closely"),
        };
        if !unauthorized {
            return failure;
        }
        self.passed_over.iter().fold(failure, |failure, reason| failure.hint(reason.as_str()))
    }

    /// Submits a command line.
    pub(crate) async fn submit(&self, request: &SubmitRequest) -> Result<Read<SubmitResponse>, CallError> {
        self.send(Method::POST, "/api/commands", Some(request)).await
    }

    /// Reads a record.
    pub(crate) async fn read(&self, id: &ExecutionId) -> Result<Read<ExecutionView>, CallError> {
        self.send(Method::GET, &execution_path(id, ""), None::<&()>).await
    }

    /// Cancels an execution; returns when it has ended.
    pub(crate) async fn cancel(&self, id: &ExecutionId) -> Result<Read<Value>, CallError> {
        self.send(Method::POST, &execution_path(id, "/cancel"), Some(&serde_json::json!({}))).await
    }

    /// Lists executions; `query` begins with `?` or is empty.
    pub(crate) async fn list(&self, query: &str) -> Result<Read<ExecutionList>, CallError> {
        self.send(Method::GET, &format!("/api/commands{query}"), None::<&()>).await
    }

    /// Asks whether a line would be permitted.
    pub(crate) async fn validate(&self, request: &SubmitRequest) -> Result<Read<Judgement>, CallError> {
        self.send(Method::POST, "/api/commands/validate", Some(request)).await
    }

    /// Asks what the caller may run.
    pub(crate) async fn allowed(&self) -> Result<Read<AllowedCommands>, CallError> {
        self.send(Method::GET, "/api/commands/allowed", None::<&()>).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl serde::Serialize>,
    ) -> Result<Read<T>, CallError> {
        let body = body.map(|body| serde_json::to_vec(body).map(Bytes::from));
        let body =
            body.transpose().map_err(|error| self.strange(StatusCode::BAD_REQUEST, error.to_string()))?;
        let answer = self.client.call(method, path, body).await?;
        self.interpret(&answer)
    }

    /// Reads an answer: what was asked for, or the problem.
    pub(crate) fn interpret<T: DeserializeOwned>(&self, answer: &Answer) -> Result<Read<T>, CallError> {
        if !answer.status.is_success() {
            return Err(self.problem(answer));
        }
        let read = |error: serde_json::Error| self.strange(answer.status, error.to_string());
        let json: Value = serde_json::from_slice(&answer.body).map_err(read)?;
        let value = T::deserialize(&json).map_err(read)?;
        Ok(Read { value, json })
    }

    /// Reads the answer of a call that failed.
    pub(crate) fn problem(&self, answer: &Answer) -> CallError {
        match serde_json::from_slice::<Problem>(&answer.body) {
            Ok(problem) => CallError::Problem {
                problem: Box::new(problem),
                retry_after: answer
                    .headers
                    .get(RETRY_AFTER)
                    .and_then(|value| value.to_str().ok())
                    .map(str::to_owned),
            },
            Err(_) => self.strange(answer.status, beginning_of(&answer.body)),
        }
    }

    /// Describes an answer that no Portcullis service gives.
    pub(crate) fn strange(&self, status: StatusCode, problem: String) -> CallError {
        CallError::Strange { url: self.client.base().to_string(), status, problem }
    }
}

/// Returns the path of an execution, or of what belongs to it.
pub(crate) fn execution_path(id: &ExecutionId, rest: &str) -> String {
    format!("/api/commands/{}{rest}", percent_encode(id.as_str()))
}

/// Returns enough of a body to recognise it by.
pub(crate) fn beginning_of(body: &[u8]) -> String {
    const SHOWN: usize = 120;
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.is_empty() {
        return "an empty body".into();
    }
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_recognised_by_its_beginning() {
        assert_eq!(beginning_of(b" \n"), "an empty body");
        assert_eq!(beginning_of(b"<html>"), "<html>");
        let shown = beginning_of("é".repeat(500).as_bytes());
        assert_eq!(shown.chars().count(), 121);
    }
}
