//! Reads TOML values and remembers every problem with its place, instead of stopping at the first.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Problem;
use crate::nearest::nearest;

/// The text of a rulebook and what is wrong with it so far.
pub(super) struct Reader<'a> {
    text: &'a str,
    /// Where each line begins.
    lines: Vec<usize>,
    problems: Vec<(usize, String)>,
}

/// A value and the offset where it stands.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) at: usize,
}

/// A table with its name for messages.
#[derive(Clone, Copy)]
pub(super) struct Table<'t, 'i> {
    pub(super) name: &'t str,
    pub(super) table: &'t DeTable<'i>,
    pub(super) at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let begins = text.match_indices('\n').map(|(at, _)| at + 1);
        Self { text, lines: std::iter::once(0).chain(begins).collect(), problems: Vec::new() }
    }

    pub(super) fn problem(&mut self, at: usize, message: impl Into<String>) {
        self.problems.push((at, message.into()));
    }

    /// Returns the problems in the order of their places.
    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|(at, _)| *at);
        self.problems.dedup();
        let place = |at: usize| {
            let line = self.line(at);
            let begin = self.lines.get(line - 1).copied().unwrap_or_default();
            (line, self.text.get(begin..at).map_or(0, |before| before.chars().count()) + 1)
        };
        let made = self.problems.iter().map(|(at, message)| {
            let (line, column) = place(*at);
            Problem { line, column, message: message.clone() }
        });
        made.collect()
    }

    /// Returns the line of an offset, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|&begin| begin <= at)
    }

    /// Reads the document, syntax errors remembered.
    pub(super) fn document(&mut self) -> Spanned<DeTable<'a>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            self.problem(error.span().map_or(0, |span| span.start), error.message().to_lowercase());
        }
        table
    }

    /// Names every key that is not known, with the nearest that is.
    pub(super) fn only(&mut self, table: Table<'_, '_>, known: &[&str]) {
        for key in table.table.keys() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let hint = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are {}", list(known)),
            };
            self.problem(key.span().start, format!("unknown key `{name}` in {}; {hint}", table.name));
        }
    }

    fn wrong(&mut self, at: Range<usize>, key: &str, table: &str, wanted: &str, found: &DeValue<'_>) {
        let found = found.type_str();
        self.problem(at.start, format!("`{key}` in {table} must be {wanted}, and is of type {found}"));
    }

    pub(super) fn string(&mut self, table: Table<'_, '_>, key: &str) -> Option<At<String>> {
        let value = table.table.get(key)?;
        match value.get_ref().as_str() {
            Some(text) => Some(At { value: text.to_owned(), at: value.span().start }),
            None => {
                self.wrong(value.span(), key, table.name, "a string", value.get_ref());
                None
            }
        }
    }

    /// Reads one string or an array of strings.
    pub(super) fn strings(&mut self, table: Table<'_, '_>, key: &str) -> Vec<At<String>> {
        let Some(value) = table.table.get(key) else { return Vec::new() };
        if let Some(text) = value.get_ref().as_str() {
            return vec![At { value: text.to_owned(), at: value.span().start }];
        }
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(value.span(), key, table.name, "an array of strings", value.get_ref());
            return Vec::new();
        };
        let mut found = Vec::new();
        for one in array.iter() {
            match one.get_ref().as_str() {
                Some(text) => found.push(At { value: text.to_owned(), at: one.span().start }),
                None => self.wrong(one.span(), key, table.name, "an array of strings", one.get_ref()),
            }
        }
        found
    }

    /// Reads strings into a set, each made by `make` or refused with its message.
    pub(super) fn set<T: Ord>(
        &mut self,
        table: Table<'_, '_>,
        key: &str,
        make: impl Fn(&str) -> Result<T, String>,
    ) -> BTreeSet<T> {
        let mut set = BTreeSet::new();
        for text in self.strings(table, key) {
            match make(&text.value) {
                Ok(value) => {
                    if !set.insert(value) {
                        self.problem(text.at, format!("`{}` stands twice in `{key}`", text.value));
                    }
                }
                Err(message) => self.problem(text.at, message),
            }
        }
        set
    }

    /// Reads strings into a list, each made by `make` or refused with its message.
    pub(super) fn many<T>(
        &mut self,
        table: Table<'_, '_>,
        key: &str,
        make: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let mut list = Vec::new();
        for text in self.strings(table, key) {
            match make(&text.value) {
                Ok(value) => list.push(value),
                Err(message) => self.problem(text.at, message),
            }
        }
        list
    }

    /// Reads a word out of those known.
    pub(super) fn word<T: Copy>(
        &mut self,
        table: Table<'_, '_>,
        key: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let text = self.string(table, key)?;
        let found = words.iter().find(|(word, _)| *word == text.value);
        if found.is_none() {
            let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.problem(
                text.at,
                format!("`{key}` in {} is `{}`; known are {}", table.name, text.value, list(&known)),
            );
        }
        found.map(|(_, value)| *value)
    }

    pub(super) fn boolean(&mut self, table: Table<'_, '_>, key: &str) -> Option<bool> {
        let value = table.table.get(key)?;
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.wrong(value.span(), key, table.name, "`true` or `false`", value.get_ref());
        }
        found
    }

    /// Reads a whole number of at least 1.
    pub(super) fn number(&mut self, table: Table<'_, '_>, key: &str) -> Option<At<u64>> {
        let value = table.table.get(key)?;
        let number = value.get_ref().as_integer().and_then(|integer| {
            u64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix())
                .ok()
                .filter(|&number| number > 0)
        });
        match number {
            Some(number) => Some(At { value: number, at: value.span().start }),
            None => {
                self.wrong(value.span(), key, table.name, "a whole number of at least 1", value.get_ref());
                None
            }
        }
    }

    pub(super) fn table<'t, 'i>(
        &mut self,
        table: Table<'t, 'i>,
        key: &'static str,
        name: &'t str,
    ) -> Option<Table<'t, 'i>> {
        let value = table.table.get(key)?;
        match value.get_ref().as_table() {
            Some(inner) => Some(Table { name, table: inner, at: value.span().start }),
            None => {
                self.wrong(value.span(), key, table.name, "a table", value.get_ref());
                None
            }
        }
    }

    /// Reads an array of tables, `[[key]]`.
    pub(super) fn tables<'t, 'i>(
        &mut self,
        table: Table<'t, 'i>,
        key: &str,
        name: &'t str,
    ) -> Vec<Table<'t, 'i>> {
        let Some(value) = table.table.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(value.span(), key, table.name, "an array of tables", value.get_ref());
            return Vec::new();
        };
        let mut found = Vec::new();
        for one in array.iter() {
            match one.get_ref().as_table() {
                Some(inner) => found.push(Table { name, table: inner, at: one.span().start }),
                None => self.wrong(one.span(), key, table.name, "an array of tables", one.get_ref()),
            }
        }
        found
    }
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
