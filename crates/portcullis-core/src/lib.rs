//! The nouns of Portcullis and the seams between its rooms.
//!
//! Every other crate speaks in these types and sees its neighbours only through these traits. Nothing
//! here reads a file, opens a socket, starts a process or needs an async runtime.
//!
//! # Terms
//! A *command line* is what was written. Parsed, it is a [`Script`]: pipelines joined by `&&`, `||` or
//! `;`, each a sequence of *commands*, each a program with its argument words. An *execution* is one run
//! of one command line, with an id, from acceptance to its final record. A *principal* is who asks. A
//! [`Verdict`] is the policy's answer: a [`Permit`] to run the line within [`Limits`] and [`Rights`], or
//! a [`Denial`] that says why not. An [`Outcome`] is how it ended.
//!
//! # The way of a request
//! [`Authenticator`] → [`Policy`] → [`ExecutionStore`] → [`Launcher`] → [`ExecutionStore`] → [`Notifier`].
//! Each step takes what only the step before can give; in particular a [`Launcher`] takes a [`Permit`].
#![forbid(unsafe_code)]

mod id;
mod outbox;
mod outcome;
mod permit;
mod principal;
mod record;
mod script;
mod seams;
mod submission;
mod trace;
mod verdict;

pub use id::{ExecutionId, InvalidExecutionId};
pub use outbox::{Due, Outbox, Posting, Settled, Subscription};
pub use outcome::{CgroupVersion, Confinement, Ended, Level, Limit, Outcome, StopReason, Usage};
pub use permit::{Limits, Network, Permit, Plan, Rights};
pub use principal::{Principal, Secret};
pub use record::{
    Closing, Ending, Execution, Fingerprint, NewExecution, OutputChunk, OutputStream, Reason, Refusal, Start,
    Status,
};
pub use script::{
    ChangeDirectory, ClassItem, Command, Connector, Duplicate, Piece, Pipeline, ProgramName, Redirection,
    RedirectionTarget, Script, SimpleCommand, Span, Step, ViewPath, Word,
};
pub use seams::{
    Acceptance, AuthenticateError, Authenticator, CallResult, Calls, Cells, Claim, Credentials, Delivery,
    ExecutionObserver, ExecutionStore, Finder, Finish, Flow, Keep, LaunchError, Launcher, ListPage,
    ListQuery, Located, Notifier, NotifyError, Place, Policy, Recovery, StoreError, Update,
};
pub use submission::Submission;
pub use trace::{Provenance, TraceContext};
pub use verdict::{
    Added, AllowedProgram, Denial, DenialCode, DenialKind, FoundEffect, Grant, RuleRef, Verdict,
};
