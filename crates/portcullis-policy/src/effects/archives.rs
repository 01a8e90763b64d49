//! `tar` and `dd`: options in grammars older than `getopt_long`, and archives.

use portcullis_core::Word;

use super::files::mode;
use super::options::{self, Reading};
use super::roles::{Extent, ITSELF};
use super::table::{self, Role};
use super::unseen::seen_text;
use super::words::{beneath, implied, leading_text, without_prefix};
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
            own.insertions.push((before, "--verbatim-files-from".into()));
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
            directory = if changes.is_empty() { value.to_word() } else { beneath(&directory, value) };
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
        let path = force(argument).map_or_else(|| word.to_word(), |base| beneath(base, word));
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
    for operand in &reading.operands {
        // A member's name loses its first slashes.
        let text = operand.word.to_unmatched();
        let member = implied(text.trim_start_matches('/'));
        let path = force(operand.argument).map_or_else(|| member.clone(), |base| beneath(base, &member));
        effects.path(EffectKind::Write, path, ITSELF, Some(operand.argument), "operand");
    }
    if changes.is_empty() {
        effects.path(EffectKind::Write, implied("."), ENTRY, None, "members of the archive");
    }
    for (argument, directory) in changes {
        effects.path(EffectKind::Write, directory, ENTRY, Some(argument), "option `-C`");
    }
    let given = |mark: &str| reading.given.iter().find(|given| given.option.marks.contains(&mark));
    if let Some(given) = given("absolute") {
        // Members may name any place.
        let via = format!("option `{}`", given.written);
        effects.path(EffectKind::Write, implied("/"), ITSELF, Some(given.argument), &via);
    }
    if let Some(given) = given("transform") {
        let why = "names of members are made from others";
        let via = format!("option `{}`", given.written);
        effects.unbounded(EffectKind::Write, why, Some(given.argument), &via);
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
