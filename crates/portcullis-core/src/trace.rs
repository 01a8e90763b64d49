//! W3C Trace Context: which larger piece of work a request belongs to.

use std::fmt;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// Where a submission came from: kept with its record, and no part of what is judged or compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The other end of the connection that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<SocketAddr>,
    /// The span that it was submitted in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
}

impl Provenance {
    /// Returns the id of the trace, for the log.
    #[must_use]
    pub fn trace_id(&self) -> Option<String> {
        self.trace.as_ref().map(TraceContext::trace_id)
    }
}

/// A place in a trace: the trace's id, and the span that what follows belongs to.
///
/// ```
/// use portcullis_core::TraceContext;
///
/// let sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let caller = TraceContext::parse(sent, ["vendor=1"]).expect("it is well formed");
/// let ours = caller.child();
/// assert_eq!(ours.trace_id(), caller.trace_id());
/// assert_ne!(ours.span_id(), caller.span_id());
/// assert_eq!(ours.state(), Some("vendor=1"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace: u128,
    span: u64,
    flags: u8,
    state: Option<Box<str>>,
}

/// The flag of a trace that its caller records.
const SAMPLED: u8 = 1;
/// The flags that the recommendation knows, those of level 2 included; others are not sent on (§4.3.2).
const KNOWN_FLAGS: u8 = 0b11;
/// Members and bytes of a `tracestate` that are sent on (§3.3.1.1, §3.3.1.5).
const STATE_MEMBERS: usize = 32;
const STATE_BYTES: usize = 512;

impl TraceContext {
    /// Begins a trace of its own, which is recorded.
    #[must_use]
    pub fn begin() -> Self {
        let trace = (u128::from(random()) << 64) | u128::from(random());
        Self { trace, span: random(), flags: SAMPLED, state: None }
    }

    /// Reads a `traceparent` and the `tracestate` headers beside it, as they stand. A state that is not well formed,
    /// or longer than need be sent on, is left away.
    ///
    /// Returns `None` for a parent that is not exactly as the recommendation has it: then whoever reads it begins a
    /// trace of its own, without the state (W3C Trace Context §3.2.2, §4.3).
    pub fn parse<'a>(parent: &str, state: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut parts = parent.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace = hex(parts.next()?, 32)?;
        let span = hex(parts.next()?, 16)?;
        let flags = hex(parts.next()?, 2)?;
        // Version 255 is forbidden; a later one may have more behind what is known here.
        if version == 0xff || (version == 0 && parts.next().is_some()) || trace == 0 || span == 0 {
            return None;
        }
        let flags = u8::try_from(flags).ok()? & KNOWN_FLAGS;
        Some(Self { trace, span: u64::try_from(span).ok()?, flags, state: state_of(state) })
    }

    /// Returns a new span of the same trace, beneath this one.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span: random(), ..self.clone() }
    }

    /// Returns the span beneath this one that has a name: the same one whenever it is asked for, so that it need
    /// not be kept.
    #[must_use]
    pub fn child_named(&self, name: &str) -> Self {
        // FNV-1a over the span above and the name; it need be hard to meet by chance alone.
        let bytes = self.span.to_be_bytes();
        let hash =
            bytes.iter().copied().chain(name.bytes()).fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        Self { span: hash.max(1), ..self.clone() }
    }

    /// Returns the id of the trace: 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// Returns the id of the span: 16 hexadecimal digits.
    #[must_use]
    pub fn span_id(&self) -> String {
        format!("{:016x}", self.span)
    }

    /// Whether the caller records this trace.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Returns what goes into a `traceparent` header.
    #[must_use]
    pub fn parent(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }

    /// Returns what goes into a `tracestate` header, if anything.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

/// The `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parent())
    }
}

impl Serialize for TraceContext {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.parent(), self.state()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TraceContext {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (parent, state) = <(String, Option<String>)>::deserialize(deserializer)?;
        Self::parse(&parent, state.as_deref()).ok_or_else(|| serde::de::Error::custom("not a `traceparent`"))
    }
}

/// Reads exactly so many digits; those above nine are small letters (§3.2.2).
fn hex(text: &str, digits: usize) -> Option<u128> {
    let plain = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let well_formed = text.len() == digits && text.bytes().all(plain);
    well_formed.then(|| u128::from_str_radix(text, 16).ok())?
}

/// Joins the headers into one, if all of it is well formed and it is no longer than must be sent on.
fn state_of<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Box<str>> {
    let mut members: Vec<&str> = Vec::new();
    for member in headers.into_iter().flat_map(|header| header.split(',')) {
        let member = member.trim_matches([' ', '\t']);
        if member.is_empty() {
            continue;
        }
        let (key, value) = member.split_once('=')?;
        let twice = members.iter().any(|seen| seen.split_once('=').is_some_and(|(seen, _)| seen == key));
        if !is_key(key) || !is_value(value) || twice || members.len() == STATE_MEMBERS {
            return None;
        }
        members.push(member);
    }
    let joined = members.join(",");
    (1..=STATE_BYTES).contains(&joined.len()).then(|| joined.into())
}

/// §3.3.1.3.1: a name, or a tenant's name at a system.
fn is_key(key: &str) -> bool {
    let part = |text: &str, longest: usize, digit_first: bool| {
        let first = text.bytes().next();
        first.is_some_and(|byte| byte.is_ascii_lowercase() || (digit_first && byte.is_ascii_digit()))
            && text.len() <= longest
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/".contains(&byte))
    };
    match key.split_once('@') {
        None => part(key, 256, false),
        Some((tenant, system)) => part(tenant, 241, true) && part(system, 14, false),
    }
}

/// §3.3.1.3.2: printable, without comma and equals sign, and not ending with a blank.
fn is_value(value: &str) -> bool {
    (1..=256).contains(&value.len())
        && value.bytes().all(|byte| (0x20..=0x7e).contains(&byte) && !b",=".contains(&byte))
        && !value.ends_with(' ')
}

/// Returns a number that nobody else has and that is not 0. It need not be hard to guess: an id of a trace opens
/// nothing. (SplitMix64, from a seed of the system.)
fn random() -> u64 {
    static STATE: OnceLock<AtomicU64> = OnceLock::new();
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let state = STATE.get_or_init(|| {
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        AtomicU64::new(high.rotate_left(32) ^ low)
    });
    let mut mixed = state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[track_caller]
    fn check(parent: &str, wanted: bool) {
        let read = TraceContext::parse(parent, []);
        assert_eq!(read.is_some(), wanted, "{parent:?}: {read:?}");
        if let Some(read) = read {
            assert_eq!((read.trace_id().as_str(), read.span_id().as_str()), (TRACE, SPAN));
        }
    }

    #[test]
    fn a_parent_is_read_as_the_recommendation_has_it_and_no_other_is() {
        check(&format!("00-{TRACE}-{SPAN}-01"), true);
        check(&format!("00-{TRACE}-{SPAN}-00"), true);
        check(&format!("00-{TRACE}-{SPAN}-ff"), true);
        check(&format!("01-{TRACE}-{SPAN}-01"), true);
        check(&format!("cc-{TRACE}-{SPAN}-01-what-comes-later"), true);
        for wrong in [
            String::new(),
            "00".into(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("cc-{TRACE}-{SPAN}-01.more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("0x-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{TRACE}0-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-+1"),
            format!(" 00-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01 "),
            format!("00-{TRACE}-{SPAN}-é"),
        ] {
            check(&wrong, false);
        }
    }

    #[test]
    fn flags_that_nobody_knows_are_not_sent_on() {
        let read = TraceContext::parse(&format!("00-{TRACE}-{SPAN}-fe"), []).unwrap();
        assert_eq!(read.parent(), format!("00-{TRACE}-{SPAN}-02"));
        assert!(!read.is_sampled());
    }

    #[track_caller]
    fn state(headers: &[&str]) -> Option<String> {
        let read = TraceContext::parse(&format!("00-{TRACE}-{SPAN}-01"), headers.iter().copied()).unwrap();
        read.state().map(str::to_owned)
    }

    #[test]
    fn a_state_is_sent_on_when_it_is_well_formed() {
        assert_eq!(state(&["a=1", " b=2 ,, c@d=3"]).as_deref(), Some("a=1,b=2,c@d=3"));
        assert_eq!(state(&["0tenant@system=x y"]).as_deref(), Some("0tenant@system=x y"));
        assert_eq!(state(&[]), None);
        let many: Vec<_> = (0..33).map(|n| format!("k{n}=v")).collect();
        let long = format!("a={}", "x".repeat(257));
        for wrong in
            ["a", "A=1", "a=", "a=1=2", "a=1,a=2", "=1", "1a=2", "a@1=2", "a=\u{7f}", &many.join(","), &long]
        {
            assert_eq!(state(&[wrong]), None, "{wrong}");
        }
    }

    #[test]
    fn a_span_beneath_stays_in_the_trace_and_one_with_a_name_is_found_again() {
        let begun = TraceContext::begin();
        assert!(begun.is_sampled());
        assert_ne!(begun.trace_id(), TraceContext::begin().trace_id());
        assert_eq!(begun.child().trace_id(), begun.trace_id());
        assert_ne!(begun.child(), begun.child());
        assert_eq!(begun.child_named("x"), begun.child_named("x"));
        assert_ne!(begun.child_named("x"), begun.child_named("y"));
        assert_ne!(begun.child_named("x"), begun);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let begun = TraceContext::begin();
        assert_eq!(TraceContext::parse(&begun.to_string(), []), Some(begun));
    }
}
