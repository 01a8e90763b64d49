use std::fmt;

use portcullis_core::OutputStream;
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// The kinds of events that `GET /api/commands/:id/events` sends, each named in the stream's `event:` field.
///
/// The `id:` of an event is the position to resume from: the sequence number of the last output sent so far,
/// and for `end` one more than that of the last output there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum EventKind {
    /// The record as it is, without output: [`crate::ExecutionView`]. Comes first, and when the execution starts.
    Status,
    /// A piece of output: [`OutputEvent`].
    Output,
    /// The final record, without output: [`crate::ExecutionView`]. Nothing follows.
    End,
}

impl EventKind {
    /// Returns the word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Output => "output",
            Self::End => "end",
        }
    }

    /// Reads a word on the wire.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Status, Self::Output, Self::End].into_iter().find(|kind| kind.as_str() == text)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A piece of output, as an event carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputEvent {
    /// Its number: 1, 2, 3, … without a gap.
    pub seq: u64,
    /// Which stream.
    pub stream: OutputStream,
    /// When it arrived.
    pub time: Timestamp,
    /// Text, or what `encoding` says.
    pub data: String,
    /// How `data` is to be read; left out when it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<OutputEncoding>,
}

/// How the bytes of a piece of output are written when it is not UTF-8 by itself, perhaps because a border cut
/// a character in two: join the bytes of neighbouring pieces of a stream before decoding them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OutputEncoding {
    /// RFC 4648 §4, with padding.
    Base64,
}
