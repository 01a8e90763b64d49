//! Reads words the way `getopt_long` does: which are options, which are their values, which are operands.

use std::borrow::Cow;

use portcullis_core::Word;

use super::table::{Opt, Style, Table, Takes};
use super::unseen::may_be_option;
use super::words::{leading_text, without_prefix};
use super::{Unknown, rows};

/// A word of the line, or one made of part of it. It is a [`Word`] to who looks at it.
#[derive(Debug)]
pub(super) struct Held<'a>(Cow<'a, Word>);

impl Held<'_> {
    /// Returns a word of its own.
    pub(super) fn to_word(&self) -> Word {
        self.0.as_ref().clone()
    }
}

impl std::ops::Deref for Held<'_> {
    type Target = Word;

    fn deref(&self) -> &Word {
        &self.0
    }
}

/// An option that is given.
#[derive(Debug)]
pub(super) struct Given<'a> {
    /// The option.
    pub(super) option: &'static Opt,
    /// Its values, each with the argument it stands in.
    pub(super) values: Vec<(Held<'a>, usize)>,
    /// Its name as it was written: `-o`, `--outp`.
    pub(super) written: &'a str,
    /// The argument it stands in.
    pub(super) argument: usize,
}

/// A word that is no option and no value.
#[derive(Debug)]
pub(super) struct Operand<'a> {
    /// The word.
    pub(super) word: Held<'a>,
    /// Its index.
    pub(super) argument: usize,
    /// How many words it becomes when its pattern is expanded.
    pub(super) count: Count,
}

/// How many words a word becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// One: it has no pattern.
    One,
    /// One or more.
    Several,
    /// Any number: it may also be an option, or part of it an option's value.
    Any,
}

impl Count {
    /// Returns the least number of words.
    pub(super) fn least(self) -> usize {
        usize::from(self != Self::Any)
    }
}

/// Words told apart.
#[derive(Debug, Default)]
pub(super) struct Reading<'a> {
    /// The options, in order.
    pub(super) given: Vec<Given<'a>>,
    /// The operands, in order.
    pub(super) operands: Vec<Operand<'a>>,
    /// Whether what follows the last word cannot be an option: `--` was given, or operands end the options.
    pub(super) closed: bool,
    /// How many operands stand before the terminator `--`, when it is given.
    pub(super) before_terminator: Option<usize>,
    /// Marks that no option sets but what a program makes of its words.
    pub(super) marks: Vec<&'static str>,
    /// A word that is not on the line and may be an option.
    pub(super) open: Option<usize>,
}

impl<'a> Reading<'a> {
    /// Returns the last one given of the option with this name.
    pub(super) fn last(&self, name: &str) -> Option<&Given<'a>> {
        self.given.iter().rev().find(|given| given.option.names.contains(&name))
    }

    /// Whether this mark is set.
    pub(super) fn marked(&self, mark: &str) -> bool {
        self.marks.contains(&mark) || self.given.iter().any(|given| given.option.marks.contains(&mark))
    }
}

/// Tells the words of a program apart.
pub(super) fn read<'a>(table: &'static Table, arguments: &'a [Word]) -> Result<Reading<'a>, Unknown> {
    let mut reader = Reader { table, arguments, next: 0, reading: Reading::default() };
    while let Some(word) = reader.take() {
        reader.word(word)?;
    }
    rows::note(&reader.reading.given);
    Ok(reader.reading)
}

struct Reader<'a> {
    table: &'static Table,
    arguments: &'a [Word],
    /// The index of the next word.
    next: usize,
    reading: Reading<'a>,
}

impl<'a> Reader<'a> {
    fn take(&mut self) -> Option<&'a Word> {
        let word = self.arguments.get(self.next)?;
        self.next += 1;
        Some(word)
    }

    /// The index of the word taken last.
    fn current(&self) -> usize {
        self.next.saturating_sub(1)
    }

    fn word(&mut self, word: &'a Word) -> Result<(), Unknown> {
        let text = leading_text(word);
        let style = self.table.style;
        if !self.reading.closed && may_be_option(word) {
            self.reading.open.get_or_insert(self.current());
        }
        if self.reading.closed || !text.starts_with('-') || word.as_literal() == Some("-") {
            self.operand(word);
            return Ok(());
        }
        if word.as_literal() == Some("--") && !style.no_terminator {
            self.reading.closed = true;
            self.reading.before_terminator = Some(self.reading.operands.len());
            return Ok(());
        }
        if word.is_glob() {
            // Unmatched, the word is an option; matched, it is operands.
            self.reading.operands.push(Operand {
                word: Held(Cow::Borrowed(word)),
                argument: self.current(),
                count: Count::Any,
            });
        }
        if style.single {
            self.single(word)
        } else if text.starts_with("--") {
            self.long(word)
        } else {
            self.short(word)
        }
    }

    fn operand(&mut self, word: &'a Word) {
        let count = if word.is_glob() { Count::Several } else { Count::One };
        self.reading.operands.push(Operand {
            word: Held(Cow::Borrowed(word)),
            argument: self.current(),
            count,
        });
        self.reading.closed |= self.table.style.first;
    }

    /// `--name`, `--name=value`, `--name value`.
    fn long(&mut self, word: &'a Word) -> Result<(), Unknown> {
        let text = leading_text(word);
        let (name, attached) = match text.find('=') {
            Some(at) => (text.get(..at).unwrap_or(text), without_prefix(word, at + 1)),
            None => (text, None),
        };
        if attached.is_none() && word.is_glob() {
            return Err(self.usage("a pattern cannot name an option"));
        }
        if attached.is_none() && self.negates(name)? {
            return Ok(());
        }
        let option = resolve_long(self.table, name).map_err(|problem| self.unknown(name, problem))?;
        self.give(option, name, attached, word)
    }

    /// Whether `--no-NAME` undoes an option that has no effect on what this module tells.
    fn negates(&self, name: &str) -> Result<bool, Unknown> {
        let known = |name: &str| self.table.options.iter().find(|option| option.names.contains(&name));
        let Some(bare) = name.strip_prefix("--no-").filter(|_| self.table.style.negatable) else {
            return Ok(false);
        };
        if known(name).is_some() {
            return Ok(false);
        }
        match known(&format!("--{bare}")) {
            Some(option) if option.marks.is_empty() => Ok(true),
            Some(option) => {
                Err(self.usage(&format!("`{name}` undoes `{}`; leave both out", option.canonical())))
            }
            None => Ok(false),
        }
    }

    /// `-a`, `-abc`, `-ovalue`, `-o value`.
    fn short(&mut self, word: &'a Word) -> Result<(), Unknown> {
        let text = leading_text(word);
        let style = self.table.style;
        let whole = |option: &&Opt| text.len() > 2 && option.names.contains(&text);
        if let Some(option) = self.table.options.iter().find(whole).filter(|_| !word.is_glob()) {
            return self.give(option, text, None, word);
        }
        let mut digits = false;
        for (at, letter) in text.char_indices().skip(1) {
            if style.digits && letter.is_ascii_digit() {
                digits = true;
                continue;
            }
            let Some((option, name)) = short_option(self.table, letter) else {
                return Err(self.unknown(&format!("-{letter}"), None));
            };
            let behind = at + letter.len_utf8();
            let last = behind == text.len() && !word.is_glob();
            if option.takes == Takes::Nothing {
                self.give(option, name, None, word)?;
                continue;
            }
            if digits && last && matches!(option.takes, Takes::Values(_)) {
                // In the old form `-20c` the letter is the unit of the number and takes no value.
                return Err(self.usage("a number before an option that wants a value means two things"));
            }
            let rest = if last { None } else { without_prefix(word, behind) };
            let rest = match rest {
                Some(rest) if style.equals && leading_text(&rest).starts_with('=') => {
                    without_prefix(&rest, 1)
                }
                rest => rest,
            };
            return self.give(option, name, rest, word);
        }
        if word.is_glob() {
            return Err(self.usage("a pattern cannot name an option"));
        }
        Ok(())
    }

    /// `-name`, `-name value`, and `-c16` where `-c` takes a value.
    fn single(&mut self, word: &'a Word) -> Result<(), Unknown> {
        let Some(text) = word.as_literal() else { return Err(self.usage("a pattern cannot name an option")) };
        let option = |name: &str| self.table.options.iter().find(|option| option.names.contains(&name));
        let exact = option(text).or_else(|| text.strip_prefix('-').and_then(option));
        if let Some(found) = exact {
            return self.give(found, text, None, word);
        }
        if let Some((name, _)) = text.split_once('=')
            && self.table.style.equals
            && let Some(found) = option(name)
        {
            let rest = without_prefix(word, name.len() + 1);
            return self.give(found, name, rest, word);
        }
        let letter = text.char_indices().nth(2).map_or(text.len(), |(at, _)| at);
        let name = text.get(..letter).unwrap_or(text);
        match option(name) {
            Some(found) if found.takes != Takes::Nothing => {
                self.give(found, name, without_prefix(word, letter), word)
            }
            _ => Err(self.unknown(text, None)),
        }
    }

    fn give(
        &mut self,
        option: &'static Opt,
        written: &'a str,
        attached: Option<Word>,
        word: &Word,
    ) -> Result<(), Unknown> {
        let argument = self.current();
        let mut values = Vec::new();
        match &option.takes {
            Takes::Nothing if attached.is_some() => {
                return Err(self.usage(&format!("`{written}` takes no value")));
            }
            Takes::Nothing => {}
            Takes::Perhaps(_) => values.extend(attached.map(|value| (Held(Cow::Owned(value)), argument))),
            Takes::Values(roles) => {
                values.extend(attached.map(|value| (Held(Cow::Owned(value)), argument)));
                while values.len() < roles.len() {
                    let Some(value) = self.take() else {
                        return Err(self.usage(&format!("`{written}` wants a value")));
                    };
                    let at = self.current();
                    if value.is_glob() {
                        if roles.len() > 1 {
                            return Err(self.usage("a pattern may stand for several values"));
                        }
                        // The first match is the value, the others are operands.
                        self.reading.operands.push(Operand {
                            word: Held(Cow::Borrowed(value)),
                            argument: at,
                            count: Count::Any,
                        });
                    }
                    values.push((Held(Cow::Borrowed(value)), at));
                }
            }
        }
        if word.is_glob() && (!option.marks.is_empty() || option.harms().next().is_some()) {
            return Err(
                self.usage(&format!("a pattern in the word of `{written}` may make it an operand; quote it"))
            );
        }
        self.reading.given.push(Given { option, values, written, argument });
        Ok(())
    }

    fn usage(&self, problem: &str) -> Unknown {
        Unknown::Usage { problem: problem.to_owned(), argument: Some(self.current()) }
    }

    fn unknown(&self, name: &str, ambiguous: Option<String>) -> Unknown {
        match ambiguous {
            Some(problem) => Unknown::Usage { problem, argument: Some(self.current()) },
            None => Unknown::Option {
                text: name.to_owned(),
                argument: self.current(),
                nearest: nearest(self.table, name),
            },
        }
    }
}

/// Finds the option with this one letter, and its name.
fn short_option(table: &'static Table, letter: char) -> Option<(&'static Opt, &'static str)> {
    let is_meant = |name: &&'static str| {
        let mut letters = name.chars();
        letters.next() == Some('-') && letters.next() == Some(letter) && letters.next().is_none()
    };
    table.options.iter().find_map(|option| Some((option, option.names.iter().copied().find(is_meant)?)))
}

/// Finds the option with this long name, or the one that it abbreviates. The error says between which it is
/// ambiguous, where it is.
fn resolve_long(table: &'static Table, name: &str) -> Result<&'static Opt, Option<String>> {
    if let Some(option) = table.options.iter().find(|option| option.names.contains(&name)) {
        return Ok(option);
    }
    let Style { abbreviated: true, .. } = table.style else { return Err(None) };
    let mut fits =
        table.options.iter().filter(|option| option.names.iter().any(|known| known.starts_with(name)));
    let Some(first) = fits.next() else { return Err(None) };
    match fits.next() {
        None => Ok(first),
        Some(second) => {
            Err(Some(format!("`{name}` could be `{}` or `{}`", first.canonical(), second.canonical())))
        }
    }
}

/// Returns the known name that is nearest to one that is not, when it is near at all.
fn nearest(table: &Table, name: &str) -> Option<String> {
    let long = name.starts_with("--");
    let names =
        table.options.iter().flat_map(|option| &option.names).filter(|known| known.starts_with("--") == long);
    let (distance, nearest) = names.map(|known| (distance(known, name), *known)).min()?;
    (long && distance <= 3).then(|| nearest.to_owned())
}

/// Counts the insertions, removals and replacements between two texts.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut corner = index;
        let mut left = index + 1;
        let mut next = vec![left];
        for (theirs, above) in other.iter().zip(row.iter().skip(1)) {
            left = (corner + usize::from(letter != *theirs)).min(above + 1).min(left + 1);
            corner = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (one, other, wanted) in
            [("", "abc", 3), ("--recursive", "--recursiv", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(one, other), wanted, "{one} {other}");
        }
    }
}
