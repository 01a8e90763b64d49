//! Output as it was written, whole or in part.

use http::header::{ACCEPT_RANGES, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use portcullis_core::{Execution, Located, OutputStream, Place, Principal};
use portcullis_engine::{AccessError, Engine};
use std::sync::Arc;

use super::body::{Body, BrokenOff, Pieces};
use super::conditions::{Part, Tag, Wanted};
use super::endpoints::parameter;
use super::failure::Failure;
use crate::report::chain;

/// How much output is read from the store at once.
pub(super) const PIECE_BYTES: usize = 64 * 1024;

/// Reads which stream is wanted; `None` stands for both.
pub(super) fn stream(written: Option<&str>) -> Result<Option<OutputStream>, Failure> {
    match written {
        None => Ok(None),
        Some("stdout") => Ok(Some(OutputStream::Stdout)),
        Some("stderr") => Ok(Some(OutputStream::Stderr)),
        Some(other) => Err(parameter(
            "stream",
            format!("is `{}`; `stdout` or `stderr` is accepted", other.escape_debug()),
        )),
    }
}

/// Answers with what of the output is stored by now, or with the part of it that is asked for. What lies in front of
/// the part is neither read nor kept.
pub(super) async fn response(
    engine: &Arc<Engine>,
    principal: Principal,
    execution: Execution,
    stream: Option<OutputStream>,
    headers: &HeaderMap,
) -> Result<Response<Body>, Failure> {
    let tag = tag(&execution, stream);
    if tag.is_known_to(headers) {
        return Ok(tag.not_modified());
    }
    let wanted = Wanted::read(headers, &tag);
    let last_seq = execution.last_seq;
    let locate =
        async |offset| engine.locate(&principal, &execution.id, Place { stream, last_seq, offset }).await;
    let (part, begin, total_bytes) = match (wanted, stream) {
        // Nothing has to be looked for.
        (None, None) => (None, Located::default(), execution.output_bytes),
        (None, Some(_)) => {
            let begin = locate(0).await?;
            (None, begin, begin.total_bytes)
        }
        (Some(wanted), _) => {
            let total_bytes = match stream {
                None => execution.output_bytes,
                Some(_) => locate(0).await?.total_bytes,
            };
            let part = wanted.within(total_bytes)?;
            (Some(part), locate(part.first).await?, total_bytes)
        }
    };
    let bytes = part.map_or(total_bytes, |part| part.last - part.first + 1);
    let (sender, body) = Body::in_pieces_of(1, bytes);
    let reading = Reading { engine: engine.clone(), principal, execution, stream, begin, bytes };
    tokio::spawn(reading.send(sender));
    let mut response = Response::new(body);
    tag.put_on(&mut response);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(Part { first, last }) = part {
        let range = format!("bytes {first}-{last}/{total_bytes}");
        headers.extend(HeaderValue::from_str(&range).ok().map(|range| (CONTENT_RANGE, range)));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// Tags the output up to a chunk. A stored chunk never changes, so the tag is strong; the time of acceptance is part of
/// it, since another execution may have the id when this one has expired.
fn tag(execution: &Execution, stream: Option<OutputStream>) -> Tag {
    let accepted = execution.accepted_at.unix_timestamp_nanos();
    let stream = stream.map_or("both", OutputStream::as_str);
    Tag::strong(&format!("{accepted:x}-{}-{stream}", execution.last_seq))
}

/// Output on its way from the store to a client.
struct Reading {
    engine: Arc<Engine>,
    principal: Principal,
    execution: Execution,
    stream: Option<OutputStream>,
    begin: Located,
    /// How many are still to be sent.
    bytes: u64,
}

impl Reading {
    /// Sends piece by piece, no faster than they are taken.
    async fn send(mut self, sender: Pieces) {
        let (mut seq, mut skip) = (self.begin.after_seq, self.begin.skip_bytes);
        while self.bytes > 0 {
            let piece = match self.piece(&mut seq, &mut skip).await {
                Ok(Some(piece)) => Ok(piece.into()),
                // Retention has removed the rest, or it cannot be read: the answer ends early, and the client sees that.
                Ok(None) => Err(BrokenOff),
                Err(error) => {
                    let (id, error) = (&self.execution.id, chain(&error));
                    tracing::error!(execution_id = %id, error, "output could not be read");
                    Err(BrokenOff)
                }
            };
            let over = piece.is_err();
            if sender.send(piece).await.is_err() || over {
                return;
            }
        }
    }

    /// Reads the next piece; `None` when there is nothing where something should be.
    async fn piece(&mut self, seq: &mut u64, skip: &mut u64) -> Result<Option<Vec<u8>>, AccessError> {
        loop {
            let chunks = self.engine.output(&self.principal, &self.execution.id, *seq, PIECE_BYTES).await?;
            let Some(last) = chunks.last().filter(|_| *seq < self.execution.last_seq) else {
                return Ok(None);
            };
            *seq = last.seq;
            let mut piece = Vec::new();
            for chunk in chunks.iter().filter(|chunk| self.stream.is_none_or(|stream| stream == chunk.stream))
            {
                let passed = usize::try_from(*skip).unwrap_or(usize::MAX).min(chunk.bytes.len());
                *skip -= passed as u64;
                let rest = chunk.bytes.get(passed..).unwrap_or_default();
                let room = usize::try_from(self.bytes).unwrap_or(usize::MAX);
                let taken = rest.get(..room).unwrap_or(rest);
                piece.extend_from_slice(taken);
                self.bytes -= taken.len() as u64;
            }
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }
}
