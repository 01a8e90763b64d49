//! `awk` programs: taken apart into tokens to show that they only compute and print.
//!
//! What could do more is looked for by its tokens: `system`, pipes, output and input redirections, `ARGV` (through which a
//! program opens files of its choice) and what loads code. A redirection to or from a literal name is that file; one
//! whose name is computed may be any.

/// Something a program does beside computing and printing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    /// `getline < "FILE"`
    Read(String),
    /// Files whose names it makes itself are read.
    ReadAny,
    /// `print > "FILE"`
    Write(String),
    /// Files whose names it makes itself are written.
    WriteAny,
    /// `system(…)`, `print | …`, `… | getline`, and loaded code.
    Execute,
    /// A file of gawk's that is a network connection.
    Network,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Name(String),
    Number,
    Text(String),
    Pattern,
    Newline,
    Sign(&'static str),
}

/// Signs, the longer ones first.
const SIGNS: &[&str] = &[
    "**=", ">>", "|&", "||", "&&", "==", "!=", "<=", ">=", "+=", "-=", "*=", "/=", "%=", "^=", "++", "--",
    "**", "!~", "{", "}", "(", ")", "[", "]", ";", ",", "+", "-", "*", "/", "%", "^", "!", ">", "<", "|",
    "?", ":", "~", "$", "=", "@",
];

/// Finds what a program does beside computing and printing.
///
/// # Errors
/// When it is not understood or cannot be bounded, with the reason in a clause.
pub(super) fn read(program: &str) -> Result<Vec<Deed>, String> {
    let tokens = tokens(program)?;
    let mut deeds = Vec::new();
    // The depth of parentheses, and that at which a `print` stands whose `>` would be a redirection.
    let (mut depth, mut print): (usize, Option<usize>) = (0, None);
    let mut getline = false;
    for (index, token) in tokens.iter().enumerate() {
        match token {
            Token::Name(name) => match name.as_str() {
                "system" => deeds.push(Deed::Execute),
                "print" | "printf" => print = Some(depth),
                "getline" => getline = true,
                // Through these a program opens files of its choice.
                "ARGV" | "ARGC" | "SYMTAB" | "FUNCTAB" => deeds.push(Deed::ReadAny),
                _ => {}
            },
            Token::Sign("(" | "[") => depth += 1,
            Token::Sign(")" | "]") => depth = depth.saturating_sub(1),
            Token::Sign("|" | "|&") => deeds.push(Deed::Execute),
            // Code is loaded, or a function called by its name.
            Token::Sign("@") => deeds.push(Deed::Execute),
            Token::Sign(";" | "{" | "}") => (print, getline) = (None, false),
            Token::Newline if !continues(&tokens, index) => (print, getline) = (None, false),
            Token::Sign(">" | ">>") if print == Some(depth) || *token == Token::Sign(">>") => {
                match literal_operand(&tokens, index) {
                    Some(file) => written(file, &mut deeds),
                    None => deeds.push(Deed::WriteAny),
                }
            }
            Token::Sign("<") if getline => match literal_operand(&tokens, index) {
                Some(file) if file.starts_with("/inet") => deeds.push(Deed::Network),
                Some(file) if matches!(file.as_str(), "-" | "/dev/stdin") => {}
                Some(file) => deeds.push(Deed::Read(file)),
                None => deeds.push(Deed::ReadAny),
            },
            _ => {}
        }
    }
    Ok(deeds)
}

/// Whether the statement goes on behind the newline at `index`.
fn continues(tokens: &[Token], index: usize) -> bool {
    let before = tokens.get(..index).unwrap_or_default().iter().rev().find(|token| **token != Token::Newline);
    matches!(before, Some(Token::Sign("," | "&&" | "||" | "?" | ":")))
}

fn written(file: String, deeds: &mut Vec<Deed>) {
    if file.starts_with("/inet") {
        deeds.push(Deed::Network);
    } else if !matches!(file.as_str(), "/dev/stdout" | "/dev/stderr" | "-") {
        deeds.push(Deed::Write(file));
    }
}

/// Returns the literal text behind the sign at `index`, when nothing is joined to it.
fn literal_operand(tokens: &[Token], index: usize) -> Option<String> {
    let Some(Token::Text(text)) = tokens.get(index + 1) else { return None };
    match tokens.get(index + 2) {
        None | Some(Token::Newline | Token::Sign(";" | "}" | ")")) if !text.contains('\\') => {
            Some(text.clone())
        }
        _ => None,
    }
}

/// Takes a program apart.
fn tokens(program: &str) -> Result<Vec<Token>, String> {
    let mut tokens: Vec<Token> = Vec::new();
    // For every open parenthesis, whether it holds a condition, behind which a pattern may begin.
    let mut conditions: Vec<bool> = Vec::new();
    let mut after_condition = false;
    let mut rest = program;
    while let Some(c) = rest.chars().next() {
        let length;
        match c {
            '\n' => {
                tokens.push(Token::Newline);
                length = 1;
            }
            '\\' if rest.starts_with("\\\n") => length = 2,
            '\\' if rest.starts_with("\\\r\n") => length = 3,
            ' ' | '\t' | '\r' => length = 1,
            '#' => length = rest.find('\n').unwrap_or(rest.len()),
            '"' => {
                length = literal_end(rest, '"')?;
                tokens.push(Token::Text(rest.get(1..length - 1).unwrap_or_default().to_owned()));
            }
            '/' if divides(tokens.last()) => {
                if after_condition {
                    return Err("`/` behind a condition may divide or open a pattern".into());
                }
                length = sign(rest, &mut tokens)?;
            }
            '/' => {
                length = pattern_end(rest)?;
                tokens.push(Token::Pattern);
            }
            '.' | '0'..='9' => {
                length = number(rest)?;
                tokens.push(Token::Number);
            }
            c if c.is_ascii_alphabetic() || c == '_' => {
                length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                tokens.push(Token::Name(rest.get(..length).unwrap_or_default().to_owned()));
            }
            _ => length = sign(rest, &mut tokens)?,
        }
        if c == '(' {
            let opens = tokens.len().checked_sub(2).and_then(|before| tokens.get(before));
            conditions.push(
                matches!(opens, Some(Token::Name(name)) if ["if", "while", "for"].contains(&name.as_str())),
            );
        }
        if !matches!(c, ' ' | '\t' | '\r' | '\\' | '#') {
            after_condition = c == ')' && conditions.pop().unwrap_or_default();
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(tokens)
}

fn sign(rest: &str, tokens: &mut Vec<Token>) -> Result<usize, String> {
    let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) else {
        let c = rest.chars().next().unwrap_or_default();
        return Err(format!("`{}` is no part of a program", c.escape_debug()));
    };
    tokens.push(Token::Sign(sign));
    Ok(sign.len())
}

/// Returns the length of a number. Where one runs into a name (`1system("id")`), programs differ about where it ends.
fn number(rest: &str) -> Result<usize, String> {
    let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len());
    let text = rest.get(..length).unwrap_or_default();
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let exponent =
        digits.strip_prefix(['e', 'E']).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let hexadecimal = hexadecimal.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if digits.is_empty() || exponent || hexadecimal {
        return Ok(length);
    }
    Err(format!("the number in `{text}` runs into a name"))
}

/// Whether a `/` behind this token divides; otherwise it opens a pattern.
fn divides(before: Option<&Token>) -> bool {
    match before {
        Some(Token::Name(name)) => !KEYWORDS.contains(&name.as_str()),
        Some(Token::Number | Token::Text(_) | Token::Pattern) => true,
        Some(Token::Sign(sign)) => matches!(*sign, ")" | "]" | "$" | "++" | "--"),
        Some(Token::Newline) | None => false,
    }
}

/// Words behind which an expression begins.
const KEYWORDS: &[&str] =
    &["print", "printf", "return", "in", "do", "else", "case", "getline", "delete", "exit"];

/// Returns the length of a literal, its delimiters included.
fn literal_end(rest: &str, delimiter: char) -> Result<usize, String> {
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            '\n' => break,
            c if c == delimiter => return Ok(at + 1),
            _ => {}
        }
    }
    Err(format!("`{delimiter}` is not closed"))
}

/// Returns the length of a pattern, its slashes included. Whether a slash inside brackets ends it differs between programs,
/// so there it must not stand bare.
fn pattern_end(rest: &str) -> Result<usize, String> {
    let length = literal_end(rest, '/')?;
    let mut open = false;
    let mut chars = rest.get(1..length - 1).unwrap_or_default().chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            '[' => open = true,
            ']' => open = false,
            _ => {}
        }
    }
    if open { Err("`/` inside brackets must be written `\\/`".into()) } else { Ok(length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(program: &str, wanted: &str) {
        let found = match read(program) {
            Ok(deeds) => deeds.iter().map(|deed| format!("{deed:?}")).collect::<Vec<_>>().join(" "),
            Err(problem) => format!("? {problem}"),
        };
        assert_eq!(found, wanted, "{program}");
    }

    #[test]
    fn computing_and_printing_does_nothing_else() {
        for program in [
            "{print $1}",
            "{ print $1, $NF }",
            "NR>5",
            "NR==1 || $3 > 100 { print $1 }",
            "$3 > 100",
            "{s+=$1} END {print s/NR}",
            "/error/ {c++} END {print c}",
            "BEGIN{FS=\":\"} {printf \"%s %d\\n\", $1, $2}",
            "{ if ($1 > 5) print $2; else print \"x > y\" }",
            "{ print ($1 > $2) }",
            "{ print ($1 > $2 ? \"a\" : \"b\") }",
            "!seen[$0]++",
            "{ gsub(/\\//, \"|\"); print }",
            "/a|b/ && $2 ~ /^x/ { n = split($0, parts, \"|\"); print n }",
            "{ print length($0) / 2 }",
            "{ print > \"/dev/stderr\" }",
            "{ print $1 \"|\" $2 \"> x\" } # | system(\"x\")",
            "{ while ((getline line) > 0) n++ }",
            "function f(a) { return a / 2 } { print f($1) }",
            "{ print substr($0, 1, 10) ; a = b > c }",
            "NF{print;next}1",
            "{ x = 1e5 + .5 + 0x1F + 1.5e-3 }",
            "{ print $1 } /[a-z]\\/x/ { print }",
            "{ a[$1] = $2 } END { for (k in a) print k, a[k] }",
        ] {
            check(program, "");
        }
    }

    #[test]
    fn files_and_commands_are_found() {
        for (program, wanted) in [
            ("BEGIN{system(\"id\")}", "Execute"),
            ("{print | \"sh\"}", "Execute"),
            ("{\"date\" | getline d}", "Execute"),
            ("{print |& \"sh\"}", "Execute"),
            ("{print > \"out\"}", "Write(\"out\")"),
            ("{print $1 >> \"out\"}", "Write(\"out\")"),
            ("{printf(\"%s\", $1) > \"out\"}", "Write(\"out\")"),
            ("{print(1)(2) > \"out\"}", "Write(\"out\")"),
            ("{print 1>2}", "WriteAny"),
            ("{$0system(\"id\")}", "? the number in `0system` runs into a name"),
            ("{x = 1e5system(\"id\")}", "? the number in `1e5system` runs into a name"),
            ("{print $1,\n $2 > \"out\"}", "Write(\"out\")"),
            ("{print $1 ||\n\n $2 > \"out\"}", "Write(\"out\")"),
            ("{print $1 \\\n > \"out\"}", "Write(\"out\")"),
            ("{print > $1}", "WriteAny"),
            ("{print > \"a\" \"b\"}", "WriteAny"),
            ("{print > \"\\057etc/x\"}", "WriteAny"),
            ("{print > \"/dev/../etc/x\"}", "Write(\"/dev/../etc/x\")"),
            ("{while ((getline l < \"/etc/passwd\") > 0) print l}", "Read(\"/etc/passwd\")"),
            ("{getline < \"f\"}", "Read(\"f\")"),
            ("{getline x < $1}", "ReadAny"),
            ("BEGIN{ARGV[1]=\"/etc/passwd\";ARGC=2}", "ReadAny ReadAny"),
            ("BEGIN{SYMTAB[\"x\"]=1}", "ReadAny"),
            ("@load \"filefuncs\"", "Execute"),
            ("BEGIN{f=\"system\";@f(\"id\")}", "Execute"),
            ("BEGIN{s=\"/inet/tcp/0/h/80\"; print |& s}", "Execute"),
            ("BEGIN{print > \"/inet/tcp/0/h/80\"}", "Network"),
            ("/[/]/ {system(\"id\")} /x/", "? `/` inside brackets must be written `\\/`"),
            ("{ if (x) /a\"/ { system(\"id\") } }", "? `/` behind a condition may divide or open a pattern"),
            ("{ x = 1 / 2; system(\"id\") / 3 }", "Execute"),
            ("BEGIN { sys\\\ntem(\"id\") }", ""),
            ("{ print \"a\" }\n# c\n{ print | \"x\" }", "Execute"),
        ] {
            check(program, wanted);
        }
    }

    #[test]
    fn what_is_not_closed_is_not_understood() {
        check("{print \"a}", "? `\"` is not closed");
        check("/a", "? `/` is not closed");
        check("{print `id`}", "? ``` is no part of a program");
    }
}
