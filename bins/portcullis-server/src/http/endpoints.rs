//! What the endpoints answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LINK, LOCATION, RETRY_AFTER, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use portcullis_api::{
    AllowedCommands, ExecuteRequest, ExecutionList, ExecutionView, InvalidMember, Judgement, OutputText,
    ProblemCode, SubmitRequest, SubmitResponse,
};
use portcullis_core::{
    Execution, ExecutionId, ListQuery, OutputChunk, Principal, Status, StoreError, Submission, Verdict,
};
use portcullis_engine::{AccessError, Cancelled, SubmitError, Submitted, Waited};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::body::{Body, RequestBody};
use super::conditions::{self, Tag};
use super::events;
use super::failure::Failure;
use super::output::{self, PIECE_BYTES};
use super::page;
use super::prefer::{PREFERENCE_APPLIED, Preference};
use super::routes::{Open, Private, percent_decode, percent_encode, query_parameters};
use super::{Client, Exchange, Service};
use crate::audit::Entry;
use crate::telemetry::{Format, Metrics};

/// The routes, their requests and their answers in OpenAPI 3.1: written by hand, and held against both by the tests.
const DESCRIPTION: &str = include_str!("../../openapi.json");
/// How much output a record shows at the most; the rest is had from `…/output`.
const VIEW_LIMIT_BYTES: u64 = 1 << 20;
/// How much a record shows while too many large ones are being sent: what every connection may hold at once.
const SMALL_VIEW_BYTES: u64 = 16 * 1024;
/// How many large records are made and sent at once. One may take 16 times its output: text of which every
/// character is escaped, in two members, beside the text itself.
pub(super) const LARGE_VIEWS: usize = 16;
/// How long to wait for room to send a large one.
const LARGE_VIEW_WAIT: Duration = Duration::from_secs(2);
/// How many records a list shows when nobody says, and at the most.
const LIST_DEFAULT: usize = 50;
const LIST_LIMIT: usize = 200;
/// When to look again at what still runs: a hint for who polls.
pub(super) const POLL_AGAIN: HeaderValue = HeaderValue::from_static("1");

/// A request that has got as far as its endpoint.
pub(crate) struct Call<'a> {
    pub(crate) service: &'a Service,
    pub(crate) principal: Principal,
    /// What stands at the route's `:` segments.
    pub(crate) values: Vec<&'a str>,
    pub(crate) head: &'a Parts,
    pub(crate) client: Client,
    pub(crate) exchange: &'a Exchange,
}

/// Answers anybody.
pub(crate) async fn open(
    service: &Service,
    endpoint: Open,
    values: &[&str],
    headers: &HeaderMap,
) -> Result<Response<Body>, Failure> {
    match endpoint {
        Open::Alive => Ok(json(StatusCode::OK, &serde_json::json!({"status": "ok"}))),
        Open::Ready => {
            let readiness = service.health.readiness().await;
            let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            Ok(json(status, &readiness))
        }
        Open::Page => page::file(values.first().copied(), headers),
        Open::Description => {
            let mut response = Response::new(Body::whole(DESCRIPTION));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Ok(conditions::tagged(response, headers))
        }
        Open::Problem => {
            let code = ProblemCode::parse(&values.join("/")).ok_or(Failure::NoRoute)?;
            let text = format!("{} ({})\n\n{}\n", code.title(), code.status(), code.explanation());
            let mut response = Response::new(Body::whole(text));
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            Ok(response)
        }
    }
}

/// Answers with all metrics, in the format that is asked for.
pub(crate) fn metrics(metrics: &Metrics, headers: &HeaderMap) -> Response<Body> {
    let format = Format::wanted(headers);
    let mut response = Response::new(Body::whole(metrics.write(format)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    response
}

/// Answers a principal.
pub(crate) async fn private(
    endpoint: Private,
    mut call: Call<'_>,
    body: RequestBody,
) -> Result<Response<Body>, Failure> {
    match endpoint {
        Private::Submit => call.submit(body).await,
        Private::List => call.list().await,
        Private::Read => call.read().await,
        Private::Cancel => call.cancel().await,
        Private::Events => call.events().await,
        Private::Output => call.output().await,
        Private::Validate => call.validate(body).await,
        Private::Execute => call.execute(body).await,
        Private::EarlierSubmit => call.earlier_submit(body).await,
        Private::EarlierRead => call.earlier_read().await,
        Private::EarlierCancel => call.earlier_cancel().await,
        Private::Metrics => {
            call.parameters::<0>([])?;
            Ok(metrics(&call.service.metrics, &call.head.headers))
        }
        Private::Allowed => {
            call.parameters::<0>([])?;
            let allowed = call.service.engine.allowed(&call.principal);
            Ok(call.tagged(json(StatusCode::OK, &AllowedCommands::of(allowed))))
        }
    }
}

impl Call<'_> {
    async fn submit(&mut self, body: RequestBody) -> Result<Response<Body>, Failure> {
        self.parameters::<0>([])?;
        let prefer = Preference::read(&self.head.headers);
        let bytes = self.json_body(body).await?;
        let (id, submission) = SubmitRequest::read(&bytes)?.into_submission();
        let submission = self.submission(submission);
        let submitted = self.service.engine.submit(&self.principal, id, submission).await?;
        let (code, status, id) = match submitted {
            // It may have been started in the same moment; what is told is its acceptance.
            Submitted::New(execution) => (StatusCode::CREATED, Status::Scheduled, execution.id),
            Submitted::Same(execution) => (StatusCode::OK, execution.status, execution.id),
        };
        let location = format!("/api/commands/{id}");
        let mut response = match prefer.wait {
            Some(limit) => self.waited(&id, limit).await?,
            None => json(code, &SubmitResponse { execution_id: id, status }),
        };
        if prefer.wait.is_none() && prefer.respond_async && !status.is_terminal() {
            *response.status_mut() = StatusCode::ACCEPTED;
        }
        let headers = response.headers_mut();
        headers.extend(HeaderValue::from_str(&location).ok().map(|location| (LOCATION, location)));
        if prefer != Preference::default() {
            headers.insert(PREFERENCE_APPLIED, prefer.applied());
        }
        Ok(response)
    }

    /// Adds to a submission where it comes from.
    pub(super) fn submission(&self, submission: Submission) -> Submission {
        Submission { provenance: self.exchange.provenance.clone(), ..submission }
    }

    async fn list(&self) -> Result<Response<Body>, Failure> {
        let names = ["status", "program", "acceptedFrom", "acceptedBefore", "limit", "cursor"];
        let [status, program, from, before, limit, cursor] = self.parameters(names)?;
        let query = ListQuery {
            owner: None,
            status: status.as_deref().map(read_status).transpose()?,
            accepted_from: from.as_deref().map(|text| read_time("acceptedFrom", text)).transpose()?,
            accepted_before: before.as_deref().map(|text| read_time("acceptedBefore", text)).transpose()?,
            program: program.clone(),
            limit: limit.as_deref().map_or(Ok(LIST_DEFAULT), read_limit)?,
            cursor,
        };
        let (engine, now) = (&self.service.engine, OffsetDateTime::now_utc());
        let page = engine.list(&self.principal, query).await.map_err(|error| match error {
            StoreError::Refused { problem, .. } => parameter("cursor", problem),
            error => Failure::Store(error),
        })?;
        let view = |execution: &Execution| ExecutionView::without_output(execution, now);
        let list = ExecutionList { executions: page.executions.iter().map(view).collect(), next: page.next };
        let mut response = json(StatusCode::OK, &list);
        if let Some(next) = &list.next {
            let kept = [("status", &status), ("program", &program), ("acceptedFrom", &from)];
            let kept = kept.into_iter().chain([("acceptedBefore", &before), ("limit", &limit)]);
            let mut link = format!("</api/commands?cursor={}", percent_encode(next));
            for (name, value) in kept.filter_map(|(name, value)| Some((name, value.as_deref()?))) {
                link.push_str(&format!("&{name}={}", percent_encode(value)));
            }
            link.push_str(">; rel=\"next\"");
            response.headers_mut().extend(HeaderValue::try_from(link).ok().map(|link| (LINK, link)));
        }
        Ok(self.tagged(response))
    }

    /// Tags an answer by its bytes, or says that the client has them already.
    fn tagged(&self, response: Response<Body>) -> Response<Body> {
        conditions::tagged(response, &self.head.headers)
    }

    async fn read(&mut self) -> Result<Response<Body>, Failure> {
        self.parameters::<0>([])?;
        let id = self.id()?;
        let prefer = Preference { respond_async: false, ..Preference::read(&self.head.headers) };
        let Some(limit) = prefer.wait else {
            let execution = self.service.engine.read(&self.principal, &id).await?;
            return self.conditional(&execution, None).await;
        };
        let (execution, output) = self.wait(&id, limit).await?;
        let mut response = self.conditional(&execution, output).await?;
        response.headers_mut().insert(PREFERENCE_APPLIED, prefer.applied());
        Ok(response)
    }

    /// Answers with the record as it is when the execution has ended, or, with 202, when the time is over.
    pub(super) async fn waited(
        &mut self,
        id: &ExecutionId,
        limit: Duration,
    ) -> Result<Response<Body>, Failure> {
        let (execution, output) = self.wait(id, limit).await?;
        let mut response = self.record(&execution, output).await?;
        if !execution.status.is_terminal() {
            *response.status_mut() = StatusCode::ACCEPTED;
            response.headers_mut().insert(RETRY_AFTER, POLL_AGAIN);
        }
        Ok(response)
    }

    /// Returns the record, and its output where that is in memory, when the execution has ended, or when the time is
    /// over (RFC 7240 §4.3).
    pub(super) async fn wait(
        &mut self,
        id: &ExecutionId,
        limit: Duration,
    ) -> Result<(Execution, Option<Vec<Arc<OutputChunk>>>), Failure> {
        let Self { service, principal, client, .. } = self;
        Ok(match client.patient(limit, service.engine.wait(principal, id)).await.transpose()? {
            Some(Waited { execution, output }) => (*execution, output),
            None => (service.engine.read(principal, id).await?, None),
        })
    }

    /// Answers with a record, or that the client has it already.
    async fn conditional(
        &self,
        execution: &Execution,
        output: Option<Vec<Arc<OutputChunk>>>,
    ) -> Result<Response<Body>, Failure> {
        let tag = record_tag(execution);
        if tag.is_known_to(&self.head.headers) {
            return Ok(tag.not_modified());
        }
        let mut response = self.record(execution, output).await?;
        if !execution.status.is_terminal() {
            response.headers_mut().insert(RETRY_AFTER, POLL_AGAIN);
        }
        Ok(response)
    }

    async fn cancel(&self) -> Result<Response<Body>, Failure> {
        self.parameters::<0>([])?;
        match self.cancelled().await? {
            Cancelled::Cancelled(execution) => self.record(&execution, None).await,
            Cancelled::AlreadyEnded(execution) => Err(Failure::AlreadyEnded(execution)),
        }
    }

    /// Cancels the execution of the path, and says so in the audit log.
    pub(super) async fn cancelled(&self) -> Result<Cancelled, Failure> {
        let id = self.id()?;
        let cancelled = self.service.engine.cancel(&self.principal, &id).await?;
        if let Some(audit) = &self.service.metrics.audit {
            // It has been done, whether that can be said or not.
            let _ = audit.note(&Entry::cancel(id.as_str(), &self.principal, &self.exchange.provenance));
        }
        Ok(cancelled)
    }

    async fn events(&self) -> Result<Response<Body>, Failure> {
        let [position] = self.parameters(["lastEventId"])?;
        let id = self.id()?;
        let position = events::position(&self.head.headers, position.as_deref())?;
        let engine = &self.service.engine;
        let execution = engine.read(&self.principal, &id).await?;
        if !events::may_resume(&execution, position)? {
            // HTML Living Standard §9.2.3: this tells a browser to stop reconnecting.
            let mut response = Response::new(Body::whole(""));
            *response.status_mut() = StatusCode::NO_CONTENT;
            return Ok(response);
        }
        let (heartbeat, meters) = (self.service.config.heartbeat, &self.service.metrics.meters);
        let watch = engine.watch(&self.principal, &id, position.seq).await?;
        Ok(events::response(watch, position.seq, heartbeat, meters))
    }

    async fn output(&self) -> Result<Response<Body>, Failure> {
        let [stream] = self.parameters(["stream"])?;
        let stream = output::stream(stream.as_deref())?;
        let Self { service, principal, head, .. } = self;
        let execution = service.engine.read(principal, &self.id()?).await?;
        output::response(&service.engine, principal.clone(), execution, stream, &head.headers).await
    }

    async fn validate(&self, body: RequestBody) -> Result<Response<Body>, Failure> {
        self.parameters::<0>([])?;
        let bytes = self.json_body(body).await?;
        let (_, submission) = ExecuteRequest::read(&bytes)?.submit.into_submission();
        let judgement =
            match self.service.engine.judge(&self.principal, &submission).map_err(SubmitError::from)? {
                Verdict::Permit(_, grant) => Judgement::permitted(grant),
                Verdict::Deny(denial) => Judgement::denied(&denial),
            };
        Ok(json(StatusCode::OK, &judgement))
    }

    /// Reads a body of JSON.
    pub(super) async fn json_body(&self, body: RequestBody) -> Result<Bytes, Failure> {
        let config = &self.service.config;
        body.read_json(&self.head.headers, config.body_limit_bytes, config.body_time).await
    }

    /// Reads the id in the path.
    pub(super) fn id(&self) -> Result<ExecutionId, Failure> {
        let written = self.values.first().copied().unwrap_or_default();
        let decoded = percent_decode(written).ok_or(Failure::UndecodableId)?;
        Ok(ExecutionId::parse(&decoded)?)
    }

    /// Reads the query: these parameters, each at most once, and no other.
    pub(super) fn parameters<const N: usize>(
        &self,
        names: [&str; N],
    ) -> Result<[Option<String>; N], Failure> {
        let mut values = [const { None }; N];
        let query = self.head.uri.query().unwrap_or_default();
        let given = query_parameters(query)
            .ok_or_else(|| Failure::Malformed("the query is not percent-encoded UTF-8".into()))?;
        for (name, value) in given {
            let known = names.iter().zip(&mut values).find(|(known, _)| **known == name);
            match known {
                None => return Err(parameter(&name, "is not a parameter of this route".into())),
                Some((_, Some(_))) => return Err(parameter(&name, "stands there more than once".into())),
                Some((_, place)) => *place = Some(value),
            }
        }
        Ok(values)
    }

    /// Answers with a record and the output it has so far, which may be in memory, as far as it fits.
    pub(super) async fn record(
        &self,
        execution: &Execution,
        output: Option<Vec<Arc<OutputChunk>>>,
    ) -> Result<Response<Body>, Failure> {
        self.shown(execution, output, |view| json(StatusCode::OK, &view)).await
    }

    /// Answers with what is written of a record and the output it has so far.
    pub(super) async fn shown(
        &self,
        execution: &Execution,
        output: Option<Vec<Arc<OutputChunk>>>,
        write: impl FnOnce(ExecutionView) -> Response<Body>,
    ) -> Result<Response<Body>, Failure> {
        let large = match execution.output_bytes {
            ..=SMALL_VIEW_BYTES => None,
            _ => {
                let room = self.service.large_views.clone().acquire_owned();
                tokio::time::timeout(LARGE_VIEW_WAIT, room).await.ok().and_then(Result::ok)
            }
        };
        let limit_bytes = if large.is_some() { VIEW_LIMIT_BYTES } else { SMALL_VIEW_BYTES };
        let mut response = write(self.view(execution, output, limit_bytes).await?);
        // What is cut short for want of room is not the record as the tag means it.
        if limit_bytes == VIEW_LIMIT_BYTES || execution.output_bytes <= SMALL_VIEW_BYTES {
            record_tag(execution).put_on(&mut response);
        }
        if let Some(permit) = large {
            response = response.map(|body| body.holding(permit));
        }
        Ok(response)
    }

    async fn view(
        &self,
        execution: &Execution,
        mut output: Option<Vec<Arc<OutputChunk>>>,
        limit_bytes: u64,
    ) -> Result<ExecutionView, AccessError> {
        let mut text = OutputText::default();
        let (mut seq, mut shown) = (0, 0);
        while seq < execution.last_seq && shown < limit_bytes {
            let chunks = match output.take() {
                Some(chunks) => chunks.into_iter().map(Arc::unwrap_or_clone).collect(),
                None => self.service.engine.output(&self.principal, &execution.id, seq, PIECE_BYTES).await?,
            };
            if chunks.is_empty() {
                break;
            }
            for mut chunk in chunks {
                seq = chunk.seq;
                let room = usize::try_from(limit_bytes - shown).unwrap_or(usize::MAX);
                if seq > execution.last_seq || room == 0 {
                    break;
                }
                chunk.bytes.truncate(room);
                shown += chunk.bytes.len() as u64;
                text.push(&chunk);
            }
        }
        // What still runs may yet send the rest of a character.
        if execution.status.is_terminal() {
            text.close();
        }
        let omitted = execution.output_bytes.saturating_sub(shown);
        Ok(ExecutionView::without_output(execution, OffsetDateTime::now_utc()).with_output(&text, omitted))
    }
}

/// Tags a record: what it says follows from these.
fn record_tag(execution: &Execution) -> Tag {
    let view = ExecutionView::without_output(execution, OffsetDateTime::now_utc());
    let accepted = execution.accepted_at.unix_timestamp_nanos();
    Tag::weak(&format!("{accepted:x}-{}-{}-{}", view.status.as_str(), execution.last_seq, view.progress))
}

fn read_status(text: &str) -> Result<Status, Failure> {
    let accepted =
        "`scheduled`, `running`, `completed`, `failed`, `cancelled`, `timeout` or `lost` is accepted";
    Status::parse(text).ok_or_else(|| parameter("status", format!("is `{text}`; {accepted}")))
}

fn read_time(name: &str, text: &str) -> Result<OffsetDateTime, Failure> {
    let accepted = "a time such as `2025-03-25T16:17:12Z` is accepted (RFC 3339)";
    OffsetDateTime::parse(text, &Rfc3339).map_err(|_| parameter(name, format!("is `{text}`; {accepted}")))
}

fn read_limit(text: &str) -> Result<usize, Failure> {
    let limit = text.parse().ok().filter(|limit| (1..=LIST_LIMIT).contains(limit));
    limit.ok_or_else(|| parameter("limit", format!("is `{text}`; 1 to {LIST_LIMIT} is accepted")))
}

/// Says what is wrong with a parameter of the query.
pub(crate) fn parameter(name: &str, detail: String) -> Failure {
    Failure::Parameter(InvalidMember::new(format!("?{name}"), detail))
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let mut response = Response::new(Body::json(value));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
