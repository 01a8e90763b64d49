//! Shortens a text in its middle, to a number of bytes that it takes inside a JSON string.

use std::borrow::Cow;

/// More than the line that stands for what was left out ever takes.
const MARKER_BYTES: usize = 64;

/// Returns how many bytes a character takes inside a JSON string, as `serde_json` writes it.
fn escaped_char_len(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        _ => c.len_utf8(),
    }
}

/// Returns how many bytes a text takes inside a JSON string, its quotes not counted.
pub(crate) fn escaped_len(text: &str) -> usize {
    text.chars().map(escaped_char_len).sum()
}

/// Shortens a text to at most `budget` bytes inside a JSON string. Of a text that is too long, a quarter of
/// the room goes to its head and the rest to its tail, which says more of how it ended; a line between them
/// says how much is missing. Whole lines are kept where they are not too long for that.
pub(crate) fn shorten(text: &str, budget: usize) -> Cow<'_, str> {
    if prefix_len(text.chars(), budget) == text.len() {
        return Cow::Borrowed(text);
    }
    let Some(room) = budget.checked_sub(MARKER_BYTES) else {
        return Cow::Borrowed(text.split_at(prefix_len(text.chars(), budget)).0);
    };
    let (mut head, rest) = text.split_at(prefix_len(text.chars(), room / 4));
    if let Some(newline) = head.rfind('\n').filter(|&at| at >= head.len() / 2) {
        head = head.split_at(newline + 1).0;
    }
    let tail_room = room - escaped_len(head);
    let mut tail = rest.split_at(rest.len() - prefix_len(rest.chars().rev(), tail_room)).1;
    if let Some(newline) = tail.find('\n').filter(|&at| at < tail.len() / 2) {
        tail = tail.split_at(newline + 1).1;
    }
    let left_out = text.len() - head.len() - tail.len();
    let border = if head.is_empty() || head.ends_with('\n') { "" } else { "\n" };
    Cow::Owned(format!("{head}{border}[{left_out} bytes left out]\n{tail}"))
}

/// Returns how many bytes of UTF-8 the first of these characters have that fit in `room` once escaped.
fn prefix_len(chars: impl Iterator<Item = char>, mut room: usize) -> usize {
    chars
        .map_while(|c| {
            room = room.checked_sub(escaped_char_len(c))?;
            Some(c.len_utf8())
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_are_counted_as_serde_json_writes_them() {
        for c in ('\0'..='\u{ff}').chain(['\u{2028}', '\u{fffd}', '😀', '\u{10ffff}']) {
            let written = serde_json::to_string(&c).unwrap();
            assert_eq!(escaped_char_len(c), written.len() - 2, "{written}");
        }
    }

    #[test]
    fn a_text_that_fits_is_left_alone() {
        assert_eq!(shorten("a\nb", 4), "a\nb");
        assert_eq!(shorten("", 0), "");
    }

    #[test]
    fn a_long_text_keeps_whole_lines_of_its_head_and_tail() {
        let text: String = (0..1_000).map(|n| format!("line {n}\n")).collect();
        let short = shorten(&text, 300);
        let lines: Vec<_> = short.lines().collect();
        assert_eq!(lines[..2], ["line 0", "line 1"]);
        assert_eq!(lines[lines.len() - 1], "line 999");
        let marker = lines.iter().find(|line| line.starts_with('[')).unwrap();
        assert!(marker.ends_with(" bytes left out]"), "{marker}");
        assert!(lines.iter().all(|line| line.starts_with("line ") || line == marker), "{short}");
    }

    #[test]
    fn a_text_of_one_line_is_cut_within_it() {
        let text = format!("{}{}", "a".repeat(1_000), "z".repeat(1_000));
        let short = shorten(&text, 264);
        assert_eq!(short, format!("{}\n[1800 bytes left out]\n{}", "a".repeat(50), "z".repeat(150)));
    }

    #[test]
    fn a_budget_smaller_than_the_marker_keeps_a_head() {
        assert_eq!(shorten("é".repeat(20).as_str(), 7), "é".repeat(3));
    }

    proptest! {
        #[test]
        fn the_budget_holds_and_the_missing_bytes_are_counted(
            text in prop_oneof![any::<String>(), "[\\x00-\\x1f\"\\\\a\n😀]{0,400}", "(\\PC{0,30}\n){0,30}"],
            budget in 0usize..600,
        ) {
            let short = shorten(&text, budget);
            prop_assert!(escaped_len(&short) <= budget);
            if let Cow::Owned(short) = &short {
                let (head, rest) = short.rsplit_once(" bytes left out]\n").unwrap();
                let (head, count) = head.rsplit_once('[').unwrap();
                let left_out: usize = count.parse().unwrap();
                prop_assert!(text.ends_with(rest) && text.starts_with(head.trim_end_matches('\n')));
                prop_assert!(left_out <= text.len());
            }
        }
    }
}
