//! Judges the steps of a line, and follows where `cd` may have led.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use portcullis_core::{
    Added, ChangeDirectory, Command, Connector, Denial, DenialCode, FoundEffect, Limits, Pipeline,
    ProgramName, Span, Step, ViewPath,
};

use super::asker::Asker;
use super::path::Target;
use crate::code::{
    ENV_VALUE, PATH_LEAVES_WORKSPACE, PATH_PROTECTED, PATH_TOO_MANY_DIRECTORIES, SYNTAX_CHANGE_DIRECTORY,
    denial,
};
use crate::language::{Line, LineCommand, LineStep};
use crate::rulebook::{Book, Rule};

/// A line may be in no more directories than this.
const MAX_DIRECTORIES: usize = 16;

/// Where a line may be, and how what ran last ended there.
type State = (ViewPath, End);

/// How a step may end. A `cd` that fails ends the line, unless `||` stands behind it: what follows was judged for where
/// it leads, and runs nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Succeeded,
    Failed,
    Nowhere,
}

/// One judgement: what it works with and what it has found.
pub(super) struct Judge<'a> {
    pub(super) book: &'a Book,
    pub(super) asker: &'a Asker<'a>,
    pub(super) text: &'a str,
    /// The caps, narrowed by the rules so far.
    pub(super) limits: Limits,
    pub(super) denials: Vec<Denial>,
    /// The programs that who asks may run, once a denial has wanted them.
    pub(super) allowed: OnceCell<Vec<String>>,
    /// What the refused commands would do.
    pub(super) effects: Vec<FoundEffect>,
    /// What the permit adds to commands, each once.
    pub(super) added: Vec<Added>,
    /// Names of the rules that allowed something, each once.
    pub(super) rules: Vec<String>,
    /// The programs of the line, each once.
    pub(super) programs: Vec<ProgramName>,
    /// For each command, the variables that its rule allows; kept when the submission sets some.
    pub(super) variables: Option<Vec<BTreeSet<String>>>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(
        book: &'a Book,
        asker: &'a Asker<'a>,
        limits: Limits,
        text: &'a str,
        sets_variables: bool,
    ) -> Self {
        Self {
            book,
            asker,
            text,
            limits,
            denials: Vec::new(),
            allowed: OnceCell::new(),
            effects: Vec::new(),
            added: Vec::new(),
            rules: Vec::new(),
            programs: Vec::new(),
            variables: sets_variables.then(Vec::new),
        }
    }

    /// Judges a line that begins in this directory. Without denials the steps are complete.
    pub(super) fn line(&mut self, line: Line, start: &ViewPath) -> Option<Vec<Step>> {
        let line = self.unwrap_scripts(line)?;
        let mut states: Vec<State> = vec![(start.clone(), End::Succeeded)];
        let mut steps = Vec::with_capacity(line.steps.len());
        let last = line.steps.len().saturating_sub(1);
        for (at, step) in line.steps.into_iter().enumerate() {
            let (running, passed): (Vec<State>, Vec<State>) =
                states.into_iter().partition(|(_, end)| match step.connector {
                    Connector::Always => true,
                    Connector::IfSucceeded => *end == End::Succeeded,
                    Connector::IfFailed => *end != End::Succeeded,
                });
            let running: Vec<State> = match step.connector {
                Connector::Always => running.into_iter().filter(|(_, end)| *end != End::Nowhere).collect(),
                _ => running,
            };
            let directories = unique(running.iter().map(|(directory, _)| directory.clone()));
            let mut next = passed;
            let first = step.commands.first().map_or(Span::new(0, 0), |command| command.span);
            let commands = match change_of_directory(&step) {
                Some(command) => {
                    let target = self.change_directory(command, &directories)?;
                    for directory in &directories {
                        next.push((ViewPath::resolve(directory, &target.directory), End::Succeeded));
                        next.push((directory.clone(), End::Nowhere));
                    }
                    vec![Command::ChangeDirectory(target)]
                }
                None if at == last => self.pipeline(step.commands, &directories),
                None => {
                    for directory in &directories {
                        next.push((directory.clone(), End::Succeeded));
                        next.push((directory.clone(), End::Failed));
                    }
                    self.pipeline(step.commands, &directories)
                }
            };
            states = unique(next.into_iter());
            let places = unique(states.iter().map(|(directory, _)| directory.clone()));
            if places.len() > MAX_DIRECTORIES {
                let message = format!(
                    "`cd` could lead to more than {MAX_DIRECTORIES} directories, which is not allowed"
                );
                self.denials.push(denial(PATH_TOO_MANY_DIRECTORIES, first, "cd", message));
                return None;
            }
            steps.push(Step { connector: step.connector, pipeline: Pipeline { commands } });
        }
        Some(steps)
    }

    fn pipeline(&mut self, commands: Vec<LineCommand>, directories: &[ViewPath]) -> Vec<Command> {
        let mut judged = Vec::with_capacity(commands.len());
        for command in commands {
            if is_change_of_directory(&command) {
                let mut denial = denial(
                    SYNTAX_CHANGE_DIRECTORY,
                    command.span,
                    "cd",
                    "`cd` in a pipeline is not allowed: it would change nothing",
                );
                denial.suggestion = Some("write it as a step of its own: `cd DIRECTORY && …`".into());
                self.denials.push(denial);
            } else if let Some(simple) = self.command(command, directories) {
                judged.push(Command::Simple(Box::new(simple)));
            }
        }
        judged
    }

    /// Judges a `cd` for every directory that the line may be in. `None` when it is denied: then nobody knows where
    /// the rest of the line would run.
    fn change_directory(
        &mut self,
        command: &LineCommand,
        directories: &[ViewPath],
    ) -> Option<ChangeDirectory> {
        let before = self.denials.len();
        let Some(rule) = self.allowing("cd") else {
            let denial = self.not_allowed("cd", command.span);
            self.denials.push(denial);
            return None;
        };
        let mut refuse = |code: DenialCode, span: Span, message: String, suggestion: &str| {
            let mut denial = denial(code, span, "cd", message);
            denial.suggestion = Some(suggestion.to_owned());
            self.denials.push(denial);
        };
        if !command.redirections.is_empty() || !command.assignments.is_empty() {
            let message = "`cd` with redirections or assignments is not allowed".to_owned();
            refuse(SYNTAX_CHANGE_DIRECTORY, command.span, message, "write `cd DIRECTORY` alone");
        }
        let mut operands = command.words.get(1..).unwrap_or_default();
        if let Some((first, rest)) = operands.split_first()
            && first.as_literal() == Some("--")
        {
            operands = rest;
        }
        let target = match operands {
            [one] => one,
            [] => {
                let message = "`cd` without a directory is not allowed: it leaves the workspace".to_owned();
                refuse(PATH_LEAVES_WORKSPACE, command.span, message, "write the directory");
                return None;
            }
            [_, second, ..] => {
                let message = "`cd` takes one directory and nothing else".to_owned();
                refuse(SYNTAX_CHANGE_DIRECTORY, second.span, message, "write `cd DIRECTORY`");
                return None;
            }
        };
        let Some(directory) = target.as_literal().filter(|text| !text.is_empty()) else {
            let message = "`cd` to a pattern or to nothing is not allowed".to_owned();
            refuse(SYNTAX_CHANGE_DIRECTORY, target.span, message, "write the directory's name");
            return None;
        };
        if directory.starts_with('-') {
            let message = format!("`cd {directory}` is not allowed");
            refuse(
                SYNTAX_CHANGE_DIRECTORY,
                target.span,
                message,
                "write the directory's name, with `./` before a dash",
            );
            return None;
        }
        for from in directories {
            let to = Target::literal(from, directory);
            let place = self.asker.protected(self.book).find(|place| to.may_be_in(place));
            let (code, why) = match place {
                Some(place) => (PATH_PROTECTED, format!("`{place}` is protected")),
                None if !to.is_in(&self.book.workspace) => {
                    (PATH_LEAVES_WORKSPACE, format!("it leaves the workspace `{}`", self.book.workspace))
                }
                None => continue,
            };
            let message = format!("`cd {directory}` is not allowed: {why}");
            self.denials.push(denial(code, target.span, directory, message));
            break;
        }
        (self.denials.len() == before).then(|| {
            self.note_rule(&rule);
            ChangeDirectory { directory: directory.to_owned(), span: command.span }
        })
    }

    /// Whether every command of the line may be run with this variable.
    pub(super) fn variable_is_allowed_everywhere(&self, name: &str) -> bool {
        self.book.environment.contains(name)
            || self.asker.may_set(name)
            || self.variables.as_ref().is_some_and(|commands| {
                !commands.is_empty() && commands.iter().all(|allowed| allowed.contains(name))
            })
    }

    /// Refuses a value that makes a program read a file it should not: `TZ=/etc/shadow` is a path.
    pub(super) fn value_denial(&self, name: &str, value: &str, span: Span) -> Option<Denial> {
        let refuse = |code: DenialCode, why: String| {
            let message = format!("the value `{}` of `{name}` is not allowed: {why}", value.escape_debug());
            Some(denial(code, span, name, message))
        };
        if value.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n')) {
            return refuse(ENV_VALUE, "it holds a control character".into());
        }
        let path = value.trim_start_matches(':');
        let is_locale = name == "LANG" || name == "LANGUAGE" || name.starts_with("LC_");
        if is_locale && path.contains('/') || path.split('/').any(|part| part == "..") {
            return refuse(ENV_VALUE, "it leads to a file".into());
        }
        if path.starts_with('/') {
            let root = ViewPath::root();
            let target = Target::literal(&root, path);
            if let Some(place) = self.asker.protected(self.book).find(|place| target.may_be_in(place)) {
                return refuse(PATH_PROTECTED, format!("`{place}` is protected"));
            }
        }
        None
    }

    /// Remembers a rule that allowed something, and narrows the limits to its own.
    pub(super) fn note_rule(&mut self, rule: &Rule) {
        if !self.rules.contains(&rule.name) {
            self.rules.push(rule.name.clone());
        }
        rule.narrow(&mut self.limits);
    }
}

fn is_change_of_directory(command: &LineCommand) -> bool {
    command.words.first().and_then(|word| word.as_literal()) == Some("cd")
}

/// Returns the `cd` that is a step of its own.
fn change_of_directory(step: &LineStep) -> Option<&LineCommand> {
    match step.commands.as_slice() {
        [command] if is_change_of_directory(command) => Some(command),
        _ => None,
    }
}

fn unique<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = Vec::new();
    for item in items {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}
