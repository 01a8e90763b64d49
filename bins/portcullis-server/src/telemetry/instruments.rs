//! What is counted with: atomics in places that are known beforehand. Nothing here takes a lock, looks a text up or
//! allocates, since the way of an execution leads through it a dozen times.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bounds for what answers from memory, disk or a near peer, in seconds.
pub(crate) const SHORT: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Bounds for what a command's time goes into.
pub(crate) const LONG: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0,
    3600.0,
];
/// The most bounds that there are.
const MOST_BOUNDS: usize = 18;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn one(&self) {
        self.add(1);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A sum of time that only grows.
#[derive(Debug, Default)]
pub(crate) struct Seconds(Counter);

impl Seconds {
    pub(crate) fn add(&self, time: Duration) {
        // 584 years of nanoseconds fit.
        self.0.add(u64::try_from(time.as_nanos()).unwrap_or(0));
    }

    pub(crate) fn read(&self) -> f64 {
        in_seconds(self.0.read())
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn down(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many of what was seen lay below which bound, and their sum.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    /// One for each bound, and one for what lies above them all; each counts what no smaller bound does.
    counts: [AtomicU64; MOST_BOUNDS + 1],
    sum: Seconds,
}

impl Histogram {
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        assert!(bounds.len() <= MOST_BOUNDS, "there is room for {MOST_BOUNDS} bounds");
        Self { bounds, counts: Default::default(), sum: Seconds::default() }
    }

    pub(crate) fn see(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let at = self.bounds.iter().position(|bound| seconds <= *bound).unwrap_or(self.bounds.len());
        if let Some(count) = self.counts.get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.add(time);
    }

    /// Returns each bound with how many lay at or below it; the last is infinite, and so has them all. They belong
    /// together, whatever is seen meanwhile; the sum may be a moment ahead or behind.
    pub(crate) fn read(&self) -> (Vec<(f64, u64)>, f64) {
        let sum = self.sum.read();
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let mut below = 0;
        let buckets = bounds.zip(&self.counts).map(|(bound, count)| {
            below += count.load(Ordering::Relaxed);
            (bound, below)
        });
        (buckets.collect(), sum)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a sum of times need not be exact to the nanosecond for ever")]
fn in_seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_at_and_below_each_bound() {
        let histogram = Histogram::new(&[0.001, 0.01]);
        for micros in [1, 1_000, 1_001, 10_000, 10_001, 5_000_000] {
            histogram.see(Duration::from_micros(micros));
        }
        let (buckets, sum) = histogram.read();
        assert_eq!(buckets, [(0.001, 2), (0.01, 4), (f64::INFINITY, 6)]);
        assert!((sum - 5.022_003).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn a_snapshot_of_a_histogram_is_consistent_while_it_grows() {
        let histogram = Histogram::new(SHORT);
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        for micros in [50, 700, 20_000, 60_000_000] {
                            histogram.see(Duration::from_micros(micros));
                        }
                    }
                });
            }
            let mut before = 0;
            for _ in 0..1_000 {
                let (buckets, _) = histogram.read();
                assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{buckets:?}");
                let all = buckets.last().unwrap().1;
                assert!(all >= before);
                before = all;
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}
