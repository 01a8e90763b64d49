//! Follows one execution to its end, over lost connections and restarts of the service.

use std::collections::VecDeque;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderName, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use portcullis_api::{EventKind, ExecutionView, OutputEncoding, OutputEvent};
use portcullis_core::{ExecutionId, OutputStream};
use tokio::time::{Instant, sleep_until, timeout};

use crate::failure::Failure;
use crate::http::{Answer, HttpError};
use crate::service::{CallError, Service, execution_path};
use crate::sse::{Event, Parser};

/// The service sends a comment at least every 15 s; three of them missed are a dead connection.
const SILENCE_LIMIT: Duration = Duration::from_secs(45);
/// How long to try for a connection before giving up.
const PATIENCE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What a follower sees next.
#[derive(Debug)]
pub(crate) enum Followed {
    /// Where the execution is: at the beginning, and when it starts.
    Status(Box<ExecutionView>),
    /// Output, each byte once and in order.
    Output(OutputStream, Vec<u8>),
    /// The connection was lost and is being made again.
    Reconnecting(String),
    /// The connection is there again.
    Reconnected,
    /// The final record; nothing follows.
    End(Box<ExecutionView>),
}

/// Follows one execution.
pub(crate) struct Follower<'a> {
    service: &'a Service,
    id: &'a ExecutionId,
    stream: Option<(Incoming, Parser)>,
    ready: VecDeque<Followed>,
    /// The id of the last event: where to go on.
    position: Option<String>,
    /// The number of the last output seen.
    last_seq: u64,
    retry: Option<Duration>,
    lost_since: Option<Instant>,
    try_again_at: Option<Instant>,
    pause: Duration,
}

impl<'a> Follower<'a> {
    /// Follows from the beginning of the output.
    pub(crate) fn new(service: &'a Service, id: &'a ExecutionId) -> Self {
        Self {
            service,
            id,
            stream: None,
            ready: VecDeque::new(),
            position: None,
            last_seq: 0,
            retry: None,
            lost_since: None,
            try_again_at: None,
            pause: FIRST_PAUSE,
        }
    }

    /// Waits for what comes next. After [`Followed::End`] there is nothing to wait for.
    ///
    /// # Errors
    /// When the execution cannot be followed: unknown, not ours, or the service stayed away too long.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing; a connection that was being made is begun again.
    pub(crate) async fn next(&mut self) -> Result<Followed, Failure> {
        loop {
            if let Some(followed) = self.ready.pop_front() {
                return Ok(followed);
            }
            let step = match &mut self.stream {
                Some(_) => self.receive().await,
                None => {
                    if let Some(at) = self.try_again_at {
                        sleep_until(at).await;
                    }
                    self.connect().await
                }
            };
            if let Err(error) = step {
                self.stream = None;
                self.bear(error)?;
            }
        }
    }

    /// Opens the stream behind the last event seen.
    async fn connect(&mut self) -> Result<(), CallError> {
        let client = self.service.client();
        let mut headers = vec![(ACCEPT, "text/event-stream")];
        if let Some(position) = &self.position {
            headers.push((LAST_EVENT_ID, position));
        }
        let response = client.open(&execution_path(self.id, "/events"), &headers).await?;
        let (head, body) = response.into_parts();
        if head.status == StatusCode::OK {
            self.stream = Some((body, Parser::default()));
            return Ok(());
        }
        // 204: nothing follows, we have seen all but perhaps the end. 400 to a position that the service gave us:
        // it died before it had stored the last output that it sent, and its record ends before our position.
        let beyond = head.status == StatusCode::BAD_REQUEST && self.position.is_some();
        if beyond || head.status == StatusCode::NO_CONTENT {
            let record = self.service.read(self.id).await?.value;
            if record.status.is_terminal() {
                self.ready.push_back(Followed::End(Box::new(record)));
                return Ok(());
            }
        }
        let body = timeout(SILENCE_LIMIT, client.collect(body)).await.unwrap_or(Ok(Bytes::new()))?;
        Err(self.service.problem(&Answer { status: head.status, headers: head.headers, body }))
    }

    /// Takes the next bytes of the stream.
    async fn receive(&mut self) -> Result<(), CallError> {
        let Some((body, parser)) = &mut self.stream else { return Ok(()) };
        let client = self.service.client();
        let lost = |problem: &str| {
            CallError::Http(HttpError::Lost { url: client.base().to_string(), problem: problem.to_owned() })
        };
        let frame = match timeout(SILENCE_LIMIT, body.frame()).await {
            Err(_) => return Err(lost("it fell silent")),
            Ok(None) => return Err(lost("the service closed it")),
            Ok(Some(frame)) => frame.map_err(|error| client.lost(&error))?,
        };
        let mut events = Vec::new();
        if let Ok(data) = frame.into_data() {
            parser
                .push(&data, |event, id| events.push((event, id.map(str::to_owned))))
                .map_err(|error| self.service.strange(StatusCode::OK, error.to_string()))?;
        }
        self.retry = parser.retry().or(self.retry);
        for (event, id) in events {
            // Only an event shows that the service is back: a proxy in front of it accepts connections too.
            if self.lost_since.take().is_some() {
                self.ready.push_back(Followed::Reconnected);
            }
            self.take(event).map_err(|error| {
                self.service.strange(StatusCode::OK, format!("an event cannot be read: {error}"))
            })?;
            self.position = id.or(self.position.take());
            self.pause = FIRST_PAUSE;
        }
        Ok(())
    }

    fn take(&mut self, event: Event) -> Result<(), Box<dyn std::error::Error>> {
        let followed = match EventKind::parse(&event.kind) {
            Some(EventKind::Status) => Followed::Status(serde_json::from_str(&event.data)?),
            Some(EventKind::End) => Followed::End(serde_json::from_str(&event.data)?),
            Some(EventKind::Output) => {
                let output: OutputEvent = serde_json::from_str(&event.data)?;
                // INVARIANT (each byte once): whatever position the service resumed from.
                if output.seq <= self.last_seq {
                    return Ok(());
                }
                self.last_seq = output.seq;
                let bytes = match output.encoding {
                    None => output.data.into_bytes(),
                    Some(OutputEncoding::Base64) => STANDARD.decode(output.data)?,
                    Some(other) => return Err(format!("its encoding `{other:?}` is not known here").into()),
                };
                Followed::Output(output.stream, bytes)
            }
            // A kind of a later version.
            _ => return Ok(()),
        };
        self.ready.push_back(followed);
        Ok(())
    }

    /// Plans the next try, or gives up.
    fn bear(&mut self, error: CallError) -> Result<(), Failure> {
        let first = self.lost_since.is_none();
        let since = *self.lost_since.get_or_insert_with(Instant::now);
        if !error.is_passing() || since.elapsed() > PATIENCE {
            let gone = error.status() == Some(StatusCode::NOT_FOUND);
            let failure = self.service.failure(error);
            return Err(match gone {
                true => failure,
                false => failure.hint(format!(
                    "the execution does not depend on this connection: `portcullis watch {}` goes on",
                    self.id
                )),
            });
        }
        // A connection that was merely cut is made again at once; a service that is away is given the time it asks.
        let pause = if first {
            self.ready.push_back(Followed::Reconnecting(error.to_string()));
            FIRST_PAUSE
        } else {
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            self.pause.max(self.retry.unwrap_or_default().min(LONGEST_PAUSE))
        };
        self.try_again_at = Some(Instant::now() + pause);
        Ok(())
    }
}
