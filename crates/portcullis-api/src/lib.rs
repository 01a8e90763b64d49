//! The wire types and problem codes of Portcullis, for the server, the command line and Rust callers.
//!
//! A caller sends a [`SubmitRequest`], gets a [`SubmitResponse`], reads an [`ExecutionView`], follows events
//! ([`EventKind`], [`OutputEvent`]), and on any error gets a [`Problem`] whose `code` is a [`ProblemCode`].
//!
//! ```
//! use portcullis_api::{Problem, ProblemCode, SubmitRequest};
//!
//! let request = SubmitRequest::of("echo 'Hello, World!'");
//! assert_eq!(serde_json::to_string(&request)?, r#"{"command":"echo 'Hello, World!'"}"#);
//!
//! let answer = r#"{"type":"/problems/execution/not-found","title":"Execution not found","status":404,
//!     "detail":"…","instance":"urn:uuid:…","code":"execution/not-found","error":"…"}"#;
//! let problem: Problem = serde_json::from_str(answer)?;
//! assert_eq!(problem.known_code(), Some(ProblemCode::ExecutionNotFound));
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # What this crate leaves to others
//! It opens no connection and knows no route. What a command line means is the policy's to say.
#![forbid(unsafe_code)]

mod commands;
mod earlier;
mod event;
mod execution;
mod json;
mod places;
mod problem;
mod submit;
mod text;
mod timestamp;

pub use commands::{AddedView, AllowedCommands, AllowedProgramView, Judgement};
pub use earlier::{EarlierStatus, EarlierSubmitted, EarlierView, ExecuteRequest, ExecuteResponse};
pub use event::{EventKind, OutputEncoding, OutputEvent};
pub use execution::{ConfinementView, ExecutionList, ExecutionView, LimitsView, UsageView};
pub use json::{InvalidMember, ReadError};
pub use places::{Surroundings, TOKEN_FILE, URL_FILE, state_directories};
pub use problem::{DenialView, EffectView, Problem, ProblemCode, RuleView, SpanView};
pub use submit::{SubmitRequest, SubmitResponse};
pub use text::OutputText;
pub use timestamp::Timestamp;
