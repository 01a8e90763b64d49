//! Judges command lines: may this principal run this line, and with which rights?
//!
//! A [`Rulebook`] is read from the operator's TOML file, and a [`RulebookPolicy`] answers each submission with a
//! [`Verdict`](portcullis_core::Verdict): a permit that holds the very words that were judged and the least
//! rights they need, or a denial that says what is wrong, where, and what to do instead. It is value in, value
//! out: no file is opened, no process started, nothing depends on the platform, and the same input gives the
//! same answer.
//!
//! # Judging a line
//! ```
//! use portcullis_core::{Limits, Policy as _, Principal, Submission, Verdict};
//! use portcullis_policy::{Rulebook, RulebookPolicy, explain};
//!
//! let rulebook = Rulebook::parse(r#"
//!     version = 1
//!
//!     [[rule]]
//!     name = "looking"
//!     programs = ["ls", "cat", "grep"]
//!
//!     [[rule.test]]
//!     allow = ["ls -la", "cat notes.txt | grep x"]
//!
//!     [[rule.test]]
//!     deny = ["cat /etc/passwd", "ls -R /"]
//!     code = "path/protected"
//! "#)?; // its own tests have passed here
//! let policy = RulebookPolicy::new(rulebook, Limits::default());
//!
//! let line = "cat notes.txt | tee copy";
//! match policy.judge(&Principal::local(), &Submission::of(line)) {
//!     Verdict::Permit(permit, _) => println!("{:?}", permit.plan().script),
//!     Verdict::Deny(denial) => print!("{}", explain::draw(line, &denial)),
//! }
//! # Ok::<(), portcullis_policy::RulebookError>(())
//! ```
//!
//! # Testing rules in one line each
//! A rulebook carries its own tests (above). In Rust, [`Rulebook::answer`] gives `allow` or the denial's code:
//! ```
//! # use portcullis_policy::Rulebook;
//! let rulebook = Rulebook::reference("readonly").unwrap();
//! assert_eq!(rulebook.answer("local", "sort notes.txt | uniq -c"), "allow");
//! assert_eq!(rulebook.answer("local", "sort -o notes.txt notes.txt"), "operation/write");
//! ```
//!
//! # Terms
//! A *command line* is what was written, in a closed language: pipelines of simple commands joined by `&&`, `||`, `;`
//! and newlines, with POSIX quoting, redirections and patterns. Nothing is expanded but patterns, and everything
//! else that a shell knows is refused by name (codes `syntax/…`, [`code::TABLE`]). What the words of a command make
//! its program do are its *effects*: it reads, writes, deletes, executes, reaches a host or changes privilege,
//! each at certain paths or hosts. A *rule* allows programs, and *bounds* hold for every effect: the protected
//! directories, the read-only parts, the operations of the file and, narrower, of the rule.
//!
//! # How it decides
//! 1. Who asks must be listed where the rulebook says so, and not be disabled.
//! 2. The line is parsed; `sh -c '…'` is replaced by its script where a rule allows the shell.
//! 3. Every simple command, and every command that a wrapper (`env`, `xargs`, `find -exec`) runs, needs a rule that
//!    allows it with everything it does, in every directory that `cd` may have led to. Denying rules and
//!    personal denials win; the order of rules means nothing.
//! 4. What was allowed becomes the permit's rights, and nothing else does.
//!
//! Limits of the language: [`MAX_LINE_BYTES`], [`MAX_COMMANDS`]. Beyond them a line is refused.
//!
//! # What this crate leaves to others
//! It decides by the text alone. What only a file system knows (where links lead, what scripts hold) is
//! the confinement's to hold to the same permit.
#![forbid(unsafe_code)]

pub mod batch;
pub mod code;
mod effects;
pub mod explain;
mod judge;
mod language;
mod nearest;
mod rulebook;

pub use judge::RulebookPolicy;
pub use language::{MAX_COMMANDS, MAX_LINE_BYTES};
pub use rulebook::{
    Change, Coverage, DEFAULT_PROTECTED, Finding, Problem, Rows, Rulebook, RulebookError, TestFailure,
    TestReport,
};

/// The project's README, whose example must compile and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
mod readme {}
