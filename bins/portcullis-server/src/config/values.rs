//! What the values of settings mean, each read by one function that says what it accepts.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use portcullis_core::{Level, ViewPath};
use portcullis_identity::{AuthConfig, AuthServiceAuthenticator};
use portcullis_notify::{SocketConfig, SocketServiceNotifier};
use portcullis_policy::Rulebook;
use portcullis_sandbox::{Account, Mount};
use tracing_subscriber::EnvFilter;

use super::StoreKind;
use crate::audit::OnFailure;
use crate::http::Network;
use crate::logging::LogFormat;

/// What a text means, or what is accepted instead.
pub(super) type Parsed<T> = Result<T, String>;

/// Accepts whole numbers in a range, which must fit their type.
pub(super) fn whole<T>(accepted: RangeInclusive<T>) -> impl Fn(&str) -> Parsed<T>
where
    T: TryFrom<u64> + Copy + Display + PartialOrd,
{
    move |text| {
        let number = text.parse::<u64>().ok().and_then(|number| T::try_from(number).ok());
        number.filter(|number| accepted.contains(number)).ok_or_else(|| {
            format!("whole numbers from {} to {} are accepted", accepted.start(), accepted.end())
        })
    }
}

pub(super) fn seconds(accepted: RangeInclusive<f64>) -> impl Fn(&str) -> Parsed<Duration> {
    move |text| {
        let seconds = text.parse::<f64>().ok().filter(|seconds| accepted.contains(seconds));
        seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .ok_or_else(|| format!("seconds from {} to {} are accepted", accepted.start(), accepted.end()))
    }
}

/// Reads a number of processors, and returns thousandths of one.
pub(super) fn processors(text: &str) -> Parsed<u32> {
    let number = text.parse::<f64>().ok().filter(|number| (0.01..=4_096.0).contains(number));
    // Within the range there is nothing to be cut.
    number
        .map(|number| (number * 1000.0).round() as u32)
        .ok_or_else(|| "processors from 0.01 to 4096 are accepted, also in fractions".into())
}

pub(super) fn text(text: &str) -> Parsed<String> {
    Ok(text.to_owned())
}

pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err("an absolute path is accepted".into()) }
}

pub(super) fn yes_or_no(text: &str) -> Parsed<bool> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("`yes` or `no` is accepted".into()),
    }
}

pub(super) fn on_failure(text: &str) -> Parsed<OnFailure> {
    match text {
        "refuse" => Ok(OnFailure::Refuse),
        "continue" => Ok(OnFailure::Continue),
        _ => Err("`refuse` or `continue` is accepted".into()),
    }
}

/// Reads names separated by commas.
pub(super) fn names(text: &str) -> Parsed<Vec<String>> {
    let names: Vec<_> = text.split(',').map(|name| name.trim().to_owned()).collect();
    if names.iter().any(String::is_empty) {
        return Err("names separated by commas are accepted, none of them empty".into());
    }
    Ok(names)
}

/// Reads networks separated by commas.
pub(super) fn networks(text: &str) -> Parsed<Vec<Network>> {
    let network = |text: &str| {
        Network::parse(text.trim()).ok_or_else(|| {
            "networks separated by commas are accepted, such as `127.0.0.0/8`, `fd00::/8` or `192.0.2.7`"
                .into()
        })
    };
    text.split(',').map(network).collect()
}

pub(super) fn allowlist(text: &str) -> Parsed<Rulebook> {
    Rulebook::from_allowlist(names(text)?).map_err(|error| error.to_string())
}

pub(super) fn rulebook_file(text: &str) -> Parsed<Rulebook> {
    let content =
        std::fs::read_to_string(path(text)?).map_err(|error| format!("it could not be read: {error}"))?;
    Rulebook::parse(&content).map_err(|error| error.to_string())
}

/// Reads the earlier service's file of rules: the programs, and beneath which directories what they name must lie.
pub(super) fn earlier_rules(text: &str) -> Parsed<Rulebook> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Earlier {
        commands: Vec<String>,
        paths: Option<Vec<String>>,
    }
    let content =
        std::fs::read_to_string(path(text)?).map_err(|error| format!("it could not be read: {error}"))?;
    let earlier: Earlier = serde_json::from_str(&content).map_err(|error| {
        format!("{error}; `{{\"commands\": [names], \"paths\": [directories]}}` is accepted")
    })?;
    let Some(paths) = earlier.paths else {
        return Rulebook::from_allowlist(earlier.commands).map_err(|error| error.to_string());
    };
    let directory = |text: &String| match text.trim_end_matches('/') {
        // What is relative lies in the workspace, which is open to every line.
        "." => Ok(None),
        "" if text.starts_with('/') => Ok(Some(ViewPath::root())),
        bare => ViewPath::parse(bare)
            .map(Some)
            .ok_or_else(|| format!("`{}` of `paths` is no absolute path", text.escape_debug())),
    };
    let paths: Vec<_> = paths.iter().map(directory).collect::<Parsed<_>>()?;
    Rulebook::from_allowlist_beneath(earlier.commands, paths.into_iter().flatten())
        .map_err(|error| error.to_string())
}

pub(super) fn address(text: &str) -> Parsed<SocketAddr> {
    let loopback = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    let address = match loopback {
        Some(port) => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        None => text.parse().ok(),
    };
    address
        .ok_or_else(|| "an address and a port are accepted, such as `127.0.0.1:5000` or `[::]:5000`".into())
}

pub(super) fn auth_service(text: &str) -> Parsed<AuthConfig> {
    let config = AuthConfig::new(text);
    AuthServiceAuthenticator::new(config.clone()).map(|_| config).map_err(|error| error.to_string())
}

pub(super) fn socket_service(text: &str) -> Parsed<SocketConfig> {
    let config = SocketConfig::new(text);
    SocketServiceNotifier::new(config.clone()).map(|_| config).map_err(|error| error.to_string())
}

/// Reads how much a database may take: what is less than an empty one and some room takes would remove everything.
pub(super) fn retention_bytes(text: &str) -> Parsed<u64> {
    match text.parse::<u64>() {
        Ok(bytes) if bytes == 0 || (16 << 20..=1 << 60).contains(&bytes) => Ok(bytes),
        _ => Err(format!("`0`, or whole numbers from {} to {} are accepted", 16 << 20, 1_u64 << 60)),
    }
}

/// Reads a URL that paths are put behind.
pub(super) fn public_url(text: &str) -> Parsed<String> {
    let uri = text.parse::<http::Uri>().ok().filter(|_| !text.contains(['?', '#', '@']));
    match uri.as_ref().and_then(http::Uri::scheme_str) {
        Some("http" | "https") => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err("a URL is accepted, such as `https://portcullis.example`, without query or user".into()),
    }
}

pub(super) fn store(text: &str) -> Parsed<StoreKind> {
    match text {
        "sqlite" => Ok(StoreKind::Sqlite),
        "memory" => Ok(StoreKind::Memory),
        _ => Err("`sqlite` or `memory` is accepted".into()),
    }
}

pub(super) fn level(text: &str) -> Parsed<Option<Level>> {
    match text {
        "best" => Ok(None),
        _ => Level::parse(text)
            .map(Some)
            .ok_or_else(|| "`best`, `full`, `namespaces` or `landlock` is accepted".into()),
    }
}

pub(super) fn mounts(text: &str) -> Parsed<Vec<Mount>> {
    let accepted = "directories separated by commas are accepted, each `/host/dir`, `/host/dir:/where` or \
                    `/host/dir:/where:rw`";
    let mount = |text: &str| {
        let mut parts = text.split(':');
        let source = parts.next()?;
        let target = ViewPath::parse(parts.next().unwrap_or(source))?;
        let writable = match parts.next() {
            None | Some("ro") => false,
            Some("rw") => true,
            Some(_) => return None,
        };
        let source = path(source).ok()?;
        parts.next().is_none().then_some(Mount { source, target, writable })
    };
    text.split(',').map(|text| mount(text.trim()).ok_or_else(|| accepted.to_owned())).collect()
}

pub(super) fn program_path(text: &str) -> Parsed<Vec<PathBuf>> {
    text.split(':')
        .map(|directory| {
            path(directory).map_err(|_| "absolute directories separated by colons are accepted".into())
        })
        .collect()
}

/// Accepts what is a user's name everywhere (POSIX.1-2024, XBD 3.412 and 3.265), and safe in a path.
pub(super) fn user_name(text: &str) -> Parsed<String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    if text.len() <= 32 && text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(fits) {
        return Ok(text.to_owned());
    }
    Err("up to 32 characters of a-z 0-9 _ - that begin with a letter are accepted".into())
}

/// The user that the service becomes when there is one of this name.
pub(super) const ACCOUNT: &str = "portcullis";

/// Reads the name or the uid of a user without privilege.
pub(super) fn account(text: &str) -> Parsed<Account> {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    account_among(&users, text)
}

fn account_among(users: &str, text: &str) -> Parsed<Account> {
    let number = text.parse::<u32>().ok();
    let known = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
        let wanted = name == text || number == Some(uid);
        wanted.then(|| Account { name: Some(name.to_owned()), uid, gid })
    });
    // A uid that nobody has is fit: it owns nothing.
    let unknown = number.map(|uid| Account { name: None, uid, gid: uid });
    match known.or(unknown) {
        None => {
            Err("there is no such user in `/etc/passwd`; the name or uid of one is accepted, or a free uid"
                .into())
        }
        Some(Account { uid: 0, .. } | Account { gid: 0, .. }) => {
            Err("that is root, or its group; a user without privilege is accepted".into())
        }
        Some(Account { uid: u32::MAX, .. }) => Err("that number means `unchanged` to the kernel".into()),
        Some(account) => Ok(account),
    }
}

pub(super) fn log_filter(text: &str) -> Parsed<String> {
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            Err(format!("{error}; accepted is for example `info` or `info,portcullis_engine=debug`"))
        }
    }
}

pub(super) fn log_format(text: &str) -> Parsed<LogFormat> {
    match text {
        "auto" => Ok(LogFormat::Auto),
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        _ => Err("`auto`, `human` or `json` is accepted".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    #[track_caller]
    fn check<T: Debug + PartialEq>(
        parse: impl Fn(&str) -> Parsed<T>,
        accepted: &[(&str, T)],
        refused: &[&str],
    ) {
        for (text, wanted) in accepted {
            assert_eq!(parse(text).as_ref(), Ok(wanted), "{text}");
        }
        for text in refused {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_held_to_their_range_and_type() {
        check(whole(1..=60_u64), &[("1", 1), ("60", 60)], &["0", "61", "-1", "1.5", "1e1", "0x1", "", "ten"]);
        check(whole(0..=u16::MAX), &[("65535", 65535)], &["65536", "18446744073709551616"]);
        let half = Duration::from_millis(500);
        check(seconds(0.0..=2.0), &[("0.5", half)], &["2.1", "-0.1", "NaN", "inf", "", "1s"]);
    }

    #[test]
    fn processors_come_in_fractions() {
        check(
            processors,
            &[("0.5", 500), ("2", 2_000), ("0.01", 10)],
            &["0", "-1", "4097", "NaN", "", "two"],
        );
    }

    #[test]
    fn addresses_have_a_port() {
        let loopback = "127.0.0.1:80".parse().unwrap();
        let accepted = [("localhost:80", loopback), ("[::]:5000", "[::]:5000".parse().unwrap())];
        check(address, &accepted, &["127.0.0.1", "5000", ":5000", "example.com:80", "localhost:x"]);
    }

    #[test]
    fn mounts_name_a_directory_where_it_appears_and_whether_it_may_be_written() {
        let mount = |source: &str, target: &str, writable| Mount {
            source: source.into(),
            target: ViewPath::parse(target).unwrap(),
            writable,
        };
        check(
            mounts,
            &[
                ("/srv/data", vec![mount("/srv/data", "/srv/data", false)]),
                ("/a:/b:ro, /c:/d:rw", vec![mount("/a", "/b", false), mount("/c", "/d", true)]),
            ],
            &["data", "/a:b", "/a:/b:rwx", "/a:/b:rw:x", "/a,", ""],
        );
    }

    #[test]
    fn user_names_are_safe_in_a_path() {
        let accepted = [("user", "user".to_owned()), ("svc-report_1", "svc-report_1".to_owned())];
        check(user_name, &accepted, &["", "Root", "../x", "a/b", "1a", "-a", "a b", &"x".repeat(33)]);
    }

    #[test]
    fn users_are_known_by_name_or_uid_and_are_not_root() {
        let users = "root:x:0:0::/root:/bin/sh\nsvc:x:42:43::/:/bin/false\nwheel:x:44:0::/:/bin/sh\nbroken\n";
        let account = |name: Option<&str>, uid, gid| Account { name: name.map(str::to_owned), uid, gid };
        check(
            |text| account_among(users, text),
            &[
                ("svc", account(Some("svc"), 42, 43)),
                ("42", account(Some("svc"), 42, 43)),
                ("77", account(None, 77, 77)),
            ],
            &["root", "0", "wheel", "44", "nobody-here", "", "-1", "4294967295", "4294967296", "broken"],
        );
    }

    #[test]
    fn networks_are_ranges_or_addresses() {
        let network = |text: &str| Network::parse(text).unwrap();
        check(
            networks,
            &[("127.0.0.0/8, ::1", vec![network("127.0.0.0/8"), network("::1/128")])],
            &["", "localhost", "127.0.0.0/8,", "127.0.0.1/8", "10.0.0.0/33"],
        );
    }

    #[test]
    fn lists_have_no_empty_name() {
        let both = vec!["ls".to_owned(), "cat".to_owned()];
        check(names, &[("ls, cat", both)], &["", "ls,", ",", "ls,,cat"]);
    }
}
