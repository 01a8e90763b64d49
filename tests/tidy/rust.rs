//! Just enough Rust to tell code from comments and texts, and tests from what ships.

use std::collections::BTreeSet;

/// A file's code and its comments, each with everything else blanked: lines and columns stay.
pub(crate) struct Split {
    pub(crate) code: String,
    pub(crate) comments: String,
}

enum Kind {
    Code,
    Comment,
    Text,
}

/// Tells code from comments and from texts (of strings and characters), which belong to neither.
pub(crate) fn split(source: &str) -> Split {
    let chars: Vec<char> = source.chars().collect();
    let (mut code, mut comments) = (String::new(), String::new());
    let mut at = 0;
    while at < chars.len() {
        let (kind, length) = piece(&chars[at..], at.checked_sub(1).map(|before| chars[before]));
        for &c in &chars[at..at + length] {
            let blank = if c == '\n' { '\n' } else { ' ' };
            code.push(if matches!(kind, Kind::Code) { c } else { blank });
            comments.push(if matches!(kind, Kind::Comment) { c } else { blank });
        }
        at += length;
    }
    Split { code, comments }
}

/// Returns what stands at the beginning, and how long it is.
fn piece(rest: &[char], before: Option<char>) -> (Kind, usize) {
    let next = |at: usize| rest.get(at).copied().unwrap_or('\0');
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    match (rest[0], next(1)) {
        ('/', '/') => (Kind::Comment, rest.iter().position(|&c| c == '\n').unwrap_or(rest.len())),
        ('/', '*') => (Kind::Comment, block_comment(rest)),
        ('"', _) => (Kind::Text, quoted(rest)),
        // A lifetime or a label has no second quote behind its first character.
        ('\'', '\\') => {
            (Kind::Text, rest.iter().skip(3).position(|&c| c == '\'').map_or(rest.len(), |at| at + 4))
        }
        ('\'', _) if next(2) == '\'' => (Kind::Text, 3),
        ('r', '"' | '#') if !in_word => raw(rest, 1).map_or((Kind::Code, 1), |length| (Kind::Text, length)),
        ('b' | 'c', 'r') if !in_word => raw(rest, 2).map_or((Kind::Code, 1), |length| (Kind::Text, length)),
        _ => (Kind::Code, 1),
    }
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match (rest[at], rest.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn quoted(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Returns the length of `r#"…"#` whose hashes begin at `from`; `None` when it is none (`r#type`).
fn raw(rest: &[char], from: usize) -> Option<usize> {
    let hashes = rest[from..].iter().take_while(|&&c| c == '#').count();
    let open = from + hashes;
    if rest.get(open) != Some(&'"') {
        return None;
    }
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let found = rest[open + 1..].windows(end.len()).position(|window| window == end);
    Some(found.map_or(rest.len(), |at| open + 1 + at + end.len()))
}

/// Whether code holds a word (letters, digits and `_` around it do not count).
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        !before.ends_with(inside) && !after.starts_with(inside)
    })
}

/// Finds the files that are compiled for tests alone: those of `tests`, `benches`, `examples` and `fuzz`, and modules
/// that are declared behind `#[cfg(test)]`, with what is below them.
pub(crate) fn test_files(files: &[(String, String)]) -> BTreeSet<String> {
    let mut below = Vec::new();
    for (path, text) in files {
        let code = split(text).code;
        let mut lines = code.lines().map(str::trim).filter(|line| !line.is_empty()).peekable();
        while let Some(line) = lines.next() {
            let declared = lines.peek().filter(|_| line.starts_with("#[cfg(") && has_word(line, "test"));
            let name = declared.and_then(|next| next.strip_suffix(';')?.rsplit_once("mod "));
            if let Some((_, name)) = name {
                below.push(format!("{}/{name}", module_folder(path)));
            }
        }
    }
    files
        .iter()
        .map(|(path, _)| path)
        .filter(|path| {
            let apart = ["tests", "benches", "examples", "fuzz"];
            path.split('/').any(|part| apart.contains(&part))
                || below.iter().any(|module| {
                    path.strip_prefix(module.as_str())
                        .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
                })
        })
        .cloned()
        .collect()
}

/// Returns the folder of a file's modules.
fn module_folder(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name {
        "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
        name => format!("{folder}/{}", name.trim_end_matches(".rs")),
    }
}

/// Parts a file's code into what ships and its tests: `mod tests` stands last.
pub(crate) fn ships_and_tests(code: &str) -> (&str, &str) {
    code.split_at(code.find("#[cfg(test)]\nmod ").unwrap_or(code.len()))
}

/// Returns what opens each block around a place, from the innermost out to its function: `while x`, `loop`, `fn a()`.
pub(crate) fn blocks_around(code: &str, at: usize) -> Vec<&str> {
    let mut found = Vec::new();
    let mut closed = 0;
    for (brace, c) in code[..at].char_indices().rev() {
        match c {
            '}' => closed += 1,
            '{' if closed > 0 => closed -= 1,
            '{' => {
                let begin = code[..brace].rfind([';', '{', '}']).map_or(0, |before| before + 1);
                let opener = code[begin..brace].trim();
                found.push(opener);
                if has_word(opener, "fn") {
                    return found;
                }
            }
            _ => {}
        }
    }
    found
}

#[test]
fn code_comments_and_texts_are_told_apart() {
    let source = r###"let a = "unsafe // \" x"; // todo: é
/* unsafe /* in */ it */ fn b<'a>(c: char) -> &'a str { r#"unsafe "quoted" "# } '"' 'x' '\'' b"unsafe" r#type"###;
    let split = split(source);
    assert!(!has_word(&split.code, "unsafe"), "{}", split.code);
    assert_eq!(split.code.lines().count(), 2);
    assert!(split.code.contains("fn b<'a>(c: char) -> &'a str {") && split.code.contains("r#type"));
    assert!(split.comments.contains("// todo: é") && split.comments.contains("/* unsafe /* in */ it */"));
    assert!(!split.comments.contains('x'));
}

#[test]
fn words_are_whole() {
    assert!(has_word("unsafe { x }", "unsafe") && has_word("(unsafe)", "unsafe"));
    assert!(!has_word("#![forbid(unsafe_code)]", "unsafe") && !has_word("not_unsafe", "unsafe"));
}

#[test]
fn what_is_compiled_for_tests_alone_is_known() {
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let files = [
        file("crates/a/src/lib.rs", "mod b;\n#[cfg(test)]\nmod doubles;\n"),
        file("crates/a/src/b.rs", "#[cfg(test)]\npub(crate) mod tests;\n"),
        file("crates/a/src/b/tests.rs", ""),
        file("crates/a/src/doubles.rs", ""),
        file("crates/a/src/doubles/deep.rs", ""),
        file("crates/a/src/doubles_not.rs", ""),
        file("tests/service/main.rs", ""),
    ];
    let found: Vec<_> = test_files(&files).into_iter().collect();
    assert_eq!(
        found,
        [
            "crates/a/src/b/tests.rs",
            "crates/a/src/doubles.rs",
            "crates/a/src/doubles/deep.rs",
            "tests/service/main.rs"
        ]
    );
}

#[test]
fn the_blocks_around_a_place_are_told_from_inside_out() {
    let code = "fn a() { if b { c } while d { loop { f; g } } h }";
    let around = |place| blocks_around(code, code.find(place).unwrap());
    assert_eq!(around("c }"), ["if b", "fn a()"]);
    assert_eq!(around("g }"), ["loop", "while d", "fn a()"]);
    assert_eq!(around("h }"), ["fn a()"]);
}
