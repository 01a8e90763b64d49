//! Keys of endpoints, and signatures made with them: Standard Webhooks 1.0, "Signature scheme".

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// What a secret begins with.
const PREFIX: &str = "whsec_";
/// How many bytes a key may have.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The key that an endpoint's receiver shares with the service. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(Vec<u8>);

impl SigningSecret {
    /// Reads `whsec_` and the base64 of 24 to 64 bytes.
    ///
    /// # Errors
    /// What is accepted instead; nothing of the secret is in it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let Some(encoded) = text.trim().strip_prefix(PREFIX) else {
            return Err("a secret begins with `whsec_`");
        };
        let Ok(key) = BASE64_STANDARD.decode(encoded) else {
            return Err("behind `whsec_` a secret is base64, with its padding");
        };
        if !KEY_BYTES.contains(&key.len()) {
            return Err("a secret has 24 to 64 bytes: `openssl rand -base64 32` makes a good one");
        }
        Ok(Self(key))
    }

    /// Returns `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.
    pub(crate) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        // HMAC takes keys of any length (RFC 2104), so there is no error to be had.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(…)")
    }
}

/// Signs with each secret, separated by spaces: a receiver takes a message when one of them is its own.
pub(crate) fn signatures(secrets: &[SigningSecret], id: &str, timestamp: i64, body: &[u8]) -> String {
    secrets.iter().map(|secret| secret.sign(id, timestamp, body)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries (standard-webhooks, `libraries/*/test`).
    #[test]
    fn a_signature_is_that_of_the_specifications_libraries() {
        let secret = SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn several_secrets_give_several_signatures() {
        let one = SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let other = SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx").unwrap();
        let both = signatures(&[one.clone(), other.clone()], "msg_1", 1, b"{}");
        let each = [one.sign("msg_1", 1, b"{}"), other.sign("msg_1", 1, b"{}")];
        assert_eq!(both, each.join(" "));
        assert_ne!(each[0], each[1]);
    }

    #[test]
    fn what_is_no_secret_is_refused_and_not_repeated() {
        for (text, reason) in [
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "begins with `whsec_`"),
            ("whsec_", "24 to 64 bytes"),
            ("whsec_c2hvcnQ=", "24 to 64 bytes"),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!", "is base64"),
            (&format!("whsec_{}", BASE64_STANDARD.encode([1; 65])), "24 to 64 bytes"),
        ] {
            let problem = SigningSecret::parse(text).unwrap_err();
            assert!(problem.contains(reason) && !problem.contains("MfKQ"), "{text}: {problem}");
        }
        let secret = SigningSecret::parse(" whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        assert_eq!(format!("{secret:?}"), "SigningSecret(…)");
    }
}
