//! Who asks, as the rulebook knows it.

use std::collections::BTreeSet;

use portcullis_core::{AllowedProgram, Limits, Principal, ProgramName, ViewPath};

use crate::rulebook::{Book, Personal, Rule};

/// A principal with everything that is its own in the rulebook: the user's entry and those of its roles.
#[derive(Debug)]
pub(super) struct Asker<'a> {
    pub(super) name: &'a str,
    roles: BTreeSet<&'a str>,
    /// Each entry with its name for denials, `users.bob` or `roles.admin`.
    entries: Vec<(String, &'a Personal)>,
}

impl<'a> Asker<'a> {
    pub(super) fn new(book: &'a Book, principal: &'a Principal, user: Option<&'a Personal>) -> Self {
        let mut roles: BTreeSet<&str> = principal.roles.iter().map(String::as_str).collect();
        let mut entries = Vec::new();
        if let Some(personal) = user {
            roles.extend(personal.roles.iter().map(String::as_str));
            entries.push((format!("users.{}", principal.name), personal));
        }
        for &role in &roles {
            if let Some(personal) = book.roles.get(role) {
                entries.push((format!("roles.{role}"), personal));
            }
        }
        Self { name: &principal.name, roles, entries }
    }

    /// Whether a rule is about this principal.
    fn is_meant_by(&self, rule: &Rule) -> bool {
        rule.is_general()
            || rule.users.contains(self.name)
            || rule.roles.iter().any(|role| self.roles.contains(role.as_str()))
    }

    /// Returns the rules that are about this principal and name the program.
    pub(super) fn rules_of<'b>(&self, book: &'b Book, program: &str) -> Vec<&'b Rule> {
        book.rules_for(program, self.name, self.roles.iter().copied())
    }

    /// Returns the entry that denies the program, and why, when one does.
    pub(super) fn denied(&self, program: &str) -> Option<(&str, Option<&str>)> {
        self.entries.iter().find_map(|(name, personal)| {
            let denies = contains(&personal.deny, program)
                || personal.only.as_ref().is_some_and(|only| !contains(only, program));
            denies.then_some((name.as_str(), personal.reason.as_deref()))
        })
    }

    /// Returns the entry that allows the program beside the rules, when one does.
    pub(super) fn allowed_by(&self, program: &str) -> Option<&str> {
        self.entries
            .iter()
            .find(|(_, personal)| contains(&personal.allow, program))
            .map(|(name, _)| name.as_str())
    }

    /// Visits the directories that are protected against this principal.
    pub(super) fn protected<'b>(&'b self, book: &'b Book) -> impl Iterator<Item = &'b ViewPath> {
        book.protected.iter().filter(|place| !self.entries.iter().any(|(_, one)| one.open.contains(place)))
    }

    /// Visits the directories it may write beside the workspace.
    pub(super) fn writable(&self) -> impl Iterator<Item = &ViewPath> {
        self.entries.iter().flat_map(|(_, personal)| &personal.write)
    }

    /// Whether one of its entries allows the variable.
    pub(super) fn may_set(&self, variable: &str) -> bool {
        self.entries.iter().any(|(_, personal)| personal.environment.contains(variable))
    }

    /// Lists what it may run, within these limits.
    pub(super) fn allowed(&self, book: &Book, caps: &Limits) -> Vec<AllowedProgram> {
        let mut programs: Vec<AllowedProgram> = Vec::new();
        let mut add = |program: &ProgramName, rule: &str, subcommands: Vec<String>, limits: &Limits| {
            if self.denied(program.as_str()).is_some() {
                return;
            }
            programs.push(AllowedProgram {
                program: program.clone(),
                rule: rule.to_owned(),
                subcommands,
                limits: limits.clone(),
            });
        };
        for rule in book.rules.iter().filter(|rule| rule.allows && self.is_meant_by(rule)) {
            let mut limits = caps.clone();
            rule.narrow(&mut limits);
            for program in &rule.programs {
                add(program, &rule.name, rule.subcommands.iter().cloned().collect(), &limits);
            }
        }
        for (name, personal) in &self.entries {
            for program in &personal.allow {
                add(program, name, Vec::new(), caps);
            }
        }
        programs.sort_by(|a, b| a.program.cmp(&b.program));
        programs
    }
}

fn contains(programs: &BTreeSet<ProgramName>, program: &str) -> bool {
    programs.iter().any(|one| one.as_str() == program)
}
