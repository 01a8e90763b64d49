//! Tells the Socket Service and webhooks what happened to executions.
//!
//! [`SocketServiceNotifier`] posts each execution's updates, in order, to `POST
//! {base}/api/execution-status`, from where browsers get them. [`Silent`] tells nobody, for a service that
//! has no listener. [`Webhooks`] posts how executions ended, signed, to endpoints of the operator's choice.
//!
//! # Terms
//! A *lane* is what is pending for one execution; one post at a time goes through it. An *outage* is the time
//! between a post that failed and the next that succeeded; it is common to all lanes. A *pause* is a part of
//! an outage in which nothing is tried.
//!
//! # Invariants
//! - *A listener's trouble delays no execution*: [`announce`] never waits; what cannot be sent in time is
//!   dropped and counted.
//! - *Terminal last*: nothing of an execution is sent after its terminal update, and only one post of an
//!   execution is under way at a time.
//! - *Bounded*: bodies, posts under way, lanes and what each holds.
//! - *What is judged is connected to*: a webhook's name is looked up once for each attempt, and the address that was
//!   found fit is the one that is connected to.
//!
//! # What this crate leaves to others
//! Terminal updates that were not delivered when the process ends are kept by the store, and given again by
//! the engine; so they are delivered at least once. How many wait at once is the engine's to bound: each
//! costs at most one encoded body.
//!
//! ```
//! use portcullis_notify::{SocketConfig, SocketServiceNotifier};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let notifier = SocketServiceNotifier::new(SocketConfig::new("http://socket-service:3002"))?;
//! assert_eq!(notifier.stats().posts, 0);
//! # Ok(())
//! # }
//! ```
//!
//! [`announce`]: portcullis_core::Notifier::announce
#![forbid(unsafe_code)]

mod backoff;
mod config;
mod lanes;
mod message;
mod outage;
mod post;
mod shorten;
mod silent;
mod socket_service;
mod stats;
mod webhooks;

pub use config::{InvalidSocketConfig, SocketConfig};
pub use silent::Silent;
pub use socket_service::SocketServiceNotifier;
pub use stats::SocketStats;
pub use webhooks::{
    InvalidWebhook, Network, Place, RunningWebhooks, SigningSecret, WebhookConfig, WebhookStats, Webhooks,
    WebhooksWatch,
};
