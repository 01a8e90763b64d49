//! The Portcullis service: HTTP, configuration, and the composition of the rooms.
//!
//! Only this crate knows HTTP. It reads its configuration once ([`config`]), puts the rooms together
//! ([`compose`](mod@compose)), answers requests ([`http`]) by the rules in force ([`rules`]) until it is told to end ([`life`]), and says of
//! itself what an operator must know ([`report`], [`logging`]). `main.rs` tells the same in its order.
//!
//! # Terms
//! A *route* is a method and a path, and leads to an *endpoint*. A *failure* is why a request did not get what it
//! asked for; one `match` turns it into a problem (RFC 9457). A *setting* has a value and an *origin*. A *supervisor*
//! is who started the service and watches over it: systemd, if anybody.
//!
//! # What this crate leaves to others
//! It judges no command line, runs nothing and keeps nothing.
#![forbid(unsafe_code)]

pub mod audit;
pub mod compose;
pub mod config;
pub mod doctor;
pub mod example;
pub mod health;
pub mod http;
pub mod life;
pub mod logging;
pub mod privilege;
pub mod report;
pub mod retention;
pub mod rules;
pub mod supervisor;
pub mod telemetry;
pub mod upkeep;
