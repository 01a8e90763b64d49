//! Programs that run the command that their operands hold.

use portcullis_core::Word;

use super::options::{self, Count, Operand, Reading};
use super::roles::apply_options;
use super::table;
use super::unseen::{is_unseen, seen_text};
use super::words::implied;
use super::{EffectKind, Effects, Inner, Placeholder, Unknown};

/// Reads the words of a wrapper.
pub(super) fn read(program: &str, arguments: &[Word], effects: &mut Effects) -> Result<(), Unknown> {
    let table = table::find(program).ok_or(Unknown::Program)?;
    let reading = options::read(table, arguments)?;
    apply_options(&reading, effects);
    let operands = reading.operands.as_slice();
    match program {
        "env" => return env(&reading, effects),
        "xargs" => return xargs(&reading, arguments.len(), effects),
        "timeout" if operands.first().is_some_and(|duration| !is_named(duration, effects)) => {}
        "timeout" => command(operands.get(1..).unwrap_or_default(), effects),
        "nohup" => {
            let path = implied("nohup.out");
            effects.path(
                EffectKind::Write,
                path,
                super::roles::ITSELF,
                None,
                "standard output at a terminal",
            );
            command(operands, effects)
        }
        "watch" if !reading.marked("plain") => shell_words(operands, effects),
        "flock" => flock(operands, effects),
        "setarch" => return setarch(operands, effects),
        "ionice" if reading.marked("other") => {}
        _ => command(operands, effects),
    }
    Ok(())
}

/// The operands are a command.
fn command(operands: &[Operand], effects: &mut Effects) {
    let Some(first) = operands.first() else { return };
    if !is_named(first, effects) {
        return;
    }
    effects.inner.push(Inner {
        words: operands.iter().map(|operand| operand.word.to_word()).collect(),
        appended: false,
        placeholder: None,
        argument: first.argument,
        script: None,
        assignments: Vec::new(),
        directory: None,
    });
}

/// Whether a word that stands before a command, or names its program, is on the line. A pattern or what is not on the line
/// could be any number of words, and name any program: that is an effect.
fn is_named(operand: &Operand, effects: &mut Effects) -> bool {
    let named = operand.count == Count::One && seen_text(&operand.word).is_some();
    if !named {
        let why = "the program that is run is not on the line";
        effects.unbounded(EffectKind::Execute, why, Some(operand.argument), "operand");
    }
    named
}

/// `env [OPTION…] [-] [NAME=VALUE…] [COMMAND…]`
fn env(reading: &Reading, effects: &mut Effects) -> Result<(), Unknown> {
    let mut operands = reading.operands.as_slice();
    let mut assignments = Vec::new();
    while let Some((first, rest)) = operands.split_first() {
        if !is_named(first, effects) {
            return Ok(());
        }
        let text = first.word.to_unmatched();
        match text.split_once('=') {
            Some((name, value)) => assignments.push((name.to_owned(), value.to_owned())),
            None if text == "-" && assignments.is_empty() => {}
            None => break,
        }
        operands = rest;
    }
    let directory =
        reading.last("--chdir").and_then(|given| given.values.first()).map(|(word, _)| word.to_word());
    if directory.as_ref().is_some_and(Word::is_glob) {
        return Err(Unknown::Usage {
            problem: "a pattern cannot stand for a directory".into(),
            argument: None,
        });
    }
    let before = effects.inner.len();
    command(operands, effects);
    for inner in effects.inner.iter_mut().skip(before) {
        inner.directory.clone_from(&directory);
        inner.assignments.clone_from(&assignments);
    }
    Ok(())
}

/// `xargs [OPTION…] [COMMAND [WORD…]]`
fn xargs(reading: &Reading, length: usize, effects: &mut Effects) -> Result<(), Unknown> {
    let mut placeholder = None;
    for given in reading.given.iter().filter(|given| given.option.marks.contains(&"replace")) {
        let text = match given.values.first() {
            None => Some("{}"),
            Some((word, _)) => seen_text(word).filter(|text| !text.is_empty()),
        };
        let Some(text) = text else {
            let problem = "the text that stands for names must be on the line".into();
            return Err(Unknown::Usage { problem, argument: Some(given.argument) });
        };
        if placeholder.replace(text.to_owned()).is_some_and(|earlier| earlier != text) {
            let problem = "two texts stand for names".into();
            return Err(Unknown::Usage { problem, argument: Some(given.argument) });
        }
    }
    // With both kinds of option, which one counts depends on their order: then both do.
    let appended = placeholder.is_none() || reading.marked("append");
    let placeholder = placeholder.map(Placeholder::Text);
    let before = effects.inner.len();
    command(&reading.operands, effects);
    if effects.inner.len() == before && reading.operands.is_empty() {
        let words = vec![implied("echo")];
        let (script, assignments, directory) = (None, Vec::new(), None);
        let argument = length;
        effects.inner.push(Inner { words, appended, placeholder, argument, script, assignments, directory });
        return Ok(());
    }
    for inner in effects.inner.iter_mut().skip(before) {
        inner.appended = appended;
        inner.placeholder.clone_from(&placeholder);
    }
    Ok(())
}

/// The operands, joined by blanks, are a script for the shell.
fn shell_words(operands: &[Operand], effects: &mut Effects) {
    let Some(first) = operands.first() else { return };
    if !operands.iter().all(|operand| is_named(operand, effects)) {
        return;
    }
    let texts: Vec<_> = operands.iter().map(|operand| operand.word.to_unmatched()).collect();
    script(texts.join(" "), first.argument, effects);
}

fn script(text: String, argument: usize, effects: &mut Effects) {
    effects.inner.push(Inner {
        words: Vec::new(),
        appended: false,
        placeholder: None,
        argument,
        script: Some(text),
        assignments: Vec::new(),
        directory: None,
    });
}

/// `flock FILE COMMAND…`, `flock FILE -c SCRIPT`, `flock NUMBER`
fn flock(operands: &[Operand], effects: &mut Effects) {
    let Some((file, rest)) = operands.split_first() else { return };
    if !is_named(file, effects) || rest.is_empty() {
        return;
    }
    let argument = Some(file.argument);
    effects.path(EffectKind::Write, file.word.to_word(), super::roles::ITSELF, argument, "operand");
    match rest.split_first() {
        Some((option, rest)) if matches!(option.word.as_literal(), Some("-c" | "--command")) => {
            shell_words(rest, effects);
        }
        _ => command(rest, effects),
    }
}

/// `setarch [ARCHITECTURE] [OPTION…] COMMAND…`: options may follow the architecture.
fn setarch(operands: &[Operand], effects: &mut Effects) -> Result<(), Unknown> {
    let Some(first) = operands.first() else { return Ok(()) };
    if !is_named(first, effects) {
        return Ok(());
    }
    let known = ["i386", "i686", "linux32", "linux64", "uname26", "x86_64"];
    let skipped = usize::from(known.contains(&first.word.to_unmatched().as_str()));
    if let Some(next) = operands.get(skipped).filter(|next| next.word.to_unmatched().starts_with('-')) {
        let problem = "write the options before the architecture".into();
        return Err(Unknown::Usage { problem, argument: Some(next.argument) });
    }
    command(operands.get(skipped..).unwrap_or_default(), effects);
    Ok(())
}

/// Reads `sh -c SCRIPT`, also `-lc` of `bash`: one literal script, judged as a line of its own.
pub(super) fn shell(program: &str, arguments: &[Word], effects: &mut Effects) -> Result<(), Unknown> {
    let mut words = arguments.iter().enumerate();
    let mut text = None;
    for (index, word) in words.by_ref() {
        match word.as_literal() {
            Some(
                "-l" | "--login" | "-e" | "-u" | "-eu" | "--noprofile" | "--norc" | "--posix" | "-x" | "-f",
            ) => {}
            Some("-c" | "-lc" | "-ec" | "-euc" | "-xc") => {
                text = Some(index);
                break;
            }
            Some("--version" | "--help") if program == "bash" => return Ok(()),
            Some(other) if other.starts_with('-') && other.len() > 1 => {
                return Err(Unknown::Option {
                    text: other.to_owned(),
                    argument: index,
                    nearest: Some("-c".into()),
                });
            }
            _ => {
                let why = "a script from a file or standard input is not on the line";
                effects.unbounded(EffectKind::Execute, why, Some(index), "operand");
                return Ok(());
            }
        }
    }
    let Some(at) = text else {
        effects.unbounded(
            EffectKind::Execute,
            "a script from standard input is not on the line",
            None,
            "standard input",
        );
        return Ok(());
    };
    match words.next() {
        Some((index, word)) => {
            match word.as_literal().filter(|text| !is_unseen(text) && !text.starts_with(['-', '+'])) {
                Some(text) => script(text.to_owned(), index, effects),
                None => {
                    let problem = "the script must be one quoted word".into();
                    return Err(Unknown::Script { problem, argument: index });
                }
            }
        }
        None => return Err(Unknown::Usage { problem: "`-c` wants a script".into(), argument: Some(at) }),
    }
    Ok(())
}
