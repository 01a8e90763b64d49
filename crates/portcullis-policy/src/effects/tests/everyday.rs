//! The programs of the default and the readonly policy.

use super::{check, check_inner};

#[test]
fn honest_lines_only_read() {
    for (line, wanted) in [("ls", "examine ."), ("ls -la", "examine ."), ("ls -la src", "examine src")] {
        check(line, wanted);
    }
    check_inner("find . -exec cat {} \\;", "read unbounded");
}
