//! Commands of wrappers, some of whose words are not on the line.
//!
//! Words that `xargs` appends, and text that a placeholder stands for, may be anything. They are represented by
//! characters that nobody writes, go through the same tables as every word, and whatever they then touch is an
//! effect on something unbounded.

use portcullis_core::{Piece, Word};

use super::table::{self, Table};
use super::words::{implied, leading_text};
use super::{Effect, EffectKind, Effects, Inner, Placeholder, Reach, Subject, Unknown, effects, options};

/// Stands for any text at all.
pub(super) const ANYTHING: char = '\u{10FFFD}';

/// Stands for the path of a file that `find` has found: it never begins with `-`.
pub(super) const FOUND: char = '\u{10FFFC}';

/// Whether text holds something that is not on the line.
pub(super) fn is_unseen(text: &str) -> bool {
    text.contains([ANYTHING, FOUND])
}

/// Whether text begins with something that is not on the line and may be an option.
pub(super) fn begins_unseen(text: &str) -> bool {
    text.starts_with(ANYTHING)
}

/// Says what the command of a wrapper would do.
pub(super) fn effects_of(inner: &Inner) -> Result<Effects, Unknown> {
    if inner.script.is_some() {
        return Ok(Effects::default());
    }
    let words: Vec<Word> =
        inner.words.iter().map(|word| replaced(word, inner.placeholder.as_ref())).collect();
    let Some((program, mut arguments)) = words.split_first().map(|(program, rest)| (program, rest.to_vec()))
    else {
        return Err(Unknown::Usage { problem: "there is no command to run".into(), argument: None });
    };
    let Some(program) = program.as_literal().filter(|name| !is_unseen(name)) else {
        return Err(Unknown::Usage {
            problem: "the program's name is not on the line".into(),
            argument: None,
        });
    };
    let mut insertion = None;
    if inner.appended {
        if let Some(table) = table::find(program)
            && wants_terminator(table)
            && !options::read(table, &arguments)?.closed
        {
            // Behind `--`, what is appended cannot be an option.
            insertion = Some((arguments.len(), "--".into()));
            arguments.push(implied("--"));
        }
        let pieces = vec![Piece::Text(ANYTHING.to_string()), Piece::AnyString];
        arguments.push(Word { pieces, span: implied("").span });
    }
    let mut effects = effects(program, &arguments)?;
    effects.insertions.extend(insertion);
    let last = inner.words.len().checked_sub(2);
    let parents: Vec<_> = effects.list.iter().filter_map(parent_on_the_line).collect();
    effects.list.extend(parents);
    for effect in &mut effects.list {
        effect.argument =
            effect.argument.map(|at| at.min(last.unwrap_or_default())).filter(|_| last.is_some());
        if touches_unseen(&effect.subject) {
            let why = match effect.kind {
                EffectKind::Read | EffectKind::Examine => "names of files are not on the line",
                EffectKind::Delete => "what is deleted is not on the line",
                EffectKind::Write => "what is written is not on the line",
                _ => "operands are not on the line",
            };
            effect.subject = Subject::Unbounded(why.to_owned());
        }
    }
    Ok(effects)
}

/// Whether some option of the program can do harm, and `--` ends the options.
fn wants_terminator(table: &Table) -> bool {
    !table.style.no_terminator && table.options.iter().any(|option| !table.harms_of(option).is_empty())
}

/// Returns that the directory is looked at which the line names before what it does not: of `/etc/{}`, `/etc`.
fn parent_on_the_line(effect: &Effect) -> Option<Effect> {
    let Subject::Path { word, follow_links, .. } = &effect.subject else { return None };
    if !matches!(effect.kind, EffectKind::Read | EffectKind::Examine) {
        return None;
    }
    let text = leading_text(word);
    let before = text.get(..text.find([ANYTHING, FOUND])?)?;
    let directory = before.get(..=before.rfind('/')?)?;
    let subject =
        Subject::Path { word: implied(directory), reach: Reach::Itself, follow_links: *follow_links };
    Some(Effect { kind: EffectKind::Examine, subject, ..effect.clone() })
}

fn touches_unseen(subject: &Subject) -> bool {
    match subject {
        Subject::Path { word, .. } => is_unseen(&word.to_unmatched()),
        Subject::Host { host, .. } => is_unseen(host),
        Subject::Program(name) => is_unseen(name),
        Subject::Repository | Subject::Unbounded(_) => false,
    }
}

/// Puts the character for unseen text where the placeholder stands.
fn replaced(word: &Word, placeholder: Option<&Placeholder>) -> Word {
    let (text, stands_for) = match placeholder {
        None => return word.clone(),
        Some(Placeholder::Text(text)) => (text, ANYTHING),
        Some(Placeholder::Found(text)) => (text, FOUND),
    };
    let pieces = word.pieces.iter().map(|piece| match piece {
        Piece::Text(piece) if !text.is_empty() => {
            Piece::Text(piece.replace(text.as_str(), &stands_for.to_string()))
        }
        other => other.clone(),
    });
    Word { pieces: pieces.collect(), span: word.span }
}

/// Returns a word's text when it is on the line in full.
pub(super) fn seen_text(word: &Word) -> Option<&str> {
    word.as_literal().filter(|text| !is_unseen(text))
}

/// Whether a word may be an option although it does not look like one.
pub(super) fn may_be_option(word: &Word) -> bool {
    begins_unseen(leading_text(word))
}
