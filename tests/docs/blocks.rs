//! Finds the commands that a document shows, and what it says of running them.
//!
//! A mark is a comment above a block, which readers do not see:
//!
//! - `<!-- not run: REASON -->`: what the block needs, a test has not: root, docker, systemd, the network, hours.
//! - `<!-- service -->`: the block's command is a service; it stays, in the place of the one before.
//! - `<!-- first: COMMAND -->`: run before the block, for a state that the text takes for granted.
//! - `<!-- exits: N … -->`: the exit codes that are right for the block's commands, where 0 is not the only one.
//!
//! A block of TOML or JSON below a line that ends with the name of a file, `` `notes.toml`: ``, becomes that file.

/// A block of commands, or of a file's text.
#[derive(Debug, Default, Clone)]
pub(crate) struct Block {
    /// The line of its fence.
    pub(crate) line: usize,
    pub(crate) kind: Kind,
    pub(crate) commands: Vec<Shown>,
    /// Why it cannot be run.
    pub(crate) not_run: Option<String>,
    pub(crate) first: Vec<String>,
    pub(crate) exits: Option<Vec<i32>>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Commands to be typed.
    #[default]
    Commands,
    /// One command, which is a service.
    Service,
    /// A file's name and text.
    File(String, String),
}

/// A command, with the output that is shown of it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) command: String,
    /// Nothing where the block shows no output at all.
    pub(crate) output: Option<String>,
}

/// Returns the blocks of a document, in order.
pub(crate) fn blocks(document: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut marks = Block::default();
    let mut above = String::new();
    let mut lines = document.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if let Some(mark) = line.strip_prefix("<!-- ").and_then(|line| line.strip_suffix(" -->")) {
            take_mark(mark, &mut marks);
            continue;
        }
        let Some(language) = line.strip_prefix("```") else {
            if !line.trim().is_empty() {
                line.clone_into(&mut above);
                // A mark belongs to what stands right below it.
                marks = Block::default();
            }
            continue;
        };
        let text: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        let mut block = std::mem::take(&mut marks);
        block.line = number + 1;
        match language {
            "sh" | "bash" | "shell" => block.commands = commands(&text),
            "console" => block.commands = session(&text),
            "toml" | "json" => match file_name(&above) {
                Some(name) => block.kind = Kind::File(name.to_owned(), text.join("\n") + "\n"),
                None => continue,
            },
            _ => continue,
        }
        found.push(block);
    }
    found
}

fn take_mark(mark: &str, marks: &mut Block) {
    match mark.split_once(": ") {
        Some(("not run", reason)) => marks.not_run = Some(reason.to_owned()),
        Some(("first", command)) => marks.first.push(command.to_owned()),
        Some(("exits", codes)) => {
            marks.exits = Some(codes.split(' ').map(|code| code.parse().expect("an exit code")).collect());
        }
        None if mark == "service" => marks.kind = Kind::Service,
        // A comment for somebody else.
        _ => {}
    }
}

/// Returns the file that a line such as `` `notes.toml`: `` or `` `notes.toml`, for a project: `` introduces.
fn file_name(line: &str) -> Option<&str> {
    let name = line.strip_prefix('`')?.split('`').next()?;
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c));
    (line.ends_with(':') && plain && name.contains('.')).then_some(name)
}

/// Splits a script into its commands: a command goes on behind a backslash, in a quotation, and in a here-document.
fn commands(lines: &[&str]) -> Vec<Shown> {
    let mut found: Vec<Shown> = Vec::new();
    let mut open = String::new();
    for line in lines {
        open.push_str(line);
        open.push('\n');
        if goes_on(&open) {
            continue;
        }
        let command = std::mem::take(&mut open);
        if !command.trim().is_empty() {
            found.push(Shown { command: command.trim_end().to_owned(), output: None });
        }
    }
    assert!(open.is_empty(), "{open:?} does not end");
    found
}

fn goes_on(text: &str) -> bool {
    let (mut quote, mut escaped, mut comment) = (None, false, false);
    let mut before = '\n';
    for c in text.chars() {
        match (c, quote) {
            ('\n', None) => comment = false,
            _ if comment => {}
            _ if escaped => {
                escaped = false;
                before = ' ';
                continue;
            }
            ('\\', None | Some('"')) => escaped = true,
            ('#', None) if before.is_whitespace() => comment = true,
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            _ => {}
        }
        before = c;
    }
    let heredoc = text.split_once("<<").and_then(|(_, rest)| {
        let word = rest.lines().next()?.split([' ', '>']).next()?.trim_matches('\'');
        Some(!text.lines().any(|line| line == word))
    });
    quote.is_some() || text.ends_with("\\\n") || heredoc.unwrap_or(false)
}

/// Splits what is shown of a terminal: `$ ` begins a command, what follows is its output.
fn session(lines: &[&str]) -> Vec<Shown> {
    let mut found: Vec<Shown> = Vec::new();
    for line in lines {
        match (line.strip_prefix("$ "), found.last_mut()) {
            (Some(command), _) => found.push(Shown { command: command.to_owned(), output: None }),
            (None, Some(last)) if last.output.is_none() && goes_on(&format!("{}\n", last.command)) => {
                last.command.push('\n');
                last.command.push_str(line.strip_prefix("> ").unwrap_or(line));
            }
            (None, Some(last)) => {
                let output = last.output.get_or_insert_default();
                output.push_str(line);
                output.push('\n');
            }
            (None, None) => panic!("output before any command: {line}"),
        }
    }
    found
}

#[test]
fn commands_marks_and_files_of_a_document_are_found() {
    let document = "`a.toml`:\n\n```toml\nx = 1\n```\n\n<!-- not run: needs root -->\n```sh\nsudo x \\\n  y  # it's\n\
                    echo 'a\nb'\n```\n\n<!-- first: true -->\n<!-- exits: 0 3 -->\n```console\n$ a\n$ b\nout\n\nmore\n```\n";
    let found = blocks(document);
    assert_eq!(found[0].kind, Kind::File("a.toml".into(), "x = 1\n".into()));
    assert_eq!(found[1].not_run.as_deref(), Some("needs root"));
    let commands: Vec<_> = found[1].commands.iter().map(|shown| shown.command.as_str()).collect();
    assert_eq!(commands, ["sudo x \\\n  y  # it's", "echo 'a\nb'"]);
    assert_eq!(
        (found[2].first.as_slice(), found[2].exits.as_deref()),
        (&["true".into()][..], Some(&[0, 3][..]))
    );
    let second = Shown { command: "b".into(), output: Some("out\n\nmore\n".into()) };
    assert_eq!(found[2].commands, [Shown { command: "a".into(), output: None }, second]);
}
