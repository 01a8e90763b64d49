use std::time::Duration;

use http::Uri;
use http::uri::Scheme;

/// Where the Socket Service is, and how it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketConfig {
    /// The base of its routes, `http://host[:port][/path]`, without `/api`: updates go to
    /// `{base_url}/api/execution-status`. Only `http://` is spoken.
    pub base_url: String,
    /// How long one post may take, from connecting to the head of the answer. A terminal update's gets up to
    /// eight times as long when it fails.
    pub deadline: Duration,
    /// The longest body, in bytes of JSON; longer output is shortened in its middle. The peer's own limit is
    /// 102,400.
    pub max_body_bytes: usize,
    /// The shortest time between two progress updates of one execution; of those between, the newest is sent.
    pub progress_interval: Duration,
    /// How long a terminal update waits after its first failure; then twice as long each time, up to
    /// `longest_retry`, each shortened by chance by up to a half. A longer `Retry-After` of the peer is
    /// obeyed, up to an hour.
    pub first_retry: Duration,
    /// The longest wait of that kind; also the longest pause of an outage.
    pub longest_retry: Duration,
    /// How many executions may have updates pending; announcements for further ones are dropped. Terminal
    /// updates are always taken.
    pub max_pending: usize,
    /// How many posts may be under way at once, over all executions.
    pub posts_at_once: usize,
}

impl SocketConfig {
    /// Waits 5 s for an answer; posts at most 100,000 bytes, 10 progress updates a second per execution and
    /// 32 updates at once; retries after 250 ms to 30 s; keeps updates for at most 4,096 executions.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            deadline: Duration::from_secs(5),
            max_body_bytes: 100_000,
            progress_interval: Duration::from_millis(100),
            first_retry: Duration::from_millis(250),
            longest_retry: Duration::from_secs(30),
            max_pending: 4_096,
            posts_at_once: 32,
        }
    }

    /// The smallest `max_body_bytes`: below it there is no room for an id and a few lines.
    pub const MIN_BODY_BYTES: usize = 1_024;

    /// Checks every field; returns where updates are posted.
    pub(crate) fn check(&self) -> Result<Uri, InvalidSocketConfig> {
        for (setting, is_zero) in [
            ("deadline", self.deadline.is_zero()),
            ("first_retry", self.first_retry.is_zero()),
            ("longest_retry", self.longest_retry.is_zero()),
            ("max_pending", self.max_pending == 0),
            ("posts_at_once", self.posts_at_once == 0),
        ] {
            if is_zero {
                return Err(InvalidSocketConfig::Zero { setting });
            }
        }
        if self.max_body_bytes < Self::MIN_BODY_BYTES {
            return Err(InvalidSocketConfig::BodyTooSmall { bytes: self.max_body_bytes });
        }
        target(&self.base_url)
    }
}

/// Why a [`SocketConfig`] cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSocketConfig {
    /// The base URL is not one.
    #[error(
        "the Socket Service's URL {problem}; write it as `http://HOST[:PORT][/PATH]`, for example `http://socket-service:3002`"
    )]
    BaseUrl {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A number must be more than zero.
    #[error("the Socket Service's `{setting}` is zero: it must be more")]
    Zero {
        /// The field.
        setting: &'static str,
    },
    /// The body limit leaves no room.
    #[error("the Socket Service's `max_body_bytes` is {bytes}: it must be at least {min}", min = SocketConfig::MIN_BODY_BYTES)]
    BodyTooSmall {
        /// What was given.
        bytes: usize,
    },
}

fn target(base: &str) -> Result<Uri, InvalidSocketConfig> {
    let refuse = |problem| Err(InvalidSocketConfig::BaseUrl { problem });
    if base.contains(['?', '#']) {
        return refuse("has a query or fragment");
    }
    let Ok(uri) = base.parse::<Uri>() else {
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
    if authority.as_str().contains('@') {
        return refuse("holds a user or password");
    }
    Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(authority.clone())
        .path_and_query(format!("{}/api/execution-status", uri.path().trim_end_matches('/')))
        .build()
        .or_else(|_| refuse("is not a URL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_go_to_the_status_route_below_the_base() {
        for (base, expected) in [
            ("http://socket-service:3002", "http://socket-service:3002/api/execution-status"),
            ("http://socket-service:3002/", "http://socket-service:3002/api/execution-status"),
            ("http://[::1]:3002/socket/", "http://[::1]:3002/socket/api/execution-status"),
        ] {
            assert_eq!(target(base).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn a_base_url_that_cannot_be_used_is_refused_with_the_reason() {
        for (base, reason) in [
            ("https://socket-service", "TLS proxy"),
            ("socket-service:3002", "does not begin with `http://`"),
            ("ws://socket-service", "does not begin with `http://`"),
            ("", "is not a URL"),
            ("http://me:secret@socket-service", "user or password"),
            ("http://socket-service?x", "query or fragment"),
        ] {
            let error = target(base).unwrap_err().to_string();
            assert!(error.contains(reason) && !error.contains("secret"), "{base}: {error}");
        }
    }

    #[test]
    fn bounds_that_leave_no_room_are_refused() {
        let base = SocketConfig::new("http://a");
        let config = SocketConfig { posts_at_once: 0, ..base.clone() };
        assert_eq!(config.check(), Err(InvalidSocketConfig::Zero { setting: "posts_at_once" }));
        let config = SocketConfig { max_body_bytes: 1_023, ..base };
        assert_eq!(config.check(), Err(InvalidSocketConfig::BodyTooSmall { bytes: 1_023 }));
    }
}
