//! How long to wait before the next try.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

/// The longest `Retry-After` that is obeyed.
pub(crate) const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// Waits that double from `first` to `longest`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

impl Backoff {
    /// Returns the wait after a number of failures in a row, 1 or more, without chance in it.
    pub(crate) fn after(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }
}

/// Returns a part of a time, by chance, so that many who wait do not all try at the same moment.
pub(crate) fn part_of(time: Duration) -> Duration {
    // The standard library seeds each of these anew; chance of this quality is all that is needed here.
    let chance = RandomState::new().build_hasher().finish();
    time.mul_f64((chance >> 11) as f64 / (1u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let backoff = Backoff { first: Duration::from_millis(250), longest: Duration::from_secs(30) };
        let seconds: Vec<f64> = (1..=9).map(|failures| backoff.after(failures).as_secs_f64()).collect();
        assert_eq!(seconds, [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
        assert_eq!(backoff.after(u32::MAX), Duration::from_secs(30));
    }

    #[test]
    fn parts_are_spread_over_the_whole() {
        let parts: Vec<f64> = (0..1_000).map(|_| part_of(Duration::from_secs(1)).as_secs_f64()).collect();
        assert!(parts.iter().all(|part| (0.0..1.0).contains(part)));
        for tenth in 0..10 {
            let low = f64::from(tenth) / 10.0;
            assert!(parts.iter().any(|part| (low..low + 0.1).contains(part)), "none in {low}");
        }
    }
}
