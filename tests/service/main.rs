//! The promises of the service, from outside: over real sockets, with the parts behind the seams in memory.
//!
//! `answers` holds every answer to what holds for all of them; the files beside it are one promise each.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that panics has failed, which is the point"
)]

mod answers;
mod contract;
mod doubles;
mod process;
mod scraped;
mod served;

mod audit;
mod bad_input;
mod browsers;
mod callers;
mod connections;
mod deploy;
mod doctor;
mod earlier;
mod events;
mod health;
mod ids;
mod life;
mod lists;
mod metrics;
mod mission;
mod never_started;
#[cfg(feature = "otel")]
mod otel;
mod output;
mod page;
mod peers;
mod privilege;
mod real;
mod reload;
mod schemathesis;
mod settings;
mod start;

mod upkeep;
mod waiting;
mod webhooks;
