//! Makes pipelines of tokens.

use portcullis_core::{Connector, Denial, DenialCode, Duplicate, Redirection, RedirectionTarget, Span};

use super::lexer::{Lexer, RawWord, Token};
use super::word::{assigned_name, refuse_expansions, word};
use super::{Assignment, Line, LineCommand, LineStep, MAX_COMMANDS, MAX_LINE_BYTES, characters};
use crate::code::{
    SYNTAX_ARITHMETIC, SYNTAX_ARRAY, SYNTAX_BACKGROUND, SYNTAX_CASE, SYNTAX_CONTROL_WORD, SYNTAX_EMPTY,
    SYNTAX_EXTENDED_GLOB, SYNTAX_FUNCTION, SYNTAX_GLOB, SYNTAX_GROUP, SYNTAX_HERE_DOCUMENT, SYNTAX_HISTORY,
    SYNTAX_MISSING_COMMAND, SYNTAX_PIPE_BOTH, SYNTAX_PROCESS_SUBSTITUTION, SYNTAX_REDIRECTION,
    SYNTAX_SUBSHELL, SYNTAX_TOO_LONG, SYNTAX_TOO_MANY, SYNTAX_UNFINISHED, denial,
};

type Refused = Box<Denial>;

/// Reads a whole line.
///
/// # Errors
/// A denial of the family `syntax` for the first thing that is not in the language.
pub(crate) fn parse(text: &str) -> Result<Line, Refused> {
    if text.len() > MAX_LINE_BYTES {
        let span = Span::new(MAX_LINE_BYTES, text.len());
        let message = format!("the line has {} bytes; at most {MAX_LINE_BYTES} are read", text.len());
        return Err(with(denial(SYNTAX_TOO_LONG, span, "line", message), "send shorter lines"));
    }
    characters::check(text)?;
    Parser { lexer: Lexer::new(text), text, commands: 0 }.line()
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    text: &'a str,
    commands: usize,
}

impl Parser<'_> {
    fn line(mut self) -> Result<Line, Refused> {
        let mut steps = Vec::new();
        let mut connector = Connector::Always;
        let mut joined_by: Option<(&'static str, Span)> = None;
        loop {
            let first = self.skip_newlines()?;
            if let Token::End(span) = first {
                return match joined_by {
                    Some((operator, at)) => Err(self.unfinished(operator, at)),
                    None if steps.is_empty() => Err(Box::new(denial(
                        SYNTAX_EMPTY,
                        Span::new(0, span.end),
                        "line",
                        "the line holds no command",
                    ))),
                    None => Ok(Line { steps }),
                };
            }
            let (commands, behind) = self.pipeline(first)?;
            steps.push(LineStep { connector, commands });
            (connector, joined_by) = match behind {
                Token::Operator("&&", span) => (Connector::IfSucceeded, Some(("&&", span))),
                Token::Operator("||", span) => (Connector::IfFailed, Some(("||", span))),
                _ => (Connector::Always, None),
            };
        }
    }

    fn skip_newlines(&mut self) -> Result<Token, Refused> {
        loop {
            let token = self.lexer.next()?;
            if !matches!(token, Token::Newline(_)) {
                return Ok(token);
            }
        }
    }

    /// Reads a pipeline that begins with this token, and the token behind it: `&&`, `||`, `;`, a newline or
    /// the end.
    fn pipeline(&mut self, first: Token) -> Result<(Vec<LineCommand>, Token), Refused> {
        let mut commands = Vec::with_capacity(1);
        let mut token = first;
        loop {
            let (command, behind) = self.command(token)?;
            self.commands += 1;
            if self.commands > MAX_COMMANDS {
                let message = format!("the line has more than {MAX_COMMANDS} commands");
                let denial = denial(SYNTAX_TOO_MANY, command.span, "line", message);
                return Err(with(denial, "send it in several lines"));
            }
            commands.push(command);
            let Token::Operator("|", pipe) = behind else { return Ok((commands, behind)) };
            token = self.skip_newlines()?;
            if matches!(token, Token::End(_)) {
                return Err(self.unfinished("|", pipe));
            }
        }
    }

    /// Reads a simple command that begins with this token, and the token behind it.
    fn command(&mut self, first: Token) -> Result<(LineCommand, Token), Refused> {
        let begin = match &first {
            Token::Word(raw) => raw.span,
            Token::Operator(_, span) | Token::Newline(span) | Token::End(span) => *span,
        };
        let mut command =
            LineCommand { assignments: Vec::new(), words: Vec::new(), redirections: Vec::new(), span: begin };
        let mut token = first;
        let mut last_word: Option<RawWord> = None;
        loop {
            token = match token {
                Token::Word(raw) => {
                    command.span = command.span.to(raw.span);
                    let next = self.word(&mut command, &raw)?;
                    if let Some(before) = last_word.replace(raw) {
                        self.lexer.take_back(before);
                    }
                    next
                }
                Token::Operator(operator @ ("<" | ">" | ">>" | ">|" | ">&" | "&>" | "&>>"), span) => {
                    last_word = None;
                    self.redirection(&mut command, None, operator, span)?;
                    self.lexer.next()?
                }
                Token::Operator(operator, span) => {
                    let is_end = matches!(operator, "|" | "&&" | "||" | ";");
                    if !is_end {
                        return Err(self.refused_operator(operator, span, &command, last_word.as_ref()));
                    }
                    self.finish(&command, operator, span)?;
                    return Ok((command, Token::Operator(operator, span)));
                }
                end @ (Token::Newline(span) | Token::End(span)) => {
                    self.finish(&command, "", span)?;
                    return Ok((command, end));
                }
            };
        }
    }

    /// Takes a word into the command, or the redirection whose descriptor it is; returns what follows.
    fn word(&mut self, command: &mut LineCommand, raw: &RawWord) -> Result<Token, Refused> {
        let before_redirection = matches!(self.lexer.peek(), Some('<' | '>'));
        if before_redirection && let Some(text) = raw.plain() {
            let braced = text.starts_with('{') && text.ends_with('}');
            if braced || !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
                // A word of digits right before `<` or `>` is a descriptor. Dash knows one digit, bash many
                // and a variable in braces besides.
                let Token::Operator(operator, span) = self.lexer.next()? else {
                    return Err(self.descriptor(raw.span, &text));
                };
                let whole = raw.span.to(span);
                let descriptor = match text.as_str() {
                    "0" => 0,
                    "1" => 1,
                    "2" => 2,
                    _ => return Err(self.descriptor(whole, &text)),
                };
                if !matches!(operator, "<" | ">" | ">>" | ">|" | ">&") {
                    return Err(self.refused_operator(operator, span, command, None));
                }
                self.redirection(command, Some(descriptor), operator, whole)?;
                return self.lexer.next();
            }
        }
        if command.words.is_empty() {
            if let Some(length) = assigned_name(&raw.units) {
                return self.assignment(command, raw, length);
            }
            self.refuse_command_word(raw)?;
        }
        let made = word(raw)?;
        if command.words.is_empty() && made.is_glob() {
            let denial = denial(
                SYNTAX_GLOB,
                raw.span,
                raw.text(),
                "a pattern in place of a program's name is not allowed",
            );
            return Err(with(denial, "write the program's name"));
        }
        command.words.push(made);
        self.lexer.next()
    }

    fn assignment(
        &mut self,
        command: &mut LineCommand,
        raw: &RawWord,
        length: usize,
    ) -> Result<Token, Refused> {
        refuse_expansions(raw)?;
        let next = self.lexer.next()?;
        if let Token::Operator("(" | "((", span) = next {
            let denial = denial(
                SYNTAX_ARRAY,
                raw.span.to(span),
                raw.text(),
                "the assignment of an array is not allowed",
            );
            return Err(Box::new(denial));
        }
        let text = |units: &[super::lexer::Unit]| units.iter().map(|unit| unit.c).collect::<String>();
        let (name, value) = raw.units.split_at(length);
        command.assignments.push(Assignment {
            name: text(name),
            value: text(value.get(1..).unwrap_or_default()),
            span: raw.span,
        });
        Ok(next)
    }

    /// Refuses words that are no program's name to a shell.
    fn refuse_command_word(&self, raw: &RawWord) -> Result<(), Refused> {
        let Some(text) = raw.plain() else { return Ok(()) };
        let refuse = |code: DenialCode, what: &str, suggestion: &str| {
            let message = format!("{what} `{text}` is not allowed: no shell runs the line");
            Err(with(denial(code, raw.span, text.as_str(), message), suggestion))
        };
        let plain = "write simple commands, joined by `|`, `&&`, `||`, `;` or newlines";
        match text.as_str() {
            "{" | "}" => refuse(SYNTAX_GROUP, "the group", plain),
            "function" => refuse(SYNTAX_FUNCTION, "the definition of a function with", plain),
            "!" => refuse(SYNTAX_CONTROL_WORD, "the negation", "use `||` in place of `!` and `&&`"),
            "[[" | "]]" => {
                refuse(SYNTAX_CONTROL_WORD, "the condition", "use `test` or `[ … ]` with quoted words")
            }
            "time" => {
                refuse(SYNTAX_CONTROL_WORD, "the keyword", "leave it out: each record says how long it took")
            }
            "if" | "then" | "else" | "elif" | "fi" | "for" | "while" | "until" | "do" | "done" | "case"
            | "esac" | "in" | "select" | "coproc" => refuse(SYNTAX_CONTROL_WORD, "the control word", plain),
            _ if text.starts_with('!') => refuse(SYNTAX_HISTORY, "the reference to the history", plain),
            _ => {
                let name = text.find(['[', '+']).filter(|&at| {
                    let (name, rest) = text.split_at(at);
                    let is_name = name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
                    is_name
                        && !name.is_empty()
                        && (rest.starts_with("+=") || rest.contains("]=") || rest.contains("]+="))
                });
                match name {
                    Some(_) => refuse(SYNTAX_ARRAY, "the assignment", "assign whole values: `NAME=value`"),
                    None => Ok(()),
                }
            }
        }
    }

    fn redirection(
        &mut self,
        command: &mut LineCommand,
        descriptor: Option<u8>,
        operator: &'static str,
        span: Span,
    ) -> Result<(), Refused> {
        let target = match self.lexer.next()? {
            Token::Word(raw) => raw,
            Token::Operator("(" | "((", open) => {
                return Err(self.process_substitution(span.to(open)));
            }
            _ => {
                let denial = denial(
                    SYNTAX_REDIRECTION,
                    span,
                    operator,
                    format!("`{operator}` names no file to redirect to"),
                );
                return Err(with(denial, "write the file's name behind it"));
            }
        };
        refuse_expansions(&target)?;
        let whole = span.to(target.span);
        command.span = command.span.to(whole);
        let path = target.text();
        let digits = target.plain().is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        if digits && matches!(self.lexer.peek(), Some('<' | '>')) {
            // Dash takes the digit for the descriptor of what follows, bash for what it is.
            return Err(self.descriptor(target.span, &path));
        }
        let mut push = |descriptor, target| {
            command.redirections.push(Redirection { descriptor, target, span: whole });
        };
        let refuse = |message: String, suggestion: &str| {
            Err(with(
                denial(
                    SYNTAX_REDIRECTION,
                    whole,
                    self.text.get(whole.start..whole.end).unwrap_or_default(),
                    message,
                ),
                suggestion,
            ))
        };
        if operator == ">&" {
            let duplicate = match path.as_str() {
                "1" => Duplicate::Stdout,
                "2" => Duplicate::Stderr,
                "-" => {
                    return refuse("closing a descriptor is not allowed".into(), "redirect to `/dev/null`");
                }
                _ => {
                    return refuse(
                        format!("`>&` takes 1 or 2, not `{path}`: shells differ about it"),
                        "write `> FILE 2>&1`",
                    );
                }
            };
            if descriptor == Some(0) {
                return refuse("making the input a copy of an output is not allowed".into(), "leave it out");
            }
            push(descriptor.unwrap_or(1), RedirectionTarget::Duplicate(duplicate));
            return Ok(());
        }
        if path.is_empty() {
            return refuse("the redirection names an empty path".into(), "write the file's name");
        }
        if word(&target)?.is_glob() {
            return refuse(
                format!("the pattern `{path}` in a redirection is not allowed: shells differ about it"),
                "write the file's name, or quote it",
            );
        }
        let wrong_way =
            if operator == "<" { descriptor.is_some_and(|n| n != 0) } else { descriptor == Some(0) };
        if wrong_way {
            return refuse(
                format!("`{}{operator}` is not allowed", descriptor.unwrap_or_default()),
                "redirect 0 with `<`, and 1 or 2 with `>` or `>>`",
            );
        }
        match operator {
            "<" => push(0, RedirectionTarget::Read(path)),
            ">" | ">|" => push(descriptor.unwrap_or(1), RedirectionTarget::Truncate(path)),
            ">>" => push(descriptor.unwrap_or(1), RedirectionTarget::Append(path)),
            "&>" => {
                push(1, RedirectionTarget::Truncate(path));
                push(2, RedirectionTarget::Duplicate(Duplicate::Stdout));
            }
            _ => {
                push(1, RedirectionTarget::Append(path));
                push(2, RedirectionTarget::Duplicate(Duplicate::Stdout));
            }
        }
        Ok(())
    }

    /// Checks that a command is one, when what ends it has been read.
    fn finish(&self, command: &LineCommand, operator: &str, span: Span) -> Result<(), Refused> {
        if !command.words.is_empty() {
            return Ok(());
        }
        if !command.assignments.is_empty() {
            let names: Vec<_> = command.assignments.iter().map(|one| one.name.as_str()).collect();
            let denial = denial(
                crate::code::ENV_ASSIGNMENT,
                command.span,
                names.join(", "),
                "an assignment without a command is not allowed: no shell keeps the variable",
            );
            return Err(with(denial, "write it before the command that needs it: `NAME=value COMMAND`"));
        }
        if !command.redirections.is_empty() {
            let denial = denial(
                SYNTAX_MISSING_COMMAND,
                command.span,
                self.text.get(command.span.start..command.span.end).unwrap_or_default(),
                "redirections without a command are not allowed",
            );
            return Err(with(denial, "write the command, such as `true`, that they belong to"));
        }
        let message = format!("`{operator}` has no command before it");
        Err(with(
            denial(SYNTAX_MISSING_COMMAND, span, operator, message),
            "write a command there, or leave it out",
        ))
    }

    fn unfinished(&self, operator: &str, span: Span) -> Refused {
        let message = format!("`{operator}` has no command behind it");
        with(denial(SYNTAX_UNFINISHED, span, operator, message), "write a command there, or leave it out")
    }

    fn descriptor(&self, span: Span, text: &str) -> Refused {
        let message = format!("the descriptor `{text}` is not allowed: a command has 0, 1 and 2");
        with(
            denial(SYNTAX_REDIRECTION, span, text, message),
            "put a blank between the word and the operator when it is no descriptor",
        )
    }

    fn process_substitution(&self, span: Span) -> Refused {
        let subject = self.text.get(span.start..span.end).unwrap_or_default();
        let denial = denial(
            SYNTAX_PROCESS_SUBSTITUTION,
            span,
            subject,
            format!("process substitution `{subject}…)` is not allowed"),
        );
        with(denial, "write what the inner command prints to a file, or use a pipe")
    }

    /// Names the construct that an operator outside the language begins.
    fn refused_operator(
        &mut self,
        operator: &'static str,
        span: Span,
        command: &LineCommand,
        last_word: Option<&RawWord>,
    ) -> Refused {
        let touching = last_word.filter(|raw| raw.span.end == span.start);
        let make = |code: DenialCode, what: &str, suggestion: &str| {
            let message = format!("{what} `{operator}` is not allowed");
            with(denial(code, span, operator, message), suggestion)
        };
        match operator {
            "&" if matches!(self.lexer.peek(), Some(c) if !" \t\n".contains(c)) && touching.is_some() => {
                make(
                    SYNTAX_BACKGROUND,
                    "running in the background with",
                    "quote the word when the `&` belongs to it; for two commands write `;` or `&&`",
                )
            }
            "&" => make(
                SYNTAX_BACKGROUND,
                "running in the background with",
                "leave it out: an execution goes on by itself; for two commands write `;` or `&&`",
            ),
            "|&" => make(SYNTAX_PIPE_BOTH, "the pipe of both streams", "write `2>&1 |`"),
            "<<" | "<<-" => make(
                SYNTAX_HERE_DOCUMENT,
                "the here-document",
                "send the text as the submission's `stdin`, or pipe it from `printf`",
            ),
            "<<<" => make(
                SYNTAX_HERE_DOCUMENT,
                "the here-string",
                "pipe the text from `printf`: `printf '%s\\n' TEXT | …`",
            ),
            "<(" | ">(" => self.process_substitution(span),
            ";;" | ";&" | ";;&" => make(SYNTAX_CASE, "the operator", "write a single `;`"),
            "<&" => make(SYNTAX_REDIRECTION, "the redirection", "redirect the input from a file with `<`"),
            "<>" => make(SYNTAX_REDIRECTION, "the redirection", "use `<` to read and `>` to write"),
            "((" if command.words.is_empty() => {
                make(SYNTAX_ARITHMETIC, "arithmetic in", "write the number that it comes to")
            }
            "(" | "(("
                if touching.is_some_and(|raw| {
                    raw.units.last().is_some_and(|unit| !unit.quoted && "?*+@!".contains(unit.c))
                }) =>
            {
                make(
                    SYNTAX_EXTENDED_GLOB,
                    "the extended pattern with",
                    "use `*`, `?` and `[…]`, or quote the word",
                )
            }
            "(" if command.words.len() == 1 && last_word.is_some() => {
                if self.lexer.peek() == Some(')') {
                    make(SYNTAX_FUNCTION, "the definition of a function with", "write its commands in place")
                } else {
                    make(SYNTAX_SUBSHELL, "the parenthesis", "quote it when it belongs to a word")
                }
            }
            "(" | "((" if command.words.is_empty() => make(
                SYNTAX_SUBSHELL,
                "the subshell with",
                "write its commands in place, joined by `|`, `&&`, `||` or `;`",
            ),
            "(" | ")" | "((" => {
                make(SYNTAX_SUBSHELL, "the parenthesis", "quote it when it belongs to a word: `\\(`")
            }
            _ => make(SYNTAX_REDIRECTION, "the operator", "quote it when it belongs to a word"),
        }
    }
}

fn with(mut denial: Denial, suggestion: &str) -> Refused {
    denial.suggestion = Some(suggestion.to_owned());
    Box::new(denial)
}
