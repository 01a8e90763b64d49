//! Turns options and operands into effects, by the roles that the table gives them.

use std::borrow::Cow;

use portcullis_core::Word;

use super::options::{Count, Operand, Reading};
use super::table::{Operands, Role, Table, Takes};
use super::words::{implied, split_at_colons, with_any_suffix};
use super::{Effect, EffectKind, Effects, Reach, Subject, Unknown};

/// The marks that are set: the table's own and those of the options given.
pub(super) struct Marks<'a> {
    table: &'a Table,
    reading: &'a Reading<'a>,
}

impl<'a> Marks<'a> {
    /// Looks at a program's words.
    pub(super) fn of(table: &'a Table, reading: &'a Reading<'a>) -> Self {
        Self { table, reading }
    }

    /// Whether the mark is set.
    pub(super) fn has(&self, mark: &str) -> bool {
        self.table.marks.contains(&mark) || self.reading.marked(mark)
    }

    fn all(&self, marks: &[&str]) -> bool {
        marks.iter().all(|mark| self.has(mark))
    }
}

/// How far a word of a role reaches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) reach: Reach,
    pub(super) follow_links: bool,
}

/// A path alone.
pub(super) const ITSELF: Extent = Extent { reach: Reach::Itself, follow_links: false };

/// Adds what the options and operands of a program do, and names the options.
pub(super) fn apply(table: &'static Table, reading: &Reading, effects: &mut Effects) -> Result<(), Unknown> {
    apply_options(reading, effects);
    if let Some(argument) = reading.open {
        for option in &table.options {
            for kind in table.harms_of(option) {
                let why =
                    format!("words that are not on the line may be the option `{}`", option.canonical());
                effects.unbounded(kind, &why, Some(argument), "operand");
            }
        }
    }
    let marks = Marks::of(table, reading);
    let extent = Extent {
        reach: if marks.has("recursive") { Reach::Tree } else { Reach::Itself },
        follow_links: marks.has("follow"),
    };
    let Some(grammar) = grammar(table, &marks) else {
        return match reading.operands.iter().find(|operand| operand.count.least() > 0) {
            Some(operand) => Err(extra(operand)),
            None => Ok(()),
        };
    };
    let mut before = Stretch::default();
    let mut behind = reading.operands.iter().fold(Stretch::default(), Stretch::with);
    for operand in &reading.operands {
        behind = behind.without(operand);
        let roles = possible_roles(grammar, before, operand, behind);
        before = before.with(operand);
        if roles.is_empty() {
            return Err(extra(operand));
        }
        for role in roles {
            effects.add(role, &operand.word, extent, Some(operand.argument), "operand");
        }
    }
    let least: usize = reading.operands.iter().map(|operand| operand.count.least()).sum();
    if least <= grammar.before.len() {
        let defaults = table.defaults.iter().filter(|(wanted, ..)| marks.all(wanted));
        if let Some((_, role, path)) = defaults.max_by_key(|(wanted, ..)| wanted.len()) {
            effects.add(*role, &implied(path), extent, None, "the directory in force");
        }
    }
    Ok(())
}

/// Returns how an argument says what is done; the usual ways cost no allocation.
fn known(via: &str) -> Cow<'static, str> {
    const USUAL: [&str; 3] = ["operand", "sub-command", "the directory in force"];
    match USUAL.iter().find(|usual| **usual == via) {
        Some(usual) => Cow::Borrowed(usual),
        None => Cow::Owned(via.to_owned()),
    }
}

/// Adds what the options do, and names them.
pub(super) fn apply_options(reading: &Reading, effects: &mut Effects) {
    for given in &reading.given {
        let via = || format!("option `{}`", given.written);
        effects.options.push((given.option.canonical().into(), given.argument));
        if let Some((kind, why)) = given.option.does {
            effects.unbounded(kind, why, Some(given.argument), &via());
        }
        let roles: &[Role] = match &given.option.takes {
            Takes::Nothing => &[],
            Takes::Perhaps(role) => std::slice::from_ref(role),
            Takes::Values(roles) => roles,
        };
        for (role, (value, argument)) in roles.iter().zip(&given.values) {
            if *role != Role::Text {
                effects.add(*role, value, ITSELF, Some(*argument), &via());
            }
        }
    }
}

/// Returns the operands' meaning under the marks that are set.
pub(super) fn grammar<'a>(table: &'a Table, marks: &Marks<'_>) -> Option<&'a Operands> {
    let fitting = table.operands.iter().filter(|operands| marks.all(&operands.marks));
    fitting.max_by_key(|operands| operands.marks.len())
}

fn extra(operand: &Operand) -> Unknown {
    Unknown::Usage {
        problem: format!("`{}` is one operand too many", operand.word.to_unmatched()),
        argument: Some(operand.argument),
    }
}

/// Some operands in a row: how many, how many of them are one word, and how many words they are at least.
#[derive(Debug, Clone, Copy, Default)]
struct Stretch {
    operands: usize,
    single: usize,
    least: usize,
}

impl Stretch {
    fn with(self, operand: &Operand) -> Self {
        let single = usize::from(operand.count == Count::One);
        Self {
            operands: self.operands + 1,
            single: self.single + single,
            least: self.least + operand.count.least(),
        }
    }

    fn without(self, operand: &Operand) -> Self {
        let single = usize::from(operand.count == Count::One);
        Self {
            operands: self.operands - 1,
            single: self.single - single,
            least: self.least - operand.count.least(),
        }
    }
}

/// Returns every role that an operand can have, however many words the patterns before, in and behind it become.
fn possible_roles(grammar: &Operands, before: Stretch, operand: &Operand, behind: Stretch) -> Vec<Role> {
    let most = |stretch: Stretch| match stretch.single == stretch.operands {
        true if operand.count == Count::One => stretch.operands,
        _ => usize::MAX,
    };
    // The place counted from the first and from the last operand.
    let (first, last) = (before.least..=most(before), behind.least..=most(behind));
    let mut roles = Vec::new();
    for (place, role) in grammar.before.iter().enumerate() {
        if first.contains(&place) && !roles.contains(role) {
            roles.push(*role);
        }
    }
    if *first.end() >= grammar.before.len() {
        for (place, role) in grammar.behind.iter().rev().enumerate() {
            if last.contains(&place) && !roles.contains(role) {
                roles.push(*role);
            }
        }
        let between = *last.end() >= grammar.behind.len();
        roles.extend(grammar.repeated.filter(|role| between && !roles.contains(role)));
    }
    roles
}

impl Effects {
    /// Adds what a word of this role does.
    pub(super) fn add(
        &mut self,
        role: Role,
        word: &Word,
        extent: Extent,
        argument: Option<usize>,
        via: &str,
    ) {
        let stream = word.as_literal() == Some("-");
        match role {
            Role::Text => {}
            Role::Read | Role::Output if stream => {}
            Role::Names if stream => {
                self.unbounded(
                    EffectKind::Read,
                    "the names of files come from standard input",
                    argument,
                    via,
                );
            }
            Role::Read => self.path(EffectKind::Read, word.clone(), extent, argument, via),
            Role::Names => {
                self.path(EffectKind::Read, word.clone(), ITSELF, argument, via);
                self.unbounded(EffectKind::Read, "the names of files come from a file", argument, via);
            }
            Role::Paths => {
                for word in split_at_colons(word) {
                    self.path(EffectKind::Read, word, Extent { reach: Reach::Tree, ..ITSELF }, argument, via);
                }
            }
            Role::Examine => self.path(EffectKind::Examine, word.clone(), extent, argument, via),
            Role::Write | Role::Output => self.path(EffectKind::Write, word.clone(), extent, argument, via),
            Role::Prefix => self.path(EffectKind::Write, with_any_suffix(word), ITSELF, argument, via),
            Role::Into => {
                let extent = Extent { reach: Reach::Entry, ..ITSELF };
                self.path(EffectKind::Write, word.clone(), extent, argument, via);
            }
            Role::Delete => self.path(EffectKind::Delete, word.clone(), extent, argument, via),
            Role::Change => {
                self.path(EffectKind::Read, word.clone(), extent, argument, via);
                self.path(EffectKind::Write, word.clone(), extent, argument, via);
            }
            Role::Code if stream => {
                self.unbounded(EffectKind::Execute, "code comes from standard input", argument, via);
            }
            Role::Code => self.path(EffectKind::Execute, word.clone(), extent, argument, via),
            Role::Program | Role::Command => {
                self.effect(EffectKind::Execute, Subject::Program(word.to_unmatched()), argument, via);
            }
            Role::Network => {
                let why = format!("`{}` may be reached", word.to_unmatched());
                self.unbounded(EffectKind::Network, &why, argument, via);
            }
            Role::Privilege => {
                let why = format!("`{}` changes privilege", word.to_unmatched());
                self.unbounded(EffectKind::Privilege, &why, argument, via);
            }
        }
    }

    /// Adds an effect on a path.
    pub(super) fn path(
        &mut self,
        kind: EffectKind,
        word: Word,
        extent: Extent,
        argument: Option<usize>,
        via: &str,
    ) {
        let Extent { reach, follow_links } = extent;
        self.effect(kind, Subject::Path { word, reach, follow_links }, argument, via);
    }

    /// Adds an effect that cannot be bounded.
    pub(super) fn unbounded(&mut self, kind: EffectKind, why: &str, argument: Option<usize>, via: &str) {
        self.effect(kind, Subject::Unbounded(why.to_owned()), argument, via);
    }

    /// Adds an effect, unless it has just been added. Only the last ones are looked at, so that long lines take no longer
    /// for each of their words; one that is there twice does no harm.
    pub(super) fn effect(&mut self, kind: EffectKind, subject: Subject, argument: Option<usize>, via: &str) {
        let effect = Effect { kind, subject, argument, via: known(via) };
        if !self.list.iter().rev().take(8).any(|earlier| *earlier == effect) {
            self.list.push(effect);
        }
    }
}
