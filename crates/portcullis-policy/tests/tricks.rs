//! Ways around an allowlist that have worked elsewhere, each by its name. None works here.

use portcullis_policy::Rulebook;

/// Every line is denied under every one of these rulebooks, with a code of one of these families.
#[track_caller]
fn denied(rulebooks: &[&str], codes: &[&str], lines: &[&str]) {
    let mut wrong = String::new();
    for name in rulebooks {
        let rulebook = Rulebook::reference(name).unwrap_or_else(|| panic!("{name} is not in order"));
        for line in lines {
            let answer = rulebook.answer("alice", line);
            if !codes.iter().any(|code| answer.starts_with(code)) {
                wrong += &format!("{name}: {line:?} is answered with {answer}\n");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

const ALL: [&str; 5] = ["default", "readonly", "dev", "fetch", "team"];

#[test]
fn a_second_command_behind_an_operator() {
    denied(
        &ALL,
        &["program/", "operation/", "path/", "user/", "syntax/background", "syntax/pipe-both"],
        &[
            "echo x;sudo rm -rf /",
            "echo x; sudo reboot",
            "echo x&&sudo reboot",
            "ls||sudo reboot",
            "ls|sudo reboot",
            "ls&sudo reboot",
            "ls|&sudo reboot",
            "ls\nsudo reboot",
            "ls # comment\nsudo reboot",
            "ls \\\n; sudo reboot",
            "ls ;sudo reboot",
            "echo 'a' 'b' ; 'sudo' reboot",
            "echo test && rm -rf /",
            "rm -rf /",
            "sudo rm -rf /",
        ],
    );
}

#[test]
fn a_name_written_in_pieces() {
    denied(
        &ALL,
        &["program/", "syntax/", "user/"],
        &[
            "su\"\"do reboot",
            "su''do reboot",
            "s\\udo reboot",
            "su\\\ndo reboot",
            "'sudo' reboot",
            "\"sudo\" reboot",
            "$(echo sudo) reboot",
            "`echo sudo` reboot",
            "$'\\x73udo' reboot",
            "su$@do reboot",
            "su${x}do reboot",
            "s{u,}do reboot",
            "/usr/bin/sudo reboot",
            "/usr/bin/su?o reboot",
            "./sudo reboot",
            "su\u{200b}do reboot",
            "sudo\u{a0}reboot",
            "ｓudo reboot",
            "SUDO reboot",
        ],
    );
}

#[test]
fn a_shell_or_an_interpreter_in_between() {
    denied(
        &["default", "readonly", "fetch", "team"],
        &["program/", "user/"],
        &[
            "sh -c 'rm -rf /'",
            "bash -c id",
            "bash -lc id",
            "dash -c id",
            "zsh -c id",
            "busybox rm x",
            "python3 -c 1",
            "perl -e 1",
            "ruby -e 1",
            "node -e 1",
            "env rm x",
            "nice rm x",
            "nohup rm x",
            "setsid rm x",
            "stdbuf -o0 rm x",
            "timeout 5 rm x",
            "xargs rm",
            "watch rm x",
            "script -c id",
            "ld.so /bin/rm x",
            "exec rm x",
            "eval rm x",
            "command rm x",
            "builtin rm x",
            ". ./x",
            "source x",
        ],
    );
}

#[test]
fn find_that_runs_deletes_or_writes() {
    denied(
        &["default", "readonly", "team"],
        &["operation/", "path/"],
        &[
            "find . -exec rm {} \\;",
            "find . -exec rm {} +",
            "find . -exec sh -c 'rm x' \\;",
            "find src -execdir id \\;",
            "find src -ok rm {} \\;",
            "find src -okdir rm {} \\;",
            "find src -delete",
            "find src -name x -o -delete",
            "find src -fprint x",
            "find src -fprintf x %p",
            "find src -fls x",
            "find src -fprint0 x",
            "find src ! -exec id \\; -print",
            "find src \\( -exec id \\; \\)",
        ],
    );
}

#[test]
fn a_protected_directory_under_another_name() {
    denied(
        &ALL,
        &["path/protected"],
        &[
            "cat /etc/passwd",
            "cat //etc/passwd",
            "cat /etc//passwd",
            "cat /./etc/./passwd",
            "cat /usr/../etc/passwd",
            "cat ../etc/passwd",
            "cat ./../etc/passwd",
            "cat a/b/../../../etc/passwd",
            "cat /workspace/../etc/passwd",
            "cat /e?c/passwd",
            "cat /e*/passwd",
            "cat /[e]tc/passwd",
            "cat /[a-f]tc/passwd",
            "cat /[!x]tc/passwd",
            "cat /[[:alpha:]]tc/passwd",
            "cat /*tc/passwd",
            "cat /*/passwd",
            "cat ../*/passwd",
            "cat /'etc'/passwd",
            "cat /e\\tc/passwd",
            "cat \"/etc/passwd\"",
            "cat -- /etc/passwd",
            "cat -n /etc/passwd",
            "cat notes.txt /etc/passwd",
            "cat < /etc/passwd",
            "cat 0</etc/passwd",
            "</etc/passwd cat",
            "cat /proc/self/environ",
            "cat /proc/1/root/workspace/x",
            "cat /proc/self/cwd/x",
            "cat /var/run/secret",
            "cat /run/x",
            "ls /etc",
            "ls -R /",
            "ls -R ..",
            "ls -laR ../",
            "ls --recursive /var",
            "ls -d /*",
            "echo x > /etc/cron.d/x",
            "echo x >> /root/.bashrc",
            "echo x 2> /dev/sda",
            "echo x &> /etc/x",
            "echo x >| /etc/x",
            "grep x /etc/passwd",
            "grep -r x /",
            "grep -f /etc/passwd x",
            "grep -f/etc/passwd x",
            "grep --file=/etc/passwd x",
            "grep -rnf /etc/passwd x",
            "grep x -r ..",
            "grep --exclude-from=/etc/passwd x y",
        ],
    );
    denied(
        &["default", "readonly", "dev", "fetch"],
        &["path/protected"],
        &[
            "find / -name passwd",
            "find .. -name passwd",
            "find /etc",
            "find src /etc",
            "find src -newer /etc/passwd",
            "find src -samefile /etc/passwd",
            "find -H / -name x",
            "find src -files0-from /etc/passwd",
        ],
    );
}

#[test]
fn options_that_hide_in_bundles_and_abbreviations() {
    denied(
        &["readonly"],
        &["operation/", "option/"],
        &[
            "sort -uo x y",
            "sort --outp=x y",
            "sort --o x y",
            "sort y -o x",
            "sort --compress-p sh y",
            "sort --compress-prog=sh y",
            "rg --pre sh x",
            "rg --pre=sh x",
            "rg -nz x",
            "sed -ni p x",
            "sed -n -i.bak p x",
            "sed --in-pl p x",
            "sed -e p -i x",
            "tree -ao x",
            "git log --outp=x",
            "git diff --ext",
            "git grep -nOless x",
            "date -s 0",
            "date --set=0",
            "date --se 0",
        ],
    );
}

#[test]
fn scripts_that_run_read_or_write() {
    denied(
        &["readonly"],
        &["operation/", "script/", "path/", "option/"],
        &[
            "sed 1e x",
            "sed 'e' x",
            "sed 's/a/id/e' x",
            "sed 's/a/b/w x' y",
            "sed 'w x' y",
            "sed 'W x' y",
            "sed 'r /etc/passwd' x",
            "sed 'R /etc/passwd' x",
            "sed -f script x",
            "sed --file=script x",
            "sed '1{e\n}' x",
            "sed -n '/x/{p;e id\n}' y",
            "sed 'y/a/b/;e' x",
            "sed 's,a,b,;w x' y",
            "awk 'BEGIN{system(\"id\")}'",
            "awk 'BEGIN{\"id\"|getline}'",
            "awk '{print|\"sh\"}' x",
            "awk '{print>\"x\"}' y",
            "awk '{print>>\"x\"}' y",
            "awk '{printf \"a\" > \"x\"}' y",
            "awk 'BEGIN{getline<\"/etc/passwd\"}'",
            "awk 'BEGIN{while((getline l<f)>0)print l}' f=/etc/passwd",
            "awk -f script x",
            "awk -v f=/etc/passwd 'BEGIN{getline<f}'",
            "awk '@load \"x\"' y",
            "awk -l x '{print}' y",
            "awk '@include \"x\"' y",
            "awk 'BEGIN{print > (\"x\")}'",
            "awk 'BEGIN{close(\"id\"); \"id\" | getline}'",
            "awk 'BEGIN{ARGV[1]=\"/etc/passwd\";ARGC=2}{print}'",
        ],
    );
}

#[test]
fn git_that_runs_or_reads_elsewhere() {
    denied(
        &["readonly"],
        &["operation/", "option/", "subcommand/", "path/", "env/"],
        &[
            "git -c core.pager=id log",
            "git -c core.fsmonitor=id status",
            "git -c diff.external=id diff",
            "git -c alias.x=!id x",
            "git --config-env=core.pager=X log",
            "git -p log",
            "git --paginate diff",
            "git --exec-path=. status",
            "git --git-dir=/tmp/x log",
            "git --git-dir /tmp/x log",
            "git --work-tree=/etc diff",
            "git -C /etc log",
            "git diff --ext-diff",
            "git log -p --ext-diff",
            "git diff --textconv",
            "git show --textconv HEAD:x",
            "git diff --output=x",
            "git diff --no-index /etc/passwd x",
            "git grep -O x",
            "git grep --open-files-in-pager x",
            "git grep --no-index x /etc",
            "git grep -f /etc/passwd",
            "git blame --contents /etc/passwd x",
            "git log --help",
            "git help log",
            "git --help",
            "git push",
            "git fetch",
            "git clone ext::id x",
            "git ls-remote ext::id",
            "git submodule foreach id",
            "git bisect run id",
            "git difftool -x id",
            "git mergetool",
            "git daemon",
            "git x",
        ],
    );
}

#[test]
fn variables_that_load_code() {
    denied(
        &ALL,
        &["env/assignment"],
        &[
            "LD_PRELOAD=./x.so ls",
            "LD_LIBRARY_PATH=. ls",
            "PATH=.:/bin ls",
            "IFS=x ls",
            "BASH_ENV=x ls",
            "A=1 B=2 ls",
            "GIT_PAGER=id ls",
            "PAGER=id ls",
            "TERMINFO=. ls",
            "A=b",
            "A=b; ls",
        ],
    );
}

#[test]
fn a_comment_or_a_quote_that_swallows_or_frees_a_command() {
    denied(
        &ALL,
        &["program/", "syntax/"],
        &[
            "echo 'a\\'; sudo reboot",
            "echo \"a\\\\\"; sudo reboot",
            "echo a\\\\; sudo reboot",
            "echo a\\\n; sudo reboot",
            "echo '#'; sudo reboot",
            "echo a#; sudo reboot",
            "echo \\#; sudo reboot",
            "echo 'it'\\''s'; sudo reboot",
            "echo \"'\"; sudo reboot; echo \"'\"",
            "echo '\"'; sudo reboot; echo '\"'",
        ],
    );
}

#[test]
fn a_line_too_long_to_look_at() {
    let tail = "; sudo reboot";
    let lines: Vec<String> = [60, 255, 256, 300, 5_000]
        .iter()
        .map(|count| "echo a; ".repeat(*count) + "echo b" + tail)
        .chain([format!("echo {}{tail}", "a".repeat(8_000)), format!("echo {}{tail}", "a".repeat(70_000))])
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    denied(&ALL, &["program/", "syntax/too-"], &lines);
}

#[test]
fn files_of_the_workspace_that_change_what_git_does() {
    denied(
        &ALL,
        &["path/read-only", "operation/write", "path/protected"],
        &[
            "echo x > .git/config",
            "echo x >> .git/hooks/pre-commit",
            "echo x > ./.git/config",
            "echo x > src/../.git/config",
            "echo x > sub/.git/config",
            "echo x 2> .git/x",
            "echo x > .git",
        ],
    );
}

#[test]
fn output_that_leaves_the_workspace() {
    denied(
        &["default", "dev", "fetch", "team"],
        &["path/outside-workspace"],
        &[
            "echo x > /tmp/x",
            "echo x > ../x",
            "echo x > src/../../x",
            "echo x > /workspace2/x",
            "echo x > /workspace/../x",
            "echo x > /home/alice/.ssh/authorized_keys",
            "echo x > /usr/bin/ls",
            "echo x 2>> /tmp/x",
        ],
    );
}
