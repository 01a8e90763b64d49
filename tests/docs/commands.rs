//! Every command that a document shows is run as it stands, in the document's order, beside a real service.
//!
//! Each document has a shell, a home and a service of its own. Its port stands for 5000, and its home holds the state, also
//! for root. What cannot be run is marked in the document, and counted aloud.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::blocks::{Block, Kind, Shown, blocks};
use crate::compare::difference;
use crate::{document, names_of_documents};

/// A line that runs for minutes, and writes nothing: two squares are looked for in a text that has none.
const SLOW: &str = r"echo abcacbabcbacabcacbacabcbabcacbabcbacabcbabcacbacabcacbabcbacabcacbacabcbabcacb | grep '^.*\(..*\).*\(..*\).*\1\1\2\2$'";

fn skip(why: &str) {
    assert!(std::env::var_os("PORTCULLIS_REQUIRE_ALL").is_none(), "{why}");
    eprintln!("SKIPPED: {why}");
}

#[expect(clippy::disallowed_methods, reason = "the commands of the documents are tried as readers would")]
fn program(name: &str) -> Command {
    Command::new(name)
}

/// Where the executables lie; `None`, said aloud, where something is missing.
fn executables() -> Option<PathBuf> {
    let directory = Path::new(env!("CARGO_BIN_EXE_portcullis-server")).parent().unwrap().to_owned();
    if !directory.join("portcullis").exists() {
        skip("portcullis is not built: `cargo build -p portcullis`");
        return None;
    }
    for tool in ["bash", "curl"] {
        if program(tool).arg("--version").output().is_err() {
            skip(&format!("there is no {tool} here"));
            return None;
        }
    }
    Some(directory)
}

/// Runs a document's commands, and fails with everything that is not as it says.
fn check(name: &str) {
    let blocks = blocks(&document(name));
    let run: Vec<&Block> = blocks.iter().filter(|block| block.not_run.is_none()).collect();
    let (mut count, mut left) = (0, Vec::new());
    for block in &blocks {
        match &block.not_run {
            Some(reason) => left.push(format!("{} at line {} ({reason})", block.commands.len(), block.line)),
            None => count += block.commands.len(),
        }
    }
    eprintln!(
        "{name}: {count} commands are run; not run: {}",
        if left.is_empty() { "none".into() } else { left.join(", ") }
    );
    let Some(executables) = executables().filter(|_| count > 0) else { return };
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join(".local/state/portcullis");
    std::fs::create_dir_all(&state).unwrap();
    // Whom root becomes passes these.
    for directory in state.ancestors().skip(1).take_while(|above| above.starts_with(home.path())) {
        std::fs::set_permissions(directory, Permissions::from_mode(0o711)).unwrap();
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (script, expected) = script(&run, port);
    let path = std::env::var("PATH").unwrap_or_default();
    let shell = program("bash")
        .args(["--norc", "-c", &script])
        .current_dir(home.path())
        .env_clear()
        .env("PATH", format!("{}:{path}", executables.display()))
        .env("HOME", home.path())
        .env("PORTCULLIS_DATA_DIR", &state)
        .env("PORTCULLIS_LISTEN", format!("127.0.0.1:{port}"))
        .env("SLOW", SLOW)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&shell.stdout);
    if printed.contains("\u{1}unconfined\n") {
        assert!(printed.contains("sandbox") || printed.contains("cell"), "{printed}");
        return skip(&format!("the service does not start here: {printed}"));
    }
    let mut problems = String::new();
    let mut parts = printed.split('\u{1}').skip(1);
    for (block, shown) in expected {
        let Some((output, code)) = parts.next().and_then(|part| part.rsplit_once('\u{2}')) else {
            let said = String::from_utf8_lossy(&shell.stderr);
            panic!("{name}:{}: `{}` was not reached\n{problems}{said}", block.line, shown.command);
        };
        let code: i32 = code.trim().parse().unwrap();
        let output = output.replace(&format!("127.0.0.1:{port}"), "127.0.0.1:5000");
        let wrong = match (&shown.output, &block.exits) {
            // What a refusal shows it shows; its code is the client's tests' to look at.
            (Some(wanted), _) => difference(wanted, &output),
            (None, Some(codes)) => (!codes.contains(&code)).then(|| output.clone()),
            (None, None) => (code != 0).then(|| output.clone()),
        };
        if let Some(wrong) = wrong {
            writeln!(problems, "{name}:{}: `{}` ended with {code}\n{wrong}", block.line, shown.command)
                .unwrap();
        }
    }
    assert!(problems.is_empty(), "{problems}");
}

/// Writes the script, and returns whose outputs it prints, in order.
fn script<'a>(blocks: &[&'a Block], port: u16) -> (String, Vec<(&'a Block, &'a Shown)>) {
    let mut script = String::from(
        "SERVICE=\n\
         serve() { SERVICE=$!; until portcullis allowed >/dev/null 2>&1; do\n\
           kill -0 $SERVICE 2>/dev/null || { printf '\\1unconfined\\n'; cat service.log; exit; }; done; }\n\
         unserve() { [ -z \"$SERVICE\" ] || { kill $SERVICE; wait $SERVICE; }; SERVICE=; }\n\
         trap unserve EXIT\n\
         portcullis-server >service.log 2>&1 & serve\n",
    );
    let local = |command: &str| {
        let command = command.replace("127.0.0.1:5000", &format!("127.0.0.1:{port}"));
        command.replace("localhost:5000", &format!("127.0.0.1:{port}"))
    };
    let mut expected = Vec::new();
    for block in blocks {
        for command in &block.first {
            writeln!(script, "{{ {}\n}} >/dev/null 2>&1", local(command)).unwrap();
        }
        match &block.kind {
            Kind::File(name, text) => {
                writeln!(script, "cat >{name} <<'END OF FILE'\n{text}END OF FILE").unwrap()
            }
            Kind::Service => {
                assert_eq!(block.commands.len(), 1, "one service a block");
                let command = block.commands[0].command.split("  #").next().unwrap_or_default();
                writeln!(script, "unserve\n{} >service.log 2>&1 & serve", local(command)).unwrap();
            }
            Kind::Commands => {
                for shown in &block.commands {
                    writeln!(
                        script,
                        "printf '\\1'\n{{ {}\n}} 2>&1\nprintf '\\2%s\\n' $?",
                        local(&shown.command)
                    )
                    .unwrap();
                    expected.push((*block, shown));
                }
            }
        }
    }
    (script, expected)
}

macro_rules! documents {
    ($($test:ident $name:literal)+) => {
        /// The documents whose commands are run below.
        const DOCUMENTS: &[&str] = &[$($name),+];
        $(#[test] fn $test() { check($name); })+
    };
}

documents! {
    the_commands_of_the_readme_do_what_it_says "README.md"
    the_commands_of_the_tutorial_do_what_it_says "docs/tutorial.md"
    the_commands_of_the_operations_guide_do_what_it_says "docs/operations.md"
    the_commands_of_the_migration_guide_do_what_it_says "docs/migration.md"
    the_commands_of_the_api_document_do_what_it_says "docs/api.md"
    the_commands_of_the_policy_document_do_what_it_says "docs/policy.md"
    the_commands_of_the_telemetry_document_do_what_it_says "docs/telemetry.md"
    the_commands_of_the_pages_document_do_what_it_says "docs/page.md"
    the_commands_of_the_webhooks_document_do_what_it_says "docs/webhooks.md"
    the_commands_of_the_deployment_guide_do_what_it_says "deploy/README.md"
    the_commands_of_the_reliability_document_do_what_it_says "docs/reliability.md"
}

#[test]
fn every_document_with_commands_is_among_them() {
    for name in names_of_documents() {
        let has = blocks(&document(&name)).iter().any(|block| !block.commands.is_empty());
        assert!(
            !has || DOCUMENTS.contains(&name.as_str()),
            "{name} shows commands and is not in tests/docs/commands.rs"
        );
    }
}
