//! `make`, `cargo`, `npm`, `node`, `python3`: what they run is the code of a project.
//!
//! Code in a file or directory is an [`EffectKind::Execute`] on its path; code on the line, from standard input or from
//! a place that configuration names is one that cannot be bounded. What project code does is the sandbox's to hold.

use portcullis_core::Word;

use super::options::{self, Count, Operand, Reading};
use super::roles::{self, Extent, ITSELF};
use super::unseen::{is_unseen, may_be_option, seen_text};
use super::words::{implied, leading_text, without_prefix};
use super::{EffectKind, Effects, Reach, Unknown, table};

const ENTRY: Extent = Extent { reach: Reach::Entry, follow_links: false };

/// Adds that the project in the directory in force is run.
fn project(effects: &mut Effects, via: &str) {
    effects.path(EffectKind::Execute, implied("."), ITSELF, None, via);
    effects.path(EffectKind::Write, implied("."), ENTRY, None, via);
}

/// Words that a project's own program gets: what looks like a path may be read.
fn handed_on(operands: &[Operand], effects: &mut Effects) {
    for operand in operands {
        let word = &operand.word;
        let text = leading_text(word);
        let value = text.find('=').and_then(|at| without_prefix(word, at + 1));
        for path in std::iter::once(word.to_word()).chain(value) {
            if operand.count != Count::One
                || path.to_unmatched().contains('/')
                || path.as_literal() == Some("..")
            {
                effects.path(EffectKind::Read, path, ITSELF, Some(operand.argument), "operand");
            }
        }
    }
}

/// Variables that by custom say where the project writes, or what it takes; their values may be paths.
const MAKE_PLACES: [&str; 12] = [
    "BUILDDIR",
    "BUILD_DIR",
    "CONFIG",
    "DESTDIR",
    "FILE",
    "OUT",
    "OUTDIR",
    "OUTPUT",
    "PREFIX",
    "TARGET",
    "TEST",
    "TESTS",
];

/// Variables that by custom hold options for a compiler.
const MAKE_FLAGS: [&str; 4] = ["CFLAGS", "CPPFLAGS", "CXXFLAGS", "LDFLAGS"];

/// What names of variables hold that name programs, or options for programs.
const MAKE_SUSPECTS: [&str; 30] = [
    "CARGO", "COMMAND", "COMPIL", "CROSS", "CURL", "DOCKER", "EDITOR", "EMULAT", "FLAGS", "INSTALL",
    "INTERP", "JAVA", "LAUNCH", "LINK", "MAKE", "NODE", "PAGER", "PERL", "PLUGIN", "PRELOAD", "PYTHON",
    "RANLIB", "RUBY", "RUNNER", "RUST", "SCRIPT", "SHELL", "STRIP", "SUDO", "WRAP",
];

/// The same for whole words of a name: `HOST_CC`.
const MAKE_SUSPECT_WORDS: [&str; 45] = [
    "AR", "AS", "AWK", "BASH", "BIN", "CAT", "CC", "CMD", "CO", "CP", "CPP", "CXX", "ECHO", "EVAL", "EXE",
    "EXEC", "FC", "GET", "GIT", "GO", "GREP", "HOOK", "LD", "LEX", "LINT", "LN", "M2C", "MV", "NM", "NPM",
    "OBJCOPY", "OBJDUMP", "PATH", "PC", "PRE", "PROG", "PROGRAM", "RM", "RUN", "SED", "SH", "TAR", "TEX",
    "TOOL", "YACC",
];

/// Whether a variable is one that a project reads, and not one that names a program. What a makefile of the project
/// makes of it is its own code, which the caller may run anyway.
fn is_setting(name: &str, value: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    if MAKE_FLAGS.contains(&name) {
        return value.split(' ').all(is_compiler_flag);
    }
    if MAKE_PLACES.contains(&name) {
        return value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.+,:@/ ".contains(&byte));
    }
    let suspect = MAKE_SUSPECTS.iter().any(|part| upper.contains(part))
        || upper.split('_').any(|word| MAKE_SUSPECT_WORDS.contains(&word));
    !suspect && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.+:@".contains(&byte))
}

/// Whether an option of a compiler chooses no program and no file.
fn is_compiler_flag(flag: &str) -> bool {
    const BEGINNINGS: [&str; 7] = ["-D", "-O", "-W", "-g", "-l", "-m", "-std="];
    let plain = flag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-=+".contains(&byte));
    plain && (flag.is_empty() || BEGINNINGS.iter().any(|beginning| flag.starts_with(beginning)))
}

/// Variables of `make` that choose programs whatever their value.
const MAKE_PROGRAMS: [&str; 8] =
    [".SHELLFLAGS", "GNUMAKEFLAGS", "MAKE", "MAKEFILES", "MAKEFILE_LIST", "MAKEFLAGS", "MFLAGS", "SHELL"];

/// Adds what `make` runs.
pub(super) fn make(reading: &Reading, effects: &mut Effects) -> Result<(), Unknown> {
    for operand in &reading.operands {
        if is_unseen(&operand.word.to_unmatched()) {
            let why = "variables that are not on the line can name programs";
            effects.unbounded(EffectKind::Execute, why, Some(operand.argument), "operand");
            continue;
        }
        let Some(text) = operand.word.as_literal() else {
            let problem = "a pattern may match `NAME=VALUE`; name the targets".into();
            return Err(Unknown::Usage { problem, argument: Some(operand.argument) });
        };
        let Some((name, value)) = text.split_once('=') else { continue };
        let plain_name =
            name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !MAKE_PROGRAMS.contains(&name);
        if plain_name && is_setting(name, value) {
            // Where the project writes by it, and what it reads by it, must be in bounds like an operand.
            for path in value.split([' ', ',', ':']).filter(|part| part.contains('/') || *part == "..") {
                let path = implied(path);
                effects.path(EffectKind::Write, path, ENTRY, Some(operand.argument), "operand");
            }
            continue;
        }
        let switch = matches!(value, "" | "yes" | "no" | "true" | "false" | "on" | "off" | "y" | "n");
        if !(plain_name && (switch || value.bytes().all(|byte| byte.is_ascii_digit()))) {
            let why = "a variable can name a program";
            effects.unbounded(EffectKind::Execute, why, Some(operand.argument), "operand");
        }
    }
    if !reading.marked("info") {
        project(effects, "the makefile");
    }
    effects.helpers.extend(["make".to_owned(), "sh".to_owned()]);
    Ok(())
}

/// Short names of `cargo`'s sub-commands.
const CARGO_ALIASES: [(&str, &str); 5] =
    [("b", "build"), ("c", "check"), ("d", "doc"), ("r", "run"), ("t", "test")];

/// Sub-commands of `cargo` that reach a registry.
const CARGO_NETWORK: [&str; 13] = [
    "add", "fetch", "info", "install", "login", "logout", "owner", "package", "publish", "search", "update",
    "vendor", "yank",
];

/// Reads the words of `cargo`.
pub(super) fn cargo(arguments: &[Word], effects: &mut Effects) -> Result<(), Unknown> {
    let Some(global) = table::find("cargo/+global") else { return Err(Unknown::Program) };
    if arguments.first().is_some_and(|word| leading_text(word).starts_with('+')) {
        effects.unbounded(EffectKind::Execute, "chooses another toolchain", Some(0), "operand");
        return Ok(());
    }
    let reading = options::read(global, arguments)?;
    roles::apply_options(&reading, effects);
    effects.environment.push(("CARGO_NET_OFFLINE".into(), "true".into()));
    const HELPERS: [&str; 12] = [
        "ar",
        "as",
        "cargo",
        "cargo-clippy",
        "cargo-fmt",
        "cc",
        "clippy-driver",
        "gcc",
        "ld",
        "rustc",
        "rustdoc",
        "rustfmt",
    ];
    effects.helpers.extend(HELPERS.map(str::to_owned));
    let Some(operand) = reading.operands.first() else { return Ok(()) };
    let at = operand.argument;
    let Some(name) = seen_text(&operand.word) else {
        return Err(Unknown::Usage {
            problem: "the sub-command is not on the line".into(),
            argument: Some(at),
        });
    };
    let name = CARGO_ALIASES.iter().find(|(short, _)| *short == name).map_or(name, |(_, long)| long);
    effects.subcommand = Some(name.to_owned());
    let table = table::find(&format!("cargo/{name}")).filter(|_| !name.starts_with('+'));
    let Some(table) = table else {
        let kind = if CARGO_NETWORK.contains(&name) { EffectKind::Network } else { EffectKind::Execute };
        effects.unbounded(kind, "the sub-command's words are not understood", Some(at), "sub-command");
        return Ok(());
    };
    let words = arguments.get(at + 1..).unwrap_or_default();
    let mut own = Effects::default();
    let reading = options::read(table, words).map_err(|problem| problem.moved(at + 1))?;
    roles::apply(table, &reading, &mut own).map_err(|problem| problem.moved(at + 1))?;
    // A target is a name, or a file that says which linker to start.
    for given in reading.given.iter().filter(|given| given.option.names.contains(&"--target")) {
        for (value, argument) in &given.values {
            let text = value.to_unmatched();
            if text.contains(['/', '.']) || value.is_glob() || is_unseen(&text) {
                own.path(EffectKind::Execute, value.to_word(), ITSELF, Some(*argument), "option `--target`");
            }
        }
    }
    if name == "clippy" {
        lint_levels(&reading.operands, &mut own);
    }
    handed_on(&reading.operands, &mut own);
    match name {
        "metadata" => own.path(EffectKind::Read, implied("."), ITSELF, None, "the project"),
        "fmt" if reading.marked("check") => {
            own.path(EffectKind::Read, implied("."), ITSELF, None, "the project")
        }
        "fmt" => own.path(EffectKind::Write, implied("."), ENTRY, None, "the project"),
        _ => project(&mut own, "the project"),
    }
    effects.append_moved(own, at + 1);
    Ok(())
}

/// Behind `--`, `clippy` takes the compiler's options, and those can name programs: lint levels cannot.
fn lint_levels(operands: &[Operand], effects: &mut Effects) {
    const LEVELS: [&str; 10] =
        ["-A", "-D", "-F", "-W", "--allow", "--cap-lints", "--deny", "--force-warn", "--forbid", "--warn"];
    let mut words = operands.iter().peekable();
    while let Some(operand) = words.next() {
        let text = seen_text(&operand.word).unwrap_or_default();
        let level = LEVELS.iter().find(|level| text.starts_with(**level));
        let value = match level {
            Some(level) if text == *level => words.next().and_then(|next| seen_text(&next.word)),
            Some(level) => text.get(level.len()..),
            None => None,
        };
        let is_lint =
            |value: &str| value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-:=,".contains(&byte));
        if operand.count != Count::One || !value.is_some_and(is_lint) {
            let why = "an option of the compiler can name a program";
            effects.unbounded(EffectKind::Execute, why, Some(operand.argument), "operand");
        }
    }
}

/// Sub-commands of `npm` that reach a registry.
const NPM_NETWORK: [&str; 27] = [
    "access",
    "add",
    "adduser",
    "audit",
    "ci",
    "create",
    "dedupe",
    "deprecate",
    "diff",
    "dist-tag",
    "i",
    "info",
    "init",
    "install",
    "it",
    "login",
    "outdated",
    "ping",
    "publish",
    "search",
    "show",
    "token",
    "un",
    "uninstall",
    "unpublish",
    "update",
    "view",
];

/// Adds what `npm` runs.
pub(super) fn npm(reading: &Reading, effects: &mut Effects) -> Result<(), Unknown> {
    for (name, value) in [("npm_config_offline", "true"), ("npm_config_update_notifier", "false")] {
        effects.environment.push((name.into(), value.into()));
    }
    effects.helpers.extend(["node", "npm", "sh"].map(str::to_owned));
    let Some(first) = reading.operands.first() else { return Ok(()) };
    let Some(name) = seen_text(&first.word) else {
        let why = "the sub-command is not on the line";
        effects.unbounded(EffectKind::Execute, why, Some(first.argument), "operand");
        return Ok(());
    };
    let canonical = match name {
        "t" | "tst" => "test",
        "rum" | "urn" | "run-script" => "run",
        other => other,
    };
    effects.subcommand = Some(canonical.to_owned());
    if !matches!(canonical, "run" | "test") {
        let kind = if NPM_NETWORK.contains(&canonical) { EffectKind::Network } else { EffectKind::Execute };
        effects.unbounded(
            kind,
            "the sub-command's words are not understood",
            Some(first.argument),
            "sub-command",
        );
        return Ok(());
    }
    for given in reading.given.iter().filter(|given| given.option.marks.contains(&"workspace")) {
        for (value, argument) in &given.values {
            effects.path(
                EffectKind::Execute,
                value.to_word(),
                ITSELF,
                Some(*argument),
                "option `--workspace`",
            );
        }
    }
    handed_on(reading.operands.get(1..).unwrap_or_default(), effects);
    project(effects, "the project's scripts");
    Ok(())
}

/// Adds what `node` runs.
pub(super) fn node(reading: &Reading, effects: &mut Effects) -> Result<(), Unknown> {
    if reading.marked("info") && reading.operands.is_empty() {
        return Ok(());
    }
    if reading.marked("profile") {
        effects.path(EffectKind::Write, implied("."), ENTRY, None, "profiles");
    }
    // What V8 makes of a separate value no manual says: it may be the script.
    let detached = reading
        .given
        .iter()
        .find(|given| given.option.marks.contains(&"attached") && given.values.is_empty());
    if let Some(given) = detached {
        return Err(Unknown::Usage {
            problem: format!("`{}` wants its value behind `=`", given.written),
            argument: Some(given.argument),
        });
    }
    if reading.marked("test") {
        for operand in &reading.operands {
            let argument = Some(operand.argument);
            effects.path(EffectKind::Execute, operand.word.to_word(), ITSELF, argument, "operand");
        }
        project(effects, "the project's tests");
        return Ok(());
    }
    if let Some(first) =
        reading.operands.first().filter(|first| matches!(first.word.as_literal(), Some("inspect" | "debug")))
    {
        effects.unbounded(EffectKind::Network, "opens a port", Some(first.argument), "operand");
    }
    script_file(&reading.operands, effects)
}

/// The first operand is a file with code, the others are its own.
fn script_file(operands: &[Operand], effects: &mut Effects) -> Result<(), Unknown> {
    let Some((file, rest)) = operands.split_first() else {
        let why = "code comes from standard input";
        effects.unbounded(EffectKind::Execute, why, None, "standard input");
        return Ok(());
    };
    let (argument, via) = (Some(file.argument), "operand");
    if may_be_option(&file.word) || file.word.as_literal() == Some("-") {
        effects.unbounded(EffectKind::Execute, "code comes from standard input", argument, via);
        return Ok(());
    }
    effects.path(EffectKind::Execute, file.word.to_word(), ITSELF, argument, via);
    effects.path(EffectKind::Write, implied("."), ENTRY, None, "the code that is run");
    handed_on(rest, effects);
    Ok(())
}

/// Modules of Python that run a project's tests.
const TEST_MODULES: [&str; 2] = ["pytest", "unittest"];

/// Reads the words of `python3`. Behind `-c`, `-m` and the first operand, words belong to the code.
pub(super) fn python(program: &str, arguments: &[Word], effects: &mut Effects) -> Result<(), Unknown> {
    let table = table::find(program).ok_or(Unknown::Program)?;
    let mut length = arguments.len();
    let mut reading = options::read(table, arguments);
    // `-c` and `-m` end the options, so what follows must not be read as such.
    for end in 1..=arguments.len() {
        let Ok(begun) = options::read(table, arguments.get(..end).unwrap_or_default()) else { continue };
        if begun.marked("ends") {
            length = end;
            reading = Ok(begun);
            break;
        }
    }
    let reading = reading?;
    roles::apply_options(&reading, effects);
    effects.helpers.push("python3".to_owned());
    for given in &reading.given {
        let Some((value, argument)) = given.values.first() else { continue };
        let text = seen_text(value).unwrap_or_default();
        let harmless = match given.option.marks.first() {
            Some(&"extension") => {
                matches!(text, "dev" | "faulthandler" | "importtime" | "tracemalloc" | "utf8" | "utf8=1")
            }
            Some(&"warnings") => text.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b':'),
            _ => true,
        };
        if !harmless {
            let problem = format!("`{}` with this value can load code or write files", given.written);
            return Err(Unknown::Usage { problem, argument: Some(*argument) });
        }
    }
    let Some(module) = reading.last("-m") else {
        if reading.marked("ends") || (reading.marked("info") && reading.operands.is_empty()) {
            return Ok(());
        }
        return script_file(&reading.operands, effects);
    };
    let Some((name, argument)) = module.values.first() else { return Ok(()) };
    let known = seen_text(name).filter(|name| TEST_MODULES.contains(name));
    if known.is_none() {
        let why = format!("the module `{}` is run", name.to_unmatched());
        effects.unbounded(EffectKind::Execute, &why, Some(*argument), "option `-m`");
        return Ok(());
    }
    effects.subcommand = known.map(str::to_owned);
    for (index, word) in arguments.iter().enumerate().skip(length) {
        let text = leading_text(word);
        let names_code =
            ["-p", "-c", "-o", "--pdbcls", "--override-ini"].iter().any(|option| text.starts_with(option));
        let switches_off = text.starts_with("-pno:")
            || text == "-p"
                && arguments.get(index + 1).is_some_and(|next| leading_text(next).starts_with("no:"));
        if known == Some("pytest") && names_code && !switches_off {
            let why = "an option of the test runner names code";
            effects.unbounded(EffectKind::Execute, why, Some(index), &format!("option `{text}`"));
        }
        let value = text.find('=').and_then(|at| without_prefix(word, at + 1));
        for path in std::iter::once(word.clone()).chain(value) {
            if path.is_glob() || path.to_unmatched().contains('/') || path.as_literal() == Some("..") {
                effects.path(EffectKind::Execute, path, ITSELF, Some(index), "operand");
            }
        }
    }
    project(effects, "the project's tests");
    Ok(())
}
