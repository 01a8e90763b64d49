//! Judges by a rulebook on this machine: no service is asked.

mod tools;

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufWriter, Write as _};
use std::path::Path;
use std::process::ExitCode;

use portcullis_api::AddedView;
use portcullis_core::{Limits, Policy as _, Principal, Submission, Verdict};
use portcullis_policy::batch::{Answer, Question, answer_json};
use portcullis_policy::{Rulebook, RulebookPolicy};
use serde_json::{Value, json};

use crate::args::PolicyCheck;
use crate::denial;
use crate::failure::{EXIT_NO, Failure};
use crate::line;
use crate::show::{self, print, print_json};

pub(crate) use tools::{diff, explain, lint, schema, test};

/// What the service allows when nothing is configured.
const DEFAULT_ALLOWLIST: [&str; 6] = ["ls", "echo", "cat", "grep", "find", "pwd"];

/// Judges one line, or a batch.
pub(crate) fn check(args: PolicyCheck, as_json: bool) -> Result<ExitCode, Failure> {
    let policy = RulebookPolicy::new(load(args.rulebook.as_deref())?, Limits::default());
    if args.batch {
        return batch(&policy);
    }
    let line = line::of(args.line, args.words)?;
    let verdict = policy.judge(&principal(args.user, args.role), &Submission::of(&line));
    let code =
        if matches!(verdict, Verdict::Permit(..)) { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NO) };
    if as_json {
        let answer = Answer::of(Value::Null, &verdict);
        print_json(&json!(answer))?;
        return Ok(code);
    }
    match verdict {
        Verdict::Permit(_, grant) => {
            let added: Vec<AddedView> = grant.added.into_iter().map(AddedView::from).collect();
            print(&show::allowed_by(&grant.rules, &added))?;
        }
        Verdict::Deny(denial) => print(&denial::draw(&line, &denial))?,
    }
    Ok(code)
}

/// Loads a file, or the reference rulebook of this name when there is no such file.
fn load(file: Option<&Path>) -> Result<Rulebook, Failure> {
    let Some(file) = file else {
        return Rulebook::from_allowlist(DEFAULT_ALLOWLIST)
            .map_err(|error| Failure::new(format!("the default allowlist is refused: {error}")));
    };
    let shipped = file.to_str().filter(|_| !file.exists()).and_then(Rulebook::reference);
    match shipped {
        Some(rulebook) => Ok(rulebook),
        None => Rulebook::parse(&read(file)?).map_err(|error| {
            Failure::new(format!("the rulebook `{}` is refused as a whole:\n{error}", file.display()))
        }),
    }
}

fn principal(user: String, roles: Vec<String>) -> Principal {
    Principal {
        id: user.clone(),
        name: user,
        roles: roles.into_iter().collect(),
        permissions: BTreeSet::new(),
    }
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
