//! Sends spans to a collector as OTLP/HTTP with JSON. (OpenTelemetry Protocol Specification 1.x, "OTLP/HTTP".)

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::spans::{Counts, Span, text};
use crate::config::OtlpConfig;

/// Spans sent at once, and how long they are gathered.
const BATCH: usize = 512;
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector may take, and for how long a batch is tried.
const PATIENCE: Duration = Duration::from_secs(10);
const TRIED_FOR: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// What sends spans.
pub(super) struct Exporter {
    client: Client<HttpConnector, Full<Bytes>>,
    config: OtlpConfig,
    resource: Vec<Value>,
    counts: Arc<Counts>,
    /// Turns true when the service ends.
    ending: watch::Receiver<bool>,
}

/// Why a post came to nothing.
struct Problem {
    said: String,
    /// Whether, and how soon, another try may help.
    again: Option<Duration>,
}

impl Exporter {
    pub(super) fn new(config: OtlpConfig, counts: Arc<Counts>, ending: watch::Receiver<bool>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(PATIENCE));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(4))
            .build(connector);
        let resource = config.resource.iter().map(|(key, value)| text(key, value)).collect();
        Self { client, config, resource, counts, ending }
    }

    /// Sends what comes, in batches. Told to end, takes no more, sends the rest without waiting between tries, and
    /// returns.
    pub(super) async fn run(mut self, mut spans: mpsc::Receiver<Span>) {
        let mut away = false;
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                many = spans.recv_many(&mut batch, BATCH) => if many == 0 { return },
                () = ended(&mut self.ending), if !spans.is_closed() => {
                    spans.close();
                    continue;
                }
            }
            self.gather(&mut spans, &mut batch).await;
            let many = batch.len() as u64;
            match self.send(&batch).await {
                Ok(rejected) => {
                    let rejected = rejected.min(many);
                    self.counts.sent.add(many - rejected);
                    self.counts.rejected.add(rejected);
                    if rejected > 0 {
                        tracing::warn!(spans = rejected, "the collector rejects some spans");
                    }
                    if away {
                        tracing::info!("the collector takes spans again");
                    }
                    away = false;
                }
                Err(problem) => {
                    self.counts.given_up.add(many);
                    if !away {
                        tracing::warn!(
                            problem,
                            spans = many,
                            "the collector takes no spans: they are dropped"
                        );
                    }
                    away = true;
                }
            }
        }
    }

    /// Adds to a batch what comes within a moment.
    async fn gather(&mut self, spans: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) {
        let until = Instant::now() + GATHER;
        while batch.len() < BATCH && !*self.ending.borrow() {
            let room = BATCH - batch.len();
            tokio::select! {
                more = timeout_at(until, spans.recv_many(batch, room)) => if !more.is_ok_and(|more| more > 0) { return },
                () = ended(&mut self.ending) => return,
            }
        }
    }

    /// Sends one batch; again, for a minute, where that may help. Returns how many of its spans the collector rejected.
    async fn send(&mut self, batch: &[Span]) -> Result<u64, String> {
        let body: Bytes = self.message(batch).into();
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let problem = match self.post(body.clone()).await {
                Ok(rejected) => return Ok(rejected),
                Err(problem) => problem,
            };
            let Some(asked) = problem.again else { return Err(problem.said) };
            let wait = asked.max(pause.mul_f64(0.5 + chance() / 2.0));
            if *self.ending.borrow() || begun.elapsed() + wait > TRIED_FOR {
                return Err(problem.said);
            }
            tokio::select! {
                () = sleep(wait) => {}
                // Once more, and then no more.
                () = ended(&mut self.ending) => {}
            }
            pause *= 2;
        }
    }

    async fn post(&self, body: Bytes) -> Result<u64, Problem> {
        let again = |said: String| Problem { said, again: Some(Duration::ZERO) };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.config.target.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let agent = concat!("portcullis/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        headers.extend(self.config.headers.iter().cloned());
        let (head, body) = match timeout(PATIENCE, self.client.request(request)).await {
            Ok(Ok(response)) => response.into_parts(),
            Ok(Err(error)) => return Err(again(crate::report::chain(&error))),
            Err(_) => return Err(again("it did not answer in time".into())),
        };
        let body = timeout(PATIENCE, Limited::new(body, MAX_ANSWER_BYTES).collect()).await;
        if head.status.is_success() {
            let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes());
            return Ok(body.map_or(0, |body| rejected(&body)));
        }
        // "Retryable Response Codes".
        let may_help = matches!(head.status.as_u16(), 429 | 502 | 503 | 504);
        let again = may_help.then(|| retry_after(&head.headers));
        Err(Problem { said: format!("it answered {}", head.status), again })
    }

    fn message(&self, batch: &[Span]) -> String {
        let spans: Vec<_> = batch.iter().map(Span::to_json).collect();
        let scope = json!({"name": "portcullis", "version": env!("CARGO_PKG_VERSION")});
        json!({"resourceSpans": [{
            "resource": {"attributes": self.resource},
            "scopeSpans": [{"scope": scope, "spans": spans}],
        }]})
        .to_string()
    }
}

/// Resolves when the service ends, or whoever would say so is gone.
async fn ended(ending: &mut watch::Receiver<bool>) {
    let _ = ending.wait_for(|ending| *ending).await;
}

/// Reads how many spans a collector that took the others did not take ("Partial Success"); a number of 64 bits may be a
/// text.
fn rejected(body: &[u8]) -> u64 {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let many = answer.pointer("/partialSuccess/rejectedSpans");
    let number = many.and_then(|many| many.as_u64().or_else(|| many.as_str()?.parse().ok()));
    number.unwrap_or_default()
}

/// Reads how many seconds a collector asks for.
fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds: Option<u64> =
        headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    // Who asks for more is not tried again.
    Duration::from_secs(seconds.unwrap_or_default().min(3_600))
}

/// Returns a number from 0 to 1, so that many who wait do not all try at the same moment.
fn chance() -> f64 {
    // The standard library seeds each of these anew; chance of this quality is all that is needed here.
    let chance = RandomState::new().build_hasher().finish();
    (chance >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_collector_rejects_is_read_from_its_answer() {
        for (body, wanted) in [
            (r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"old"}}"#, 3),
            (r#"{"partialSuccess":{"rejectedSpans":3}}"#, 3),
            (r#"{"partialSuccess":{}}"#, 0),
            ("{}", 0),
            ("", 0),
            (r#"{"partialSuccess":{"rejectedSpans":"-1"}}"#, 0),
        ] {
            assert_eq!(rejected(body.as_bytes()), wanted, "{body}");
        }
    }

    #[test]
    fn a_pause_is_obeyed_when_it_is_one() {
        for (value, wanted) in [
            ("7", 7),
            (" 7 ", 7),
            ("18446744073709551615", 3_600),
            ("-1", 0),
            ("Tue, 01 Dec 2026 00:00:00 GMT", 0),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
            assert_eq!(retry_after(&headers), Duration::from_secs(wanted), "{value}");
        }
    }
}
