//! Makes a [`Book`] of a TOML document, version 1.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use portcullis_core::{ProgramName, ViewPath};

use super::reader::{At, Reader, Table};
use super::{
    Allowance, Book, Bound, Host, NetworkBound, Operations, Personal, Place, Problem, ReadOnly, Rule,
    RuleLimits, TestCase, UnknownUsers, WriteBound, is_understood, program_name,
};
use crate::code;
use crate::effects;
use crate::nearest::nearest;

/// The keys of the document.
const DOCUMENT: [&str; 13] = [
    "version",
    "name",
    "description",
    "workspace",
    "unknown_users",
    "protected",
    "read_only",
    "operations",
    "environment",
    "rule",
    "users",
    "roles",
    "test",
];
const RULE: [&str; 17] = [
    "name",
    "effect",
    "programs",
    "subcommands",
    "options",
    "paths",
    "hosts",
    "users",
    "roles",
    "operations",
    "environment",
    "limits",
    "starts",
    "understood",
    "reason",
    "suggestion",
    "test",
];
const OPERATIONS: [&str; 5] = ["delete", "write", "execute", "network", "privilege"];
const PERSONAL: [&str; 9] =
    ["disabled", "allow", "deny", "only", "open", "write", "environment", "roles", "reason"];
const TEST: [&str; 6] = ["allow", "deny", "code", "user", "roles", "name"];

/// Reads and checks a document, all but its tests.
pub(super) fn read(text: &str) -> Result<Book, Vec<Problem>> {
    let mut reader = Reader::new(text);
    let document = reader.document();
    let root = Table { name: "the rulebook", table: document.get_ref(), at: 0 };
    reader.only(root, &DOCUMENT);
    let book = document_of(&mut reader, root);
    let problems = reader.into_problems();
    if problems.is_empty() { Ok(book) } else { Err(problems) }
}

fn document_of(reader: &mut Reader<'_>, root: Table<'_, '_>) -> Book {
    let mut book = Book::default();
    match reader.number(root, "version") {
        Some(At { value: 1, .. }) => {}
        Some(At { value, at }) => {
            reader.problem(at, format!("`version` is {value}; this service reads version 1"));
        }
        None if root.table.contains_key("version") => {}
        None => reader.problem(0, "`version` is missing; write `version = 1`"),
    }
    reader.string(root, "name");
    reader.string(root, "description");
    if let Some(At { value, at }) = reader.string(root, "workspace") {
        match absolute(&value) {
            Ok(path) if path.as_str() != "/" => book.workspace = path,
            Ok(_) => reader.problem(at, "`workspace` must not be `/`"),
            Err(message) => reader.problem(at, message),
        }
    }
    let words = [("base", UnknownUsers::Base), ("deny", UnknownUsers::Deny)];
    if let Some(word) = reader.word(root, "unknown_users", &words) {
        book.unknown_users = word;
    }
    protected(reader, root, &mut book);
    if let Some(table) = reader.table(root, "operations", "[operations]") {
        book.operations = operations(reader, table, Operations::default());
    }
    book.environment = reader.set(root, "environment", variable);
    let mut names = BTreeSet::new();
    for table in reader.tables(root, "rule", "[[rule]]") {
        let rule = rule(reader, table, &mut book.tests);
        if !rule.name.is_empty() && !names.insert(rule.name.clone()) {
            reader.problem(table.at, format!("there are two rules named `{}`", rule.name));
        }
        book.rules.push(rule);
    }
    book.users = people(reader, root, "users", "[users]", &book.protected);
    book.roles = people(reader, root, "roles", "[roles]", &book.protected);
    for table in reader.tables(root, "test", "[[test]]") {
        tests(reader, table, None, &mut book.tests);
    }
    book.index();
    book
}

fn protected(reader: &mut Reader<'_>, root: Table<'_, '_>, book: &mut Book) {
    if let Some(table) = reader.table(root, "protected", "[protected]") {
        reader.only(table, &["directories", "except"]);
        if table.table.contains_key("directories") {
            book.protected = reader.many(table, "directories", absolute);
        }
        if table.table.contains_key("except") {
            book.exempt = reader.many(table, "except", absolute);
        }
    }
    if root.table.contains_key("read_only") {
        book.read_only.clear();
    }
    for table in reader.tables(root, "read_only", "[[read_only]]") {
        reader.only(table, &["name", "path", "writers"]);
        let writers = reader.set(table, "writers", program_name);
        let place = match (reader.string(table, "name"), reader.string(table, "path")) {
            (Some(name), None) => {
                if name.value.contains('/') || name.value.is_empty() {
                    reader.problem(
                        name.at,
                        "`name` is the name of a file or directory, without a slash; use `path`",
                    );
                }
                Place::Name(name.value)
            }
            (None, Some(path)) => match absolute(&path.value) {
                Ok(value) => Place::Path(value),
                Err(message) => {
                    reader.problem(path.at, message);
                    continue;
                }
            },
            _ => {
                reader.problem(table.at, "a [[read_only]] needs either `name` or `path`");
                continue;
            }
        };
        book.read_only.push(ReadOnly { place, writers });
    }
}

fn operations(reader: &mut Reader<'_>, table: Table<'_, '_>, base: Operations) -> Operations {
    reader.only(table, &OPERATIONS);
    let bounds = [("deny", Bound::Deny), ("workspace", Bound::Workspace), ("allow", Bound::Allow)];
    let writes = [
        ("deny", WriteBound::Deny),
        ("redirections", WriteBound::Redirections),
        ("workspace", WriteBound::Workspace),
        ("allow", WriteBound::Allow),
    ];
    let networks =
        [("deny", NetworkBound::Deny), ("hosts", NetworkBound::Hosts), ("allow", NetworkBound::Allow)];
    let allowances = [("deny", Allowance::Deny), ("allow", Allowance::Allow)];
    Operations {
        delete: reader.word(table, "delete", &bounds).unwrap_or(base.delete),
        write: reader.word(table, "write", &writes).unwrap_or(base.write),
        execute: reader.word(table, "execute", &bounds).unwrap_or(base.execute),
        network: reader.word(table, "network", &networks).unwrap_or(base.network),
        privilege: reader.word(table, "privilege", &allowances).unwrap_or(base.privilege),
    }
}

fn rule(reader: &mut Reader<'_>, table: Table<'_, '_>, cases: &mut Vec<TestCase>) -> Rule {
    reader.only(table, &RULE);
    let mut rule = Rule::default();
    match reader.string(table, "name") {
        Some(At { value, at }) => {
            if value.trim().is_empty() || value.chars().any(char::is_control) {
                reader.problem(at, "`name` must be a word or two that denials can show");
            }
            rule.line = Some(reader.line(at));
            rule.name = value;
        }
        None => reader.problem(table.at, "a [[rule]] needs a `name`, which denials show"),
    }
    if let Some(allows) = reader.word(table, "effect", &[("allow", true), ("deny", false)]) {
        rule.allows = allows;
    }
    rule.understood = reader.word(table, "understood", &[("not", false), ("by-table", true)]).unwrap_or(true);
    let programs = reader.strings(table, "programs");
    if programs.is_empty() && !table.table.contains_key("programs") {
        reader.problem(table.at, format!("the rule `{}` needs `programs`", rule.name));
    }
    for At { value, at } in programs {
        match program_name(&value) {
            Ok(program) => {
                if rule.allows && rule.understood && !is_understood(&value) {
                    let hint = match nearest(&value, effects::programs()) {
                        Some(near) => format!("did you mean `{near}`? Otherwise "),
                        None => String::new(),
                    };
                    reader.problem(
                        at,
                        format!(
                            "what the options of `{value}` mean is not known here; {hint}give it a rule of its own with `understood = \"not\"`, and only the confinement bounds it"
                        ),
                    );
                }
                if !rule.programs.insert(program) {
                    reader.problem(at, format!("`{value}` stands twice in `programs`"));
                }
            }
            Err(message) => reader.problem(at, message),
        }
    }
    rule.subcommands = reader.set(table, "subcommands", named);
    if let Some(options) = reader.table(table, "options", "`options` of a [[rule]]") {
        reader.only(options, &["allow", "deny"]);
        rule.options_allowed = options_of(reader, options, "allow", &rule);
        rule.options_denied = options_of(reader, options, "deny", &rule);
    }
    rule.paths = reader.many(table, "paths", absolute);
    rule.hosts = reader.many(table, "hosts", host);
    rule.users = reader.set(table, "users", named);
    rule.roles = reader.set(table, "roles", named);
    if let Some(bounds) = reader.table(table, "operations", "`operations` of a [[rule]]") {
        rule.operations = operations(reader, bounds, Operations::ALL);
        rule.spoken = OPERATIONS.into_iter().filter(|key| bounds.table.contains_key(*key)).collect();
    }
    rule.environment = reader.set(table, "environment", variable);
    rule.starts = reader.set(table, "starts", program_name);
    if let Some(bounds) = reader.table(table, "limits", "`limits` of a [[rule]]") {
        rule.limits = limits(reader, bounds);
    }
    rule.reason = reader.string(table, "reason").map(|text| text.value);
    rule.suggestion = reader.string(table, "suggestion").map(|text| text.value);
    for test in reader.tables(table, "test", "[[rule.test]]") {
        tests(reader, test, Some(&rule.name), cases);
    }
    rule
}

/// Reads options by any of their names, and keeps the names by which the tables know them: `-r` denies `--recursive`
/// and its abbreviations too.
fn options_of(reader: &mut Reader<'_>, table: Table<'_, '_>, key: &str, rule: &Rule) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for At { value, at } in reader.strings(table, key) {
        if let Err(message) = option(&value) {
            reader.problem(at, message);
            continue;
        }
        let known =
            rule.programs.iter().filter_map(|program| effects::canonical_option(program.as_str(), &value));
        let before = names.len();
        names.extend(known.map(str::to_owned));
        if names.len() == before {
            let programs: Vec<_> = rule.programs.iter().map(|program| format!("`{program}`")).collect();
            reader.problem(at, format!("no option `{value}` of {} is known here", programs.join(", ")));
        }
    }
    names
}

fn limits(reader: &mut Reader<'_>, table: Table<'_, '_>) -> RuleLimits {
    reader.only(table, &["time_seconds", "cpu_seconds", "memory_bytes", "processes", "output_bytes"]);
    let mut number = |key: &str| reader.number(table, key).map(|number| number.value);
    RuleLimits {
        time: number("time_seconds").map(Duration::from_secs),
        cpu: number("cpu_seconds").map(Duration::from_secs),
        memory_bytes: number("memory_bytes"),
        processes: number("processes").map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
        output_bytes: number("output_bytes"),
    }
}

fn people(
    reader: &mut Reader<'_>,
    root: Table<'_, '_>,
    key: &'static str,
    name: &'static str,
    protected: &[ViewPath],
) -> BTreeMap<String, Personal> {
    let mut people = BTreeMap::new();
    let Some(table) = reader.table(root, key, name) else { return people };
    let is_role = key == "roles";
    for (person, value) in table.table {
        let title = format!("[{key}.{}]", person.get_ref());
        let Some(inner) = value.get_ref().as_table() else {
            reader.problem(value.span().start, format!("{title} must be a table"));
            continue;
        };
        let table = Table { name: &title, table: inner, at: person.span().start };
        let known = PERSONAL.iter().copied().filter(|key| !is_role || !matches!(*key, "disabled" | "roles"));
        reader.only(table, &known.collect::<Vec<_>>());
        let only = table.table.contains_key("only").then(|| reader.set(table, "only", program_name));
        let allow = reader.set(table, "allow", understood_program);
        people.insert(
            person.get_ref().to_string(),
            Personal {
                disabled: reader.boolean(table, "disabled").unwrap_or(false),
                allow,
                deny: reader.set(table, "deny", program_name),
                only,
                open: reader.many(table, "open", |text| {
                    let place = absolute(text)?;
                    if protected.contains(&place) {
                        return Ok(place);
                    }
                    Err(format!(
                        "`{place}` is not one of the protected directories, which `open` opens whole"
                    ))
                }),
                write: reader.many(table, "write", absolute),
                environment: reader.set(table, "environment", variable),
                roles: reader.set(table, "roles", named),
                reason: reader.string(table, "reason").map(|text| text.value),
            },
        );
    }
    people
}

fn tests(reader: &mut Reader<'_>, table: Table<'_, '_>, rule: Option<&str>, cases: &mut Vec<TestCase>) {
    reader.only(table, &TEST);
    reader.string(table, "name");
    let user = reader.string(table, "user").map(|text| text.value);
    let roles: BTreeSet<String> = reader.strings(table, "roles").into_iter().map(|text| text.value).collect();
    let code = reader.string(table, "code");
    let (allow, deny) = (reader.strings(table, "allow"), reader.strings(table, "deny"));
    if allow.is_empty() && deny.is_empty() {
        reader.problem(table.at, format!("a {} needs lines in `allow` or in `deny`", table.name));
    }
    match &code {
        Some(At { value, at }) => {
            let known = code::TABLE.iter().map(|(code, _)| code.as_str());
            if !known.clone().any(|code| code == value) {
                let hint =
                    nearest(value, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                reader.problem(*at, format!("there is no denial code `{value}`{hint}"));
            }
            if deny.is_empty() {
                reader.problem(*at, "`code` belongs to `deny`");
            }
        }
        None if !deny.is_empty() => {
            reader.problem(table.at, format!("a {} with `deny` names the `code` of the denial", table.name));
        }
        None => {}
    }
    let lines = allow.into_iter().map(|line| (line, None));
    let code = code.map(|text| text.value);
    let lines = lines.chain(deny.into_iter().map(|line| (line, Some(code.clone().unwrap_or_default()))));
    for (line, code) in lines {
        cases.push(TestCase {
            place: reader.line(line.at),
            line: line.value,
            code,
            user: user.clone(),
            roles: roles.clone(),
            rule: rule.map(str::to_owned),
        });
    }
}

fn absolute(text: &str) -> Result<ViewPath, String> {
    ViewPath::parse(text).ok_or_else(|| format!("`{}` is not an absolute path", text.escape_debug()))
}

fn named(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(format!("`{}` is not a name", text.escape_debug()));
    }
    Ok(text.to_owned())
}

fn option(text: &str) -> Result<String, String> {
    if text.starts_with('-') && text.len() > 1 {
        return Ok(text.to_owned());
    }
    Err(format!("`{}` is not an option; write it with its dashes", text.escape_debug()))
}

fn understood_program(text: &str) -> Result<ProgramName, String> {
    let program = program_name(text)?;
    if is_understood(text) {
        return Ok(program);
    }
    Err(format!(
        "what the options of `{text}` mean is not known here; give it a [[rule]] with `understood = \"not\"` and `users`"
    ))
}

/// Variables that change which code a program runs: no rulebook allows a caller to set them.
fn variable(text: &str) -> Result<String, String> {
    let name = text
        .chars()
        .enumerate()
        .all(|(at, c)| c == '_' || c.is_ascii_alphabetic() || at > 0 && c.is_ascii_digit());
    if text.is_empty() || !name {
        return Err(format!("`{}` is not the name of a variable", text.escape_debug()));
    }
    let loads_code =
        ["LD_", "DYLD_", "GCONV_", "BASH_", "GIT_", "PYTHON", "PERL5", "NODE_", "RUBY", "MALLOC_"];
    let names_code = [
        "PATH",
        "IFS",
        "ENV",
        "SHELL",
        "SHELLOPTS",
        "PAGER",
        "EDITOR",
        "VISUAL",
        "BROWSER",
        "NLSPATH",
        "LOCPATH",
        "HOME",
        "TMPDIR",
        "HOSTALIASES",
        "RES_OPTIONS",
        "GLIBC_TUNABLES",
        "MAKEFLAGS",
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTFLAGS",
        "LESSOPEN",
        "LESSCLOSE",
        "MANPAGER",
        "TAR_OPTIONS",
        "RSYNC_RSH",
        "AWKPATH",
        "AWKLIBPATH",
    ];
    if loads_code.iter().any(|prefix| text.starts_with(prefix)) || names_code.contains(&text) {
        return Err(format!("`{text}` changes which code a program runs or finds, and cannot be allowed"));
    }
    Ok(text.to_owned())
}

/// Reads `https://name`, `https://name:port` or `name:port`.
fn host(text: &str) -> Result<Host, String> {
    let wrong = || {
        format!(
            "`{}` is not a host; write `https://name`, `https://name:port` or `http://…`",
            text.escape_debug()
        )
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let implied = match scheme {
        "https" => 443,
        "http" => 80,
        "ftp" => 21,
        _ => return Err(wrong()),
    };
    let (name, port) = match rest.rsplit_once(':') {
        Some((name, port)) => (name, port.parse().map_err(|_| wrong())?),
        None => (rest, implied),
    };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
    if name.is_empty() || !name.chars().all(plain) {
        return Err(wrong());
    }
    Ok(Host { scheme: scheme.to_owned(), name: name.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_knows_the_keys_that_are_read() {
        let schema: serde_json::Value = serde_json::from_str(super::super::Rulebook::schema()).unwrap();
        let keys = |pointer: &str| {
            let object = schema.pointer(pointer).and_then(|value| value.as_object()).unwrap();
            object.keys().cloned().collect::<BTreeSet<String>>()
        };
        let known = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<String>>();
        assert_eq!(keys("/properties"), known(&DOCUMENT));
        assert_eq!(keys("/properties/rule/items/properties"), known(&RULE));
        assert_eq!(keys("/properties/test/items/properties"), known(&TEST));
        assert_eq!(keys("/properties/users/additionalProperties/properties"), known(&PERSONAL));
    }
}
