//! The rulebook: what an operator allows and denies, read from TOML and checked before it is used.

mod lint;
mod read;
mod reader;
mod reference;
mod testing;
mod tools;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use portcullis_core::{Limits, ProgramName, RuleRef, ViewPath};

pub use lint::Finding;
pub use testing::{Coverage, TestFailure, TestReport};

pub use crate::effects::rows::Rows;
pub use tools::Change;

pub(crate) use testing::TestCase;

/// The directories that are protected unless a rulebook says otherwise.
pub const DEFAULT_PROTECTED: [&str; 8] =
    ["/etc", "/root", "/proc", "/sys", "/boot", "/dev", "/var/run", "/run"];

/// What an operator allows and denies: rules, users, protected places and bounds of the operations.
///
/// Cheap to clone. A rulebook that exists has passed its own tests.
#[derive(Debug, Clone)]
pub struct Rulebook {
    pub(crate) book: Arc<Book>,
}

/// Everything that is wrong with a rulebook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulebookError {
    problems: Vec<Problem>,
}

/// One thing that is wrong with a rulebook.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The line in the file, from 1.
    pub line: usize,
    /// The character in that line, from 1.
    pub column: usize,
    /// What is wrong, and how to mend it.
    pub message: String,
}

impl RulebookError {
    /// Returns the problems in the order of their places; there is at least one.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for RulebookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            let newline = if at == 0 { "" } else { "\n" };
            write!(f, "{newline}{}:{}: {}", problem.line, problem.column, problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for RulebookError {}

impl Rulebook {
    /// Reads a rulebook from TOML and checks it, its own tests included.
    ///
    /// # Errors
    /// When anything is wrong with it: every problem is listed, each with its line and column.
    pub fn parse(text: &str) -> Result<Self, RulebookError> {
        let rulebook = Self::parse_untested(text)?;
        let report = rulebook.run_tests();
        if report.failures.is_empty() {
            return Ok(rulebook);
        }
        let problems = report.failures.into_iter().map(|failure| Problem {
            line: failure.line,
            column: 1,
            message: failure.to_string(),
        });
        Err(RulebookError { problems: problems.collect() })
    }

    /// Reads a rulebook without running its tests, for tools that want to show how they fail.
    ///
    /// # Errors
    /// When anything but a test is wrong with it.
    pub fn parse_untested(text: &str) -> Result<Self, RulebookError> {
        read::read(text)
            .map(|book| Self { book: Arc::new(book) })
            .map_err(|problems| RulebookError { problems })
    }

    /// Returns the rulebook that allows these programs to everybody, with the protections that hold unless a
    /// rulebook says otherwise: `ALLOWED_COMMANDS`.
    ///
    /// Reading is allowed everywhere but in [`DEFAULT_PROTECTED`]; writing by redirection alone, in the workspace;
    /// deleting, starting other programs, the network and changing privilege not at all, also not for a program
    /// such as `rm` that is on the list. A program whose options the tables here do not know runs too, because the
    /// operator named it: it gets no right but to read, and only the confinement bounds what its
    /// options mean (as a rule with `understood = "not"` says of itself).
    ///
    /// # Errors
    /// When the list is empty, or a name is not the bare name of a program; the line counts the names.
    pub fn from_allowlist<I>(names: I) -> Result<Self, RulebookError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        Self::of_programs(names, Vec::new())
    }

    /// Makes a rulebook of program names alone, as [`Rulebook::from_allowlist`] does, in which everything that a program
    /// touches must lie in the workspace or beneath one of these directories.
    ///
    /// # Errors
    /// As [`Rulebook::from_allowlist`].
    pub fn from_allowlist_beneath<I>(
        names: I,
        directories: impl IntoIterator<Item = ViewPath>,
    ) -> Result<Self, RulebookError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        Self::of_programs(names, [Book::default().workspace].into_iter().chain(directories).collect())
    }

    fn of_programs<I>(names: I, paths: Vec<ViewPath>) -> Result<Self, RulebookError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut problems = Vec::new();
        let mut programs = BTreeSet::new();
        for (at, name) in names.into_iter().enumerate() {
            let name = name.as_ref().trim();
            match program_name(name) {
                Ok(program) => {
                    programs.insert(program);
                }
                Err(message) => problems.push(Problem { line: at + 1, column: 1, message }),
            }
        }
        if programs.is_empty() && problems.is_empty() {
            problems.push(Problem {
                line: 1,
                column: 1,
                message: "the list of allowed programs is empty".into(),
            });
        }
        if !problems.is_empty() {
            return Err(RulebookError { problems });
        }
        let (known, unknown): (BTreeSet<_>, BTreeSet<_>) =
            programs.into_iter().partition(|program| is_understood(program.as_str()));
        let mut book = Book::default();
        for (programs, name, understood) in
            [(known, "ALLOWED_COMMANDS", true), (unknown, "ALLOWED_COMMANDS, options not understood", false)]
        {
            if !programs.is_empty() {
                let paths = paths.clone();
                book.rules.push(Rule { name: name.into(), programs, understood, paths, ..Rule::default() });
            }
        }
        book.index();
        Ok(Self { book: Arc::new(book) })
    }

    /// Names the programs that a rule allows although nobody here knows what their options mean, so that only the
    /// confinement bounds them.
    #[must_use]
    pub fn not_understood(&self) -> Vec<ProgramName> {
        let rules = self.book.rules.iter().filter(|rule| rule.allows && !rule.understood);
        let programs = rules.flat_map(|rule| &rule.programs);
        programs.filter(|program| !is_understood(program.as_str())).cloned().collect()
    }

    /// Names every program that some rule allows to somebody, and those that project code may start, in order.
    #[must_use]
    pub fn programs(&self) -> BTreeSet<ProgramName> {
        let started = self.book.rules.iter().filter(|rule| rule.allows).flat_map(|rule| &rule.starts);
        self.named_programs().chain(started).filter(|program| program.as_str() != "cd").cloned().collect()
    }

    /// Names the rules that allow commands to reach some host.
    #[must_use]
    pub fn rules_with_network(&self) -> Vec<&str> {
        let reaches = |rule: &&Rule| match self.book.operations.within(rule.operations).network {
            NetworkBound::Deny => false,
            NetworkBound::Hosts => !rule.hosts.is_empty(),
            NetworkBound::Allow => true,
        };
        let rules = self.book.rules.iter().filter(|rule| rule.allows).filter(reaches);
        rules.map(|rule| rule.name.as_str()).collect()
    }

    /// Visits the programs that somebody may name on a line.
    fn named_programs(&self) -> impl Iterator<Item = &ProgramName> {
        let by_rule = self.book.rules.iter().filter(|rule| rule.allows).flat_map(|rule| &rule.programs);
        let people = self.book.users.values().chain(self.book.roles.values());
        let all: BTreeSet<_> = by_rule.chain(people.flat_map(|one| &one.allow)).collect();
        all.into_iter()
    }

    /// Returns the directory that lines start in and may write.
    #[must_use]
    pub fn workspace(&self) -> &ViewPath {
        &self.book.workspace
    }
}

/// Whether the tables know what a program's words mean.
pub(crate) fn is_understood(program: &str) -> bool {
    static KNOWN: LazyLock<HashSet<&'static str>> = LazyLock::new(|| crate::effects::programs().collect());
    program == "cd" || KNOWN.contains(program)
}

fn program_name(name: &str) -> Result<ProgramName, String> {
    let plain = name.chars().all(|c| c.is_alphanumeric() || "._+-[".contains(c)) && !name.starts_with('-');
    ProgramName::parse(name).filter(|_| plain).ok_or_else(|| {
        format!(
            "`{}` is not the bare name of a program; write it as it stands on a line, such as `ls`",
            name.escape_debug()
        )
    })
}

/// What a rulebook says.
#[derive(Debug, Clone)]
pub(crate) struct Book {
    pub(crate) workspace: ViewPath,
    pub(crate) protected: Vec<ViewPath>,
    /// Paths in protected directories that are not protected.
    pub(crate) exempt: Vec<ViewPath>,
    pub(crate) read_only: Vec<ReadOnly>,
    pub(crate) operations: Operations,
    pub(crate) environment: BTreeSet<String>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) users: BTreeMap<String, Personal>,
    pub(crate) roles: BTreeMap<String, Personal>,
    /// Whether a user that is not listed has what every user has.
    pub(crate) unknown_users: UnknownUsers,
    pub(crate) tests: Vec<TestCase>,
    /// The rules that name a program.
    by_program: HashMap<String, Named>,
}

/// The places of the rules that name a program, by whom they are about.
#[derive(Debug, Clone, Default)]
struct Named {
    general: Vec<usize>,
    users: HashMap<String, Vec<usize>>,
    roles: HashMap<String, Vec<usize>>,
}

impl Default for Book {
    fn default() -> Self {
        let path = |text: &str| ViewPath::resolve(&ViewPath::root(), text);
        Self {
            workspace: path("/workspace"),
            protected: DEFAULT_PROTECTED.map(path).to_vec(),
            exempt: vec![path("/dev/null")],
            read_only: vec![ReadOnly {
                place: Place::Name(".git".into()),
                writers: ProgramName::parse("git").into_iter().collect(),
            }],
            operations: Operations::default(),
            environment: BTreeSet::new(),
            rules: Vec::new(),
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            unknown_users: UnknownUsers::Base,
            tests: Vec::new(),
            by_program: HashMap::new(),
        }
    }
}

impl Book {
    /// Builds the index of rules by program.
    fn index(&mut self) {
        self.by_program.clear();
        for (at, rule) in self.rules.iter().enumerate() {
            for program in &rule.programs {
                let named = self.by_program.entry(program.as_str().to_owned()).or_default();
                if rule.is_general() {
                    named.general.push(at);
                }
                for user in &rule.users {
                    named.users.entry(user.clone()).or_default().push(at);
                }
                for role in &rule.roles {
                    named.roles.entry(role.clone()).or_default().push(at);
                }
            }
        }
    }

    /// Returns the rules that name a program and are about somebody with this name and these roles, in the order of the
    /// file. Rules about others cost nothing.
    pub(crate) fn rules_for<'r>(
        &self,
        program: &str,
        user: &str,
        roles: impl Iterator<Item = &'r str>,
    ) -> Vec<&Rule> {
        let Some(named) = self.by_program.get(program) else { return Vec::new() };
        if named.users.is_empty() && named.roles.is_empty() {
            let mut rules = Vec::with_capacity(named.general.len());
            rules.extend(named.general.iter().filter_map(|&at| self.rules.get(at)));
            return rules;
        }
        let mut places = named.general.clone();
        places.extend(named.users.get(user).into_iter().flatten());
        places.extend(roles.filter_map(|role| named.roles.get(role)).flatten());
        places.sort_unstable();
        places.dedup();
        let mut rules = Vec::with_capacity(places.len());
        rules.extend(places.into_iter().filter_map(|at| self.rules.get(at)));
        rules
    }

    /// Whether some rule allows the program to somebody, and the roles that have it.
    pub(crate) fn allowed_to_others(&self, program: &str) -> Option<Vec<&str>> {
        let named = self.by_program.get(program);
        let allows =
            |places: &Vec<usize>| places.iter().filter_map(|&at| self.rules.get(at)).any(|rule| rule.allows);
        let roles = named.iter().flat_map(|named| &named.roles).filter(|(_, places)| allows(places));
        let roles: BTreeSet<&str> = roles.map(|(role, _)| role.as_str()).collect();
        let by_rule = named.is_some_and(|named| allows(&named.general) || named.users.values().any(allows));
        let people = self.users.values().chain(self.roles.values());
        let by_entry = people.flat_map(|one| &one.allow).any(|name| name.as_str() == program);
        (by_rule || by_entry || !roles.is_empty()).then(|| roles.into_iter().collect())
    }
}

/// What becomes of users that the rulebook does not list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnknownUsers {
    /// They may do what every user may.
    Base,
    /// Nothing.
    Deny,
}

/// A part that is read and not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadOnly {
    pub(crate) place: Place,
    /// Programs that may change it all the same.
    pub(crate) writers: BTreeSet<ProgramName>,
}

/// Where a read-only part is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Everything of this name in the workspace, at any depth.
    Name(String),
    /// One path.
    Path(ViewPath),
}

/// How far each operation is allowed; a later level includes the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operations {
    pub(crate) delete: Bound,
    pub(crate) write: WriteBound,
    pub(crate) execute: Bound,
    pub(crate) network: NetworkBound,
    pub(crate) privilege: Allowance,
}

impl Default for Operations {
    /// What the default policy says: writing by redirection in the workspace, and nothing else.
    fn default() -> Self {
        Self {
            delete: Bound::Deny,
            write: WriteBound::Redirections,
            execute: Bound::Deny,
            network: NetworkBound::Deny,
            privilege: Allowance::Deny,
        }
    }
}

impl Operations {
    /// The widest of all, which narrows nothing.
    pub(crate) const ALL: Self = Self {
        delete: Bound::Allow,
        write: WriteBound::Allow,
        execute: Bound::Allow,
        network: NetworkBound::Allow,
        privilege: Allowance::Allow,
    };

    /// Returns what both allow.
    pub(crate) fn within(self, other: Self) -> Self {
        Self {
            delete: self.delete.min(other.delete),
            write: self.write.min(other.write),
            execute: self.execute.min(other.execute),
            network: self.network.min(other.network),
            privilege: self.privilege.min(other.privilege),
        }
    }
}

/// How far deleting and executing are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bound {
    Deny,
    /// What lies in the workspace. For executing: project code there, and commands that a wrapper runs and that
    /// are judged themselves.
    Workspace,
    Allow,
}

/// How far writing is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WriteBound {
    Deny,
    /// In the workspace, and by `>` and `>>` alone.
    Redirections,
    Workspace,
    Allow,
}

/// How far the network is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NetworkBound {
    Deny,
    /// The hosts that the rule lists.
    Hosts,
    Allow,
}

/// Whether something is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Allowance {
    Deny,
    Allow,
}

/// One rule: it allows, or denies, some programs to some users within some bounds.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) name: String,
    /// Its line in the file; `None` when it was not read from one.
    pub(crate) line: Option<usize>,
    /// Whether it allows what it matches; otherwise it denies it.
    pub(crate) allows: bool,
    pub(crate) programs: BTreeSet<ProgramName>,
    /// The sub-commands it is about; all when empty.
    pub(crate) subcommands: BTreeSet<String>,
    /// Allowing: the only options that may be given, all when empty. Denying: unused.
    pub(crate) options_allowed: BTreeSet<String>,
    /// Allowing: options that may not be given. Denying: it matches when one of these is given.
    pub(crate) options_denied: BTreeSet<String>,
    /// Allowing: where everything it touches must lie, anywhere when empty. Denying: it matches when something
    /// touched lies there.
    pub(crate) paths: Vec<ViewPath>,
    pub(crate) hosts: Vec<Host>,
    /// Whom it is about, by name or role; everybody when both are empty.
    pub(crate) users: BTreeSet<String>,
    pub(crate) roles: BTreeSet<String>,
    /// Narrows the file's; the widest of all when the rule says nothing.
    pub(crate) operations: Operations,
    /// The operations that the rule itself speaks of.
    pub(crate) spoken: BTreeSet<&'static str>,
    pub(crate) environment: BTreeSet<String>,
    pub(crate) limits: RuleLimits,
    /// Programs that the rule's programs may start by themselves, beside what the words say.
    pub(crate) starts: BTreeSet<ProgramName>,
    /// Whether programs without a table are refused (`true`) or bounded by the confinement alone.
    pub(crate) understood: bool,
    pub(crate) reason: Option<String>,
    pub(crate) suggestion: Option<String>,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            name: String::new(),
            line: None,
            allows: true,
            programs: BTreeSet::new(),
            subcommands: BTreeSet::new(),
            options_allowed: BTreeSet::new(),
            options_denied: BTreeSet::new(),
            paths: Vec::new(),
            hosts: Vec::new(),
            users: BTreeSet::new(),
            roles: BTreeSet::new(),
            operations: Operations::ALL,
            spoken: BTreeSet::new(),
            environment: BTreeSet::new(),
            limits: RuleLimits::default(),
            starts: BTreeSet::new(),
            understood: true,
            reason: None,
            suggestion: None,
        }
    }
}

impl Rule {
    /// Narrows limits to the rule's own.
    pub(crate) fn narrow(&self, limits: &mut Limits) {
        let own = &self.limits;
        limits.wall_time = own.time.map_or(limits.wall_time, |time| time.min(limits.wall_time));
        limits.cpu_time = own.cpu.map_or(limits.cpu_time, |time| time.min(limits.cpu_time));
        limits.memory_bytes =
            own.memory_bytes.map_or(limits.memory_bytes, |bytes| bytes.min(limits.memory_bytes));
        limits.processes = own.processes.map_or(limits.processes, |count| count.min(limits.processes));
        limits.output_bytes =
            own.output_bytes.map_or(limits.output_bytes, |bytes| bytes.min(limits.output_bytes));
    }

    /// Returns the rule's name and place, for a denial.
    pub(crate) fn reference(&self) -> RuleRef {
        RuleRef { name: self.name.clone(), line: self.line }
    }

    /// Whether the rule is about everybody.
    pub(crate) fn is_general(&self) -> bool {
        self.users.is_empty() && self.roles.is_empty()
    }
}

/// A host that a rule allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) scheme: String,
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// Bounds of a rule, below the service's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RuleLimits {
    pub(crate) time: Option<Duration>,
    pub(crate) cpu: Option<Duration>,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) processes: Option<u32>,
    pub(crate) output_bytes: Option<u64>,
}

/// What one user, or everybody in a role, has beside what everybody has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Personal {
    pub(crate) disabled: bool,
    /// Programs it may run too.
    pub(crate) allow: BTreeSet<ProgramName>,
    /// Programs it may not run; wins over everything.
    pub(crate) deny: BTreeSet<ProgramName>,
    /// The only programs it may run.
    pub(crate) only: Option<BTreeSet<ProgramName>>,
    /// Protected directories that are open to it.
    pub(crate) open: Vec<ViewPath>,
    /// Directories it may write beside the workspace.
    pub(crate) write: Vec<ViewPath>,
    pub(crate) environment: BTreeSet<String>,
    /// Roles it has in this rulebook beside those it was authenticated with.
    pub(crate) roles: BTreeSet<String>,
    pub(crate) reason: Option<String>,
}
