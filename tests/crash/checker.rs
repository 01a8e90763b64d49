//! Judges a history: what was submitted and answered, what is recorded, what ran, and what the peer was told.
//!
//! Whatever was killed, and whenever:
//! 1. what was acknowledged is recorded, and nothing is recorded that was not submitted;
//! 2. each record has ended, and says the same for ever after;
//! 3. nothing ran twice; what ended by itself ran, and what says that it never ran did not;
//! 4. output is the beginning of what was to be printed, and all of it when the line ended by itself;
//! 5. the peer was told of each end, last, and never otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use portcullis_api::ExecutionView;
use portcullis_core::{Reason, Status};

use crate::peer::{Told, Updates};

/// Everything that is known of a history.
#[derive(Default)]
pub(crate) struct History {
    /// What each submitted line was to print, by its id.
    pub(crate) submitted: BTreeMap<String, String>,
    pub(crate) acknowledged: BTreeSet<String>,
    /// Endings that were read before the last one, also by earlier lives of the service.
    pub(crate) seen: Vec<ExecutionView>,
    /// The records at the end, with their output.
    pub(crate) records: Vec<ExecutionView>,
    /// Marks in the order in which executions left them: their ids.
    pub(crate) runs: Vec<String>,
    pub(crate) updates: Updates,
}

/// What was found, and what of it must not be.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    submitted: usize,
    acknowledged: usize,
    recorded: usize,
    ended: BTreeMap<(&'static str, &'static str), usize>,
    ran: usize,
    told: usize,
    wrong: Vec<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { submitted, acknowledged, recorded, ran, told, wrong, .. } = self;
        write!(
            f,
            "{submitted} submitted, {acknowledged} acknowledged, {recorded} recorded, {ran} ran, {told} told;"
        )?;
        for ((status, reason), count) in &self.ended {
            write!(f, " {count} {status}/{reason},")?;
        }
        write!(f, " {} wrong", wrong.len())
    }
}

impl Verdict {
    /// Fails with everything that is wrong.
    #[track_caller]
    pub(crate) fn expect_nothing_wrong(&self) {
        assert!(self.wrong.is_empty(), "{self}:\n{}", self.wrong.join("\n"));
    }

    fn wrong(&mut self, what: impl Into<String>) {
        self.wrong.push(what.into());
    }
}

/// Judges a history.
pub(crate) fn check(history: &History) -> Verdict {
    let mut verdict = Verdict {
        submitted: history.submitted.len(),
        acknowledged: history.acknowledged.len(),
        recorded: history.records.len(),
        ran: history.runs.len(),
        told: history.updates.values().map(Vec::len).sum(),
        ..Verdict::default()
    };
    let records: BTreeMap<&str, &ExecutionView> =
        history.records.iter().map(|record| (record.execution_id.as_str(), record)).collect();
    if records.len() != history.records.len() {
        verdict.wrong("two records bear one id");
    }
    for id in &history.acknowledged {
        if !records.contains_key(id.as_str()) {
            verdict.wrong(format!("lost: {id} was acknowledged and is not recorded"));
        }
    }
    let mut runs: BTreeMap<&str, usize> = BTreeMap::new();
    for id in &history.runs {
        *runs.entry(id).or_default() += 1;
    }
    for (id, count) in &runs {
        if *count > 1 {
            verdict.wrong(format!("doubled: {id} ran {count} times"));
        }
        if !records.contains_key(id) {
            verdict.wrong(format!("{id} ran and is not recorded"));
        }
    }
    for record in &history.seen {
        let id = record.execution_id.as_str();
        match records.get(id) {
            Some(last) if ending(last) == ending(record) => {}
            last => verdict.wrong(format!("{id} had ended as {record:?} and is now {last:?}")),
        }
    }
    for (id, record) in records {
        let ran = runs.contains_key(id);
        let told = history.updates.get(id).map(Vec::as_slice).unwrap_or_default();
        let Some(wanted) = history.submitted.get(id) else {
            verdict.wrong(format!("{id} is recorded and was never submitted"));
            continue;
        };
        let problems = [state(record), run(record, ran), output(record, wanted), telling(record, told)];
        for problem in problems.into_iter().flatten() {
            verdict.wrong(format!("{id}: {problem}: {record:?}"));
        }
        let reason = record.reason.map_or("", Reason::as_str);
        *verdict.ended.entry((record.status.as_str(), reason)).or_default() += 1;
    }
    verdict
}

/// What may not change once it is there.
fn ending(record: &ExecutionView) -> impl PartialEq {
    let ExecutionView { status, reason, exit_code, signal, end_time, usage, .. } = record.clone();
    (status, reason, exit_code, signal, end_time, usage)
}

fn state(record: &ExecutionView) -> Option<String> {
    let ended = record.status.is_terminal();
    let complete = record.reason.is_some() && record.end_time.is_some();
    let in_order = record.end_time.map(|end| end.0) >= record.start_time.map(|start| start.0);
    (!ended || !complete || !in_order).then(|| "it has not ended as a record does".to_owned())
}

fn run(record: &ExecutionView, ran: bool) -> Option<String> {
    let by_itself = record.status == Status::Completed;
    let never = matches!(record.reason, Some(Reason::Interrupted | Reason::StartFailed));
    match ran {
        false if by_itself => Some("it is said to have run, and left no mark".into()),
        true if never => Some("it is said not to have run, and left a mark".into()),
        _ => None,
    }
}

fn output(record: &ExecutionView, wanted: &str) -> Option<String> {
    let output = record.output.as_deref().unwrap_or_default();
    let right =
        if record.status == Status::Completed { output == wanted } else { wanted.starts_with(output) };
    (!right).then(|| format!("its output is not that of its line, {wanted:?}"))
}

fn telling(record: &ExecutionView, told: &[Told]) -> Option<String> {
    // The peer knows fewer words than a record.
    let wanted = match record.status {
        Status::Completed => "completed",
        Status::Cancelled => "cancelled",
        _ => "failed",
    };
    let first_end = told.iter().position(Told::is_final);
    let Some(first_end) = first_end else { return Some("its end was not told".into()) };
    // At least once: who is killed before the answer came tells it again.
    let right = told[first_end..].iter().all(|update| update.is_final() && update.status == wanted);
    (!right).then(|| format!("after its end it was told as {:?}", &told[first_end..]))
}

#[cfg(test)]
mod tests {
    use portcullis_core::Status::{Completed, Failed, Lost, Running};
    use serde_json::json;

    use super::*;

    fn record(status: Status, reason: Option<Reason>, output: &str) -> ExecutionView {
        let reason = reason.map(Reason::as_str);
        let end = status.is_terminal().then_some("2026-01-01T00:00:01.000Z");
        serde_json::from_value(json!({
            "executionId": "x", "status": status.as_str(), "command": "echo x", "output": output, "exitCode": null,
            "startTime": "2026-01-01T00:00:00.000Z", "endTime": end, "reason": reason, "stdout": output,
            "stderr": "", "signal": null, "progress": 100, "truncated": false, "outputBytes": 0,
            "outputOmittedBytes": 0, "usage": null, "confinement": null,
            "limits": {"wallTimeMs": 1, "cpuTimeMs": 1, "memoryBytes": 1, "processes": 1, "openFiles": 1,
                       "fileSizeBytes": 1, "diskBytes": 1, "outputBytes": 1, "gracePeriodMs": 1},
            "user": "local", "acceptedAt": "2026-01-01T00:00:00.000Z", "message": null, "rules": [], "programs": [],
        }))
        .unwrap()
    }

    fn told(status: &str) -> Told {
        serde_json::from_value(json!({"executionId": "x", "status": status})).unwrap()
    }

    /// A history in which nothing is wrong.
    fn sound() -> History {
        History {
            submitted: [("x".to_owned(), "x\ndone".to_owned())].into(),
            acknowledged: ["x".to_owned()].into(),
            seen: vec![record(Completed, Some(Reason::Exit), "")],
            records: vec![record(Completed, Some(Reason::Exit), "x\ndone")],
            runs: vec!["x".into()],
            updates: [("x".to_owned(), vec![told("running"), told("completed"), told("completed")])].into(),
        }
    }

    #[track_caller]
    fn check_wrong(expected: &str, change: impl FnOnce(&mut History)) {
        let mut history = sound();
        change(&mut history);
        let verdict = check(&history);
        assert!(verdict.wrong.iter().any(|wrong| wrong.contains(expected)), "{verdict}: {:?}", verdict.wrong);
    }

    #[test]
    fn a_sound_history_is_found_sound() {
        check(&sound()).expect_nothing_wrong();
    }

    #[test]
    fn each_rule_is_missed_when_it_is_broken() {
        check_wrong("is not recorded", |h| h.records.clear());
        check_wrong("never submitted", |h| h.submitted.clear());
        check_wrong("two records", |h| h.records.push(h.records[0].clone()));
        check_wrong("ran 2 times", |h| h.runs.push("x".into()));
        check_wrong("left no mark", |h| h.runs.clear());
        check_wrong("has not ended", |h| h.records[0] = record(Running, None, ""));
        check_wrong("had ended as", |h| h.records[0] = record(Lost, Some(Reason::ServiceDied), "x"));
        check_wrong("left a mark", |h| h.records[0] = record(Failed, Some(Reason::Interrupted), ""));
        check_wrong("not that of its line", |h| h.records[0].output = Some("x".into()));
        check_wrong("end was not told", |h| h.updates.clear());
        check_wrong("told as", |h| h.updates.get_mut("x").unwrap().push(told("running")));
        check_wrong("told as", |h| h.updates.get_mut("x").unwrap().push(told("failed")));
    }
}
