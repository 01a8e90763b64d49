//! `sed` scripts: read in full, as GNU `sed` reads them, to find what they read, write and start.
//!
//! A script without such commands is run with `--sandbox`, so that `sed` itself refuses what this reader might
//! have overlooked.

use std::iter::Peekable;
use std::str::Chars;

/// Something a script does beside editing its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    /// `r`, `R`: a file is read.
    Read(String),
    /// `w`, `W`, the flag `w`: a file is written.
    Write(String),
    /// `e`, the flag `e`: a command is run.
    Execute,
}

/// Finds what a script does beside editing. Whether a delimiter inside brackets ends a pattern (`s/[/]/x/`) has changed
/// between versions of `sed`, so a script is read both ways: where one way is an error, that version would refuse
/// it, and what either way does counts.
///
/// # Errors
/// When it is not understood, with what is wrong in a clause.
pub(super) fn read(script: &str) -> Result<Vec<Deed>, String> {
    match (read_as(script, Brackets::Guard), read_as(script, Brackets::Plain)) {
        (Ok(deeds), Err(_)) | (Err(_), Ok(deeds)) => Ok(deeds),
        (Ok(mut deeds), Ok(others)) => {
            for deed in others {
                if !deeds.contains(&deed) {
                    deeds.push(deed);
                }
            }
            Ok(deeds)
        }
        (Err(_), Err(problem)) => Err(problem),
    }
}

/// What brackets mean to a delimiter inside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brackets {
    /// It is a character of the class.
    Guard,
    /// It ends the pattern.
    Plain,
}

fn read_as(script: &str, brackets: Brackets) -> Result<Vec<Deed>, String> {
    let mut reader = Reader { rest: script.chars().peekable(), brackets, deeds: Vec::new(), depth: 0 };
    while reader.command()? {}
    if reader.depth > 0 { Err("`{` is not closed".into()) } else { Ok(reader.deeds) }
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    brackets: Brackets,
    deeds: Vec<Deed>,
    depth: usize,
}

impl Reader<'_> {
    /// Reads one command; answers whether there was one.
    fn command(&mut self) -> Result<bool, String> {
        while self.rest.next_if(|c| c.is_whitespace() || *c == ';').is_some() {}
        if self.rest.peek().is_none() {
            return Ok(false);
        }
        if self.address(false)? {
            self.blanks();
            if self.rest.next_if_eq(&',').is_some() {
                self.blanks();
                if !self.address(true)? {
                    return Err("an address is missing behind `,`".into());
                }
            }
        }
        self.blanks();
        while self.rest.next_if_eq(&'!').is_some() {
            self.blanks();
        }
        let command = self.rest.next().ok_or("a command is missing behind an address")?;
        match command {
            '{' => self.depth += 1,
            '}' => {
                self.depth = self.depth.checked_sub(1).ok_or("`}` closes nothing")?;
                self.end()?;
            }
            '#' => while self.rest.next().is_some_and(|c| c != '\n') {},
            '=' | 'd' | 'D' | 'F' | 'g' | 'G' | 'h' | 'H' | 'n' | 'N' | 'p' | 'P' | 'x' | 'z' => {
                self.end()?
            }
            'q' | 'Q' | 'l' | 'L' => {
                self.blanks();
                self.digits();
                self.end()?;
            }
            ':' | 'b' | 't' | 'T' | 'v' => {
                self.blanks();
                while self.rest.next_if(|c| c.is_ascii_alphanumeric() || "_.-".contains(*c)).is_some() {}
                self.end()?;
            }
            'a' | 'i' | 'c' => self.text()?,
            'r' | 'R' => {
                let name = self.file_name()?;
                if name != "/dev/stdin" {
                    self.deeds.push(Deed::Read(name));
                }
            }
            'w' | 'W' => self.written_file()?,
            'e' => {
                self.deeds.push(Deed::Execute);
                self.line();
            }
            's' => self.substitute()?,
            'y' => {
                let delimiter = self.delimiter()?;
                self.delimited(delimiter)?;
                self.delimited(delimiter)?;
                self.end()?;
            }
            other => return Err(format!("`{other}` is no command of `sed`")),
        }
        Ok(true)
    }

    /// Reads an address; answers whether there was one.
    fn address(&mut self, second: bool) -> Result<bool, String> {
        match self.rest.peek().copied() {
            Some('$') => {
                self.rest.next();
            }
            Some('/' | '\\') => {
                let mut delimiter = self.rest.next().unwrap_or('/');
                if delimiter == '\\' {
                    delimiter = self.delimiter()?;
                }
                self.pattern(delimiter)?;
                while self.rest.next_if(|c| matches!(c, 'I' | 'M')).is_some() {}
            }
            Some('+' | '~') if second => {
                self.rest.next();
                self.digits();
            }
            Some('0'..='9') => {
                self.digits();
                self.blanks();
                if self.rest.next_if_eq(&'~').is_some() {
                    self.blanks();
                    self.digits();
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn substitute(&mut self) -> Result<(), String> {
        let delimiter = self.delimiter()?;
        self.pattern(delimiter)?;
        self.delimited(delimiter)?;
        loop {
            match self.rest.peek().copied() {
                Some('g' | 'p' | 'i' | 'I' | 'm' | 'M' | '0'..='9') => {
                    self.rest.next();
                }
                Some('e') => {
                    self.rest.next();
                    self.deeds.push(Deed::Execute);
                }
                Some('w') => {
                    self.rest.next();
                    return self.written_file();
                }
                _ => return self.end(),
            }
        }
    }

    fn delimiter(&mut self) -> Result<char, String> {
        let delimiter = self.rest.next().filter(|c| !matches!(c, '\n' | '\\'));
        delimiter.ok_or_else(|| "a delimiter is missing".to_owned())
    }

    /// Skips a pattern and the delimiter behind it.
    fn pattern(&mut self, delimiter: char) -> Result<(), String> {
        if self.brackets == Brackets::Plain {
            return self.delimited(delimiter);
        }
        while let Some(c) = self.rest.next() {
            match c {
                c if c == delimiter => return Ok(()),
                '\\' => {
                    self.rest.next();
                }
                '[' => self.class()?,
                '\n' => break,
                _ => {}
            }
        }
        Err(format!("`{delimiter}` is missing"))
    }

    /// Skips a bracket expression behind its `[`.
    fn class(&mut self) -> Result<(), String> {
        self.rest.next_if_eq(&'^');
        self.rest.next_if_eq(&']');
        while let Some(c) = self.rest.next() {
            match c {
                ']' => return Ok(()),
                '[' => {
                    let Some(kind) = self.rest.next_if(|c| matches!(c, ':' | '.' | '=')) else { continue };
                    while self.rest.next().ok_or("a class is not closed")? != kind
                        || self.rest.peek() != Some(&']')
                    {}
                    self.rest.next();
                }
                '\n' => break,
                _ => {}
            }
        }
        Err("`[` is not closed".into())
    }

    /// Skips to behind the next delimiter that no backslash precedes.
    fn delimited(&mut self, delimiter: char) -> Result<(), String> {
        while let Some(c) = self.rest.next() {
            match c {
                c if c == delimiter => return Ok(()),
                '\\' => {
                    self.rest.next();
                }
                '\n' => break,
                _ => {}
            }
        }
        Err(format!("`{delimiter}` is missing"))
    }

    /// Skips the text of `a`, `i` or `c`: up to a newline that no backslash precedes.
    fn text(&mut self) -> Result<(), String> {
        self.blanks();
        if self.rest.peek().is_none() {
            return Err("text is missing".into());
        }
        while let Some(c) = self.rest.next() {
            match c {
                '\\' => {
                    self.rest.next();
                }
                '\n' => break,
                _ => {}
            }
        }
        Ok(())
    }

    fn written_file(&mut self) -> Result<(), String> {
        let name = self.file_name()?;
        if !matches!(name.as_str(), "/dev/stdout" | "/dev/stderr") {
            self.deeds.push(Deed::Write(name));
        }
        Ok(())
    }

    fn file_name(&mut self) -> Result<String, String> {
        self.blanks();
        let name = self.line();
        if name.is_empty() { Err("the name of a file is missing".into()) } else { Ok(name) }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        while let Some(c) = self.rest.next_if(|c| *c != '\n') {
            line.push(c);
        }
        line
    }

    fn digits(&mut self) {
        while self.rest.next_if(char::is_ascii_digit).is_some() {}
    }

    fn blanks(&mut self) {
        while self.rest.next_if(|c| c.is_whitespace() && *c != '\n').is_some() {}
    }

    /// Checks that the command ends here.
    fn end(&mut self) -> Result<(), String> {
        self.blanks();
        match self.rest.peek() {
            None | Some('\n' | ';' | '}' | '#') => Ok(()),
            Some(other) => Err(format!("`{other}` follows a command")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(script: &str, wanted: &str) {
        let found = match read(script) {
            Ok(deeds) => deeds.iter().map(|deed| format!("{deed:?}")).collect::<Vec<_>>().join(" "),
            Err(problem) => format!("? {problem}"),
        };
        assert_eq!(found, wanted, "{script}");
    }

    #[test]
    fn editing_does_nothing_else() {
        for script in [
            "s/a/b/",
            "s/a/b/g;p",
            "1,5p",
            "1p;3p",
            "$d",
            "/^#/d",
            "/a/,/b/{s/x/y/;p}",
            "s|a|b|2gI",
            "y/abc/xyz/",
            "0~3d",
            "2,~4p",
            "/x/,+3p",
            "$!N;P;D",
            ":a;N;$!ba;s/\\n/ /g",
            "1!G;h;$!d",
            "/x/I,$p",
            "\\,a,d",
            "5q",
            "10q1",
            "s/\\//|/",
            "a hello; w not a file",
            "i\\\nwords\\\nmore w\np",
            "/re/c text",
            "#n\n1p",
            "s/a/b/ ; s/c/d/",
            "/a/{/b/{p}}",
            "n;d",
            "/x/{n;d}",
            "l 5",
            "=",
            "s,/etc/passwd,x,",
            "/w out/p",
            "s/e/w/",
            "/start/,/end/{ /start/n; /end/!d }",
            "1~2 p",
            "/a/ , /b/ p",
            "s/[/]/_/g",
            "/[^/]*$/p",
            "s/[[:alpha:]/]//",
            "s/x/\\\n/",
            "b;p",
            "/x/b end;p;:end",
            "",
        ] {
            check(script, "");
        }
    }

    #[test]
    fn files_and_commands_are_found_wherever_they_hide() {
        for (script, wanted) in [
            ("w out", "Write(\"out\")"),
            ("wout", "Write(\"out\")"),
            ("/x/w out;p", "Write(\"out;p\")"),
            ("s/a/b/w out", "Write(\"out\")"),
            ("s/a/b/gpw out", "Write(\"out\")"),
            ("s/a/b/wout\np", "Write(\"out\")"),
            ("r /etc/passwd", "Read(\"/etc/passwd\")"),
            ("$R f", "Read(\"f\")"),
            ("1W f", "Write(\"f\")"),
            ("e", "Execute"),
            ("1e rm -rf x", "Execute"),
            ("s/a/b/e", "Execute"),
            ("s/a/b/ge", "Execute"),
            ("sxaxbxe", "Execute"),
            ("s/[/]/e;w f", "Execute Write(\"f\")"),
            ("s/[/]/x/e", "Execute"),
            ("s/[^]/]/x/;s/[[:space:]/]/x/w f", "Write(\"f\")"),
            ("a text\nw f", "Write(\"f\")"),
            ("a\\\ntext\nw f", "Write(\"f\")"),
            ("# c\nw f", "Write(\"f\")"),
            ("{w f\n}", "Write(\"f\")"),
            ("/a/,/b/!{s/x/y/;e ls\n}", "Execute"),
            ("y/ab/cd/;w f", "Write(\"f\")"),
            (":a\nw f", "Write(\"f\")"),
            ("w /dev/stdout", ""),
            ("w /dev/../etc/x", "Write(\"/dev/../etc/x\")"),
            ("r /dev/stdin", ""),
            ("5q;e", "Execute"),
        ] {
            check(script, wanted);
        }
    }

    #[test]
    fn what_sed_would_refuse_is_not_understood() {
        for (script, wanted) in [
            ("s/a/b", "? `/` is missing"),
            ("k", "? `k` is no command of `sed`"),
            ("p x", "? `x` follows a command"),
            ("{p", "? `{` is not closed"),
            ("p}", "? `}` closes nothing"),
            ("s/a\nb/c/", "? `/` is missing"),
            ("1,p", "? an address is missing behind `,`"),
            ("w", "? the name of a file is missing"),
            ("s/a/b/q", "? `q` follows a command"),
        ] {
            check(script, wanted);
        }
    }
}
