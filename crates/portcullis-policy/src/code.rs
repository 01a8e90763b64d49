//! The denial codes: two levels, stable, for programs that read verdicts.

use portcullis_core::{Denial, DenialCode, DenialKind, Span};

macro_rules! codes {
    ($($name:ident $text:literal $meaning:literal)+) => {
        $(#[doc = $meaning] pub const $name: DenialCode = DenialCode::new($text);)+

        /// Every code that a denial can have, with its meaning.
        pub const TABLE: &[(DenialCode, &str)] = &[$(($name, $meaning)),+];
    };
}

codes! {
    SYNTAX_EMPTY "syntax/empty" "the line holds no command"
    SYNTAX_TOO_LONG "syntax/too-long" "the line has more bytes than are read"
    SYNTAX_TOO_MANY "syntax/too-many-commands" "the line has more commands than are judged"
    SYNTAX_CHARACTER "syntax/control-character" "a NUL, carriage return, control or text-direction character"
    SYNTAX_INVISIBLE "syntax/invisible-character" "an invisible or no-break character outside quotes"
    SYNTAX_QUOTE "syntax/unfinished-quote" "a quote that is not closed"
    SYNTAX_ESCAPE "syntax/unfinished-escape" "a backslash at the end of the line"
    SYNTAX_UNFINISHED "syntax/unfinished-line" "an operator at the end with no command behind it"
    SYNTAX_MISSING_COMMAND "syntax/missing-command" "an operator with no command before it, or redirections alone"
    SYNTAX_SUBSTITUTION "syntax/substitution" "command substitution: `$(…)` or backquotes"
    SYNTAX_PARAMETER "syntax/parameter" "expansion of a variable: `$NAME`, `${…}`"
    SYNTAX_ARITHMETIC "syntax/arithmetic" "arithmetic: `$((…))`, `$[…]`, `((…))`"
    SYNTAX_PROCESS_SUBSTITUTION "syntax/process-substitution" "`<(…)` or `>(…)`"
    SYNTAX_TILDE "syntax/tilde" "a tilde that a shell would expand"
    SYNTAX_BRACE "syntax/brace" "braces that a shell would expand"
    SYNTAX_ANSI_C "syntax/ansi-c-quote" "`$'…'`"
    SYNTAX_LOCALE "syntax/locale-quote" "`$\"…\"`"
    SYNTAX_HERE_DOCUMENT "syntax/here-document" "`<<`, `<<-` or `<<<`"
    SYNTAX_BACKGROUND "syntax/background" "a single `&`"
    SYNTAX_PIPE_BOTH "syntax/pipe-both" "`|&`"
    SYNTAX_SUBSHELL "syntax/subshell" "parentheses outside quotes"
    SYNTAX_GROUP "syntax/group" "`{ …; }`"
    SYNTAX_FUNCTION "syntax/function" "the definition of a function"
    SYNTAX_CONTROL_WORD "syntax/control-word" "`if`, `for`, `while`, `!`, `[[`, `time` and their like"
    SYNTAX_CASE "syntax/case-terminator" "`;;`, `;&`"
    SYNTAX_HISTORY "syntax/history" "`!!`, `!$`, `!name`"
    SYNTAX_EXTENDED_GLOB "syntax/extended-glob" "`@(…)`, `?(…)`, `*(…)`, `+(…)`, `!(…)`"
    SYNTAX_ARRAY "syntax/array" "`NAME=(…)`, `NAME[…]=…`, `NAME+=…`"
    SYNTAX_GLOB "syntax/glob" "a pattern that shells read differently"
    SYNTAX_REDIRECTION "syntax/redirection" "a redirection outside the language"
    SYNTAX_CHANGE_DIRECTORY "syntax/change-directory" "a `cd` that is not alone with one directory"
    SYNTAX_NESTED "syntax/nested-script" "a script in a script that cannot be carried out without a shell"
    ENV_ASSIGNMENT "env/assignment" "an assignment of a variable that no rule allows"
    ENV_VARIABLE "env/variable" "a variable of the submission that no rule allows"
    ENV_VALUE "env/value" "a value that this variable may not have"
    PROGRAM_NOT_ALLOWED "program/not-allowed" "no rule allows the program to anybody"
    PROGRAM_PATH "program/path" "a program given by a path instead of its name"
    PROGRAM_NOT_UNDERSTOOD "program/not-understood" "what the program's options mean is not known here"
    SUBCOMMAND_NOT_ALLOWED "subcommand/not-allowed" "no rule allows this sub-command"
    OPTION_NOT_ALLOWED "option/not-allowed" "the rule does not allow this option"
    OPTION_UNKNOWN "option/unknown" "the program's table has no such option"
    OPTION_USAGE "option/usage" "the words could mean more than one thing, or the program would refuse them"
    SCRIPT_NOT_UNDERSTOOD "script/not-understood" "a script for `sed`, `awk` or their like that cannot be shown harmless"
    OPERATION_READ "operation/read" "reading outside the paths of the rule"
    OPERATION_DELETE "operation/delete" "something would be removed"
    OPERATION_WRITE "operation/write" "something would be written"
    OPERATION_EXECUTE "operation/execute" "another program or code would be run"
    OPERATION_NETWORK "operation/network" "a host would be reached"
    OPERATION_PRIVILEGE "operation/privilege" "privilege would be changed"
    PATH_PROTECTED "path/protected" "a protected path would be touched"
    PATH_READ_ONLY "path/read-only" "a read-only part would be changed"
    PATH_OUTSIDE_WORKSPACE "path/outside-workspace" "a path outside the workspace would be written"
    PATH_LEAVES_WORKSPACE "path/leaves-workspace" "the line would leave the workspace"
    PATH_TOO_MANY_DIRECTORIES "path/too-many-directories" "`cd` could lead to too many places"
    LIMIT_TIMEOUT "limit/timeout" "a time limit of zero"
    USER_UNKNOWN "user/unknown" "the user is not listed"
    USER_DISABLED "user/disabled" "the user is disabled"
    USER_DENIED "user/denied" "this user, or its role, may not use the program"
    RULE_DENIED "rule/denied" "a rule denies it"
}

/// Whether a code says that the line is not in the language, or that it is understood and refused.
#[must_use]
pub fn kind_of(code: &DenialCode) -> DenialKind {
    if code.as_str().starts_with("syntax/") { DenialKind::Malformed } else { DenialKind::Forbidden }
}

/// Makes a denial without rule or suggestion.
pub(crate) fn denial(
    code: DenialCode,
    span: Span,
    subject: impl Into<String>,
    message: impl Into<String>,
) -> Denial {
    Denial {
        kind: kind_of(&code),
        code,
        span,
        subject: subject.into(),
        rule: None,
        message: message.into(),
        suggestion: None,
        effects: Vec::new(),
        further: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_have_two_levels() {
        let unique: BTreeSet<_> = TABLE.iter().map(|(code, _)| code).collect();
        assert_eq!(unique.len(), TABLE.len());
        for (code, _) in TABLE {
            assert_eq!(code.as_str().split('/').count(), 2, "{code}");
        }
    }
}
