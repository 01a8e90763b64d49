//! A rulebook that is wrong is refused as a whole, with every problem named by its place.

use portcullis_policy::Rulebook;

#[track_caller]
fn problems(text: &str) -> Vec<String> {
    let error = Rulebook::parse(text).expect_err(text);
    error.to_string().lines().map(str::to_owned).collect()
}

#[track_caller]
fn check(text: &str, wanted: &[&str]) {
    assert_eq!(problems(text), wanted, "{text}");
}

const RULE: &str = "version = 1\n[[rule]]\nname = \"a\"\nprograms = [\"ls\", \"cat\", \"grep\"]\n";

#[test]
fn every_problem_is_listed_with_line_column_and_the_nearest_known_key() {
    check(
        "version = 2\nworkspac = \"/w\"\n[operations]\nwrite = \"sometimes\"\ndelte = \"deny\"\n[[rule]]\nprogramms = [\"ls\"]\n",
        &[
            "1:11: `version` is 2; this service reads version 1",
            "2:1: unknown key `workspac` in the rulebook; did you mean `workspace`?",
            "4:9: `write` in [operations] is `sometimes`; known are `deny`, `redirections`, `workspace`, `allow`",
            "5:1: unknown key `delte` in [operations]; did you mean `delete`?",
            "6:1: a [[rule]] needs a `name`, which denials show",
            "6:1: the rule `` needs `programs`",
            "7:1: unknown key `programms` in [[rule]]; did you mean `programs`?",
        ],
    );
}

#[test]
fn what_is_missing_is_named() {
    check("", &["1:1: `version` is missing; write `version = 1`"]);
    check("version = 1\n[[test]]\n", &["2:1: a [[test]] needs lines in `allow` or in `deny`"]);
    check(
        "version = 1\n[[test]]\ndeny = \"x\"\n",
        &["2:1: a [[test]] with `deny` names the `code` of the denial"],
    );
    check("version = 1\n[[read_only]]\n", &["2:1: a [[read_only]] needs either `name` or `path`"]);
}

#[test]
fn values_of_the_wrong_type_are_named() {
    for (line, wanted) in [
        (
            "version = \"1\"",
            "1:11: `version` in the rulebook must be a whole number of at least 1, and is of type string",
        ),
        (
            "version = 1\nworkspace = 3",
            "2:13: `workspace` in the rulebook must be a string, and is of type integer",
        ),
        (
            "version = 1\nrule = 3",
            "2:8: `rule` in the rulebook must be an array of tables, and is of type integer",
        ),
        ("version = 1\nusers = 3", "2:9: `users` in the rulebook must be a table, and is of type integer"),
        (
            "version = 1\nenvironment = [1]",
            "2:16: `environment` in the rulebook must be an array of strings, and is of type integer",
        ),
        (
            "version = 1\nusers.a.disabled = 1",
            "2:20: `disabled` in [users.a] must be `true` or `false`, and is of type integer",
        ),
        ("version = 1\nworkspace = \"w\"", "2:13: `w` is not an absolute path"),
        ("version = 1\nworkspace = \"/\"", "2:13: `workspace` must not be `/`"),
    ] {
        check(line, &[wanted]);
    }
}

#[test]
fn broken_toml_is_refused_with_its_place() {
    for text in ["version = ", "version = 1\n[rule", "version = 1\nversion = 1", "version = 1\n\u{0}"] {
        let first = problems(text).remove(0);
        let (line, rest) = first.split_once(':').unwrap();
        assert!(line.parse::<usize>().is_ok() && rest.contains(": "), "{text:?}: {first}");
    }
}

#[test]
fn programs_are_bare_names_that_the_tables_know() {
    for (program, wanted) in [
        (
            "/bin/ls",
            "4:13: `/bin/ls` is not the bare name of a program; write it as it stands on a line, such as `ls`",
        ),
        ("*", "4:13: `*` is not the bare name of a program; write it as it stands on a line, such as `ls`"),
        ("", "4:13: `` is not the bare name of a program; write it as it stands on a line, such as `ls`"),
        (
            "gerp",
            "4:13: what the options of `gerp` mean is not known here; did you mean `grep`? Otherwise give it a rule of its own with `understood = \"not\"`, and only the confinement bounds it",
        ),
    ] {
        check(&format!("version = 1\n[[rule]]\nname = \"a\"\nprograms = [\"{program}\"]\n"), &[wanted]);
    }
    assert!(
        Rulebook::parse(
            "version = 1\n[[rule]]\nname = \"a\"\nprograms = [\"mytool\"]\nunderstood = \"not\"\n"
        )
        .is_ok()
    );
}

#[test]
fn two_rules_have_two_names() {
    check(
        &format!("{RULE}[[rule]]\nname = \"a\"\nprograms = [\"pwd\"]\n"),
        &["5:1: there are two rules named `a`"],
    );
}

#[test]
fn variables_that_choose_code_cannot_be_allowed() {
    for name in [
        "LD_PRELOAD",
        "PATH",
        "BASH_ENV",
        "GIT_SSH_COMMAND",
        "PYTHONPATH",
        "NODE_OPTIONS",
        "IFS",
        "a-b",
        "",
        "1A",
    ] {
        let text = format!("version = 1\nenvironment = [\"{name}\"]\n");
        assert!(Rulebook::parse(&text).is_err(), "{name}");
    }
    assert!(Rulebook::parse("version = 1\nenvironment = [\"CI\", \"_x1\"]\n").is_ok());
}

#[test]
fn hosts_are_plain() {
    for host in [
        "example.com",
        "https://",
        "https://a b",
        "https://*.com",
        "https://a/x",
        "https://u@a",
        "gopher://a",
        "https://a:x",
        "https://A.com",
    ] {
        assert!(Rulebook::parse(&format!("{RULE}hosts = [\"{host}\"]\n")).is_err(), "{host}");
    }
    assert!(Rulebook::parse(&format!("{RULE}hosts = [\"https://a.example:8443\", \"http://b\"]\n")).is_ok());
}

#[test]
fn what_is_opened_to_a_user_is_protected_otherwise() {
    check(
        "version = 1\n[users.a]\nopen = [\"/etc/ssl\"]\n",
        &["3:9: `/etc/ssl` is not one of the protected directories, which `open` opens whole"],
    );
}

#[test]
fn a_failing_test_refuses_the_file() {
    check(
        &format!(
            "{RULE}[[rule.test]]\nallow = [\n  \"ls\",\n  \"rm x\",\n]\n[[test]]\ndeny = \"ls\"\ncode = \"program/not-allowed\"\n"
        ),
        &[
            "8:1: test failed: `rm x` should be allowed by the rule `a`, and is denied with `program/not-allowed`: `rm` is not allowed: no rule allows it",
            "11:1: test failed: `ls` should be denied with `program/not-allowed`, and is allowed by a",
        ],
    );
}

#[test]
fn a_test_names_a_code_that_exists() {
    check(
        &format!("{RULE}[[test]]\ndeny = \"rm x\"\ncode = \"program/not-alowed\"\n"),
        &["7:8: there is no denial code `program/not-alowed`; did you mean `program/not-allowed`?"],
    );
}

#[test]
fn options_of_a_rule_are_known_by_any_of_their_names() {
    let book =
        |options: &str| format!("version = 1\n[[rule]]\nname = \"a\"\nprograms = [\"grep\"]\n{options}\n");
    let denying = Rulebook::parse(&book("options.deny = [\"-r\"]\nreason = \"too slow\"")).unwrap();
    for (line, wanted) in [
        ("grep x f", "allow"),
        ("grep -r x f", "option/not-allowed"),
        ("grep -nr x f", "option/not-allowed"),
        ("grep --recursive x f", "option/not-allowed"),
        ("grep --rec x f", "option/not-allowed"),
        ("grep x f -r", "option/not-allowed"),
        ("grep -- -r f", "allow"),
        ("grep -e -r f", "allow"),
    ] {
        assert_eq!(denying.answer("local", line), wanted, "{line}");
    }
    let allowing = Rulebook::parse(&book("options.allow = [\"-n\", \"--count\"]")).unwrap();
    for (line, wanted) in [
        ("grep x f", "allow"),
        ("grep -nc x f", "allow"),
        ("grep --line-number x f", "allow"),
        ("grep -i x f", "option/not-allowed"),
    ] {
        assert_eq!(allowing.answer("local", line), wanted, "{line}");
    }
    check(&book("options.deny = [\"--no-such\"]"), &["5:17: no option `--no-such` of `grep` is known here"]);
}

#[test]
fn deny_wins_in_any_order() {
    let allow = "[[rule]]\nname = \"a\"\nprograms = [\"ls\", \"cat\"]\n";
    let deny = "[[rule]]\nname = \"b\"\neffect = \"deny\"\nprograms = [\"cat\"]\npaths = [\"/workspace/private\"]\nreason = \"it is private\"\nsuggestion = \"ask for a copy\"\n";
    for text in [format!("version = 1\n{allow}{deny}"), format!("version = 1\n{deny}{allow}")] {
        let rulebook = Rulebook::parse(&text).unwrap();
        for (line, wanted) in [
            ("cat notes.txt", "allow"),
            ("cat private/x", "rule/denied"),
            ("cat p*/x", "rule/denied"),
            ("cat < private/x", "rule/denied"),
            ("cat ./a/../private/x", "rule/denied"),
            ("ls private", "allow"),
        ] {
            assert_eq!(rulebook.answer("local", line), wanted, "{line}");
        }
    }
}

#[test]
fn rules_for_roles_and_users_add_up() {
    let rulebook = Rulebook::parse(
        "version = 1\n[[rule]]\nname = \"all\"\nprograms = [\"ls\"]\n\
         [[rule]]\nname = \"readers\"\nprograms = [\"cat\"]\nroles = [\"reader\"]\n\
         [[rule]]\nname = \"no find\"\neffect = \"deny\"\nprograms = [\"ls\"]\nusers = [\"mallory\"]\n\
         [users.ann]\nroles = [\"reader\"]\n[roles.reader]\nallow = [\"wc\"]\n[users.zoe]\nallow = [\"head\"]\ndeny = [\"ls\"]\n",
    )
    .unwrap();
    for (user, line, wanted) in [
        ("x", "ls", "allow"),
        ("x", "cat a", "user/denied"),
        ("x", "wc a", "user/denied"),
        ("ann", "cat a | wc", "allow"),
        ("mallory", "ls", "rule/denied"),
        ("zoe", "head a", "allow"),
        ("zoe", "ls", "user/denied"),
        ("zoe", "tail a", "program/not-allowed"),
    ] {
        assert_eq!(rulebook.answer(user, line), wanted, "{user}: {line}");
    }
}

#[test]
fn operations_of_a_rule_narrow_and_never_widen() {
    let rulebook = Rulebook::parse(
        "version = 1\n[operations]\nwrite = \"redirections\"\n[[rule]]\nname = \"a\"\nprograms = [\"sort\"]\noperations = { write = \"allow\" }\n\
         [[rule]]\nname = \"b\"\nprograms = [\"cat\"]\noperations = { write = \"deny\" }\n",
    )
    .unwrap();
    for (line, wanted) in [
        ("sort x > y", "allow"),
        ("sort x -o y", "operation/write"),
        ("sort x > /tmp/y", "path/outside-workspace"),
        ("cat x > y", "operation/write"),
        ("cat x > /dev/null", "allow"),
    ] {
        assert_eq!(rulebook.answer("local", line), wanted, "{line}");
    }
}

#[test]
fn paths_of_a_rule_bound_everything_it_touches() {
    let rulebook = Rulebook::parse(
        "version = 1\n[[rule]]\nname = \"a\"\nprograms = [\"cat\", \"ls\"]\npaths = [\"/workspace/open\", \"/usr/share\"]\n",
    )
    .unwrap();
    for (line, wanted) in [
        ("cat open/x /usr/share/y", "allow"),
        ("cat open/*", "allow"),
        ("cat x", "operation/read"),
        ("cat open/../x", "operation/read"),
        ("cat o*/x", "operation/read"),
        ("ls", "operation/read"),
        ("cat < x", "operation/read"),
        ("cat open/x > open/y", "allow"),
        ("cat open/x > y", "path/outside-workspace"),
        ("cat < /dev/null", "allow"),
    ] {
        assert_eq!(rulebook.answer("local", line), wanted, "{line}");
    }
}

#[test]
fn a_program_that_is_not_understood_reads_and_nothing_else() {
    let rulebook = Rulebook::from_allowlist(["ls", "mytool"]).unwrap();
    assert_eq!(rulebook.not_understood().iter().map(ToString::to_string).collect::<Vec<_>>(), ["mytool"]);
    for (line, wanted) in [
        ("mytool --whatever x | ls", "allow"),
        ("mytool > out", "allow"),
        ("mytool /etc/passwd", "path/protected"),
        ("mytool --file=/etc/passwd", "path/protected"),
        ("mytool -f/etc/passwd", "path/protected"),
        ("mytool -f../etc/passwd", "path/protected"),
        ("mytool a:/etc/passwd", "path/protected"),
        ("mytool @/etc/passwd", "path/protected"),
        ("mytool /e*/passwd", "path/protected"),
        ("mytool > /tmp/x", "path/outside-workspace"),
        ("A=b mytool", "env/assignment"),
    ] {
        assert_eq!(rulebook.answer("local", line), wanted, "{line}");
    }
}

#[test]
fn the_default_rulebook_is_the_missions_list() {
    let by_list = Rulebook::from_allowlist(["ls", "echo", "cat", "grep", "find", "pwd"]).unwrap();
    let by_file = Rulebook::reference("default").unwrap();
    assert_eq!(by_list.programs(), by_file.programs());
    for line in [
        "ls -la",
        "cat /etc/passwd",
        "echo x > y",
        "echo x > /y",
        "rm x",
        "find . -delete",
        "find . -exec ls \\;",
        "cat .git/config",
        "echo x > .git/config",
        "A=b ls",
        "echo $x",
        "find . -fprint x",
        "ls; pwd && cat x | grep y",
        "/bin/ls",
        "",
    ] {
        assert_eq!(by_list.answer("local", line), by_file.answer("local", line), "{line}");
    }
}

#[test]
fn an_allowlist_holds_bare_names() {
    for names in [&["/bin/ls"][..], &["ls;rm"], &["*"], &["a b"], &[""], &[]] {
        assert!(Rulebook::from_allowlist(names.iter()).is_err(), "{names:?}");
    }
    assert!(Rulebook::from_allowlist([" ls ", "g++", "["]).is_ok());
}

#[test]
fn a_program_on_the_allowlist_is_still_bounded() {
    let rulebook = Rulebook::from_allowlist(["ls", "sort", "git", "find"]).unwrap();
    for (line, wanted) in [
        ("sort x", "allow"),
        ("sort -o x y", "operation/write"),
        ("sort --compress-program=sh x", "operation/execute"),
        ("find . -delete", "operation/delete"),
        ("git log", "allow"),
        ("git commit -m x", "operation/write"),
    ] {
        assert_eq!(rulebook.answer("local", line), wanted, "{line}");
    }
}

#[test]
fn coverage_names_what_no_test_reached() {
    let rulebook = Rulebook::parse(&format!(
        "{RULE}[[rule.test]]\nallow = \"ls\"\n[[rule]]\nname = \"b\"\nprograms = [\"pwd\"]\n"
    ))
    .unwrap();
    let report = rulebook.run_tests();
    assert_eq!(report.run, 1);
    assert_eq!(report.coverage.untested_rules, ["b"]);
    assert_eq!(report.coverage.untested_programs, ["cat", "grep", "pwd"]);
}

#[test]
fn ten_thousand_rules_are_read() {
    let mut text = String::from("version = 1\n");
    for at in 0..10_000 {
        text += &format!("[[rule]]\nname = \"rule {at}\"\nprograms = [\"ls\"]\nusers = [\"user{at}\"]\n");
    }
    let rulebook = Rulebook::parse(&text).unwrap();
    assert_eq!(rulebook.answer("user9999", "ls"), "allow");
    assert_eq!(rulebook.answer("nobody", "ls"), "user/denied");
}
