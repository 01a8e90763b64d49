//! Bodies: what is read from a request, and what is sent in a response.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::connections::Busy;
use super::failure::Failure;

/// A request's body, not read yet. What is left of it when this is dropped is read and thrown away, within
/// bounds: a client that is still sending would otherwise lose the answer to a reset connection.
pub(crate) struct RequestBody {
    incoming: Option<Incoming>,
    /// RFC 9110 §10.1.1: who expects `100 Continue` sends nothing before it is asked to.
    waits_to_be_asked: bool,
}

/// How much is thrown away for a client's sake, and for how long.
const DISCARD_LIMIT_BYTES: usize = 1 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(2);

impl RequestBody {
    pub(crate) fn new(incoming: Incoming, headers: &HeaderMap) -> Self {
        Self { incoming: Some(incoming), waits_to_be_asked: headers.contains_key(EXPECT) }
    }

    /// Reads a body of JSON.
    pub(crate) async fn read_json(
        mut self,
        headers: &HeaderMap,
        limit_bytes: usize,
        time: Duration,
    ) -> Result<Bytes, Failure> {
        check_media_type(headers)?;
        let declared =
            headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if declared.is_some_and(|bytes| bytes > limit_bytes) {
            return Err(Failure::TooLarge { limit_bytes });
        }
        match tokio::time::timeout(time, self.read(limit_bytes)).await {
            Ok(read) => read,
            Err(_elapsed) => Err(Failure::Slow { time }),
        }
    }

    async fn read(&mut self, limit_bytes: usize) -> Result<Bytes, Failure> {
        let mut body = BytesMut::new();
        self.waits_to_be_asked = false;
        while let Some(incoming) = &mut self.incoming {
            match incoming.frame().await {
                None => self.incoming = None,
                Some(Err(error)) => {
                    self.incoming = None;
                    return Err(Failure::BrokenBody(error));
                }
                Some(Ok(frame)) => {
                    let data = frame.into_data().unwrap_or_default();
                    if body.len() + data.len() > limit_bytes {
                        return Err(Failure::TooLarge { limit_bytes });
                    }
                    body.extend_from_slice(&data);
                }
            }
        }
        Ok(body.freeze())
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(mut incoming) = self.incoming.take().filter(|incoming| !incoming.is_end_stream()) else {
            return;
        };
        let (false, Ok(runtime)) = (self.waits_to_be_asked, tokio::runtime::Handle::try_current()) else {
            return;
        };
        runtime.spawn(tokio::time::timeout(DISCARD_TIME, async move {
            let mut discarded = 0;
            while let Some(Ok(frame)) = incoming.frame().await {
                discarded += frame.data_ref().map_or(0, Bytes::len);
                if discarded > DISCARD_LIMIT_BYTES {
                    return;
                }
            }
        }));
    }
}

/// Accepts `application/json`, in UTF-8 and not compressed, and nothing else: a page can send `text/plain`
/// anywhere without asking.
fn check_media_type(headers: &HeaderMap) -> Result<(), Failure> {
    let refuse = |found: &str| Err(Failure::MediaType(found.to_owned()));
    if let Some(encoding) = headers.get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        return refuse(encoding.to_str().unwrap_or_default());
    }
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let Some(value) = values.next() else { return refuse("") };
    let text = value.to_str().unwrap_or_default();
    let mut parts = text.split(';').map(str::trim);
    let json = parts.next().is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json"));
    let plain = parts.all(|parameter| {
        parameter.is_empty()
            || parameter.split_once('=').is_some_and(|(name, value)| {
                name.eq_ignore_ascii_case("charset") && value.trim_matches('"').eq_ignore_ascii_case("utf-8")
            })
    });
    if json && plain && values.next().is_none() { Ok(()) } else { refuse(text) }
}

/// A response's body.
#[derive(Debug)]
pub struct Body {
    content: Content,
    /// Held until the body is sent.
    busy: Option<Busy>,
}

#[derive(Debug)]
enum Content {
    Whole(Bytes),
    Pieces {
        receiver: mpsc::Receiver<Result<Bytes, BrokenOff>>,
        /// How many bytes are still to come, where that is known beforehand.
        left: Option<u64>,
    },
}

/// The rest of a body could not be had: the response ends without its proper end, so that nobody takes it for whole.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the rest of the response could not be read")]
pub struct BrokenOff;

/// The other end of a body that is sent piece by piece.
pub(crate) type Pieces = mpsc::Sender<Result<Bytes, BrokenOff>>;

impl Body {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self { content: Content::Whole(bytes.into()), busy: None }
    }

    /// Writes JSON, and a newline behind it: on a terminal answers do not run together.
    pub(crate) fn json(value: &impl Serialize) -> Self {
        // None of our types has a key that is not a string, nor a `Serialize` of its own that fails.
        let mut text = serde_json::to_vec(value).unwrap_or_default();
        text.push(b'\n');
        Self::whole(text)
    }

    /// Returns the bytes, when they are there as a whole.
    pub(crate) fn bytes(&self) -> Option<&Bytes> {
        match &self.content {
            Content::Whole(bytes) => Some(bytes),
            Content::Pieces { .. } => None,
        }
    }

    /// Keeps a permit until nobody holds the bytes any more, the buffers of the connection included.
    pub(crate) fn holding(mut self, permit: OwnedSemaphorePermit) -> Self {
        if let Content::Whole(bytes) = &mut self.content {
            let held = Held { bytes: std::mem::take(bytes), _permit: permit };
            *bytes = Bytes::from_owner(held);
        }
        self
    }

    /// Returns a body whose pieces come from elsewhere. A slow reader makes the sender wait: at most
    /// `waiting` pieces are in memory.
    pub(crate) fn in_pieces(waiting: usize) -> (Pieces, Self) {
        let (sender, receiver) = mpsc::channel(waiting);
        (sender, Self { content: Content::Pieces { receiver, left: None }, busy: None })
    }

    /// The same for pieces that are known to have so many bytes together.
    pub(crate) fn in_pieces_of(waiting: usize, bytes: u64) -> (Pieces, Self) {
        let (sender, receiver) = mpsc::channel(waiting);
        (sender, Self { content: Content::Pieces { receiver, left: Some(bytes) }, busy: None })
    }

    /// Keeps a connection marked as answering until the body is sent.
    pub(crate) fn keeping(mut self, busy: Busy) -> Self {
        self.busy = Some(match &self.content {
            Content::Whole(_) => busy,
            Content::Pieces { .. } => busy.streaming(),
        });
        self
    }
}

/// Bytes that count against something.
struct Held {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut self.content {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Pieces { receiver, left } => receiver.poll_recv(cx).map(|piece| {
                let piece = piece?;
                if let (Ok(bytes), Some(left)) = (&piece, left) {
                    *left = left.saturating_sub(bytes.len() as u64);
                }
                Some(piece.map(Frame::data))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Pieces { left, .. } => *left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Pieces { left, .. } => left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_plain_json_and_nothing_else() {
        for (name, value, wanted) in [
            ("content-type", "application/json", true),
            ("content-type", "Application/JSON; charset=UTF-8", true),
            ("content-type", "application/json;charset=\"utf-8\"", true),
            ("content-type", "application/json; charset=latin1", false),
            ("content-type", "application/json; x=y", false),
            ("content-type", "application/problem+json", false),
            ("content-type", "text/plain", false),
            ("content-type", "", false),
            ("x-nothing", "", false),
        ] {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            assert_eq!(check_media_type(&headers).is_ok(), wanted, "{name}: {value}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "application/json".parse().unwrap());
        headers.insert(CONTENT_ENCODING, "gzip".parse().unwrap());
        assert!(check_media_type(&headers).is_err());
    }
}
