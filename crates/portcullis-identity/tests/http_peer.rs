//! The Auth Service as an HTTP peer of our own: right, slow, broken, hostile and absent.
#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portcullis_core::{
    AuthenticateError, Authenticator as _, CallResult, Calls, Credentials, Principal, Provenance, Secret,
    TraceContext,
};
use portcullis_identity::{AuthConfig, AuthServiceAuthenticator};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const ALICE: &str = r#"{"user":{"id":7,"name":"Alice","username":"alice","roles":[{"id":1,"name":"user","permissions":[{"id":15,"name":"run agents"}]}]}}"#;

/// What the peer does with a request; the number counts requests from 0.
type Behaviour = dyn Fn(usize, &str) -> Reaction + Send + Sync;

enum Reaction {
    /// Writes these bytes and closes.
    Write(Vec<u8>),
    /// Writes these bytes and keeps the connection open.
    WriteAndHold(Vec<u8>),
    /// Writes the first bytes, then the second ones for ever.
    WriteForEver(Vec<u8>, Vec<u8>),
}

struct Peer {
    base: String,
    requests: mpsc::UnboundedReceiver<String>,
}

impl Peer {
    async fn start(behaviour: impl Fn(usize, &str) -> Reaction + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::unbounded_channel();
        let behaviour: Arc<Behaviour> = Arc::new(behaviour);
        let count = Arc::new(AtomicUsize::new(0));
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, behaviour.clone(), count.clone(), sender.clone()));
            }
        });
        Self { base, requests }
    }

    fn requests(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.requests.try_recv().ok()).collect()
    }
}

async fn serve(
    mut connection: TcpStream,
    behaviour: Arc<Behaviour>,
    count: Arc<AtomicUsize>,
    sender: mpsc::UnboundedSender<String>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match connection.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let reaction = behaviour(count.fetch_add(1, Ordering::SeqCst), &head);
    let _ = sender.send(head);
    match reaction {
        Reaction::Write(bytes) => {
            let _ = connection.write_all(&bytes).await;
            let _ = connection.shutdown().await;
        }
        Reaction::WriteAndHold(bytes) => {
            let _ = connection.write_all(&bytes).await;
            let _ = connection.read_u8().await; // until the other side closes
        }
        Reaction::WriteForEver(first, then) => {
            let _ = connection.write_all(&first).await;
            while connection.write_all(&then).await.is_ok() {}
        }
    }
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()).into_bytes()
}

fn ok(body: &str) -> Vec<u8> {
    answer("200 OK", "content-type: application/json\r\n", body)
}

fn users(base: &str) -> AuthServiceAuthenticator {
    let config = AuthConfig { deadline: Duration::from_millis(400), ..AuthConfig::new(base) };
    AuthServiceAuthenticator::new(config).unwrap()
}

async fn ask(users: &AuthServiceAuthenticator, token: &str) -> Result<Principal, AuthenticateError> {
    users.authenticate(&Credentials { bearer: Some(Secret::new(token)), ..Credentials::default() }).await
}

/// The text of an `Unavailable`, with its causes.
#[track_caller]
fn unavailable(result: Result<Principal, AuthenticateError>) -> String {
    let error = match result {
        Err(error @ AuthenticateError::Unavailable { .. }) => error,
        other => panic!("expected nobody to be let in, and 503; got {other:?}"),
    };
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        text.push_str(&format!("{error}; "));
        cause = error.source();
    }
    text
}

async fn unavailable_after(reaction: impl Fn() -> Reaction + Send + Sync + 'static) -> String {
    let peer = Peer::start(move |_, _| reaction()).await;
    let begun = Instant::now();
    let text = unavailable(ask(&users(&peer.base), "t").await);
    assert!(begun.elapsed() < Duration::from_secs(5), "bounded by the deadline: {:?}", begun.elapsed());
    text
}

#[tokio::test]
async fn a_user_is_let_in_and_the_question_is_as_the_contract_wants_it() {
    let mut peer = Peer::start(|_, _| Reaction::Write(ok(ALICE))).await;
    let users = users(&format!("{}/api/", peer.base));
    let principal = ask(&users, "alice-token").await.unwrap();
    assert_eq!((principal.id.as_str(), principal.name.as_str()), ("7", "alice"));
    assert!(ask(&users, "alice-token").await.is_ok());

    let requests = peer.requests();
    assert_eq!(requests.len(), 1, "the second answer was remembered");
    let head = requests[0].to_ascii_lowercase();
    assert!(head.starts_with("get /api/user http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nauthorization: bearer alice-token\r\n"), "{head}");
    assert!(head.contains("\r\naccept: application/json\r\n"), "{head}");
}

#[tokio::test]
async fn a_refused_token_is_invalid_and_a_disabled_user_forbidden() {
    let peer = Peer::start(|_, head| {
        let unauthenticated = head.to_ascii_lowercase().contains("bearer logged-out");
        Reaction::Write(if unauthenticated {
            answer("401 Unauthorized", "", r#"{"message":"Unauthenticated."}"#)
        } else {
            answer("403 Forbidden", "", r#"{"message":"disabled"}"#)
        })
    })
    .await;
    let users = users(&peer.base);
    assert!(matches!(ask(&users, "logged-out").await, Err(AuthenticateError::Invalid)));
    assert!(matches!(ask(&users, "disabled").await, Err(AuthenticateError::Forbidden { .. })));
}

#[tokio::test]
async fn a_base_without_api_finds_the_route_under_api_and_remembers_it() {
    let mut peer = Peer::start(|_, head| {
        Reaction::Write(if head.starts_with("GET /api/user ") {
            ok(ALICE)
        } else {
            answer("404 Not Found", "", "<html>")
        })
    })
    .await;
    let users = users(&peer.base);
    assert!(ask(&users, "a").await.is_ok());
    assert!(ask(&users, "b").await.is_ok());
    let paths: Vec<_> =
        peer.requests().iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(paths, ["/user", "/api/user", "/api/user"]);
}

#[tokio::test]
async fn a_wrong_path_is_named_as_the_likely_cause() {
    let peer = Peer::start(|_, _| Reaction::Write(answer("404 Not Found", "", "<html>"))).await;
    let text = unavailable(ask(&users(&format!("{}/wrong", peer.base)), "t").await);
    assert!(text.contains("404") && text.contains("`/api`"), "{text}");
}

#[tokio::test]
async fn server_errors_and_nonsense_let_nobody_in() {
    for bytes in [
        answer("500 Internal Server Error", "", "<html>"),
        answer("502 Bad Gateway", "", ""),
        answer("201 Created", "", ALICE),
        answer("204 No Content", "", ""),
        answer("418 I'm a teapot", "", ALICE),
        ok("<html>Welcome</html>"),
        ok("{}"),
        ok(r#"{"user":{"id":null,"username":"a","roles":[]}}"#),
        ok(r#"{"error":"token expired"}"#),
        ok(""),
        b"not http at all\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: nonsense\r\n\r\n{}".to_vec(),
        Vec::new(),
    ] {
        unavailable_after(move || Reaction::Write(bytes.clone())).await;
    }
}

#[tokio::test]
async fn a_limit_is_passed_on_with_its_time() {
    let peer = Peer::start(|_, _| {
        Reaction::Write(answer(
            "429 Too Many Requests",
            "retry-after: 23\r\n",
            r#"{"message":"Too Many Attempts."}"#,
        ))
    })
    .await;
    match ask(&users(&peer.base), "t").await {
        Err(AuthenticateError::Unavailable { retry_after, .. }) => {
            assert_eq!(retry_after, Some(Duration::from_secs(23)));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_the_token() {
    let mut elsewhere = Peer::start(|_, _| Reaction::Write(ok(ALICE))).await;
    let location = format!("location: {}/user\r\n", elsewhere.base);
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let bytes = answer(status, &location, "");
        unavailable_after(move || Reaction::Write(bytes.clone())).await;
    }
    assert_eq!(elsewhere.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn an_answer_that_is_half_there_lets_nobody_in() {
    let whole = ok(ALICE);
    for cut in [whole.len() - 1, whole.len() / 2, 10] {
        let half = whole[..cut].to_vec();
        let held = half.clone();
        unavailable_after(move || Reaction::Write(half.clone())).await;
        let text = unavailable_after(move || Reaction::WriteAndHold(held.clone())).await;
        assert!(text.contains("did not answer within"), "{text}");
    }
}

#[tokio::test]
async fn a_huge_or_endless_answer_costs_its_limit_at_most() {
    let huge = format!("{}{}", " ".repeat(10 * 1024 * 1024), ALICE);
    let huge = ok(&huge);
    unavailable_after(move || Reaction::Write(huge.clone())).await;
    unavailable_after(|| {
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        Reaction::WriteForEver(head, [b"1000\r\n".as_slice(), &[b' '; 4096], b"\r\n"].concat())
    })
    .await;
    unavailable_after(|| {
        Reaction::WriteForEver(b"HTTP/1.1 200 OK\r\n".to_vec(), b"x-more: and more\r\n".to_vec())
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_costs_its_deadline_at_most() {
    let text = unavailable_after(|| Reaction::WriteAndHold(Vec::new())).await;
    assert!(text.contains("did not answer within 400ms"), "{text}");
}

#[tokio::test]
async fn an_absent_peer_is_named_with_the_cause_and_let_in_again_when_it_is_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = AuthConfig { failed_for: Duration::ZERO, ..AuthConfig::new(format!("http://{address}")) };
    let users = AuthServiceAuthenticator::new(config).unwrap();
    let text = unavailable(ask(&users, "t").await);
    assert!(text.contains("onnection refused"), "{text}");
    assert!(users.stats().failing);

    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        let (connection, _) = listener.accept().await.unwrap();
        let (sender, _receiver) = mpsc::unbounded_channel();
        serve(connection, Arc::new(|_, _: &str| Reaction::Write(ok(ALICE))), Arc::default(), sender).await;
    });
    assert!(ask(&users, "t").await.is_ok());
    assert!(!users.stats().failing);
}

#[tokio::test]
async fn a_question_carries_the_trace_of_its_request_and_is_counted_with_its_result() {
    #[derive(Default)]
    struct Seen(Mutex<Vec<CallResult>>);
    impl Calls for Seen {
        fn ended(&self, result: CallResult, took: Duration) {
            assert!(took < Duration::from_secs(10));
            self.0.lock().unwrap().push(result);
        }
    }
    let mut peer = Peer::start(|n, _| {
        Reaction::Write(match n {
            0 => ok(ALICE),
            1 => answer("401 Unauthorized", "", ""),
            _ => answer("500 Internal Server Error", "", ""),
        })
    })
    .await;
    let seen = Arc::new(Seen::default());
    let users = AuthServiceAuthenticator::observed(AuthConfig::new(&peer.base), seen.clone()).unwrap();
    let trace = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", ["a=1"]);
    for token in ["one", "two", "three", "one"] {
        let credentials = Credentials {
            bearer: Some(Secret::new(token)),
            provenance: Provenance { peer: None, trace: trace.clone() },
        };
        let _ = users.authenticate(&credentials).await;
    }
    for head in peer.requests() {
        assert!(
            head.contains("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"),
            "{head}"
        );
        assert!(head.contains("tracestate: a=1\r\n"), "{head}");
    }
    // The fourth was answered from memory, which is no call.
    let wanted = [CallResult::Answered, CallResult::Refused, CallResult::Failed];
    assert_eq!(*seen.0.lock().unwrap(), wanted);
}
