//! Real `git` in a repository whose configuration, attributes and hooks name a program wherever git-config(1) lets
//! them: under what a permit adds, none of these programs is started but those that only the kernel can hold.
//!
//! The permit lets `git` start nothing but `git`, which `tests/confinement` shows of every permit; here no kernel
//! helps, so that what the arguments and variables do is seen alone.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use portcullis_core::{Limits, Policy as _, Principal, Submission, Verdict};
use portcullis_policy::{Rulebook, RulebookPolicy};

/// Every setting of git-config(1) (git 2.47) that names a program or command, with `TRAP` for one that tells its name.
const SETTINGS: &str = r#"
[core]
    fsmonitor = "TRAP core.fsmonitor"
    pager = "TRAP core.pager"
    editor = "TRAP core.editor"
    sshCommand = "TRAP core.sshCommand"
    askPass = "TRAP core.askPass"
    gitProxy = "TRAP core.gitProxy"
    alternateRefsCommand = "TRAP core.alternateRefsCommand"
    hooksPath = HOOKS
[pager]
    log = "TRAP pager.log"
    diff = "TRAP pager.diff"
    show = "TRAP pager.show"
    status = "TRAP pager.status"
    branch = "TRAP pager.branch"
    tag = "TRAP pager.tag"
    blame = "TRAP pager.blame"
    grep = "TRAP pager.grep"
[sequence]
    editor = "TRAP sequence.editor"
[interactive]
    diffFilter = "TRAP interactive.diffFilter"
[diff]
    external = "TRAP diff.external"
[diff "evil"]
    command = "TRAP diff.evil.command"
[diff "evilconv"]
    textconv = "TRAP diff.evilconv.textconv"
    cachetextconv = false
[difftool "evil"]
    cmd = "TRAP difftool.evil.cmd"
[mergetool "evil"]
    cmd = "TRAP mergetool.evil.cmd"
[filter "evil"]
    clean = "TRAP filter.evil.clean"
    smudge = "TRAP filter.evil.smudge"
[filter "evilproc"]
    process = "TRAP filter.evilproc.process"
[merge "evil"]
    driver = "TRAP merge.evil.driver"
[merge]
    tool = evil
    verifySignatures = false
[gpg]
    program = "TRAP gpg.program"
[gpg "openpgp"]
    program = "TRAP gpg.openpgp.program"
[gpg "x509"]
    program = "TRAP gpg.x509.program"
[gpg "ssh"]
    program = "TRAP gpg.ssh.program"
    defaultKeyCommand = "TRAP gpg.ssh.defaultKeyCommand"
[commit]
    gpgSign = true
[tag]
    gpgSign = true
[log]
    showSignature = true
[credential]
    helper = "!TRAP credential.helper"
[alias]
    status = "!TRAP alias.status"
    log = "!TRAP alias.log"
[uploadpack]
    packObjectsHook = "TRAP uploadpack.packObjectsHook"
[trailer "evil"]
    key = "Evil"
    cmd = "TRAP trailer.evil.cmd"
    command = "TRAP trailer.evil.command"
    ifmissing = add
[tar "evil"]
    command = "TRAP tar.evil.command"
[tar "tgz"]
    command = "TRAP tar.tgz.command"
[tar "tar.gz"]
    command = "TRAP tar.gz.command"
[man "evil"]
    cmd = "TRAP man.evil.cmd"
[man]
    viewer = evil
[browser "evil"]
    cmd = "TRAP browser.evil.cmd"
[web]
    browser = evil
[remote "origin"]
    url = ext::TRAP remote.origin.url
    uploadpack = "TRAP remote.origin.uploadpack"
    promisor = true
    partialclonefilter = blob:none
[protocol "ext"]
    allow = always
[submodule "sub"]
    update = "!TRAP submodule.sub.update"
[submodule]
    recurse = true
[gc]
    auto = 1
[maintenance]
    auto = true
[include]
    path = INCLUDED
[user]
    name = tester
    email = tester@example.com
"#;

/// What no argument and no variable turns off, for its names are the repository's own. The kernel refuses the program:
/// a permit for `git` starts `git` alone.
const HELD_BY_THE_KERNEL: [&str; 6] = [
    "filter.evil.clean",
    "filter.evil.smudge",
    "filter.evilproc.process",
    "merge.evil.driver",
    "trailer.evil.cmd",
    "trailer.evil.command",
];

/// Sub-commands as people write them, with operands that make `git` look at attributes.
const LINES: [&str; 44] = [
    "git status",
    "git status -v",
    "git log -p",
    "git log --all --oneline --graph",
    "git log --format='%h %G? %(trailers)'",
    "git diff",
    "git diff HEAD~1",
    "git diff --cached --stat",
    "git show HEAD",
    "git show side",
    "git show HEAD:a.evil",
    "git blame a.conv",
    "git grep -n word",
    "git shortlog -s HEAD",
    "git describe --always --dirty",
    "git ls-files -m",
    "git rev-parse HEAD",
    "git add .",
    "git add -A",
    "git commit -m one",
    "git commit --amend --no-edit",
    "git commit --allow-empty -m two --trailer 'Evil: x'",
    "git branch new",
    "git branch -vv",
    "git tag v9",
    "git tag -a v8 -m x",
    "git tag -l",
    "git stash list",
    "git stash show -p",
    "git switch -c other",
    "git checkout main",
    "git merge --no-edit side",
    "git merge --continue",
    "git reset -q HEAD~1",
    "git restore --staged a.evil",
    "git rm -q --cached a.conv",
    "git mv b.evil c.evil",
    "git clean -n",
    "git archive -o out.tgz HEAD",
    "git archive -o out.evil HEAD",
    "git archive --format=tar.gz -o o.tar.gz HEAD",
    "git stash push -m wip",
    "git stash pop",
    "git cherry-pick side",
];

struct Repository {
    root: PathBuf,
}

impl Repository {
    /// Makes a repository with history, then puts the traps into it.
    fn hostile(name: &str) -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hostile-git-{name}"));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("repository")).expect("the test can have its files");
        let new = Self { root };
        let git = |words: &[&str]| {
            let output = new.git(words, &[]);
            assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        git(&["init", "-q", "-b", "main"]);
        git(&["config", "user.name", "tester"]);
        git(&["config", "user.email", "tester@example.com"]);
        for (file, text) in [
            ("a.evil", "word\n"),
            ("b.evil", "b\n"),
            ("a.conv", "word\n"),
            ("a.proc", "p\n"),
            ("a.merge", "1\n"),
            (
                ".gitattributes",
                "*.evil diff=evil filter=evil\n*.conv diff=evilconv\n*.proc filter=evilproc\n*.merge merge=evil\n",
            ),
        ] {
            new.write(file, text);
        }
        git(&["add", "."]);
        git(&["commit", "-q", "-m", "first"]);
        git(&["checkout", "-q", "-b", "side"]);
        new.write("a.merge", "2\n");
        git(&["commit", "-q", "-a", "-m", "side"]);
        git(&["checkout", "-q", "main"]);
        new.write("a.merge", "3\n");
        new.write("a.evil", "word two\n");
        git(&["commit", "-q", "-a", "-m", "second"]);
        for (file, text) in [("a.evil", "word three\n"), ("a.conv", "word x\n"), ("new.proc", "q\n")] {
            new.write(file, text);
        }
        new.set_traps();
        new
    }

    fn set_traps(&self) {
        let trap = self.root.join("trap");
        let told = self.root.join("told");
        fs::write(&told, "").expect("the test can have its files");
        self.script(&trap, &format!("echo \"$1\" >> {}\ncat\n", told.display()));
        // These are no commands but files, whose names have a blank then.
        for program in ["gpg.program", "gpg.openpgp.program", "gpg.x509.program", "gpg.ssh.program"] {
            let file = self.root.join(format!("trap {program}"));
            self.script(&file, &format!("echo {program} >> {}\nexit 1\n", told.display()));
        }
        let hooks = self.root.join("hooks");
        let default_hooks = self.root.join("repository/.git/hooks");
        for directory in [&hooks, &default_hooks] {
            fs::create_dir_all(directory).expect("the test can have its files");
            // githooks(5)
            for hook in [
                "applypatch-msg",
                "commit-msg",
                "fsmonitor-watchman",
                "post-applypatch",
                "post-checkout",
                "post-commit",
                "post-index-change",
                "post-merge",
                "post-rewrite",
                "pre-applypatch",
                "pre-auto-gc",
                "pre-commit",
                "pre-merge-commit",
                "pre-push",
                "pre-rebase",
                "prepare-commit-msg",
                "reference-transaction",
                "sendemail-validate",
            ] {
                self.script(&directory.join(hook), &format!("echo hook.{hook} >> {}\n", told.display()));
            }
        }
        let included = self.root.join("included");
        fs::write(&included, format!("[core]\n  fsmonitor = \"{} include.path\"\n", trap.display()))
            .expect("the test can have its files");
        let text = SETTINGS
            .replace("TRAP", &trap.display().to_string())
            .replace("HOOKS", &hooks.display().to_string())
            .replace("INCLUDED", &included.display().to_string());
        let file = self.root.join("repository/.git/config");
        let before = fs::read_to_string(&file).expect("the test can have its files");
        fs::write(file, before + &text).expect("the test can have its files");
    }

    fn script(&self, file: &Path, text: &str) {
        fs::write(file, format!("#!/bin/sh\n{text}")).expect("the test can have its files");
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("the test can have its files");
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.root.join("repository").join(file), text).expect("the test can have its files");
    }

    #[expect(clippy::disallowed_methods, reason = "the test sees what real git starts")]
    fn git(&self, words: &[&str], variables: &[(String, String)]) -> Output {
        Command::new("git")
            .args(words)
            .current_dir(self.root.join("repository"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.root)
            .envs(variables.iter().cloned())
            .stdin(Stdio::null())
            .output()
            .expect("git is there: apt-get install git")
    }

    /// Returns which traps were sprung since the last call.
    fn sprung(&self) -> BTreeSet<String> {
        let told = self.root.join("told");
        let names = fs::read_to_string(&told)
            .expect("the test can have its files")
            .lines()
            .map(str::to_owned)
            .collect();
        fs::write(&told, "").expect("the test can have its files");
        names
    }
}

/// Returns the words and variables that the permit for a line gives to `git`, and what it may start.
fn permitted(line: &str) -> (Vec<String>, Vec<(String, String)>, Vec<String>) {
    let policy = RulebookPolicy::new(
        Rulebook::reference("dev").expect("the test can have its files"),
        Limits::default(),
    );
    let permit = match policy.judge(&Principal::local(), &Submission::of(line)) {
        Verdict::Permit(permit, _) => permit,
        Verdict::Deny(denial) => panic!("{line}: {denial:?}"),
    };
    let commands: Vec<_> = permit.plan().script.commands().cloned().collect();
    let command = commands.into_iter().next().expect("the test can have its files");
    let words = command.arguments.iter().map(portcullis_core::Word::to_unmatched).collect();
    let starts = command.rights.execute.iter().map(|program| program.as_str().to_owned()).collect();
    (words, command.assignments, starts)
}

#[test]
fn no_program_that_a_repository_names_is_started() {
    let repository = Repository::hostile("neutralised");
    let mut held = BTreeSet::new();
    for line in LINES {
        let (words, variables, starts) = permitted(line);
        assert_eq!(starts, ["git"], "{line}");
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = repository.git(&words, &variables);
        let sprung = repository.sprung();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let wrong: Vec<_> =
            sprung.iter().filter(|name| !HELD_BY_THE_KERNEL.contains(&name.as_str())).collect();
        assert!(wrong.is_empty(), "{line}: {wrong:?} {stderr}");
        assert!(!stderr.contains("usage:") && !stderr.contains("unknown option"), "{line}: {stderr}");
        held.extend(sprung);
    }
    println!("left to the kernel: {held:?}");
}

/// Without what the permit adds the traps spring, so that the test above is not about nothing.
#[test]
fn the_same_repository_starts_programs_under_git_alone() {
    let repository = Repository::hostile("plain");
    let mut sprung = BTreeSet::new();
    for line in LINES {
        let (words, _, _) = permitted(line);
        // The words as written are those that the permit did not add.
        let written: Vec<&str> = line.split(' ').skip(1).map(|word| word.trim_matches('\'')).collect();
        assert!(words.len() > written.len() || line.contains('\''), "{line}");
        repository.git(&written, &[]);
        sprung.extend(repository.sprung());
    }
    for name in [
        "include.path",
        "diff.external",
        "diff.evil.command",
        "diff.evilconv.textconv",
        "filter.evil.clean",
        "hook.pre-commit",
        "hook.post-checkout",
        "hook.reference-transaction",
        "tar.tgz.command",
        "tar.evil.command",
        "gpg.openpgp.program",
    ] {
        assert!(sprung.contains(name), "{name} is not among {sprung:?}");
    }
}
