//! `git`: options before the sub-command, then the sub-command's own.
//!
//! A repository brings configuration of its own, and configuration names programs: hooks, pager, editor, diff and
//! conversion programs, file system monitor. The arguments and variables that [`neutralise`] adds turn those off. What they
//! cannot turn off by name (filters and merge drivers that attributes choose) only the kernel can hold: the permit
//! lets `git` start nothing but itself.

use portcullis_core::Word;

use super::options::{self, Reading};
use super::unseen::{is_unseen, seen_text};
use super::words::{base_name, beneath, leading_text};
use super::{EffectKind, Effects, Subject, Unknown, roles, table};

/// Sub-commands that change the repository's data or its working tree.
const WRITING: &[&str] = &[
    "add",
    "branch",
    "checkout",
    "cherry-pick",
    "clean",
    "commit",
    "merge",
    "mv",
    "rebase",
    "reset",
    "restore",
    "revert",
    "rm",
    "stage",
    "stash",
    "switch",
    "tag",
];

/// What sub-commands without a table are for.
const OTHERS: &[(EffectKind, &[&str])] = &[
    (EffectKind::Network, &["clone", "fetch", "ls-remote", "pull", "push", "remote", "submodule"]),
    (EffectKind::Delete, &["gc", "prune", "reflog", "update-ref", "worktree"]),
    (EffectKind::Write, &["apply", "bundle", "format-patch", "init"]),
];

/// Formats of `git archive` that `git` makes by itself.
const ARCHIVES: &[&str] = &["tar", "zip", "tgz", "tar.gz"];

/// Reads the words of `git`.
pub(super) fn read(arguments: &[Word], effects: &mut Effects) -> Result<(), Unknown> {
    let Some(global) = table::find("git/+global") else { return Err(Unknown::Program) };
    let reading = options::read(global, arguments)?;
    roles::apply_options(&reading, effects);
    let mut directory: Option<Word> = None;
    for given in reading.given.iter().filter(|given| given.option.names.contains(&"-C")) {
        for (value, _) in &given.values {
            directory = Some(directory.map_or_else(|| value.to_word(), |base| beneath(&base, value)));
        }
    }
    if directory.as_ref().is_some_and(|word| is_unseen(&word.to_unmatched())) {
        effects.unbounded(EffectKind::Execute, "the repository is not on the line", None, "option `-C`");
    }
    effects.directory.clone_from(&directory);
    let Some(operand) = reading.operands.first() else { return Ok(()) };
    let at = operand.argument;
    let Some(name) = seen_text(&operand.word) else {
        effects.unbounded(EffectKind::Execute, "the sub-command is not on the line", Some(at), "operand");
        return Ok(());
    };
    effects.subcommand = Some(name.to_owned());
    let words = arguments.get(at + 1..).unwrap_or_default();
    let mut own = Effects::default();
    let read = subcommand(name, words, &mut own).map_err(|problem| problem.moved(at + 1));
    neutralise(name, effects);
    for effect in &mut own.list {
        if let Subject::Path { word, .. } = &mut effect.subject
            && let Some(directory) = &directory
        {
            *word = beneath(directory, word);
        }
    }
    effects.append_moved(own, at + 1);
    read
}

fn subcommand(name: &str, words: &[Word], effects: &mut Effects) -> Result<(), Unknown> {
    let before_terminator = words.iter().take_while(|word| word.as_literal() != Some("--"));
    for (index, word) in before_terminator.enumerate() {
        if word.as_literal() == Some("--help") {
            effects.unbounded(EffectKind::Execute, "starts a viewer", Some(index), "option `--help`");
            return Ok(());
        }
    }
    let (key, skipped) = match name {
        "stash" => match words.first().and_then(Word::as_literal) {
            Some(text) if !text.starts_with('-') => (format!("git/stash/{text}"), 1),
            _ => ("git/stash/push".to_owned(), 0),
        },
        _ => (format!("git/{name}"), 0),
    };
    let Some(table) = table::find(&key).filter(|_| !name.starts_with('+')) else {
        let known = OTHERS.iter().find(|(_, names)| names.contains(&name));
        let kind = known.map_or(EffectKind::Execute, |(kind, _)| *kind);
        effects.unbounded(kind, "the sub-command's words are not understood", None, "sub-command");
        return Ok(());
    };
    let words = words.get(skipped..).unwrap_or_default();
    let mut own = Effects::default();
    let reading = options::read(table, words).map_err(|problem| problem.moved(skipped))?;
    roles::apply(table, &reading, &mut own).map_err(|problem| problem.moved(skipped))?;
    details(name, &key, &reading, words.len(), &mut own)?;
    effects.append_moved(own, skipped);
    Ok(())
}

/// Adds what the sub-command's table cannot say.
fn details(
    name: &str,
    key: &str,
    reading: &Reading,
    length: usize,
    effects: &mut Effects,
) -> Result<(), Unknown> {
    let writes = WRITING.contains(&name) && !matches!(key, "git/stash/list" | "git/stash/show");
    let kind = if writes { EffectKind::Write } else { EffectKind::Read };
    effects.effect(kind, Subject::Repository, None, "sub-command");
    match key {
        "git/log" | "git/show" | "git/diff" | "git/whatchanged" | "git/stash/list" | "git/stash/show" => {
            effects.insertions.push((0, "--no-ext-diff".into()));
            effects.insertions.push((0, "--no-textconv".into()));
        }
        "git/blame" | "git/annotate" => effects.insertions.push((0, "--no-textconv".into())),
        "git/checkout" => checkout(reading, length, effects),
        "git/restore" if !reading.marked("staged") => {
            let first = reading.operands.first().map(|operand| operand.argument);
            effects.unbounded(EffectKind::Delete, "changes to these files are thrown away", first, "operand");
        }
        "git/stash/drop" | "git/stash/clear" => {
            effects.unbounded(EffectKind::Delete, "stashed changes are thrown away", None, "sub-command");
        }
        "git/clean" if !reading.marked("dry") => {
            effects.unbounded(
                EffectKind::Delete,
                "files that are not tracked are removed",
                None,
                "sub-command",
            );
        }
        "git/mv" => move_into(reading, effects),
        "git/archive" => archive(reading, effects),
        "git/merge" | "git/rebase" | "git/cherry-pick" | "git/revert" => strategy(reading, effects),
        _ => {}
    }
    Ok(())
}

/// `git checkout REVISION` takes a branch; with paths it throws away what they hold. Behind `REVISION --` nothing can
/// be taken for a path.
fn checkout(reading: &Reading, length: usize, effects: &mut Effects) {
    let before = reading.before_terminator.unwrap_or(reading.operands.len());
    let (revisions, paths) = reading.operands.split_at(before.min(reading.operands.len()));
    let new = reading.marked("new");
    let suspect = match revisions {
        [] => None,
        [one] if !one.word.is_glob() && (new || !looks_like_path(&one.word)) => None,
        [_, .., last] => Some(last),
        [one] => Some(one),
    };
    if let Some(path) = paths.first().or(suspect) {
        let why = "changes to these files are thrown away";
        effects.unbounded(EffectKind::Delete, why, Some(path.argument), "operand");
    } else if revisions.len() == 1 && reading.before_terminator.is_none() {
        effects.insertions.push((length, "--".into()));
    }
}

/// Whether a word is more likely a path than a branch: `.`, `./x`, `/x`, `src/`, `main.rs`.
fn looks_like_path(word: &Word) -> bool {
    let text = word.to_unmatched();
    let last = text.rsplit('/').next().unwrap_or_default();
    let extension = last.rsplit_once('.').map_or("", |(_, extension)| extension);
    text.starts_with(['.', '/', ':'])
        || text.ends_with('/')
        || (!extension.is_empty() && extension.chars().all(|c| c.is_ascii_alphabetic()))
}

fn move_into(reading: &Reading, effects: &mut Effects) {
    let Some((target, sources)) = reading.operands.split_last() else { return };
    for source in sources {
        if let Some(name) = base_name(&source.word) {
            let path = beneath(&target.word, &name);
            effects.path(EffectKind::Write, path, roles::ITSELF, Some(target.argument), "operand");
        }
    }
}

/// Configuration can name a command for any format but those that `git` makes by itself.
fn archive(reading: &Reading, effects: &mut Effects) {
    for given in reading.given.iter().filter(|given| given.option.names.contains(&"--format")) {
        for (value, argument) in &given.values {
            if !seen_text(value).is_some_and(|text| ARCHIVES.contains(&text)) {
                let why = "configuration can name a command for this format";
                effects.unbounded(EffectKind::Execute, why, Some(*argument), "option `--format`");
            }
        }
    }
    let format = reading.last("--format");
    let output = reading.last("--output").and_then(|given| given.values.first());
    if let (None, Some((output, _))) = (format, output) {
        let name = output.to_unmatched();
        if !ARCHIVES.iter().any(|format| name.ends_with(&format!(".{format}"))) {
            effects.insertions.push((0, "--format=tar".into()));
        }
    }
}

/// A strategy that `git` does not bring is a program.
fn strategy(reading: &Reading, effects: &mut Effects) {
    const KNOWN: [&str; 6] = ["octopus", "ort", "ours", "recursive", "resolve", "subtree"];
    for given in reading.given.iter().filter(|given| given.option.names.contains(&"--strategy")) {
        for (value, argument) in &given.values {
            if !seen_text(value).is_some_and(|text| KNOWN.contains(&text)) {
                let subject = Subject::Program(format!("git-merge-{}", leading_text(value)));
                effects.effect(EffectKind::Execute, subject, Some(*argument), "option `--strategy`");
            }
        }
    }
}

/// Adds the arguments and variables that keep a repository's configuration from naming programs.
fn neutralise(name: &str, effects: &mut Effects) {
    const CONFIGURATION: [&str; 14] = [
        "core.fsmonitor=false",
        "core.hooksPath=/dev/null",
        "core.pager=cat",
        "commit.gpgSign=false",
        "credential.helper=",
        "gc.auto=0",
        "gpg.openpgp.program=false",
        "gpg.program=false",
        "gpg.ssh.program=false",
        "gpg.x509.program=false",
        "log.showSignature=false",
        "protocol.allow=never",
        "submodule.recurse=false",
        "tag.gpgSign=false",
    ];
    const ENVIRONMENT: [(&str, &str); 11] = [
        ("GIT_ALLOW_PROTOCOL", "none"),
        ("GIT_ATTR_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_EDITOR", ":"),
        ("GIT_NO_LAZY_FETCH", "1"),
        ("GIT_OPTIONAL_LOCKS", "0"),
        ("GIT_PAGER", "cat"),
        ("GIT_SEQUENCE_EDITOR", ":"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("PAGER", "cat"),
    ];
    for setting in CONFIGURATION {
        effects.insertions.push((0, "-c".into()));
        effects.insertions.push((0, setting.into()));
    }
    if name == "archive" {
        for format in ["tgz", "tar.gz"] {
            effects.insertions.push((0, "-c".into()));
            effects.insertions.push((0, format!("tar.{format}.command=git archive gzip").into()));
        }
    }
    effects.environment.extend(ENVIRONMENT.map(|(name, value)| (name.into(), value.into())));
    effects.helpers.push("git".to_owned());
}
