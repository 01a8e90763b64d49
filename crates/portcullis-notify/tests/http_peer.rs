//! The Socket Service as an HTTP peer of our own: right, refusing, slow, broken and absent.
#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portcullis_core::{CallResult, Calls, ExecutionId, Notifier as _, Status, TraceContext, Update};
use portcullis_notify::{SocketConfig, SocketServiceNotifier};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// What the peer does with its n-th request, from 0.
type Behaviour = dyn Fn(usize) -> Reaction + Send + Sync;

/// What the peer does instead of taking an update.
type Failure = fn() -> Reaction;

enum Reaction {
    /// Writes these bytes and keeps the connection for the next request.
    Write(Vec<u8>),
    /// Writes these bytes and closes.
    WriteAndClose(Vec<u8>),
    /// Writes these bytes and says no more.
    WriteAndHold(Vec<u8>),
    /// Writes the first bytes, then the second ones for ever.
    WriteForEver(Vec<u8>, Vec<u8>),
}

struct Request {
    head: String,
    body: Value,
    body_bytes: usize,
    connection: usize,
}

struct Peer {
    base: String,
    requests: mpsc::UnboundedReceiver<Request>,
}

impl Peer {
    async fn start(behaviour: impl Fn(usize) -> Reaction + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::unbounded_channel();
        let behaviour: Arc<Behaviour> = Arc::new(behaviour);
        let count = Arc::new(AtomicUsize::new(0));
        tokio::spawn(async move {
            let mut connections = 0;
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(
                    connection,
                    connections,
                    behaviour.clone(),
                    count.clone(),
                    sender.clone(),
                ));
                connections += 1;
            }
        });
        Self { base, requests }
    }

    fn notifier(&self) -> SocketServiceNotifier {
        SocketServiceNotifier::new(SocketConfig {
            deadline: Duration::from_millis(300),
            first_retry: Duration::from_millis(20),
            longest_retry: Duration::from_millis(100),
            ..SocketConfig::new(&self.base)
        })
        .unwrap()
    }
}

async fn serve(
    mut connection: TcpStream,
    number: usize,
    behaviour: Arc<Behaviour>,
    count: Arc<AtomicUsize>,
    sender: mpsc::UnboundedSender<Request>,
) {
    while let Some(request) = read_request(&mut connection, number).await {
        let reaction = behaviour(count.fetch_add(1, Ordering::SeqCst));
        let _ = sender.send(request);
        match reaction {
            Reaction::Write(bytes) => {
                let _ = connection.write_all(&bytes).await;
            }
            Reaction::WriteAndClose(bytes) => {
                let _ = connection.write_all(&bytes).await;
                let _ = connection.shutdown().await;
                return;
            }
            Reaction::WriteAndHold(bytes) => {
                let _ = connection.write_all(&bytes).await;
                let _ = connection.read_u8().await; // until the other side closes
                return;
            }
            Reaction::WriteForEver(first, then) => {
                let _ = connection.write_all(&first).await;
                while connection.write_all(&then).await.is_ok() {}
                return;
            }
        }
    }
}

async fn read_request(connection: &mut TcpStream, number: usize) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    connection.read_exact(&mut body).await.ok()?;
    let json = serde_json::from_slice(&body).unwrap();
    Some(Request { head, body: json, body_bytes: body.len(), connection: number })
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()).into_bytes()
}

fn success() -> Vec<u8> {
    answer("200 OK", "content-type: application/json\r\n", r#"{"success":true}"#)
}

fn completed(output: &str) -> Update {
    Update {
        id: ExecutionId::parse("test-123").unwrap(),
        status: Status::Completed,
        progress: 100,
        output: Some(output.to_owned()),
        error: None,
        trace: None,
    }
}

#[tokio::test]
async fn a_post_is_as_the_contract_wants_it_and_connections_are_used_again() {
    let mut peer = Peer::start(|_| Reaction::Write(success())).await;
    let notifier = peer.notifier();
    notifier.conclude(completed("Hello, World!")).await.unwrap();
    notifier.conclude(completed("Hello again")).await.unwrap();
    let request = peer.requests.recv().await.unwrap();
    assert!(request.head.starts_with("post /api/execution-status http/1.1\r\n"), "{}", request.head);
    assert!(request.head.contains("\r\ncontent-type: application/json\r\n"), "{}", request.head);
    assert_eq!(
        request.body,
        serde_json::json!({"executionId": "test-123", "status": "completed", "progress": 100, "output": "Hello, World!"})
    );
    assert_eq!(peer.requests.recv().await.unwrap().connection, request.connection);
}

#[tokio::test]
async fn ten_megabytes_of_control_characters_fit_the_body_limit() {
    let mut peer = Peer::start(|_| Reaction::Write(success())).await;
    let output = "\u{1b}[0m\u{0}\n".repeat(1_500_000);
    peer.notifier().conclude(completed(&output)).await.unwrap();
    let request = peer.requests.recv().await.unwrap();
    assert!(request.body_bytes <= 100_000 && request.body_bytes > 99_000, "{}", request.body_bytes);
    assert!(request.body["output"].as_str().unwrap().contains(" bytes left out]"));
}

#[tokio::test]
async fn a_refusal_for_good_ends_the_delivery() {
    for status in ["400 Bad Request", "413 Payload Too Large"] {
        let mut peer =
            Peer::start(move |_| Reaction::Write(answer(status, "", "<html>\u{1b}[31m</html>"))).await;
        let error = peer.notifier().conclude(completed("x")).await.unwrap_err();
        assert!(error.problem.contains(&status[..3]) && !error.problem.contains('\u{1b}'), "{error}");
        assert!(peer.requests.try_recv().is_ok() && peer.requests.try_recv().is_err());
    }
}

#[tokio::test]
async fn whatever_else_goes_wrong_the_update_is_delivered_in_the_end() {
    let failures: Vec<(&str, Failure)> = vec![
        ("500", || Reaction::Write(answer("500 Internal Server Error", "", "<html>"))),
        ("503 now", || Reaction::Write(answer("503 Service Unavailable", "retry-after: 0\r\n", ""))),
        ("404", || Reaction::Write(answer("404 Not Found", "", "Cannot POST"))),
        ("closes", || Reaction::WriteAndClose(Vec::new())),
        ("half a head", || Reaction::WriteAndClose(b"HTTP/1.1 200 O".to_vec())),
        ("half a head, held", || Reaction::WriteAndHold(b"HTTP/1.1 200 O".to_vec())),
        ("silent", || Reaction::WriteAndHold(Vec::new())),
        ("not HTTP", || Reaction::WriteAndClose(b"SSH-2.0-OpenSSH\r\n".to_vec())),
        ("endless head", || {
            Reaction::WriteForEver(b"HTTP/1.1 200 OK\r\n".to_vec(), b"x-more: and more\r\n".to_vec())
        }),
        ("redirect", || {
            Reaction::Write(answer("307 Temporary Redirect", "location: http://127.0.0.1:1/\r\n", ""))
        }),
    ];
    for (name, failure) in failures {
        let mut peer = Peer::start(move |n| if n < 2 { failure() } else { Reaction::Write(success()) }).await;
        let notifier = peer.notifier();
        notifier.conclude(completed(name)).await.unwrap();
        assert_eq!(std::iter::from_fn(|| peer.requests.try_recv().ok()).count(), 3, "{name}");
        assert_eq!(notifier.stats().failed, 2, "{name}");
    }
}

#[tokio::test]
async fn success_is_told_by_the_status_even_if_the_rest_never_comes() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{\"succ".to_vec();
    let held = half.clone();
    let reactions: [Box<dyn Fn() -> Reaction + Send + Sync>; 3] = [
        Box::new(move || Reaction::WriteAndClose(half.clone())),
        Box::new(move || Reaction::WriteAndHold(held.clone())),
        Box::new(|| {
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
            Reaction::WriteForEver(head, [b"1000\r\n".as_slice(), &[b' '; 4096], b"\r\n"].concat())
        }),
    ];
    for reaction in reactions {
        let mut peer = Peer::start(move |_| reaction()).await;
        let begun = Instant::now();
        peer.notifier().conclude(completed("x")).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(std::iter::from_fn(|| peer.requests.try_recv().ok()).count(), 1);
    }
}

#[tokio::test]
async fn an_absent_peer_is_told_when_it_is_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = SocketConfig {
        first_retry: Duration::from_millis(20),
        longest_retry: Duration::from_millis(50),
        ..SocketConfig::new(format!("http://{address}"))
    };
    let notifier = Arc::new(SocketServiceNotifier::new(config).unwrap());
    let begun = Instant::now();
    for progress in 1..50 {
        notifier.announce(Update { status: Status::Running, progress, ..completed("x") });
    }
    assert!(begun.elapsed() < Duration::from_millis(200), "announcing waits for nothing");
    let end = tokio::spawn({
        let notifier = notifier.clone();
        async move { notifier.conclude(completed("x")).await }
    });
    while notifier.stats().failed < 3 {
        tokio::task::yield_now().await;
    }
    assert!(notifier.stats().outage);

    let listener = TcpListener::bind(address).await.unwrap();
    let (connection, _) = listener.accept().await.unwrap();
    let (sender, mut requests) = mpsc::unbounded_channel();
    tokio::spawn(serve(connection, 0, Arc::new(|_| Reaction::Write(success())), Arc::default(), sender));
    end.await.unwrap().unwrap();
    assert_eq!(requests.recv().await.unwrap().body["status"], "completed");
    assert!(!notifier.stats().outage);
}

#[tokio::test]
async fn a_post_carries_the_trace_of_its_execution_and_is_counted_with_its_result() {
    #[derive(Default)]
    struct Seen(Mutex<Vec<CallResult>>);
    impl Calls for Seen {
        fn ended(&self, result: CallResult, took: Duration) {
            assert!(took < Duration::from_secs(10));
            self.0.lock().unwrap().push(result);
        }
    }
    let mut peer = Peer::start(|n| match n {
        0 => Reaction::WriteAndClose(answer("503 Service Unavailable", "", "")),
        _ => Reaction::Write(success()),
    })
    .await;
    let seen = Arc::new(Seen::default());
    let config = SocketConfig { first_retry: Duration::from_millis(20), ..SocketConfig::new(&peer.base) };
    let notifier = SocketServiceNotifier::observed(config, seen.clone()).unwrap();
    let trace = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", ["a=1"]);
    notifier.conclude(Update { trace, ..completed("x") }).await.unwrap();
    for _ in 0..2 {
        let head = peer.requests.recv().await.unwrap().head;
        assert!(
            head.contains("\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"),
            "{head}"
        );
        assert!(head.contains("\r\ntracestate: a=1\r\n"), "{head}");
    }
    assert_eq!(*seen.0.lock().unwrap(), [CallResult::Failed, CallResult::Answered]);
}
