//! What went wrong on our side, as a person is told it.

use std::fmt::Write as _;
use std::process::ExitCode;

use portcullis_api::{Problem, ProblemCode};

use crate::http::HttpError;
use crate::terminal::{Colour, plain, plain_lines};

/// Portcullis itself failed or refused: no command can be blamed for this exit code (as with `timeout(1)`).
pub(crate) const EXIT_FAILED: u8 = 125;
/// This program was used wrongly (clap's own code for it).
const EXIT_USAGE: u8 = 2;
/// The answer is no: refused by the rules, or a check that did not pass.
pub(crate) const EXIT_NO: u8 = 1;

/// Why a command of ours did not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What, in one sentence; its own lines if it has several.
    message: String,
    /// How to mend it, each in one sentence.
    hints: Vec<String>,
    exit: u8,
}

impl Failure {
    /// Describes a failure.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hints: Vec::new(), exit: EXIT_FAILED }
    }

    /// Describes a wrong use of this program.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: EXIT_USAGE, ..Self::new(message) }
    }

    /// Adds how to mend it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Returns what happened, without the hints.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Returns how to mend it.
    #[cfg(test)]
    pub(crate) fn hints(&self) -> &[String] {
        &self.hints
    }

    /// Writes it for a person.
    pub(crate) fn draw(&self, colour: Colour) -> String {
        let mut text = format!("{} {}\n", colour.paint("1;31", "error:"), plain_lines(&self.message));
        for hint in &self.hints {
            // Writing to a string does not fail.
            writeln!(text, "{} {}", colour.paint("1;36", "hint:"), plain(hint)).ok();
        }
        text
    }

    /// Prints it and returns the exit code that goes with it.
    pub(crate) fn report(&self, colour: Colour) -> ExitCode {
        eprint!("{}", self.draw(colour));
        ExitCode::from(self.exit)
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        let failure = Self::new(error.to_string());
        match error {
            HttpError::Connect { .. } => failure
                .hint("is the service running? `portcullis-server` starts it")
                .hint("is it elsewhere? name it with `--url http://HOST:PORT` or PORTCULLIS_URL"),
            HttpError::Lost { .. } | HttpError::Deadline { .. } => failure
                .hint("the service's log says what it was doing; `portcullis list` shows what was accepted"),
            HttpError::TooLarge { .. } => failure.hint("is this a Portcullis service?"),
            HttpError::Request(_) => {
                failure.hint("is there a line break or another odd character in the token file?")
            }
        }
    }
}

/// Turns a problem that the service answered into a failure, with what helps in such a case.
pub(crate) fn of_problem(problem: &Problem, retry_after: Option<&str>) -> Failure {
    let mut failure = Failure::new(problem.to_string());
    for member in &problem.errors {
        let line = format!("`{}` {}", member.pointer, member.detail);
        if !problem.error.contains(&line) {
            failure = failure.hint(line);
        }
    }
    if let Some(hint) = problem.known_code().and_then(hint_for) {
        failure = failure.hint(hint);
    }
    match retry_after {
        Some(seconds) => failure.hint(format!("try again in {seconds} s")),
        None => failure,
    }
}

fn hint_for(code: ProblemCode) -> Option<&'static str> {
    Some(match code {
        ProblemCode::AuthMissing => {
            "no token was found: name its file with `--token-file FILE` or PORTCULLIS_TOKEN_FILE"
        }
        ProblemCode::AuthInvalidToken => {
            "the token that was sent is not known there: sign in again, or name another with `--token-file FILE`"
        }
        ProblemCode::AuthForbidden => "an administrator can give you the permission that is missing",
        ProblemCode::ExecutionNotFound | ProblemCode::ExecutionExpired => {
            "`portcullis list` shows your executions"
        }
        ProblemCode::ExecutionIdTaken => "leave `--id` out, and the execution gets an id of its own",
        ProblemCode::RequestHost => "use the name or address that the service listens on",
        ProblemCode::RouteUnknown | ProblemCode::RouteMethod => {
            "this service does not offer that; is it older than this client?"
        }
        ProblemCode::Internal | ProblemCode::StoreUnavailable => "the service's log says more",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_happened_and_how_to_mend_it() {
        let error = HttpError::Connect { url: "http://x".into(), problem: "Connection refused".into() };
        let drawn = Failure::from(error).draw(Colour::Never);
        assert!(drawn.starts_with("error: cannot connect to `http://x`: Connection refused\n"), "{drawn}");
        assert!(drawn.contains("hint: is the service running? `portcullis-server` starts it\n"), "{drawn}");
    }

    #[test]
    fn what_a_service_says_cannot_drive_the_terminal() {
        let drawn = Failure::new("a\x1b[2Jb").hint("c\x07").draw(Colour::Never);
        assert_eq!(drawn, "error: a\\x1b[2Jb\nhint: c\\x07\n");
    }

    #[test]
    fn a_problem_keeps_its_code_and_names_the_wrong_members() {
        let mut problem = Problem::new(ProblemCode::RequestInvalid, "members are wrong", "urn:x");
        problem.errors.push(portcullis_api::InvalidMember::new("/timeout", "is 0"));
        let failure = of_problem(&problem, Some("3"));
        assert_eq!(failure.message(), "members are wrong (request/invalid)");
        assert_eq!(failure.hints(), ["`/timeout` is 0", "try again in 3 s"]);
    }
}
