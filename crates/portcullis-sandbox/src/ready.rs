//! What commands are started with, made by the cell before the execution has a process.
//!
//! A line is *plain* when nothing of it waits for what it does itself: no pattern to expand, no file to open, no `cd`.
//! All of a plain line can be made ready, and its processes need no memory of their own before they become programs.

use std::ffi::CString;
use std::rc::Rc;

use portcullis_core::{Command, Plan, RedirectionTarget, SimpleCommand};

use crate::landlock::Ruleset;
use crate::sys::Strings;

/// What one command is started with.
#[derive(Debug)]
pub(crate) struct Ready {
    /// Its words; `None` where a pattern waits for the files that there will be.
    pub(crate) argv: Option<Strings>,
    pub(crate) environment: Rc<Strings>,
    /// Its ruleset, where that can be known already.
    pub(crate) ruleset: Option<Rc<Ruleset>>,
}

/// Makes the commands of a line ready, in order; `rulesets` are those that are there already.
pub(crate) fn commands(plan: &Plan, user_name: &str, rulesets: Vec<Option<Rc<Ruleset>>>) -> Vec<Ready> {
    let variables = variables(plan, user_name);
    let usual = Rc::new(strings(&variables));
    let mut rulesets = rulesets.into_iter();
    let ready = |command: &SimpleCommand| Ready {
        argv: literal_words(command).map(Strings::new),
        environment: match command.assignments.as_slice() {
            [] => Rc::clone(&usual),
            assignments => {
                let mut variables = variables.clone();
                for (name, value) in assignments {
                    set(&mut variables, name, value);
                }
                Rc::new(strings(&variables))
            }
        },
        ruleset: rulesets.next().flatten(),
    };
    plan.script.commands().map(ready).collect()
}

/// Whether all of the line could be made ready.
pub(crate) fn is_plain(plan: &Plan, ready: &[Ready], needs_rulesets: bool) -> bool {
    let commands = || plan.script.steps.iter().flat_map(|step| &step.pipeline.commands);
    let opens_nothing = commands().all(|command| match command {
        Command::Simple(simple) => !opens_files(simple),
        Command::ChangeDirectory(_) => false,
    });
    opens_nothing
        && ready.iter().all(|ready| ready.argv.is_some() && (ready.ruleset.is_some() || !needs_rulesets))
}

/// Whether a redirection of the command opens a file, which can wait for another command: see fifo(7).
pub(crate) fn opens_files(command: &SimpleCommand) -> bool {
    command.redirections.iter().any(|redirection| match redirection.target {
        RedirectionTarget::Duplicate(_) => false,
        RedirectionTarget::Read(_) | RedirectionTarget::Truncate(_) | RedirectionTarget::Append(_) => true,
    })
}

/// Returns the words of a command without patterns. One with a NUL in it, which no verdict allows, has none.
fn literal_words(command: &SimpleCommand) -> Option<Vec<CString>> {
    let mut argv = vec![CString::new(command.program.as_str()).ok()?];
    for word in &command.arguments {
        argv.push(CString::new(word.as_literal()?.as_bytes()).ok()?);
    }
    Some(argv)
}

/// The variables of every command. Nothing of the service's own environment is among them.
fn variables(plan: &Plan, user_name: &str) -> Vec<(String, String)> {
    let home = format!("/home/{user_name}");
    let mut variables: Vec<(String, String)> = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("HOME", home.as_str()),
        ("USER", user_name),
        ("LOGNAME", user_name),
        ("LANG", "C.UTF-8"),
        ("PWD", plan.working_directory.as_str()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    for (name, value) in &plan.environment {
        set(&mut variables, name, value);
    }
    variables
}

fn set(variables: &mut Vec<(String, String)>, name: &str, value: &str) {
    variables.retain(|(known, _)| known != name);
    variables.push((name.to_owned(), value.to_owned()));
}

fn strings(variables: &[(String, String)]) -> Strings {
    let lines = variables.iter().filter_map(|(name, value)| CString::new(format!("{name}={value}")).ok());
    Strings::new(lines.collect())
}
