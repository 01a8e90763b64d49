//! What tables cannot say about a program's words: scripts, modes, times, names made of other names.

use portcullis_core::Word;

use super::options::{Count, Reading};
use super::roles::{Extent, ITSELF};
use super::unseen::{is_unseen, seen_text};
use super::words::{implied, leading_text, with_suffix};
use super::{EffectKind, Effects, Reach, Unknown, awk, build, fetch, files, sed};

/// Sets the marks that depend on more than one word.
pub(super) fn mark(program: &str, reading: &mut Reading) {
    if program == "ln" && matches!(reading.operands.as_slice(), [one] if one.count == Count::One) {
        reading.marks.push("alone");
    }
}

/// Adds the details of a program whose options and operands were read by its table.
pub(super) fn add(program: &str, reading: &Reading, effects: &mut Effects) -> Result<(), Unknown> {
    match program {
        "awk" | "gawk" | "mawk" => return awk(program, reading, effects),
        "bunzip2" | "bzip2" | "gunzip" | "gzip" | "lzma" | "unlzma" | "unxz" | "xz" => {
            files::compress(program, reading, effects);
        }
        "chmod" => return files::chmod(reading, effects),
        "cp" | "ln" | "mv" => files::copy(program, reading, effects),
        "csplit" | "split" => files::split(program, reading, effects),
        "curl" => return fetch::curl(reading, effects),
        "date" => date(reading, effects),
        "gmake" | "make" => return build::make(reading, effects),
        "install" if !reading.marked("directories") => files::copy(program, reading, effects),
        "jq" => return jq(reading, effects),
        "man" => man(reading, effects),
        "node" => return build::node(reading, effects),
        "npm" => return build::npm(reading, effects),
        "rmdir" => files::rmdir(reading, effects),
        "sed" => return sed(reading, effects),
        "strings" => return strings(reading),
        "unzip" => files::unzip(reading, effects),
        "wget" => return fetch::wget(reading, effects),
        _ => {}
    }
    if let ("install" | "mkdir", Some(given)) = (program, reading.last("--mode")) {
        for (word, argument) in &given.values {
            files::mode(word, *argument, effects)?;
        }
    }
    if matches!(program, "gunzip" | "gzcat" | "zcat") {
        // They are scripts around `gzip`.
        effects.helpers.extend(["gzip", "sh"].map(str::to_owned));
    }
    Ok(())
}

/// Returns the script: the values of the options that hold one, or the first operand. Without one, there is none, or what
/// stands in its place is an effect.
fn script(
    program: &str,
    reading: &Reading,
    option: &str,
    effects: &mut Effects,
) -> Result<Option<(String, usize)>, Unknown> {
    let given = reading.given.iter().filter(|given| given.option.names.contains(&option));
    let mut words: Vec<_> = given.flat_map(|given| &given.values).map(|(word, at)| (word, *at)).collect();
    if words.is_empty() {
        words.extend(reading.operands.first().map(|operand| (&operand.word, operand.argument)));
    }
    let Some((_, argument)) = words.first().copied() else {
        return Err(Unknown::Usage { problem: format!("`{program}` wants a script"), argument: None });
    };
    if let Some((_, argument)) = words.iter().find(|(word, _)| is_unseen(&word.to_unmatched())) {
        effects.unbounded(
            EffectKind::Execute,
            "the script is not on the line",
            Some(*argument),
            "the script",
        );
        return Ok(None);
    }
    match words.iter().map(|(word, _)| word.as_literal()).collect::<Option<Vec<_>>>() {
        Some(texts) => Ok(Some((texts.join("\n"), argument))),
        None => {
            let problem = "a pattern cannot stand in a script; quote it".into();
            Err(Unknown::Script { problem, argument })
        }
    }
}

fn sed(reading: &Reading, effects: &mut Effects) -> Result<(), Unknown> {
    if let Some(given) = reading.last("--in-place")
        && let Some((suffix, argument)) = given.values.first()
    {
        let plain = seen_text(suffix).filter(|suffix| !suffix.contains(['/', '*']));
        let Some(suffix) = plain else {
            let problem = "a suffix with `/` or `*` puts copies elsewhere".into();
            return Err(Unknown::Usage { problem, argument: Some(*argument) });
        };
        let skipped = usize::from(!reading.marked("script"));
        for operand in reading.operands.iter().skip(skipped) {
            let copy = with_suffix(&operand.word, suffix);
            effects.path(
                EffectKind::Write,
                copy,
                ITSELF,
                Some(*argument),
                &format!("option `{}`", given.written),
            );
        }
    }
    if reading.last("--file").is_some() && reading.last("--expression").is_none() {
        return Ok(());
    }
    if reading.operands.is_empty()
        && (reading.last("--help").is_some() || reading.last("--version").is_some())
    {
        return Ok(());
    }
    let Some((script, argument)) = script("sed", reading, "--expression", effects)? else { return Ok(()) };
    let deeds = sed::read(&script).map_err(|problem| Unknown::Script { problem, argument })?;
    let literal = |path: &str| Word::literal(path, portcullis_core::Span::new(0, 0));
    for deed in &deeds {
        let (argument, via) = (Some(argument), "the script");
        match deed {
            sed::Deed::Read(path) => effects.path(EffectKind::Read, literal(path), ITSELF, argument, via),
            sed::Deed::Write(path) => effects.path(EffectKind::Write, literal(path), ITSELF, argument, via),
            sed::Deed::Execute => effects.unbounded(EffectKind::Execute, "`e` runs a command", argument, via),
        }
    }
    if deeds.is_empty() && !reading.marked("sandbox") {
        effects.insertions.push((0, "--sandbox".into()));
    }
    Ok(())
}

fn awk(program: &str, reading: &Reading, effects: &mut Effects) -> Result<(), Unknown> {
    if reading.marked("file") && reading.last("--source").is_none() {
        return Ok(());
    }
    if reading.operands.is_empty() && reading.marked("info") {
        return Ok(());
    }
    let Some((script, argument)) = script(program, reading, "--source", effects)? else { return Ok(()) };
    let deeds = awk::read(&script).map_err(|problem| Unknown::Script { problem, argument })?;
    let literal = |path: &str| Word::literal(path, portcullis_core::Span::new(0, 0));
    for deed in &deeds {
        let (argument, via) = (Some(argument), "the program");
        match deed {
            awk::Deed::Read(path) => effects.path(EffectKind::Read, literal(path), ITSELF, argument, via),
            awk::Deed::ReadAny => anywhere(argument, effects),
            awk::Deed::WriteAny => {
                effects.unbounded(EffectKind::Write, "the name of the file is computed", argument, via);
            }
            awk::Deed::Write(path) => effects.path(EffectKind::Write, literal(path), ITSELF, argument, via),
            awk::Deed::Execute => effects.unbounded(EffectKind::Execute, "it runs commands", argument, via),
            awk::Deed::Network => {
                effects.unbounded(EffectKind::Network, "it opens connections", argument, via)
            }
        }
    }
    if program == "gawk" && deeds.is_empty() && !reading.marked("sandbox") {
        effects.insertions.push((0, "--sandbox".into()));
    }
    Ok(())
}

/// A script that names files itself may read any.
fn anywhere(argument: Option<usize>, effects: &mut Effects) {
    let extent = Extent { reach: Reach::Tree, follow_links: false };
    effects.path(EffectKind::Read, implied("/"), extent, argument, "the script, which names files itself");
}

/// Only `+FORMAT` leaves the clock alone.
fn date(reading: &Reading, effects: &mut Effects) {
    for operand in &reading.operands {
        if !leading_text(&operand.word).starts_with('+') {
            let why = "an operand without `+` sets the clock";
            effects.unbounded(EffectKind::Privilege, why, Some(operand.argument), "operand");
        }
    }
}

/// A filter can load modules from files. Behind `--args` and `--jsonargs` operands are text, before them files: jq(1),
/// "remaining arguments are positional".
fn jq(reading: &Reading, effects: &mut Effects) -> Result<(), Unknown> {
    let switch = reading.given.iter().find(|given| given.option.marks.contains(&"args"));
    if let Some(switch) = switch {
        let files = reading.operands.iter().skip(usize::from(!reading.marked("file")));
        for file in files.filter(|operand| operand.argument < switch.argument) {
            effects.path(EffectKind::Read, file.word.to_word(), ITSELF, Some(file.argument), "operand");
        }
    }
    let Some(filter) = reading.operands.first().filter(|_| !reading.marked("file")) else { return Ok(()) };
    let argument = filter.argument;
    if is_unseen(&filter.word.to_unmatched()) {
        effects.unbounded(EffectKind::Execute, "the filter is not on the line", Some(argument), "operand");
        return Ok(());
    }
    let Some(text) = filter.word.as_literal() else {
        let problem = "a pattern cannot stand for a filter; quote it".into();
        return Err(Unknown::Script { problem, argument });
    };
    let words = text.split(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '.' | '$' | ':'));
    for word in words {
        if matches!(word, "import" | "include" | "modulemeta" | "get_search_list") {
            anywhere(Some(argument), effects);
        }
    }
    Ok(())
}

/// A page's name with a slash is a path. What `man` starts must not be chosen by variables.
fn man(reading: &Reading, effects: &mut Effects) {
    for operand in &reading.operands {
        if operand.count != Count::One || operand.word.to_unmatched().contains('/') {
            effects.path(EffectKind::Read, operand.word.to_word(), ITSELF, Some(operand.argument), "operand");
        }
    }
    for name in ["MANPAGER", "PAGER"] {
        effects.environment.push((name.into(), "cat".into()));
    }
    const HELPERS: [&str; 10] =
        ["cat", "col", "groff", "grotty", "gzip", "nroff", "preconv", "tbl", "troff", "zsoelim"];
    effects.helpers.extend(HELPERS.map(str::to_owned));
}

/// `@FILE` stands for the words in a file.
fn strings(reading: &Reading) -> Result<(), Unknown> {
    let words = reading.operands.iter().map(|operand| (&operand.word, operand.argument));
    for (word, argument) in words {
        if leading_text(word).starts_with('@') || (word.is_glob() && leading_text(word).is_empty()) {
            let problem = "`@FILE` would take options from a file; write `./` before the name".into();
            return Err(Unknown::Usage { problem, argument: Some(argument) });
        }
    }
    Ok(())
}
