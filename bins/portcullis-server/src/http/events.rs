//! Executions as server-sent events (HTML Living Standard §9.2).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use portcullis_api::{EventKind, ExecutionView, InvalidMember, OutputEncoding, OutputEvent, Timestamp};
use portcullis_core::{Execution, OutputChunk};
use portcullis_engine::{Watch, WatchEvent};
use serde::Serialize;
use time::OffsetDateTime;

use super::body::{Body, BrokenOff, Pieces};
use super::failure::Failure;
use crate::report::chain;
use crate::telemetry::Meters;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Events that may wait for a watcher who reads slowly; further ones wait in the store.
const WAITING_EVENTS: usize = 4;
/// How long a browser waits before it connects again.
const RETRY: &str = "retry: 2000\n\n";
const HEARTBEAT: &str = ":\n\n";

/// Where a stream is to go on, and which part of the request said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) seq: u64,
    said_by: &'static str,
}

/// The parameter, as problems name it.
const PARAMETER: &str = "?lastEventId";
/// The header, as problems name it.
const HEADER: &str = "Last-Event-ID";

/// Reads the position to resume from; the header, which a browser sets by itself, goes before the parameter. Both must
/// be one.
pub(crate) fn position(headers: &HeaderMap, query: Option<&str>) -> Result<Position, Failure> {
    let header = headers.get(LAST_EVENT_ID).map(|value| value.to_str().unwrap_or("?"));
    let read = |said_by: &'static str, written: &str| {
        let digits = !written.is_empty() && written.bytes().all(|byte| byte.is_ascii_digit());
        let seq = written.parse().ok().filter(|_| digits);
        seq.map(|seq| Position { seq, said_by }).ok_or_else(|| {
            let detail = format!("is `{}`; the `id` of an event is accepted", written.escape_debug());
            Failure::Parameter(InvalidMember::new(said_by, detail))
        })
    };
    let parameter = query.map(|written| read(PARAMETER, written)).transpose()?;
    let header = header.map(|written| read(HEADER, written)).transpose()?;
    Ok(header.or(parameter).unwrap_or(Position { seq: 0, said_by: PARAMETER }))
}

/// Whether anything follows this position; an error when the execution has never sent it. (What a watcher has
/// seen is stored: an engine's invariant.)
pub(crate) fn may_resume(execution: &Execution, position: Position) -> Result<bool, Failure> {
    let Position { seq: position, said_by } = position;
    let ended = execution.status.is_terminal();
    if position <= execution.last_seq {
        Ok(true)
    } else if ended && position == end_of(execution) {
        Ok(false)
    } else {
        let last = if ended { end_of(execution) } else { execution.last_seq };
        let detail = format!("is {position}; the last event of this execution is {last}");
        Err(Failure::Parameter(InvalidMember::new(said_by, detail)))
    }
}

/// The id of the last event: there is no output behind it.
fn end_of(execution: &Execution) -> u64 {
    execution.last_seq + 1
}

/// Answers with the events of a watch that begins behind a position.
pub(crate) fn response(
    watch: Watch,
    position: u64,
    heartbeat: Duration,
    meters: &Arc<Meters>,
) -> Response<Body> {
    let (sender, body) = Body::in_pieces(WAITING_EVENTS);
    let counted = Meters::watching(meters);
    tokio::spawn(async move {
        send(watch, position, heartbeat, sender).await;
        drop(counted);
    });
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    // Proxies that gather responses would hold events back.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// Sends events until the last one, or until nobody listens. While the watcher does not read, nothing is taken
/// from the watch: what is in memory for it is bounded.
async fn send(mut watch: Watch, mut position: u64, heartbeat: Duration, sender: Pieces) {
    if sender.send(Ok(Bytes::from_static(RETRY.as_bytes()))).await.is_err() {
        return;
    }
    loop {
        let next = tokio::select! {
            next = watch.next() => next,
            () = tokio::time::sleep(heartbeat) => {
                if sender.send(Ok(Bytes::from_static(HEARTBEAT.as_bytes()))).await.is_err() {
                    return;
                }
                continue;
            }
            () = sender.closed() => return,
        };
        let written = match next {
            Ok(Some(event)) => write(event, &mut position),
            Ok(None) => return,
            Err(error) => {
                tracing::error!(error = chain(&error), "a watch broke off");
                let _ = sender.send(Err(BrokenOff)).await;
                return;
            }
        };
        if sender.send(Ok(written)).await.is_err() {
            return;
        }
    }
}

/// Writes one event and moves the position on.
fn write(event: WatchEvent, position: &mut u64) -> Bytes {
    let now = OffsetDateTime::now_utc();
    match event {
        WatchEvent::Status(execution) => {
            frame(EventKind::Status, *position, &ExecutionView::without_output(&execution, now))
        }
        WatchEvent::Output(chunk) => {
            *position = chunk.seq;
            frame(EventKind::Output, chunk.seq, &output(chunk))
        }
        WatchEvent::Ended(execution) => {
            *position = end_of(&execution);
            frame(EventKind::End, *position, &ExecutionView::without_output(&execution, now))
        }
    }
}

/// Writes an event. JSON escapes line ends, so that whatever the data holds, it is the data of this one event.
fn frame(kind: EventKind, id: u64, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("id: {id}\nevent: {kind}\ndata: {data}\n\n").into()
}

fn output(chunk: OutputChunk) -> OutputEvent {
    let (data, encoding) = match String::from_utf8(chunk.bytes) {
        Ok(text) => (text, None),
        Err(error) => (STANDARD.encode(error.as_bytes()), Some(OutputEncoding::Base64)),
    };
    OutputEvent { seq: chunk.seq, stream: chunk.stream, time: Timestamp(chunk.at), data, encoding }
}

#[cfg(test)]
mod tests {
    use portcullis_core::OutputStream;

    use super::*;

    fn chunk(bytes: &[u8]) -> WatchEvent {
        let (stream, at) = (OutputStream::Stdout, OffsetDateTime::UNIX_EPOCH);
        WatchEvent::Output(OutputChunk { seq: 7, stream, at, bytes: bytes.to_vec() })
    }

    #[track_caller]
    fn check(bytes: &[u8], wanted: &str) {
        let written = write(chunk(bytes), &mut 6);
        let head = "id: 7\nevent: output\ndata: {\"seq\":7,\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:00.000Z\",";
        assert_eq!(written, format!("{head}{wanted}}}\n\n"));
    }

    #[test]
    fn output_cannot_forge_an_event() {
        check(b"\n\nevent: end\rdata: {}\r\n\n", r#""data":"\n\nevent: end\rdata: {}\r\n\n""#);
    }

    #[test]
    fn output_that_is_not_text_by_itself_is_flagged_and_loses_no_byte() {
        check("ä".as_bytes(), r#""data":"ä""#);
        check(b"\xc3", r#""data":"ww==","encoding":"base64""#);
        check(b"a\xff\x00", r#""data":"Yf8A","encoding":"base64""#);
    }

    #[test]
    fn positions_are_plain_numbers() {
        for (written, wanted) in [
            ("0", Some(0)),
            ("17", Some(17)),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("1e3", None),
            ("99999999999999999999", None),
        ] {
            let read = position(&HeaderMap::new(), Some(written)).ok();
            assert_eq!(read.map(|position| position.seq), wanted, "{written}");
        }
        let headers = HeaderMap::from_iter([(LAST_EVENT_ID, HeaderValue::from_static("3"))]);
        assert_eq!(position(&headers, Some("5")).unwrap(), Position { seq: 3, said_by: HEADER });
        assert!(position(&headers, Some("x")).is_err());
    }
}
