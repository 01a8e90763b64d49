use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Who asks, as authenticated. Rules of the policy refer to its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// Identifies the principal for ever: the Auth Service's user id, or `local`.
    pub id: String,
    /// The name that rules and logs use; compared byte for byte.
    pub name: String,
    /// Names of its roles.
    pub roles: BTreeSet<String>,
    /// Names of its permissions, as the Auth Service gives them.
    pub permissions: BTreeSet<String>,
}

impl Principal {
    /// Returns the principal that holds the service's own token on this machine.
    #[must_use]
    pub fn local() -> Self {
        Self {
            id: "local".into(),
            name: "local".into(),
            roles: BTreeSet::new(),
            permissions: BTreeSet::new(),
        }
    }
}

/// A text that `Debug` hides: a token or a key.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the secret itself, for the one place that must send or compare it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
