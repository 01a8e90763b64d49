//! How an execution ended, as its record says it.

use std::error::Error;
use std::time::Duration;

use portcullis_core::{
    Ended, Ending, Execution, LaunchError, Limit, Outcome, Reason, Status, StopReason, Usage,
};
use time::OffsetDateTime;

use crate::panics::Panicked;

/// What the launcher answered, or that it broke.
pub(crate) type Launched = Result<Result<Outcome, LaunchError>, Panicked>;

/// What the engine itself knows of the run.
#[derive(Debug, Default)]
pub(crate) struct Story {
    /// Whether the start is recorded: from then on something may have run.
    pub(crate) claimed: bool,
    /// Why the engine did not let it start, when the store was the reason.
    pub(crate) unrecorded: Option<String>,
    /// Why it was asked to stop, if it was.
    pub(crate) stop: Option<StopReason>,
    /// Whether the engine cut the output at its limit.
    pub(crate) output_cut: bool,
    /// Whether output is missing because the store did not take it.
    pub(crate) output_lost: bool,
    /// Whether it was stopped for that, because the store will never take it.
    pub(crate) output_refused: bool,
}

/// Returns the ending of an execution that was given to the launcher.
pub(crate) fn of(launched: &Launched, story: &Story) -> Ending {
    let ending = match launched {
        Ok(Ok(outcome)) => of_outcome(outcome, story),
        Ok(Err(error)) if error.may_have_run() => lost(chain(error)),
        Ok(Err(error)) => of_no_start(error, story),
        Err(panicked) if story.claimed => lost(panicked.to_string()),
        Err(panicked) => start_failed(panicked.to_string()),
    };
    if story.output_lost { output_lost(ending) } else { ending }
}

/// Adds to an ending that output is missing because the store did not take it.
pub(crate) fn output_lost(ending: Ending) -> Ending {
    let what = "the end of its output could not be stored";
    let message = match ending.message {
        Some(message) => format!("{message}; {what}"),
        None => what.into(),
    };
    Ending { truncated: true, message: Some(message), ..ending }
}

fn of_outcome(outcome: &Outcome, story: &Story) -> Ending {
    let limited = |limit| {
        let (status, reason, what) = match limit {
            Limit::WallTime => (Status::Timeout, Reason::TimeLimit, "time"),
            Limit::CpuTime => (Status::Failed, Reason::CpuLimit, "CPU time"),
            Limit::Memory => (Status::Failed, Reason::MemoryLimit, "memory"),
            Limit::Processes => (Status::Failed, Reason::ProcessLimit, "process"),
            Limit::Output => (Status::Failed, Reason::OutputLimit, "output"),
            Limit::FileSize => (Status::Failed, Reason::FileSizeLimit, "file size"),
        };
        plain(status, reason, Some(format!("it was ended at its {what} limit")))
    };
    let ending = match outcome.ended {
        _ if story.output_cut => limited(Limit::Output),
        Ended::Exited(code) => Ending {
            exit_code: Some(code),
            ..match code {
                0 => plain(Status::Completed, Reason::Exit, None),
                _ => plain(Status::Failed, Reason::Exit, Some(format!("it ended with exit code {code}"))),
            }
        },
        Ended::Signaled(signal) => Ending {
            signal: Some(signal),
            ..plain(Status::Failed, Reason::Signal, Some(format!("it was ended by signal {signal}")))
        },
        Ended::Limited(limit) => limited(limit),
        Ended::Stopped(_) if story.output_refused => {
            lost("it was ended because the store refused its output".into())
        }
        Ended::Stopped(reason) => stopped(story.stop.unwrap_or(reason)),
    };
    Ending { usage: Some(outcome.usage.clone()), truncated: outcome.truncated || story.output_cut, ..ending }
}

/// No instruction of it ran: because somebody asked, or because something failed.
fn of_no_start(error: &LaunchError, story: &Story) -> Ending {
    // A start that the engine forbade, or that was still waiting for a cell, ends as it was asked to. A
    // defect of the program or the host is told as such even then.
    let called_off = matches!(error, LaunchError::Forbidden | LaunchError::Unavailable { .. });
    match (&story.unrecorded, story.stop) {
        (Some(problem), _) => start_failed(problem.clone()),
        (None, Some(StopReason::Cancelled)) if called_off => cancelled(),
        (None, Some(StopReason::Shutdown)) if called_off => interrupted(),
        _ => start_failed(chain(error)),
    }
}

/// The ending of what its principal cancelled.
pub(crate) fn cancelled() -> Ending {
    plain(Status::Cancelled, Reason::Cancelled, Some("it was cancelled by its user".into()))
}

/// The ending of what never ran because the service ended.
pub(crate) fn interrupted() -> Ending {
    plain(Status::Failed, Reason::Interrupted, Some("the service ended before it was started".into()))
}

/// The ending of what was begun and whose end nobody saw.
pub(crate) fn lost(problem: String) -> Ending {
    plain(Status::Lost, Reason::ServiceDied, Some(problem))
}

fn stopped(reason: StopReason) -> Ending {
    match reason {
        StopReason::Cancelled => cancelled(),
        StopReason::Shutdown => {
            plain(Status::Failed, Reason::Shutdown, Some("the service shut down while it ran".into()))
        }
    }
}

fn start_failed(problem: String) -> Ending {
    plain(Status::Failed, Reason::StartFailed, Some(problem))
}

fn plain(status: Status, reason: Reason, message: Option<String>) -> Ending {
    Ending {
        status,
        reason,
        exit_code: None,
        signal: None,
        ended_at: OffsetDateTime::now_utc(),
        usage: None::<Usage>,
        truncated: false,
        message,
    }
}

/// Returns the ending with a time that is not before its start, although the clock may have been set back.
pub(crate) fn not_before(ending: Ending, started_at: OffsetDateTime) -> Ending {
    Ending { ended_at: ending.ended_at.max(started_at), ..ending }
}

/// Returns how long an execution took, from its start, or from its acceptance when no process of it started.
pub(crate) fn duration(execution: &Execution) -> Duration {
    let from = execution.began_at().unwrap_or(execution.accepted_at);
    let to = execution.ending.as_ref().map_or(from, |ending| ending.ended_at);
    (to - from).try_into().unwrap_or_default()
}

/// Returns an error with its causes, as one text.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(ended: Ended) -> Launched {
        Ok(Ok(Outcome { ended, usage: Usage::default(), truncated: false }))
    }

    #[track_caller]
    fn check(launched: &Launched, story: &Story, expected: &str) {
        let ending = of(launched, story);
        assert!(ending.status.is_terminal());
        let told = format!("{}/{}", ending.status.as_str(), ending.reason.as_str());
        assert_eq!(told, expected, "{launched:?} {story:?}");
    }

    #[test]
    fn every_outcome_has_its_status_and_reason() {
        use Ended::{Exited, Limited, Signaled, Stopped};
        let story = Story { claimed: true, ..Story::default() };
        for (ended, expected) in [
            (Exited(0), "completed/exit"),
            (Exited(1), "failed/exit"),
            (Exited(137), "failed/exit"),
            (Signaled(9), "failed/signal"),
            (Limited(Limit::WallTime), "timeout/time_limit"),
            (Limited(Limit::CpuTime), "failed/cpu_limit"),
            (Limited(Limit::Memory), "failed/memory_limit"),
            (Limited(Limit::Processes), "failed/process_limit"),
            (Limited(Limit::Output), "failed/output_limit"),
            (Limited(Limit::FileSize), "failed/file_size_limit"),
            (Stopped(StopReason::Cancelled), "cancelled/cancelled"),
            (Stopped(StopReason::Shutdown), "failed/shutdown"),
        ] {
            check(&outcome(ended), &story, expected);
        }
    }

    #[test]
    fn exit_that_came_before_the_stop_stands() {
        let story = Story { claimed: true, stop: Some(StopReason::Cancelled), ..Story::default() };
        check(&outcome(Ended::Exited(0)), &story, "completed/exit");
    }

    #[test]
    fn what_was_not_started_failed_unless_somebody_called_it_off() {
        let forbidden = || Ok(Err(LaunchError::Forbidden));
        let unavailable = || Ok(Err(LaunchError::Unavailable { problem: "none is left".into() }));
        let missing =
            || Ok(Err(LaunchError::Program { program: "ls".into(), problem: "it is not there".into() }));
        let stop = |stop| Story { stop: Some(stop), ..Story::default() };
        check(&forbidden(), &Story::default(), "failed/start_failed");
        check(&unavailable(), &Story::default(), "failed/start_failed");
        check(&missing(), &Story::default(), "failed/start_failed");
        check(&forbidden(), &stop(StopReason::Cancelled), "cancelled/cancelled");
        check(&unavailable(), &stop(StopReason::Cancelled), "cancelled/cancelled");
        check(&missing(), &stop(StopReason::Cancelled), "failed/start_failed");
        check(&forbidden(), &stop(StopReason::Shutdown), "failed/interrupted");
        let unrecorded = Story { unrecorded: Some("no space".into()), ..stop(StopReason::Cancelled) };
        check(&forbidden(), &unrecorded, "failed/start_failed");
    }

    #[test]
    fn what_may_have_run_and_was_not_seen_to_its_end_is_lost() {
        let died = Ok(Err(LaunchError::Died { problem: "killed".into() }));
        check(&died, &Story { claimed: true, ..Story::default() }, "lost/service_died");
    }

    #[test]
    fn output_that_the_engine_cut_is_an_output_limit_whatever_the_launcher_saw() {
        let story = Story { claimed: true, output_cut: true, ..Story::default() };
        let ending = of(&outcome(Ended::Signaled(9)), &story);
        assert_eq!((ending.reason, ending.truncated, ending.signal), (Reason::OutputLimit, true, None));
    }

    #[test]
    fn message_of_a_failed_start_holds_the_chain_of_causes() {
        let source = std::io::Error::from_raw_os_error(1);
        let error = LaunchError::Confinement { step: "SetNoNewPrivs".into(), source };
        let ending = of(&Ok(Err(error)), &Story::default());
        let message = ending.message.unwrap();
        assert!(message.starts_with("could not apply confinement step `SetNoNewPrivs`: "), "{message}");
        assert!(message.contains("not permitted"), "{message}");
    }

    #[test]
    fn end_is_not_before_the_start_when_the_clock_was_set_back() {
        let start = OffsetDateTime::now_utc() + Duration::from_secs(3_600);
        assert_eq!(not_before(cancelled(), start).ended_at, start);
    }
}
