use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use portcullis_core::{Status, Subscription};

use super::address::Network;
use super::secret::SigningSecret;

/// An endpoint that is posted how executions ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookConfig {
    /// Its name, unique among endpoints: up to 64 of `a-z 0-9 - _`.
    pub name: String,
    /// Where it is: `https://`, or `http://` when `allowed_networks` names where that may lead.
    pub url: String,
    /// With each of these every message is signed; at least one. Two while the receiver changes its secret.
    pub secrets: Vec<SigningSecret>,
    /// Only endings with one of these; all when there is none.
    pub statuses: Vec<Status>,
    /// Only lines that name one of these programs; all when there is none.
    pub programs: Vec<String>,
    /// Addresses that it may have beside public ones.
    pub allowed_networks: Vec<Network>,
    /// File with the certificates (PEM) of who may vouch for it, in place of those that this host trusts.
    pub ca_file: Option<PathBuf>,
    /// How long an attempt may take, from the look-up of its name to the head of its answer.
    pub timeout: Duration,
}

impl WebhookConfig {
    /// Posts every ending to a public address, in attempts of at most 15 s.
    pub fn new(name: impl Into<String>, url: impl Into<String>, secrets: Vec<SigningSecret>) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            secrets,
            statuses: Vec::new(),
            programs: Vec::new(),
            allowed_networks: Vec::new(),
            ca_file: None,
            timeout: Duration::from_secs(15),
        }
    }

    /// Returns which endings it is posted.
    pub(crate) fn subscription(&self) -> Subscription {
        Subscription {
            endpoint: self.name.clone(),
            url: self.url.clone(),
            statuses: self.statuses.clone(),
            programs: self.programs.clone(),
        }
    }

    /// Checks everything that can be checked without a look at the host; returns where it is.
    ///
    /// # Errors
    /// The first thing that is wrong. Nothing of a secret, or of the URL's query, is in it.
    pub fn check(&self) -> Result<Place, InvalidWebhook> {
        let refuse =
            |problem: &str| Err(InvalidWebhook { endpoint: self.name.clone(), problem: problem.to_owned() });
        let fits =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        if self.name.is_empty() || self.name.len() > 64 || !self.name.bytes().all(fits) {
            return refuse("its name is not one: up to 64 of `a-z 0-9 - _` are accepted");
        }
        if self.secrets.is_empty() {
            return refuse(
                "it has no secret: without one its receiver cannot tell our messages from anybody's",
            );
        }
        if self.timeout.is_zero() {
            return refuse("its timeout is zero: it must be more");
        }
        if let Some(status) = self.statuses.iter().find(|status| !status.is_terminal()) {
            return refuse(&format!("`{}` is no way to end", status.as_str()));
        }
        let Ok(uri) = self.url.parse::<Uri>() else { return refuse("its URL is none") };
        if self.url.contains('#') {
            return refuse("its URL has a fragment, which is never sent");
        }
        let https = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return refuse("its URL does not begin with `https://`"),
        };
        if !https && self.allowed_networks.is_empty() {
            return refuse(
                "its URL begins with `http://`: in the clear it is posted to only within `allowed_networks`, and \
                 none is named",
            );
        }
        let Some(authority) = uri.authority().filter(|authority| !authority.host().is_empty()) else {
            return refuse("its URL names no host");
        };
        if authority.as_str().contains('@') {
            return refuse("its URL holds a user or password, which is not sent: messages are signed");
        }
        let host = authority.host();
        let port = match (authority.port(), https) {
            (Some(port), _) => port.as_u16(),
            (None, _) if authority.as_str().len() != host.len() => return refuse("its URL's port is none"),
            (None, true) => 443,
            (None, false) => 80,
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let shown = format!("{}://{authority}{}", if https { "https" } else { "http" }, uri.path());
        Ok(Place {
            https,
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            authority: authority.to_string(),
            path,
            shown,
        })
    }
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub(crate) https: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) authority: String,
    pub(crate) path: String,
    /// The URL without its query, which may be a secret.
    pub shown: String,
}

/// Why an endpoint cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the webhook `{endpoint}` cannot be used: {problem}")]
pub struct InvalidWebhook {
    /// Its name.
    pub endpoint: String,
    /// What is wrong with it.
    pub problem: String,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn secret() -> SigningSecret {
        SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()
    }

    fn config(url: &str) -> WebhookConfig {
        WebhookConfig::new("ci", url, vec![secret()])
    }

    #[test]
    fn a_url_says_where_and_is_shown_without_its_query() {
        let place = config("https://hooks.example:8443/a/b?key=hidden").check().unwrap();
        assert_eq!((place.host.as_str(), place.port, place.https), ("hooks.example", 8443, true));
        assert_eq!(
            (place.path.as_str(), place.authority.as_str()),
            ("/a/b?key=hidden", "hooks.example:8443")
        );
        assert_eq!(place.shown, "https://hooks.example:8443/a/b");
        let place = config("https://[2a00::1]").check().unwrap();
        assert_eq!((place.host.as_str(), place.port, place.path.as_str()), ("2a00::1", 443, "/"));
        let allowed_networks = vec!["127.0.0.0/8".parse().unwrap()];
        let place = WebhookConfig { allowed_networks, ..config("http://localhost/x") }.check().unwrap();
        assert_eq!((place.port, place.https), (80, false));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_reason() {
        for (url, reason) in [
            ("http://hooks.example/", "allowed_networks"),
            ("hooks.example", "does not begin with `https://`"),
            ("ftp://hooks.example", "does not begin with `https://`"),
            ("", "is none"),
            ("https://me:hidden@hooks.example/", "user or password"),
            ("https://hooks.example/#hidden", "fragment"),
            ("https:///x", "is none"),
            ("https://hooks.example:99999/?hidden", "none"),
        ] {
            let problem = config(url).check().unwrap_err().to_string();
            assert!(problem.contains(reason) && problem.contains("`ci`"), "{url}: {problem}");
            assert!(!problem.contains("hidden"), "{problem}");
        }
        let base = config("https://hooks.example");
        for (config, reason) in [
            (WebhookConfig { name: "C I".into(), ..base.clone() }, "its name"),
            (WebhookConfig { secrets: Vec::new(), ..base.clone() }, "no secret"),
            (WebhookConfig { timeout: Duration::ZERO, ..base.clone() }, "timeout"),
            (WebhookConfig { statuses: vec![Status::Running], ..base }, "`running` is no way to end"),
        ] {
            let problem = config.check().unwrap_err().to_string();
            assert!(problem.contains(reason), "{problem}");
        }
    }
}
