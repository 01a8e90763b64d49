//! Nothing is lost, doubled or left behind, whoever is killed and whenever: the real executable on a real
//! database and the real kernel, under `SIGKILL`.
//!
//! `service` starts and kills, `processes` looks at the host, `peer` stands for the Socket Service, and
//! `checker` judges every history by the same rules.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that panics has failed, which is the point"
)]

mod checker;
mod client;
mod peer;
mod processes;
mod service;

mod kills;
mod load;
