//! What the client says of itself: configuration, token, completions, manual pages.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::{Value, json};

use crate::client::{Client, Ended, program};

const LOCAL: &str = "pcl_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn skip(why: &str) {
    assert!(std::env::var_os("PORTCULLIS_REQUIRE_ALL").is_none(), "{why}");
    eprintln!("SKIPPED: {why}");
}

#[track_caller]
fn json_of(ended: &Ended) -> Value {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

#[test]
fn config_check_shows_each_value_with_its_origin_and_no_secret() {
    let client = Client::new(["config", "check"]).file("url", "http://127.0.0.1:7000\n").file("token", LOCAL);
    let home = client.home().display().to_string();
    let ended = client.run();
    let wanted = format!(
        "url         = http://127.0.0.1:7000  [found at {home}/url]\ntoken       = (hidden)  [{home}/token]\n\
         config file = {home}/.config/portcullis/cli.toml (not there)\n"
    );
    assert_eq!((ended.code, ended.stdout), (Some(0), wanted));
    // The file was made with the mode that anybody's umask gives.
    assert!(ended.stderr.contains("others may read"), "{}", ended.stderr);

    let client = Client::new(["config", "check", "--json", "--url", "http://example.com"]);
    let report =
        json_of(&client.env("PORTCULLIS_TOKEN", "s3cret").env("PORTCULLIS_URL", "http://other").run());
    assert_eq!(
        report["url"],
        json!({"value": "http://example.com", "origin": {"kind": "flag", "flag": "--url"}})
    );
    assert_eq!(report["token"]["origin"], json!({"kind": "environment", "variable": "PORTCULLIS_TOKEN"}));
    assert!(!report.to_string().contains("s3cret"));
}

#[test]
fn a_service_that_was_set_up_by_the_earlier_name_is_found() {
    let client = Client::new(["token", "print"]).file("token", LOCAL).env("PORTCULLIS_DATA_DIR", "");
    let home = client.home().to_owned();
    assert_eq!(client.env("EXECUTION_DIR", home).run().stdout, format!("{LOCAL}\n"));
}

#[test]
fn the_configuration_file_is_found_by_xdg_and_a_path_in_it_is_meant_from_there() {
    let client = Client::new(["config", "check", "--json"]);
    let directory = client.home().join("xdg/portcullis");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("cli.toml"), "url = \"http://127.0.0.1:7001\"\ntoken_file = \"mine\"\n")
        .unwrap();
    fs::write(directory.join("mine"), "s3cret").unwrap();
    let config = client.home().join("xdg");
    let ended = client.env("XDG_CONFIG_HOME", config).run();
    let report = json_of(&ended);
    let file = directory.join("cli.toml");
    assert_eq!(report["url"]["origin"], json!({"kind": "file", "path": file}));
    assert_eq!(report["token"]["file"], json!(directory.join("mine")));
    assert_eq!(report["configFile"]["exists"], true);
}

#[test]
fn what_is_wrong_is_said_with_who_said_it() {
    let wrong = |arguments: &[&str], name: &str, value: &str, said: &[&str]| {
        let ended = Client::new(arguments).env(name, value).run();
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(125), ""), "{}", ended.stderr);
        for said in said {
            assert!(ended.stderr.contains(said), "{said:?} in {}", ended.stderr);
        }
    };
    let url = "PORTCULLIS_URL";
    wrong(&["list"], url, "localhost:5000", &["does not begin with `http://`", "environment PORTCULLIS_URL"]);
    wrong(&["list"], url, "https://x", &["TLS is not spoken here; use a tunnel or a proxy"]);
    wrong(
        &["list", "--url", "http://a:b@x"],
        url,
        "http://y",
        &["a name or password does not belong", "flag --url"],
    );
    let file = "PORTCULLIS_TOKEN_FILE";
    wrong(
        &["list"],
        file,
        "/no/such",
        &["cannot be read: No such file", "environment PORTCULLIS_TOKEN_FILE"],
    );
    wrong(&["config", "check"], file, "/", &["cannot be read: Is a directory"]);
    wrong(&["token"], "X", "", &["there is no token for `http://127.0.0.1:5000` here", "--token-file FILE"]);
    let client = Client::new(["list"]);
    let directory = client.home().join(".config/portcullis");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("cli.toml"), "\ntoken_fil = \"x\"\n").unwrap();
    let ended = client.run();
    assert_eq!(ended.code, Some(125));
    assert!(ended.stderr.contains("line 2, column 1"), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("unknown field `token_fil`, expected `url` or `token_file`"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_token_is_shown_by_its_place_and_printed_when_asked() {
    let client = Client::new(["token"]).file("token", LOCAL);
    let place = client.home().join("token").display().to_string();
    let ended = client.run();
    assert_eq!((ended.code, ended.stdout), (Some(0), format!("{place}\n")));
    let ended = Client::new(["token", "print"]).file("token", LOCAL).run();
    assert_eq!((ended.code, ended.stdout), (Some(0), format!("{LOCAL}\n")));
    let report = json_of(&Client::new(["token", "print", "--json"]).file("token", LOCAL).run());
    assert_eq!(report, json!({ "token": LOCAL }));
    let report = json_of(&Client::new(["--json", "token"]).env("PORTCULLIS_TOKEN", "x").run());
    assert_eq!(
        report,
        json!({"file": null, "origin": {"kind": "environment", "variable": "PORTCULLIS_TOKEN"}})
    );
}

#[test]
fn a_rotated_token_is_new_whole_and_its_owners_alone() {
    let client = Client::new(["token", "rotate"]).file("token", LOCAL);
    let home = client.home().to_owned();
    let mut running = client.start();
    running.await_stderr("restart the service now");
    let token = fs::read_to_string(home.join("token")).unwrap();
    assert!(token.starts_with("pcl_") && token.len() == LOCAL.len() + 1 && !token.contains(LOCAL), "{token}");
    assert_eq!(fs::metadata(home.join("token")).unwrap().permissions().mode() & 0o777, 0o600);
    let files: Vec<_> = fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["token"], "no draft is left");
    assert_eq!(running.wait().code, Some(0));
}

#[test]
fn what_is_no_local_token_is_not_rotated() {
    let ended = Client::new(["token", "rotate"]).file("token", "eyJhbGciOiJIUzI1NiJ9.e30.x").run();
    assert_eq!(ended.code, Some(125));
    assert!(ended.stderr.contains("none that a Portcullis service makes"), "{}", ended.stderr);
    let ended = Client::new(["token", "rotate"]).env("PORTCULLIS_TOKEN", LOCAL).run();
    assert!(ended.stderr.contains("from: environment PORTCULLIS_TOKEN"), "{}", ended.stderr);
    let client = Client::new(["token", "rotate"]).file("real", LOCAL);
    symlink(client.home().join("real"), client.home().join("token")).unwrap();
    let ended = client.run();
    assert!(ended.stderr.contains("is a link"), "{}", ended.stderr);
}

#[test]
fn bash_completes_commands_options_and_values() {
    let script = Client::new(["completions", "bash"]).run();
    assert_eq!((script.code, script.stderr.as_str()), (Some(0), ""));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("portcullis");
    fs::write(&file, &script.stdout).unwrap();
    // What bash does at TAB: it sets COMP_WORDS and COMP_CWORD and calls the function; see bash(1), "Programmable
    // Completion".
    let ask = r#"
        . "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
        function=$(complete -p portcullis | sed 's/.*-F \([^ ]*\).*/\1/')
        "$function" portcullis "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let complete = |words: &[&str]| {
        let mut bash = program("bash");
        bash.args(["--norc", "-c", ask, "bash"]).arg(&file).args(words);
        let output = bash.output().ok()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(
            String::from_utf8(output.stdout)
                .unwrap()
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    };
    let Some(commands) = complete(&["portcullis", ""]) else { return skip("there is no bash here") };
    for wanted in ["run", "watch", "policy", "token", "config", "completions", "man", "--json"] {
        assert!(commands.iter().any(|found| found == wanted), "{wanted} in {commands:?}");
    }
    assert_eq!(complete(&["portcullis", "ver"]).unwrap(), ["verify"]);
    assert_eq!(complete(&["portcullis", "run", "--time"]).unwrap(), ["--timeout"]);
    assert_eq!(complete(&["portcullis", "policy", "e"]).unwrap(), ["explain"]);
    assert_eq!(complete(&["portcullis", "output", "--stream", "std"]).unwrap(), ["stdout", "stderr"]);
    let statuses = complete(&["portcullis", "list", "--status", ""]).unwrap();
    assert!(statuses.contains(&"timeout".to_owned()), "{statuses:?}");
}

#[test]
fn zsh_and_fish_take_their_completions() {
    for (shell, check) in [("zsh", &["-n"][..]), ("fish", &["--no-execute"])] {
        let script = Client::new(["completions", shell]).run();
        assert_eq!((script.code, script.stderr.as_str()), (Some(0), ""));
        for command in ["rotate", "verify", "explain"] {
            assert!(script.stdout.contains(command), "{shell}");
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("_portcullis");
        fs::write(&file, &script.stdout).unwrap();
        match program(shell).args(check).arg(&file).output() {
            Ok(output) => {
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
            }
            Err(_) => skip(&format!("there is no {shell} here")),
        }
    }
    let ended = Client::new(["completions", "powershell"]).run();
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("bash, zsh, fish"), "{}", ended.stderr);
}

#[test]
fn every_command_has_a_manual_page_that_man_renders_without_a_warning() {
    let client = Client::new(["man", "--directory", "pages/man1"]).here();
    let home = client.home().to_owned();
    let mut running = client.start();
    // Until it has ended, its home is there.
    running.await_stdout("portcullis-man.1\n");
    let pages: Vec<_> =
        fs::read_dir(home.join("pages/man1")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(pages.len() > 20, "{pages:?}");
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        assert!(text.contains(".SH EXAMPLES") && !text.contains(".SH EXTRA"), "{}", page.display());
        // `-Tutf8` renders; `--warnings=w` are all that groff has.
        let man =
            program("man").args(["--warnings=w", "-Tutf8", "-l"]).arg(page).env("MANPAGER", "cat").output();
        let Ok(man) = man else {
            skip("there is no man(1) here");
            break;
        };
        let said = String::from_utf8_lossy(&man.stderr);
        if said.contains("is not installed") || said.contains("minimized") {
            skip("this man(1) renders nothing");
            break;
        }
        assert!(man.status.success() && said.is_empty(), "{}: {said}", page.display());
        let shown = String::from_utf8_lossy(&man.stdout);
        assert!(shown.contains("\n         portcullis "), "{}: {shown}", page.display());
    }
    assert_eq!(running.wait().code, Some(0));
    let page = Client::new(["man"]).run();
    for section in ["EXIT STATUS\"", "ENVIRONMENT", "EXAMPLES"] {
        assert!(page.stdout.contains(section), "{section} in {}", page.stdout);
    }
    assert!(
        page.stdout.contains(".TH portcullis 1") && page.stdout.contains("portcullis\\-token(1)"),
        "{}",
        page.stdout
    );
}
