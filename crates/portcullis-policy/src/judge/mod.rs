//! The judge: a parsed line, the effects of its commands and a rulebook make a verdict.

mod asker;
mod bounds;
mod command;
mod grants;
mod line;
mod path;
mod scripts;

use portcullis_core::{
    AllowedProgram, Denial, DenialCode, FoundEffect, Grant, Limits, Permit, Plan, Policy, Principal,
    ProgramName, Span, Submission, Verdict, ViewPath,
};

use crate::Rulebook;
use crate::code::{
    ENV_VARIABLE, LIMIT_TIMEOUT, PATH_LEAVES_WORKSPACE, PATH_PROTECTED, USER_DISABLED, USER_UNKNOWN, denial,
};
use crate::language::parse;
use crate::rulebook::{Book, UnknownUsers};

use asker::Asker;
use line::Judge;

/// Judges by a rulebook, within the service's own limits.
#[derive(Debug, Clone)]
pub struct RulebookPolicy {
    rulebook: Rulebook,
    caps: Limits,
}

impl RulebookPolicy {
    /// Returns the policy of this rulebook; no permit exceeds the caps. A rule's limits and a submission's
    /// `timeout` narrow them; a `timeout` beyond the cap is the cap.
    #[must_use]
    pub fn new(rulebook: Rulebook, caps: Limits) -> Self {
        Self { rulebook, caps }
    }

    /// Returns the rulebook.
    #[must_use]
    pub fn rulebook(&self) -> &Rulebook {
        &self.rulebook
    }

    fn decide(&self, principal: &Principal, submission: &Submission) -> Result<Verdict, Box<Denial>> {
        let book = &*self.rulebook.book;
        let asker = admit(book, principal, &submission.command)?;
        if submission.timeout.is_some_and(|timeout| timeout.is_zero()) {
            let message = "a timeout of zero is not allowed: nothing could run";
            return Err(Box::new(denial(LIMIT_TIMEOUT, Span::new(0, 0), "timeout", message)));
        }
        let line = parse(&submission.command)?;
        let start = working_directory(book, &asker, submission.working_directory.as_deref())?;
        let mut judge =
            Judge::new(book, &asker, self.caps.clone(), &submission.command, !submission.env.is_empty());
        let steps = judge.line(line, &start);
        self.variables(&mut judge, submission);
        let workspace = book.workspace.clone();
        let Some(steps) = steps.filter(|_| judge.denials.is_empty()) else {
            return Err(together(judge.denials, judge.effects));
        };
        let mut limits = judge.limits;
        if let Some(timeout) = submission.timeout {
            limits.wall_time = limits.wall_time.min(timeout);
        }
        let plan = Plan {
            script: portcullis_core::Script { steps },
            working_directory: start,
            workspace,
            environment: submission.env.clone().into_iter().collect(),
            stdin: submission.stdin.clone().map(String::into_bytes),
            limits,
            protected: asker.protected(book).cloned().collect(),
        };
        let grant = Grant { rules: judge.rules, programs: judge.programs, added: judge.added };
        Ok(Verdict::Permit(Box::new(Permit::grant(plan)), grant))
    }

    /// Checks the submission's own variables: each must be allowed to every command of the line.
    fn variables(&self, judge: &mut Judge<'_>, submission: &Submission) {
        for (name, value) in &submission.env {
            let allowed = judge.variable_is_allowed_everywhere(name);
            if !allowed {
                let message = format!("the variable `{name}` is not allowed for every command of the line");
                judge.denials.push(denial(ENV_VARIABLE, Span::new(0, 0), name.clone(), message));
            } else if let Some(denial) = judge.value_denial(name, value, Span::new(0, 0)) {
                judge.denials.push(denial);
            }
        }
    }
}

impl Policy for RulebookPolicy {
    fn judge(&self, principal: &Principal, submission: &Submission) -> Verdict {
        self.decide(principal, submission).unwrap_or_else(Verdict::Deny)
    }

    fn programs(&self, submission: &Submission) -> Vec<ProgramName> {
        let Ok(line) = parse(&submission.command) else { return Vec::new() };
        let mut programs = Vec::new();
        for command in line.steps.iter().flat_map(|step| &step.commands) {
            let named = command.words.first().and_then(|word| ProgramName::parse(word.as_literal()?));
            programs.extend(named.filter(|name| !programs.contains(name)));
        }
        programs
    }

    fn allowed(&self, principal: &Principal) -> Vec<AllowedProgram> {
        let book = &*self.rulebook.book;
        admit(book, principal, "").map(|asker| asker.allowed(book, &self.caps)).unwrap_or_default()
    }
}

/// Finds out whether the principal may use the rulebook at all.
fn admit<'a>(book: &'a Book, principal: &'a Principal, line: &str) -> Result<Asker<'a>, Box<Denial>> {
    let refuse = |code: DenialCode, message: String| {
        Err(Box::new(denial(code, Span::new(0, line.len()), principal.name.clone(), message)))
    };
    let user = book.users.get(&principal.name);
    match user {
        Some(personal) if personal.disabled => {
            let reason = personal.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
            refuse(
                USER_DISABLED,
                format!("the user `{}` is disabled and not allowed to run anything{reason}", principal.name),
            )
        }
        None if book.unknown_users == UnknownUsers::Deny => refuse(
            USER_UNKNOWN,
            format!(
                "the user `{}` is not listed in the rulebook and not allowed to run anything",
                principal.name
            ),
        ),
        _ => Ok(Asker::new(book, principal, user)),
    }
}

/// Resolves where the line starts.
fn working_directory(book: &Book, asker: &Asker<'_>, wanted: Option<&str>) -> Result<ViewPath, Box<Denial>> {
    let Some(wanted) = wanted else { return Ok(book.workspace.clone()) };
    let refuse = |code: DenialCode, what: &str| {
        let message = format!("the working directory `{}` is not allowed: {what}", wanted.escape_debug());
        Err(Box::new(denial(code, Span::new(0, 0), wanted, message)))
    };
    if wanted.chars().any(char::is_control) {
        return refuse(PATH_LEAVES_WORKSPACE, "it holds a control character");
    }
    let directory = ViewPath::resolve(&book.workspace, wanted);
    if !directory.is_beneath(&book.workspace) {
        return refuse(PATH_LEAVES_WORKSPACE, &format!("it is not in the workspace `{}`", book.workspace));
    }
    if asker.protected(book).any(|place| directory.is_beneath(place)) {
        return refuse(PATH_PROTECTED, "it is protected");
    }
    Ok(directory)
}

/// A denial tells of no more than this.
const MAX_DENIALS: usize = 64;

/// Makes one denial of all: the first in the line, with the others behind it, each once, and what was found.
fn together(denials: Vec<Denial>, effects: Vec<FoundEffect>) -> Box<Denial> {
    let mut unique: Vec<Denial> = Vec::with_capacity(denials.len());
    for denial in denials.into_iter().take(MAX_DENIALS) {
        let same = |one: &Denial| {
            one.code == denial.code && one.span == denial.span && one.subject == denial.subject
        };
        if !unique.iter().any(same) {
            unique.push(denial);
        }
    }
    unique.sort_by_key(|denial| denial.span.start);
    let mut unique = unique.into_iter();
    let mut first = unique.next().unwrap_or_else(|| {
        // Nothing was permitted and nothing says why: an error of ours, which denies.
        denial(crate::code::PROGRAM_NOT_ALLOWED, Span::new(0, 0), "line", "the line is not allowed")
    });
    first.further = unique.collect();
    first.effects = effects;
    Box::new(first)
}
