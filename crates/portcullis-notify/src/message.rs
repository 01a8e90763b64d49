//! What the Socket Service is sent.

use bytes::Bytes;
use portcullis_core::{Status, Update};
use serde::Serialize;

use crate::shorten::{escaped_len, shorten};

/// The body of `POST {base}/api/execution-status`. The peer reads these five members and drops any other.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    execution_id: &'a str,
    status: &'static str,
    progress: u8,
    #[serde(skip_serializing_if = "str::is_empty")]
    output: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

/// Writes an update as the peer's consumers know it, in at most `max_bytes` of JSON.
///
/// Consumers know four words. So a status that has another word of ours goes out as the nearest of theirs,
/// and says the rest in its error, as the service before this one did:
///
/// | status | word | error | output |
/// | --- | --- | --- | --- |
/// | running, completed, failed | the same | as given | as given |
/// | cancelled | `cancelled` | as given | as given, or `Execution cancelled by user` |
/// | timeout | `failed` | `Execution timed out` | as given |
/// | lost | `failed` | as given, or that it is not known what the execution did | as given |
///
/// When it is too long, the error gives way first, down to a quarter of the room, then the output.
pub(crate) fn encode(update: &Update, max_bytes: usize) -> Bytes {
    let given = |text: &'_ Option<String>| text.clone().unwrap_or_default();
    let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
    let (output, error) = (given(&update.output), given(&update.error));
    let (status, output, error) = match update.status {
        Status::Scheduled | Status::Running => ("running", output, error),
        Status::Completed => ("completed", output, error),
        Status::Failed => ("failed", output, error),
        Status::Cancelled => ("cancelled", or(output, "Execution cancelled by user"), error),
        Status::Timeout => ("failed", output, "Execution timed out".to_owned()),
        Status::Lost => (
            "failed",
            output,
            or(error, "The service ended while the execution ran; what it did is not known"),
        ),
    };

    let mut message = Message {
        execution_id: update.id.as_str(),
        status,
        progress: update.progress.min(100),
        output: "x", // not empty, so that the member is written and counted
        error: "x",
    };
    let room = max_bytes.saturating_sub(write(&message).len());
    let error = shorten(&error, (room / 4).max(room.saturating_sub(escaped_len(&output))));
    let output = shorten(&output, room - escaped_len(&error));
    message.output = &output;
    message.error = &error;
    write(&message).into()
}

fn write(message: &Message<'_>) -> Vec<u8> {
    // Five members of plain types: there is nothing in it that could fail.
    serde_json::to_vec(message).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use portcullis_core::ExecutionId;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn update(status: Status, output: Option<&str>, error: Option<&str>) -> Update {
        Update {
            id: ExecutionId::parse("test-123").unwrap(),
            status,
            progress: if status.is_terminal() { 100 } else { 1 },
            output: output.map(str::to_owned),
            error: error.map(str::to_owned),
            trace: None,
        }
    }

    #[track_caller]
    fn check(update: &Update, expected: &Value) {
        let body = encode(update, 100_000);
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), *expected);
    }

    #[test]
    fn consumers_are_told_in_the_words_they_know() {
        check(
            &update(Status::Running, Some("Starting execution..."), None),
            &json!({"executionId": "test-123", "status": "running", "progress": 1, "output": "Starting execution..."}),
        );
        check(
            &update(Status::Completed, Some("Hello, World!"), None),
            &json!({"executionId": "test-123", "status": "completed", "progress": 100, "output": "Hello, World!"}),
        );
        check(
            &update(Status::Failed, Some(""), Some("exit code 2")),
            &json!({"executionId": "test-123", "status": "failed", "progress": 100, "error": "exit code 2"}),
        );
        check(
            &update(Status::Cancelled, None, None),
            &json!({"executionId": "test-123", "status": "cancelled", "progress": 100, "output": "Execution cancelled by user"}),
        );
        check(
            &update(Status::Timeout, Some("so far"), Some("time limit of 60 s")),
            &json!({"executionId": "test-123", "status": "failed", "progress": 100, "output": "so far", "error": "Execution timed out"}),
        );
        check(
            &update(Status::Lost, None, Some("the service died")),
            &json!({"executionId": "test-123", "status": "failed", "progress": 100, "error": "the service died"}),
        );
    }

    #[test]
    fn a_body_grows_up_to_its_limit_and_no_further() {
        for output in ["a".repeat(1_000_000), "\u{1b}".repeat(1_000_000), "😀".repeat(300_000)] {
            let body = encode(&update(Status::Completed, Some(&output), None), 100_000);
            assert!(body.len() <= 100_000 && body.len() > 99_900, "{}", body.len());
        }
    }

    #[test]
    fn a_long_error_leaves_three_quarters_to_a_long_output() {
        let long = "x".repeat(200_000);
        let body = encode(&update(Status::Failed, Some(&long), Some(&long)), 100_000);
        let message: Value = serde_json::from_slice(&body).unwrap();
        assert!(message["error"].as_str().unwrap().len() > 24_000);
        assert!(message["output"].as_str().unwrap().len() > 74_000);
        let body = encode(&update(Status::Failed, Some("short"), Some(&long)), 100_000);
        let message: Value = serde_json::from_slice(&body).unwrap();
        assert!(message["error"].as_str().unwrap().len() > 99_000);
        assert_eq!(message["output"], "short");
    }

    fn any_text() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            (any::<char>(), 0usize..120_000).prop_map(|(c, n)| c.to_string().repeat(n)),
            (prop::collection::vec(any::<u8>(), 0..2_000), 1usize..60)
                .prop_map(|(bytes, n)| String::from_utf8_lossy(&bytes).repeat(n)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn any_output_gives_a_valid_body_within_the_limit(
            output in prop::option::of(any_text()),
            error in prop::option::of(any_text()),
            status in prop::sample::select(vec![Status::Running, Status::Completed, Status::Failed, Status::Cancelled, Status::Timeout, Status::Lost]),
            max_bytes in prop_oneof![Just(100_000usize), 1_024usize..100_000],
        ) {
            let update = update(status, output.as_deref(), error.as_deref());
            let body = encode(&update, max_bytes);
            prop_assert!(body.len() <= max_bytes);
            let message: Value = serde_json::from_slice(&body).unwrap();
            prop_assert_eq!(&message["executionId"], "test-123");
        }
    }
}
