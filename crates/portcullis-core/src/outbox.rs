//! The seam between executions that end and the endpoints that are posted their end.

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::{Execution, Status, StoreError};

/// Which endings an endpoint is posted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The endpoint's name, unique among them.
    pub endpoint: String,
    /// Where it is. An endpoint that was disabled stays so at this place alone.
    pub url: String,
    /// Only endings with one of these; all when there is none.
    pub statuses: Vec<Status>,
    /// Only lines that name one of these programs; all when there is none.
    pub programs: Vec<String>,
}

impl Subscription {
    /// Whether this endpoint is posted how an execution of these programs ended.
    #[must_use]
    pub fn wants(&self, status: Status, programs: &[String]) -> bool {
        (self.statuses.is_empty() || self.statuses.contains(&status))
            && (self.programs.is_empty() || self.programs.iter().any(|wanted| programs.contains(wanted)))
    }
}

/// An ending that one endpoint is to be posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posting {
    /// Its number, never given again.
    pub n: u64,
    /// The execution that ended.
    pub execution: Execution,
    /// When it ended.
    pub made_at: OffsetDateTime,
    /// How often it was tried.
    pub attempts: u32,
}

/// What an endpoint is to be posted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// What is due, the longest due first.
    pub postings: Vec<Posting>,
    /// When the first of the others is due, when there is one.
    pub next: Option<OffsetDateTime>,
}

/// What became of a posting that was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The endpoint has it, or never will: it is removed.
    Over,
    /// It is due again at this time, one attempt further.
    Again(OffsetDateTime),
}

/// Keeps what endpoints are to be posted, beside the records and as safe as they are.
///
/// An ending is written together with a posting for each endpoint that is subscribed, or neither is. Where nobody is
/// subscribed, endings cost what they cost without this.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Says who is posted what from here on, in place of what was said before. Postings of endpoints that are not
    /// named any more are removed; returns how many those were.
    async fn subscribe(&self, subscriptions: Vec<Subscription>) -> Result<u64, StoreError>;

    /// Resolves when a posting was made since the last call, or may have been. One task waits.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    async fn made(&self);

    /// Reads what is due for an endpoint, at most `limit` postings.
    async fn due(&self, endpoint: &str, now: OffsetDateTime, limit: usize) -> Result<Due, StoreError>;

    /// Notes what became of a posting. One that is gone, with its record, stays gone.
    async fn settle(&self, n: u64, settled: Settled) -> Result<(), StoreError>;

    /// Removes all but the newest `keep` postings of an endpoint, and those of before `made_before`; makes due
    /// what is due later than `latest`, as after a clock was set back. Returns how many it removed.
    async fn tidy(
        &self,
        endpoint: &str,
        keep: usize,
        made_before: Option<OffsetDateTime>,
        latest: OffsetDateTime,
    ) -> Result<u64, StoreError>;

    /// Disables an endpoint at its place, for good: it is posted nothing until it is enabled, or is elsewhere, and
    /// what waits for it is removed. Returns how much that was.
    async fn disable(&self, endpoint: &str, at: OffsetDateTime) -> Result<u64, StoreError>;

    /// Returns since when a subscribed endpoint is disabled; `None` when it is not. Somebody else may have enabled
    /// it: from this call on, it is posted to again.
    async fn disabled_since(&self, endpoint: &str) -> Result<Option<OffsetDateTime>, StoreError>;

    /// Counts what waits for an endpoint.
    async fn waiting(&self, endpoint: &str) -> Result<u64, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_without_filters_wants_everything_and_filters_go_together() {
        let programs = ["ls".to_owned(), "grep".to_owned()];
        let all = Subscription::default();
        assert!(all.wants(Status::Lost, &[]) && all.wants(Status::Completed, &programs));
        let some = Subscription {
            statuses: vec![Status::Failed, Status::Timeout],
            programs: vec!["grep".into(), "make".into()],
            ..all
        };
        assert!(some.wants(Status::Timeout, &programs));
        assert!(!some.wants(Status::Completed, &programs));
        assert!(!some.wants(Status::Failed, &programs[..1]));
    }
}
