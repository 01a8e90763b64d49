//! The newest lines of standard output, and how far an execution has come by their number.

use std::collections::VecDeque;

/// Lines that are shown.
const LINES: usize = 10;
/// Bytes of one line that are shown.
const LINE_BYTES: usize = 4 * 1024;

/// Reads standard output as it is stored.
#[derive(Default)]
pub(crate) struct Newest {
    /// Whole lines that are not blank, all of them.
    count: u64,
    /// The last of them.
    lines: VecDeque<Vec<u8>>,
    /// What stands after the last newline.
    open: Vec<u8>,
}

impl Newest {
    /// Reads what comes next.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        let mut pieces = bytes.split(|&byte| byte == b'\n');
        extend_line(&mut self.open, pieces.next().unwrap_or_default());
        let Some(open) = pieces.next_back() else { return };
        let first = std::mem::take(&mut self.open);
        extend_line(&mut self.open, open);
        if !is_blank(&first) {
            self.count += 1;
            self.keep(first);
        }
        // Of a flood of lines only the last ones are copied.
        let mut last = VecDeque::with_capacity(LINES);
        for line in pieces.filter(|line| !is_blank(line)) {
            self.count += 1;
            if last.len() == LINES {
                last.pop_front();
            }
            last.push_back(line);
        }
        for line in last {
            let mut copy = Vec::new();
            extend_line(&mut copy, line);
            self.keep(copy);
        }
    }

    /// Returns one percent for ten lines, and between 1 and 99: how many will come is not known.
    pub(crate) fn progress(&self) -> u8 {
        u8::try_from((self.count / 10).clamp(1, 99)).unwrap_or(99)
    }

    /// Returns the newest lines that are not blank; the open one counts as a line.
    pub(crate) fn text(&self) -> Option<String> {
        let open = Some(&self.open).filter(|open| !is_blank(open));
        let lines: Vec<_> = self.lines.iter().chain(open).map(|line| shown(line)).collect();
        let newest = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default();
        (!newest.is_empty()).then(|| newest.join("\n"))
    }

    fn keep(&mut self, line: Vec<u8>) {
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

/// Whether a line has nothing to show.
pub(crate) fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// Returns a line as text, without the carriage return that may end it.
pub(crate) fn shown(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}

fn extend_line(line: &mut Vec<u8>, bytes: &[u8]) {
    let room = LINE_BYTES.saturating_sub(line.len());
    line.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pieces: &[&str], progress: u8, text: Option<&str>) {
        let mut newest = Newest::default();
        for piece in pieces {
            newest.read(piece.as_bytes());
        }
        assert_eq!((newest.progress(), newest.text().as_deref()), (progress, text));
    }

    #[test]
    fn last_ten_lines_are_shown_and_blank_ones_are_not_counted() {
        check(&[], 1, None);
        check(&["\n \r\n"], 1, None);
        check(&["a\r\n\nb\n"], 1, Some("a\nb"));
        let lines: String = (1..=205).map(|n| format!("{n}\n\n")).collect();
        check(&[&lines], 20, Some("196\n197\n198\n199\n200\n201\n202\n203\n204\n205"));
        check(&[&"x\n".repeat(100_000)], 99, Some(&["x"; 10].join("\n")));
    }

    #[test]
    fn lines_go_on_over_the_borders_of_pieces() {
        check(&["al", "pha\nbe", "ta", "\n"], 1, Some("alpha\nbeta"));
        check(&["a\n", "open"], 1, Some("a\nopen"));
    }

    #[test]
    fn one_endless_line_takes_bounded_memory() {
        let mut newest = Newest::default();
        for _ in 0..100 {
            newest.read(&[b'x'; 1_000]);
        }
        assert_eq!(newest.text().unwrap().len(), LINE_BYTES);
    }
}
