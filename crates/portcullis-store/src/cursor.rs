//! The place between two records of a list.

use portcullis_core::{Execution, ExecutionId, StoreError};

use crate::rules;

/// The last record of a page: the next page holds what is older. Lists are ordered by the time of acceptance
/// and, where that is equal, by id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cursor {
    /// When the record was accepted, in nanoseconds since 1970.
    pub(crate) accepted_at: i64,
    /// Its id.
    pub(crate) id: String,
}

impl Cursor {
    /// Returns the place behind a record.
    pub(crate) fn behind(execution: &Execution) -> Self {
        Self {
            accepted_at: rules::bound_in_nanoseconds(execution.accepted_at),
            id: execution.id.as_str().to_owned(),
        }
    }

    /// Writes the cursor as text that needs no escaping in a URL's query.
    pub(crate) fn encode(&self) -> String {
        format!("{:016x}.{}", self.accepted_at.cast_unsigned(), self.id)
    }

    /// Reads a cursor that [`Cursor::encode`] wrote.
    ///
    /// # Errors
    /// When the text is none of ours.
    pub(crate) fn decode(text: &str) -> Result<Self, StoreError> {
        let read = || {
            let (time, id) = text.split_once('.')?;
            let plain = time.len() == 16 && time.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            let accepted_at = u64::from_str_radix(time, 16).ok().filter(|_| plain)?.cast_signed();
            let id = ExecutionId::parse(id).ok()?;
            Some(Self { accepted_at, id: id.into() })
        };
        read().ok_or_else(|| StoreError::Refused {
            operation: "the list",
            problem: "the cursor is not one that an earlier page gave".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was() {
        for accepted_at in [i64::MIN, -1, 0, 1_700_000_000_123_456_789, i64::MAX] {
            let cursor = Cursor { accepted_at, id: "run:1.2_3".into() };
            assert_eq!(Cursor::decode(&cursor.encode()).unwrap(), cursor);
        }
    }

    #[test]
    fn another_text_is_no_cursor() {
        for text in [
            "",
            ".",
            "x",
            "0.a",
            "0000000000000000.",
            "+000000000000000.a",
            "000000000000000A.a",
            "0000000000000000.../x",
            "0000000000000000.a b",
            "ééééé.a",
            "00000000000000000.a",
        ] {
            assert!(Cursor::decode(text).is_err(), "{text:?}");
        }
    }
}
