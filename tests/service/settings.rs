//! Where settings may be made, what is asked of secrets, and the example that has them all.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use portcullis_server::config::{Config, ConfigError, Effective, Flags, Origin, SETTINGS, Sources, flag};
use portcullis_server::example::example;
use serde_json::Value;

use crate::start::start;

/// Loads a configuration from variables alone.
fn load(environment: &[(&str, &str)]) -> Result<Effective, ConfigError> {
    let environment = environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
    Config::load(Sources { environment, ..Sources::default() })
}

/// Returns what is shown of a setting, and where that came from.
fn shown(effective: &Effective, name: &str) -> (String, String) {
    let found = effective.values.iter().find(|(setting, ..)| setting.name == name);
    let (_, value, origin) = found.unwrap_or_else(|| panic!("`{name}` is not shown"));
    (value.clone(), origin.to_string())
}

/// Returns the one thing that is wrong.
#[track_caller]
fn problem(loaded: Result<Effective, ConfigError>) -> String {
    let problems = loaded.expect_err("a wrong configuration was taken").problems;
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems[0].clone()
}

fn file(directory: &Path, name: &str, text: &str, mode: u32) -> String {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Returns a value of every setting that there can be at once, by its names in the file, from the example.
fn samples(directory: &Path) -> BTreeMap<String, String> {
    // The table behind them has no variables and no flags.
    let example = example();
    let (settings, _) = example.split_once("\n#[webhook").unwrap();
    let uncommented: String = settings.lines().map(|line| line.strip_prefix('#').unwrap_or(line)).fold(
        String::new(),
        |text, line| {
            let set = line.split_once(" = ").is_some_and(|(name, _)| !name.contains(' ') && !name.is_empty());
            if set { text + line + "\n" } else { text }
        },
    );
    let table: toml::Table = uncommented.parse().unwrap();
    let text = |value: &toml::Value| match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Boolean(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        toml::Value::Array(array) => {
            array.iter().map(|one| one.as_str().unwrap()).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    };
    let mut samples: BTreeMap<_, _> = table.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    // One of the three that say everything about rules; a user that is there; secrets that are there.
    samples.remove("rulebook");
    samples.remove("allowed_commands_path");
    samples.insert("user".into(), "65534".into());
    for setting in SETTINGS.iter().filter(|setting| setting.secret) {
        samples.insert(setting.name_of_file.into(), file(directory, setting.name, "name=s3cret\n", 0o600));
    }
    samples
}

#[test]
fn every_setting_can_be_made_in_the_file_in_the_environment_and_by_a_flag() {
    let directory = tempfile::tempdir().unwrap();
    let samples = samples(directory.path());
    assert!(samples.len() + 2 >= SETTINGS.len());
    let lines: String = samples.iter().map(|(name, text)| format!("{name} = '{text}'\n")).collect();
    let path = file(directory.path(), "portcullis.toml", &lines, 0o600);
    let variable = |name: &str| {
        let mut variables = SETTINGS.iter().flat_map(|setting| {
            let names = setting.names().map(|(name, _)| name);
            names.zip(setting.variables().map(|(variable, _)| variable)).collect::<Vec<_>>()
        });
        variables.find(|(known, _)| *known == name).unwrap().1
    };
    let environment: Vec<_> = samples.iter().map(|(name, text)| (variable(name), text.as_str())).collect();
    let flags: Vec<String> = samples.iter().flat_map(|(name, text)| [flag(name), text.clone()]).collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();

    for (kind, arguments, environment) in [
        ("file", vec!["--config", &path], Vec::new()),
        ("environment", Vec::new(), environment.clone()),
        ("flag", flags, Vec::new()),
    ] {
        let arguments = [&["config", "check", "--json"], &arguments[..]].concat();
        let output = start(&arguments, &environment);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&report["valid"], output.status.code()), (&true.into(), Some(0)), "{report:#}");
        for setting in report["settings"].as_array().unwrap() {
            let name = setting["name"].as_str().unwrap();
            if name == "rulebook" || name == "allowed_commands_path" {
                continue;
            }
            assert_eq!(setting["origin"]["kind"], kind, "{name}");
            if setting["secret"] == true {
                assert_eq!(setting["value"], Value::Null, "{name}");
            }
        }
        assert!(!String::from_utf8_lossy(&output.stdout).contains("s3cret"));
    }
}

#[test]
fn the_example_file_has_every_setting_at_its_default_and_changes_nothing() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/portcullis.toml");
    let written = fs::read_to_string(&path).unwrap();
    assert!(
        written == example(),
        "deploy/portcullis.toml is out of date; `cargo run -p portcullis-server config example > deploy/portcullis.toml`"
    );
    let flags = Flags { config: Some(path), ..Flags::default() };
    let mut by_file = Config::load(Sources { flags, ..Sources::default() }).unwrap();
    let by_itself = Config::load(Sources::default()).unwrap();
    // All that is known of a configuration, but for rules, which are made of the list that is compared below.
    by_file.config.rulebook = by_itself.config.rulebook.clone();
    assert_eq!(format!("{:?}", by_file.config), format!("{:?}", by_itself.config));
    for ((setting, value, origin), (_, default, _)) in by_file.values.iter().zip(&by_itself.values) {
        assert_eq!(value, default, "{}", setting.name);
        assert_eq!(matches!(origin, Origin::File(..)), !setting.default.is_empty(), "{}", setting.name);
    }
    assert!(by_file.warnings.is_empty());
    for setting in SETTINGS.iter().filter(|setting| setting.default.is_empty()) {
        let name = if setting.secret { setting.name_of_file } else { setting.name };
        let sample = written.lines().find(|line| line.starts_with(&format!("#{name} = "))).unwrap();
        assert!(
            !sample.contains('…'),
            "{name} has no sample: see `sample` in bins/portcullis-server/src/example.rs"
        );
    }
}

#[test]
fn no_two_settings_share_a_name() {
    let names: Vec<_> = SETTINGS.iter().flat_map(|setting| setting.names()).map(|(name, _)| name).collect();
    let variables: Vec<_> =
        SETTINGS.iter().flat_map(|setting| setting.variables()).map(|(name, _)| name).collect();
    for all in [names, variables] {
        let mut once = all.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), all.len());
    }
}

#[test]
fn variables_of_opentelemetry_are_judged_where_they_can_take_effect_and_spoken_of_where_they_cannot() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
    let key = ("OTEL_EXPORTER_OTLP_HEADERS", "key=s3cret");
    let effective = load(&[endpoint, key]).unwrap();
    let origin = "environment OTEL_EXPORTER_OTLP_HEADERS".to_owned();
    assert_eq!(shown(&effective, "otel_exporter_otlp_headers"), ("(hidden)".into(), origin));
    assert!(!format!("{effective:?}").contains("s3cret"));
    let exports = cfg!(feature = "otel");
    assert_eq!(effective.config.otlp.is_some(), exports);
    let unheard = "is set (environment OTEL_EXPORTER_OTLP_ENDPOINT), and this build sends no spans: it was built \
                   without the feature `otel`";
    assert_eq!(effective.warnings.iter().any(|warning| warning.contains(unheard)), !exports);
    for wrong in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret"),
        ("OTEL_RESOURCE_ATTRIBUTES", "k=%zz"),
    ] {
        // Where nothing comes of them, they may be meant for others.
        assert!(load(&[wrong, ("OTEL_SDK_DISABLED", "True")]).unwrap().warnings.is_empty());
        let loaded = load(&[wrong]);
        if exports {
            let found = problem(loaded);
            assert!(found.contains(wrong.0) && !found.contains("s3cret"), "{found}");
        } else {
            assert!(loaded.is_ok(), "{wrong:?}");
        }
    }
    let disabled = load(&[endpoint, ("OTEL_SDK_DISABLED", "true")]).unwrap();
    assert_eq!((&disabled.config.otlp, disabled.warnings.len()), (&None, 0));
    let doubtful = load(&[endpoint, ("OTEL_SDK_DISABLED", "1")]).unwrap();
    assert_eq!(doubtful.config.otlp.is_some(), exports);
    assert!(doubtful.warnings[0].contains("counts as `false`"), "{:?}", doubtful.warnings);
    // An empty one counts as not set; others than these are not ours.
    let empty = load(&[("OTEL_EXPORTER_OTLP_ENDPOINT", ""), ("OTEL_TRACES_SAMPLER", "x")]).unwrap();
    assert_eq!(shown(&empty, "otel_exporter_otlp_endpoint"), (String::new(), "default".into()));
    assert_eq!((&empty.config.otlp, empty.warnings.len()), (&None, 0));
}

#[test]
fn a_secret_comes_by_value_by_file_or_by_credential_and_is_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "jwt", "s3cret\n", 0o600);
    file(directory.path(), "jwt_secret", "s3cret", 0o400);
    let credentials = directory.path().to_str().unwrap();
    for (environment, wanted) in [
        (vec![("JWT_SECRET", "s3cret")], "environment JWT_SECRET".to_owned()),
        (vec![("JWT_SECRET_FILE", path.as_str())], "environment JWT_SECRET_FILE".into()),
        (vec![("CREDENTIALS_DIRECTORY", credentials)], format!("credential {credentials}/jwt_secret")),
        (
            vec![("CREDENTIALS_DIRECTORY", credentials), ("JWT_SECRET", "other")],
            "environment JWT_SECRET".into(),
        ),
    ] {
        let effective = load(&environment).unwrap();
        assert_eq!(shown(&effective, "jwt_secret"), ("(hidden)".into(), wanted));
        let all = format!("{effective:?}");
        assert!(!all.contains("s3cret"), "{all}");
        assert!(effective.warnings[0].starts_with("`JWT_SECRET` is accepted and used for nothing"));
    }
    let output = start(&["config", "check", "--jwt-secret-file", &path], &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("= (hidden)  [flag --jwt-secret-file]"), "{text}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("portcullis-server: warning: `JWT_SECRET` is accepted"), "{said}");
    // No value in arguments, which everybody sees.
    let output = start(&["config", "check", "--jwt-secret", "s3cret"], &[]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_secret_file_that_cannot_be_used_stops_the_start_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let check = |text: &str, mode: u32, wanted: &str| {
        let path = file(directory.path(), "jwt", text, mode);
        let said = problem(load(&[("JWT_SECRET_FILE", &path)]));
        let head = format!("the secret file `{path}` of `JWT_SECRET_FILE` (environment JWT_SECRET_FILE) ");
        assert!(said.starts_with(&(head + wanted)), "{said}");
    };
    check("", 0o600, "is empty");
    check("s3cret", 0o602, "may be written by anybody");
    let said = problem(load(&[("JWT_SECRET_FILE", "/no/such/file")]));
    assert!(said.ends_with("could not be read: No such file or directory (os error 2)"), "{said}");
    let path = file(directory.path(), "open", "s3cret", 0o644);
    let said = problem(load(&[("JWT_SECRET_FILE", &path), ("JWT_SECRET", "s3cret")]));
    assert!(said.contains("its value or its file, set one") && !said.contains("s3cret"), "{said}");
    let warnings = load(&[("JWT_SECRET_FILE", &path)]).unwrap().warnings;
    assert!(warnings[0].contains("everybody on this machine may read it (mode 0644)"), "{warnings:?}");
    let said = problem(load(&[("PORTCULLIS_JWT_SECRET_FILES", "x")]));
    assert!(said.ends_with("the nearest one is `JWT_SECRET_FILE`"), "{said}");
}

#[test]
fn the_local_token_may_be_a_credential() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "token", "x", 0o400);
    let credentials = ("CREDENTIALS_DIRECTORY", directory.path().to_str().unwrap());
    let effective = load(&[credentials]).unwrap();
    assert_eq!(shown(&effective, "token_file"), (path.clone(), format!("credential {path}")));
    let effective = load(&[credentials, ("PORTCULLIS_TOKEN_FILE", "/srv/token")]).unwrap();
    assert_eq!(effective.config.token_file, Path::new("/srv/token"));
}

#[test]
fn the_names_of_the_earlier_service_are_understood() {
    let directory = tempfile::tempdir().unwrap();
    let rules = r#"{"commands": ["ls", "cat", "no-table-for-this"], "paths": ["/srv/data/", "./"]}"#;
    let path = file(directory.path(), "allowed.json", rules, 0o644);
    let effective =
        load(&[("ALLOWED_COMMANDS_PATH", &path), ("EXECUTION_DIR", "/srv/runs"), ("PORT", "5001")]);
    let effective = effective.unwrap();
    assert_eq!(effective.config.data_dir, Path::new("/srv/runs"));
    assert_eq!(shown(&effective, "data_dir"), ("/srv/runs".into(), "environment EXECUTION_DIR".into()));
    assert_eq!(effective.config.listen.to_string(), "127.0.0.1:5001");
    let rulebook = &effective.config.rulebook;
    for (line, wanted) in [
        ("ls /srv/data/x", true),
        ("cat notes ./more", true),
        ("no-table-for-this", true),
        ("ls /srv/database", false),
        ("ls /srv/data/../other", false),
        ("ls ../srv/other", false),
        ("cat /usr/share/dict/words", false),
        ("grep x notes", false),
    ] {
        let answer = rulebook.answer("local", line);
        assert_eq!(answer == "allow", wanted, "{line}: {answer}");
    }
    let both = [("EXECUTION_DIR", "/srv/runs"), ("PORTCULLIS_DATA_DIR", "/srv/data")];
    assert_eq!(load(&both).unwrap().config.data_dir, Path::new("/srv/data"));
}

#[test]
fn a_file_of_earlier_rules_that_cannot_be_kept_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for (rules, wanted) in [
        (r#"{"commands": ["ls"], "paths": ["../"]}"#, "`../` of `paths` is no absolute path"),
        (r#"{"commands": "ls"}"#, "invalid type: string \"ls\", expected a sequence at line 1 column 17"),
        (r#"{"commands": ["ls"], "path": []}"#, "unknown field `path`, expected `commands` or `paths`"),
        (r#"{"commands": []}"#, "the list of allowed programs is empty"),
        (r#"{"commands": ["/bin/sh"]}"#, "`/bin/sh` is not the bare name of a program"),
        ("", "EOF while parsing"),
    ] {
        let path = file(directory.path(), "allowed.json", rules, 0o644);
        let said = problem(load(&[("ALLOWED_COMMANDS_PATH", &path)]));
        assert!(said.contains(wanted), "{said}");
    }
    let path = file(directory.path(), "allowed.json", r#"{"commands": ["ls"]}"#, 0o644);
    let said = problem(load(&[("ALLOWED_COMMANDS_PATH", &path), ("ALLOWED_COMMANDS", "ls")]));
    assert!(
        said.contains("`allowed_commands` (environment ALLOWED_COMMANDS) and `allowed_commands_path`"),
        "{said}"
    );
}

#[test]
fn what_is_wrong_is_told_to_programs_as_well() {
    let output = start(&["config", "check", "--json"], &[("PORTCULLIS_CELL", "1"), ("PORT", "x")]);
    assert_eq!(output.status.code(), Some(78));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["valid"], report["problems"].as_array().unwrap().len()), (&false.into(), 2));
    assert!(output.stderr.is_empty());
}
