//! Starts permitted command lines under kernel confinement.
//!
//! The server starts a *launcher*, a single-threaded process of its own, before it opens a socket or a
//! thread. The launcher makes *cells*: processes that sit, from their start, in everything that executions
//! may share one after another (user and network namespace, a read-only mount view, a control group). Each
//! cell runs one execution at a time, in a pid and an IPC namespace of its own, with parts of the view that are its own.
//!
//! # Terms
//! A *level* of confinement is what the host gives: see [`portcullis_core::Level`]. A *view* is what of the
//! host a command can see, and what of that can execute. A *step* is one thing that confines; when one fails,
//! nothing of the line runs, and the error names it.
//!
//! # How to use it
//! ```no_run
//! # async fn go(permit: portcullis_core::Permit, observer: std::sync::Arc<dyn portcullis_core::ExecutionObserver>)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! use portcullis_core::Launcher as _;
//!
//! // First thing in `main`, before any thread: this executable is the launcher, too.
//! portcullis_sandbox::enter_if_launcher();
//! let process = portcullis_sandbox::start_launcher(&portcullis_sandbox::Config::default())?;
//!
//! // Inside a tokio runtime:
//! let sandbox = portcullis_sandbox::Sandbox::connect(process).await?;
//! let outcome = sandbox.launch(permit, observer).await?;
//! # Ok(()) }
//! ```
//!
//! # What this crate leaves to others
//! It parses no command line and decides nothing: it carries out a [`portcullis_core::Permit`], word for word.
#![deny(unsafe_code)]

mod account;
mod ahead;
mod cell;
mod cgroup;
mod client;
mod config;
mod descriptors;
mod doctor;
mod elf;
#[cfg(feature = "fault-injection")]
mod faults;
mod gate;
mod glob;
mod init;
mod landlock;
mod launcher;
mod layers;
mod line;
mod making;
mod oom;
mod paths;
mod programs;
mod ready;
mod removal;
mod rights;
mod seccomp;
mod stage;
mod start;
mod sys;
mod tree;
mod view;
mod wire;

pub use account::{Account, GiveUpError, current_uid, give_up_privilege, obstacle};
pub use client::Sandbox;
pub use config::{Config, Mount};
pub use doctor::{Findings, Mechanism, Mend, Need, Program, Standing, Trial, examine, examine_from, look_up};
#[cfg(feature = "fault-injection")]
pub use faults::{Fault, Gone, MARK, fail_steps, heap_is_not_ours, take_layers_away};
pub use start::{LauncherProcess, StartError, enter_if_launcher, start_launcher, start_launcher_from};
