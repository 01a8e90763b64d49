use portcullis_core::Secret;
use sha2::{Digest as _, Sha256};

/// The longest token that is looked at, in bytes. The Auth Service's are about 1 KiB.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// What tokens are remembered and compared by.
pub(crate) type Digest = [u8; 32];

pub(crate) fn digest(token: &Secret) -> Digest {
    Sha256::digest(token.reveal().as_bytes()).into()
}

/// Whether a text has the form of a bearer token, `b64token` of RFC 6750 §2.1. What has not is no token
/// of anybody, and reaches neither a peer nor a memory.
pub(crate) fn is_well_formed(token: &Secret) -> bool {
    let text = token.reveal();
    let body = text.trim_end_matches('=');
    !body.is_empty()
        && text.len() <= MAX_TOKEN_BYTES
        && body
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_the_form_of_rfc_6750() {
        for token in ["a", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "a-._~+/9==", &"x".repeat(8192)] {
            assert!(is_well_formed(&Secret::new(token)), "{token}");
        }
        for token in ["", "=", "a b", "a=b", "a\n", "a\r\nHost: x", "é", "a\0", "\"a\"", &"x".repeat(8193)] {
            assert!(!is_well_formed(&Secret::new(token)), "{token:?}");
        }
    }
}
