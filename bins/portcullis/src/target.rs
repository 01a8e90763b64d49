//! Finds the service and the token to show it.
//!
//! The URL: `--url`, `PORTCULLIS_URL`, `url` of `cli.toml`, the `url` file of a state directory on this machine,
//! `http://127.0.0.1:5000`. The token: `--token-file`, `PORTCULLIS_TOKEN_FILE`, `PORTCULLIS_TOKEN`, `token_file` of
//! `cli.toml`, the `token` file of a state directory. A token that was found and not named goes to this machine
//! alone: `--url` to another host does not take it along.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use portcullis_api::{Surroundings, TOKEN_FILE, URL_FILE, state_directories};
use portcullis_core::Secret;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::http::BaseUrl;

/// Name of the configuration file.
const CONFIG_FILE: &str = "cli.toml";
const URL_VARIABLE: &str = "PORTCULLIS_URL";
const TOKEN_FILE_VARIABLE: &str = "PORTCULLIS_TOKEN_FILE";
const TOKEN_VARIABLE: &str = "PORTCULLIS_TOKEN";
/// Where the service is when nothing says otherwise.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:5000";
/// The largest token, and the largest file that is read for one.
const FILE_LIMIT_BYTES: u64 = 64 * 1024;

/// Where something was said or found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A flag.
    Flag(&'static str),
    /// A variable of the environment.
    Environment(&'static str),
    /// `cli.toml`.
    Config(PathBuf),
    /// A file that a service on this machine has left.
    Found(PathBuf),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Config(path) => write!(f, "{}", path.display()),
            Self::Found(path) => write!(f, "found at {}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

impl Origin {
    /// Writes it for programs.
    pub(crate) fn json(&self) -> Value {
        match self {
            Self::Flag(flag) => json!({ "kind": "flag", "flag": flag }),
            Self::Environment(variable) => json!({ "kind": "environment", "variable": variable }),
            Self::Config(path) => json!({ "kind": "file", "path": path }),
            Self::Found(path) => json!({ "kind": "found", "path": path }),
            Self::Default => json!({ "kind": "default" }),
        }
    }
}

/// What flags and environment say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wishes {
    /// `--url` or `PORTCULLIS_URL`
    pub(crate) url: Option<(String, Origin)>,
    /// `--token-file` or `PORTCULLIS_TOKEN_FILE`
    pub(crate) token_file: Option<(PathBuf, Origin)>,
    /// `PORTCULLIS_TOKEN`
    pub(crate) token: Option<Secret>,
    /// The directory of `cli.toml`.
    pub(crate) config_directory: Option<PathBuf>,
    /// What decides where a service on this machine keeps its state.
    pub(crate) surroundings: Surroundings,
}

impl Wishes {
    /// Reads the environment; flags win over it.
    pub(crate) fn from_environment(url: Option<String>, token_file: Option<PathBuf>) -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |value: OsString| value.to_string_lossy().into_owned();
        let home = variable("HOME");
        let config = variable("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| home.clone().map(|home| PathBuf::from(home).join(".config")));
        let url = url.map(|url| (url, Origin::Flag("--url")));
        let token_file = token_file.map(|file| (file, Origin::Flag("--token-file")));
        let url_variable =
            || variable(URL_VARIABLE).map(|value| (text(value), Origin::Environment(URL_VARIABLE)));
        let file_variable = || {
            let file = variable(TOKEN_FILE_VARIABLE).map(PathBuf::from);
            file.map(|file| (file, Origin::Environment(TOKEN_FILE_VARIABLE)))
        };
        Self {
            url: url.or_else(url_variable),
            token_file: token_file.or_else(file_variable),
            token: variable(TOKEN_VARIABLE).map(|value| Secret::new(text(value))),
            config_directory: config.map(|config| config.join("portcullis")),
            surroundings: Surroundings {
                // The second is the earlier service's name for it, which the service understands, too.
                data_dir: variable("PORTCULLIS_DATA_DIR")
                    .or_else(|| variable("EXECUTION_DIR"))
                    .or_else(|| data_dir_of(Path::new(&variable("PORTCULLIS_CONFIG")?)).map(OsString::from)),
                state_directory: variable("STATE_DIRECTORY"),
                xdg_state_home: variable("XDG_STATE_HOME"),
                home,
                root: our_uid() == Some(0),
            },
        }
    }

    /// Returns the path of the configuration file, whether it is there or not.
    pub(crate) fn config_file(&self) -> Option<PathBuf> {
        self.config_directory.as_ref().map(|directory| directory.join(CONFIG_FILE))
    }
}

/// Returns the user that we are: our processes own their directory in `/proc`. Where there is none, it is not the Linux
/// that the service needs, and nobody knows.
pub(crate) fn our_uid() -> Option<u32> {
    std::fs::metadata("/proc/self").ok().map(|metadata| metadata.uid())
}

/// Returns the data directory that the service's own configuration file names. What else stands there is the service's
/// business, and one that cannot be read is no problem of ours: the usual places are looked at.
fn data_dir_of(service_config: &Path) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Named {
        data_dir: Option<PathBuf>,
        execution_dir: Option<PathBuf>,
    }
    let named: Named = toml::from_str(&read_at_most(service_config).ok()?).ok()?;
    named.data_dir.or(named.execution_dir)
}

/// `$XDG_CONFIG_HOME/portcullis/cli.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    url: Option<String>,
    token_file: Option<PathBuf>,
}

/// Where to send requests, and with which token.
#[derive(Debug)]
pub(crate) struct Target {
    /// The service.
    pub(crate) url: BaseUrl,
    /// Who said where it is.
    pub(crate) url_origin: Origin,
    /// The token, if one was found.
    pub(crate) token: Option<Token>,
    /// Why tokens that are there were not taken; worth telling when the service asks for one.
    pub(crate) passed_over: Vec<String>,
}

/// A token, and where it came from.
#[derive(Debug)]
pub(crate) struct Token {
    /// The token itself.
    pub(crate) secret: Secret,
    /// The file that holds it, if it lies in one.
    pub(crate) file: Option<PathBuf>,
    /// Who named or left it.
    pub(crate) origin: Origin,
}

impl Target {
    /// Finds both.
    ///
    /// # Errors
    /// When what was named is not there or not usable. What is merely not found is left out.
    pub(crate) fn find(wishes: &Wishes) -> Result<Self, Failure> {
        let config = read_config(wishes.config_file().as_deref())?;
        let configured = || Origin::Config(wishes.config_file().unwrap_or_default());
        let directories = state_directories(&wishes.surroundings);
        let found_url = || {
            directories.iter().map(|directory| directory.join(URL_FILE)).find_map(|file| {
                let text = read_small(&file).ok()?;
                Some((text, Origin::Found(file)))
            })
        };
        let named_url = wishes.url.clone().or_else(|| Some((config.url.clone()?, configured())));
        let (text, url_origin) =
            named_url.or_else(found_url).unwrap_or_else(|| (DEFAULT_URL.to_owned(), Origin::Default));
        let url = BaseUrl::parse(&text)
            .map_err(|error| Failure::new(error.to_string()).hint(format!("it is from: {url_origin}")))?;
        let from_file = |file: PathBuf, origin: Origin| {
            let secret = read_named(&file, &origin)?;
            Ok::<_, Failure>(Token { secret, file: Some(file), origin })
        };
        let token = if let Some((file, origin)) = wishes.token_file.clone() {
            Some(from_file(file, origin)?)
        } else if let Some(secret) = wishes.token.clone() {
            Some(Token { secret, file: None, origin: Origin::Environment(TOKEN_VARIABLE) })
        } else if let Some(file) = config.token_file {
            // A path in a file is meant from where that file lies.
            let directory = wishes.config_directory.clone().unwrap_or_default();
            Some(from_file(directory.join(file), configured())?)
        } else {
            let (token, passed_over) = find_local_token(&url, &directories);
            return Ok(Self { url, url_origin, token, passed_over });
        };
        Ok(Self { url, url_origin, token, passed_over: Vec::new() })
    }
}

/// Looks for the token that a service on this machine has left for its owner.
fn find_local_token(url: &BaseUrl, directories: &[PathBuf]) -> (Option<Token>, Vec<String>) {
    let mut passed_over = Vec::new();
    for directory in directories {
        let file = directory.join(TOKEN_FILE);
        let token = match read_small(&file) {
            Ok(token) if token.is_empty() => continue,
            Ok(token) => token,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                passed_over.push(format!("the token in `{}` cannot be read: {error}", file.display()));
                continue;
            }
        };
        let owner = read_small(&directory.join(URL_FILE)).ok().and_then(|text| BaseUrl::parse(&text).ok());
        let belongs = owner.map_or(url.is_loopback(), |owner| owner.is_same_place(url));
        if belongs {
            let (secret, origin) = (Secret::new(token), Origin::Found(file.clone()));
            return (Some(Token { secret, file: Some(file), origin }), passed_over);
        }
        passed_over.push(format!(
            "the token in `{}` belongs to another service and was not sent to `{url}`",
            file.display()
        ));
    }
    (None, passed_over)
}

fn read_config(file: Option<&Path>) -> Result<Config, Failure> {
    let Some(file) = file else { return Ok(Config::default()) };
    // As it is: a place in it counts from its beginning.
    match read_at_most(file) {
        Ok(text) => toml::from_str(&text).map_err(|error| {
            Failure::new(format!("`{}` is wrong: {}", file.display(), error.to_string().trim_end()))
                .hint("known settings are `url` and `token_file`")
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Config::default()),
        Err(error) => Err(Failure::new(format!("`{}` cannot be read: {error}", file.display()))),
    }
}

fn read_named(file: &Path, origin: &Origin) -> Result<Secret, Failure> {
    let named = |failure: Failure| failure.hint(format!("it is named by: {origin}"));
    match read_small(file) {
        Ok(token) if token.is_empty() => {
            Err(named(Failure::new(format!("the token file `{}` is empty", file.display()))))
        }
        Ok(token) => Ok(Secret::new(token)),
        Err(error) => {
            let failure =
                Failure::new(format!("the token file `{}` cannot be read: {error}", file.display()));
            Err(named(match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    failure.hint("its owner can read it: run this as them, or let them give you a token")
                }
                _ => failure,
            }))
        }
    }
}

/// Reads a file of ours without its surrounding blanks.
fn read_small(file: &Path) -> io::Result<String> {
    Ok(read_at_most(file)?.trim().to_owned())
}

fn read_at_most(file: &Path) -> io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(file)?.take(FILE_LIMIT_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with a home, on which a service has left its files.
    struct Machine {
        home: tempfile::TempDir,
    }

    impl Machine {
        fn new(files: &[(&str, &str)]) -> Self {
            let home = tempfile::tempdir().unwrap();
            for (path, text) in files {
                let file = home.path().join(path);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, text).unwrap();
            }
            Self { home }
        }

        fn wishes(&self) -> Wishes {
            Wishes {
                config_directory: Some(self.home.path().join("config")),
                surroundings: Surroundings {
                    data_dir: Some(self.home.path().join("state").into()),
                    ..Surroundings::default()
                },
                ..Wishes::default()
            }
        }
    }

    fn url(text: &str) -> Option<(String, Origin)> {
        Some((text.into(), Origin::Environment(URL_VARIABLE)))
    }

    #[track_caller]
    fn check(wishes: &Wishes, url: &str, token: Option<&str>) {
        let target = Target::find(wishes).unwrap();
        assert_eq!(target.url.to_string(), url);
        assert_eq!(target.token.as_ref().map(|token| token.secret.reveal()), token);
    }

    #[test]
    fn nothing_set_means_the_default_url_and_no_token() {
        check(&Machine::new(&[]).wishes(), DEFAULT_URL, None);
    }

    #[test]
    fn a_service_on_this_machine_is_found_with_its_token() {
        let machine = Machine::new(&[("state/url", "http://127.0.0.1:7000\n"), ("state/token", "abc\n")]);
        check(&machine.wishes(), "http://127.0.0.1:7000", Some("abc"));
    }

    #[test]
    fn the_services_configuration_file_says_where_its_state_is() {
        let machine = Machine::new(&[
            ("new.toml", "cells = 4\ndata_dir = '/srv/a'\nexecution_dir = '/srv/b'\n[webhook.x]\nurl = 'x'"),
            ("earlier.toml", "execution_dir = '/srv/b'"),
            ("wrong.toml", "data_dir = 5"),
        ]);
        for (file, wanted) in
            [("new", Some("/srv/a")), ("earlier", Some("/srv/b")), ("wrong", None), ("no", None)]
        {
            let found = data_dir_of(&machine.home.path().join(format!("{file}.toml")));
            assert_eq!(found.as_deref(), wanted.map(Path::new), "{file}");
        }
    }

    #[test]
    fn what_is_named_wins_over_what_is_found() {
        let machine = Machine::new(&[
            ("state/url", "http://127.0.0.1:7000"),
            ("state/token", "found"),
            ("config/cli.toml", "url = 'http://127.0.0.1:7001'"),
            ("mine", "named"),
        ]);
        let mut wishes = machine.wishes();
        check(&wishes, "http://127.0.0.1:7001", None);
        wishes.token = Some(Secret::new("variable"));
        check(&wishes, "http://127.0.0.1:7001", Some("variable"));
        wishes.token_file = Some((machine.home.path().join("mine"), Origin::Flag("--token-file")));
        wishes.url = Some(("http://127.0.0.1:7002".into(), Origin::Flag("--url")));
        check(&wishes, "http://127.0.0.1:7002", Some("named"));
    }

    #[test]
    fn a_found_token_is_not_carried_to_another_service() {
        let machine = Machine::new(&[("state/url", "http://127.0.0.1:7000"), ("state/token", "abc")]);
        for elsewhere in ["http://example.com:7000", "http://127.0.0.1:9"] {
            let wishes = Wishes { url: url(elsewhere), ..machine.wishes() };
            let target = Target::find(&wishes).unwrap();
            assert!(target.token.is_none());
            assert!(target.passed_over[0].contains("belongs to another service"), "{:?}", target.passed_over);
        }
        let wishes = Wishes { url: url("http://localhost:7000"), ..machine.wishes() };
        check(&wishes, "http://localhost:7000", Some("abc"));
    }

    #[test]
    fn what_was_named_and_is_not_usable_is_said() {
        let machine = Machine::new(&[("empty", " \n"), ("config/cli.toml", "ulr = 'x'")]);
        let error = Target::find(&machine.wishes()).unwrap_err();
        assert!(error.message().contains("unknown field `ulr`"), "{}", error.message());
        let machine = Machine::new(&[("empty", " \n")]);
        for (file, problem) in [("empty", "is empty"), ("absent", "cannot be read")] {
            let wishes = Wishes {
                token_file: Some((machine.home.path().join(file), Origin::Flag("--token-file"))),
                ..machine.wishes()
            };
            assert!(Target::find(&wishes).unwrap_err().message().contains(problem));
        }
        let wishes = Wishes { url: url("localhost"), ..machine.wishes() };
        assert!(Target::find(&wishes).unwrap_err().message().contains("http://HOST:PORT"));
    }
}
