//! Posts bodies over HTTP.

use std::error::Error as _;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use portcullis_core::TraceContext;

/// How much of an answer's body is read, and for how long, so that its connection can be used again.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
const ANSWER_PATIENCE: Duration = Duration::from_millis(250);

/// Gives a body to the listener, once.
#[async_trait]
pub(crate) trait Post: Send + Sync {
    /// Waits for an answer until the deadline. Dropping the future may or may not have given it.
    async fn post(&self, body: Bytes, trace: Option<&TraceContext>, deadline: Duration) -> Reply;
}

/// What became of a post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The listener has it.
    Taken,
    /// The listener will never take this body.
    Refused { status: u16 },
    /// The listener answered, and did not take it now.
    NotNow { status: u16, retry_after: Option<Duration> },
    /// The listener did not answer; whether it has it is unknown.
    NoAnswer { problem: String },
}

/// The Socket Service, reached over HTTP.
pub(crate) struct HttpPost {
    client: Client<HttpConnector, Full<Bytes>>,
    target: Uri,
}

impl HttpPost {
    pub(crate) fn new(target: Uri, connect_timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(connect_timeout));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            // Before the peer's own 5 s: a post on a connection that it is closing would be lost.
            .pool_idle_timeout(Duration::from_secs(4))
            .build(connector);
        Self { client, target }
    }

    fn request(&self, body: Bytes, trace: Option<&TraceContext>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers
            .insert(USER_AGENT, HeaderValue::from_static(concat!("portcullis/", env!("CARGO_PKG_VERSION"))));
        // W3C Trace Context §3: the peer's span is beneath the execution's.
        let parent = trace.and_then(|trace| HeaderValue::try_from(trace.parent()).ok());
        let state = trace.and_then(|trace| HeaderValue::from_str(trace.state()?).ok());
        headers.extend(parent.map(|parent| (HeaderName::from_static("traceparent"), parent)));
        headers.extend(state.map(|state| (HeaderName::from_static("tracestate"), state)));
        request
    }
}

#[async_trait]
impl Post for HttpPost {
    async fn post(&self, body: Bytes, trace: Option<&TraceContext>, deadline: Duration) -> Reply {
        // This client follows no redirect: a 3xx is an answer that did not take the update.
        match tokio::time::timeout(deadline, self.client.request(self.request(body, trace))).await {
            Ok(Ok(response)) => {
                let reply = read_reply(&response);
                // Success is told by the status: the peer's answers are not always whole, nor JSON.
                let rest = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect();
                let _ = tokio::time::timeout(ANSWER_PATIENCE, rest).await;
                reply
            }
            Ok(Err(error)) => Reply::NoAnswer { problem: describe(&error) },
            Err(_) => Reply::NoAnswer { problem: format!("it did not answer within {deadline:?}") },
        }
    }
}

fn read_reply(response: &Response<Incoming>) -> Reply {
    let status = response.status();
    match status {
        _ if status.is_success() => Reply::Taken,
        // What these say of a body stays true when it is sent again. A 404 or 401 says that a path or a
        // proxy is not (yet) what it should be: somebody may mend it, and then the update is wanted.
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::UNPROCESSABLE_ENTITY => Reply::Refused { status: status.as_u16() },
        _ => Reply::NotNow { status: status.as_u16(), retry_after: retry_after(response) },
    }
}

/// Reads `Retry-After` where it is a number of seconds.
fn retry_after(response: &Response<Incoming>) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// Says what failed and the innermost cause ("Connection refused"); nothing in it is the peer's text.
fn describe(error: &Error) -> String {
    let mut cause = error.source();
    while let Some(inner) = cause.and_then(|cause| cause.source()) {
        cause = Some(inner);
    }
    let what = if error.is_connect() { "it cannot be reached" } else { "the connection broke off" };
    cause.map_or_else(|| what.to_owned(), |cause| format!("{what}: {cause}"))
}
