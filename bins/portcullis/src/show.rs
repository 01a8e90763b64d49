//! Shows records and lists, to people and to programs.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use portcullis_api::{AddedView, AllowedCommands, ExecutionView, Timestamp};
use portcullis_core::Status;
use serde_json::Value;

use crate::ending::{bytes, seconds};
use crate::failure::Failure;
use crate::terminal::{Colour, plain, plain_lines};

/// The longest command line in a table, in characters.
const COMMAND_WIDTH: usize = 60;

/// Prints a result.
///
/// # Errors
/// When standard output cannot be written. That nobody reads it is not an error: there is nobody to tell.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// Prints a result that need not be text.
///
/// # Errors
/// See [`print()`].
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("the result cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints a result for programs.
///
/// # Errors
/// See [`print()`].
pub(crate) fn print_json(value: &Value) -> Result<(), Failure> {
    print(&format!("{value:#}\n"))
}

/// Draws a record.
pub(crate) fn record(record: &ExecutionView, colour: Colour) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a string does not fail.
        writeln!(text, "{} {value}", colour.paint("1", &format!("{name:<11}"))).ok();
    };
    line("id", record.execution_id.as_str());
    line("command", &plain(&record.command));
    line("status", &painted_status(record.status, colour));
    let ended = match (record.reason, record.exit_code, record.signal) {
        (None, _, _) => None,
        (Some(reason), Some(code), _) => Some(format!("{} with code {code}", reason.as_str())),
        (Some(reason), None, Some(signal)) => Some(format!("{}, signal {signal}", reason.as_str())),
        (Some(reason), None, None) => Some(reason.as_str().to_owned()),
    };
    let known = |name: &str, value: Option<String>, line: &mut dyn FnMut(&str, &str)| {
        if let Some(value) = value {
            line(name, &plain(&value));
        }
    };
    known("ended by", ended, &mut line);
    known("message", record.message.clone(), &mut line);
    known("accepted", Some(record.accepted_at.to_string()), &mut line);
    known("started", record.start_time.as_ref().map(Timestamp::to_string), &mut line);
    known("ended", record.end_time.as_ref().map(Timestamp::to_string), &mut line);
    let usage = record.usage.as_ref().map(|usage| {
        let memory =
            usage.peak_memory_bytes.map(|peak| format!(", {} at most", bytes(peak))).unwrap_or_default();
        format!("{} of CPU in {}{memory}", seconds(usage.cpu_time_ms), seconds(usage.wall_time_ms))
    });
    known("used", usage, &mut line);
    let limits = &record.limits;
    let limits = format!(
        "{}, {} of CPU, {}, {} processes, {} of output",
        seconds(limits.wall_time_ms),
        seconds(limits.cpu_time_ms),
        bytes(limits.memory_bytes),
        limits.processes,
        bytes(limits.output_bytes),
    );
    known("limits", Some(limits), &mut line);
    let confinement = record.confinement.as_ref().map(|confinement| {
        let weaker = &confinement.weaker;
        let weaker = if weaker.is_empty() { String::new() } else { format!(" ({})", weaker.join("; ")) };
        format!("{}{weaker}", confinement.level.as_str())
    });
    known("confined", confinement, &mut line);
    known("user", Some(record.user.clone()), &mut line);
    known("rules", (!record.rules.is_empty()).then(|| record.rules.join(", ")), &mut line);
    let cut = if record.truncated { ", cut at the limit" } else { "" };
    known("output", Some(format!("{}{cut}", bytes(record.output_bytes))), &mut line);
    if let Some(output) = record.output.as_deref().filter(|output| !output.is_empty()) {
        writeln!(text, "\n{}", plain_lines(output)).ok();
    }
    text
}

/// Draws a list of records, and how to see more of it.
pub(crate) fn list(records: &[ExecutionView], next: Option<&str>, colour: Colour) -> String {
    if records.is_empty() {
        return "no executions\n".into();
    }
    let width = records.iter().map(|record| record.execution_id.as_str().len()).max().unwrap_or_default();
    let head = format!("{:<width$}  {:<9}  {:>4}  {:<24}  COMMAND", "ID", "STATUS", "EXIT", "ACCEPTED");
    let mut text = format!("{}\n", colour.paint("1", &head));
    for record in records {
        let exit = match (record.exit_code, record.signal) {
            (Some(code), _) => code.to_string(),
            (None, Some(signal)) => format!("SIG{signal}"),
            (None, None) => "-".into(),
        };
        let status = format!("{:<9}", record.status.as_str());
        // Writing to a string does not fail.
        writeln!(
            text,
            "{:<width$}  {}  {exit:>4}  {:<24}  {}",
            record.execution_id.as_str(),
            colour.paint(status_colour(record.status), &status),
            record.accepted_at.to_string(),
            shortened(&plain(&record.command)),
        )
        .ok();
    }
    if let Some(next) = next {
        writeln!(text, "more: --cursor {}", plain(next)).ok();
    }
    text
}

/// Draws what a caller may run.
pub(crate) fn allowed(allowed: &AllowedCommands) -> String {
    if allowed.programs.is_empty() {
        let names: String =
            allowed.allowed_commands.iter().map(|name| format!("{}\n", plain(name))).collect();
        return if names.is_empty() { "nothing\n".into() } else { names };
    }
    let width =
        allowed.programs.iter().map(|program| program.program.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for program in &allowed.programs {
        let only = match program.subcommands.as_slice() {
            [] => String::new(),
            subcommands => format!("  only {}", subcommands.join(", ")),
        };
        let name = plain(&program.program);
        // Writing to a string does not fail.
        writeln!(text, "{name:<width$}  by {}{}", plain(&program.rule), plain(&only)).ok();
    }
    text
}

/// Says that a line is allowed, and by which rules.
pub(crate) fn allowed_by(rules: &[String], added: &[AddedView]) -> String {
    let mut text = match rules {
        [] => "allowed\n".into(),
        rules => format!("allowed by {}\n", plain(&rules.join(", "))),
    };
    for one in added {
        let arguments = one.arguments.iter().map(|argument| quoted(argument));
        let variables = one.environment.iter().map(|(name, value)| format!("{name}={}", quoted(value)));
        for (what, words) in
            [("arguments", arguments.collect::<Vec<_>>()), ("variables", variables.collect::<Vec<_>>())]
        {
            if !words.is_empty() {
                text += &format!("  + {what} for `{}`: {}\n", plain(&one.program), plain(&words.join(" ")));
            }
        }
    }
    text
}

/// Writes a word as a shell would have to be given it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) { word.to_owned() } else { format!("'{word}'") }
}

fn painted_status(status: Status, colour: Colour) -> String {
    colour.paint(status_colour(status), status.as_str())
}

fn status_colour(status: Status) -> &'static str {
    match status {
        Status::Completed => "32",
        Status::Failed | Status::Timeout | Status::Lost => "31",
        Status::Cancelled => "33",
        Status::Scheduled | Status::Running => "36",
    }
}

fn shortened(command: &str) -> String {
    if command.chars().count() <= COMMAND_WIDTH {
        return command.to_owned();
    }
    command.chars().take(COMMAND_WIDTH - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ending::tests::record as record_with;

    #[test]
    fn a_record_is_shown_with_what_is_known_of_it() {
        let view = record_with(json!({
            "command": "cat a\nb", "exitCode": 1, "status": "failed", "output": "x\x1b[2J", "outputBytes": 2,
            "usage": {"cpuTimeMs": 12, "peakMemoryBytes": 2_097_152, "wallTimeMs": 1000},
            "confinement": {"level": "landlock", "landlockAbi": 6, "cgroup": null, "weaker": ["no namespaces"]},
        }));
        let shown = record(&view, Colour::Never);
        for part in [
            "id          test-123\n",
            "command     cat a\\nb\n",
            "status      failed\n",
            "ended by    exit with code 1\n",
            "used        0.012 s of CPU in 1 s, 2 MiB at most\n",
            "confined    landlock (no namespaces)\n",
            "\nx\\x1b[2J\n",
        ] {
            assert!(shown.contains(part), "{part:?} in\n{shown}");
        }
    }

    #[test]
    fn a_list_is_a_table_of_one_line_each() {
        let long = record_with(json!({"command": "x".repeat(100), "exitCode": 0}));
        let killed = record_with(json!({"status": "failed", "reason": "signal", "signal": 9}));
        let shown = list(&[long, killed], Some("abc"), Colour::Never);
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[1].contains("completed     0") && lines[1].ends_with("x…"), "{shown}");
        assert!(lines[2].contains("SIG9"), "{shown}");
        assert_eq!(lines[3], "more: --cursor abc");
        assert_eq!(list(&[], None, Colour::Never), "no executions\n");
    }
}
