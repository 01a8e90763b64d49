//! Answers that the client has already, and parts of answers (RFC 9110 §8.8.3, §13, §14).

use http::header::{ETAG, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use sha2::{Digest, Sha256};

use super::body::Body;
use super::failure::Failure;

/// An entity tag, as it stands in a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tag(String);

impl Tag {
    /// The same tag, the same bytes.
    pub(crate) fn strong(text: &str) -> Self {
        Self(format!("\"{text}\""))
    }

    /// The same tag, the same meaning.
    pub(crate) fn weak(text: &str) -> Self {
        Self(format!("W/\"{text}\""))
    }

    /// Tags these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes);
        Self::strong(&digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    /// Whether a request says that the client has what this tag is of: then 304 is the answer (§13.1.2). The comparison
    /// is the weak one.
    pub(crate) fn is_known_to(&self, headers: &HeaderMap) -> bool {
        let bare = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
        let listed = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        listed
            .flat_map(|list| list.split(','))
            .map(str::trim)
            .any(|tag| tag == "*" || bare(tag) == bare(&self.0))
    }

    /// Answers that nothing has changed.
    pub(crate) fn not_modified(&self) -> Response<Body> {
        let mut response = Response::new(Body::whole(""));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        self.put_on(&mut response);
        response
    }

    pub(crate) fn put_on(&self, response: &mut Response<Body>) {
        response.headers_mut().extend(HeaderValue::from_str(&self.0).ok().map(|tag| (ETAG, tag)));
    }
}

/// Tags an answer that is there as a whole by its bytes, or says that the client has them already.
pub(crate) fn tagged(mut response: Response<Body>, headers: &HeaderMap) -> Response<Body> {
    let Some(tag) = response.body().bytes().map(|bytes| Tag::of(bytes)) else { return response };
    if tag.is_known_to(headers) {
        return tag.not_modified();
    }
    tag.put_on(&mut response);
    response
}

/// The bytes of a representation that are to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) first: u64,
    /// The last byte, which is part of it.
    pub(crate) last: u64,
}

/// What a `Range` asks for, before it is held against a length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// `bytes=first-last`, or `bytes=first-`.
    From { first: u64, last: Option<u64> },
    /// `bytes=-length`: the last ones.
    Suffix(u64),
}

impl Wanted {
    /// Reads what part of a representation a request wants. Everything is the answer to what asks for several parts, in
    /// another unit, or in a form that is none (§14.2 leaves each of these to the server), and to who has part of
    /// something that has changed since (§13.1.5, by the strong comparison).
    pub(crate) fn read(headers: &HeaderMap, tag: &Tag) -> Option<Self> {
        if headers.get(IF_RANGE).is_some_and(|condition| condition.as_bytes() != tag.0.as_bytes()) {
            return None;
        }
        let mut values = headers.get_all(RANGE).iter();
        let value = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
        let (unit, range) = value.split_once('=')?;
        let (first, last) = range.trim().split_once('-').filter(|_| unit.eq_ignore_ascii_case("bytes"))?;
        // What is more than a number holds is behind the end of everything.
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().unwrap_or(u64::MAX))
        };
        match (first, last) {
            ("", last) => number(last).map(Self::Suffix),
            (first, "") => number(first).map(|first| Self::From { first, last: None }),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::From { first, last: Some(last) })
            }
        }
    }

    /// Returns where the part would begin in so many bytes.
    pub(crate) fn within(self, total_bytes: u64) -> Result<Part, Failure> {
        let end = total_bytes.checked_sub(1);
        let part = match (self, end) {
            (Self::From { first, last }, Some(end)) => {
                Some(Part { first, last: last.map_or(end, |last| last.min(end)) }).filter(|_| first <= end)
            }
            (Self::Suffix(length @ 1..), Some(end)) => {
                Some(Part { first: total_bytes.saturating_sub(length), last: end })
            }
            (Self::Suffix(0), _) | (_, None) => None,
        };
        part.ok_or(Failure::Range { total_bytes })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_client_that_has_it_is_told_so_by_the_weak_comparison() {
        for (listed, wanted) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\", W/\"a\"", true),
            ("*", true),
            ("\"b\"", false),
            ("a", false),
            ("", false),
            ("w/\"a\"", false),
        ] {
            for tag in [Tag::strong("a"), Tag::weak("a")] {
                assert_eq!(tag.is_known_to(&headers(&[(IF_NONE_MATCH, listed)])), wanted, "{listed}");
            }
        }
        assert!(!Tag::strong("a").is_known_to(&HeaderMap::new()));
        assert_eq!(Tag::of(b"a"), Tag::of(b"a"));
        assert_ne!(Tag::of(b"a"), Tag::of(b"b"));
    }

    #[track_caller]
    fn check(range: &str, total_bytes: u64, wanted: &str) {
        let shown = match Wanted::read(&headers(&[(RANGE, range)]), &Tag::strong("a")) {
            None => "everything".into(),
            Some(range) => match range.within(total_bytes) {
                Ok(Part { first, last }) => format!("{first}-{last}"),
                Err(_) => "nothing".into(),
            },
        };
        assert_eq!(shown, wanted, "{range} of {total_bytes}");
    }

    #[test]
    fn a_part_is_what_lies_within_the_whole() {
        check("bytes=0-4", 10, "0-4");
        check("Bytes= 0-4", 10, "0-4");
        check("bytes=9-9", 10, "9-9");
        check("bytes=5-", 10, "5-9");
        check("bytes=5-99", 10, "5-9");
        check("bytes=5-99999999999999999999", 10, "5-9");
        check("bytes=-3", 10, "7-9");
        check("bytes=-99", 10, "0-9");
        check("bytes=10-", 10, "nothing");
        check("bytes=99999999999999999999-", 10, "nothing");
        check("bytes=-0", 10, "nothing");
        check("bytes=0-", 0, "nothing");
        check("bytes=-1", 0, "nothing");
        for unread in [
            "bytes=4-2",
            "bytes=0-1,3-4",
            "bytes=-",
            "bytes=a-b",
            "bytes=+1-2",
            "lines=0-1",
            "0-1",
            "bytes=1",
            "",
        ] {
            check(unread, 10, "everything");
        }
    }

    #[test]
    fn a_part_of_something_that_has_changed_is_everything() {
        let read = |condition: &str| {
            let asked = headers(&[(RANGE, "bytes=1-"), (IF_RANGE, condition)]);
            Wanted::read(&asked, &Tag::strong("a"))
        };
        assert_eq!(read("\"a\""), Some(Wanted::From { first: 1, last: None }));
        for other in ["\"b\"", "W/\"a\"", "Sat, 29 Oct 1994 19:43:31 GMT", ""] {
            assert_eq!(read(other), None, "{other}");
        }
        let several = HeaderMap::from_iter([
            (RANGE, HeaderValue::from_static("bytes=1-")),
            (RANGE, HeaderValue::from_static("bytes=2-")),
        ]);
        let mut twice = several.clone();
        twice.append(RANGE, HeaderValue::from_static("bytes=2-"));
        assert_eq!(Wanted::read(&twice, &Tag::strong("a")), None);
    }
}
