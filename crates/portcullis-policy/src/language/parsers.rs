//! Whatever the language accepts, two parsers that others wrote split the same way: `brush-parser`, which reads
//! bash, and `shell-words`, which reads the words of one POSIX command.
//!
//! They differ from us nowhere. Should they one day, dash and bash (see `shells`) say who is right.

use brush_parser::ast::{
    AndOr, Command, CommandPrefixOrSuffixItem as Item, IoFileRedirectKind, IoFileRedirectTarget, IoRedirect,
    Pipeline, SimpleCommand,
};
use brush_parser::word::{WordPiece, WordPieceWithSource, parse as word_pieces};
use brush_parser::{Parser, ParserOptions};
use portcullis_core::{Connector, Duplicate, RedirectionTarget, Word};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{Line, parse};

/// A line as plain text: each step's connector with its commands, each a list of words and what else it has.
type Shape = Vec<(Connector, Vec<Vec<String>>)>;

fn ours(line: &Line) -> Shape {
    let command = |command: &super::LineCommand| {
        let assignments = command.assignments.iter().map(|one| format!("set {}={}", one.name, one.value));
        let words = command.words.iter().map(|word| format!("word {}", word.to_unmatched()));
        let redirections = command.redirections.iter().map(|one| match &one.target {
            RedirectionTarget::Read(path) => format!("{}< {path}", one.descriptor),
            RedirectionTarget::Truncate(path) => format!("{}> {path}", one.descriptor),
            RedirectionTarget::Append(path) => format!("{}>> {path}", one.descriptor),
            RedirectionTarget::Duplicate(Duplicate::Stdout) => format!("{}>& 1", one.descriptor),
            RedirectionTarget::Duplicate(Duplicate::Stderr) => format!("{}>& 2", one.descriptor),
        });
        assignments.chain(words).chain(redirections).collect()
    };
    line.steps.iter().map(|step| (step.connector, step.commands.iter().map(command).collect())).collect()
}

fn options() -> ParserOptions {
    // As bash runs a script: no extended patterns.
    ParserOptions { enable_extended_globbing: false, ..ParserOptions::default() }
}

/// Asks brush. What it sees beside simple commands is an error, and so is an expansion.
fn brush(text: &str) -> Result<Shape, String> {
    let program =
        Parser::new(text.as_bytes(), &options()).parse_program().map_err(|error| format!("{error:?}"))?;
    let mut shape = Shape::new();
    for list in program.complete_commands.iter().flat_map(|complete| &complete.0) {
        if !matches!(list.1, brush_parser::ast::SeparatorOperator::Sequence) {
            return Err("something in the background".into());
        }
        shape.push((Connector::Always, pipeline(&list.0.first)?));
        for joined in &list.0.additional {
            shape.push(match joined {
                AndOr::And(one) => (Connector::IfSucceeded, pipeline(one)?),
                AndOr::Or(one) => (Connector::IfFailed, pipeline(one)?),
            });
        }
    }
    Ok(shape)
}

fn pipeline(pipeline: &Pipeline) -> Result<Vec<Vec<String>>, String> {
    if pipeline.bang || pipeline.timed.is_some() {
        return Err("`!` or `time`".into());
    }
    pipeline
        .seq
        .iter()
        .map(|command| match command {
            Command::Simple(simple) => self::simple(simple),
            other => Err(format!("not a simple command: {other:?}")),
        })
        .collect()
}

fn simple(simple: &SimpleCommand) -> Result<Vec<String>, String> {
    let (mut assignments, mut words, mut redirections) = (Vec::new(), Vec::new(), Vec::new());
    let before = simple.prefix.iter().flat_map(|prefix| &prefix.0).map(|item| (item, true));
    let after = simple.suffix.iter().flat_map(|suffix| &suffix.0).map(|item| (item, false));
    if let Some(name) = &simple.word_or_name {
        words.push(format!("word {}", unquoted(&name.value)?));
    }
    for (item, is_before) in before.chain(after) {
        match item {
            // Behind the name an assignment is a word like any other.
            Item::AssignmentWord(_, word) if is_before => {
                let (name, value) = word.value.split_once('=').ok_or("an assignment without `=`")?;
                assignments.push(format!("set {name}={}", unquoted(value)?));
            }
            Item::Word(word) | Item::AssignmentWord(_, word) => {
                words.push(format!("word {}", unquoted(&word.value)?));
            }
            Item::IoRedirect(redirect) => redirections.extend(redirection(redirect)?),
            Item::ProcessSubstitution(..) => return Err("process substitution".into()),
        }
    }
    Ok([assignments, words, redirections].concat())
}

fn redirection(redirect: &IoRedirect) -> Result<Vec<String>, String> {
    Ok(match redirect {
        IoRedirect::OutputAndError(path, append) => {
            let operator = if *append { ">>" } else { ">" };
            vec![format!("1{operator} {}", unquoted(&path.value)?), "2>& 1".into()]
        }
        IoRedirect::File(descriptor, kind, target) => {
            let (usual, operator) = match kind {
                IoFileRedirectKind::Read => (0, "<"),
                IoFileRedirectKind::Write | IoFileRedirectKind::Clobber => (1, ">"),
                IoFileRedirectKind::Append => (1, ">>"),
                IoFileRedirectKind::DuplicateOutput => (1, ">&"),
                other => return Err(format!("{other:?}")),
            };
            let target = match target {
                IoFileRedirectTarget::Filename(word) | IoFileRedirectTarget::Duplicate(word) => {
                    unquoted(&word.value)?
                }
                IoFileRedirectTarget::Fd(number) => number.to_string(),
                other => return Err(format!("{other:?}")),
            };
            vec![format!("{}{operator} {target}", descriptor.unwrap_or(usual))]
        }
        other => return Err(format!("{other:?}")),
    })
}

/// Returns a word without its quotes.
fn unquoted(word: &str) -> Result<String, String> {
    let pieces = word_pieces(word, &options()).map_err(|error| format!("{error:?}"))?;
    text(&pieces)
}

fn text(pieces: &[WordPieceWithSource]) -> Result<String, String> {
    pieces
        .iter()
        .map(|piece| match &piece.piece {
            WordPiece::Text(text) | WordPiece::SingleQuotedText(text) => Ok(text.clone()),
            WordPiece::DoubleQuotedSequence(inner) => self::text(inner),
            // A backslash and what it escapes; a newline vanishes with it.
            WordPiece::EscapeSequence(escape) => {
                Ok(escape.strip_prefix('\\').unwrap_or(escape).replace('\n', ""))
            }
            other => Err(format!("an expansion: {other:?}")),
        })
        .collect()
}

/// How often each parser was asked.
#[derive(Debug, Default)]
struct Asked {
    /// Lines that the language accepts: brush sees them all.
    accepted: usize,
    /// Commands that are words alone.
    shell_words: usize,
}

impl Asked {
    /// Compares one line, when the language accepts it. Says what differs.
    fn compare(&mut self, text: &str) -> Result<(), String> {
        let Ok(line) = parse(text) else { return Ok(()) };
        self.accepted += 1;
        let (ours, theirs) = (ours(&line), brush(text));
        if theirs.as_ref() != Ok(&ours) {
            return Err(format!("{text:?}\n  ours:  {ours:?}\n  brush: {theirs:?}"));
        }
        // The other parser knows words and nothing else: commands that are words alone are shown to it.
        for command in line.steps.iter().flat_map(|step| &step.commands) {
            let plain = command.assignments.is_empty() && command.redirections.is_empty();
            let written = text.get(command.span.start..command.span.end).filter(|_| plain);
            let Some(written) = written else { continue };
            self.shell_words += 1;
            let ours: Vec<_> = command.words.iter().map(Word::to_unmatched).collect();
            let theirs = shell_words::split(written).map_err(|error| error.to_string());
            if theirs.as_ref() != Ok(&ours) {
                return Err(format!("{written:?}\n  ours:        {ours:?}\n  shell-words: {theirs:?}"));
            }
        }
        Ok(())
    }

    fn say(&self, what: &str) {
        eprintln!("{what}: {self:?}");
    }
}

#[test]
fn every_corpus_line_splits_as_in_two_other_parsers() {
    let corpora = [
        include_str!("../../tests/corpus/default.txt"),
        include_str!("../../tests/corpus/readonly.txt"),
        include_str!("../../tests/corpus/dev.txt"),
        include_str!("../../tests/corpus/fetch.txt"),
    ];
    let rows = [
        include_str!("../../tests/corpus/default.jsonl"),
        include_str!("../../tests/corpus/readonly.jsonl"),
        include_str!("../../tests/corpus/dev.jsonl"),
        include_str!("../../tests/corpus/fetch.jsonl"),
        include_str!("../../tests/corpus/team.jsonl"),
    ];
    let lines = corpora.iter().flat_map(|corpus| corpus.lines()).filter(|row| !row.starts_with("# "));
    let commands = rows.iter().flat_map(|rows| rows.lines()).map(|row| {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        row["command"].as_str().unwrap().to_owned()
    });
    let (mut asked, mut wrong) = (Asked::default(), Vec::new());
    for line in lines.map(|row| row.replace("\\N", "\n")).chain(commands) {
        wrong.extend(asked.compare(&line).err());
    }
    asked.say("corpus lines");
    assert!(wrong.is_empty(), "{} lines split otherwise:\n{}", wrong.len(), wrong.join("\n"));
    assert!(asked.accepted > 1_000 && asked.shell_words > 1_000, "{asked:?}");
}

#[test]
fn random_lines_split_as_in_two_other_parsers() {
    let part = prop_oneof![
        6 => "[ab1 ]{1,3}",
        2 => Just("p ".to_owned()),
        3 => r#"['"\\]"#,
        2 => r"(; p |\| p |&& p |\|\| p |\np |\\\n)",
        1 => r"(>o |2>&1 |2>o |>>o |1>&2|&>o |&>>o |<i |>\| o)",
        2 => r"[{},.~=!#$*?\[\]:^-]",
        1 => "'[^'\r\0\x01-\x08]{0,4}'",
    ];
    let lines = proptest::collection::vec(part, 1..12).prop_map(|parts| format!("p {}", parts.concat()));
    // A soak takes another number from the environment.
    let cases =
        std::env::var("PORTCULLIS_PARSER_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(4_000);
    let asked = std::cell::RefCell::new(Asked::default());
    let result = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
        .run(&lines, |line| asked.borrow_mut().compare(&line).map_err(TestCaseError::fail));
    let asked = asked.into_inner();
    asked.say("random lines");
    result.unwrap();
    assert!(asked.accepted > cases as usize / 10, "the lines are too seldom accepted to show anything");
}
