use std::time::Duration;

use http::Uri;
use http::uri::{Authority, Scheme};

/// Where the Auth Service is, and how it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthConfig {
    /// The base of its routes, `http://host[:port][/path]`. Used as given: the question goes to
    /// `{base_url}/user`. Where no path is given and that answers 404, `{base_url}/api/user` is asked, and
    /// what works is remembered; so both `http://auth-service:8000/api` and `http://auth-service:8000` do.
    ///
    /// Only `http://` is spoken: a TLS peer is reached through a proxy beside the service.
    pub base_url: String,
    /// The permission without which nobody is let in, by its name at the Auth Service; `None` asks for none.
    pub permission: Option<String>,
    /// How long a yes is remembered. A user who logs out may still be let in for as long.
    pub accepted_for: Duration,
    /// How long a no is remembered: an invalid token, or a missing permission.
    pub refused_for: Duration,
    /// How long a token is not asked about again after the peer could not say; a longer `Retry-After` of the
    /// peer is obeyed up to a minute.
    pub failed_for: Duration,
    /// How long one question may take, from connecting to the last byte of the answer.
    pub deadline: Duration,
    /// How many questions may be under way at once; further ones wait within their deadline.
    pub questions_at_once: usize,
    /// How many tokens are remembered or being asked about.
    pub max_entries: usize,
}

impl AuthConfig {
    /// Asks for the permission `run agents`; remembers a yes for 30 s, a no for 5 s, a failure for 1 s, of at
    /// most 4,096 tokens; waits at most 5 s for an answer; asks at most 32 questions at once.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            permission: Some("run agents".into()),
            accepted_for: Duration::from_secs(30),
            refused_for: Duration::from_secs(5),
            failed_for: Duration::from_secs(1),
            deadline: Duration::from_secs(5),
            questions_at_once: 32,
            max_entries: 4_096,
        }
    }
}

/// Why an [`AuthConfig`] cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAuthConfig {
    /// The base URL is not one.
    #[error(
        "the Auth Service's URL {problem}; write it as `http://HOST[:PORT][/PATH]`, for example `http://auth-service:8000/api`"
    )]
    BaseUrl {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A number must be more than zero.
    #[error("the Auth Service's `{setting}` is zero: it must be more")]
    Zero {
        /// The field.
        setting: &'static str,
    },
}

/// A checked base URL: `http`, no user, no query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseUrl {
    authority: Authority,
    /// Empty, or begins with a slash and does not end with one.
    path: String,
}

impl BaseUrl {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidAuthConfig> {
        let refuse = |problem| Err(InvalidAuthConfig::BaseUrl { problem });
        if text.contains(['?', '#']) {
            return refuse("has a query or fragment");
        }
        let Ok(uri) = text.parse::<Uri>() else {
            return refuse("is not a URL");
        };
        match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => {}
            Some(scheme) if *scheme == Scheme::HTTPS => {
                return refuse(
                    "begins with `https://`, which is not spoken here: put a TLS proxy beside the service",
                );
            }
            _ => return refuse("does not begin with `http://`"),
        }
        let Some(authority) = uri.authority().filter(|authority| !authority.host().is_empty()) else {
            return refuse("names no host");
        };
        // A password in a URL ends up in logs; and the peer has no use for it.
        if authority.as_str().contains('@') {
            return refuse("holds a user or password");
        }
        Ok(Self { authority: authority.clone(), path: uri.path().trim_end_matches('/').to_owned() })
    }

    pub(crate) fn has_path(&self) -> bool {
        !self.path.is_empty()
    }

    pub(crate) fn join(&self, path: &str) -> Result<Uri, http::Error> {
        Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.authority.clone())
            .path_and_query(format!("{}{path}", self.path))
            .build()
    }
}

impl AuthConfig {
    /// Checks every field.
    pub(crate) fn check(&self) -> Result<BaseUrl, InvalidAuthConfig> {
        for (setting, is_zero) in [
            ("deadline", self.deadline.is_zero()),
            ("questions_at_once", self.questions_at_once == 0),
            ("max_entries", self.max_entries == 0),
        ] {
            if is_zero {
                return Err(InvalidAuthConfig::Zero { setting });
            }
        }
        BaseUrl::parse(&self.base_url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn joined(base: &str) -> String {
        BaseUrl::parse(base).unwrap().join("/user").unwrap().to_string()
    }

    #[test]
    fn a_base_url_is_used_as_given() {
        assert_eq!(joined("http://auth-service:8000/api"), "http://auth-service:8000/api/user");
        assert_eq!(joined("http://auth-service:8000/api/"), "http://auth-service:8000/api/user");
        assert_eq!(joined("http://ogent-auth-service:5000"), "http://ogent-auth-service:5000/user");
        assert_eq!(joined("http://[::1]:5000/"), "http://[::1]:5000/user");
    }

    #[test]
    fn a_base_url_that_cannot_be_used_is_refused_with_the_reason() {
        for (text, reason) in [
            ("https://auth-service/api", "TLS proxy"),
            ("auth-service:8000", "does not begin with `http://`"),
            ("ftp://auth-service", "does not begin with `http://`"),
            ("/api", "does not begin with `http://`"),
            ("", "is not a URL"),
            ("http://", "is not a URL"),
            ("http://a b/", "is not a URL"),
            ("http://me:secret@auth-service/api", "user or password"),
            ("http://auth-service/api?x=1", "query or fragment"),
        ] {
            let error = BaseUrl::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_bound_of_zero_is_refused() {
        let config = AuthConfig { deadline: Duration::ZERO, ..AuthConfig::new("http://a") };
        assert_eq!(config.check(), Err(InvalidAuthConfig::Zero { setting: "deadline" }));
    }
}
