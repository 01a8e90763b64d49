//! One line on a terminal while an execution takes its time: how long, of how much, and how much it has written.

use std::time::Duration;

use portcullis_api::ExecutionView;
use portcullis_core::Status;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::ending::{bytes, seconds};
use crate::printer::Voice;

/// What takes less than this shows no progress.
const FIRST_AFTER: Duration = Duration::from_secs(1);
const EVERY: Duration = Duration::from_millis(500);

/// Draws the line from time to time, where it is in nobody's way.
pub(crate) struct Progress {
    voice: Voice,
    began: Instant,
    ticks: Interval,
    status: Status,
    limit_ms: Option<u64>,
    output_bytes: u64,
    /// The last output did not end its line: ours would cut it.
    in_a_line: bool,
}

impl Progress {
    /// Begins now.
    pub(crate) fn new(voice: Voice) -> Self {
        let mut ticks = interval_at(Instant::now() + FIRST_AFTER, EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            voice,
            began: Instant::now(),
            ticks,
            status: Status::Scheduled,
            limit_ms: None,
            output_bytes: 0,
            in_a_line: false,
        }
    }

    /// Waits until the line is due, and draws it.
    pub(crate) async fn tick(&mut self) {
        self.ticks.tick().await;
        if !self.in_a_line {
            self.voice.show_progress(&self.line());
        }
    }

    /// Notes where the execution is.
    pub(crate) fn saw_status(&mut self, record: &ExecutionView) {
        if record.status != self.status {
            self.began = Instant::now();
        }
        self.status = record.status;
        self.limit_ms = Some(record.limits.wall_time_ms);
    }

    /// Notes what is about to be printed.
    pub(crate) fn saw_output(&mut self, output: &[u8]) {
        self.output_bytes += output.len() as u64;
        self.in_a_line = output.last().is_some_and(|&byte| byte != b'\n');
    }

    fn line(&self) -> String {
        let elapsed = self.began.elapsed().as_secs();
        match (self.status, self.limit_ms) {
            (Status::Running, Some(limit)) => {
                format!("running, {elapsed} s of {}, {} of output", seconds(limit), bytes(self.output_bytes))
            }
            _ => format!("waiting for its turn, {elapsed} s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ending::tests::record;
    use crate::terminal::Colour;

    #[tokio::test(start_paused = true)]
    async fn the_line_tells_time_limit_and_output() {
        let mut progress = Progress::new(Voice::new(Colour::Never, true));
        progress.tick().await;
        assert_eq!(progress.line(), "waiting for its turn, 1 s");
        progress.saw_status(&record(json!({"status": "running", "reason": null})));
        progress.saw_output(&[b'x'; 2048]);
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(progress.line(), "running, 7 s of 60 s, 2 KiB of output");
        assert!(progress.in_a_line);
    }
}
