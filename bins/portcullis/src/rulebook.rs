//! Judges by a rulebook on this machine: no service is asked.

use std::io::{self, BufRead, BufWriter, Write as _};
use std::path::Path;
use std::process::ExitCode;

use portcullis_core::{Denial, Limits, Policy as _, Principal, Submission, Verdict};
use portcullis_policy::{Problem, Rulebook, RulebookPolicy, TestFailure, TestReport};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::args::{PolicyCheck, PolicyTest};
use crate::denial;
use crate::failure::{EXIT_NO, Failure};
use crate::line;
use crate::show::{print, print_json};
use crate::terminal::plain;

/// What the service allows when nothing is configured.
const DEFAULT_ALLOWLIST: [&str; 6] = ["ls", "echo", "cat", "grep", "find", "pwd"];

/// Judges one line, or a batch.
pub(crate) fn check(args: PolicyCheck, as_json: bool) -> Result<ExitCode, Failure> {
    let policy = load(args.rulebook.as_deref())?;
    let principal = |name: &str| Principal {
        id: name.to_owned(),
        name: name.to_owned(),
        roles: args.role.iter().cloned().collect(),
        permissions: std::collections::BTreeSet::new(),
    };
    if args.batch {
        return batch(&policy, &args.user, principal);
    }
    let line = line::of(args.line, args.words)?;
    let verdict = policy.judge(&principal(&args.user), &Submission::of(&line));
    let allowed = matches!(verdict, Verdict::Permit(..));
    if as_json {
        print_json(&answer(&Value::Null, &verdict))?;
    } else {
        match verdict {
            Verdict::Permit(_, grant) => {
                let by = if grant.rules.is_empty() {
                    String::new()
                } else {
                    format!(" by {}", grant.rules.join(", "))
                };
                print(&format!("allowed{}\n", plain(&by)))?;
            }
            Verdict::Deny(denial) => print(&format!("{}\n", denial::draw(&line, &denial).trim_end()))?,
        }
    }
    Ok(if allowed { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NO) })
}

/// Checks a rulebook, runs the tests that it carries, and says what they did not reach.
pub(crate) fn test(args: &PolicyTest, as_json: bool) -> Result<ExitCode, Failure> {
    let rulebook = match Rulebook::parse_untested(&read(&args.file)?) {
        Ok(rulebook) => rulebook,
        Err(error) => {
            let problems: Vec<Value> = error.problems().iter().map(problem_to_json).collect();
            if as_json {
                print_json(&json!({ "passed": false, "problems": problems }))?;
            } else {
                print(&format!("{}: refused as a whole\n{}\n", args.file.display(), indented(&error.to_string())))?;
            }
            return Ok(ExitCode::from(EXIT_NO));
        }
    };
    let report = rulebook.run_tests();
    let passed = report.failures.is_empty();
    if as_json {
        let failures: Vec<Value> = report.failures.iter().map(failure_to_json).collect();
        print_json(&json!({
            "passed": passed, "problems": [], "run": report.run, "failures": failures,
            "untestedRules": report.coverage.untested_rules,
            "untestedPrograms": report.coverage.untested_programs,
        }))?;
    } else {
        print(&draw_report(&args.file, &report))?;
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NO) })
}

fn draw_report(file: &Path, report: &TestReport) -> String {
    let failed = report.failures.len();
    let mut text = format!("{}: {} of {} tests passed\n", file.display(), report.run - failed, report.run);
    for failure in &report.failures {
        let place = format!("{}:{}", file.display(), failure.line);
        text.push_str(&format!("  {place}: {}\n", plain(&failure.to_string())));
    }
    for (what, names) in
        [("rules", &report.coverage.untested_rules), ("programs", &report.coverage.untested_programs)]
    {
        if !names.is_empty() {
            text.push_str(&format!("no test reached the {what} {}\n", plain(&names.join(", "))));
        }
    }
    text
}

fn problem_to_json(problem: &Problem) -> Value {
    json!({ "line": problem.line, "column": problem.column, "message": problem.message })
}

fn failure_to_json(failure: &TestFailure) -> Value {
    json!({
        "line": failure.line, "command": failure.command, "expected": failure.expected, "found": failure.found,
    })
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {}", plain(line))).collect::<Vec<_>>().join("\n")
}

/// Loads a file, or the reference rulebook of this name when there is no such file.
fn load(file: Option<&Path>) -> Result<RulebookPolicy, Failure> {
    let rulebook = match file {
        None => Rulebook::from_allowlist(DEFAULT_ALLOWLIST)
            .map_err(|error| Failure::new(format!("the default allowlist is refused: {error}")))?,
        Some(file) => {
            let shipped = file.to_str().filter(|_| !file.exists()).and_then(Rulebook::reference);
            match shipped {
                Some(rulebook) => rulebook,
                None => Rulebook::parse(&read(file)?).map_err(|error| {
                    Failure::new(format!("the rulebook `{}` is refused as a whole:\n{error}", file.display()))
                })?,
            }
        }
    };
    Ok(RulebookPolicy::new(rulebook, Limits::default()))
}

fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file)
        .map_err(|error| Failure::new(format!("the rulebook `{}` cannot be read: {error}", file.display())))
}

/// One line of a batch. Members that are not known are passed over: what feeds us may keep more beside a line.
#[derive(Debug, Deserialize)]
struct Question {
    #[serde(default)]
    id: Value,
    user: Option<String>,
    command: String,
}

/// Answers each line of standard input with one line, in order, until it ends.
fn batch(
    policy: &RulebookPolicy,
    user: &str,
    principal: impl Fn(&str) -> Principal,
) -> Result<ExitCode, Failure> {
    let mut input = io::stdin().lock();
    let mut output = BufWriter::new(io::stdout().lock());
    let mut raw = Vec::new();
    let mut failed = false;
    for number in 1u64.. {
        raw.clear();
        let read = input.read_until(b'\n', &mut raw);
        if read.map_err(|error| Failure::new(format!("standard input cannot be read: {error}")))? == 0 {
            break;
        }
        if raw.trim_ascii().is_empty() {
            continue;
        }
        let answered = match serde_json::from_slice::<Question>(&raw) {
            Ok(question) => {
                let asks = principal(question.user.as_deref().unwrap_or(user));
                answer(&question.id, &policy.judge(&asks, &Submission::of(question.command)))
            }
            Err(error) => {
                failed = true;
                unreadable(&raw, number, &error)
            }
        };
        let written = writeln!(output, "{answered}");
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            written => {
                written.map_err(|error| Failure::new(format!("the answers cannot be written: {error}")))?
            }
        }
    }
    output.flush().map_err(|error| Failure::new(format!("the answers cannot be written: {error}")))?;
    Ok(if failed { ExitCode::from(EXIT_NO) } else { ExitCode::SUCCESS })
}

/// Answers a question that cannot be read. It is a denial, so that nobody takes silence for a yes.
fn unreadable(raw: &[u8], number: u64, error: &serde_json::Error) -> Value {
    let id = serde_json::from_slice::<Value>(raw).ok().and_then(|value| value.get("id").cloned());
    json!({
        "id": id, "verdict": "deny", "code": "batch/malformed", "span": null,
        "message": format!("line {number} of the batch is not a question: {error}"), "rule": null,
        "suggestion": "write an object with `id`, `user` and `command`",
    })
}

fn answer(id: &Value, verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Permit(_, grant) => json!({
            "id": id, "verdict": "allow", "code": null, "span": null, "message": "allowed",
            "rule": grant.rules.first(), "suggestion": null,
        }),
        Verdict::Deny(denial) => {
            let Denial { code, span, message, rule, suggestion, .. } = denial.as_ref();
            json!({
                "id": id, "verdict": "deny", "code": code, "span": [span.start, span.end], "message": message,
                "rule": rule.as_ref().map(|rule| &rule.name), "suggestion": suggestion,
            })
        }
    }
}
