//! The language as a table: what is accepted and how it splits, what is refused and by what name.

use portcullis_core::{Connector, Duplicate, RedirectionTarget};

use super::{LineCommand, parse};

/// Writes a line's structure out: words in brackets, patterns marked, operators as they are.
fn shape(text: &str) -> String {
    let line = match parse(text) {
        Ok(line) => line,
        Err(denial) => return format!("{} {}", denial.code, &text[denial.span.start..denial.span.end]),
    };
    let mut out = String::new();
    for (at, step) in line.steps.iter().enumerate() {
        out += match (at, step.connector) {
            (0, _) => "",
            (_, Connector::Always) => " ; ",
            (_, Connector::IfSucceeded) => " && ",
            (_, Connector::IfFailed) => " || ",
        };
        out += &step.commands.iter().map(command).collect::<Vec<_>>().join(" | ");
    }
    out
}

fn command(command: &LineCommand) -> String {
    let assignments = command.assignments.iter().map(|one| format!("{}={}", one.name, one.value));
    let words = command.words.iter().map(|word| {
        if word.is_glob() {
            format!("glob[{}]", word.to_unmatched())
        } else {
            format!("[{}]", word.to_unmatched())
        }
    });
    let redirections = command.redirections.iter().map(|one| {
        let descriptor = one.descriptor;
        match &one.target {
            RedirectionTarget::Read(path) => format!("{descriptor}<{path}"),
            RedirectionTarget::Truncate(path) => format!("{descriptor}>{path}"),
            RedirectionTarget::Append(path) => format!("{descriptor}>>{path}"),
            RedirectionTarget::Duplicate(Duplicate::Stdout) => format!("{descriptor}>&1"),
            RedirectionTarget::Duplicate(Duplicate::Stderr) => format!("{descriptor}>&2"),
        }
    });
    assignments.chain(words).chain(redirections).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (line, wanted) in cases {
        assert_eq!(shape(line), *wanted, "{line:?}");
    }
}

#[test]
fn words_are_split_at_blanks_and_operators() {
    check(&[
        ("ls", "[ls]"),
        ("  ls \t -la  ", "[ls] [-la]"),
        ("ls|wc", "[ls] | [wc]"),
        ("a&&b||c;d", "[a] && [b] || [c] ; [d]"),
        ("a\nb\n\n c", "[a] ; [b] ; [c]"),
        ("a;", "[a]"),
        ("a |\n\n b", "[a] | [b]"),
        ("a && # why\n b", "[a] && [b]"),
        ("a ||\nb", "[a] || [b]"),
        ("a ; # done", "[a]"),
        ("# first\na", "[a]"),
        ("echo a#b '#' \\#", "[echo] [a#b] [#] [#]"),
        ("echo x #|rm", "[echo] [x]"),
        ("é ü", "[é] [ü]"),
    ]);
}

#[test]
fn quotes_are_removed_as_posix_says() {
    check(&[
        ("echo 'a b'", "[echo] [a b]"),
        ("echo 'line1\nline2'", "[echo] [line1\nline2]"),
        ("echo 'a\\b'", "[echo] [a\\b]"),
        ("echo '' \"\" x''y", "[echo] [] [] [xy]"),
        ("echo a'b'\"c\"\\d", "[echo] [abcd]"),
        ("r\"\"m x", "[rm] [x]"),
        ("\\r\\m x", "[rm] [x]"),
        ("'r'm x", "[rm] [x]"),
        ("echo \"a\\$b \\\"c\\\" \\\\ \\`\"", "[echo] [a$b \"c\" \\ `]"),
        ("echo \"a\\qb\"", "[echo] [a\\qb]"),
        ("echo \"it's\"", "[echo] [it's]"),
        ("echo 'say \"x\"'", "[echo] [say \"x\"]"),
        ("echo 'it'\\''s'", "[echo] [it's]"),
        ("echo a\\ b", "[echo] [a b]"),
        ("echo \\* \\? \\[a\\] '*' \"?\"", "[echo] [*] [?] [[a]] [*] [?]"),
        ("echo \\\\", "[echo] [\\]"),
        ("echo \"$\" $ a$ '$x' \\$x \"\\$x\" $.", "[echo] [$] [$] [a$] [$x] [$x] [$x] [$.]"),
        ("echo \"!x\" hi! ! != '!!'", "[echo] [!x] [hi!] [!] [!=] [!!]"),
        ("echo '|' \\; \"&&\" '>'", "[echo] [|] [;] [&&] [>]"),
    ]);
}

#[test]
fn a_backslash_before_a_newline_joins_the_lines() {
    check(&[
        ("ec\\\nho a", "[echo] [a]"),
        ("echo \\\n a", "[echo] [a]"),
        ("echo \"a\\\nb\"", "[echo] [ab]"),
        ("echo 'a\\\nb'", "[echo] [a\\\nb]"),
        ("echo a\\\\\nls", "[echo] [a\\] ; [ls]"),
        ("a &\\\n& b", "[a] && [b]"),
        ("echo # a\\\nls", "[echo] ; [ls]"),
        ("i\\\nf", "syntax/control-word i\\\nf"),
        ("echo $\\\n(ls)", "syntax/substitution $\\\n(ls)"),
    ]);
}

#[test]
fn redirections_have_a_descriptor_and_a_literal_path() {
    check(&[
        ("cat <in", "[cat] 0<in"),
        ("cat 0< in", "[cat] 0<in"),
        ("a >out 2>&1", "[a] 1>out 2>&1"),
        ("a 2>/dev/null", "[a] 2>/dev/null"),
        ("a >>log 2>>err", "[a] 1>>log 2>>err"),
        ("a >|out", "[a] 1>out"),
        ("a 1>&2", "[a] 1>&2"),
        ("a >& 2", "[a] 1>&2"),
        ("a &>out", "[a] 1>out 2>&1"),
        ("a &>> out", "[a] 1>>out 2>&1"),
        (">out a b", "[a] [b] 1>out"),
        ("a b>c", "[a] [b] 1>c"),
        ("a b2>c", "[a] [b2] 1>c"),
        ("a 2 >c", "[a] [2] 1>c"),
        ("a \\2>c", "[a] [2] 1>c"),
        ("a '2'>c", "[a] [2] 1>c"),
        ("a > 'my file'", "[a] 1>my file"),
        ("a>'*'", "[a] 1>*"),
        ("a 10>x", "syntax/redirection 10>"),
        ("a 3>x", "syntax/redirection 3>"),
        ("a {fd}>x", "syntax/redirection {fd}>"),
        ("a >", "syntax/redirection >"),
        ("a > | b", "syntax/redirection >"),
        ("a >*", "syntax/redirection >*"),
        ("a >''", "syntax/redirection >''"),
        ("a >&file", "syntax/redirection >&file"),
        ("a >&2>x", "syntax/redirection 2"),
        ("a >2>x", "syntax/redirection 2"),
        ("a >&2 >x", "[a] 1>&2 1>x"),
        ("a 2>&-", "syntax/redirection 2>&-"),
        ("a 2>&1x", "syntax/redirection 2>&1x"),
        ("a <&3", "syntax/redirection <&"),
        ("a <>x", "syntax/redirection <>"),
        ("a 1<x", "syntax/redirection 1<x"),
        ("a 0>x", "syntax/redirection 0>x"),
        ("a >~/x", "syntax/tilde ~/x"),
    ]);
}

#[test]
fn patterns_outside_quotes_are_kept() {
    check(&[
        ("ls *.rs", "[ls] glob[*.rs]"),
        ("ls a?c [ab] [!a-z]x [^x]", "[ls] glob[a?c] glob[[ab]] glob[[!a-z]x] glob[[^x]]"),
        ("ls [[:alpha:]]*", "[ls] glob[[[:alpha:]]*]"),
        ("ls []a]", "[ls] glob[[]a]]"),
        ("ls [\"]\"]", "[ls] glob[[]]]"),
        ("[ -f x ]", "[[] [-f] [x] []]"),
        ("echo [ [a a] []", "[echo] [[] [[a] [a]] [[]]"),
        ("echo [a*", "[echo] glob[[a*]"),
        ("ls '*'.rs", "[ls] [*.rs]"),
        ("ls **", "[ls] glob[**]"),
        ("ls [a/b]", "syntax/glob [a/b]"),
        ("ls [[.a.]]", "syntax/glob [[.a.]]"),
        ("ls [[=a=]]", "syntax/glob [[=a=]]"),
        ("ls [[:foo:]]", "syntax/glob [[:foo:]]"),
        ("ls [[:alpha:]", "syntax/glob [[:alpha:]"),
        ("l* x", "syntax/glob l*"),
    ]);
}

#[test]
fn assignments_stand_before_the_command_alone() {
    check(&[
        ("A=b c", "A=b [c]"),
        ("A= B='x y' c d=e", "A=x? [c]".replace("A=x? [c]", "A= B=x y [c] [d=e]").as_str()),
        ("A=* c", "A=* [c]"),
        ("'A'=b c", "[A=b] [c]"),
        ("1A=b", "[1A=b]"),
        ("A=b", "env/assignment A=b"),
        ("A=b; c", "env/assignment A=b"),
        ("A=~/x c", "syntax/tilde A=~/x"),
        ("A=b:~/x c", "syntax/tilde A=b:~/x"),
        ("A+=b c", "syntax/array A+=b"),
        ("A[0]=b c", "syntax/array A[0]=b"),
        ("A=(b c)", "syntax/array A=("),
    ]);
}

#[test]
fn every_expansion_is_refused_by_name() {
    check(&[
        ("echo $(id)", "syntax/substitution $(id)"),
        ("echo \"$(id)\"", "syntax/substitution $(id)"),
        ("echo a$(echo (b))c", "syntax/substitution $(echo (b))"),
        ("echo `id`", "syntax/substitution `id`"),
        ("echo \"`id`\"", "syntax/substitution `id`"),
        ("echo $((1+1))", "syntax/arithmetic $((1+1))"),
        ("echo $[1+1]", "syntax/arithmetic $["),
        ("echo $HOME/x", "syntax/parameter $HOME"),
        ("echo \"$HOME\"", "syntax/parameter $HOME"),
        ("echo ${HOME}", "syntax/parameter ${HOME}"),
        ("echo $1 $@", "syntax/parameter $1"),
        ("echo $?", "syntax/parameter $?"),
        ("$CMD x", "syntax/parameter $CMD"),
        ("echo $'a'", "syntax/ansi-c-quote $'"),
        ("echo $\"a\"", "syntax/locale-quote $\""),
        ("ls ~", "syntax/tilde ~"),
        ("ls ~root/x", "syntax/tilde ~root/x"),
        ("make X=~/y", "syntax/tilde X=~/y"),
        ("echo a~ a:~ '~' \\~ HEAD~1", "[echo] [a~] [a:~] [~] [~] [HEAD~1]"),
        ("echo {a,b}", "syntax/brace {a,b}"),
        ("echo x{1..3}", "syntax/brace x{1..3}"),
        ("echo {{a,b}", "syntax/brace {{a,b}"),
        (
            "echo {} {a} HEAD@{1}..HEAD@{2} {a, '{a,b}' \\{a,b}",
            "[echo] [{}] [{a}] [HEAD@{1}..HEAD@{2}] [{a,] [{a,b}] [{a,b}]",
        ),
        ("diff <(a) b", "syntax/process-substitution <("),
        ("tee >(a)", "syntax/process-substitution >("),
        ("echo !!", "syntax/history !!"),
        ("echo !$", "syntax/history !$"),
        ("echo !-2", "syntax/history !-2"),
        ("!ls", "syntax/history !ls"),
        ("ls @(a|b)", "syntax/extended-glob ("),
        ("ls !(a)", "syntax/extended-glob ("),
    ]);
}

#[test]
fn every_structure_is_refused_by_name() {
    check(&[
        ("a & b", "syntax/background &"),
        ("a &", "syntax/background &"),
        ("curl http://x?a=1&b=2", "syntax/background &"),
        ("a |& b", "syntax/pipe-both |&"),
        ("(a)", "syntax/subshell ("),
        ("((1))", "syntax/arithmetic (("),
        ("echo (a)", "syntax/subshell ("),
        ("a)", "syntax/subshell )"),
        ("{ a; }", "syntax/group {"),
        ("}", "syntax/group }"),
        ("f() { a; }", "syntax/function ("),
        ("function f { a; }", "syntax/function function"),
        ("if a; then b; fi", "syntax/control-word if"),
        ("a; then", "syntax/control-word then"),
        ("a && while b", "syntax/control-word while"),
        ("for x in a", "syntax/control-word for"),
        ("! a", "syntax/control-word !"),
        ("a | ! b", "syntax/control-word !"),
        ("[[ -f x ]]", "syntax/control-word [["),
        ("time a", "syntax/control-word time"),
        ("'if' x", "[if] [x]"),
        ("echo if then {", "[echo] [if] [then] [{]"),
        ("a <<EOF", "syntax/here-document <<"),
        ("a <<-EOF", "syntax/here-document <<-"),
        ("a <<<x", "syntax/here-document <<<"),
        ("a;;b", "syntax/case-terminator ;;"),
        ("a; ; b", "syntax/missing-command ;"),
        ("; a", "syntax/missing-command ;"),
        ("| a", "syntax/missing-command |"),
        ("a | | b", "syntax/missing-command |"),
        ("a || || b", "syntax/missing-command ||"),
        ("a |", "syntax/unfinished-line |"),
        ("a &&\n", "syntax/unfinished-line &&"),
        ("a && # b", "syntax/unfinished-line &&"),
        ("> x", "syntax/missing-command > x"),
        ("", "syntax/empty "),
        (" # only words", "syntax/empty  # only words"),
        ("echo 'a", "syntax/unfinished-quote 'a"),
        ("echo \"a", "syntax/unfinished-quote \"a"),
        ("echo \"a\\\"", "syntax/unfinished-quote \"a\\\""),
        ("echo a\\", "syntax/unfinished-escape \\"),
    ]);
}

#[test]
fn characters_that_deceive_are_refused() {
    check(&[
        ("echo a\0b", "syntax/control-character \0"),
        ("echo a\r\nls", "syntax/control-character \r"),
        ("echo '\u{1b}[2J'", "syntax/control-character \u{1b}"),
        ("echo 'a\u{202e}b'", "syntax/control-character \u{202e}"),
        ("echo\u{a0}a", "syntax/invisible-character \u{a0}"),
        ("rm\u{200b} x", "syntax/invisible-character \u{200b}"),
        ("echo \\\u{3000}", "syntax/invisible-character \u{3000}"),
        ("echo 'a\u{a0}b'", "[echo] [a\u{a0}b]"),
        ("echo 'a\tb'", "[echo] [a\tb]"),
    ]);
}

#[test]
fn long_lines_and_many_commands_are_read_up_to_the_bound() {
    let commands = |count: usize| vec!["echo a"; count].join("; ");
    assert_eq!(parse(&commands(256)).unwrap().steps.len(), 256);
    assert_eq!(parse(&commands(257)).unwrap_err().code.as_str(), "syntax/too-many-commands");
    assert!(parse(&format!("echo {}", "x".repeat(64 * 1024 - 5))).is_ok());
    assert_eq!(parse(&"x".repeat(64 * 1024 + 1)).unwrap_err().code.as_str(), "syntax/too-long");
}

#[test]
fn every_refusal_says_what_to_do_instead() {
    for line in
        ["a & b", "echo $(x)", "ls ~", "echo {a,b}", "if a", "a <<E", "(a)", "a 3>x", "A=b", "a |", "x\r"]
    {
        assert!(parse(line).unwrap_err().suggestion.is_some(), "{line}");
    }
}

#[test]
fn the_longest_lines_of_any_shape_are_read_in_no_time() {
    let begun = std::time::Instant::now();
    for part in
        ["{", "[", "[!", "[[:", "*", "{,", "'", "\\\n", "$ ", "a=", "~", "[]", "a;", "2>", "\"", "[a-"]
    {
        let _ = parse(&format!("p {}", part.repeat(64 * 1024 / part.len() - 4)));
    }
    // Quadratic work would take minutes.
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
}
