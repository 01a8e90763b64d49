//! Answers, each held to what holds for all of them.

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use portcullis_api::{Problem, ProblemCode};
use serde::de::DeserializeOwned;

use crate::contract;
use crate::served::PATIENCE;

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) async fn whole(method: &Method, target: &str, response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect()).await.expect("a whole body").unwrap();
        let answer = Self { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes() };
        answer.check(method);
        let body = (method != Method::HEAD).then_some(&*answer.body);
        contract::check(method, target, answer.status, &answer.headers, body);
        answer
    }

    /// What every answer promises.
    fn check(&self, method: &Method) {
        check_headers(&self.headers);
        let json = self.headers.get("content-type").is_some_and(|kind| kind.as_bytes().ends_with(b"json"));
        if json && method != Method::HEAD {
            assert!(self.body.ends_with(b"}\n"), "{:?}", self.body);
        }
        // What a probe is told has one form, whether it is good or bad.
        let readiness = self.status == 503 && self.body.starts_with(br#"{"ready":false,"#);
        if self.status >= 400 && method != Method::HEAD && !readiness {
            assert_eq!(self.header("content-type"), "application/problem+json");
            let problem: Problem = self.read();
            let code = problem.known_code().expect("a known code");
            assert_eq!((problem.status, code.status()), (self.status, self.status));
            assert_eq!(problem.kind, format!("/problems/{}", problem.code));
            assert!(problem.instance.starts_with("urn:uuid:"), "{problem:?}");
            assert!(!problem.error.is_empty() && !problem.detail.is_empty(), "{problem:?}");
        }
    }

    #[track_caller]
    pub(crate) fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    /// Asserts which problem it is.
    #[track_caller]
    pub(crate) fn expect_problem(&self, code: ProblemCode) -> Problem {
        let text = String::from_utf8_lossy(&self.body);
        let problem: Problem = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(problem.known_code(), Some(code), "{text}");
        problem
    }

    #[track_caller]
    pub(crate) fn read<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        self.read()
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no `{name}` in {self:?}")).to_str().unwrap()
    }
}

fn check_headers(headers: &HeaderMap) {
    assert_eq!(headers.get("x-content-type-options").unwrap(), "nosniff");
    assert!(headers.contains_key("cache-control"), "{headers:?}");
    let html = headers.get("content-type").is_some_and(|value| value.to_str().unwrap().contains("html"));
    if html {
        // The page alone, which a browser lets do nothing but what its policy says.
        let policy = headers.get("content-security-policy").unwrap().to_str().unwrap();
        assert!(policy.contains("require-trusted-types-for 'script'"), "{headers:?}");
    }
    assert!(!headers.keys().any(|name| name.as_str().starts_with("access-control-")), "{headers:?}");
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) data: serde_json::Value,
}

impl Event {
    pub(crate) fn text(&self) -> &str {
        self.data["data"].as_str().unwrap()
    }
}

/// A stream of events.
pub(crate) struct Stream {
    body: Incoming,
    rest: String,
    /// Comments seen so far.
    pub(crate) heartbeats: usize,
}

impl Stream {
    pub(crate) async fn new(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        assert_eq!(head.status, StatusCode::OK);
        check_headers(&head.headers);
        assert_eq!(head.headers.get("content-type").unwrap(), "text/event-stream");
        assert!(head.headers.get("cache-control").unwrap().to_str().unwrap().contains("no-cache"));
        assert_eq!(head.headers.get("x-accel-buffering").unwrap(), "no");
        Self { body, rest: String::new(), heartbeats: 0 }
    }

    /// Returns the next event, and `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((frame, rest)) = self.rest.split_once("\n\n") {
                let (frame, rest) = (frame.to_owned(), rest.to_owned());
                self.rest = rest;
                if frame.starts_with(':') {
                    self.heartbeats += 1;
                } else if !frame.starts_with("retry:") {
                    let mut lines = frame.split('\n');
                    let mut field = |name: &str| {
                        lines.next().and_then(|line| line.strip_prefix(name)).expect("a field").to_owned()
                    };
                    let event = Event {
                        id: field("id: "),
                        kind: field("event: "),
                        data: serde_json::from_str(&field("data: ")).unwrap(),
                    };
                    assert_eq!(lines.next(), None, "{frame}");
                    contract::check_event(&event.id, &event.kind, &event.data);
                    return Some(event);
                }
                continue;
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("an event in time")?;
            self.rest.push_str(std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap());
        }
    }

    /// Waits for a heartbeat.
    pub(crate) async fn heartbeat(&mut self) {
        while !self.rest.contains(":\n\n") {
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("a heartbeat in time");
            let frame = frame.unwrap().unwrap();
            self.rest.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }
}
