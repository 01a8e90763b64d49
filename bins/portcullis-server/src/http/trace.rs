//! The trace that a request belongs to (W3C Trace Context).

use http::HeaderMap;
use portcullis_core::TraceContext;

/// Returns the caller's span, when exactly one well-formed `traceparent` came with the request (§4.3).
pub(super) fn caller(headers: &HeaderMap) -> Option<TraceContext> {
    let mut parents = headers.get_all("traceparent").iter();
    let parent = parents.next().filter(|_| parents.next().is_none()).and_then(|value| value.to_str().ok());
    let state = headers.get_all("tracestate").iter();
    // A value that is no text spoils the whole.
    let state = state.map(|value| value.to_str().unwrap_or("?"));
    parent.and_then(|parent| TraceContext::parse(parent, state))
}

/// Returns the request's own span: beneath its caller's, else in a trace that begins here.
pub(super) fn beneath(caller: Option<&TraceContext>) -> TraceContext {
    caller.map_or_else(TraceContext::begin, TraceContext::child)
}

/// The span of a request, which ends when this is dropped: with its answer, or when its peer has gone before that.
#[cfg(feature = "otel")]
pub(super) struct Traced {
    pub(super) span: Option<crate::telemetry::RequestSpan>,
    pub(super) exchange: std::sync::Arc<super::Exchange>,
    pub(super) status: Option<http::StatusCode>,
}

#[cfg(feature = "otel")]
impl Drop for Traced {
    fn drop(&mut self) {
        let Some(span) = self.span.take() else { return };
        let user_id = self.exchange.principal.get().map(|principal| &*principal.id);
        span.end(self.exchange.route.get().copied(), self.status, user_id);
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(headers: &[(&'static str, &'static [u8])]) -> TraceContext {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap()));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value);
        }
        beneath(caller(&map).as_ref())
    }

    #[test]
    fn a_request_goes_on_with_its_callers_trace_or_begins_its_own() {
        let parent = PARENT.as_bytes();
        let ours = read(&[("traceparent", parent), ("tracestate", b"a=1"), ("tracestate", b"b=2")]);
        assert_eq!(ours.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_ne!(ours.span_id(), "00f067aa0ba902b7");
        assert_eq!(ours.state(), Some("a=1,b=2"));
        let lone = read(&[("traceparent", parent), ("tracestate", b"a=\xff")]);
        assert_eq!((lone.trace_id(), lone.state()), (ours.trace_id(), None));
        for wrong in [
            &[("traceparent", parent), ("traceparent", parent)][..],
            &[("traceparent", b"00-x"), ("tracestate", b"a=1")],
            &[("tracestate", b"a=1")],
            &[],
        ] {
            let begun = read(wrong);
            assert_ne!(begun.trace_id(), ours.trace_id());
            assert_eq!(begun.state(), None);
        }
    }
}
