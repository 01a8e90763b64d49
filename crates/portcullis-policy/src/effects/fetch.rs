//! `curl` and `wget`: addresses, what is sent, and where answers are written.

use portcullis_core::Word;

use super::files::mode;
use super::options::{Given, Reading};
use super::roles::{Extent, ITSELF};
use super::table::Role;
use super::unseen::seen_text;
use super::words::{beneath, implied, leading_text, without_prefix};
use super::{EffectKind, Effects, Reach, Subject, Unknown};

const ENTRY: Extent = Extent { reach: Reach::Entry, follow_links: false };

/// An address that is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    scheme: String,
    host: String,
    port: u16,
    path: String,
}

/// Reads an address. Whatever is not plainly a scheme, a host and perhaps a port is refused: parsers differ there.
fn address(word: &Word) -> Result<Address, &'static str> {
    let text = word.to_unmatched();
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest.to_owned()),
        None => ("http".to_owned(), text.clone()),
    };
    if !scheme.bytes().all(|byte| byte.is_ascii_lowercase()) || scheme.is_empty() {
        return Err("its scheme is not plain");
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if scheme == "file" {
        return Ok(Address { scheme, host: authority.to_owned(), port: 0, path: path.to_owned() });
    }
    let certain = leading_text(word).len() > text.len() - path.len();
    if word.is_glob() && !(certain && path.starts_with('/')) {
        return Err("a pattern may change its host; quote it");
    }
    if text.contains(|c: char| c.is_control() || c == '\\' || c == ' ' || !c.is_ascii()) {
        return Err("it holds characters that programs read differently");
    }
    let (host, port) =
        authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    if host.is_empty() || !host.chars().all(plain) {
        return Err("its host is not plain");
    }
    let port = match (port, scheme.as_str()) {
        (Some(port), _) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok(),
        (Some(_), _) => None,
        (None, "https") => Some(443),
        (None, "http") => Some(80),
        (None, "ftp") => Some(21),
        (None, _) => Some(0),
    };
    let port = port.ok_or("its port is not plain")?;
    Ok(Address { scheme, host: host.to_ascii_lowercase(), port, path: path.to_owned() })
}

impl Effects {
    /// Adds that an address is reached, and returns the name of the file that it would be written to.
    fn reach(&mut self, word: &Word, argument: usize, via: &str) -> Option<String> {
        let argument = Some(argument);
        let address = match address(word).and_then(|found| seen_text_or_glob(word).map(|()| found)) {
            Ok(address) => address,
            Err(problem) => {
                let why = format!("the address `{}` cannot be bounded: {problem}", word.to_unmatched());
                self.unbounded(EffectKind::Network, &why, argument, via);
                return None;
            }
        };
        let Address { scheme, host, port, path } = address;
        let name = path
            .split(['?', '#'])
            .next()
            .unwrap_or_default()
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        if scheme == "file" {
            let path = Word::literal(path, word.span);
            self.path(EffectKind::Read, path, Extent { reach: Reach::Tree, ..ITSELF }, argument, via);
            self.unbounded(EffectKind::Network, "`file` is no address of a host", argument, via);
        } else {
            self.effect(EffectKind::Network, Subject::Host { scheme, host, port }, argument, via);
        }
        (!name.is_empty()).then_some(name)
    }
}

fn seen_text_or_glob(word: &Word) -> Result<(), &'static str> {
    if word.is_glob() || seen_text(word).is_some() { Ok(()) } else { Err("it is not on the line") }
}

/// Whether `#1` in the name of an output stands for what a pattern of the address matched. What a range of numbers
/// matches is harmless in every name.
fn takes_name_from_address(name: &Word, reading: &Reading) -> bool {
    let name = name.to_unmatched();
    let stands = name.split('#').skip(1).any(|behind| behind.starts_with(|c: char| c.is_ascii_digit()));
    let urls = reading.given.iter().filter(|given| given.option.marks.contains(&"url"));
    let urls = urls.flat_map(|given| given.values.iter().map(|(word, _)| word));
    let mut addresses = urls.chain(reading.operands.iter().map(|operand| &operand.word));
    stands && !reading.marked("globoff") && addresses.any(|word| has_names(&word.to_unmatched()))
}

/// Whether an address holds a pattern that is no range of numbers.
fn has_names(address: &str) -> bool {
    let numbers =
        |range: &str| range.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-' || byte == b':');
    address.contains('{')
        || address.split('[').skip(1).any(|behind| !behind.split(']').next().is_some_and(numbers))
}

/// Adds what `curl` reaches, sends and writes.
pub(super) fn curl(reading: &Reading, effects: &mut Effects) -> Result<(), Unknown> {
    // Without it, `curl` takes options from a file in the home directory.
    let disabled = reading
        .given
        .first()
        .is_some_and(|given| given.argument == 0 && matches!(given.written, "-q" | "--disable"));
    if !disabled {
        effects.insertions.push((0, "-q".into()));
    }
    let query = reading.marked("get") && !reading.marked("next");
    let directory = reading.given.iter().rev().find(|given| given.option.marks.contains(&"directory"));
    let directory = directory.and_then(|given| given.values.first()).map(|(word, _)| word.to_word());
    for given in &reading.given {
        let Some((value, argument)) = given.values.first() else { continue };
        let via = format!("option `{}`", given.written);
        for mark in &given.option.marks {
            match *mark {
                "url" => named(value, *argument, &via, reading, directory.as_ref(), effects),
                "output" => {
                    if takes_name_from_address(value, reading) {
                        let why = "a part of the address becomes a part of the name";
                        effects.unbounded(EffectKind::Write, why, Some(*argument), &via);
                    }
                    effects.add(Role::Output, value, ITSELF, Some(*argument), &via);
                    if let Some(directory) = &directory {
                        effects.path(
                            EffectKind::Write,
                            beneath(directory, value),
                            ITSELF,
                            Some(*argument),
                            &via,
                        );
                    }
                }
                _ => sent(mark, given, value, *argument, query, effects)?,
            }
        }
    }
    for operand in &reading.operands {
        named(&operand.word, operand.argument, "operand", reading, directory.as_ref(), effects);
    }
    Ok(())
}

/// Adds that an address is reached, and the file that bears its name when that is asked for.
fn named(
    word: &Word,
    argument: usize,
    via: &str,
    reading: &Reading,
    directory: Option<&Word>,
    effects: &mut Effects,
) {
    let name = effects.reach(word, argument, via);
    if reading.marked("named") {
        let directory = directory.cloned().unwrap_or_else(|| implied("."));
        effects.path(EffectKind::Write, directory.clone(), ENTRY, Some(argument), via);
        if let Some(name) = name {
            let path = beneath(&directory, &Word::literal(name, word.span));
            effects.path(EffectKind::Write, path, ITSELF, Some(argument), via);
        }
    }
}

/// Adds what an option sends or reads by its value.
fn sent(
    mark: &str,
    given: &Given,
    value: &Word,
    argument: usize,
    query: bool,
    effects: &mut Effects,
) -> Result<(), Unknown> {
    let via = format!("option `{}`", given.written);
    let text = value.to_unmatched();
    let unclear = value.is_glob() || seen_text(value).is_none();
    let file = |at: usize, effects: &mut Effects| {
        let path = without_prefix(value, at).unwrap_or_else(|| value.clone());
        effects.add(Role::Read, &path, ITSELF, Some(argument), &via);
    };
    match mark {
        "data" | "encode" => {
            let at = match mark {
                "data" => text.starts_with('@').then_some(0),
                _ => text
                    .find(['@', '='])
                    .filter(|at| text.get(*at..).is_some_and(|rest| rest.starts_with('@'))),
            };
            if let Some(at) = at {
                file(at + 1, effects);
            }
            let url_query = given.option.names.contains(&"--url-query");
            if at.is_some() || unclear || !(query || url_query) {
                effects.unbounded(EffectKind::Network, "sends data", Some(argument), &via);
            }
        }
        "raw" if !query || unclear => {
            effects.unbounded(EffectKind::Network, "sends data", Some(argument), &via)
        }
        "form" => {
            for (at, _) in text.match_indices(['@', '<']) {
                let end = text
                    .get(at + 1..)
                    .and_then(|rest| rest.find([';', ',']))
                    .map_or(text.len(), |end| at + 1 + end);
                let path = Word::literal(text.get(at + 1..end).unwrap_or_default(), value.span);
                effects.add(Role::Read, &path, ITSELF, Some(argument), &via);
            }
            effects.unbounded(EffectKind::Network, "sends data", Some(argument), &via);
        }
        "header" => {
            if text.starts_with('@') {
                file(1, effects);
                let why = "sends what a file holds, and that may override a name";
                effects.unbounded(EffectKind::Network, why, Some(argument), &via);
            }
            let name = text.split([':', ';']).next().unwrap_or_default().trim().to_ascii_lowercase();
            if unclear || name == "host" || name.contains("method-override") || text.contains(['\r', '\n']) {
                effects.unbounded(
                    EffectKind::Network,
                    "overrides a name or the method",
                    Some(argument),
                    &via,
                );
            }
        }
        "cookie" if !text.contains('=') => file(usize::from(text.starts_with('@')), effects),
        "format" => {
            if text.starts_with('@') {
                file(1, effects);
                effects.unbounded(EffectKind::Write, "the format can write files", Some(argument), &via);
            }
            if unclear || text.contains("%output") {
                effects.unbounded(EffectKind::Write, "the format writes a file", Some(argument), &via);
            }
        }
        "method" if !matches!(text.as_str(), "GET" | "HEAD") => {
            effects.unbounded(
                EffectKind::Network,
                "uses another method than GET and HEAD",
                Some(argument),
                &via,
            );
        }
        "mode" => mode(value, argument, effects)?,
        "redirects" if text != "0" => {
            effects.unbounded(EffectKind::Network, "follows the server to other hosts", Some(argument), &via);
        }
        _ => {}
    }
    Ok(())
}

/// Adds what `wget` reaches, sends and writes.
pub(super) fn wget(reading: &Reading, effects: &mut Effects) -> Result<(), Unknown> {
    for text in ["--no-config", "--no-hsts", "--max-redirect=0"] {
        effects.insertions.push((0, text.into()));
    }
    for given in &reading.given {
        let Some((value, argument)) = given.values.first() else { continue };
        for mark in &given.option.marks {
            sent(mark, given, value, *argument, false, effects)?;
        }
    }
    let directory = reading.given.iter().rev().find(|given| given.option.marks.contains(&"directory"));
    let directory = directory.and_then(|given| given.values.first()).map(|(word, _)| word.to_word());
    let directory = directory.unwrap_or_else(|| implied("."));
    for operand in &reading.operands {
        let (argument, via) = (Some(operand.argument), "operand");
        let name =
            effects.reach(&operand.word, operand.argument, via).unwrap_or_else(|| "index.html".to_owned());
        if reading.marked("output") || reading.marked("spider") {
            continue;
        }
        effects.path(EffectKind::Write, directory.clone(), ENTRY, argument, via);
        if reading.marked("force") {
            // The directories of the address are made, those of its end last.
            let text = operand.word.to_unmatched();
            let parts: Vec<&str> = text.split('/').skip(2).collect();
            for first in 0..parts.len() {
                let below = parts.get(first..).unwrap_or_default().join("/");
                let path = beneath(&directory, &Word::literal(below, operand.word.span));
                effects.path(EffectKind::Write, path, ITSELF, argument, via);
            }
        }
        let path = beneath(&directory, &Word::literal(name, operand.word.span));
        effects.path(EffectKind::Write, path, ITSELF, argument, via);
    }
    Ok(())
}
