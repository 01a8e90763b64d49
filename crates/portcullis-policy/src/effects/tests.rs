//! What command lines do, as a specification: each case is a line and its effects.

use portcullis_core::{Piece, Span, Word};

use super::*;

mod dev;
mod everyday;
mod fetch;
mod git;
mod random;

/// Splits a line of a test into words: blanks part, `'…'` and `\` quote, `*`, `?` and `[…]` are patterns.
fn words(line: &str) -> Vec<Word> {
    let mut words: Vec<Vec<Piece>> = Vec::new();
    let mut chars = line.chars().peekable();
    let mut open = false;
    let text = |words: &mut Vec<Vec<Piece>>, open: &mut bool, c: char| {
        if !*open {
            words.push(Vec::new());
            *open = true;
        }
        match words.last_mut().unwrap().last_mut() {
            Some(Piece::Text(text)) => text.push(c),
            _ => words.last_mut().unwrap().push(Piece::Text(c.to_string())),
        }
    };
    while let Some(c) = chars.next() {
        match c {
            ' ' => open = false,
            '\'' => {
                if !open {
                    words.push(Vec::new());
                    open = true;
                }
                for c in chars.by_ref().take_while(|c| *c != '\'') {
                    text(&mut words, &mut open, c);
                }
            }
            '\\' => text(&mut words, &mut open, chars.next().unwrap()),
            '*' | '?' => {
                if !open {
                    words.push(Vec::new());
                    open = true;
                }
                words.last_mut().unwrap().push(if c == '*' { Piece::AnyString } else { Piece::AnyChar });
            }
            c => text(&mut words, &mut open, c),
        }
    }
    words.into_iter().map(|pieces| Word { pieces, span: Span::new(0, 0) }).collect()
}

/// Writes effects down the way the cases do.
fn rendered(found: Result<Effects, Unknown>) -> String {
    let effects = match found {
        Ok(effects) => effects,
        Err(Unknown::Program) => return "unknown program".into(),
        Err(Unknown::Option { text, .. }) => return format!("unknown option {text}"),
        Err(Unknown::Usage { problem, .. }) => return format!("usage: {problem}"),
        Err(Unknown::Script { problem, .. }) => return format!("script: {problem}"),
    };
    let mut parts: Vec<String> = Vec::new();
    for effect in &effects.list {
        let kind = format!("{:?}", effect.kind).to_lowercase();
        parts.push(match &effect.subject {
            Subject::Path { word, reach, follow_links } => {
                let reach = match reach {
                    Reach::Itself => "",
                    Reach::Entry => " or in it",
                    Reach::Tree => " and below",
                };
                let links = if *follow_links { ", links too" } else { "" };
                format!("{kind} {}{reach}{links}", word.to_unmatched())
            }
            Subject::Host { scheme, host, port } => format!("{kind} {scheme}://{host}:{port}"),
            Subject::Program(name) => format!("{kind} program {name}"),
            Subject::Repository => format!("{kind} repository"),
            Subject::Unbounded(_) => format!("{kind} unbounded"),
        });
    }
    for inner in &effects.inner {
        let words: Vec<_> = inner.words.iter().map(Word::to_unmatched).collect();
        let mut part = format!("run [{}]", words.join(" "));
        if let Some(script) = &inner.script {
            part = format!("script [{script}]");
        }
        for (name, value) in &inner.assignments {
            part = format!("{part} with {name}={value}");
        }
        if let Some(directory) = &inner.directory {
            part = format!("{part} in {}", directory.to_unmatched());
        }
        if inner.appended {
            part.push_str(" and more words");
        }
        parts.push(part);
    }
    parts.dedup();
    parts.join("; ")
}

/// Checks what lines do. Reports every case that is wrong.
#[track_caller]
fn check_all(cases: &[(&str, &str)]) {
    check_with(cases, |program, arguments| rendered(effects(program, arguments)));
}

/// Checks what the commands of wrappers do.
#[track_caller]
fn check_inner(cases: &[(&str, &str)]) {
    check_with(cases, |program, arguments| match effects(program, arguments) {
        Ok(outer) => {
            let found: Vec<_> = outer.inner.iter().map(|inner| rendered(inner_effects(inner))).collect();
            found.join(" / ")
        }
        problem => format!("wrapper: {}", rendered(problem)),
    });
}

#[track_caller]
fn check_with(cases: &[(&str, &str)], judge: impl Fn(&str, &[Word]) -> String) {
    let mut wrong = String::new();
    for (line, wanted) in cases {
        let words = words(line);
        let (program, arguments) = words.split_first().unwrap();
        let found = judge(program.as_literal().unwrap(), arguments);
        if found != *wanted {
            wrong.push_str(&format!("{line}\n  wanted: {wanted}\n  found:  {found}\n"));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}
