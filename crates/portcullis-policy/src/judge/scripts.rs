//! Unwraps `sh -c '…'`: the script is judged, and carried out, as commands of the line.

use portcullis_core::{Connector, Denial, Span};

use super::line::Judge;
use crate::code::{SYNTAX_NESTED, SYNTAX_TOO_MANY, denial};
use crate::effects;
use crate::language::{Line, LineCommand, LineStep, MAX_COMMANDS, parse};

/// Scripts in scripts are followed no deeper.
const MAX_DEPTH: usize = 4;

/// Shells whose one literal script is judged in their place.
const SHELLS: [&str; 3] = ["sh", "bash", "dash"];

impl Judge<'_> {
    /// Replaces every shell with a literal script, which a rule allows to be run, by the script's commands. `None` when
    /// that cannot be done; the denials say why.
    pub(super) fn unwrap_scripts(&mut self, line: Line) -> Option<Line> {
        let is_shell = |command: &LineCommand| {
            command
                .words
                .first()
                .and_then(|word| word.as_literal())
                .is_some_and(|name| SHELLS.contains(&name))
        };
        if !line.steps.iter().flat_map(|step| &step.commands).any(is_shell) {
            return Some(line);
        }
        let before = self.denials.len();
        let line = self.unwrap_to(line, 0);
        let count: usize = line.steps.iter().map(|step| step.commands.len()).sum();
        if count > MAX_COMMANDS {
            let message =
                format!("the line has more than {MAX_COMMANDS} commands, those of its scripts included");
            self.denials.push(denial(SYNTAX_TOO_MANY, Span::new(0, self.text.len()), "line", message));
        }
        (self.denials.len() == before).then_some(line)
    }

    fn unwrap_to(&mut self, line: Line, depth: usize) -> Line {
        let steps = line.steps.len();
        let connectors: Vec<_> = line.steps.iter().map(|step| step.connector).collect();
        let mut unwrapped = Vec::with_capacity(steps);
        for (at, step) in line.steps.into_iter().enumerate() {
            let is_last = at + 1 == steps;
            let stands_apart = step.connector == Connector::Always
                && connectors.get(at + 1).is_none_or(|next| *next == Connector::Always);
            let alone = step.commands.len() == 1;
            let connector = step.connector;
            let mut commands = Vec::with_capacity(step.commands.len());
            let mut following = Vec::new();
            for command in step.commands {
                let script = match self.script_of(&command, depth) {
                    Ok(script) => script,
                    Err(denial) => {
                        self.denials.push(*denial);
                        continue;
                    }
                };
                let Some(script) = script else {
                    commands.push(command);
                    continue;
                };
                let changes_directory = script
                    .steps
                    .iter()
                    .flat_map(|step| &step.commands)
                    .any(|one| one.words.first().and_then(|word| word.as_literal()) == Some("cd"));
                let whole = script.steps.len() > 1 || changes_directory;
                if whole && !(alone && stands_apart && (is_last || !changes_directory)) {
                    let mut denial = denial(
                        SYNTAX_NESTED,
                        command.span,
                        "script",
                        "a script of several steps is not allowed as part of a pipeline or of `&&` and `||`: no shell runs it",
                    );
                    denial.suggestion = Some("write its commands into the line itself".into());
                    self.denials.push(denial);
                    continue;
                }
                let mut inner = script.steps.into_iter();
                if let Some(first) = inner.next() {
                    commands.extend(first.commands);
                }
                following.extend(inner);
            }
            if !commands.is_empty() {
                unwrapped.push(LineStep { connector, commands });
            }
            unwrapped.append(&mut following);
        }
        Line { steps: unwrapped }
    }

    /// Returns the script of a command that is a shell with one, unwrapped itself; `None` for other commands.
    fn script_of(&mut self, command: &LineCommand, depth: usize) -> Result<Option<Line>, Box<Denial>> {
        let Some((name, arguments)) = command.words.split_first() else { return Ok(None) };
        let Some(program) = name.as_literal().filter(|name| SHELLS.contains(name)) else { return Ok(None) };
        let Ok(found) = effects::effects(program, arguments) else { return Ok(None) };
        let Some(rule) = self.allowing_script(program, &found) else {
            // The judge of commands says that it is not allowed.
            return Ok(None);
        };
        let [effects::Inner { script: Some(script), .. }] = found.inner.as_slice() else { return Ok(None) };
        let nested = |message: &str, suggestion: &str| {
            let mut denial = denial(SYNTAX_NESTED, command.span, "script", message);
            denial.suggestion = Some(suggestion.to_owned());
            Err(Box::new(denial))
        };
        if depth >= MAX_DEPTH {
            return nested(
                "scripts in scripts are not allowed so deep",
                "write the commands into the line itself",
            );
        }
        if !command.redirections.is_empty() || !command.assignments.is_empty() {
            return nested(
                "redirections and assignments around a script are not allowed: no shell runs it",
                "write them at the commands in the script",
            );
        }
        let mut line = parse(script).map_err(|mut inner| {
            inner.message = format!("in the script: {}", inner.message);
            inner.span = command.span;
            inner
        })?;
        // The script's words stand in the line where the shell's command stands.
        for inner in line.steps.iter_mut().flat_map(|step| &mut step.commands) {
            inner.span = command.span;
            inner.words.iter_mut().for_each(|word| word.span = command.span);
            inner.redirections.iter_mut().for_each(|one| one.span = command.span);
            inner.assignments.iter_mut().for_each(|one| one.span = command.span);
        }
        self.note_rule(&rule);
        Ok(Some(self.unwrap_to(line, depth + 1)))
    }
}
