//! Names that programs make out of the names they are given, and modes.

use portcullis_core::{Piece, Word};

use super::options::{Count, Operand, Reading};
use super::roles::{Extent, ITSELF};
use super::unseen::seen_text;
use super::words::{base_name, beneath, climbs, directory_of, implied, with_any_suffix, with_suffix};
use super::{EffectKind, Effects, Reach, Unknown};

/// A path and everything beneath it.
const TREE: Extent = Extent { reach: Reach::Tree, follow_links: false };

/// Adds the entries that `cp`, `mv`, `ln` and `install` make in a directory: each is named like its source.
pub(super) fn copy(program: &str, reading: &Reading, effects: &mut Effects) {
    let target = reading.given.iter().rev().find(|given| given.option.marks.contains(&"target"));
    let target =
        target.and_then(|given| given.values.first()).map(|(word, argument)| (word.to_word(), *argument));
    let operands: Vec<&Operand> = reading.operands.iter().collect();
    let (sources, target) = match (target, operands.as_slice()) {
        (Some(target), sources) => (sources.to_vec(), target),
        (None, [only]) if program == "ln" => (vec![*only], (implied("."), only.argument)),
        (None, [sources @ .., last]) => (sources.to_vec(), (last.word.to_word(), last.argument)),
        (None, []) => return,
    };
    // With one pattern alone, its matches are sources and target.
    let sources = if sources.is_empty() { operands } else { sources };
    let (directory, argument) = target;
    let recursive = reading.marked("recursive") || program == "mv";
    let extent = if recursive { TREE } else { ITSELF };
    if reading.marked("exact") {
        effects.path(EffectKind::Write, directory.clone(), extent, Some(argument), "operand");
    }
    for source in sources {
        let name = base_name(&source.word);
        let made = match (&name, reading.marked("parents")) {
            (_, true) => beneath(&directory, &relative(&source.word)),
            (Some(name), false) => beneath(&directory, name),
            (None, false) => directory.clone(),
        };
        effects.path(EffectKind::Write, made, extent, Some(argument), "operand");
        if reading.marked("symbolic") {
            alias(&source.word, &directory, source.argument, reading.marked("relative"), effects);
        }
    }
}

/// A symbolic link is another name for its target, which counts from the directory that holds the link.
fn alias(target: &Word, link: &Word, argument: usize, relative: bool, effects: &mut Effects) {
    if relative {
        return effects.path(EffectKind::Read, target.clone(), TREE, Some(argument), "target of a link");
    }
    for holder in [directory_of(link), link.clone()] {
        let path = beneath(&holder, target);
        effects.path(EffectKind::Read, path, TREE, Some(argument), "target of a link");
    }
}

/// Returns a path without the slashes it begins with.
fn relative(word: &Word) -> Word {
    let mut pieces = word.pieces.clone();
    if let Some(Piece::Text(text)) = pieces.first_mut() {
        *text = text.trim_start_matches('/').to_owned();
    }
    Word { pieces, span: word.span }
}

/// Refuses modes that set set-id bits, as an effect on privilege.
pub(super) fn mode(word: &Word, argument: usize, effects: &mut Effects) -> Result<(), Unknown> {
    let problem =
        || Unknown::Usage { problem: "the mode is not on the line".into(), argument: Some(argument) };
    let text = seen_text(word).ok_or_else(problem)?;
    if sets_id(text) {
        let why = "the mode sets set-user-id or set-group-id bits";
        effects.unbounded(EffectKind::Privilege, why, Some(argument), "mode");
    }
    Ok(())
}

/// Whether a mode sets set-id bits: `4755`, `u+s`, `g=xs`. What is no mode at all counts too.
pub(super) fn sets_id(mode: &str) -> bool {
    let digits = mode.trim_start_matches(['+', '-', '=']);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let removes = mode.starts_with('-');
        return !removes && u32::from_str_radix(digits, 8).is_ok_and(|bits| bits & 0o6000 != 0);
    }
    let mut adds = false;
    for c in mode.chars() {
        match c {
            '+' | '=' => adds = true,
            '-' | ',' => adds = false,
            's' if adds => return true,
            _ => {}
        }
    }
    false
}

/// Adds what `chmod` makes of its mode.
pub(super) fn chmod(reading: &Reading, effects: &mut Effects) -> Result<(), Unknown> {
    for given in reading.given.iter().filter(|given| given.option.marks.contains(&"mode")) {
        let value = given.values.first().map(|(word, _)| word.to_unmatched()).unwrap_or_default();
        mode(&implied(&format!("{}{value}", given.written)), given.argument, effects)?;
    }
    if reading.marked("mode") || reading.marked("reference") {
        return Ok(());
    }
    match reading.operands.first() {
        Some(first) if first.count == Count::One => mode(&first.word, first.argument, effects),
        Some(first) => {
            let problem = "a pattern cannot stand for a mode".into();
            Err(Unknown::Usage { problem, argument: Some(first.argument) })
        }
        None => Ok(()),
    }
}

/// Adds what becomes of the files that `gzip` and its kin replace.
pub(super) fn compress(program: &str, reading: &Reading, effects: &mut Effects) {
    let (stdout, recursive) = (reading.marked("stdout"), reading.marked("recursive"));
    let expand = program.starts_with("un") || program.starts_with("gun") || program.starts_with("bun");
    let expand = expand || reading.marked("expand");
    let extent = if recursive { TREE } else { ITSELF };
    // `gzip -d -S c/passwd /et` opens `/etc/passwd`.
    for (suffix, argument) in reading.last("--suffix").iter().flat_map(|given| &given.values) {
        if suffix.to_unmatched().contains('/') {
            let why = "a suffix with `/` names files elsewhere";
            effects.unbounded(EffectKind::Write, why, Some(*argument), "option `-S`");
        }
    }
    for operand in &reading.operands {
        let word = &operand.word;
        if word.as_literal() == Some("-") {
            continue;
        }
        let argument = Some(operand.argument);
        effects.path(EffectKind::Read, word.to_word(), extent, argument, "operand");
        if stdout {
            continue;
        }
        let made = if reading.marked("stored") {
            with_any_suffix(&with_suffix(&directory_of(word), "/"))
        } else {
            stem(word)
        };
        let made = if expand { made } else { with_any_suffix(word) };
        effects.path(EffectKind::Write, made.clone(), ITSELF, argument, "operand");
        if recursive {
            effects.path(EffectKind::Write, word.to_word(), TREE, argument, "operand");
        }
        if !reading.marked("keep") {
            effects.path(EffectKind::Delete, word.to_word(), extent, argument, "operand");
            if expand {
                effects.path(EffectKind::Delete, made, ITSELF, argument, "operand");
            }
        }
    }
}

/// Returns every name that a compressed file's name may become: it without its last suffix, and what follows then.
fn stem(word: &Word) -> Word {
    let mut pieces = word.pieces.clone();
    if let Some(Piece::Text(text)) = pieces.last_mut() {
        let name = text.rfind('/').map_or(0, |slash| slash + 1);
        let dot = text.rfind(['.', '-', '_']).filter(|dot| *dot > name || (name == 0 && *dot == 0));
        if let Some(dot) = dot {
            text.truncate(dot);
        }
    }
    with_any_suffix(&Word { pieces, span: word.span })
}

/// Adds the parents that `rmdir -p` removes.
pub(super) fn rmdir(reading: &Reading, effects: &mut Effects) {
    if reading.last("--parents").is_none() {
        return;
    }
    for operand in &reading.operands {
        let mut path = operand.word.to_word();
        while let Some(Piece::Text(text)) = path.pieces.last().filter(|_| !climbs(&path)) {
            let trimmed = text.trim_end_matches('/');
            let Some((parent, _)) = trimmed.rsplit_once('/') else { break };
            let parent = if parent.is_empty() && path.pieces.len() == 1 { "/" } else { parent }.to_owned();
            let last = path.pieces.len() - 1;
            path.pieces.truncate(last);
            path.pieces.push(Piece::Text(parent.clone()));
            effects.path(EffectKind::Delete, path.clone(), ITSELF, Some(operand.argument), "option `-p`");
            if parent == "/" {
                break;
            }
        }
        if climbs(&path) {
            let why = "parents of a path with `..` are removed";
            effects.unbounded(EffectKind::Delete, why, Some(operand.argument), "option `-p`");
        }
    }
}

/// Adds the files that `split` and `csplit` make when no name for them is given.
pub(super) fn split(program: &str, reading: &Reading, effects: &mut Effects) {
    let named = reading.operands.iter().filter(|operand| operand.count == Count::One).count();
    let default = match program {
        "split" if named < 2 && !reading.marked("filter") => "x",
        "csplit" if !reading.marked("prefix") => "xx",
        _ => return,
    };
    effects.path(
        EffectKind::Write,
        with_any_suffix(&implied(default)),
        ITSELF,
        None,
        "the names of its output",
    );
}

/// Adds what `unzip` extracts. The names of members are in the archive, and stay beneath the directory.
pub(super) fn unzip(reading: &Reading, effects: &mut Effects) {
    for operand in reading
        .operands
        .iter()
        .take_while(|operand| operand.count != Count::One)
        .chain(reading.operands.iter().find(|operand| operand.count == Count::One))
    {
        effects.path(EffectKind::Read, operand.word.to_word(), ITSELF, Some(operand.argument), "operand");
    }
    if !reading.marked("list") && !reading.marked("directory") {
        let extent = Extent { reach: Reach::Entry, follow_links: false };
        effects.path(EffectKind::Write, implied("."), extent, None, "members of the archive");
    }
    if reading.marked("list") {
        return;
    }
    let directory = reading.given.iter().find(|given| given.option.marks.contains(&"directory"));
    let directory = directory.and_then(|given| given.values.first()).map(|(word, _)| word);
    for operand in reading.operands.iter().skip(1).filter(|operand| operand.count == Count::One) {
        let text = operand.word.to_unmatched();
        let member = implied(text.trim_start_matches('/'));
        let path = directory.as_ref().map_or_else(|| member.clone(), |base| beneath(base, &member));
        effects.path(EffectKind::Write, path, ITSELF, Some(operand.argument), "operand");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_id_bits_are_found_in_every_way_to_write_a_mode() {
        for (mode, sets) in [
            ("755", false),
            ("0644", false),
            ("1777", false),
            ("4755", true),
            ("2755", true),
            ("06755", true),
            ("+x", false),
            ("u+rwx,g-s", false),
            ("u+s", true),
            ("g+s", true),
            ("+s", true),
            ("a=rxs", true),
            ("u=rwx,g+xs", true),
            ("u-s", false),
            ("=4755", true),
            ("u+x-s", false),
            ("u+x+s", true),
        ] {
            assert_eq!(sets_id(mode), sets, "{mode}");
        }
    }
}
