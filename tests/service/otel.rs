//! Spans of the real executable, at a collector that is as it should be and at others.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::process::Real;
use crate::scraped::Scraped;
use crate::served::PATIENCE;

/// What a collector answers to its first posts, and then to all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Takes,
    TakesAllButOne,
    Says(u16),
    Never,
}

/// A collector on this machine: keeps what it was sent.
struct Collector {
    endpoint: String,
    posts: watch::Receiver<Vec<(HeaderMap, Value, Answer)>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Collector {
    async fn start(first: &'static [Answer], then: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (sender, posts) = watch::channel(Vec::new());
        let sender = Arc::new(sender);
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let sender = sender.clone();
                let service = service_fn(move |request| take(request, sender.clone(), first, then));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { endpoint, posts, serving }
    }

    /// Waits until what has come is as wanted.
    async fn wait(&mut self, wanted: impl Fn(&[(HeaderMap, Value, Answer)]) -> bool) {
        let waited = tokio::time::timeout(PATIENCE, self.posts.wait_for(|posts| wanted(posts))).await;
        let waited = waited.map(|found| drop(found.unwrap()));
        waited.unwrap_or_else(|_| panic!("{:#?}", self.posts.borrow()));
    }

    /// Returns the spans that were taken, by their names.
    fn spans(&self) -> Vec<Value> {
        spans_of(&self.posts.borrow())
    }
}

fn spans_of(posts: &[(HeaderMap, Value, Answer)]) -> Vec<Value> {
    let taken = posts.iter().filter(|(.., answer)| *answer == Answer::Takes);
    taken.flat_map(|(_, body, _)| scope(body)["spans"].as_array().unwrap().clone()).collect()
}

/// The one scope of a message.
fn scope(body: &Value) -> &Value {
    let resources = body["resourceSpans"].as_array().unwrap();
    assert_eq!(resources.len(), 1);
    &resources[0]["scopeSpans"][0]
}

async fn take(
    request: Request<Incoming>,
    sender: Arc<watch::Sender<Vec<(HeaderMap, Value, Answer)>>>,
    first: &'static [Answer],
    then: Answer,
) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/v1/traces"));
    let (head, body) = request.into_parts();
    let body = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
    let answer = first.get(sender.borrow().len()).copied().unwrap_or(then);
    sender.send_modify(|posts| posts.push((head.headers, body, answer)));
    let text = match answer {
        Answer::Never => std::future::pending().await,
        Answer::TakesAllButOne => r#"{"partialSuccess":{"rejectedSpans":"1","errorMessage":"no"}}"#,
        Answer::Takes | Answer::Says(_) => "{}",
    };
    let mut response = Response::new(Full::from(text));
    if let Answer::Says(status) = answer {
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
    }
    Ok(response)
}

/// Returns the attributes of a span or a resource.
fn attributes(of: &Value) -> HashMap<&str, Value> {
    let one = |attribute: &'_ Value| {
        let value = attribute["value"].as_object().unwrap();
        assert_eq!(value.len(), 1, "{attribute}");
        let (kind, value) = value.iter().next().unwrap();
        // Whole numbers of 64 bits are texts in JSON.
        assert!(["stringValue", "intValue"].contains(&kind.as_str()) && value.is_string(), "{attribute}");
        value.clone()
    };
    let all = of["attributes"].as_array().unwrap();
    let found: HashMap<_, _> =
        all.iter().map(|attribute| (attribute["key"].as_str().unwrap(), one(attribute))).collect();
    assert_eq!(found.len(), all.len(), "an attribute is there twice: {of}");
    found
}

/// Holds a span to what `trace.proto` and the mapping to JSON say.
#[track_caller]
fn check(span: &Value) {
    let known = [
        "traceId",
        "spanId",
        "parentSpanId",
        "traceState",
        "flags",
        "name",
        "kind",
        "startTimeUnixNano",
        "endTimeUnixNano",
        "attributes",
        "events",
        "status",
    ];
    for member in span.as_object().unwrap().keys() {
        assert!(known.contains(&member.as_str()), "`{member}`: {span}");
    }
    let hex = |value: &Value, digits: usize| {
        let text = value.as_str().unwrap();
        let plain = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        assert!(text.len() == digits && text.chars().all(plain), "{span}");
    };
    hex(&span["traceId"], 32);
    hex(&span["spanId"], 16);
    if span.get("parentSpanId").is_some() {
        hex(&span["parentSpanId"], 16);
    }
    let time = |value: &Value| value.as_str().unwrap().parse::<u64>().unwrap();
    let (began, ended) = (time(&span["startTimeUnixNano"]), time(&span["endTimeUnixNano"]));
    assert!(began > 1_700_000_000_000_000_000 && began <= ended, "{span}");
    for event in span["events"].as_array().unwrap() {
        assert!((began..=ended).contains(&time(&event["timeUnixNano"])), "{span}");
    }
    assert!(span["kind"].is_u64() && span["flags"].is_u64() && span["status"].is_object());
    attributes(span);
}

#[track_caller]
fn named<'a>(spans: &'a [Value], name: &str, trace: &str) -> &'a Value {
    let mut found = spans.iter().filter(|span| span["name"] == name && span["traceId"] == trace);
    let first = found.next().unwrap_or_else(|| panic!("no `{name}` of {trace} in {spans:#?}"));
    assert!(found.next().is_none(), "`{name}` twice");
    first
}

async fn scrape(real: &Real) -> Scraped {
    let answer = real.client.get("/metrics").await.expect_status(200);
    Scraped::read(std::str::from_utf8(&answer.body).unwrap(), false)
}

async fn count(real: &Real, result: &str) -> f64 {
    scrape(real).await.value(&format!("portcullis_spans_total{{result=\"{result}\"}}"))
}

const RECORDED: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PASSED_OVER: &str = "11111111111111111111111111111111";

#[tokio::test]
async fn requests_and_executions_are_spans_at_a_collector_as_otlp_has_them() {
    let directory = tempfile::tempdir().unwrap();
    let mut collector = Collector::start(&[], Answer::Takes).await;
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=s3cret%20key"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=te%2Cst,service.name=other"),
        ("OTEL_SERVICE_NAME", "runner"),
        ("OTEL_TRACES_EXPORTER", ""),
    ];
    let Some(real) = Real::start(directory.path(), &settings).await else { return };
    let ask = |method: &str, path: &str, trace: &str, flags: &str| {
        let parent = format!("00-{trace}-00f067aa0ba902b7-{flags}");
        real.client.request(method, path).header("traceparent", &parent).header("tracestate", "a=1")
    };
    for (id, trace, flags) in [("one", RECORDED, "01"), ("two", PASSED_OVER, "00")] {
        let body = json!({"executionId": id, "command": "ls /no-such-s3cret"});
        ask("POST", "/api/commands", trace, flags).json(&body).send().await.expect_status(201);
        real.client.ended(id).await;
    }
    ask("GET", "/nowhere?s3cret", RECORDED, "01").send().await.expect_status(404);
    let names = |posts: &[_], wanted| {
        spans_of(posts).iter().any(|span| span["name"] == wanted && span["traceId"] == RECORDED)
    };
    collector.wait(|posts| names(posts, "execution") && names(posts, "GET")).await;

    let spans = collector.spans();
    spans.iter().for_each(check);
    assert!(spans.iter().all(|span| span["traceId"] != PASSED_OVER), "its caller does not record it");
    let request = named(&spans, "POST /api/commands", RECORDED);
    assert_eq!((&request["kind"], &request["parentSpanId"]), (&json!(2), &json!("00f067aa0ba902b7")));
    assert_eq!((&request["traceState"], &request["flags"]), (&json!("a=1"), &json!(0x301)));
    assert_eq!(request["status"], json!({}));
    let about = attributes(request);
    for (key, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/api/commands"),
        ("url.path", "/api/commands"),
        ("url.scheme", "http"),
        ("http.response.status_code", "201"),
    ] {
        assert_eq!(about[key], value, "{key}");
    }
    let execution = named(&spans, "execution", RECORDED);
    assert_eq!((&execution["kind"], &execution["parentSpanId"]), (&json!(1), &request["spanId"]));
    assert_eq!((&execution["status"], &execution["flags"]), (&json!({"code": 2}), &json!(0x101)));
    assert_eq!(execution["events"][0]["name"], "started");
    let of_execution = attributes(execution);
    for (key, value) in [
        ("process.executable.name", "ls"),
        ("process.exit.code", "2"),
        ("error.type", "exit"),
        ("portcullis.execution.id", "one"),
        ("portcullis.execution.status", "failed"),
        ("portcullis.execution.reason", "exit"),
    ] {
        assert_eq!(of_execution[key], value, "{key}");
    }
    assert_eq!(of_execution["user.id"], about["user.id"]);
    let strange = attributes(named(&spans, "GET", RECORDED));
    assert_eq!((&strange["url.path"], strange.get("http.route")), (&json!("/nowhere"), None));
    // A request without a trace begins one of its own, which is recorded.
    let of_their_own = spans.iter().filter(|span| span.get("parentSpanId").is_none());
    assert!(of_their_own.clone().count() > 0 && of_their_own.clone().all(|span| span["flags"] == 0x101));

    for (headers, body, _) in &*collector.posts.borrow() {
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers["x-key"], "s3cret key");
        let resource = attributes(&body["resourceSpans"][0]["resource"]);
        assert_eq!(resource["service.name"], "runner");
        assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(resource["deployment.environment.name"], "te,st");
        assert_eq!(scope(body)["scope"]["name"], "portcullis");
        let text = body.to_string();
        assert!(!text.contains("s3cret") && !text.contains(&real.client.token), "{text}");
    }
    // What waits when the service ends is sent.
    real.client.get("/livez").await.expect_status(200);
    real.signal("TERM");
    let (code, log) = real.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("s3cret"), "{log}");
    let spans = collector.spans();
    assert!(spans.iter().any(|span| span["name"] == "GET /livez"), "{spans:#?}");
    let text = "is set (environment OTEL_EXPORTER_OTLP_ENDPOINT), and this build";
    assert!(!log.contains(text), "{log}");
}

#[tokio::test]
async fn a_request_whose_peer_hangs_up_before_its_answer_is_a_span_that_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut collector = Collector::start(&[], Answer::Takes).await;
    let settings =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str()), ("ALLOWED_COMMANDS", "sleep")];
    let Some(real) = Real::start(directory.path(), &settings).await else { return };
    let body = json!({"executionId": "long", "command": "sleep 50"});
    let waits = real.client.request("POST", "/api/commands").header("prefer", "wait=40").json(&body);
    let waiting = tokio::spawn(waits.send());
    while real.client.get("/api/commands/long").await.status != 200 {
        tokio::task::yield_now().await;
    }
    waiting.abort();
    let gone = |span: &Value| attributes(span).get("error.type") == Some(&json!("client_gone"));
    collector.wait(|posts| spans_of(posts).iter().any(gone)).await;
    let spans = collector.spans();
    let span = spans.iter().find(|span| gone(span)).unwrap();
    check(span);
    assert_eq!((&span["name"], &span["status"]), (&json!("POST /api/commands"), &json!({"code": 2})));
    let about = attributes(span);
    assert_eq!((about.get("http.response.status_code"), about.contains_key("user.id")), (None, true));
    real.client.request("POST", "/api/commands/long/cancel").send().await.expect_status(200);
}

#[tokio::test]
async fn a_collector_that_is_slow_or_wrong_or_away_delays_no_execution_and_loses_no_record() {
    for then in [Some(Answer::Never), Some(Answer::Says(500)), Some(Answer::Says(429)), None] {
        let directory = tempfile::tempdir().unwrap();
        let mut collector = Collector::start(&[], then.unwrap_or(Answer::Takes)).await;
        if then.is_none() {
            collector.serving.abort();
            let _ = (&mut collector.serving).await;
        }
        let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str())];
        let Some(real) = Real::start(directory.path(), &settings).await else { return };
        real.client.run("before", "echo a").await;
        if then.is_some() {
            // From here on the collector has a post that it does not take.
            collector.wait(|posts| !posts.is_empty()).await;
        }
        for n in 0..5 {
            let record = real.client.run(&format!("while-{n}"), "echo a").await;
            assert_eq!(record.stdout.as_deref(), Some("a\n"), "{then:?}");
        }
        if then == Some(Answer::Says(500)) {
            // That is no answer after which another try would help.
            while count(&real, "given_up").await == 0.0 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(count(&real, "sent").await, 0.0, "{then:?}");
        assert!(collector.spans().is_empty());
        real.signal("TERM");
        let (code, log) = real.ended().await;
        assert_eq!(code, Some(0), "{then:?}: {log}");
        assert!(log.contains("the collector "), "{then:?}: {log}");
        // Every record is there in the next life.
        let Some(real) = Real::start(directory.path(), &[]).await else { return };
        for id in (0..5).map(|n| format!("while-{n}")).chain(["before".into()]) {
            let record = real.client.ended(&id).await;
            assert_eq!(record.stdout.as_deref(), Some("a\n"), "{id}");
        }
    }
}

#[tokio::test]
async fn a_collector_that_is_busy_is_asked_again_and_takes_each_span_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut collector = Collector::start(&[Answer::Says(503), Answer::Says(429)], Answer::Takes).await;
    let settings = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*format!("{}/v1/traces", collector.endpoint))];
    let Some(real) = Real::start(directory.path(), &settings).await else { return };
    real.client.run("one", "echo a").await;
    collector.wait(|posts| spans_of(posts).iter().any(|span| span["name"] == "execution")).await;
    {
        let posts = collector.posts.borrow();
        assert_eq!(posts[0].1, posts[1].1);
        assert_eq!(posts[0].1, posts[2].1);
    }
    let spans = collector.spans();
    let mut ids: Vec<_> = spans.iter().map(|span| span["spanId"].to_string()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), spans.len());
    assert_eq!(count(&real, "given_up").await, 0.0);
}

#[tokio::test]
async fn spans_that_a_collector_rejects_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let mut collector = Collector::start(&[Answer::TakesAllButOne], Answer::Takes).await;
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str())];
    let Some(real) = Real::start(directory.path(), &settings).await else { return };
    real.client.get("/livez").await.expect_status(200);
    collector.wait(|posts| !posts.is_empty()).await;
    while count(&real, "rejected").await == 0.0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(count(&real, "rejected").await, 1.0);
}

#[tokio::test]
async fn an_execution_that_a_kill_of_the_service_lost_is_a_span_of_the_next_life() {
    let directory = tempfile::tempdir().unwrap();
    let Some(real) = Real::start(directory.path(), &[("ALLOWED_COMMANDS", "sleep")]).await else { return };
    let body = json!({"executionId": "long", "command": "sleep 50"});
    let parent = format!("00-{RECORDED}-00f067aa0ba902b7-01");
    let asked = real.client.request("POST", "/api/commands").header("traceparent", &parent);
    asked.json(&body).send().await.expect_status(201);
    let mut events = real.client.events("long", None).await;
    while events.next().await.expect("a start").kind != "status" {}
    real.signal("KILL");
    let (code, _) = real.ended().await;
    assert_eq!(code, None);
    let mut collector = Collector::start(&[], Answer::Takes).await;
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str())];
    let Some(_real) = Real::start(directory.path(), &settings).await else { return };
    collector.wait(|posts| spans_of(posts).iter().any(|span| span["name"] == "execution")).await;
    let spans = collector.spans();
    let span = named(&spans, "execution", RECORDED);
    check(span);
    assert_eq!(attributes(span)["portcullis.execution.id"], "long");
    assert_eq!(span["status"], json!({"code": 2}));
}
