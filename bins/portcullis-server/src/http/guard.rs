//! Refuses what a web page in a browser could do behind its user's back.
//!
//! A page of another site must not make the browser act here (cross-site requests), nor may it pretend that
//! its own name is this service (DNS rebinding). Both are told by headers that a page cannot set.

use std::net::{IpAddr, SocketAddr};

use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderName, Method, Version};

use super::failure::Failure;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The names that the service answers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    named: Vec<String>,
    only_loopback: bool,
}

impl Hosts {
    /// Answers to these names (without port), and to those of the loopback interface. A service that listens
    /// beyond loopback and was given no name answers to every one.
    #[must_use]
    pub fn new(listening: SocketAddr, named: Vec<String>) -> Self {
        let only_loopback = listening.ip().is_loopback() || !named.is_empty();
        Self { named: named.into_iter().map(|name| name.to_ascii_lowercase()).collect(), only_loopback }
    }

    /// Returns the same names for another address to listen at.
    pub(crate) fn at(&self, listening: SocketAddr) -> Self {
        Self::new(listening, self.named.clone())
    }

    fn answer_to(&self, host: &str) -> bool {
        if !self.only_loopback {
            return true;
        }
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&name);
        // RFC 6761 §6.3: `localhost` and what is beneath it never leave the machine.
        name == "localhost"
            || name.ends_with(".localhost")
            || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            || self.named.contains(&name)
    }

    /// Lets a request through that asks for this service and comes from no other site's page.
    pub(crate) fn check(&self, request: &Parts) -> Result<(), Failure> {
        let authority = authority(request)?;
        let host = host_of(&authority);
        if !self.answer_to(host) {
            return Err(Failure::Host(host.to_owned()));
        }
        // RFC 6454 §7: `scheme://host[:port]`, or `null` where the page has no name.
        for origin in request.headers.get_all(ORIGIN) {
            let origin = origin.to_str().unwrap_or_default();
            let of_ours = origin
                .strip_prefix("http://")
                .or_else(|| origin.strip_prefix("https://"))
                .is_some_and(|named| named.eq_ignore_ascii_case(&authority));
            if !of_ours {
                return Err(Failure::CrossSite(origin.to_owned()));
            }
        }
        // Fetch Metadata: a page on another port of this machine is `same-site`, and no less foreign. Following
        // a link is harmless: it carries no token.
        for site in request.headers.get_all(SEC_FETCH_SITE) {
            let follows_a_link = request.method == Method::GET
                && request.headers.get(SEC_FETCH_MODE).is_some_and(|mode| mode == "navigate");
            if site != "same-origin" && site != "none" && !follows_a_link {
                return Err(Failure::CrossSite(site.to_str().unwrap_or_default().to_owned()));
            }
        }
        Ok(())
    }
}

/// Returns `host[:port]` of a request: of its target when that is absolute, else of its one `Host` (RFC 9112 §3.2).
fn authority(request: &Parts) -> Result<String, Failure> {
    let mut hosts = request.headers.get_all(HOST).iter();
    let first = hosts.next().map(|host| host.to_str().unwrap_or_default());
    if hosts.next().is_some() {
        return Err(Failure::Malformed("the request has more than one `Host`".into()));
    }
    if let Some(authority) = request.uri.authority() {
        return Ok(authority.as_str().to_owned());
    }
    match first {
        Some(host) => Ok(host.to_owned()),
        // HTTP/1.0 knew no `Host`, and its clients are no browsers.
        None if request.version == Version::HTTP_10 => Ok("localhost".into()),
        None => Err(Failure::Malformed("the request has no `Host`".into())),
    }
}

fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn check(listening: &str, named: &[&str], headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method("POST").uri("/api/commands");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let named = named.iter().map(ToString::to_string).collect();
        Hosts::new(listening.parse().unwrap(), named).check(&parts).is_ok()
    }

    #[test]
    fn on_loopback_only_loopback_names_and_configured_ones_are_answered() {
        for (host, wanted) in [
            ("localhost:5000", true),
            ("LOCALHOST.", true),
            ("app.localhost:80", true),
            ("127.0.0.1:5000", true),
            ("127.8.8.8", true),
            ("[::1]:5000", true),
            ("[::1]", true),
            ("Portcullis.example:5000", true),
            ("attacker.example", false),
            ("localhost.attacker.example", false),
            ("127.0.0.1.attacker.example", false),
            ("192.168.1.1", false),
            ("", false),
        ] {
            assert_eq!(check("127.0.0.1:5000", &["portcullis.example"], &[("host", host)]), wanted, "{host}");
        }
    }

    #[test]
    fn beyond_loopback_every_name_is_answered_unless_some_are_configured() {
        assert!(check("0.0.0.0:5000", &[], &[("host", "anything.example")]));
        assert!(check("0.0.0.0:5000", &["a.example"], &[("host", "a.example:5000")]));
        assert!(!check("0.0.0.0:5000", &["a.example"], &[("host", "b.example:5000")]));
    }

    #[test]
    fn a_request_has_exactly_one_host() {
        assert!(!check("127.0.0.1:5000", &[], &[]));
        assert!(!check("127.0.0.1:5000", &[], &[("host", "localhost"), ("host", "localhost")]));
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        for (name, value, wanted) in [
            ("origin", "http://localhost:5000", true),
            ("origin", "https://LOCALHOST:5000", true),
            ("origin", "http://localhost:3000", false),
            ("origin", "https://attacker.example", false),
            ("origin", "http://localhost:5000.attacker.example", false),
            ("origin", "null", false),
            ("origin", "", false),
            ("sec-fetch-site", "same-origin", true),
            ("sec-fetch-site", "none", true),
            ("sec-fetch-site", "same-site", false),
            ("sec-fetch-site", "cross-site", false),
        ] {
            let headers = [("host", "localhost:5000"), (name, value)];
            assert_eq!(check("127.0.0.1:5000", &[], &headers), wanted, "{name}: {value}");
        }
    }
}
