//! Writes words so that the command language reads each as it is.

use std::borrow::Cow;

/// Words that mean something to a POSIX shell when they begin a command; quoted, they are plain names.
const RESERVED: [&str; 20] = [
    "!", "{", "}", "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if",
    "in", "select", "then", "time", "until", "while",
];

/// Returns the command line whose words are exactly these: no blank, quote, glob or operator in a word is
/// more than a character.
pub(crate) fn line_of<I>(words: I) -> String
where
    I: IntoIterator,
    I::Item: AsRef<str>,
{
    words.into_iter().map(|word| quote(word.as_ref()).into_owned()).collect::<Vec<_>>().join(" ")
}

/// Returns a word as it must be written: bare when every character of it is plain, else in single quotes,
/// which POSIX ends only at the next single quote.
pub(crate) fn quote(word: &str) -> Cow<'_, str> {
    let plain = |c: char| {
        c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | ':' | '-' | '+' | ',' | '@' | '%')
    };
    if !word.is_empty() && word.chars().all(plain) && !RESERVED.contains(&word) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use portcullis_core::{Policy as _, Principal, Submission, Verdict};
    use portcullis_policy::{Rulebook, RulebookPolicy};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_words_stay_as_they_are() {
        assert_eq!(
            line_of(["ls", "-la", "--sort", "/usr/lib", "a_b.c", "x@y:1,2+3%"]),
            "ls -la --sort /usr/lib a_b.c x@y:1,2+3%"
        );
    }

    #[test]
    fn everything_else_is_put_in_single_quotes() {
        for (word, wanted) in [
            ("", "''"),
            ("Hello, World!", "'Hello, World!'"),
            ("it's", r"'it'\''s'"),
            ("a|b&&c;d", "'a|b&&c;d'"),
            ("$HOME", "'$HOME'"),
            ("*.rs", "'*.rs'"),
            ("~", "'~'"),
            ("{a,b}", "'{a,b}'"),
            ("A=b", "'A=b'"),
            ("#x", "'#x'"),
            ("two\nlines", "'two\nlines'"),
            ("while", "'while'"),
            ("é", "'é'"),
        ] {
            assert_eq!(quote(word), wanted);
        }
    }

    fn policy() -> RulebookPolicy {
        RulebookPolicy::new(Rulebook::from_allowlist(["echo"]).unwrap(), portcullis_core::Limits::default())
    }

    /// Undoes POSIX quoting, written apart from [`quote`]: single quotes and backslashes, blanks between words.
    fn unquote(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        let mut word: Option<String> = None;
        let mut chars = line.chars();
        while let Some(c) = chars.next() {
            match c {
                ' ' => words.extend(word.take()),
                '\'' => word.get_or_insert_default().extend(chars.by_ref().take_while(|&c| c != '\'')),
                '\\' => word.get_or_insert_default().extend(chars.next()),
                c => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        words
    }

    proptest! {
        #[test]
        fn quoted_words_are_judged_as_the_same_words(words in proptest::collection::vec("[a-zé€🦀 \u{a0}\u{200b}]{0,9}|[ -~]{0,9}|\n", 1..6)) {
            let line = line_of(std::iter::once("echo").chain(words.iter().map(String::as_str)));
            let verdict = policy().judge(&Principal::local(), &Submission::of(line.as_str()));
            let Verdict::Permit(permit, _) = verdict else { panic!("{line:?}: {verdict:?}") };
            let plan = permit.into_plan();
            let commands: Vec<_> = plan.script.commands().collect();
            prop_assert_eq!(commands.len(), 1);
            let judged: Vec<_> = commands[0].arguments.iter().map(|word| word.as_literal().unwrap()).collect();
            prop_assert_eq!(judged, words);
        }

        #[test]
        fn quoted_words_are_read_as_the_same_words(words in proptest::collection::vec("[^\0]{0,12}", 1..6)) {
            prop_assert_eq!(unquote(&line_of(&words)), words);
        }
    }
}
