//! Lines are carried out as a shell would, without one.

use portcullis_core::{ClassItem, Connector, Duplicate, Ended, Piece, RedirectionTarget, Span, Word};

use crate::harness::{Line, check, check_end};

#[test]
fn pipelines_connect_and_the_last_status_counts() {
    check(Line::of("printf b\\na\\n").pipe("sort").pipe("head -n 1"), &["a"]);
    check_end(Line::probe("exit 3").pipe("true"), Ended::Exited(0));
    check_end(Line::of("true").pipe("confinement-probe exit 3"), Ended::Exited(3));
}

/// Decision 0032: the probe's allocator ends whoever uses the heap that its cell has, with status 99. So every test here
/// is one of this; these are the kinds of lines that share.
#[test]
fn memory_is_shared_without_the_heap() {
    let writes = |line: Line| line.write("/workspace");
    check(Line::of("echo one"), &["one"]);
    check(Line::of("echo one").pipe("cat").pipe("cat"), &["one"]);
    check(writes(Line::of("echo one").pipe("tee /workspace/x")), &["one"]);
    check(
        Line::of("false").then(Connector::IfFailed, "echo or").then(Connector::Always, "echo two"),
        &["or", "two"],
    );
    check(
        Line::of("ls /nowhere").redirect(2, RedirectionTarget::Duplicate(Duplicate::Stdout)).pipe("wc -l"),
        &["1"],
    );
    check_end(Line::probe("exit 3"), Ended::Exited(3));
    check_end(Line::probe("signal 6"), Ended::Signaled(6));
}

#[test]
fn a_writer_without_reader_ends() {
    check(Line::of("yes").pipe("head -n 1"), &["y"]);
}

#[test]
fn steps_depend_on_the_status_so_far() {
    check(
        Line::of("false").then(Connector::IfSucceeded, "echo and").then(Connector::IfFailed, "echo or"),
        &["or"],
    );
    check(
        Line::of("true").then(Connector::IfFailed, "echo or").then(Connector::IfSucceeded, "echo and"),
        &["and"],
    );
    check(Line::of("false").then(Connector::Always, "echo always"), &["always"]);
    check_end(Line::of("false").then(Connector::IfSucceeded, "true"), Ended::Exited(1));
}

#[test]
fn a_directory_change_that_fails_ends_the_line_unless_the_line_says_otherwise() {
    let line = || Line::of("echo before").change_directory("nowhere");
    check(line().then(Connector::Always, "echo after"), &["before"]);
    check_end(line().then(Connector::Always, "true"), Ended::Exited(1));
    check(
        line().then(Connector::IfSucceeded, "echo there").then(Connector::Always, "echo after"),
        &["before"],
    );
    check(
        line().then(Connector::IfFailed, "echo missing").then(Connector::Always, "echo after"),
        &["before", "missing", "after"],
    );
}

#[test]
fn words_arrive_as_they_were_judged() {
    let word = |text: &str| Word::literal(text, Span::new(0, 0));
    let line = Line::probe("print")
        .word(word("two words"))
        .word(word("$HOME `id` $(id) *"))
        .word(word(""))
        .word(word("'quotes\""));
    check(line, &["two words", "$HOME `id` $(id) *", "", "'quotes\""]);
}

#[test]
fn globs_are_expanded_against_what_the_cell_sees() {
    let glob = |pieces: Vec<Piece>| Word { pieces, span: Span::new(0, 0) };
    let text = |text: &str| Piece::Text(text.into());
    let make = || Line::of("touch b.txt a.txt -n.txt .hidden.txt").write("/workspace");
    // `touch -n.txt` would be an option: it is made by its path.
    let make =
        |_: ()| make().then(Connector::Always, "touch ./-n.txt b.txt a.txt .hidden.txt").write("/workspace");
    check(
        make(())
            .then(Connector::Always, "confinement-probe print")
            .word(glob(vec![Piece::AnyString, text(".txt")])),
        &["./-n.txt", "a.txt", "b.txt"],
    );
    let class =
        Piece::Class { negated: false, items: vec![ClassItem::Range('a', 'a')], source: "[a]".into() };
    check(
        make(()).then(Connector::Always, "confinement-probe print").word(glob(vec![class, text(".txt")])),
        &["a.txt"],
    );
    check(Line::probe("print").word(glob(vec![text("none"), Piece::AnyString])), &["none*"]);
    check(Line::probe("print").word(glob(vec![text("/root/"), Piece::AnyString])), &["/root/*"]);
}

#[test]
fn redirections_are_applied_from_left_to_right() {
    let to = |path: &str| RedirectionTarget::Truncate(path.into());
    check(
        Line::of("echo one")
            .redirect(1, to("/workspace/f"))
            .then(Connector::Always, "echo two")
            .redirect(1, RedirectionTarget::Append("f".into()))
            .then(Connector::Always, "cat")
            .redirect(0, RedirectionTarget::Read("/workspace/f".into())),
        &["one", "two"],
    );
    check(
        Line::of("ls /nonexistent")
            .redirect(1, to("/dev/null"))
            .redirect(2, RedirectionTarget::Duplicate(Duplicate::Stdout)),
        &[],
    );
    check(
        Line::of("ls /nonexistent")
            .redirect(2, RedirectionTarget::Duplicate(Duplicate::Stdout))
            .redirect(1, to("/dev/null")),
        &["ls: cannot access…"],
    );
    check_end(
        Line::of("cat").redirect(0, RedirectionTarget::Read("/workspace/none".into())),
        Ended::Exited(1),
    );
}

#[test]
fn standard_input_is_what_was_given_and_nothing_otherwise() {
    let mut line = Line::probe("read-input");
    line.stdin = Some(b"line1\nline2\n".to_vec());
    check(line, &["line1", "line2"]);
    check(Line::probe("read-input"), &[]);
    let mut unread = Line::probe("print done");
    unread.stdin = Some(vec![b'x'; 1 << 20]);
    check(unread, &["done"]);
}
