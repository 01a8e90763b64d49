//! `git` and its sub-commands.

use std::borrow::Cow;

use super::{check_all, words};
use crate::effects::effects;

#[test]
fn reading_sub_commands_only_read() {
    check_all(&[
        ("git status", "read repository"),
        ("git status -sb", "read repository"),
        ("git status --porcelain=v2", "read repository"),
        ("git log --oneline -5", "read repository"),
        ("git log -n 5 --graph --all", "read repository"),
        ("git log --format='%h %s' main..dev", "read main..dev; read repository"),
        ("git log -p -S x -- src", "read src; read repository"),
        ("git log --since='2 weeks ago' --author=a", "read repository"),
        ("git diff", "read repository"),
        ("git diff --stat HEAD~3..HEAD", "read HEAD~3..HEAD and below; read repository"),
        ("git diff --cached --name-only", "read repository"),
        (
            "git diff --no-index a /etc/passwd",
            "read a and below; read /etc/passwd and below; read repository",
        ),
        ("git show HEAD:src/main.rs", "read HEAD:src/main.rs; read repository"),
        ("git show --stat", "read repository"),
        ("git rev-parse --abbrev-ref HEAD", "read repository"),
        ("git rev-parse --show-toplevel", "read repository"),
        ("git ls-files '*.rs'", "examine *.rs; read repository"),
        ("git ls-files -o --exclude-standard", "read repository"),
        ("git blame -L 10,20 f", "read f; read repository"),
        ("git blame --contents /etc/passwd f", "read /etc/passwd; read f; read repository"),
        ("git grep -n x -- src", "read src and below; read repository"),
        ("git grep -f /etc/x", "read /etc/x; read repository"),
        ("git shortlog -sn", "read repository"),
        ("git describe --tags --always", "read repository"),
        ("git -C sub status", "examine sub; read repository"),
        ("git -C sub -C deep log f", "examine sub; examine deep; read sub/deep/f; read repository"),
        ("git --no-pager log", "read repository"),
        ("git --version", ""),
        ("git stash list", "read repository"),
        ("git stash show -p", "read repository"),
    ]);
}

#[test]
fn what_starts_programs_says_so() {
    check_all(&[
        ("git -c core.pager=sh log", "execute unbounded; read repository"),
        ("git -ccore.pager=sh log", "execute unbounded; read repository"),
        ("git --config-env=core.pager=X log", "execute unbounded; read repository"),
        ("git --exec-path=/tmp log", "execute program /tmp; read repository"),
        ("git -p log", "execute unbounded; read repository"),
        ("git --paginate log", "execute unbounded; read repository"),
        ("git --git-dir=/x log", "execute unbounded; read /x; read repository"),
        ("git --work-tree /x log", "execute unbounded; read /x; read repository"),
        ("git log --ext-diff", "execute unbounded; read repository"),
        ("git diff --ext", "execute unbounded; read repository"),
        ("git show --textconv", "execute unbounded; read repository"),
        ("git log --help", "execute unbounded"),
        ("git help log", "execute unbounded"),
        ("git grep -O x", "execute unbounded; read repository"),
        ("git grep -Osh x", "execute unbounded; execute program sh; read repository"),
        ("git grep --open x", "execute unbounded; read repository"),
        ("git rebase -x make main", "execute program make; write repository"),
        ("git rebase --exec=make main", "execute program make; write repository"),
        ("git merge -s evil b", "write repository; execute program git-merge-evil"),
        ("git merge -s ours b", "write repository"),
        ("git archive --remote=h --exec=sh HEAD", "network unbounded; execute program sh; read repository"),
        ("git archive --format=evil HEAD", "read repository; execute unbounded"),
        ("git commit -S -m x", "execute unbounded; write repository"),
        ("git bisect run sh", "execute unbounded"),
        ("git submodule foreach sh", "network unbounded"),
        ("git config alias.x '!sh'", "execute unbounded"),
        ("git difftool -x sh", "execute unbounded"),
        ("git nosuch", "execute unbounded"),
        ("git --no-such log", "unknown option --no-such"),
        ("git log --no-such", "unknown option --no-such"),
        ("git lo*", "execute unbounded"),
        ("git fetch", "network unbounded"),
        ("git push --force", "network unbounded"),
        ("git clone https://x", "network unbounded"),
    ]);
}

#[test]
fn files_that_options_write_are_written() {
    check_all(&[
        ("git log --output=out", "write out; read repository"),
        (
            "git diff --outp out",
            "usage: `--outp` could be `--output-indicator-new` or `--output-indicator-old`",
        ),
        ("git show --output out", "write out; read repository"),
        ("git archive -o out.tar HEAD", "write out.tar; read repository"),
        ("git archive --output=out.zip HEAD", "write out.zip; read repository"),
        ("git -C sub diff --output=out", "examine sub; write sub/out; read repository"),
    ]);
}

#[test]
fn local_work_is_written_to_the_repository() {
    check_all(&[
        ("git add -A", "write repository"),
        ("git add src", "read src; write repository"),
        ("git commit -m 'a message'", "write repository"),
        ("git commit -am x", "write repository"),
        ("git commit -F /etc/passwd", "read /etc/passwd; write repository"),
        ("git commit --amend --no-edit", "write repository"),
        ("git checkout main", "read main; write repository"),
        ("git checkout -b new", "write repository"),
        ("git checkout -b new origin/main", "read origin/main; write repository"),
        ("git checkout feature/x", "read feature/x; write repository"),
        ("git checkout v1.2.3", "read v1.2.3; write repository"),
        ("git switch main", "write repository"),
        ("git switch -c new", "write repository"),
        ("git branch", "write repository"),
        ("git branch -a", "write repository"),
        ("git branch new", "write repository"),
        ("git merge --no-ff b", "write repository"),
        ("git rebase main", "write repository"),
        ("git rebase --continue", "write repository"),
        ("git stash", "write repository"),
        ("git stash -u", "write repository"),
        ("git stash push -m x", "write repository"),
        ("git stash pop", "write repository"),
        ("git tag v1", "write repository"),
        ("git tag -a v1 -m x", "write repository"),
        ("git restore --staged f", "read f; write repository"),
        ("git reset", "write repository"),
        ("git reset --soft HEAD~1", "write repository"),
        ("git reset HEAD f", "write repository"),
        ("git mv a b", "delete a; write b or in it; write repository; write b/a"),
        ("git rm f", "delete f; write repository"),
        ("git rm -r dir", "delete dir and below; write repository"),
        ("git rm --cached f", "read f; write repository"),
        ("git cherry-pick abc", "write repository"),
        ("git clean -n", "write repository"),
        ("git clean -nd", "write repository"),
    ]);
}

#[test]
fn work_that_is_thrown_away_is_deleted() {
    check_all(&[
        ("git clean -f", "write repository; delete unbounded"),
        ("git clean -fdx", "write repository; delete unbounded"),
        ("git clean", "write repository; delete unbounded"),
        ("git clean -n --no-dry-run -f", "delete unbounded; write repository"),
        ("git reset --hard", "delete unbounded; write repository"),
        ("git reset --ha", "delete unbounded; write repository"),
        ("git branch -D x", "delete unbounded; write repository"),
        ("git branch -d x", "delete unbounded; write repository"),
        ("git branch -f x", "delete unbounded; write repository"),
        ("git stash clear", "write repository; delete unbounded"),
        ("git stash drop", "write repository; delete unbounded"),
        ("git checkout -- f", "read f; write repository; delete unbounded"),
        ("git checkout .", "read .; write repository; delete unbounded"),
        ("git checkout README.md", "read README.md; write repository; delete unbounded"),
        ("git checkout HEAD f", "read HEAD; read f; write repository; delete unbounded"),
        ("git checkout *", "read *; write repository; delete unbounded"),
        ("git checkout -f main", "delete unbounded; read main; write repository"),
        ("git checkout -B x", "delete unbounded; write repository"),
        ("git switch -f main", "delete unbounded; write repository"),
        ("git switch --discard-changes main", "delete unbounded; write repository"),
        ("git restore f", "read f; write repository; delete unbounded"),
        ("git restore -S -W f", "delete unbounded; read f; write repository"),
        ("git rm -f f", "delete unbounded; delete f; write repository"),
        ("git tag -d v1", "delete unbounded; write repository"),
        ("git merge --abort", "delete unbounded; write repository"),
        ("git reflog expire --all", "delete unbounded"),
        ("git update-ref -d x", "delete unbounded"),
        ("git gc --prune=now", "delete unbounded"),
    ]);
}

#[track_caller]
fn added(line: &str) -> Vec<(usize, Cow<'static, str>)> {
    let words = words(line);
    effects("git", &words[1..]).expect("the line is understood").insertions
}

#[test]
fn configuration_that_names_programs_is_neutralised() {
    let log = added("git -C sub log -p");
    for (at, text) in [
        (0, "core.fsmonitor=false"),
        (0, "core.hooksPath=/dev/null"),
        (3, "--no-ext-diff"),
        (3, "--no-textconv"),
    ] {
        assert!(log.contains(&(at, text.into())), "{text}");
    }
    assert!(added("git stash show").contains(&(2, "--no-textconv".into())));
    assert!(added("git blame f").contains(&(1, "--no-textconv".into())));
    assert!(added("git checkout main").contains(&(2, "--".into())));
    assert!(!added("git checkout main --").contains(&(3, "--".into())));
    assert!(added("git archive -o x.evil HEAD").contains(&(1, "--format=tar".into())));
    let words = words("git status");
    let environment = effects("git", &words[1..]).unwrap().environment;
    assert!(environment.contains(&("GIT_CONFIG_NOSYSTEM".into(), "1".into())));
}
