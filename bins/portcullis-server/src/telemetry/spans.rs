//! Spans: one for each request, one for each execution, with the names of OpenTelemetry's semantic conventions.
//!
//! Whoever makes one leaves it in a queue with a bound and goes on: a collector that is slow or away costs nobody
//! anything but spans. No command line is in a span, since it can hold secrets; no query, no output, no token.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode};
use portcullis_core::{Execution, Status, TraceContext};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::exposition::Exposition;
use super::instruments::Counter;
use super::otlp;
use crate::config::OtlpConfig;

/// Spans that wait; further ones are dropped. (`OTEL_BSP_MAX_QUEUE_SIZE` has this default.)
const WAITING: usize = 2_048;
/// Bytes of a path that are sent: strangers choose it.
const MAX_PATH_BYTES: usize = 512;

/// Takes spans, and has them sent.
#[derive(Debug, Clone)]
pub struct Spans {
    queue: mpsc::Sender<Span>,
    counts: Arc<Counts>,
    ending: watch::Sender<bool>,
    exporter: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// What became of spans.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) sent: Counter,
    pub(super) rejected: Counter,
    pub(super) given_up: Counter,
    pub(super) queue_full: Counter,
}

impl Spans {
    /// Begins to send spans to a collector, in a task of this runtime.
    #[must_use]
    pub fn start(config: &OtlpConfig) -> Self {
        let (spans, queue, ending) = Self::waiting();
        let exporter = otlp::Exporter::new(config.clone(), spans.counts.clone(), ending);
        *spans.exporter.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(tokio::spawn(exporter.run(queue)));
        spans
    }

    fn waiting() -> (Self, mpsc::Receiver<Span>, watch::Receiver<bool>) {
        let (queue, spans) = mpsc::channel(WAITING);
        let (ending, told) = watch::channel(false);
        (Self { queue, counts: Arc::default(), ending, exporter: Arc::default() }, spans, told)
    }

    /// Has everything sent that waits, and returns when that is done or has taken too long. Spans that come later are
    /// dropped.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the sending to go on by itself.
    pub async fn stop(&self, limit: Duration) {
        let _ = self.ending.send(true);
        let exporter = self.exporter.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut exporter) = exporter else { return };
        if tokio::time::timeout(limit, &mut exporter).await.is_err() {
            exporter.abort();
            tracing::warn!("the collector does not take the last spans: they are dropped");
        }
    }

    /// A queue that is full drops: nothing waits for a collector.
    fn put(&self, span: Span) {
        if span.trace.is_sampled() && self.queue.try_send(span).is_err() {
            self.counts.queue_full.one();
        }
    }

    /// Begins the span of a request.
    pub(crate) fn request(
        &self,
        trace: &TraceContext,
        caller: Option<&TraceContext>,
        method: &Method,
        path: &str,
    ) -> RequestSpan {
        let longest = path.len().min(MAX_PATH_BYTES);
        let shown = (0..=longest).rev().find_map(|end| path.get(..end)).unwrap_or_default();
        RequestSpan {
            spans: self.clone(),
            trace: trace.clone(),
            caller: caller.map(TraceContext::span_id),
            method: method.clone(),
            path: shown.to_owned(),
            began: SystemTime::now(),
        }
    }

    /// Tells of an execution that has ended.
    pub(crate) fn execution(&self, execution: &Execution) {
        if let Some(span) = Span::of_execution(execution) {
            self.put(span);
        }
    }

    /// Writes what became of spans, into the family that is open.
    pub(super) fn write(&self, to: &mut Exposition) {
        let Counts { sent, rejected, given_up, queue_full } = &*self.counts;
        for (result, counter) in
            [("sent", sent), ("rejected", rejected), ("given_up", given_up), ("queue_full", queue_full)]
        {
            to.count(&[("result", result)], counter.read());
        }
    }
}

/// A request that has begun.
pub(crate) struct RequestSpan {
    spans: Spans,
    trace: TraceContext,
    caller: Option<String>,
    method: Method,
    path: String,
    began: SystemTime,
}

impl RequestSpan {
    /// Ends it with the route that was reached, the status of the answer, which is missing when the peer has gone before
    /// it, and who asked, as far as these are known.
    pub(crate) fn end(self, route: Option<&str>, status: Option<StatusCode>, user_id: Option<&str>) {
        if !self.trace.is_sampled() {
            return;
        }
        // Methods that nobody knows are one (semantic conventions, "HTTP server").
        let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"];
        let method = self.method.as_str();
        let (named, method) = if known.contains(&method) { (method, method) } else { ("HTTP", "_OTHER") };
        let mut attributes = vec![
            text("http.request.method", method),
            text("url.path", &self.path),
            text("url.scheme", "http"),
        ];
        attributes.extend(route.map(|route| text("http.route", route)));
        attributes.extend(status.map(|status| number("http.response.status_code", status.as_u16().into())));
        attributes.extend(user_id.map(|user_id| text("user.id", user_id)));
        let error = match &status {
            None => Some("client_gone"),
            Some(status) if status.is_server_error() => Some(status.as_str()),
            Some(_) => None,
        };
        attributes.extend(error.map(|error| text("error.type", error)));
        self.spans.put(Span {
            parent: self.caller,
            parent_is_remote: true,
            name: route.map_or_else(|| named.to_owned(), |route| format!("{named} {route}")),
            kind: Kind::Server,
            began: self.began,
            ended: SystemTime::now().max(self.began),
            started: None,
            attributes,
            failed: error.is_some(),
            trace: self.trace,
        });
    }
}

/// What a span is about. (`SpanKind` of `trace.proto`.)
#[derive(Debug, Clone, Copy)]
enum Kind {
    Internal = 1,
    Server = 2,
}

/// One span.
#[derive(Debug)]
pub(super) struct Span {
    trace: TraceContext,
    parent: Option<String>,
    parent_is_remote: bool,
    name: String,
    kind: Kind,
    began: SystemTime,
    ended: SystemTime,
    /// When the first process of an execution started.
    started: Option<SystemTime>,
    attributes: Vec<Value>,
    failed: bool,
}

impl Span {
    fn of_execution(execution: &Execution) -> Option<Self> {
        let (trace, ending) = (execution.trace()?, execution.ending.as_ref()?);
        let mut attributes = vec![
            text("user.id", &execution.owner),
            text("portcullis.execution.id", execution.id.as_str()),
            text("portcullis.execution.status", ending.status.as_str()),
            text("portcullis.execution.reason", ending.reason.as_str()),
        ];
        attributes.extend(execution.programs.first().map(|name| text("process.executable.name", name)));
        attributes.extend(ending.exit_code.map(|code| number("process.exit.code", code.into())));
        let failed = !matches!(ending.status, Status::Completed | Status::Cancelled);
        attributes.extend(failed.then(|| text("error.type", ending.reason.as_str())));
        Some(Self {
            trace,
            parent: execution.provenance.trace.as_ref().map(TraceContext::span_id),
            parent_is_remote: false,
            name: "execution".into(),
            kind: Kind::Internal,
            began: execution.accepted_at.into(),
            ended: ending.ended_at.max(execution.accepted_at).into(),
            started: execution.began_at().map(Into::into),
            attributes,
            failed,
        })
    }

    /// Writes it as OTLP's JSON has it: ids in hexadecimal digits, numbers of 64 bits as texts, enumerations as numbers.
    pub(super) fn to_json(&self) -> Value {
        const ERROR: u8 = 2;
        // `SpanFlags`: those of the trace; that it is known whether the parent is remote; whether it is.
        let remote = self.parent.is_some() && self.parent_is_remote;
        let flags = u32::from(self.trace.is_sampled()) | 0x100 | if remote { 0x200 } else { 0 };
        let event = |at| json!({"timeUnixNano": nanoseconds(at), "name": "started"});
        let mut span = json!({
            "traceId": self.trace.trace_id(),
            "spanId": self.trace.span_id(),
            "flags": flags,
            "name": self.name,
            "kind": self.kind as u8,
            "startTimeUnixNano": nanoseconds(self.began),
            "endTimeUnixNano": nanoseconds(self.ended),
            "attributes": self.attributes,
            "events": self.started.map(event).into_iter().collect::<Vec<_>>(),
            "status": if self.failed { json!({"code": ERROR}) } else { json!({}) },
        });
        let more = [("parentSpanId", self.parent.as_deref()), ("traceState", self.trace.state())];
        for (name, value) in more.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            if let Some(members) = span.as_object_mut() {
                members.insert(name.into(), value.into());
            }
        }
        span
    }
}

fn nanoseconds(at: SystemTime) -> String {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

pub(super) fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

fn number(key: &str, value: i64) -> Value {
    json!({"key": key, "value": {"intValue": value.to_string()}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(spans: &Spans, trace: &TraceContext, method: &str, path: &str, status: Option<u16>) {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = spans.request(trace, None, &method, path);
        let status = status.map(|status| StatusCode::from_u16(status).unwrap());
        request.end(status.map(|_| "/r"), status, None);
    }

    fn attribute(span: &Value, key: &str) -> Value {
        let attributes = span["attributes"].as_array().unwrap();
        let found = attributes.iter().find(|attribute| attribute["key"] == key);
        found.map_or(Value::Null, |attribute| attribute["value"]["stringValue"].clone())
    }

    #[tokio::test]
    async fn a_queue_that_is_full_drops_and_counts_and_nobody_waits() {
        let (spans, mut queue, _told) = Spans::waiting();
        for _ in 0..WAITING + 5 {
            ask(&spans, &TraceContext::begin(), "GET", "/x", Some(200));
        }
        assert_eq!(spans.counts.queue_full.read(), 5);
        let mut waiting = Vec::new();
        assert_eq!(queue.recv_many(&mut waiting, 2 * WAITING).await, WAITING);
    }

    #[tokio::test]
    async fn a_trace_that_its_caller_does_not_record_is_not_sent() {
        let (spans, mut queue, _told) = Spans::waiting();
        let trace = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", []);
        ask(&spans, &trace.unwrap().child(), "GET", "/x", Some(200));
        assert!(queue.try_recv().is_err());
        assert_eq!(spans.counts.queue_full.read(), 0);
    }

    #[tokio::test]
    async fn what_strangers_choose_names_no_span_and_errors_are_ours() {
        let (spans, mut queue, _told) = Spans::waiting();
        let long = "/ä".repeat(MAX_PATH_BYTES);
        for (method, status, name, error) in [
            ("BREW", Some(404), "HTTP /r", Value::Null),
            ("GET", Some(503), "GET /r", json!("503")),
            ("GET", None, "GET", json!("client_gone")),
        ] {
            ask(&spans, &TraceContext::begin(), method, &long, status);
            let span = queue.recv().await.unwrap().to_json();
            assert_eq!((&span["name"], attribute(&span, "error.type")), (&json!(name), error.clone()));
            assert_eq!(span["status"]["code"], if error.is_null() { Value::Null } else { json!(2) });
            assert!(attribute(&span, "url.path").as_str().unwrap().len() <= MAX_PATH_BYTES);
            let wanted = if method == "BREW" { "_OTHER" } else { "GET" };
            assert_eq!(attribute(&span, "http.request.method"), wanted);
        }
    }
}
