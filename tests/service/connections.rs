//! Framing, slowness and numbers of connections.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::served::{PATIENCE, Served};

/// Heads that two readers could understand differently; each is followed by a request that must not be answered.
const AMBIGUOUS: [&str; 21] = [
    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "Content-Length: 5, 6\r\n\r\nhello!",
    "Content-Length: +5\r\n\r\nhello",
    "Content-Length: 0x5\r\n\r\nhello",
    "Content-Length: -1\r\n\r\n",
    "Content-Length : 5\r\n\r\nhello",
    "Transfer-Encoding: identity\r\n\r\n",
    "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
    "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\nContent-Length: 5\n\n0\r\n\r\n",
    "Transfer-Encoding\0: chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff1\r\nhello\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
    "X: a\r\n b: c\r\nContent-Length: 0\r\n\r\n",
    "X: a\rY: b\r\nContent-Length: 0\r\n\r\n",
];

#[tokio::test]
async fn ambiguous_framing_is_refused_and_what_follows_is_not_a_request() {
    let served = Served::start().await;
    for head in AMBIGUOUS {
        let request = format!(
            "POST /api/commands HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer alice\r\n\
             Content-Type: application/json\r\n{head}GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        );
        let answer = served.raw(request.as_bytes()).await;
        assert!(!answer.contains("200 OK"), "{head:?}: {answer}");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{head:?}: {answer}");
    }
}

#[tokio::test]
async fn a_request_has_a_host_and_a_head_of_bounded_size() {
    let served = Served::start().await;
    let close = "Connection: close\r\n\r\n";
    for (head, wanted) in [
        (format!("GET /health HTTP/1.1\r\n{close}"), "HTTP/1.1 400 "),
        (format!("GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n{close}"), "HTTP/1.1 400 "),
        ("GET /health HTTP/1.0\r\n\r\n".to_owned(), "HTTP/1.0 200 "),
        (
            format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n{close}", "x".repeat(40_000)),
            "HTTP/1.1 431 ",
        ),
        (
            format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{}{close}", "X: y\r\n".repeat(200)),
            "HTTP/1.1 431 ",
        ),
        (
            format!(
                "GET /health HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n{close}",
                "x".repeat(40_000)
            ),
            "HTTP/1.1 431 ",
        ),
    ] {
        let answer = served.raw(head.as_bytes()).await;
        assert!(answer.starts_with(wanted), "{}…: {answer}", &head[..60.min(head.len())]);
    }
}

#[tokio::test]
async fn a_head_that_comes_in_drips_ends_its_connection() {
    let served = Served::start_with(|wanted| wanted.http.head_time = Duration::from_millis(100)).await;
    let begun = Instant::now();
    let answer = served.raw(b"GET /health HTTP/1.1\r\nHost: local").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(begun.elapsed() >= Duration::from_millis(100));
    // So does one that never begins.
    assert_eq!(served.raw(b"").await, "");
}

#[tokio::test]
async fn a_body_that_comes_in_drips_is_a_timeout() {
    let served = Served::start_with(|wanted| wanted.http.body_time = Duration::from_millis(100)).await;
    let answer = served
        .raw(
            b"POST /api/commands HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer alice\r\n\
              Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"comm",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("request/timeout"), "{answer}");
}

#[tokio::test]
async fn a_connection_serves_requests_one_after_another_also_refused_ones() {
    let served = Served::start().await;
    let head = "Host: localhost\r\nAuthorization: Bearer alice\r\nContent-Type: application/json\r\n";
    let refused = format!("POST /api/commands HTTP/1.1\r\n{head}Content-Length: 2\r\n\r\n{{}}");
    let unread = format!("POST /nowhere HTTP/1.1\r\n{head}Content-Length: 5000\r\n\r\n{}", "x".repeat(5000));
    let last = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = served.raw([&refused, &unread, last].map(String::from).concat().as_bytes()).await;
    let statuses: Vec<_> =
        answer.match_indices("HTTP/1.1 ").map(|(at, _)| &answer[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["400", "404", "200"], "{answer}");
}

#[tokio::test]
async fn connections_that_ask_nothing_keep_nobody_out() {
    let served = Served::start_with(|wanted| wanted.http.connection_limit = 8).await;
    let mut idle = Vec::new();
    for drip in 0..100 {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        if drip % 2 == 0 {
            stream.write_all(b"GET /health HT").await.unwrap();
        }
        idle.push(stream);
    }
    served.get("/health").await.expect_status(200);
    // The first have been let go.
    let mut first = idle.remove(0);
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, first.read_to_end(&mut rest)).await;
    let _ = ended.expect("an end");
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn closing_finishes_the_answers_that_are_under_way() {
    let served = Served::start().await;
    served.submit(serde_json::json!({"executionId": "x", "command": "gated"})).await.expect_status(201);
    let mut events = served.events("x", None).await;
    while events.next().await.unwrap().kind != "output" {}
    let _idle = TcpStream::connect(served.address).await.unwrap();
    served.close.send(true).unwrap();
    served.actor.gate.add_permits(2);
    let mut last = None;
    while let Some(event) = events.next().await {
        last = Some(event.kind);
    }
    assert_eq!(last.as_deref(), Some("end"));
}
