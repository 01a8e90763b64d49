//! Output as it was written, and how much of it a record shows.

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
