//! Finds out who asks.
//!
//! Two [`Authenticator`]s turn the token of a request into a [`Principal`]: [`AuthServiceAuthenticator`]
//! asks an Auth Service, [`LocalTokenAuthenticator`] knows one token of its own, made at the first start
//! and readable by its owner alone. The server composes the one that its configuration asks for.
//!
//! # Terms
//! A *question* is one `GET {base}/user` to the Auth Service; an *answer* is what became of it. Answers are
//! remembered for a short time by the token's SHA-256, never by the token.
//!
//! # Invariants
//! - *Fail closed*: whatever the peer does, the only way to a principal is a complete, well-formed answer
//!   that names one. Everything else is [`AuthenticateError::Unavailable`], and nobody is let in.
//! - *Bounded*: an answer costs at most its deadline and 1 MiB, memory at most the configured entries.
//! - *The token goes to the configured address alone*: redirects are not followed.
//!
//! # What this crate leaves to others
//! It knows no HTTP of ours: which status and body an error becomes is the server's to say. What a
//! principal may run is the policy's.
//!
//! ```
//! use portcullis_core::{AuthenticateError, Authenticator, Credentials};
//! use portcullis_identity::{AuthConfig, AuthServiceAuthenticator};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let users = AuthServiceAuthenticator::new(AuthConfig::new("http://auth-service:8000/api"))?;
//! let nobody = users.authenticate(&Credentials::default()).await;
//! assert!(matches!(nobody, Err(AuthenticateError::Missing)));
//! # Ok(())
//! # }
//! ```
//!
//! [`Principal`]: portcullis_core::Principal
//! [`Authenticator`]: portcullis_core::Authenticator
//! [`AuthenticateError::Unavailable`]: portcullis_core::AuthenticateError::Unavailable
#![forbid(unsafe_code)]

mod answer;
mod auth_service;
mod config;
mod local;
mod memory;
mod peer;
mod token;

pub use auth_service::{AuthServiceAuthenticator, AuthStats};
pub use config::{AuthConfig, InvalidAuthConfig};
pub use local::{LocalTokenAuthenticator, LocalTokenError};
