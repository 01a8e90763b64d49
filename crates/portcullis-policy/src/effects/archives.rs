//! `tar`, `zip` and `dd`: options in grammars older than `getopt_long`, and archives.

use portcullis_core::Word;

use super::files::mode;
use super::options::{self, Reading};
use super::roles::{Extent, ITSELF};
use super::table::{self, Role};
use super::unseen::{may_be_option, seen_text};
use super::words::{beneath, implied, leading_text, with_suffix, without_prefix};
use super::{EffectKind, Effects, Reach, Unknown, roles};

const TREE: Extent = Extent { reach: Reach::Tree, follow_links: false };
const ENTRY: Extent = Extent { reach: Reach::Entry, follow_links: false };

/// Reads the words of `tar`.
pub(super) fn tar(arguments: &[Word], effects: &mut Effects) -> Result<(), Unknown> {
    let Some(table) = table::find("tar") else { return Err(Unknown::Program) };
    let (words, places) = spelled_out(table, arguments)?;
    let reading = options::read(table, &words).map_err(|problem| replaced(problem, &places))?;
    let mut own = Effects::default();
    roles::apply(table, &reading, &mut own)?;
    archive(&reading, &mut own);
    members(&reading, &mut own)?;
    actions(&reading, &mut own)?;
    let old_style = places.first() == places.get(1) && places.len() > 1;
    if reading.marked("names") {
        // Lines of the list that begin with `-` are options, unless it is read verbatim.
        let from = reading.last("--files-from").map(|given| given.argument);
        let listed = from.and_then(|argument| places.get(argument)).copied();
        if old_style && listed == Some(0) || reading.marked("options-in-files") {
            own.unbounded(EffectKind::Execute, "the list may hold options", from, "option `-T`");
        } else {
            let first = places
                .iter()
                .zip(&words)
                .find(|(_, word)| leading_text(word) == "-T" || leading_text(word).starts_with("--files"));
            let before = if old_style { first.map_or(0, |(place, _)| *place) } else { 0 };
            own.insertions.push((before, "--verbatim-files-from".to_owned()));
        }
    }
    let place = |argument: usize| places.get(argument).copied().unwrap_or_default();
    own.list.iter_mut().for_each(|effect| effect.argument = effect.argument.map(place));
    own.options.iter_mut().for_each(|(_, argument)| *argument = place(*argument));
    own.helpers = ["bzip2", "gzip", "xz", "zstd"].map(str::to_owned).to_vec();
    *effects = own;
    Ok(())
}

fn replaced(problem: Unknown, places: &[usize]) -> Unknown {
    let place = |argument: usize| places.get(argument).copied().unwrap_or_default();
    match problem {
        Unknown::Option { text, argument, nearest } => {
            Unknown::Option { text, argument: place(argument), nearest }
        }
        Unknown::Usage { problem, argument } => Unknown::Usage { problem, argument: argument.map(place) },
        other => other,
    }
}

/// Spells an old-style bundle out: `cf a.tar` becomes `-c -f a.tar`. With each word goes its argument's index.
fn spelled_out(table: &'static table::Table, arguments: &[Word]) -> Result<(Vec<Word>, Vec<usize>), Unknown> {
    let mut words = Vec::new();
    let mut places = Vec::new();
    let mut next = 0;
    if let Some(first) = arguments.first().filter(|first| !leading_text(first).starts_with('-')) {
        let Some(bundle) = seen_text(first) else {
            let problem = "the operation is not on the line".into();
            return Err(Unknown::Usage { problem, argument: Some(0) });
        };
        next = 1;
        for letter in bundle.chars() {
            let name = format!("-{letter}");
            let option = table.options.iter().find(|option| option.names.contains(&name.as_str()));
            let Some(option) = option else {
                return Err(Unknown::Option { text: name, argument: 0, nearest: None });
            };
            words.push(Word::literal(name, first.span));
            places.push(0);
            if matches!(option.takes, table::Takes::Values(_)) {
                let Some(value) = arguments.get(next) else {
                    let problem = format!("`{letter}` wants a value");
                    return Err(Unknown::Usage { problem, argument: Some(0) });
                };
                words.push(value.clone());
                places.push(next);
                next += 1;
            }
        }
    }
    for (argument, word) in arguments.iter().enumerate().skip(next) {
        words.push(word.clone());
        places.push(argument);
    }
    Ok((words, places))
}

/// The archive that `-f` names, or standard streams.
fn archive(reading: &Reading, effects: &mut Effects) {
    for given in reading.given.iter().filter(|given| given.option.names.contains(&"--file")) {
        let Some((archive, argument)) = given.values.first() else { continue };
        let (argument, via) = (Some(*argument), "option `-f`");
        let before_slash = archive.to_unmatched();
        let before_slash = before_slash.split('/').next().unwrap_or_default().to_owned();
        if before_slash.contains(':') && !reading.marked("local") {
            effects.unbounded(
                EffectKind::Network,
                "an archive with a colon is on another host",
                argument,
                via,
            );
        }
        if reading.marked("create") {
            effects.add(Role::Output, archive, ITSELF, argument, via);
        } else if reading.marked("change") {
            effects.add(Role::Change, archive, ITSELF, argument, via);
        } else {
            effects.add(Role::Read, archive, ITSELF, argument, via);
        }
    }
}

/// The files that go into an archive or come out of it. `-C` counts for what follows it.
fn members(reading: &Reading, effects: &mut Effects) -> Result<(), Unknown> {
    let mut directory = implied(".");
    let mut directories = vec![directory.clone()];
    let mut changes: Vec<(usize, Word)> = Vec::new();
    for given in reading.given.iter().filter(|given| given.option.names.contains(&"-C")) {
        for (value, _) in &given.values {
            directory = if changes.is_empty() { value.clone() } else { beneath(&directory, value) };
            changes.push((given.argument, directory.clone()));
            directories.push(directory.clone());
        }
    }
    let force = |argument: usize| changes.iter().rev().find(|(at, _)| *at < argument).map(|(_, word)| word);
    let extent = Extent { reach: Reach::Tree, follow_links: reading.marked("follow") };
    let reads = ["create", "change", "compare"].iter().any(|mark| reading.marked(mark));
    let added = reading.given.iter().filter(|given| given.option.marks.contains(&"add"));
    let added = added.flat_map(|given| given.values.iter().map(|(word, argument)| (word, *argument)));
    let operands = reading.operands.iter().map(|operand| (&operand.word, operand.argument));
    for (word, argument) in operands.chain(added).filter(|_| reads) {
        let path = force(argument).map_or_else(|| word.clone(), |base| beneath(base, word));
        if reading.marked("remove") {
            effects.path(EffectKind::Delete, path.clone(), TREE, Some(argument), "option `--remove-files`");
        }
        effects.path(EffectKind::Read, path, extent, Some(argument), "operand");
    }
    if reading.marked("remove") && reading.marked("names") {
        let why = "the names of what is removed come from a file";
        effects.unbounded(EffectKind::Delete, why, None, "option `--remove-files`");
    }
    if !reading.marked("extract") || reading.marked("stdout") {
        return Ok(());
    }
    if changes.is_empty() {
        effects.path(EffectKind::Write, implied("."), ENTRY, None, "members of the archive");
    }
    for (argument, directory) in changes {
        effects.path(EffectKind::Write, directory, ENTRY, Some(argument), "option `-C`");
    }
    for (mark, why) in
        [("absolute", "members may name any place"), ("transform", "names of members are made from others")]
    {
        let given = reading.given.iter().find(|given| given.option.marks.contains(&mark));
        if let Some(given) = given {
            let via = format!("option `{}`", given.written);
            effects.unbounded(EffectKind::Write, why, Some(given.argument), &via);
        }
    }
    Ok(())
}

/// What is done at checkpoints, and modes.
fn actions(reading: &Reading, effects: &mut Effects) -> Result<(), Unknown> {
    for given in &reading.given {
        let Some((value, argument)) = given.values.first() else { continue };
        if given.option.marks.contains(&"mode") {
            mode(value, *argument, effects)?;
        }
        if given.option.marks.contains(&"action") {
            let harmless = seen_text(value).is_some_and(|text| {
                matches!(text, "." | "bell" | "dot" | "echo" | "totals" | "ttyout")
                    || text.starts_with("echo=")
                    || text.starts_with("sleep=")
            });
            if !harmless {
                let why = "the action at a checkpoint runs a command";
                effects.unbounded(EffectKind::Execute, why, Some(*argument), "option `--checkpoint-action`");
            }
        }
    }
    Ok(())
}

/// Reads the words of `dd`: `KEY=VALUE`.
pub(super) fn dd(arguments: &[Word], effects: &mut Effects) -> Result<(), Unknown> {
    const HARMLESS: [&str; 13] = [
        "bs", "cbs", "conv", "count", "ibs", "iflag", "iseek", "obs", "oflag", "oseek", "seek", "skip",
        "status",
    ];
    for (index, word) in arguments.iter().enumerate() {
        let Some(text) = seen_text(word) else {
            let problem = "an operand of `dd` must be on the line, without a pattern".into();
            return Err(Unknown::Usage { problem, argument: Some(index) });
        };
        if matches!(text, "--help" | "--version" | "--") {
            continue;
        }
        let key = text.split('=').next().unwrap_or_default();
        let value = without_prefix(word, key.len() + 1).filter(|_| text.contains('='));
        let (argument, via) = (Some(index), format!("`{key}=`"));
        match (key, value) {
            ("if", Some(path)) => effects.path(EffectKind::Read, path, ITSELF, argument, &via),
            ("of", Some(path)) => effects.path(EffectKind::Write, path, ITSELF, argument, &via),
            (key, Some(_)) if HARMLESS.contains(&key) => {}
            _ => {
                return Err(Unknown::Option { text: text.to_owned(), argument: index, nearest: None });
            }
        }
    }
    Ok(())
}

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
pub(super) fn zip(arguments: &[Word], effects: &mut Effects) -> Result<(), Unknown> {
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
            effects.options.push(((*name).to_owned(), at));
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
