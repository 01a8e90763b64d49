//! What the service says of itself to machines.
//!
//! *Metrics* are numbers that somebody fetches: [`Meters`] counts, [`Metrics`] puts what is counted together with what
//! is to be had by asking, and writes it in one of two [`Format`]s. The seams are [measured](MeasuredStore) from outside:
//! no other room knows of this one.
//!
//! *Spans* say what a request and an execution were part of, when, and what came of it: with the feature `otel` they are
//! sent to a collector.
//!
//! # Terms
//! A *family* is a metric with all of its labels; a *series* is one of its combinations of label values. The number of
//! series has a bound: no label holds what a caller chose.

mod exposition;
mod families;
mod instruments;
mod measured;
mod meters;
mod metrics;
#[cfg(feature = "otel")]
mod otlp;
mod process;
#[cfg(feature = "otel")]
mod spans;

pub use exposition::{Family, Format, Kind};
pub use families::FAMILIES;
pub use measured::{MeasuredAuthenticator, MeasuredLauncher, MeasuredStore};
pub use meters::Meters;
pub use metrics::{Metrics, Peers};
#[cfg(feature = "otel")]
pub(crate) use spans::RequestSpan;
#[cfg(feature = "otel")]
pub use spans::Spans;
