use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Names one execution in the whole service.
///
/// 1 to 128 bytes of `A-Z a-z 0-9 . _ : -`, the first a letter or digit, and none of the words that the
/// API uses at the same place of a path (`allowed`, `execute`, `validate`). Chosen by the caller, or made
/// by the service as a UUIDv7 (RFC 9562).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExecutionId(String);

/// Why a text is not an [`ExecutionId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid execution id: {reason}; accepted are 1 to 128 characters of A-Z a-z 0-9 . _ : - that begin with a letter or digit"
)]
pub struct InvalidExecutionId {
    reason: String,
}

impl ExecutionId {
    /// The longest id, in bytes.
    pub const MAX_BYTES: usize = 128;
    /// Words that stand at an id's place in a path and are therefore no ids.
    pub const RESERVED: [&'static str; 3] = ["allowed", "execute", "validate"];

    /// Reads an id from a caller's text.
    ///
    /// # Errors
    /// When the text is empty, too long, reserved, or holds another character than those accepted.
    pub fn parse(text: &str) -> Result<Self, InvalidExecutionId> {
        let refuse = |reason: String| Err(InvalidExecutionId { reason });
        if text.is_empty() {
            return refuse("it is empty".into());
        }
        if text.len() > Self::MAX_BYTES {
            return refuse(format!("it has {} bytes", text.len()));
        }
        if Self::RESERVED.contains(&text) {
            return refuse(format!("`{text}` is a reserved word"));
        }
        let accepted = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
        if let Some((at, c)) = text.char_indices().find(|&(_, c)| !accepted(c)) {
            return refuse(format!("{c:?} at byte {at} is not accepted"));
        }
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return refuse("it does not begin with a letter or digit".into());
        }
        Ok(Self(text.to_owned()))
    }

    /// Makes a new id: a UUIDv7, which sorts by time.
    #[must_use]
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ExecutionId {
    type Err = InvalidExecutionId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for ExecutionId {
    type Error = InvalidExecutionId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<ExecutionId> for String {
    fn from(id: ExecutionId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caller_chosen_ids_are_accepted_when_they_are_plain() {
        for text in ["test-123", "a", "0198f0c4-1111-7000-8000-000000000000", "run:1.2_3", &"x".repeat(128)] {
            assert_eq!(ExecutionId::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn ids_that_traverse_inject_or_collide_with_a_route_are_refused() {
        for text in [
            "", " ", "../x", "%2e%2e", "a/b", "a\0b", "a\nb", "-x", ".x", "é", "execute", "validate",
            "allowed", "a b",
        ] {
            assert!(ExecutionId::parse(text).is_err(), "{text:?}");
        }
        assert!(ExecutionId::parse(&"x".repeat(129)).is_err());
    }

    #[test]
    fn made_ids_are_accepted_ids() {
        let id = ExecutionId::generate();
        assert_eq!(ExecutionId::parse(id.as_str()), Ok(id));
    }
}
