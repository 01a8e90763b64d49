//! Allowed lines of the red team's corpus, each changed in every way that must make it a denied one.

use std::fmt::Write as _;

use portcullis_core::Limits;
use portcullis_policy::batch::{self, Decision, Question};
use portcullis_policy::{Rulebook, RulebookPolicy};

/// Other ways to write `/etc/passwd`, from `/workspace`.
const ALIASES: [&str; 22] = [
    "/etc/passwd",
    "//etc/passwd",
    "/./etc/passwd",
    "/etc/./passwd",
    "/etc//passwd",
    "/usr/../etc/passwd",
    "/etc/../etc/passwd",
    "../etc/passwd",
    "./../etc/passwd",
    "../../../etc/passwd",
    "../workspace/../etc/passwd",
    "'/etc/passwd'",
    "\"/etc/passwd\"",
    "/e'tc'/passwd",
    "/\\etc/passwd",
    "/e\"t\"c/pass\\wd",
    "/etc/\\\npasswd",
    "/e*/passwd",
    "/?tc/passwd",
    "/[d-f]tc/passwd",
    "/et[!d]/pass*",
    "../e*c/passwd",
];

/// Programs, with options that must not be allowed to them wherever they stand.
const DANGEROUS: &[(&str, &[&str])] = &[
    (
        "sort",
        &[
            "-o /tmp/x",
            "-uo/tmp/x",
            "--outp=/tmp/x",
            "--compress-program=x",
            "--comp x",
            "--files0-from=/etc/x",
        ],
    ),
    ("rg", &["--pre x", "--pre=x", "-z", "-nz", "--search-zip", "--hostname-bin=x", "-f/etc/x"]),
    ("grep", &["-f /etc/x", "-nf/etc/x", "--exclude-from=/etc/x", "--fil=/etc/x"]),
    ("tree", &["-o /tmp/x", "-o/tmp/x"]),
    ("file", &["-C", "-z", "-bz", "--compile", "--uncompress", "-f/etc/x"]),
    ("diff", &["-l", "--paginate", "--pag", "-ul", "-X /etc/x", "--from-f=/etc/x"]),
    ("man", &["-P x", "-Px", "--pager=x", "--pag x", "-H", "-Hx", "--html=x"]),
    ("date", &["-s now", "--set=now", "--se now", "-us now", "-f /etc/x", "-r/etc/x"]),
    ("du", &["-X /etc/x", "--exclude-from=/etc/x", "--files0-from=/etc/x"]),
    ("wc", &["--files0-from=/etc/x", "--files0-f=/etc/x"]),
    (
        "sed",
        &[
            "-f x",
            "--file=x",
            "-i'/tmp/*'",
            "--in-place=/tmp/x",
            "-e 'e id'",
            "-e 'r /etc/x'",
            "-e 'w /tmp/x'",
        ],
    ),
    ("tar", &["--to-command=x", "--to-comm x", "-I x", "-Ix", "--use-comp=x", "-F x", "--info-script=x"]),
    ("split", &["--filter=x", "--filt x"]),
    ("zip", &["-T -TT x", "-TT x", "-O /tmp/x", "-b /tmp"]),
    (
        "make",
        &[
            "SHELL=x",
            "CC=x",
            "--eval=x",
            "--ev x",
            "-E x",
            "-f -",
            "-f-",
            "-C /tmp",
            "-C..",
            "-I/tmp",
            "A='$(id)'",
        ],
    ),
    ("npm", &["--script-shell=x", "--prefix /tmp", "-C ..", "--node-options=x"]),
    ("cp", &["-t /tmp", "-rt/tmp", "--target-directory=/tmp", "--targ /tmp", "/etc/passwd"]),
    ("mv", &["-t /tmp", "-t/tmp", "--targ=/tmp"]),
    ("ln", &["-t /tmp", "-st/tmp", "--target-dir=/tmp"]),
    ("rm", &["/tmp/x", ".git", ".", "..", "/"]),
    ("touch", &["/tmp/x", "-r /etc/x", "-r/etc/x", ".git/x"]),
    ("tee", &["/tmp/x", ".git/x", "../x"]),
    (
        "curl",
        &[
            "-k",
            "-sk",
            "--insec",
            "-x p",
            "-xp",
            "--prox p",
            "--resolve a:1:b",
            "--connect-t a",
            "-K x",
            "-Kx",
            "-T a",
            "-F a=b",
            "--json a",
            "-X POST",
            "-XPOST",
            "--next https://evil.com",
            "http://api.example.com",
            "-o /tmp/x",
            "-so/tmp/x",
            "-D/tmp/x",
            "--trace /tmp/x",
            "-w@/etc/x",
            "-H @/etc/x",
            "--unix-socket s",
            "-o ../x",
        ],
    ),
    (
        "wget",
        &[
            "--no-check-certificate",
            "--no-check-cert",
            "-i x",
            "-ix",
            "-e a=b",
            "--exec=a",
            "-O /tmp/x",
            "-P..",
            "--post-data=a",
            "--post-f=x",
            "--method=POST",
            "--config=x",
            "--use-ask=x",
            "-o /tmp/x",
            "https://evil.com",
            "-H",
        ],
    ),
];

/// Options that belong in front of the sub-command, and behind it.
const OF_GIT: (&[&str], &[&str]) = (
    &[
        "-c a=b",
        "-ca=b",
        "--exec-path=x",
        "-p",
        "--paginate",
        "--git-dir=x",
        "--work-tree=x",
        "--config-env=a=b",
        "-C /etc",
    ],
    &["--help"],
);

/// Names of files that allowed lines of the corpus read.
const FILES: [&str; 8] = [
    "notes.txt",
    "README.md",
    "names.txt",
    "Cargo.toml",
    "data.csv",
    "build.log",
    "data.bin",
    "package.json",
];

/// Programs some of whose words are text, which may look like a path.
const TEXT: [&str; 9] = ["basename", "dirname", "echo", "find", "git", "printf", "tar", "test", "xargs"];

struct Corpus {
    policy: RulebookPolicy,
    lines: Vec<String>,
}

impl Corpus {
    /// Reads the allowed lines that are one plain command: words with nothing a shell would take for more.
    fn read(name: &str, text: &str) -> Self {
        let rulebook = Rulebook::reference(name).expect("a reference rulebook");
        let rows = text.lines().map(|row| serde_json::from_str::<serde_json::Value>(row).expect("a row"));
        let allowed = rows.filter(|row| row.get("verdict").is_some_and(|verdict| verdict == "allow"));
        let lines = allowed.filter_map(|row| row.get("command")?.as_str().map(str::to_owned));
        let plain = lines.filter(|line| {
            line.len() < 200 && !line.contains(['|', ';', '&', '<', '>', '#', '\n', '\'', '"', '\\', '='])
        });
        Self { policy: RulebookPolicy::new(rulebook, Limits::default()), lines: plain.collect() }
    }

    fn allows(&self, line: &str) -> bool {
        let question =
            Question { id: 0.into(), user: None, roles: Default::default(), command: line.to_owned() };
        batch::answer(&self.policy, question).verdict == Decision::Allow
    }

    /// Judges what `mutate` makes of every line; none of it may be allowed.
    #[track_caller]
    fn none_is_allowed(&self, at_least: usize, mutate: impl Fn(&[&str]) -> Vec<String>) {
        let (mut count, mut wrong) = (0, String::new());
        for line in &self.lines {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            for mutant in mutate(&words) {
                count += 1;
                if self.allows(&mutant) {
                    let _ = writeln!(wrong, "{mutant}");
                }
            }
        }
        assert!(wrong.is_empty(), "allowed of {count}:\n{wrong}");
        assert!(count >= at_least, "only {count} lines were made");
    }
}

fn corpora() -> [Corpus; 3] {
    [
        Corpus::read("readonly", include_str!("corpus/readonly.jsonl")),
        Corpus::read("dev", include_str!("corpus/dev.jsonl")),
        Corpus::read("fetch", include_str!("corpus/fetch.jsonl")),
    ]
}

/// Puts words in at a place.
fn with(words: &[&str], at: usize, more: &str) -> String {
    let (before, after) = words.split_at(at.min(words.len()));
    [before, &[more], after].concat().join(" ")
}

#[test]
fn a_file_that_is_read_may_not_be_a_protected_one_however_it_is_written() {
    let [readonly, dev, fetch] = corpora();
    let mutate = |words: &[&str]| {
        let mut made = Vec::new();
        let places = words.iter().enumerate().skip(1).filter(|(_, word)| FILES.contains(word));
        let places: Vec<usize> = places.map(|(at, _)| at).collect();
        if words.first().is_some_and(|program| TEXT.contains(program)) {
            return made;
        }
        for at in places {
            for alias in ALIASES {
                let mut words = words.to_vec();
                words[at] = alias;
                made.push(words.join(" "));
            }
        }
        made
    };
    readonly.none_is_allowed(700, mutate);
    dev.none_is_allowed(100, mutate);
    fetch.none_is_allowed(0, mutate);
}

#[test]
fn a_dangerous_option_is_denied_before_and_behind_what_is_allowed() {
    let mutate = |words: &[&str]| {
        let mut made = Vec::new();
        let Some((_, options)) = DANGEROUS.iter().find(|(program, _)| words.first() == Some(program)) else {
            return made;
        };
        for option in *options {
            if words.first() != Some(&"make") || !option.starts_with("A=") {
                made.push(with(words, 1, option));
            }
            if !words.contains(&"--") {
                made.push(with(words, words.len(), option));
            }
        }
        made
    };
    let [readonly, dev, fetch] = corpora();
    readonly.none_is_allowed(1000, mutate);
    dev.none_is_allowed(1000, mutate);
    fetch.none_is_allowed(1000, mutate);
}

#[test]
fn git_takes_no_configuration_and_no_other_repository() {
    let mutate = |words: &[&str]| {
        if words.first() != Some(&"git") || words.len() < 2 || words[1].starts_with('-') {
            return Vec::new();
        }
        let before = OF_GIT.0.iter().map(|option| with(words, 1, option));
        before.chain(OF_GIT.1.iter().map(|option| with(words, 2, option))).collect()
    };
    let [readonly, dev, _] = corpora();
    readonly.none_is_allowed(900, mutate);
    dev.none_is_allowed(1000, mutate);
}

#[test]
fn what_is_allowed_is_denied_behind_what_is_not_and_before_it() {
    let mutate = |words: &[&str]| {
        let line = words.join(" ");
        [
            "cat /etc/passwd",
            "sudo ls",
            "ls $(id)",
            "A=1 ls",
            "ls > /tmp/x",
            "/bin/ls",
            "find . -delete",
            "ls &",
        ]
        .iter()
        .flat_map(|other| [" && ", " | ", "; ", "\n"].map(|by| (other, by)))
        .flat_map(|(other, by)| [format!("{other}{by}{line}"), format!("{line}{by}{other}")])
        .collect()
    };
    for corpus in corpora() {
        corpus.none_is_allowed(5000, mutate);
    }
}
