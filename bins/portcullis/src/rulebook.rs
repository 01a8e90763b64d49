//! Judges by a rulebook on this machine: no service is asked.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufWriter, Write as _};
use std::path::Path;
use std::process::ExitCode;

use portcullis_core::{Limits, Policy as _, Principal, Submission, Verdict};
use portcullis_policy::batch::{Answer, Question, answer_json};
use portcullis_policy::{Problem, Rulebook, RulebookPolicy, TestFailure, TestReport};
use serde_json::{Value, json};

use crate::args::{PolicyCheck, PolicyTest};
use crate::denial;
use crate::failure::{EXIT_NO, Failure};
use crate::line;
use crate::show::{self, print, print_json};
use crate::terminal::plain;

/// What the service allows when nothing is configured.
const DEFAULT_ALLOWLIST: [&str; 6] = ["ls", "echo", "cat", "grep", "find", "pwd"];

/// Judges one line, or a batch.
pub(crate) fn check(args: PolicyCheck, as_json: bool) -> Result<ExitCode, Failure> {
    let policy = load(args.rulebook.as_deref())?;
    if args.batch {
        return batch(&policy);
    }
    let line = line::of(args.line, args.words)?;
    let principal = Principal {
        id: args.user.clone(),
        name: args.user,
        roles: args.role.into_iter().collect(),
        permissions: BTreeSet::new(),
    };
    let verdict = policy.judge(&principal, &Submission::of(&line));
    let code =
        if matches!(verdict, Verdict::Permit(..)) { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NO) };
    if as_json {
        let answer = Answer::of(Value::Null, &verdict);
        print_json(&json!(answer))?;
        return Ok(code);
    }
    match verdict {
        Verdict::Permit(_, grant) => print(&show::allowed_by(&grant.rules))?,
        Verdict::Deny(denial) => print(&denial::draw(&line, &denial))?,
    }
    Ok(code)
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
                print(&format!(
                    "{}: refused as a whole\n{}\n",
                    args.file.display(),
                    indented(&error.to_string())
                ))?;
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

/// Answers each line of standard input with one line, in order, until it ends. A line that is no question is
/// answered with a denial, so that nobody takes silence for a yes, and the exit code says that there was one.
fn batch(policy: &RulebookPolicy) -> Result<ExitCode, Failure> {
    let mut input = io::stdin().lock();
    let mut output = BufWriter::new(io::stdout().lock());
    let unwritable = |error: io::Error| Failure::new(format!("the answers cannot be written: {error}"));
    let mut line = Vec::new();
    let mut code = ExitCode::SUCCESS;
    loop {
        line.clear();
        let read = input.read_until(b'\n', &mut line);
        if read.map_err(|error| Failure::new(format!("standard input cannot be read: {error}")))? == 0 {
            break;
        }
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        if serde_json::from_slice::<Question>(line).is_err() {
            code = ExitCode::from(EXIT_NO);
        }
        match writeln!(output, "{}", answer_json(policy, line)) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(code),
            written => written.map_err(unwritable)?,
        }
    }
    output.flush().map_err(unwritable)?;
    Ok(code)
}
