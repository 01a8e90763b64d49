use std::fmt;

use portcullis_core::{Denial, FoundEffect};
use serde::{Deserialize, Serialize};

use crate::InvalidMember;

/// The body of every error: problem details (RFC 9457), `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A reference to what this kind of problem is, relative to the service.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in words, always the same for the same code.
    pub title: String,
    /// The status of the response.
    pub status: u16,
    /// What happened this time, and how to mend it.
    pub detail: String,
    /// Names this very occurrence; the service's log has it too.
    pub instance: String,
    /// The kind of problem for programs: a [`ProblemCode`], or one that this build does not know.
    pub code: String,
    /// One sentence for callers that read nothing else; that of a refused command contains "not allowed".
    pub error: String,
    /// The members of the request that are wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<InvalidMember>,
    /// Why the command line was refused, when it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denial: Option<DenialView>,
    /// The execution that the problem is about, as it stands, when the request found one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<Box<crate::ExecutionView>>,
}

impl Problem {
    /// The media type of a problem.
    pub const MEDIA_TYPE: &'static str = "application/problem+json";

    /// Describes one occurrence of a kind of problem.
    pub fn new(code: ProblemCode, detail: impl Into<String>, instance: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            kind: code.type_reference(),
            title: code.title().to_owned(),
            status: code.status(),
            error: detail.clone(),
            detail,
            instance: instance.into(),
            code: code.as_str().to_owned(),
            errors: Vec::new(),
            denial: None,
            execution: None,
        }
    }

    /// Returns the kind of problem, when this build knows it.
    #[must_use]
    pub fn known_code(&self) -> Option<ProblemCode> {
        ProblemCode::parse(&self.code)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.error, self.code)
    }
}

/// Why a command line was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DenialView {
    /// What was wrong, for programs: two levels, such as `path/protected`.
    pub code: String,
    /// The bytes of the line that it is about.
    pub span: SpanView,
    /// What it is about: a program, a path, an option, an operator.
    pub subject: String,
    /// The rule that denied it, where one did.
    pub rule: Option<RuleView>,
    /// One sentence for a person.
    pub message: String,
    /// What to do instead, where there is something.
    pub suggestion: Option<String>,
    /// What the refused commands of the line would do, as far as their words were understood; the denials in `further`
    /// have none of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<EffectView>,
    /// Everything else that is wrong with the line.
    #[serde(default)]
    pub further: Vec<DenialView>,
}

/// One thing that a refused command would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectView {
    /// `read`, `examine`, `write`, `delete`, `execute`, `network` or `privilege`.
    pub kind: String,
    /// To what: a path, a host, a program, or in words what cannot be named.
    pub subject: String,
    /// How the words say so: `operand`, ``option `-o` ``.
    pub via: String,
    /// The bytes of the line that say so.
    pub span: SpanView,
}

/// A range of bytes in the command line as UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanView {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset behind the last byte.
    pub end: usize,
}

/// A rule and its place in the rulebook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleView {
    /// The rule's name.
    pub name: String,
    /// Its line in the rulebook's file; `null` for a built-in rule.
    pub line: Option<usize>,
}

impl From<&FoundEffect> for EffectView {
    fn from(effect: &FoundEffect) -> Self {
        Self {
            kind: effect.kind.to_string(),
            subject: effect.subject.clone(),
            via: effect.via.clone(),
            span: SpanView { start: effect.span.start, end: effect.span.end },
        }
    }
}

impl From<&Denial> for DenialView {
    fn from(denial: &Denial) -> Self {
        Self {
            code: denial.code.as_str().to_owned(),
            span: SpanView { start: denial.span.start, end: denial.span.end },
            subject: denial.subject.clone(),
            rule: denial.rule.as_ref().map(|rule| RuleView { name: rule.name.clone(), line: rule.line }),
            message: denial.message.clone(),
            suggestion: denial.suggestion.clone(),
            effects: denial.effects.iter().map(EffectView::from).collect(),
            further: denial.further.iter().map(Self::from).collect(),
        }
    }
}

/// Makes the table of codes one place: what is added there is known everywhere.
macro_rules! problem_codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $status:literal, $title:literal;)+) => {
        /// The kinds of problems, each with a stable code, its status and its title.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ProblemCode {
            $($(#[doc = $doc])+ $name,)+
        }

        impl ProblemCode {
            /// Every code there is, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Returns the code on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// Returns the status that goes with it.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }

            /// Returns the kind of problem in words.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }

            /// Returns what the code means and what to do about it.
            #[must_use]
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

problem_codes! {
    /// The request is not HTTP as RFC 9112 has it, or its body is not JSON.
    RequestMalformed = "request/malformed", 400, "Malformed request";
    /// Members or parameters of the request are wrong; `errors` names each with what is accepted.
    RequestInvalid = "request/invalid", 400, "Invalid request";
    /// The execution id holds a character that is not accepted, is too long, or is a reserved word.
    ExecutionIdInvalid = "execution-id/invalid", 400, "Invalid execution id";
    /// The command line is not in the language of Portcullis; `denial` names the place and what to write instead.
    CommandMalformed = "command/malformed", 400, "Command line not understood";
    /// The rules do not allow the command line; `denial` names the place, the rule and what to do instead.
    CommandNotAllowed = "command/not-allowed", 403, "Command not allowed";
    /// No token was sent; every route but `/health` needs `Authorization: Bearer TOKEN`.
    AuthMissing = "auth/missing", 401, "Authentication required";
    /// The token is malformed, unknown, expired or logged out; sign in again.
    AuthInvalidToken = "auth/invalid-token", 401, "Invalid token";
    /// The user lacks the permission to use the service; an administrator can give it.
    AuthForbidden = "auth/forbidden", 403, "Permission denied";
    /// The Auth Service could not say who this is; try again after `Retry-After`.
    AuthUnavailable = "auth/unavailable", 503, "Authentication unavailable";
    /// The request comes from another site's page in a browser.
    RequestCrossSite = "request/cross-site", 403, "Cross-site request refused";
    /// The request's `Host` is none that this service answers to; `PORTCULLIS_ALLOWED_HOSTS` adds names.
    RequestHost = "request/host", 421, "Host not served here";
    /// There is no such route.
    RouteUnknown = "route/unknown", 404, "No such route";
    /// The route exists and does not take this method; `Allow` lists those it takes.
    RouteMethod = "route/method", 405, "Method not allowed";
    /// There is no execution with this id, or it belongs to another user.
    ExecutionNotFound = "execution/not-found", 404, "Execution not found";
    /// There was one, and retention has removed it; its id is free again. A million of these are remembered.
    ExecutionExpired = "execution/expired", 404, "Execution expired";
    /// Another submission, or another user's, has this id; choose another, or let the service choose.
    ExecutionIdTaken = "execution/id-taken", 409, "Execution id taken";
    /// The execution had ended by itself before it could be cancelled; `execution` is its record.
    ExecutionAlreadyEnded = "execution/already-ended", 409, "Execution already ended";
    /// The range of output that was asked for begins behind its end; `Content-Range` says how much there is.
    RangeNotSatisfiable = "range/not-satisfiable", 416, "Range not satisfiable";
    /// The request did not arrive completely in time.
    RequestTimeout = "request/timeout", 408, "Request timeout";
    /// The body is larger than the service accepts; `PORTCULLIS_BODY_LIMIT_BYTES` sets how much that is.
    RequestTooLarge = "request/too-large", 413, "Body too large";
    /// The request's target is longer than the service accepts.
    RequestTargetTooLong = "request/target-too-long", 414, "Target too long";
    /// The request's head has more bytes, or more fields, than the service accepts.
    RequestHeadTooLarge = "request/head-too-large", 431, "Request head too large";
    /// The body must be `application/json`, not compressed.
    RequestMediaType = "request/media-type", 415, "Media type not supported";
    /// This user has too many executions waiting; try again after `Retry-After`.
    QueueUserFull = "queue/user-full", 429, "Too many executions waiting";
    /// The service has too many executions waiting; try again after `Retry-After`.
    QueueFull = "queue/full", 503, "Service busy";
    /// The service is shutting down; try again after `Retry-After`.
    ServiceDraining = "service/draining", 503, "Service shutting down";
    /// The records cannot be read or written at the moment; nothing was accepted.
    StoreUnavailable = "store/unavailable", 503, "Records unavailable";
    /// The service made a mistake; its log has more under the same `instance`.
    Internal = "internal/error", 500, "Internal error";
}

impl ProblemCode {
    /// Reads a code on the wire.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }

    /// Returns the `type` of its problems; the service explains the code at this path.
    #[must_use]
    pub fn type_reference(self) -> String {
        format!("/problems/{}", self.as_str())
    }
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use portcullis_core::{DenialCode, DenialKind, RuleRef, Span};

    use super::*;

    #[test]
    fn codes_are_distinct_and_read_back() {
        let codes: BTreeSet<_> = ProblemCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(codes.len(), ProblemCode::ALL.len());
        for code in ProblemCode::ALL {
            assert_eq!(ProblemCode::parse(code.as_str()), Some(*code));
            assert!((400..600).contains(&code.status()), "{code}");
            assert!(code.explanation().ends_with('.'), "{code}");
        }
    }

    #[test]
    fn a_problem_holds_the_members_of_rfc_9457_and_leaves_out_what_it_has_not() {
        let problem = Problem::new(ProblemCode::ExecutionNotFound, "no `x`", "urn:uuid:1");
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "type": "/problems/execution/not-found", "title": "Execution not found", "status": 404,
                "detail": "no `x`", "instance": "urn:uuid:1", "code": "execution/not-found", "error": "no `x`",
            })
        );
        assert_eq!(serde_json::from_value::<Problem>(json).unwrap(), problem);
    }

    #[test]
    fn a_denial_is_shown_in_full() {
        let inner = |message: &str, further| Denial {
            code: DenialCode::new("program/not-allowed"),
            kind: DenialKind::Forbidden,
            span: Span::new(0, 2),
            subject: "rm".into(),
            rule: Some(RuleRef { name: "base".into(), line: Some(3) }),
            message: message.into(),
            suggestion: None,
            effects: vec![FoundEffect {
                kind: "delete".into(),
                subject: "x".into(),
                via: "operand".into(),
                span: Span::new(3, 4),
            }],
            further,
        };
        let view = DenialView::from(&inner("first", vec![inner("second", vec![])]));
        assert_eq!(
            serde_json::to_value(&view).unwrap(),
            serde_json::json!({
                "code": "program/not-allowed", "span": {"start": 0, "end": 2}, "subject": "rm",
                "rule": {"name": "base", "line": 3}, "message": "first", "suggestion": null,
                "effects": [{"kind": "delete", "subject": "x", "via": "operand", "span": {"start": 3, "end": 4}}],
                "further": [{
                    "code": "program/not-allowed", "span": {"start": 0, "end": 2}, "subject": "rm",
                    "rule": {"name": "base", "line": 3}, "message": "second", "suggestion": null,
                    "effects": [{"kind": "delete", "subject": "x", "via": "operand", "span": {"start": 3, "end": 4}}],
                    "further": [],
                }],
            })
        );
    }
}
