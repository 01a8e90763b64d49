//! Asks the Auth Service over HTTP.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use portcullis_core::{Principal, Secret, TraceContext};
use tokio::sync::Semaphore;

use crate::answer::read_principal;
use crate::config::{AuthConfig, BaseUrl};

/// The longest body that is read.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// Answers whose token a question is about.
#[async_trait]
pub(crate) trait Ask: Send + Sync {
    async fn ask(&self, token: &Secret, trace: Option<&TraceContext>) -> Answer;
}

/// What became of a question.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// The token is this principal's.
    Known(Arc<Principal>),
    /// The token is nobody's.
    Invalid,
    /// It is known, and not let in: this principal, or one that the peer did not name.
    Forbidden(Option<Arc<Principal>>),
    /// The peer could not say.
    Unknown { retry_after: Option<Duration>, failure: Arc<Failure> },
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        Self::Unknown { retry_after: None, failure: Arc::new(failure) }
    }
}

/// Why the peer could not say.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("it did not answer within {0:?}")]
    Deadline(Duration),
    #[error("it cannot be reached{}", because(.0))]
    Connect(hyper_util::client::legacy::Error),
    #[error("the connection broke off before its answer")]
    Request(#[source] hyper_util::client::legacy::Error),
    #[error("its answer broke off, or is longer than {MAX_ANSWER_BYTES} bytes")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("it answered 404: is the path of its URL right (most deployments end it with `/api`)?")]
    NotFound,
    #[error("it answered {0}")]
    Status(u16),
    #[error("its answer is no user: {0}")]
    Nonsense(String),
    #[error("too many tokens are being asked about")]
    Busy,
    #[error("the question ended without an answer")]
    Abandoned,
    #[error("the question could not be written")]
    Unwritable(#[from] http::Error),
}

/// The innermost cause, for the one line an operator reads ("Connection refused").
fn because(error: &hyper_util::client::legacy::Error) -> String {
    let mut cause = error.source();
    while let Some(inner) = cause.and_then(|cause| cause.source()) {
        cause = Some(inner);
    }
    cause.map(|cause| format!(": {cause}")).unwrap_or_default()
}

/// The Auth Service, reached over HTTP.
pub(crate) struct HttpPeer {
    client: Client<HttpConnector, Empty<Bytes>>,
    base: BaseUrl,
    /// Whether `/api` has been found to be missing in the base URL.
    under_api: AtomicBool,
    deadline: Duration,
    turns: Semaphore,
}

impl HttpPeer {
    pub(crate) fn new(base: BaseUrl, config: &AuthConfig) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(config.deadline));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(4)) // before the peer's own (Node's default is 5 s)
            .build(connector);
        Self {
            client,
            base,
            under_api: AtomicBool::new(false),
            deadline: config.deadline,
            turns: Semaphore::new(config.questions_at_once),
        }
    }

    /// Asks at `{base}/user`, and where a base without a path has nothing there, at `{base}/api/user`.
    async fn question(&self, token: &Secret, trace: Option<&TraceContext>) -> Result<Answer, Failure> {
        let _turn = self.turns.acquire().await.map_err(|_| Failure::Abandoned)?;
        let under_api = self.under_api.load(Ordering::Relaxed);
        let mut response = self.get(under_api, token, trace).await?;
        if response.status() == StatusCode::NOT_FOUND && !self.base.has_path() {
            response = self.get(!under_api, token, trace).await?;
            if response.status() != StatusCode::NOT_FOUND {
                self.under_api.store(!under_api, Ordering::Relaxed);
            }
        }
        read_answer(response).await
    }

    async fn get(
        &self,
        under_api: bool,
        token: &Secret,
        trace: Option<&TraceContext>,
    ) -> Result<http::Response<Incoming>, Failure> {
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {}", token.reveal())).map_err(http::Error::from)?;
        authorization.set_sensitive(true);
        let mut request = Request::get(self.base.join(if under_api { "/api/user" } else { "/user" })?)
            .header(AUTHORIZATION, authorization)
            // Without it the peer turns a refusal into a redirect or a 500 for browsers.
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("portcullis/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())?;
        // W3C Trace Context §3: the peer's span is beneath the request's.
        let parent = trace.and_then(|trace| HeaderValue::try_from(trace.parent()).ok());
        let state = trace.and_then(|trace| HeaderValue::from_str(trace.state()?).ok());
        let headers = request.headers_mut();
        headers.extend(parent.map(|parent| (HeaderName::from_static("traceparent"), parent)));
        headers.extend(state.map(|state| (HeaderName::from_static("tracestate"), state)));
        // INVARIANT (the token goes to the configured address alone): this client follows no redirect.
        self.client.request(request).await.map_err(|error| {
            if error.is_connect() { Failure::Connect(error) } else { Failure::Request(error) }
        })
    }
}

#[async_trait]
impl Ask for HttpPeer {
    async fn ask(&self, token: &Secret, trace: Option<&TraceContext>) -> Answer {
        match tokio::time::timeout(self.deadline, self.question(token, trace)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(failure)) => failure.into(),
            Err(_) => Failure::Deadline(self.deadline).into(),
        }
    }
}

/// INVARIANT (fail closed): one arm leads to a principal, and it wants status 200 and a whole, true user.
async fn read_answer(response: http::Response<Incoming>) -> Result<Answer, Failure> {
    let status = response.status();
    match status {
        StatusCode::OK => {
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES);
            let bytes = body.collect().await.map_err(Failure::Body)?.to_bytes();
            let principal = read_principal(&bytes).map_err(Failure::Nonsense)?;
            Ok(Answer::Known(Arc::new(principal)))
        }
        StatusCode::UNAUTHORIZED => Ok(Answer::Invalid),
        StatusCode::FORBIDDEN => Ok(Answer::Forbidden(None)),
        StatusCode::NOT_FOUND => Err(Failure::NotFound),
        _ => Ok(Answer::Unknown {
            retry_after: retry_after(&response),
            failure: Arc::new(Failure::Status(status.as_u16())),
        }),
    }
}

/// Reads `Retry-After` where it is a number of seconds, as the peer sends it. The form with a date needs a
/// clock that agrees with the peer's; it counts as absent.
fn retry_after(response: &http::Response<Incoming>) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}
