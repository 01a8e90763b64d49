//! Draws denials for terminals: the line, carets under what the denial is about, and what to do instead.

use portcullis_core::{Denial, RuleRef, Span};

/// At most as many characters of the line are drawn on each side of what the denial is about.
const CONTEXT: usize = 60;

/// At most as many effects are drawn; a verdict as data has them all.
const DRAWN_EFFECTS: usize = 8;

/// Draws a denial beneath its line. Control characters of the line and of the denial are escaped, so that
/// nothing drawn can drive a terminal; the text ends with a newline.
///
/// ```
/// use portcullis_core::{Limits, Policy as _, Principal, Submission, Verdict};
/// use portcullis_policy::{Rulebook, RulebookPolicy, explain};
///
/// let policy = RulebookPolicy::new(Rulebook::from_allowlist(["ls", "cat"])?, Limits::default());
/// let line = "ls && cta notes.txt";
/// let Verdict::Deny(denial) = policy.judge(&Principal::local(), &Submission::of(line)) else { panic!() };
/// assert_eq!(explain::draw(line, &denial), "\
/// denied: `cta` is not allowed: no rule allows it
///   | ls && cta notes.txt
///   |       ^^^
///   = code: program/not-allowed
///   = help: did you mean `cat`?
/// ");
/// # Ok::<(), portcullis_policy::RulebookError>(())
/// ```
#[must_use]
pub fn draw(line: &str, denial: &Denial) -> String {
    let mut out = String::new();
    one(line, denial, "denied", &mut out);
    for further in &denial.further {
        one(line, further, "and", &mut out);
    }
    out
}

fn one(line: &str, denial: &Denial, title: &str, out: &mut String) {
    *out += &format!("{title}: {}\n", escaped(&denial.message));
    if let Some((text, carets)) = excerpt(line, denial.span) {
        *out += &format!("  | {}\n  | {}\n", text.trim_end(), carets.trim_end());
    }
    *out += &format!("  = code: {}\n", denial.code);
    if let Some(RuleRef { name, line }) = &denial.rule {
        let place = line.map(|line| format!(" (line {line} of the rulebook)")).unwrap_or_default();
        *out += &format!("  = rule: {}{place}\n", escaped(name));
    }
    if !denial.effects.is_empty() {
        let found = denial.effects.iter().take(DRAWN_EFFECTS);
        let found = found.map(|effect| format!("{} {}", effect.kind, escaped(&effect.subject)));
        let more = denial.effects.len().saturating_sub(DRAWN_EFFECTS);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        *out += &format!("  = effects: {}{more}\n", found.collect::<Vec<_>>().join("; "));
    }
    if let Some(suggestion) = &denial.suggestion {
        *out += &format!("  = help: {}\n", escaped(suggestion));
    }
}

/// Returns the row of the line that the span begins in, and carets under the part of it that the span covers. `None`
/// for a span that shows nothing.
fn excerpt(line: &str, span: Span) -> Option<(String, String)> {
    let start = floor(line, span.start);
    let end = floor(line, span.end.max(start));
    if line.is_empty() || span.start == 0 && span.end == 0 {
        return None;
    }
    let row_start = line.get(..start)?.rfind('\n').map_or(0, |at| at + 1);
    let row_end = line.get(start..)?.find('\n').map_or(line.len(), |at| start + at);
    let mut before: Vec<char> = line.get(row_start..start)?.chars().collect();
    let covered = line.get(start..end.min(row_end).max(start))?;
    let mut after: Vec<char> = line.get(end.min(row_end).max(start)..row_end)?.chars().collect();
    let mut text = String::new();
    if before.len() > CONTEXT {
        before.drain(..before.len() - CONTEXT);
        text.push('…');
    }
    let cut = after.len() > CONTEXT;
    after.truncate(CONTEXT);
    text += &escaped(&before.into_iter().collect::<String>());
    let mut carets = " ".repeat(text.chars().count());
    let covered = escaped(&covered.chars().take(2 * CONTEXT).collect::<String>());
    carets += &"^".repeat(covered.chars().count().max(1));
    text += &covered;
    text += &escaped(&after.into_iter().collect::<String>());
    if cut {
        text.push('…');
    }
    Some((text, carets))
}

/// Returns the nearest offset at or before `at` where a character begins.
fn floor(line: &str, at: usize) -> usize {
    (0..=at.min(line.len())).rev().find(|&at| line.is_char_boundary(at)).unwrap_or(0)
}

/// Writes characters that a terminal would act on as escapes, and a tab as a blank.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push(' '),
            c if c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{a0}') =>
            {
                out.extend(c.escape_unicode());
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::{SYNTAX_CHARACTER, denial};

    fn drawn(line: &str, start: usize, end: usize) -> String {
        let denial = denial(SYNTAX_CHARACTER, Span::new(start, end), "x", "no");
        let text = draw(line, &denial);
        text.lines().skip(1).take_while(|line| line.starts_with("  |")).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn carets_stand_under_the_span_in_the_row_it_begins_in() {
        assert_eq!(drawn("ls\necho ab cd\nx", 8, 10), "  | echo ab cd\n  |      ^^");
        assert_eq!(drawn("é ab", 3, 5), "  | é ab\n  |   ^^");
        assert_eq!(drawn("ls |", 4, 4), "  | ls |\n  |     ^");
        assert_eq!(drawn("'a\nb' c", 0, 5), "  | 'a\n  | ^^");
    }

    #[test]
    fn what_would_drive_a_terminal_is_escaped() {
        assert_eq!(drawn("a\u{1b}b", 1, 2), "  | a\\u{1b}b\n  |  ^^^^^^");
        assert!(drawn("a\r\u{202e}b", 1, 2).contains("\\u{d}\\u{202e}"));
    }

    #[test]
    fn long_lines_are_cut_around_the_span() {
        let line = format!("{} HERE {}", "a".repeat(500), "b".repeat(500));
        let text = drawn(&line, 501, 505);
        assert!(text.lines().all(|line| line.chars().count() < 140), "{text}");
        let (shown, carets) = text.split_once('\n').unwrap();
        let at = shown.chars().collect::<String>().find("HERE").unwrap();
        assert_eq!(shown.chars().position(|c| c == 'H'), carets.chars().position(|c| c == '^'), "{at}");
    }

    #[test]
    fn any_span_of_any_line_can_be_drawn() {
        for line in ["", "é", "a\n\nb", "\u{1f600}"] {
            for start in 0..8 {
                for end in 0..8 {
                    let _ = drawn(line, start, end);
                }
            }
        }
    }
}
