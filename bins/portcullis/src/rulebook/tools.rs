//! What operators do with a rulebook beside judging by it.

use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;

use portcullis_policy::{Problem, Rows, Rulebook, TestFailure, TestReport};
use serde_json::{Value, json};

use super::{load, principal, read};
use crate::args::{PolicyDiff, PolicyExplain, PolicyLint, PolicyTest};
use crate::failure::{EXIT_NO, Failure};
use crate::show::{print, print_json};
use crate::terminal::{plain, plain_lines};

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
            "rows": report.coverage.rows.iter().map(rows_to_json).collect::<Vec<_>>(),
        }))?;
    } else {
        print(&draw_report(&args.file, &report, args.rows))?;
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NO) })
}

fn draw_report(file: &Path, report: &TestReport, all_rows: bool) -> String {
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
    text.push_str(&draw_rows(&report.coverage.rows, all_rows));
    text
}

/// Says how many rows of the tables tests reach, and for each table which they do not.
fn draw_rows(tables: &[Rows], each: bool) -> String {
    let all: usize = tables.iter().map(|rows| rows.all).sum();
    if all == 0 {
        return String::new();
    }
    let unused: usize = tables.iter().map(|rows| rows.unused.len()).sum();
    let how = if each { "" } else { "; --rows names the others" };
    let mut text = format!(
        "tests give {} of the {all} options that the tables know of these programs{how}\n",
        all - unused
    );
    for Rows { table, all, unused, .. } in tables.iter().filter(|rows| each && !rows.unused.is_empty()) {
        let (given, names) = (all - unused.len(), unused.join(", "));
        text.push_str(&format!("  {table}: {given} of {all}, not {names}\n"));
    }
    text
}

fn rows_to_json(rows: &Rows) -> Value {
    json!({ "table": rows.table, "options": rows.all, "unused": rows.unused })
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

/// Shows what is most likely not meant.
pub(crate) fn lint(args: &PolicyLint, as_json: bool) -> Result<ExitCode, Failure> {
    let findings = load(Some(&args.file))?.lint();
    if as_json {
        let findings: Vec<Value> = findings
            .iter()
            .map(|finding| json!({ "line": finding.line, "kind": finding.kind, "message": finding.message }))
            .collect();
        print_json(&json!({ "findings": findings }))?;
    } else if findings.is_empty() {
        print(&format!("{}: nothing to look at\n", args.file.display()))?;
    } else {
        let lines = findings.iter().map(|finding| {
            let place = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
            format!("{}{place}: {} ({})\n", args.file.display(), plain(&finding.message), finding.kind)
        });
        print(&lines.collect::<String>())?;
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NO) })
}

/// Shows the lines that two rulebooks judge differently.
pub(crate) fn diff(args: PolicyDiff, as_json: bool) -> Result<ExitCode, Failure> {
    let (old, new) = (load(Some(&args.old))?, load(Some(&args.new))?);
    let mut bytes = Vec::new();
    let read = match &args.lines {
        Some(file) => std::fs::read(file).map(|read| bytes = read),
        None => io::stdin().read_to_end(&mut bytes).map(drop),
    };
    read.map_err(|error| Failure::new(format!("the command lines cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        Failure::new(format!("the command lines are not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
    })?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let changes = old.changes(&new, &principal(args.user, args.role), lines);
    if as_json {
        let changes: Vec<Value> = changes
            .iter()
            .map(|change| json!({ "command": change.line, "before": change.before, "after": change.after }))
            .collect();
        print_json(&json!({ "changes": changes }))?;
    } else {
        let lines = changes.iter().map(|change| {
            format!("{} -> {}  {}\n", plain(&change.before), plain(&change.after), plain(&change.line))
        });
        print(&lines.collect::<String>())?;
    }
    Ok(if changes.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NO) })
}

/// Says in words what a program may do.
pub(crate) fn explain(args: &PolicyExplain, as_json: bool) -> Result<ExitCode, Failure> {
    let explanation = load(args.rulebook.as_deref())?.explain(&args.program);
    if as_json {
        print_json(&json!({ "program": args.program, "explanation": explanation }))?;
    } else {
        print(&format!("{}\n", plain_lines(explanation.trim_end())))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the JSON Schema of rulebooks.
pub(crate) fn schema() -> Result<ExitCode, Failure> {
    print(&format!("{}\n", Rulebook::schema().trim_end()))?;
    Ok(ExitCode::SUCCESS)
}
