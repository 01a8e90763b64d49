//! Output as it was written, and how much of it a record shows.

use std::sync::atomic::Ordering;

use portcullis_api::ProblemCode as Code;
use serde_json::json;

use crate::served::Served;

#[tokio::test]
async fn raw_output_is_byte_for_byte_what_was_written() {
    let served = Served::start().await;
    served.run("x", "bytes").await;
    let answer = served.get("/api/commands/x/output").await.expect_status(200);
    assert_eq!(answer.body.as_ref(), b"a\xff\0\r\ndata: x\n\nevent: end\n");
    assert_eq!(answer.header("content-type"), "application/octet-stream");
}

#[tokio::test]
async fn the_streams_are_told_apart_and_together_in_order_of_arrival() {
    let served = Served::start().await;
    let record = served.run("x", "complain oh").await;
    assert_eq!(record.output.as_deref(), Some("before\noh"));
    assert_eq!((record.stdout.as_deref(), record.stderr.as_deref()), (Some("before\n"), Some("oh\n")));
    for (query, wanted) in [("", "before\noh\n"), ("?stream=stdout", "before\n"), ("?stream=stderr", "oh\n")]
    {
        let answer = served.get(&format!("/api/commands/x/output{query}")).await.expect_status(200);
        assert_eq!(answer.body, wanted, "{query}");
    }
}

#[tokio::test]
async fn a_record_shows_a_bounded_part_of_a_flood_and_says_how_much_it_leaves_out() {
    let served = Served::start().await;
    let record = served.run("x", "flood 3000000").await;
    assert!(record.truncated);
    assert_eq!(record.output.unwrap().len(), 1 << 20);
    assert_eq!((record.output_bytes, record.output_omitted_bytes), (3_000_000, 3_000_000 - (1 << 20)));
    let answer = served.get("/api/commands/x/output").await.expect_status(200);
    assert_eq!(answer.body.len(), 3_000_000);
}

#[tokio::test]
async fn a_range_of_the_output_is_those_bytes_and_says_of_how_many() {
    let served = Served::start().await;
    served.run("x", "complain 0123456789").await;
    let asked = async |query: &str, range: &str| {
        let path = format!("/api/commands/x/output{query}");
        served.request("GET", &path).header("range", range).send().await
    };
    // `before` and a newline on one stream, ten digits and a newline on the other.
    for (query, range, content_range, wanted) in [
        ("", "bytes=0-3", "bytes 0-3/18", "befo"),
        ("", "bytes=5-8", "bytes 5-8/18", "e\n01"),
        ("", "bytes=-4", "bytes 14-17/18", "789\n"),
        ("", "bytes=17-", "bytes 17-17/18", "\n"),
        ("?stream=stdout", "bytes=2-99", "bytes 2-6/7", "fore\n"),
        ("?stream=stderr", "bytes=3-4", "bytes 3-4/11", "34"),
    ] {
        let answer = asked(query, range).await.expect_status(206);
        assert_eq!(answer.header("content-range"), content_range);
        assert_eq!(answer.header("content-length"), wanted.len().to_string());
        assert_eq!((answer.body.as_ref(), answer.header("accept-ranges")), (wanted.as_bytes(), "bytes"));
    }
    for (query, range, total) in
        [("", "bytes=18-", 18), ("?stream=stdout", "bytes=7-", 7), ("", "bytes=-0", 18)]
    {
        let answer = asked(query, range).await.expect_status(416);
        let problem = answer.expect_problem(Code::RangeNotSatisfiable);
        assert_eq!(answer.header("content-range"), format!("bytes */{total}"));
        assert_eq!(problem.errors[0].pointer, "Range");
    }
    for ignored in ["bytes=1-0", "bytes=0-1,4-5", "lines=1-2", "bytes"] {
        let answer = asked("", ignored).await.expect_status(200);
        assert_eq!((answer.body.len(), answer.header("content-length")), (18, "18"), "{ignored}");
    }
    let head = served.request("HEAD", "/api/commands/x/output").send().await.expect_status(200);
    assert_eq!((head.header("content-length"), head.header("accept-ranges")), ("18", "bytes"));
}

#[tokio::test]
async fn a_download_that_broke_off_goes_on_when_the_output_is_still_the_same() {
    let served = Served::start().await;
    served.submit(json!({"executionId": "x", "command": "gated"})).await.expect_status(201);
    let mut events = served.events("x", None).await;
    while events.next().await.unwrap().kind != "output" {}
    let first = served.get("/api/commands/x/output").await.expect_status(200);
    assert_eq!(first.body, "1\n");
    let tag = first.header("etag").to_owned();
    let again = |name: &'static str, tag: &str, range: Option<&'static str>| {
        let asked = served.request("GET", "/api/commands/x/output").header(name, tag);
        let asked = match range {
            Some(range) => asked.header("range", range),
            None => asked,
        };
        asked.send()
    };
    let known = again("if-none-match", &tag, None).await.expect_status(304);
    assert_eq!((known.body.len(), known.header("etag")), (0, tag.as_str()));
    assert_eq!(again("if-range", &tag, Some("bytes=1-")).await.expect_status(206).body, "\n");
    served.actor.gate.add_permits(2);
    served.ended("x").await;
    // There is more by now, so that the tag is another; what was there has not changed.
    assert_eq!(again("if-range", &tag, Some("bytes=1-")).await.expect_status(200).body, "1\n2\n3\n");
    let whole = again("if-none-match", &tag, None).await.expect_status(200);
    assert_ne!(whole.header("etag"), tag);
    let range = served.request("GET", "/api/commands/x/output").header("range", "bytes=2-").send().await;
    assert_eq!(range.expect_status(206).body, "2\n3\n");
}

#[tokio::test]
async fn a_range_far_into_a_flood_reads_nothing_before_it() {
    let served = Served::start().await;
    served.run("x", "flood 8000000").await;
    let before = served.store.output_bytes_read.load(Ordering::SeqCst);
    let asked = served.request("GET", "/api/commands/x/output").header("range", "bytes=7999990-");
    let answer = asked.send().await.expect_status(206);
    assert_eq!((answer.body.len(), answer.header("content-range")), (10, "bytes 7999990-7999999/8000000"));
    let read = served.store.output_bytes_read.load(Ordering::SeqCst) - before;
    assert!(read <= 2 * 65_536, "{read} bytes were read");
}

#[tokio::test]
async fn what_a_client_has_already_is_not_sent_again() {
    let served = Served::start().await;
    served.run("x", "echo x").await;
    for path in ["/api/commands/x", "/api/commands", "/api/commands/allowed", "/api/commands/x/output"] {
        let answer = served.get(path).await.expect_status(200);
        let tag = answer.header("etag").to_owned();
        let asked = served.request("GET", path).header("if-none-match", &format!("\"other\", {tag}"));
        let known = asked.send().await.expect_status(304);
        assert_eq!((known.body.len(), known.header("etag")), (0, tag.as_str()), "{path}");
        let asked = served.request("GET", path).header("if-none-match", "\"other\"");
        assert_eq!(asked.send().await.expect_status(200).body, answer.body, "{path}");
    }
    served.submit(json!({"executionId": "y", "command": "sleep"})).await.expect_status(201);
    let running = served.get("/api/commands/y").await.expect_status(200);
    assert_eq!(running.header("retry-after"), "1");
    let waiting = served.request("GET", "/api/commands/y").header("prefer", "wait=20");
    let waiting = waiting.header("if-none-match", running.header("etag")).send();
    let cancelling = served.request("POST", "/api/commands/y/cancel").send();
    let (ended, _) = tokio::join!(waiting, cancelling);
    assert_eq!(ended.expect_status(200).json()["status"], "cancelled");
}
