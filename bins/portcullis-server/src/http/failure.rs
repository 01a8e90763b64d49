//! The one place where an error becomes a response.

use std::time::Duration;

use http::header::{ALLOW, CONNECTION, CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use portcullis_api::{DenialView, ExecutionView, InvalidMember, Problem, ProblemCode, ReadError};
use portcullis_core::{AuthenticateError, DenialKind, Execution, InvalidExecutionId, StoreError};
use portcullis_engine::{AccessError, SubmitError};
use time::OffsetDateTime;

use super::Exchange;
use super::body::Body;
use crate::report::chain;

/// Why a request did not get what it asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Malformed(String),
    #[error("the request's target has more than {limit_bytes} bytes")]
    TargetTooLong { limit_bytes: usize },
    #[error("the request's head has more than {limit_bytes} bytes")]
    HeadTooLarge { limit_bytes: usize },
    #[error("the request asks for the host `{}`, which is none of this service's names", .0.escape_debug())]
    Host(String),
    #[error("the request comes from another site (`{}`)", .0.escape_debug())]
    CrossSite(String),
    #[error("there is no such route")]
    NoRoute,
    #[error("the route does not take this method; it takes {}", .0.iter().map(Method::as_str).collect::<Vec<_>>().join(", "))]
    WrongMethod(Vec<Method>),
    #[error(transparent)]
    Unauthenticated(#[from] AuthenticateError),
    #[error("the body's media type is `{}`; `application/json` is accepted", .0.escape_debug())]
    MediaType(String),
    #[error("the body has more than the accepted {limit_bytes} bytes")]
    TooLarge { limit_bytes: usize },
    #[error("the body did not arrive completely within {} s", .time.as_secs_f64())]
    Slow { time: Duration },
    #[error("the body could not be read")]
    BrokenBody(#[source] hyper::Error),
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    #[error("the parameter `{}` {}", .0.pointer, .0.detail)]
    Parameter(InvalidMember),
    #[error("the range begins behind the end: the output has {total_bytes} bytes by now")]
    Range { total_bytes: u64 },
    #[error(transparent)]
    ExecutionId(#[from] InvalidExecutionId),
    #[error("the execution id in the path is not percent-encoded UTF-8")]
    UndecodableId,
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Store(StoreError),
    #[error("the execution `{}` had already ended: it is `{}`", .0.id, .0.status.as_str())]
    AlreadyEnded(Box<Execution>),
    #[error("the service made a mistake")]
    Panicked,
}

/// What a failure becomes: everything about it but this one occurrence.
struct Answer {
    code: ProblemCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    errors: Vec<InvalidMember>,
    denial: Option<DenialView>,
    execution: Option<Box<ExecutionView>>,
}

/// When to come back where nobody said.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(5);

impl From<ProblemCode> for Answer {
    fn from(code: ProblemCode) -> Self {
        Self { code, headers: Vec::new(), errors: Vec::new(), denial: None, execution: None }
    }
}

impl Answer {
    fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    fn retry_after(self, time: Duration) -> Self {
        let seconds = time.as_millis().div_ceil(1000).max(1);
        self.header(RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)))
    }

    fn challenge(self, challenge: &'static str) -> Self {
        self.header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// The rest of the request is not waited for.
    fn closing(self) -> Self {
        self.header(CONNECTION, HeaderValue::from_static("close"))
    }
}

impl Failure {
    /// Says what each failure becomes. Exhaustive, so that a new one must be thought about.
    fn answer(&self) -> Answer {
        use ProblemCode as Code;
        match self {
            Self::Malformed(_) => Code::RequestMalformed.into(),
            Self::TargetTooLong { .. } => Code::RequestTargetTooLong.into(),
            Self::HeadTooLarge { .. } => Code::RequestHeadTooLarge.into(),
            Self::Host(_) => Code::RequestHost.into(),
            Self::CrossSite(_) => Code::RequestCrossSite.into(),
            Self::NoRoute => Code::RouteUnknown.into(),
            Self::WrongMethod(methods) => Answer::from(Code::RouteMethod).header(ALLOW, allow(methods)),
            Self::Unauthenticated(error) => match error {
                AuthenticateError::Missing => {
                    Answer::from(Code::AuthMissing).challenge(r#"Bearer realm="portcullis""#)
                }
                AuthenticateError::Invalid => Answer::from(Code::AuthInvalidToken)
                    .challenge(r#"Bearer realm="portcullis", error="invalid_token""#),
                AuthenticateError::Forbidden { .. } => Answer::from(Code::AuthForbidden)
                    .challenge(r#"Bearer realm="portcullis", error="insufficient_scope""#),
                AuthenticateError::Unavailable { retry_after, .. } => Answer::from(Code::AuthUnavailable)
                    .retry_after(retry_after.unwrap_or(RETRY_AFTER_DEFAULT)),
            },
            Self::MediaType(_) => Code::RequestMediaType.into(),
            Self::TooLarge { .. } => Code::RequestTooLarge.into(),
            Self::Slow { .. } => Answer::from(Code::RequestTimeout).closing(),
            Self::BrokenBody(_) => Answer::from(Code::RequestMalformed).closing(),
            Self::Unreadable(ReadError::Malformed(_)) => Code::RequestMalformed.into(),
            Self::Unreadable(ReadError::Invalid(members)) => {
                // One of the mission's common issues has its own code, also when the id is in a body.
                let only_the_id = members.iter().all(|member| member.pointer == "/executionId");
                let code = if only_the_id { Code::ExecutionIdInvalid } else { Code::RequestInvalid };
                Answer { errors: members.clone(), ..code.into() }
            }
            Self::Parameter(parameter) => {
                Answer { errors: vec![parameter.clone()], ..Code::RequestInvalid.into() }
            }
            Self::Range { total_bytes } => {
                let detail = format!("begins behind the end; bytes below {total_bytes} are accepted");
                let mut answer = Answer::from(Code::RangeNotSatisfiable);
                answer.errors = vec![InvalidMember::new("Range", detail)];
                // RFC 9110 §15.5.17: so that the client knows what there is.
                let whole = HeaderValue::from_str(&format!("bytes */{total_bytes}"));
                answer.headers.extend(whole.ok().map(|whole| (CONTENT_RANGE, whole)));
                answer
            }
            Self::ExecutionId(_) | Self::UndecodableId => Code::ExecutionIdInvalid.into(),
            Self::Submit(error) => match error {
                SubmitError::Denied(denial) => {
                    let code = match denial.kind {
                        DenialKind::Malformed => Code::CommandMalformed,
                        DenialKind::Forbidden => Code::CommandNotAllowed,
                    };
                    Answer { denial: Some((&**denial).into()), ..code.into() }
                }
                SubmitError::IdTaken(_) => Code::ExecutionIdTaken.into(),
                SubmitError::PrincipalBusy { retry_after } => {
                    Answer::from(Code::QueueUserFull).retry_after(*retry_after)
                }
                SubmitError::Busy { retry_after } => Answer::from(Code::QueueFull).retry_after(*retry_after),
                SubmitError::Draining => Answer::from(Code::ServiceDraining).retry_after(RETRY_AFTER_DEFAULT),
                SubmitError::Unjudged(_) => Code::Internal.into(),
                SubmitError::Store(error) => store(error),
            },
            Self::Access(error) => match error {
                AccessError::NotFound(_) => Code::ExecutionNotFound.into(),
                AccessError::Expired(_) => Code::ExecutionExpired.into(),
                AccessError::Store(error) => store(error),
            },
            Self::Store(error) => store(error),
            Self::AlreadyEnded(execution) => {
                let view = ExecutionView::without_output(execution, OffsetDateTime::now_utc());
                Answer { execution: Some(Box::new(view)), ..Code::ExecutionAlreadyEnded.into() }
            }
            Self::Panicked => Code::Internal.into(),
        }
    }

    /// One sentence for the caller. The causes of what went wrong inside are not the caller's.
    fn sentence(&self) -> String {
        match self {
            Self::Submit(SubmitError::Denied(denial)) => format!("command not allowed: {denial}"),
            Self::Submit(SubmitError::Unjudged(_)) => Self::Panicked.to_string(),
            Self::Unauthenticated(error @ AuthenticateError::Forbidden { .. }) => {
                format!("permission denied: {error}")
            }
            other => other.to_string(),
        }
    }

    /// Makes the response, and leaves one line in the log.
    pub(crate) fn into_response(self, exchange: &Exchange) -> Response<Body> {
        let answer = self.answer();
        let status = StatusCode::from_u16(answer.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        self.log(answer.code, exchange);
        let mut problem = Problem::new(answer.code, self.sentence(), exchange.instance());
        problem.errors = answer.errors;
        problem.denial = answer.denial;
        problem.execution = answer.execution;
        let mut response = Response::new(Body::json(&problem));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.extend(answer.headers);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(Problem::MEDIA_TYPE));
        response
    }

    fn log(&self, code: ProblemCode, exchange: &Exchange) {
        let (request_id, (user, user_id)) = (exchange.id, exchange.user());
        let (method, route, status) = (exchange.method.as_str(), exchange.route(), code.status());
        let (code, reason, trace_id) = (code.as_str(), chain(self), exchange.trace_id());
        match self {
            // The engine has said it already, with what only it knows: a refused command is one line.
            Self::Submit(SubmitError::Denied(_)) => {
                tracing::debug!(%request_id, trace_id, user, user_id, method, route, code, reason, "request refused");
            }
            _ if status >= 500 => {
                tracing::error!(%request_id, trace_id, user, user_id, method, route, code, reason, "request failed");
            }
            _ => {
                tracing::info!(%request_id, trace_id, user, user_id, method, route, code, reason, "request refused");
            }
        }
    }
}

fn store(error: &StoreError) -> Answer {
    match error {
        StoreError::Unavailable { .. } => {
            Answer::from(ProblemCode::StoreUnavailable).retry_after(RETRY_AFTER_DEFAULT)
        }
        // The engine asks only for what it has seen; the store says that this cannot be.
        StoreError::Unknown(_) | StoreError::Refused { .. } => ProblemCode::Internal.into(),
    }
}

/// Writes methods for `Allow`.
pub(crate) fn allow(methods: &[Method]) -> HeaderValue {
    let listed = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    HeaderValue::from_str(&listed).unwrap_or_else(|_| HeaderValue::from_static(""))
}
