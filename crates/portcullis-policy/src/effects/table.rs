//! The tables: what each program's options and operands mean, as text a contributor can add to.
//!
//! A table is a paragraph of lines:
//!
//! ```text
//! program sort
//!   style gnu
//!   operands read...
//!   -u --unique, -k --key =text
//!   -o --output =write
//!   --compress-program =program
//! ```
//!
//! `program NAME…` opens it; programs that share a table stand on one line; `git/log` is the sub-command `log` of `git`.
//! `style` says how the program reads options:
//! - `gnu`: `getopt_long`: long names may be shortened, options count also behind operands;
//! - `exact`: long names are written out, options count also behind operands;
//! - `first`: behind the first operand nothing is an option (joined with `gnu` or `exact`);
//! - `single`: long names have one dash (`-name`), and there are no bundles;
//! - `digits`: `-5` is an option; `equals`: `-o=FILE` means `-o FILE`; `no-terminator`: `--` is no terminator;
//!   `negatable`: `--no-NAME` undoes `--NAME`.
//!
//! `operands ROLE…` says what the operands are by position; `ROLE...` may repeat. With `@mark` it applies when options
//! with those marks are given. `include NAME…` takes over the options of tables above. `default ROLE PATH` applies without any operand. `marks @mark…` are always set.
//! `opaque` says that the words are not told apart, and `always KIND why` what the program can do whatever they are.
//!
//! An option line holds options, parted by commas: its names, `=ROLE` for each value it takes (`[=ROLE]` when the
//! value is optional and attached), marks, and `!KIND why` for what giving it does. `#` at the beginning of a line opens a comment.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::EffectKind;

/// The text of every table.
const SOURCES: &[(&str, &str)] = &[
    ("table/coreutils.txt", include_str!("table/coreutils.txt")),
    ("table/search.txt", include_str!("table/search.txt")),
    ("table/git.txt", include_str!("table/git.txt")),
    ("table/files.txt", include_str!("table/files.txt")),
    ("table/wrappers.txt", include_str!("table/wrappers.txt")),
    ("table/build.txt", include_str!("table/build.txt")),
    ("table/network.txt", include_str!("table/network.txt")),
    ("table/opaque.txt", include_str!("table/opaque.txt")),
];

/// How a program reads its options.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Style {
    /// Long names may be shortened to any prefix that means one option.
    pub(super) abbreviated: bool,
    /// Behind the first operand nothing is an option.
    pub(super) first: bool,
    /// Long names have one dash, and short ones are not bundled.
    pub(super) single: bool,
    /// `-5` is an option.
    pub(super) digits: bool,
    /// `-o=FILE` means `-o FILE`.
    pub(super) equals: bool,
    /// `--` does not end the options.
    pub(super) no_terminator: bool,
    /// `--no-NAME` undoes `--NAME`.
    pub(super) negatable: bool,
}

/// What a value or an operand is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// No path: text, a number, a pattern.
    Text,
    /// A file (with the mark `recursive`: a tree) that is read; `-` is standard input.
    Read,
    /// A file that is read and holds names of files that are read.
    Names,
    /// Files that are read, joined by colons.
    Paths,
    /// A path that is looked at or listed.
    Examine,
    /// A file that is written.
    Write,
    /// A file that is written; `-` is standard output.
    Output,
    /// What the names of written files begin with.
    Prefix,
    /// A directory in which entries are written, or a file that is.
    Into,
    /// A path that is removed.
    Delete,
    /// A file that is rewritten: read and written.
    Change,
    /// A file or directory with code that is run.
    Code,
    /// A program that is started.
    Program,
    /// A command that is run by a shell.
    Command,
    /// A host or address that is reached.
    Network,
    /// A user, group or mode that changes privilege.
    Privilege,
}

impl Role {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "text" => Self::Text,
            "read" => Self::Read,
            "names" => Self::Names,
            "paths" => Self::Paths,
            "examine" => Self::Examine,
            "write" => Self::Write,
            "output" => Self::Output,
            "prefix" => Self::Prefix,
            "into" => Self::Into,
            "delete" => Self::Delete,
            "change" => Self::Change,
            "code" => Self::Code,
            "program" => Self::Program,
            "command" => Self::Command,
            "network" => Self::Network,
            "privilege" => Self::Privilege,
            _ => return None,
        })
    }

    /// Returns the kinds of effect that a word of this role can have beside reading.
    pub(super) fn harms(self) -> &'static [EffectKind] {
        match self {
            Self::Text | Self::Read | Self::Names | Self::Paths | Self::Examine => &[],
            Self::Write | Self::Output | Self::Prefix | Self::Into | Self::Change => &[EffectKind::Write],
            Self::Delete => &[EffectKind::Delete],
            Self::Code | Self::Program | Self::Command => &[EffectKind::Execute],
            Self::Network => &[EffectKind::Network],
            Self::Privilege => &[EffectKind::Privilege],
        }
    }
}

/// Whether an option takes values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Takes {
    /// It does not.
    Nothing,
    /// One, attached to its word, or none.
    Perhaps(Role),
    /// These, in the rest of the word or in the next words.
    Values(Vec<Role>),
}

/// One option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opt {
    /// Its names with their dashes.
    pub(super) names: Vec<&'static str>,
    /// The values it takes.
    pub(super) takes: Takes,
    /// The marks that it sets.
    pub(super) marks: Vec<&'static str>,
    /// What giving it does.
    pub(super) does: Option<(EffectKind, &'static str)>,
}

impl Opt {
    /// Returns the name that rules and messages use: the first long one, else the first.
    pub(super) fn canonical(&self) -> &'static str {
        let long = self.names.iter().find(|name| name.starts_with("--"));
        long.or(self.names.first()).copied().unwrap_or_default()
    }

    /// Returns the kinds of effect that giving it can have beside reading.
    pub(super) fn harms(&self) -> impl Iterator<Item = EffectKind> {
        let roles: &[Role] = match &self.takes {
            Takes::Nothing => &[],
            Takes::Perhaps(role) => std::slice::from_ref(role),
            Takes::Values(roles) => roles,
        };
        let does = self.does.iter().map(|(kind, _)| *kind);
        does.chain(roles.iter().flat_map(|role| role.harms().iter().copied()))
    }
}

/// What the operands are by position.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Operands {
    /// The marks under which this applies.
    pub(super) marks: Vec<&'static str>,
    /// Those before the ones that repeat.
    pub(super) before: Vec<Role>,
    /// What may repeat.
    pub(super) repeated: Option<Role>,
    /// Those behind the ones that repeat, counted from the last operand.
    pub(super) behind: Vec<Role>,
}

/// What a program's words mean.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Table {
    /// How it reads options.
    pub(super) style: Style,
    /// Its options.
    pub(super) options: Vec<Opt>,
    /// Its operands; the one with the most marks that are set applies.
    pub(super) operands: Vec<Operands>,
    /// The paths it uses when no operand is given, each under its marks.
    pub(super) defaults: Vec<(Vec<&'static str>, Role, &'static str)>,
    /// Marks that are always set.
    pub(super) marks: Vec<&'static str>,
    /// Whether its words are not told apart.
    pub(super) opaque: bool,
    /// What it can do whatever its words are.
    pub(super) always: Vec<(EffectKind, &'static str)>,
}

impl Table {
    /// Returns the kinds of effect that giving an option can have beside reading, also by what it makes of operands.
    pub(super) fn harms_of(&self, option: &Opt) -> Vec<EffectKind> {
        let mut kinds: Vec<EffectKind> = option.harms().collect();
        for operands in &self.operands {
            if operands.marks.iter().any(|mark| option.marks.contains(mark)) {
                let roles = operands.before.iter().chain(&operands.repeated).chain(&operands.behind);
                kinds.extend(roles.flat_map(|role| role.harms()));
            }
        }
        kinds
    }
}

/// Returns a program's table (`git/log` for a sub-command's).
pub(super) fn find(name: &str) -> Option<&'static Table> {
    TABLES.as_ref().ok()?.get(name)
}

/// Names every table.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TABLES.iter().flat_map(|tables| tables.keys().copied())
}

type Tables = BTreeMap<&'static str, Table>;

/// The tables, read once. A mistake in them is found by a test; it would make every program unknown, which denies.
static TABLES: LazyLock<Result<Tables, String>> = LazyLock::new(|| {
    let mut tables = Tables::new();
    for (file, text) in SOURCES {
        read(text, &mut tables).map_err(|(line, problem)| format!("{file}:{line}: {problem}"))?;
    }
    Ok(tables)
});

fn read(text: &'static str, tables: &mut Tables) -> Result<(), (usize, String)> {
    let mut open: Option<(Vec<&'static str>, Table)> = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        read_line(line, &mut open, tables).map_err(|problem| (index + 1, problem))?;
    }
    close(&mut open, tables).map_err(|problem| (text.lines().count(), problem))
}

fn close(open: &mut Option<(Vec<&'static str>, Table)>, tables: &mut Tables) -> Result<(), String> {
    let Some((names, table)) = open.take() else { return Ok(()) };
    for name in names {
        if tables.insert(name, table.clone()).is_some() {
            return Err(format!("`{name}` has two tables"));
        }
    }
    Ok(())
}

fn read_line(
    line: &'static str,
    open: &mut Option<(Vec<&'static str>, Table)>,
    tables: &mut Tables,
) -> Result<(), String> {
    if let Some(names) = line.strip_prefix("program ") {
        close(open, tables)?;
        *open = Some((names.split_whitespace().collect(), Table::default()));
        return Ok(());
    }
    let Some((_, table)) = open else { return Err("a line before the first `program`".into()) };
    if line.starts_with('-') {
        for item in line.split(',') {
            let option = read_option(item.trim())?;
            if let Some(name) =
                option.names.iter().find(|name| table.options.iter().any(|o| o.names.contains(name)))
            {
                return Err(format!("`{name}` is given twice"));
            }
            table.options.push(option);
        }
        return Ok(());
    }
    let (keyword, rest) = line.split_once(' ').unwrap_or((line, ""));
    let words = rest.split_whitespace();
    match keyword {
        "style" => {
            let mut words = words;
            words.try_for_each(|word| set_style(&mut table.style, word))
        }
        "marks" => {
            table.marks.extend(words.filter_map(|word| word.strip_prefix('@')));
            Ok(())
        }
        "operands" => {
            table.operands.push(read_operands(words)?);
            Ok(())
        }
        "default" => {
            let (marks, others): (Vec<_>, Vec<_>) = words.partition(|word| word.starts_with('@'));
            let &[role, path] = others.as_slice() else {
                return Err("`default` wants a role and a path".into());
            };
            let role = Role::parse(role).ok_or_else(|| format!("`{role}` is no role"))?;
            let marks = marks.into_iter().filter_map(|mark| mark.strip_prefix('@')).collect();
            table.defaults.push((marks, role, path));
            Ok(())
        }
        "opaque" => {
            table.opaque = true;
            Ok(())
        }
        "always" => {
            let (kind, why) = rest.split_once(' ').ok_or("`always` wants a kind and a reason")?;
            table.always.push((read_kind(kind)?, why.trim()));
            Ok(())
        }
        "include" => {
            for name in words {
                let other = tables.get(name).ok_or_else(|| format!("`{name}` is not known above"))?;
                table.options.extend(other.options.iter().cloned());
            }
            Ok(())
        }
        other => Err(format!("`{other}` is no keyword")),
    }
}

fn set_style(style: &mut Style, word: &str) -> Result<(), String> {
    match word {
        "gnu" => style.abbreviated = true,
        "exact" => {}
        "first" => style.first = true,
        "single" => style.single = true,
        "digits" => style.digits = true,
        "equals" => style.equals = true,
        "no-terminator" => style.no_terminator = true,
        "negatable" => style.negatable = true,
        other => return Err(format!("`{other}` is no style")),
    }
    Ok(())
}

fn read_operands(words: impl Iterator<Item = &'static str>) -> Result<Operands, String> {
    let mut operands = Operands::default();
    for word in words {
        if let Some(mark) = word.strip_prefix('@') {
            operands.marks.push(mark);
            continue;
        }
        let name = word.strip_suffix("...").unwrap_or(word);
        let role = Role::parse(name).ok_or_else(|| format!("`{name}` is no role"))?;
        match (word.ends_with("..."), operands.repeated) {
            (true, None) => operands.repeated = Some(role),
            (true, Some(_)) => return Err("only one role may repeat".into()),
            (false, None) => operands.before.push(role),
            (false, Some(_)) => operands.behind.push(role),
        }
    }
    Ok(operands)
}

fn read_option(item: &'static str) -> Result<Opt, String> {
    let mut option = Opt { names: Vec::new(), takes: Takes::Nothing, marks: Vec::new(), does: None };
    let (item, does) = match item.split_once('!') {
        Some((item, does)) => (item, Some(does)),
        None => (item, None),
    };
    if let Some(does) = does {
        let (kind, why) = does.split_once(' ').ok_or("`!KIND` wants a reason")?;
        option.does = Some((read_kind(kind)?, why.trim()));
    }
    for word in item.split_whitespace() {
        if let Some(mark) = word.strip_prefix('@') {
            option.marks.push(mark);
        } else if word.starts_with('-') {
            option.names.push(word);
        } else if let Some(role) = word.strip_prefix("[=").and_then(|rest| rest.strip_suffix(']')) {
            let role = Role::parse(role).ok_or_else(|| format!("`{role}` is no role"))?;
            option.takes = Takes::Perhaps(role);
        } else if let Some(role) = word.strip_prefix('=') {
            let role = Role::parse(role).ok_or_else(|| format!("`{role}` is no role"))?;
            match &mut option.takes {
                Takes::Values(roles) => roles.push(role),
                takes => *takes = Takes::Values(vec![role]),
            }
        } else {
            return Err(format!("`{word}` is neither name, value nor mark"));
        }
    }
    if option.names.is_empty() { Err(format!("`{item}` names no option")) } else { Ok(option) }
}

fn read_kind(text: &str) -> Result<EffectKind, String> {
    Ok(match text {
        "read" => EffectKind::Read,
        "examine" => EffectKind::Examine,
        "write" => EffectKind::Write,
        "delete" => EffectKind::Delete,
        "execute" => EffectKind::Execute,
        "network" => EffectKind::Network,
        "privilege" => EffectKind::Privilege,
        other => return Err(format!("`{other}` is no kind of effect")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_well_formed() {
        if let Err(problem) = &*TABLES {
            panic!("{problem}");
        }
    }

    #[test]
    fn mistakes_are_found_with_their_line() {
        for (text, wanted) in [
            ("-x", (1, "a line before the first `program`")),
            ("program a\n  -x =colour", (2, "`colour` is no role")),
            ("program a\n  operands read... write...", (2, "only one role may repeat")),
            ("program a\n  -x\n  -x", (3, "`-x` is given twice")),
            ("program a\nprogram a", (2, "`a` has two tables")),
        ] {
            let found = read(text, &mut Tables::new()).unwrap_err();
            assert_eq!((found.0, found.1.as_str()), wanted, "{text}");
        }
    }
}
