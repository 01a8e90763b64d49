//! Judges one simple command, and the commands that it runs.

use std::borrow::Cow;
use std::collections::HashSet;

use portcullis_core::{
    Added, Denial, DenialCode, FoundEffect, ProgramName, Redirection, RedirectionTarget, RuleRef,
    SimpleCommand, Span, ViewPath, Word,
};

use super::bounds::Bounds;
use super::line::Judge;
use super::path::Target;
use crate::code::{
    ENV_ASSIGNMENT, OPERATION_EXECUTE, OPTION_NOT_ALLOWED, OPTION_UNKNOWN, OPTION_USAGE,
    PATH_LEAVES_WORKSPACE, PROGRAM_NOT_ALLOWED, PROGRAM_NOT_UNDERSTOOD, PROGRAM_PATH, RULE_DENIED,
    SCRIPT_NOT_UNDERSTOOD, SUBCOMMAND_NOT_ALLOWED, SYNTAX_NESTED, USER_DENIED, denial,
};
use crate::effects::{self, EffectKind, Effects, Inner, Placeholder, Unknown};
use crate::language::LineCommand;
use crate::nearest::nearest;
use crate::rulebook::{Book, Bound, Rule, WriteBound};

/// A denial tells of no more effects than this.
const MAX_EFFECTS: usize = 64;

/// Wrappers in wrappers are followed no deeper.
const MAX_DEPTH: usize = 8;

/// One command to judge: written on the line, or run by a wrapper on it.
#[derive(Clone, Copy)]
struct Call<'w> {
    words: &'w [Word],
    span: Span,
    directories: &'w [ViewPath],
    /// Set when a wrapper runs it.
    inner: Option<&'w Inner>,
    assignments: &'w [(String, String, Span)],
    redirections: &'w [Redirection],
    depth: usize,
}

/// What a judged command may do and needs.
#[derive(Debug, Default)]
struct Judged {
    rights: portcullis_core::Rights,
    /// Arguments to add, by the index of the argument they stand before.
    insertions: Vec<(usize, Cow<'static, str>)>,
    environment: Vec<(Cow<'static, str>, Cow<'static, str>)>,
}

impl<'a> Judge<'a> {
    /// Judges a command of the line for every directory it may run in. `None` when it is denied.
    pub(super) fn command(
        &mut self,
        command: LineCommand,
        directories: &[ViewPath],
    ) -> Option<SimpleCommand> {
        let assignments: Vec<_> =
            command.assignments.into_iter().map(|one| (one.name, one.value, one.span)).collect();
        let judged = self.call(Call {
            words: &command.words,
            span: command.span,
            directories,
            inner: None,
            assignments: &assignments,
            redirections: &command.redirections,
            depth: 0,
        })?;
        let mut words = command.words.into_iter();
        let name = words.next()?;
        let program = ProgramName::parse(name.as_literal()?)?;
        if !self.programs.contains(&program) {
            self.programs.push(program.clone());
        }
        self.note_additions(&program, &judged);
        let written = assignments.into_iter().map(|(name, value, _)| (name, value));
        let added =
            judged.environment.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned()));
        Some(SimpleCommand {
            program,
            arguments: with_insertions(words, judged.insertions, name.span),
            assignments: written.chain(added).collect(),
            redirections: command.redirections,
            rights: judged.rights,
            span: command.span,
        })
    }

    /// Remembers what the permit adds to a command, for the verdict to show.
    fn note_additions(&mut self, program: &ProgramName, judged: &Judged) {
        if judged.insertions.is_empty() && judged.environment.is_empty() {
            return;
        }
        let mut insertions: Vec<_> = judged.insertions.iter().collect();
        insertions.sort_by_key(|(at, _)| *at);
        let environment = judged.environment.iter();
        let added = Added {
            program: program.clone(),
            arguments: insertions.into_iter().map(|(_, text)| text.to_string()).collect(),
            environment: environment.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        };
        if !self.added.contains(&added) {
            self.added.push(added);
        }
    }

    /// Remembers what a refused command would do.
    fn note_effects(&mut self, found: &Effects, call: Call<'_>) {
        let arguments = call.words.get(1..).unwrap_or_default();
        for effect in found.list.iter().take(MAX_EFFECTS.saturating_sub(self.effects.len())) {
            let word = effect.argument.and_then(|at| arguments.get(at));
            self.effects.push(FoundEffect {
                kind: effect.kind.name().into(),
                subject: effect.subject.to_string(),
                via: effect.via.to_string(),
                span: word.map_or(call.span, |word| word.span),
            });
        }
    }

    fn deny(&mut self, denial: Denial) -> Option<Judged> {
        self.denials.push(denial);
        None
    }

    /// Judges a call by every rule that may allow it; `None` when it is denied.
    fn call(&mut self, call: Call<'_>) -> Option<Judged> {
        let (name, arguments) = call.words.split_first()?;
        let Some(program) = name.as_literal() else {
            let message = "a pattern in place of a program's name is not allowed";
            return self.deny(denial(PROGRAM_NOT_ALLOWED, name.span, name.to_unmatched(), message));
        };
        if program.contains('/') {
            return self.deny(self.program_by_path(program, name.span));
        }
        if program == "cd" || ProgramName::parse(program).is_none() {
            let message = format!("`{}` is not allowed: it is no program", program.escape_debug());
            return self.deny(denial(PROGRAM_NOT_ALLOWED, name.span, program, message));
        }
        if let Some((entry, reason)) = self.asker.denied(program) {
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            let message = format!("`{program}` is not allowed for the user `{}`{reason}", self.asker.name);
            let mut denial = denial(USER_DENIED, name.span, program, message);
            denial.rule = Some(RuleRef { name: entry.to_owned(), line: None });
            return self.deny(denial);
        }
        let rules = self.rules_allowing(program);
        if rules.is_empty() {
            return self.deny(self.not_allowed(program, name.span));
        }
        let found = match call.inner {
            Some(inner) => effects::inner_effects(inner),
            None => effects::effects(program, arguments),
        };
        let found = match found {
            Ok(found) => found,
            Err(Unknown::Program) => {
                let Some(rule) = rules.iter().find(|rule| !rule.understood) else {
                    let message =
                        format!("`{program}` is not allowed: what its options mean is not known here");
                    return self.deny(denial(PROGRAM_NOT_UNDERSTOOD, name.span, program, message));
                };
                return self.not_understood(call, rule);
            }
            Err(unknown) => return self.deny(not_understood_words(program, &unknown, call)),
        };
        let before = self.denials.len();
        self.deny_rules(program, &found, call);
        self.goes_elsewhere(program, &found, call);
        let mut judged = self.by_some_rule(&rules, program, &found, call).unwrap_or_default();
        self.inner_calls(program, &found, call, &mut judged);
        for helper in &found.helpers {
            judged.rights.execute.extend(ProgramName::parse(helper));
        }
        tidy(&mut judged.rights);
        if self.denials.len() > before {
            self.note_effects(&found, call);
        }
        (self.denials.len() == before).then_some(judged)
    }

    /// Finds the rule that allows the call with all that it does. When none does, the denials of the one that comes
    /// nearest are kept.
    fn by_some_rule(
        &mut self,
        rules: &[Cow<'a, Rule>],
        program: &str,
        found: &Effects,
        call: Call<'_>,
    ) -> Option<Judged> {
        // A rule that says no to the sub-command or an option is passed over without a word, for as long as another one
        // may allow them: what is allowed takes no longer for rules that do not allow it.
        let fits = |rule: &Rule| {
            has_subcommand(rule, found) && found.options.iter().all(|(option, _)| allows_option(rule, option))
        };
        let (fitting, others) =
            (rules.iter().filter(|rule| fits(rule)), rules.iter().filter(|rule| !fits(rule)));
        // A rule that has the sub-command is nearer than one that lacks it, whatever else it denies.
        let mut nearest: Option<(bool, Vec<Denial>)> = None;
        for rule in fitting.chain(others) {
            match self.by_rule(rule, program, found, call) {
                Ok(judged) => {
                    self.note_rule(rule);
                    if let Some(variables) = &mut self.variables {
                        let mut allowed = rule.environment.clone();
                        allowed.extend(self.book.environment.iter().cloned());
                        variables.push(allowed);
                    }
                    return Some(judged);
                }
                Err(denials) => {
                    let rank = (!has_subcommand(rule, found), denials.len());
                    if nearest.as_ref().is_none_or(|(lacks, best)| rank < (*lacks, best.len())) {
                        nearest = Some((rank.0, denials));
                    }
                }
            }
        }
        self.denials.extend(nearest.map(|(_, denials)| denials).unwrap_or_default());
        None
    }

    fn by_rule(
        &self,
        rule: &Rule,
        program: &str,
        found: &Effects,
        call: Call<'_>,
    ) -> Result<Judged, Vec<Denial>> {
        let mut denials = Vec::new();
        let arguments = call.words.get(1..).unwrap_or_default();
        let span_of = |argument: Option<usize>| {
            argument.and_then(|at| arguments.get(at)).map_or(call.span, |word| word.span)
        };
        let lacks_subcommand = !has_subcommand(rule, found);
        // Without a sub-command, what the words do says more.
        if lacks_subcommand && (found.subcommand.is_some() || found.list.is_empty()) {
            let given = found.subcommand.as_deref().unwrap_or("");
            denials.push(subcommand_denial(rule, program, given, call));
        }
        for (option, at) in &found.options {
            if !allows_option(rule, option) {
                let message = format!("the option `{option}` of `{program}` is not allowed{}", because(rule));
                let one = denial(OPTION_NOT_ALLOWED, span_of(Some(*at)), &**option, message);
                denials.push(by(rule, one));
            }
        }
        let bounds = Bounds {
            book: self.book,
            asker: self.asker,
            rule,
            program,
            operations: self.book.operations.within(rule.operations),
            directories: call.directories,
        };
        let mut judged = Judged {
            insertions: found.insertions.clone(),
            environment: found.environment.clone(),
            ..Judged::default()
        };
        if call.inner.is_some_and(hides_operands)
            && let Some(gravest) = found.list.iter().max_by_key(|effect| gravity(effect.kind))
            && gravity(gravest.kind) > 0
        {
            denials.push(bounds.unseen(gravest, call.span));
        }
        denials.extend(arguments.iter().filter_map(|word| bounds.expands_into_protected(word)));
        // What a sub-command does that is not allowed at all says nothing more.
        let by_itself = |effect: &effects::Effect| {
            found.subcommand.is_some() && (effect.argument.is_none() || effect.via == "sub-command")
        };
        for effect in found.list.iter().filter(|effect| !(lacks_subcommand && by_itself(effect))) {
            if call.inner.is_some_and(hides_operands) && gravity(effect.kind) > 0 {
                continue;
            }
            if let Err(denial) = bounds.effect(effect, span_of(effect.argument), &mut judged.rights) {
                denials.push(*denial);
            }
        }
        if lacks_subcommand && denials.is_empty() {
            denials.push(subcommand_denial(rule, program, "", call));
        }
        if found.list.iter().any(|effect| effect.kind == EffectKind::Execute) {
            judged.rights.execute.extend(rule.starts.iter().cloned());
        }
        self.redirections(&bounds, call.redirections, &mut denials);
        self.assignments(rule, call.assignments, &mut denials);
        if denials.is_empty() { Ok(judged) } else { Err(denials) }
    }

    /// Denies a program that goes to work outside the workspace.
    fn goes_elsewhere(&mut self, program: &str, found: &Effects, call: Call<'_>) {
        let Some(word) = &found.directory else { return };
        // Of a protected directory the effects of the option say so.
        let protected = |to: &ViewPath| self.asker.protected(self.book).any(|place| to.is_beneath(place));
        let inside = |from: &ViewPath| {
            word.as_literal()
                .map(|text| ViewPath::resolve(from, text))
                .is_some_and(|to| to.is_beneath(&self.book.workspace) || protected(&to))
        };
        if !call.directories.iter().all(inside) {
            let shown = word.to_unmatched();
            let message = format!(
                "`{program}` is not allowed to work in `{}`: it leaves the workspace",
                shown.escape_debug()
            );
            self.denials.push(denial(PATH_LEAVES_WORKSPACE, call.span, shown, message));
        }
    }

    fn redirections(&self, bounds: &Bounds<'_>, redirections: &[Redirection], denials: &mut Vec<Denial>) {
        for redirection in redirections {
            let (writes, path) = match &redirection.target {
                RedirectionTarget::Read(path) => (false, path),
                RedirectionTarget::Truncate(path) | RedirectionTarget::Append(path) => (true, path),
                RedirectionTarget::Duplicate(_) => continue,
            };
            if let Err(denial) = bounds.redirection(writes, path, redirection.span) {
                denials.push(*denial);
            }
        }
    }

    fn assignments(&self, rule: &Rule, assignments: &[(String, String, Span)], denials: &mut Vec<Denial>) {
        for (name, value, span) in assignments {
            let allowed = self.book.environment.contains(name)
                || rule.environment.contains(name)
                || self.asker.may_set(name);
            if allowed {
                denials.extend(self.value_denial(name, value, *span));
                continue;
            }
            let message = format!("setting the variable `{name}` is not allowed");
            let mut denial = denial(ENV_ASSIGNMENT, *span, name, message);
            let known = self.book.environment.iter().chain(&rule.environment);
            let known: Vec<_> = known.map(|name| format!("`{name}`")).collect();
            denial.suggestion = Some(match known.is_empty() {
                true => "leave it out".into(),
                false => format!("allowed are {}", known.join(", ")),
            });
            denials.push(denial);
        }
    }

    /// Denies what a denying rule matches, whatever else allows it.
    fn deny_rules(&mut self, program: &str, found: &Effects, call: Call<'_>) {
        let book = self.book;
        for rule in self.asker.rules_of(book, program).into_iter().filter(|rule| !rule.allows) {
            let subcommand = found.subcommand.as_deref().unwrap_or("");
            let by_subcommand = rule.subcommands.is_empty() || rule.subcommands.contains(subcommand);
            let by_option = rule.options_denied.is_empty()
                || found.options.iter().any(|(option, _)| rule.options_denied.contains(&**option));
            let by_path = rule.paths.is_empty() || {
                let redirected = call.redirections.iter().filter_map(|one| match &one.target {
                    RedirectionTarget::Read(path)
                    | RedirectionTarget::Truncate(path)
                    | RedirectionTarget::Append(path) => Some(Word::literal(path.as_str(), one.span)),
                    RedirectionTarget::Duplicate(_) => None,
                });
                let named = found.list.iter().filter_map(|effect| match &effect.subject {
                    effects::Subject::Path { word, .. } => Some(word.clone()),
                    _ => None,
                });
                let unbounded =
                    found.list.iter().any(|effect| matches!(effect.subject, effects::Subject::Unbounded(_)));
                unbounded || redirected.chain(named).any(|word| touches(&word, call.directories, &rule.paths))
            };
            if by_subcommand && by_option && by_path {
                let message =
                    format!("`{program}` is not allowed here by the rule `{}`{}", rule.name, because(rule));
                self.denials.push(by(rule, denial(RULE_DENIED, call.span, program, message)));
            }
        }
    }

    /// Judges the commands that a wrapper runs.
    fn inner_calls(&mut self, program: &str, found: &Effects, call: Call<'_>, judged: &mut Judged) {
        for inner in &found.inner {
            let arguments = call.words.get(1..).unwrap_or_default();
            let span = arguments.get(inner.argument).map_or(call.span, |word| word.span);
            if inner.script.is_some() {
                let mut denial =
                    denial(SYNTAX_NESTED, span, "script", "a script here is not allowed: no shell runs it");
                denial.suggestion = Some("write its commands into the line itself".into());
                self.denials.push(denial);
                continue;
            }
            if self.book.operations.execute == Bound::Deny {
                let message = format!("`{program}` is not allowed to run another program");
                let subject = inner.words.first().map(Word::to_unmatched).unwrap_or_default();
                let mut denial = denial(OPERATION_EXECUTE, span, subject, message);
                denial.suggestion = Some("write the other command into the line itself".into());
                self.denials.push(denial);
                continue;
            }
            if call.depth >= MAX_DEPTH {
                let message = format!("more than {MAX_DEPTH} commands in one another are not allowed");
                self.denials.push(denial(OPERATION_EXECUTE, span, program, message));
                continue;
            }
            let Some(directories) = self.inner_directories(inner, call.directories, span) else { continue };
            let assignments: Vec<_> =
                inner.assignments.iter().map(|(name, value)| (name.clone(), value.clone(), span)).collect();
            let inner_judged = self.call(Call {
                words: &inner.words,
                span,
                directories: &directories,
                inner: Some(inner),
                assignments: &assignments,
                redirections: &[],
                depth: call.depth + 1,
            });
            let Some(inner_judged) = inner_judged else { continue };
            let name = inner.words.first().and_then(Word::as_literal).and_then(ProgramName::parse);
            judged.rights.execute.extend(name);
            merge(&mut judged.rights, inner_judged.rights);
            let moved = inner_judged.insertions.into_iter().map(|(at, text)| (inner.argument + 1 + at, text));
            let needed = inner_judged.environment;
            if program == "env" {
                // `env -i` would take away what is set around it.
                judged.insertions.extend(
                    needed
                        .into_iter()
                        .map(|(name, value)| (inner.argument, format!("{name}={value}").into())),
                );
            } else {
                judged.environment.extend(needed);
            }
            judged.insertions.extend(moved);
        }
    }

    fn inner_directories(
        &mut self,
        inner: &Inner,
        directories: &[ViewPath],
        span: Span,
    ) -> Option<Vec<ViewPath>> {
        let Some(word) = &inner.directory else { return Some(directories.to_vec()) };
        let mut found = Vec::new();
        for directory in directories {
            let target = word.as_literal().map(|text| ViewPath::resolve(directory, text));
            let Some(target) = target.filter(|target| target.is_beneath(&self.book.workspace)) else {
                let message = format!(
                    "running a command in `{}` is not allowed: it leaves the workspace",
                    word.to_unmatched()
                );
                self.denials.push(denial(PATH_LEAVES_WORKSPACE, span, word.to_unmatched(), message));
                return None;
            };
            found.push(target);
        }
        Some(found)
    }

    /// Judges a program whose options nobody here knows: it may read the workspace, and no argument may look like a
    /// protected path.
    fn not_understood(&mut self, call: Call<'_>, rule: &Rule) -> Option<Judged> {
        let program = call.words.first().and_then(Word::as_literal).unwrap_or_default();
        let bounds = Bounds {
            book: self.book,
            asker: self.asker,
            rule,
            program,
            operations: self.book.operations.within(rule.operations),
            directories: call.directories,
        };
        let mut denials = Vec::new();
        if call.inner.is_some_and(hides_operands) {
            let message = format!("`{program}` is not allowed with operands that are not on the line");
            denials.push(denial(OPERATION_EXECUTE, call.span, program, message));
        }
        for word in call.words.get(1..).unwrap_or_default() {
            denials.extend(bounds.looks_protected(word));
        }
        self.redirections(&bounds, call.redirections, &mut denials);
        self.assignments(rule, call.assignments, &mut denials);
        if !denials.is_empty() {
            self.denials.extend(denials);
            return None;
        }
        let mut judged = Judged::default();
        judged.rights.read = if rule.paths.is_empty() { vec![ViewPath::root()] } else { rule.paths.clone() };
        // What the rule speaks of itself is granted whole: nobody knows what the options ask for.
        if rule.spoken.contains("write") && bounds.operations.write >= WriteBound::Workspace {
            judged.rights.write = vec![self.book.workspace.clone()];
        }
        if rule.spoken.contains("delete") && bounds.operations.delete >= Bound::Workspace {
            judged.rights.delete = vec![self.book.workspace.clone()];
        }
        judged.rights.execute = rule.starts.iter().cloned().collect();
        self.note_rule(rule);
        self.variables.iter_mut().for_each(|variables| variables.push(rule.environment.clone()));
        Some(judged)
    }

    /// Returns the rules that allow a program to who asks; a personal allowance is one without bounds of its own.
    fn rules_allowing(&self, program: &str) -> Vec<Cow<'a, Rule>> {
        let book: &'a Book = self.book;
        let about = self.asker.rules_of(book, program).into_iter();
        let mut rules: Vec<Cow<'a, Rule>> = Vec::with_capacity(about.len() + 1);
        rules.extend(about.filter(|rule| rule.allows).map(Cow::Borrowed));
        if let Some(entry) = self.asker.allowed_by(program) {
            rules.push(Cow::Owned(Rule { name: entry.to_owned(), ..Rule::default() }));
        }
        rules
    }

    /// Returns the rule by which a shell with these options may run its script; `None` when some rule denies the
    /// shell anything, or none allows it so.
    pub(super) fn allowing_script(&self, program: &str, found: &Effects) -> Option<Rule> {
        let book: &'a Book = self.book;
        if self.asker.denied(program).is_some()
            || self.asker.rules_of(book, program).iter().any(|rule| !rule.allows)
        {
            return None;
        }
        let rules = self.rules_allowing(program).into_iter();
        let mut fitting =
            rules.filter(|rule| found.options.iter().all(|(option, _)| allows_option(rule, option)));
        fitting.next().map(Cow::into_owned)
    }

    /// Returns a rule that allows the program to who asks, whatever it does.
    pub(super) fn allowing(&self, program: &str) -> Option<Rule> {
        if self.asker.denied(program).is_some() {
            return None;
        }
        self.rules_allowing(program).into_iter().next().map(Cow::into_owned)
    }

    /// Says that no rule allows a program to who asks, and what is near.
    pub(super) fn not_allowed(&self, program: &str, span: Span) -> Denial {
        let shown = program.escape_debug();
        let mut denial = denial(
            PROGRAM_NOT_ALLOWED,
            span,
            program,
            format!("`{shown}` is not allowed: no rule allows it"),
        );
        if let Some(roles) = self.book.allowed_to_others(program) {
            denial.code = USER_DENIED;
            denial.message = format!("`{shown}` is not allowed for the user `{}`", self.asker.name);
            if !roles.is_empty() {
                let roles: Vec<_> = roles.iter().map(|role| format!("`{role}`")).collect();
                denial.suggestion = Some(format!("who has the role {} may run it", roles.join(" or ")));
            }
            return denial;
        }
        // A line may be denied for each of its commands, and all are told what is near.
        let allowed = self.allowed.get_or_init(|| {
            let allowed = self.asker.allowed(self.book, &self.limits).into_iter();
            let mut names: Vec<_> = allowed.map(|one| one.program.to_string()).collect();
            names.dedup();
            names
        });
        let names = || allowed.iter().map(String::as_str);
        denial.suggestion = if SHELL_WORDS.contains(&program) {
            Some(format!("`{program}` is a command of shells, and no shell runs the line"))
        } else if let Some(near) = nearest(program, names()) {
            Some(format!("did you mean `{near}`?"))
        } else {
            let more = allowed.len().saturating_sub(12);
            let names: Vec<_> = names().take(12).map(|name| format!("`{name}`")).collect();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            Some(if names.is_empty() {
                "nothing is allowed".into()
            } else {
                format!("allowed are {}{more}", names.join(", "))
            })
        };
        denial
    }

    fn program_by_path(&self, program: &str, span: Span) -> Denial {
        let shown = program.escape_debug();
        let message = format!("`{shown}` is not allowed: programs are called by their bare names");
        let mut denial = denial(PROGRAM_PATH, span, program, message);
        let name = program.rsplit('/').next().unwrap_or_default();
        if self.allowing(name).is_some() {
            denial.suggestion = Some(format!("write `{name}`"));
        }
        denial
    }
}

/// Commands that only shells have.
const SHELL_WORDS: [&str; 37] = [
    ".", ":", "alias", "bg", "bind", "builtin", "caller", "command", "declare", "disown", "eval", "exec",
    "exit", "export", "fc", "fg", "getopts", "hash", "history", "jobs", "let", "local", "logout", "popd",
    "pushd", "read", "readonly", "return", "set", "shift", "shopt", "source", "trap", "type", "ulimit",
    "umask", "unset",
];

fn allows_option(rule: &Rule, option: &str) -> bool {
    let listed = rule.options_allowed.is_empty() || rule.options_allowed.contains(option);
    listed && !rule.options_denied.contains(option)
}

/// Whether the rule is about the sub-command, or there is none and nothing is done (`git --version`).
fn has_subcommand(rule: &Rule, found: &Effects) -> bool {
    rule.subcommands.is_empty()
        || match &found.subcommand {
            Some(name) => rule.subcommands.contains(name),
            None => !found.options.is_empty() && found.list.is_empty() && found.inner.is_empty(),
        }
}

/// How much worse than reading it is to do this to what is not on the line.
fn gravity(kind: EffectKind) -> u8 {
    match kind {
        EffectKind::Read | EffectKind::Examine => 0,
        EffectKind::Write => 1,
        EffectKind::Network => 2,
        EffectKind::Privilege => 3,
        EffectKind::Delete => 4,
        EffectKind::Execute => 5,
    }
}

/// Whether words that decide what an inner command touches are not on the line.
fn hides_operands(inner: &Inner) -> bool {
    let replaced = inner.placeholder.as_ref().is_some_and(|placeholder| {
        let (Placeholder::Text(text) | Placeholder::Found(text)) = placeholder;
        inner.words.iter().any(|word| word.to_unmatched().contains(text.as_str()))
    });
    inner.appended || replaced
}

fn touches(word: &Word, directories: &[ViewPath], places: &[ViewPath]) -> bool {
    directories.iter().any(|directory| match Target::resolve(directory, word) {
        None => true,
        Some(targets) => targets
            .iter()
            .any(|target| places.iter().any(|place| target.may_be_in(place) || target.may_hold(place))),
    })
}

fn subcommand_denial(rule: &Rule, program: &str, given: &str, call: Call<'_>) -> Denial {
    let word = call.words.iter().skip(1).find(|word| word.as_literal() == Some(given));
    let span = word.map_or(call.span, |word| word.span);
    let message = match given {
        "" => format!("`{program}` without one of its allowed sub-commands is not allowed{}", because(rule)),
        _ => format!("`{program} {given}` is not allowed{}", because(rule)),
    };
    let mut one = by(rule, denial(SUBCOMMAND_NOT_ALLOWED, span, given, message));
    one.suggestion =
        one.suggestion.or_else(|| match nearest(given, rule.subcommands.iter().map(String::as_str)) {
            Some(near) => Some(format!("did you mean `{program} {near}`?")),
            None => {
                let names: Vec<_> = rule.subcommands.iter().map(|name| format!("`{name}`")).collect();
                Some(format!("allowed are {}", names.join(", ")))
            }
        });
    one
}

fn not_understood_words(program: &str, unknown: &Unknown, call: Call<'_>) -> Denial {
    let arguments = call.words.get(1..).unwrap_or_default();
    let span = |at: Option<usize>| at.and_then(|at| arguments.get(at)).map_or(call.span, |word| word.span);
    let make = |code: DenialCode, at: Option<usize>, subject: &str, message: String| {
        denial(code, span(at), subject, message)
    };
    match unknown {
        Unknown::Option { text, argument, nearest } => {
            let message = format!(
                "the option `{}` of `{program}` is not allowed: it is not known here",
                text.escape_debug()
            );
            let mut denial = make(OPTION_UNKNOWN, Some(*argument), text, message);
            denial.suggestion = nearest.as_ref().map(|near| format!("did you mean `{near}`?"));
            denial
        }
        Unknown::Usage { problem, argument } => make(
            OPTION_USAGE,
            *argument,
            program,
            format!("these words of `{program}` are not allowed: {problem}"),
        ),
        Unknown::Script { problem, argument } => {
            let message = format!("the script for `{program}` is not allowed: {problem}");
            make(SCRIPT_NOT_UNDERSTOOD, Some(*argument), program, message)
        }
        Unknown::Program => {
            let message = format!("`{program}` is not allowed: what its options mean is not known here");
            make(PROGRAM_NOT_UNDERSTOOD, None, program, message)
        }
    }
}

/// Adds the rule, and what it says to do instead, to a denial.
fn by(rule: &Rule, mut denial: Denial) -> Denial {
    denial.rule = Some(rule.reference());
    denial.suggestion = rule.suggestion.clone();
    denial
}

fn because(rule: &Rule) -> String {
    rule.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default()
}

/// Puts the insertions between the arguments, those for one place in their order.
fn with_insertions(
    mut arguments: std::vec::IntoIter<Word>,
    mut insertions: Vec<(usize, Cow<'static, str>)>,
    span: Span,
) -> Vec<Word> {
    if insertions.is_empty() {
        return arguments.collect();
    }
    insertions.sort_by_key(|(at, _)| *at);
    let mut all = Vec::with_capacity(arguments.len() + insertions.len());
    let mut taken = 0;
    for (at, text) in insertions {
        let before = at.saturating_sub(taken).min(arguments.len());
        all.extend(arguments.by_ref().take(before));
        taken += before;
        all.push(Word::literal(text, span));
    }
    all.extend(arguments);
    all
}

fn merge(rights: &mut portcullis_core::Rights, more: portcullis_core::Rights) {
    use portcullis_core::Network;
    rights.read.extend(more.read);
    rights.write.extend(more.write);
    rights.delete.extend(more.delete);
    rights.execute.extend(more.execute);
    match (&mut rights.network, more.network) {
        (Network::Hosts(hosts), Network::Hosts(more)) => hosts.extend(more),
        (network @ Network::None, more) => *network = more,
        (Network::Hosts(_), Network::None) => {}
    }
}

/// A path that is held by another one more components above stays in the list, to no harm.
const MAX_DEPTH_TIDIED: usize = 32;

/// Puts rights in order, each once, without paths that another one holds.
fn tidy(rights: &mut portcullis_core::Rights) {
    for paths in [&mut rights.read, &mut rights.write, &mut rights.delete] {
        if paths.len() < 2 {
            continue;
        }
        paths.sort();
        paths.dedup();
        let all: HashSet<&str> = paths.iter().map(ViewPath::as_str).collect();
        let held = |path: &ViewPath| {
            let slashes = path.as_str().match_indices('/').map(|(at, _)| at).take(MAX_DEPTH_TIDIED);
            let mut above = slashes.map(|at| path.as_str().get(..at.max(1)).unwrap_or_default());
            above.any(|place| place != path.as_str() && all.contains(place))
        };
        let mut held: Vec<bool> = paths.iter().map(held).collect();
        held.reverse();
        paths.retain(|_| !held.pop().unwrap_or_default());
    }
    rights.execute.sort();
    rights.execute.dedup();
    if let portcullis_core::Network::Hosts(hosts) = &mut rights.network {
        hosts.sort();
        hosts.dedup();
    }
}
