//! What a request prefers (RFC 7240).

use std::time::Duration;

use http::{HeaderMap, HeaderName};

pub(crate) const PREFER: HeaderName = HeaderName::from_static("prefer");
pub(crate) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// How long an answer is held back at the most, whatever the request prefers.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// Returns how long a request would wait for the end of an execution (RFC 7240 §4.3: whole seconds). Of several
/// preferences of this name the first counts (§2); one that cannot be read is no preference.
pub(crate) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences =
        headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok()).flat_map(members);
    let mut named = preferences.filter_map(|preference| {
        // Parameters follow a semicolon; none is known of `wait`.
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim())
    });
    let value = named.next()?;
    let value = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
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
        assert_eq!(wait(&headers), seconds.map(Duration::from_secs), "{values:?}");
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
}
