//! What a request prefers (RFC 7240).

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) const PREFER: HeaderName = HeaderName::from_static("prefer");
pub(crate) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// How long an answer is held back at the most, whatever the request prefers.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// How the answer to a submission is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Preference {
    /// How long to wait for the end of the execution (RFC 7240 §4.3: whole seconds).
    pub(crate) wait: Option<Duration>,
    /// Whether the answer is to come before the end (§4.1); with a wait, when that is over.
    pub(crate) respond_async: bool,
}

impl Preference {
    /// Reads what a request prefers. Of several preferences of one name the first counts (§2); one that cannot be read
    /// is no preference.
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let preferences =
            headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok()).flat_map(members);
        let mut waits = None;
        let mut preferred = Self::default();
        for preference in preferences {
            // Parameters follow a semicolon; none is known of these.
            let written = preference.split(';').next().unwrap_or_default();
            let (name, value) = written.split_once('=').unwrap_or((written, ""));
            match name.trim() {
                name if name.eq_ignore_ascii_case("wait") => {
                    waits.get_or_insert(value.trim());
                }
                name if name.eq_ignore_ascii_case("respond-async") => preferred.respond_async = true,
                _ => {}
            }
        }
        preferred.wait = waits.and_then(seconds);
        preferred
    }

    /// Says what of it was heeded.
    pub(crate) fn applied(self) -> HeaderValue {
        let wait = self.wait.map(|time| format!("wait={}", time.as_secs()));
        let asynchronous = self.respond_async.then(|| "respond-async".to_owned());
        let applied: Vec<String> = asynchronous.into_iter().chain(wait).collect();
        HeaderValue::from_str(&applied.join(", ")).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

fn seconds(written: &str) -> Option<Duration> {
    let value = written.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(written);
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // More than a number holds is more than the limit.
    Some(value.parse().map_or(WAIT_LIMIT, Duration::from_secs).min(WAIT_LIMIT))
}

/// Takes a list apart at its commas, but for those in quoted strings (RFC 9110 §5.6.1, §5.6.4).
fn members(list: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    list.split(move |c| {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = quoted,
            '"' => quoted = !quoted,
            _ => {}
        }
        c == ',' && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[&str], seconds: Option<u64>) {
        let headers: HeaderMap = values.iter().map(|value| (PREFER, value.parse().unwrap())).collect();
        assert_eq!(Preference::read(&headers).wait, seconds.map(Duration::from_secs), "{values:?}");
    }

    #[test]
    fn the_first_wait_that_can_be_read_counts_up_to_the_limit() {
        check(&[], None);
        check(&["respond-async"], None);
        check(&["wait=10"], Some(10));
        check(&["wait=0"], Some(0));
        check(&["respond-async, Wait = 10; strict"], Some(10));
        check(&["handling=lenient", "wait=\"7\", wait=9"], Some(7));
        check(&["foo=\"a, wait=3\\\", wait=4\", wait=5"], Some(5));
        check(&["wait=100000"], Some(60));
        check(&["wait=99999999999999999999999"], Some(60));
        for unread in
            ["wait", "wait=", "wait=-1", "wait=1.5", "wait=+1", "wait=1s", "wait=\"1", "waits=1", "=1", ",,"]
        {
            check(&[unread], None);
        }
    }

    #[test]
    fn what_is_heeded_is_said() {
        let applied = |value: &'static str| {
            let headers = HeaderMap::from_iter([(PREFER, HeaderValue::from_static(value))]);
            Preference::read(&headers).applied()
        };
        assert_eq!(applied("wait=100000"), "wait=60");
        assert_eq!(applied("Respond-Async"), "respond-async");
        assert_eq!(applied("wait=5, respond-async; x=y"), "respond-async, wait=5");
        assert_eq!(applied("handling=strict, respond-asynchronously"), "");
    }
}
