//! `zip`: options of one or two letters in bundles, and lists of patterns that end at the next option.

use portcullis_core::Word;

use super::roles::{Extent, ITSELF};
use super::table::Role;
use super::unseen::{may_be_option, seen_text};
use super::words::{leading_text, with_suffix, without_prefix};
use super::{EffectKind, Effects, Reach, Unknown};

const TREE: Extent = Extent { reach: Reach::Tree, follow_links: false };

/// What an option of `zip` takes, and does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Zip {
    Plain,
    Text,
    Write,
    Into,
    Move,
    Delete,
    Recurse,
    Test,
    TestWith,
    Names,
    /// Patterns up to the next option.
    List,
}

/// The options of `zip`; of two that fit, the longer one counts.
const ZIP: &[(&str, Zip)] = &[
    ("--copy-entries", Zip::Plain),
    ("--delete", Zip::Delete),
    ("--encrypt", Zip::Plain),
    ("--exclude", Zip::List),
    ("--freshen", Zip::Plain),
    ("--help", Zip::Plain),
    ("--include", Zip::List),
    ("--junk-paths", Zip::Plain),
    ("--move", Zip::Move),
    ("--names-stdin", Zip::Names),
    ("--no-dir-entries", Zip::Plain),
    ("--no-extra", Zip::Plain),
    ("--out", Zip::Write),
    ("--output-file", Zip::Write),
    ("--password", Zip::Text),
    ("--quiet", Zip::Plain),
    ("--recurse-paths", Zip::Recurse),
    ("--symlinks", Zip::Plain),
    ("--temp-path", Zip::Into),
    ("--test", Zip::Test),
    ("--unzip-command", Zip::TestWith),
    ("--update", Zip::Plain),
    ("--verbose", Zip::Plain),
    ("--version", Zip::Plain),
    ("-TT", Zip::TestWith),
    ("-FF", Zip::Plain),
    ("-FS", Zip::Plain),
    ("-MM", Zip::Plain),
    ("-RE", Zip::Plain),
    ("-lf", Zip::Write),
    ("-tt", Zip::Text),
    ("-db", Zip::Plain),
    ("-dc", Zip::Plain),
    ("-dd", Zip::Plain),
    ("-dg", Zip::Plain),
    ("-du", Zip::Plain),
    ("-dv", Zip::Plain),
    ("-ds", Zip::Text),
    ("-fd", Zip::Plain),
    ("-fz", Zip::Plain),
    ("-h2", Zip::Plain),
    ("-ic", Zip::Plain),
    ("-la", Zip::Plain),
    ("-li", Zip::Plain),
    ("-ll", Zip::Plain),
    ("-nw", Zip::Plain),
    ("-sb", Zip::Plain),
    ("-sc", Zip::Plain),
    ("-sd", Zip::Plain),
    ("-sf", Zip::Plain),
    ("-so", Zip::Plain),
    ("-sp", Zip::Plain),
    ("-su", Zip::Plain),
    ("-sv", Zip::Plain),
    ("-sU", Zip::Plain),
    ("-ws", Zip::Plain),
    ("-wl", Zip::Plain),
    ("-0", Zip::Plain),
    ("-1", Zip::Plain),
    ("-2", Zip::Plain),
    ("-3", Zip::Plain),
    ("-4", Zip::Plain),
    ("-5", Zip::Plain),
    ("-6", Zip::Plain),
    ("-7", Zip::Plain),
    ("-8", Zip::Plain),
    ("-9", Zip::Plain),
    ("-@", Zip::Names),
    ("-A", Zip::Plain),
    ("-D", Zip::Plain),
    ("-F", Zip::Plain),
    ("-J", Zip::Plain),
    ("-L", Zip::Plain),
    ("-O", Zip::Write),
    ("-P", Zip::Text),
    ("-R", Zip::Recurse),
    ("-T", Zip::Test),
    ("-U", Zip::Plain),
    ("-X", Zip::Plain),
    ("-Z", Zip::Text),
    ("-b", Zip::Into),
    ("-c", Zip::Plain),
    ("-d", Zip::Delete),
    ("-e", Zip::Plain),
    ("-f", Zip::Plain),
    ("-h", Zip::Plain),
    ("-i", Zip::List),
    ("-j", Zip::Plain),
    ("-k", Zip::Plain),
    ("-l", Zip::Plain),
    ("-m", Zip::Move),
    ("-n", Zip::Text),
    ("-o", Zip::Plain),
    ("-q", Zip::Plain),
    ("-r", Zip::Recurse),
    ("-s", Zip::Text),
    ("-t", Zip::Text),
    ("-u", Zip::Plain),
    ("-v", Zip::Plain),
    ("-x", Zip::List),
    ("-y", Zip::Plain),
    ("-z", Zip::Plain),
];

/// Reads the words of `zip`.
pub(super) fn read(arguments: &[Word], effects: &mut Effects) -> Result<(), Unknown> {
    let mut operands: Vec<(Word, usize)> = Vec::new();
    let (mut moves, mut deletes, mut recurses, mut names) = (false, false, false, None);
    let mut next = 0;
    let mut closed = false;
    while let Some(word) = arguments.get(next) {
        let at = next;
        next += 1;
        let text = leading_text(word);
        if may_be_option(word) {
            let why = "words that are not on the line may be options such as `-TT` and `-m`";
            effects.unbounded(EffectKind::Execute, why, Some(at), "operand");
        }
        if closed || !text.starts_with('-') || text == "-" {
            operands.push((word.clone(), at));
            continue;
        }
        let Some(text) = seen_text(word) else {
            return Err(Unknown::Usage {
                problem: "a pattern cannot name an option".into(),
                argument: Some(at),
            });
        };
        if text == "--" {
            closed = true;
            continue;
        }
        let mut rest = text;
        let mut first = true;
        while !rest.is_empty() {
            let dashed = if first { rest.to_owned() } else { format!("-{rest}") };
            first = false;
            let fits = |name: &str| match name.starts_with("--") {
                true => dashed.split('=').next() == Some(name),
                false => dashed.starts_with(name) && !dashed.starts_with("--"),
            };
            let Some((name, kind)) =
                ZIP.iter().filter(|(name, _)| fits(name)).max_by_key(|(name, _)| name.len())
            else {
                return Err(Unknown::Option { text: dashed, argument: at, nearest: None });
            };
            let behind = dashed.get(name.len()..).unwrap_or_default().to_owned();
            rest = rest.get(rest.len() - behind.len()..).unwrap_or_default();
            effects.options.push(((*name).into(), at));
            let via = format!("option `{name}`");
            match kind {
                Zip::Plain => {}
                Zip::Move => moves = true,
                Zip::Delete => deletes = true,
                Zip::Recurse => recurses = true,
                Zip::Names => names = Some(at),
                Zip::Test => effects.helpers.push("unzip".to_owned()),
                Zip::List => {
                    if let Some(file) = rest.strip_prefix('@').filter(|file| !file.is_empty()) {
                        effects.path(
                            EffectKind::Read,
                            Word::literal(file, word.span),
                            ITSELF,
                            Some(at),
                            &via,
                        );
                    }
                    let listed = arguments.get(next..).unwrap_or_default();
                    let length = listed.iter().take_while(|word| !leading_text(word).starts_with('-'));
                    let length = length.take_while(|word| word.as_literal() != Some("@")).count();
                    // A pattern that is expanded, or a list that begins in the word, leaves open where it ends.
                    for (offset, word) in listed.iter().take(length).enumerate() {
                        effects.path(EffectKind::Read, word.clone(), ITSELF, Some(next + offset), &via);
                        if let Some(file) =
                            without_prefix(word, 1).filter(|_| leading_text(word).starts_with('@'))
                        {
                            effects.path(EffectKind::Read, file, ITSELF, Some(next + offset), &via);
                        }
                    }
                    next += length;
                    next += usize::from(arguments.get(next).and_then(Word::as_literal) == Some("@"));
                    rest = "";
                }
                Zip::Text | Zip::Write | Zip::Into | Zip::TestWith => {
                    let value = match rest.strip_prefix('=').unwrap_or(rest) {
                        "" => {
                            let value = arguments.get(next).cloned();
                            next += 1;
                            value.ok_or_else(|| Unknown::Usage {
                                problem: format!("`{name}` wants a value"),
                                argument: Some(at),
                            })?
                        }
                        value => Word::literal(value, word.span),
                    };
                    if value.is_glob() {
                        let problem = "a pattern may stand for several values".into();
                        return Err(Unknown::Usage { problem, argument: Some(next - 1) });
                    }
                    let role = match kind {
                        Zip::Write => Role::Write,
                        Zip::Into => Role::Into,
                        Zip::TestWith => Role::Command,
                        _ => Role::Text,
                    };
                    effects.add(role, &value, ITSELF, Some(next - 1), &via);
                    rest = "";
                }
            }
        }
    }
    let extent = if recurses { TREE } else { ITSELF };
    let Some(((archive, at), inputs)) = operands.split_first() else { return Ok(()) };
    if archive.as_literal() != Some("-") {
        effects.path(EffectKind::Read, archive.clone(), ITSELF, Some(*at), "archive");
        for archive in [archive.clone(), with_suffix(archive, ".zip")] {
            effects.path(EffectKind::Write, archive, ITSELF, Some(*at), "archive");
        }
    }
    if deletes {
        return Ok(());
    }
    let inputs = if archive.is_glob() { operands.as_slice() } else { inputs };
    for (input, at) in inputs.iter().filter(|(input, _)| input.as_literal() != Some("-")) {
        effects.path(EffectKind::Read, input.clone(), extent, Some(*at), "operand");
        if moves {
            effects.path(EffectKind::Delete, input.clone(), TREE, Some(*at), "option `-m`");
        }
    }
    if names.is_some() {
        let why = "names come from standard input";
        effects.unbounded(EffectKind::Read, why, names, "option `-@`");
        if moves {
            effects.unbounded(EffectKind::Delete, why, names, "option `-m`");
        }
    }
    Ok(())
}
