//! The permit is the least privilege: each command gets what its words ask for and nothing else.

use std::fmt::Write as _;
use std::time::Duration;

use portcullis_core::{
    Command, Limits, Network, Permit, Policy as _, Principal, Submission, Verdict, ViewPath,
};
use portcullis_policy::{Rulebook, RulebookPolicy};

fn judge(rulebook: &Rulebook, submission: &Submission) -> Verdict {
    RulebookPolicy::new(rulebook.clone(), Limits::default()).judge(&Principal::local(), submission)
}

#[track_caller]
fn permit(rulebook: &str, submission: &Submission) -> Permit {
    let rulebook = Rulebook::reference(rulebook).expect("a reference rulebook");
    match judge(&rulebook, submission) {
        Verdict::Permit(permit, _) => *permit,
        Verdict::Deny(denial) => panic!("{:?} is denied: {denial}", submission.command),
    }
}

/// Writes down what each command of a line may do, one row each.
#[track_caller]
fn rights(rulebook: &str, line: &str) -> String {
    let permit = permit(rulebook, &Submission::of(line));
    let mut out = String::new();
    for command in permit.plan().script.steps.iter().flat_map(|step| &step.pipeline.commands) {
        let Command::Simple(command) = command else {
            out += "cd\n";
            continue;
        };
        let rights = &command.rights;
        let _ = write!(out, "{}:", command.program);
        let mut list = |name: &str, paths: &[ViewPath]| {
            if !paths.is_empty() {
                let paths: Vec<_> = paths.iter().map(ViewPath::as_str).collect();
                let _ = write!(out, " {name} {}", paths.join(","));
            }
        };
        list("read", &rights.read);
        list("write", &rights.write);
        list("delete", &rights.delete);
        if !rights.execute.is_empty() {
            let names: Vec<_> = rights.execute.iter().map(ToString::to_string).collect();
            let _ = write!(out, " execute {}", names.join(","));
        }
        if let Network::Hosts(hosts) = &rights.network {
            let _ = write!(out, " network {hosts:?}");
        }
        out += "\n";
    }
    out.trim_end().to_owned()
}

#[track_caller]
fn check(rulebook: &str, cases: &[(&str, &str)]) {
    let mut wrong = String::new();
    for (line, wanted) in cases {
        let found = rights(rulebook, line);
        if found != *wanted {
            let _ = write!(wrong, "{line}\n  wanted: {wanted}\n  found:  {found}\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn readers_read_what_they_name() {
    check(
        "default",
        &[
            ("echo hello", "echo:"),
            ("cat notes.txt", "cat: read /workspace/notes.txt"),
            ("cat a /usr/share/b ../usr/c", "cat: read /usr/c,/usr/share/b,/workspace/a"),
            ("cat src/*.rs", "cat: read /workspace/src"),
            ("ls", "ls: read /workspace"),
            ("ls src /usr", "ls: read /usr,/workspace/src"),
            ("grep x notes.txt | cat", "grep: read /workspace/notes.txt\ncat:"),
            ("echo x > out.txt", "echo:"),
            ("grep -r x .", "grep: read /workspace"),
            ("find src -name x", "find: read /workspace/src"),
            ("cat a a ./a", "cat: read /workspace/a"),
            ("ls src src/deep", "ls: read /workspace/src"),
        ],
    );
}

#[test]
fn writers_write_what_they_name_and_deleters_delete_it() {
    check(
        "dev",
        &[
            ("echo x | tee out.txt", "echo:\ntee: write /workspace/out.txt"),
            ("touch a b", "touch: write /workspace/a,/workspace/b"),
            ("cp a b", "cp: read /workspace/a write /workspace/b"),
            ("rm -rf target", "rm: read /workspace/target delete /workspace/target"),
            ("rm -f src/*.o", "rm: read /workspace/src delete /workspace/src"),
            ("sed -i p src/a", "sed: read /workspace/src/a write /workspace/src delete /workspace/src/a"),
            ("sed p src/a", "sed: read /workspace/src/a"),
            ("git status", "git: read /workspace execute git"),
            ("git commit -m x", "git: read /workspace write /workspace delete /workspace execute git"),
            ("ls | xargs cat", "ls: read /workspace\nxargs: read / execute cat"),
            ("timeout 5 cat a", "timeout: read /workspace/a execute cat"),
            ("env CI=1 nice cat a", "env: read /workspace/a execute cat,nice"),
            ("find src -exec grep x {} +", "find: read / execute grep"),
        ],
    );
}

#[test]
fn hosts_are_those_that_are_named() {
    check(
        "fetch",
        &[
            (
                "curl -s https://api.example.com/v1 -o out.json",
                "curl: write /workspace/out.json network [(\"api.example.com\", 443)]",
            ),
            ("cat a", "cat: read /workspace/a"),
        ],
    );
}

#[test]
fn what_neutralises_git_is_in_the_permit() {
    let permit = permit("readonly", &Submission::of("git diff HEAD -- src"));
    let commands: Vec<_> = permit.plan().script.commands().collect();
    let words: Vec<_> = commands[0].arguments.iter().map(portcullis_core::Word::to_unmatched).collect();
    assert!(words.ends_with(&["HEAD".into(), "--".into(), "src".into()]), "{words:?}");
    assert!(words.iter().any(|word| word == "core.fsmonitor=false"), "{words:?}");
    let at = |wanted: &str| words.iter().position(|word| word == wanted).unwrap();
    assert!(at("core.fsmonitor=false") < at("diff") && at("diff") < at("--no-ext-diff"), "{words:?}");
    let variables: Vec<_> = commands[0].assignments.iter().map(|(name, _)| name.as_str()).collect();
    assert!(variables.contains(&"GIT_PAGER") && variables.contains(&"GIT_CONFIG_NOSYSTEM"), "{variables:?}");
}

#[test]
fn a_wrapper_hands_on_what_neutralises_its_command() {
    for line in ["env -i git log", "timeout 5 git log", "env CI=1 nice timeout 5 git log"] {
        let permit = permit("dev", &Submission::of(line));
        let commands: Vec<_> = permit.plan().script.commands().collect();
        let words: Vec<_> = commands[0].arguments.iter().map(portcullis_core::Word::to_unmatched).collect();
        let git = words.iter().position(|word| word == "git").unwrap();
        let log = words.iter().position(|word| word == "log").unwrap();
        assert!(words[git..log].iter().any(|word| word == "core.fsmonitor=false"), "{line}: {words:?}");
        let set = words[..git].iter().any(|word| word == "GIT_PAGER=cat")
            || !line.starts_with("env")
                && commands[0].assignments.contains(&("GIT_PAGER".into(), "cat".into()));
        assert!(set, "{line}: {words:?} {:?}", commands[0].assignments);
    }
}

#[test]
fn a_script_of_a_shell_is_carried_out_as_commands_of_the_line() {
    let rulebook = Rulebook::parse(
        "version = 1\n[[rule]]\nname = \"a\"\nprograms = [\"sh\", \"bash\", \"ls\", \"cat\", \"cd\", \"echo\"]\n",
    )
    .unwrap();
    let programs = |line: &str| match judge(&rulebook, &Submission::of(line)) {
        Verdict::Permit(permit, _) => {
            let steps = permit.plan().script.steps.iter();
            let shown = steps.map(|step| {
                let commands = step.pipeline.commands.iter().map(|command| match command {
                    Command::Simple(simple) => simple.program.to_string(),
                    Command::ChangeDirectory(_) => "cd".into(),
                });
                format!("{:?} {}", step.connector, commands.collect::<Vec<_>>().join("|"))
            });
            shown.collect::<Vec<_>>().join(", ")
        }
        Verdict::Deny(denial) => denial.code.to_string(),
    };
    for (line, wanted) in [
        ("sh -c 'ls'", "Always ls"),
        ("bash -lc 'ls -la | cat'", "Always ls|cat"),
        ("sh -c 'ls && cat a; echo b'", "Always ls, IfSucceeded cat, Always echo"),
        ("ls; sh -c 'cat a || echo b'; ls", "Always ls, Always cat, IfFailed echo, Always ls"),
        ("ls | sh -c 'cat | cat'", "Always ls|cat|cat"),
        ("ls && sh -c 'cat a'", "Always ls, IfSucceeded cat"),
        ("sh -c 'cd src && ls'", "Always cd, IfSucceeded ls"),
        ("sh -c \"bash -c 'ls; cat a'\"", "Always ls, Always cat"),
        ("ls && sh -c 'cat a; echo b'", "syntax/nested-script"),
        ("ls | sh -c 'cat; echo b'", "syntax/nested-script"),
        ("sh -c 'cd src'; ls", "syntax/nested-script"),
        ("sh -c 'ls' > out", "syntax/nested-script"),
        ("sh -c 'rm x'", "program/not-allowed"),
        ("sh -c 'ls; rm x'", "program/not-allowed"),
        ("sh -c 'cat /etc/passwd'", "path/protected"),
        ("sh -c 'echo $HOME'", "syntax/parameter"),
        ("sh -c 'ls' name", "Always ls"),
        ("sh -c 'echo $0' name", "syntax/parameter"),
        ("sh -c \"$x\"", "syntax/parameter"),
        ("sh script.sh", "operation/execute"),
        ("sh", "operation/execute"),
        ("echo ls | sh", "operation/execute"),
    ] {
        assert_eq!(programs(line), wanted, "{line}");
    }
}

#[test]
fn a_directory_change_moves_what_relative_names_mean() {
    check(
        "dev",
        &[
            ("cd src && cat a", "cd\ncat: read /workspace/src/a"),
            ("cd src; cat a", "cd\ncat: read /workspace/src/a"),
            ("cd src || cat a; cat b", "cd\ncat: read /workspace/a\ncat: read /workspace/b,/workspace/src/b"),
            ("cd src && cd .. && cat a", "cd\ncd\ncat: read /workspace/a"),
            ("cd src || cat a", "cd\ncat: read /workspace/a"),
            ("cd a && cd b && cat /workspace/x", "cd\ncd\ncat: read /workspace/x"),
        ],
    );
}

#[test]
fn the_judged_words_are_the_words_of_the_permit() {
    let permit = permit("default", &Submission::of("echo 'a b' \"c\"\\ d *.rs > 'my out'"));
    let commands: Vec<_> = permit.plan().script.commands().collect();
    let words: Vec<_> = commands[0].arguments.iter().map(portcullis_core::Word::to_unmatched).collect();
    assert_eq!(words, ["a b", "c d", "*.rs"]);
    assert!(commands[0].arguments[2].is_glob());
    assert_eq!(commands[0].redirections.len(), 1);
}

#[test]
fn a_permit_names_every_protected_directory() {
    let permit = permit("default", &Submission::of("ls"));
    let protected: Vec<_> = permit.plan().protected.iter().map(ViewPath::as_str).collect();
    assert_eq!(protected, portcullis_policy::DEFAULT_PROTECTED);
}

#[test]
fn limits_are_the_least_of_caps_rule_and_submission() {
    let rulebook = Rulebook::parse(
        "version = 1\n[[rule]]\nname = \"a\"\nprograms = [\"ls\"]\nlimits = { time_seconds = 9, processes = 3 }\n\
         [[rule]]\nname = \"b\"\nprograms = [\"cat\"]\nlimits = { time_seconds = 5, memory_bytes = 99999999999 }\n",
    )
    .unwrap();
    let limits = |line: &str, timeout: Option<u64>| {
        let submission = Submission { timeout: timeout.map(Duration::from_secs), ..Submission::of(line) };
        match judge(&rulebook, &submission) {
            Verdict::Permit(permit, _) => permit.into_plan().limits,
            Verdict::Deny(denial) => panic!("{denial}"),
        }
    };
    assert_eq!(limits("ls", None).wall_time, Duration::from_secs(9));
    assert_eq!(limits("ls | cat", None).wall_time, Duration::from_secs(5));
    assert_eq!(limits("cat x", None).memory_bytes, Limits::default().memory_bytes);
    assert_eq!(limits("ls", Some(2)).wall_time, Duration::from_secs(2));
    assert_eq!(limits("ls", Some(2_000)).wall_time, Duration::from_secs(9));
    assert_eq!(limits("cat x | ls", None).processes, 3);
}

#[test]
fn a_timeout_of_zero_is_denied() {
    let submission = Submission { timeout: Some(Duration::ZERO), ..Submission::of("ls") };
    let Verdict::Deny(denial) = judge(&Rulebook::reference("default").unwrap(), &submission) else {
        panic!()
    };
    assert_eq!(denial.code.as_str(), "limit/timeout");
}

#[test]
fn a_working_directory_narrows_and_never_widens() {
    let from = |directory: &str| {
        let submission =
            Submission { working_directory: Some(directory.into()), ..Submission::of("cat notes.txt") };
        match judge(&Rulebook::reference("default").unwrap(), &submission) {
            Verdict::Permit(permit, _) => permit.plan().working_directory.to_string(),
            Verdict::Deny(denial) => denial.code.to_string(),
        }
    };
    for (directory, wanted) in [
        ("", "/workspace"),
        (".", "/workspace"),
        ("src", "/workspace/src"),
        ("/workspace/src/", "/workspace/src"),
        ("/", "path/leaves-workspace"),
        ("..", "path/leaves-workspace"),
        ("src/../..", "path/leaves-workspace"),
        ("/workspace-of-others", "path/leaves-workspace"),
        ("/etc", "path/leaves-workspace"),
        ("a\0b", "path/leaves-workspace"),
    ] {
        assert_eq!(from(directory), wanted, "{directory:?}");
    }
    // Relative names count from it.
    let submission =
        Submission { working_directory: Some("a/b".into()), ..Submission::of("cat ../../../etc/passwd") };
    let Verdict::Deny(denial) = judge(&Rulebook::reference("default").unwrap(), &submission) else {
        panic!()
    };
    assert_eq!(denial.code.as_str(), "path/protected");
}

#[test]
fn variables_of_a_submission_are_those_the_rulebook_allows() {
    let with = |name: &str, value: &str| {
        let env = [(name.to_owned(), value.to_owned())].into();
        match judge(&Rulebook::reference("dev").unwrap(), &Submission { env, ..Submission::of("ls") }) {
            Verdict::Permit(permit, _) => format!("{:?}", permit.plan().environment),
            Verdict::Deny(denial) => denial.code.to_string(),
        }
    };
    assert_eq!(with("CI", "1"), r#"[("CI", "1")]"#);
    assert_eq!(with("TZ", "Europe/Berlin"), r#"[("TZ", "Europe/Berlin")]"#);
    assert_eq!(with("TZ", ":/etc/shadow"), "path/protected");
    assert_eq!(with("TZ", "../../../etc/shadow"), "env/value");
    assert_eq!(with("LANG", "/workspace/locale"), "env/value");
    assert_eq!(with("CI", "a\0b"), "env/value");
    assert_eq!(with("LD_PRELOAD", "x"), "env/variable");
    assert_eq!(with("ci", "1"), "env/variable");
}

#[test]
fn standard_input_is_handed_on() {
    let submission = Submission { stdin: Some("text".into()), ..Submission::of("cat") };
    assert_eq!(permit("default", &submission).plan().stdin.as_deref(), Some(b"text".as_slice()));
}

#[test]
fn programs_of_a_line_are_named_whether_they_are_allowed_or_not() {
    let policy = RulebookPolicy::new(Rulebook::reference("default").unwrap(), Limits::default());
    let programs = |line: &str| {
        let named = policy.programs(&Submission::of(line)).into_iter().map(String::from);
        named.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(programs("ls -l | rm -rf / && X=1 ls; /bin/sh -c x"), "ls rm");
    assert_eq!(programs("cat $(rm -rf /)"), "", "what is not in the language names nothing");
}

#[test]
fn denial_of_a_deletion_says_where_it_would_happen() {
    let rulebook = Rulebook::reference("default").unwrap();
    for (line, wanted) in [
        ("find . -delete", "found in `.` is removed"),
        ("find -delete", "found in `.` is removed"),
        ("find a -delete", "found in `a` is removed"),
        ("find a b -delete", "found in 2 places is removed"),
    ] {
        let Verdict::Deny(denial) = judge(&rulebook, &Submission::of(line)) else { panic!("{line}") };
        assert!(denial.message.ends_with(wanted), "{line}: {denial}");
    }
}
