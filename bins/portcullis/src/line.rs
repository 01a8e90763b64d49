//! The two ways to write a command line in argv: whole, or as words.

use crate::failure::Failure;
use crate::quote;

/// Returns the command line that `'LINE'` or `-- WORDS…` mean.
///
/// # Errors
/// When there is neither, or both, or a line in pieces.
pub(crate) fn of(line: Vec<String>, words: Vec<String>) -> Result<String, Failure> {
    let usage = |message: &str| {
        Failure::usage(message)
            .hint("write the line as one argument, as in `'ls -la | grep txt'`, or its words after `--`, as in `-- ls -la`")
    };
    match (line.as_slice(), words.as_slice()) {
        ([], []) => Err(usage("there is no command line")),
        ([], words) => Ok(quote::line_of(words)),
        ([line], []) => Ok(line.clone()),
        (_, []) => Err(usage("the command line is in pieces")),
        _ => Err(usage("there is a command line before `--` and another behind it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &[&str], words: &[&str]) -> Result<String, String> {
        let own = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        of(own(line), own(words)).map_err(|failure| failure.message().to_owned())
    }

    #[test]
    fn one_argument_is_the_line_as_written() {
        assert_eq!(check(&["ls -la | grep 'x y'"], &[]).unwrap(), "ls -la | grep 'x y'");
    }

    #[test]
    fn words_arrive_as_they_are() {
        assert_eq!(check(&[], &["grep", "a|b", "it's"]).unwrap(), r"grep 'a|b' 'it'\''s'");
        assert_eq!(check(&[], &["ls; pwd"]).unwrap(), "'ls; pwd'");
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        assert!(check(&[], &[]).unwrap_err().contains("no command line"));
        assert!(check(&["echo", "hi"], &[]).unwrap_err().contains("in pieces"));
        assert!(check(&["echo"], &["hi"]).unwrap_err().contains("another"));
    }
}
