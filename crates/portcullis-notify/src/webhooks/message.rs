//! What a webhook says: Standard Webhooks 1.0, "Payload structure".

use bytes::Bytes;
use portcullis_core::{Execution, Reason, Status};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use time::{OffsetDateTime, UtcOffset};

use crate::shorten::shorten;

/// The longest sentence that is told, in bytes of JSON; a longer one is shortened in its middle.
const MESSAGE_BYTES: usize = 4_000;
/// Likewise the longest name of a user.
const USER_BYTES: usize = 1_000;
/// How many names of programs are told, and the longest of them.
const PROGRAMS: usize = 32;
const PROGRAM_BYTES: usize = 256;

/// A message, the same for each of its attempts and for each endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// `webhook-id`: `msg_` and 32 hexadecimal digits, one for each execution that there ever was.
    pub(crate) id: String,
    pub(crate) body: Bytes,
}

#[derive(Serialize)]
struct Envelope<'a> {
    r#type: String,
    timestamp: String,
    data: Data<'a>,
}

/// Named as in the record that the API shows.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    execution_id: &'a str,
    status: Status,
    reason: Reason,
    exit_code: Option<i32>,
    signal: Option<i32>,
    message: Option<String>,
    user: String,
    programs: Vec<String>,
    accepted_at: String,
    start_time: Option<String>,
    end_time: String,
    output_bytes: u64,
    truncated: bool,
    links: Links,
}

#[derive(Serialize)]
struct Links {
    #[serde(rename = "self")]
    record: String,
    output: String,
}

impl Message {
    /// Tells how an execution ended, in less than 20,000 bytes; `None` when it has not. Links begin with `base`, the
    /// service's URL, when that is known.
    pub(crate) fn of(execution: &Execution, base: &str) -> Option<Self> {
        let ending = execution.ending.as_ref()?;
        let record = format!("{}/api/commands/{}", base.trim_end_matches('/'), execution.id);
        let envelope = Envelope {
            r#type: format!("execution.{}", ending.status.as_str()),
            timestamp: written(ending.ended_at),
            data: Data {
                execution_id: execution.id.as_str(),
                status: ending.status,
                reason: ending.reason,
                exit_code: ending.exit_code,
                signal: ending.signal,
                message: ending.message.as_deref().map(|text| shorten(text, MESSAGE_BYTES).into_owned()),
                user: shorten(&execution.owner_name, USER_BYTES).into_owned(),
                programs: execution
                    .programs
                    .iter()
                    .take(PROGRAMS)
                    .map(|name| shorten(name, PROGRAM_BYTES).into_owned())
                    .collect(),
                accepted_at: written(execution.accepted_at),
                start_time: execution.began_at().map(written),
                end_time: written(ending.ended_at),
                output_bytes: execution.output_bytes,
                truncated: ending.truncated,
                links: Links { output: format!("{record}/output"), record },
            },
        };
        // Texts and numbers: there is nothing in it that could fail.
        let body = serde_json::to_vec(&envelope).unwrap_or_default().into();
        Some(Self { id: id(execution), body })
    }
}

/// Returns an id that no other execution has, also none that takes the same id after this one is forgotten, and that is
/// made anew from the record alone: after a restart it is the same.
fn id(execution: &Execution) -> String {
    let digest = Sha256::new()
        .chain_update("portcullis webhook 1\n")
        .chain_update(execution.accepted_at.unix_timestamp_nanos().to_be_bytes())
        .chain_update(execution.id.as_str())
        .finalize();
    let digits = digest.iter().take(16).map(|byte| format!("{byte:02x}"));
    format!("msg_{}", digits.collect::<String>())
}

/// Writes a time as the API does: RFC 3339 in UTC, to the millisecond.
fn written(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond()
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use portcullis_core::{Ending, ExecutionId, Fingerprint, Limits, Provenance};
    use serde_json::{Value, json};
    use time::macros::datetime;

    use super::*;

    /// An execution that ended.
    pub(crate) fn execution(id: &str, ended_at: OffsetDateTime) -> Execution {
        Execution {
            id: ExecutionId::parse(id).unwrap(),
            owner: "u-1".into(),
            owner_name: "ann".into(),
            command: "ls secrets".into(),
            fingerprint: Fingerprint([7; 32]),
            programs: vec!["ls".into()],
            rules: vec!["looking".into()],
            limits: Limits::default(),
            accepted_at: ended_at,
            started_at: None,
            confinement: None,
            status: Status::Failed,
            last_seq: 1,
            output_bytes: 7,
            provenance: Provenance::default(),
            ending: Some(Ending {
                status: Status::Failed,
                reason: Reason::Exit,
                exit_code: Some(2),
                signal: None,
                ended_at,
                usage: None,
                truncated: false,
                message: Some("it ended with exit code 2".into()),
            }),
        }
    }

    #[test]
    fn a_message_tells_how_it_ended_and_where_the_rest_is() {
        let at = datetime!(2026-12-01 01:02:03.004_9 UTC);
        let message = Message::of(&execution("e-1", at), "https://portcullis.example/").unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&message.body).unwrap(),
            json!({
                "type": "execution.failed",
                "timestamp": "2026-12-01T01:02:03.004Z",
                "data": {
                    "executionId": "e-1", "status": "failed", "reason": "exit", "exitCode": 2, "signal": null,
                    "message": "it ended with exit code 2", "user": "ann", "programs": ["ls"],
                    "acceptedAt": "2026-12-01T01:02:03.004Z", "startTime": null,
                    "endTime": "2026-12-01T01:02:03.004Z", "outputBytes": 7, "truncated": false,
                    "links": {
                        "self": "https://portcullis.example/api/commands/e-1",
                        "output": "https://portcullis.example/api/commands/e-1/output",
                    },
                },
            })
        );
        assert!(!String::from_utf8_lossy(&message.body).contains("secrets"));
        let again = Message::of(&execution("e-1", at), "").unwrap();
        assert_eq!(message.id, again.id);
        assert!(message.id.len() == 36 && message.id.starts_with("msg_"), "{}", message.id);
        let later = Message::of(&execution("e-1", at + time::Duration::NANOSECOND), "").unwrap();
        assert_ne!(message.id, later.id);
    }

    #[test]
    fn a_message_stays_below_20000_bytes_whatever_the_record_holds() {
        for text in ["a", "\u{1}", "😀", "\""] {
            let long = text.repeat(50_000);
            let id = "i".repeat(128);
            let mut execution = execution(&id, datetime!(2026-12-01 0:00 UTC));
            execution.programs = vec![long.clone(); 1_000];
            execution.owner_name = long.clone();
            execution.ending.as_mut().unwrap().message = Some(long);
            let body = Message::of(&execution, &"https://a.example".repeat(20)).unwrap().body;
            assert!(body.len() < 20_000, "{text:?}: {}", body.len());
        }
    }
}
