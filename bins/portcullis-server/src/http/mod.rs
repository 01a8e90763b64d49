//! The HTTP side: who asks, what for, and what they get.
//!
//! `routes` is the one table of routes; `failure` the one place where an error becomes a response; what
//! stands between a connection and an endpoint is in `Service::answer`, in order.

mod anonymous;
mod body;
mod conditions;
mod connections;
mod earlier;
mod endpoints;
mod events;
mod failure;
mod guard;
mod output;
mod page;
mod patient;
mod prefer;
mod routes;
mod serve;
mod trace;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderValue, LINK,
    X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderName, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use portcullis_core::{
    AuthenticateError, Authenticator, Credentials, Principal, Provenance, Secret, TraceContext,
};
use portcullis_engine::Engine;
use tokio::sync::{Semaphore, oneshot};
use tracing::Instrument;
use uuid::Uuid;

pub use anonymous::{Anonymous, Network};
pub use body::{Body, BrokenOff};
pub use guard::Hosts;
pub use routes::table;
pub use serve::serve;

use body::RequestBody;
use connections::Place;
use failure::Failure;
pub(crate) use routes::paths;
use routes::{Endpoint, Found, Private};

use crate::health::Health;
use crate::telemetry::Metrics;

/// What the HTTP side holds its peers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// The names that the service answers to.
    pub hosts: Hosts,
    /// Bytes of a request's body.
    pub body_limit_bytes: usize,
    /// Bytes of a request's head.
    pub head_limit_bytes: usize,
    /// Bytes of a request's target.
    pub target_limit_bytes: usize,
    /// Headers of a request.
    pub header_limit: usize,
    /// Time for a request's head to arrive, counted from when the connection is ready for it.
    pub head_time: Duration,
    /// Time for a request's body to arrive.
    pub body_time: Duration,
    /// Time for which a peer may take nothing of a response.
    pub write_patience: Duration,
    /// Connections at once.
    pub connection_limit: usize,
    /// The longest silence on a stream of events.
    pub heartbeat: Duration,
    /// How long an execution may take that an old caller waits for, its time in the queue included, before the answer
    /// is that it goes on.
    pub execute_wait: Duration,
    /// Who acts for requests without a token; `None`: nobody.
    pub anonymous: Option<Anonymous>,
}

impl HttpConfig {
    /// 256 KiB of body, 32 KiB of head, 8 KiB of target, 100 headers; 30 s for a head, 15 s for a body, 30 s
    /// for a peer that does not read; 512 connections; a heartbeat after 10 s of silence;
    /// 110 s for an execution that an old caller waits for; nobody without a token.
    #[must_use]
    pub fn new(hosts: Hosts) -> Self {
        Self {
            hosts,
            body_limit_bytes: 256 * 1024,
            head_limit_bytes: 32 * 1024,
            target_limit_bytes: 8 * 1024,
            header_limit: 100,
            head_time: Duration::from_secs(30),
            body_time: Duration::from_secs(15),
            write_patience: Duration::from_secs(30),
            connection_limit: 512,
            heartbeat: Duration::from_secs(10),
            // The gateway in front of such callers gives up after 120 s.
            execute_wait: Duration::from_secs(110),
            anonymous: None,
        }
    }
}

/// Connections at once of those who fetch metrics at an address of their own.
const SCRAPERS: usize = 16;

/// What answers requests.
pub struct Service {
    engine: Arc<Engine>,
    authenticator: Arc<dyn Authenticator>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    config: HttpConfig,
    scope: Scope,
    /// Bounds the memory that records with much output take.
    large_views: Arc<Semaphore>,
}

/// What a service answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Every route, and what is somebody's only to who shows a token.
    Everything,
    /// The metrics alone, to whoever reaches its address.
    Metrics,
}

/// One request and its response, for the log.
#[derive(Debug)]
pub(crate) struct Exchange {
    id: Uuid,
    method: Method,
    route: OnceLock<&'static str>,
    /// Who asks, as far as that is known.
    principal: OnceLock<Arc<Principal>>,
    /// Where it comes from, and its span.
    provenance: Provenance,
    /// What takes the place of a route that is deprecated.
    successor: OnceLock<String>,
}

/// Who waits for an answer.
#[derive(Debug)]
pub(crate) struct Client {
    /// Its connection.
    place: Arc<Place>,
    /// Closed when the connection is gone.
    gone: oneshot::Sender<()>,
}

impl Client {
    /// Waits for what may take its time, no longer than `limit`, and not for a client that has hung up. Meanwhile the
    /// connection is as expendable as one that streams.
    pub(crate) async fn patient<T>(&mut self, limit: Duration, wanted: impl Future<Output = T>) -> Option<T> {
        let _expendable = self.place.patient();
        tokio::select! {
            biased;
            wanted = wanted => Some(wanted),
            () = tokio::time::sleep(limit) => None,
            () = self.gone.closed() => None,
        }
    }
}

impl Exchange {
    /// Names the exchange in a problem: the same id is in the log.
    fn instance(&self) -> String {
        self.id.urn().to_string()
    }

    fn route(&self) -> &'static str {
        self.route.get().copied().unwrap_or("-")
    }

    /// Names the trace that it belongs to.
    fn trace_id(&self) -> String {
        self.provenance.trace.as_ref().map_or_else(|| "-".into(), TraceContext::trace_id)
    }

    /// Names who asks, by name and by id.
    fn user(&self) -> (&str, &str) {
        self.principal.get().map_or(("-", "-"), |principal| (&principal.name, &principal.id))
    }
}

impl Service {
    /// Answers for this engine, to whom this authenticator lets in.
    #[must_use]
    pub fn new(
        engine: Arc<Engine>,
        authenticator: Arc<dyn Authenticator>,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        config: HttpConfig,
    ) -> Arc<Self> {
        let large_views = Arc::new(Semaphore::new(endpoints::LARGE_VIEWS));
        let scope = Scope::Everything;
        Arc::new(Self { engine, authenticator, health, metrics, config, scope, large_views })
    }

    /// Returns a service that answers with the metrics of this one and nothing else, without a token: for an address of
    /// its own.
    #[must_use]
    pub fn for_scrapers(&self, listening: SocketAddr) -> Arc<Self> {
        let hosts = self.config.hosts.at(listening);
        Arc::new(Self {
            engine: self.engine.clone(),
            authenticator: self.authenticator.clone(),
            health: self.health.clone(),
            metrics: self.metrics.clone(),
            config: HttpConfig { hosts, connection_limit: SCRAPERS, ..self.config.clone() },
            scope: Scope::Metrics,
            large_views: self.large_views.clone(),
        })
    }

    /// Answers one request. It is a task of its own: who hangs up does not leave half of it done, and a
    /// mistake of ours costs one answer.
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
        place: Arc<Place>,
    ) -> Response<Body> {
        let began = Instant::now();
        let caller = trace::caller(request.headers());
        let trace = trace::beneath(caller.as_ref());
        #[cfg(feature = "otel")]
        let span = self
            .metrics
            .meters
            .spans()
            .map(|spans| spans.request(&trace, caller.as_ref(), request.method(), request.uri().path()));
        let exchange = Arc::new(Exchange {
            id: Uuid::now_v7(),
            method: request.method().clone(),
            route: OnceLock::new(),
            principal: OnceLock::new(),
            provenance: Provenance { peer: Some(peer), trace: Some(trace) },
            successor: OnceLock::new(),
        });
        #[cfg(feature = "otel")]
        let mut traced = trace::Traced { span, exchange: exchange.clone(), status: None };
        let (head, incoming) = request.into_parts();
        let body = RequestBody::new(incoming, &head.headers);
        // What the rooms beneath say of this request has its id in the log.
        let span = tracing::info_span!("request", request_id = %exchange.id, trace_id = exchange.trace_id());
        // Dropped with this future: that is how the task hears that nobody waits for the answer any more.
        let (client, _here) = oneshot::channel();
        let client = Client { place, gone: client };
        let task = tokio::spawn({
            let (this, exchange) = (self.clone(), exchange.clone());
            async move { this.attempt(&exchange, head, body, client).await }.instrument(span)
        });
        let attempted = task.await.unwrap_or(Err(Failure::Panicked));
        let mut response = attempted.unwrap_or_else(|failure| failure.into_response(&exchange));
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        headers
            .entry(CONTENT_SECURITY_POLICY)
            .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
        if let Some(successor) = exchange.successor.get() {
            deprecate(headers, successor);
        }
        let (route, status) = (exchange.route.get().copied(), response.status());
        self.metrics.meters.answered(route, &exchange.method, status, began.elapsed());
        #[cfg(feature = "otel")]
        traced.status.replace(status);
        response
    }

    /// Takes a request through everything that stands before its endpoint, cheapest first; nothing of the body
    /// is read for who may not ask.
    async fn attempt(
        &self,
        exchange: &Exchange,
        head: Parts,
        body: RequestBody,
        client: Client,
    ) -> Result<Response<Body>, Failure> {
        self.check_size(&head)?;
        self.config.hosts.check(&head)?;
        let (route, values) = match routes::find(&head.method, head.uri.path()) {
            Found::Route(route, values) => (route, values),
            Found::Methods(methods) if head.method == Method::OPTIONS => return Ok(options(&methods)),
            Found::Methods(methods) => return Err(Failure::WrongMethod(methods)),
            Found::Nothing => return Err(Failure::NoRoute),
        };
        let scraped = route.endpoint == Endpoint::Private(Private::Metrics) && self.scope == Scope::Metrics;
        if self.scope == Scope::Metrics && !scraped {
            return Err(Failure::NoRoute);
        }
        let _ = exchange.route.set(route.path);
        let _ = route.successor(&values).map(|successor| exchange.successor.set(successor));
        if scraped {
            return Ok(endpoints::metrics(&self.metrics, &head.headers));
        }
        match route.endpoint {
            Endpoint::Open(endpoint) => endpoints::open(self, endpoint, &values, &head.headers).await,
            Endpoint::Private(endpoint) => {
                let principal = self.authenticate(&head, exchange).await.inspect_err(|error| {
                    if let AuthenticateError::Forbidden { principal: Some(known), .. } = error {
                        let _ = exchange.principal.set(known.clone());
                    }
                })?;
                let _ = exchange.principal.set(Arc::new(principal.clone()));
                let call =
                    endpoints::Call { service: self, principal, values, head: &head, client, exchange };
                endpoints::private(endpoint, call, body).await
            }
        }
    }

    /// Holds a head to its limits. The server beneath reads a little more than it is told before it refuses.
    fn check_size(&self, head: &Parts) -> Result<(), Failure> {
        let target = head.uri.path_and_query().map_or("", |target| target.as_str());
        let limit_bytes = self.config.target_limit_bytes;
        if target.len() > limit_bytes {
            return Err(Failure::TargetTooLong { limit_bytes });
        }
        let fields = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
        let limit_bytes = self.config.head_limit_bytes;
        if target.len() + fields.sum::<usize>() > limit_bytes {
            return Err(Failure::HeadTooLarge { limit_bytes });
        }
        Ok(())
    }

    async fn authenticate(&self, head: &Parts, exchange: &Exchange) -> Result<Principal, AuthenticateError> {
        let from = exchange.provenance.peer.map(|peer| peer.ip());
        let named = self.config.anonymous.as_ref().zip(from);
        if let Some(named) = named.and_then(|(named, from)| named.principal(head, from)) {
            return Ok(named.clone());
        }
        // What is no token is nobody's; who lets in is asked all the same, so that it is counted and audited.
        let bearer = match bearer(&head.headers) {
            Ok(bearer) => Some(bearer),
            Err(AuthenticateError::Missing) => None,
            Err(_) => Some(Secret::new("")),
        };
        let provenance = exchange.provenance.clone();
        self.authenticator.authenticate(&Credentials { bearer, provenance }).await
    }
}

/// Reads the token of a request (RFC 6750 §2.1). Tokens in the query or the body are not looked for: they end
/// up in logs.
fn bearer(headers: &HeaderMap) -> Result<Secret, AuthenticateError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(AuthenticateError::Missing)?;
    if values.next().is_some() {
        return Err(AuthenticateError::Invalid);
    }
    let text = value.to_str().map_err(|_| AuthenticateError::Invalid)?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(AuthenticateError::Missing);
    }
    let token = token.trim_matches(' ');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if token.is_empty() || !token.bytes().all(plain) {
        return Err(AuthenticateError::Invalid);
    }
    Ok(Secret::new(token))
}

/// Says that a route is deprecated, since when (RFC 9745: 1 December 2026), what takes its place (RFC 5829) and where
/// that is described.
fn deprecate(headers: &mut HeaderMap, successor: &str) {
    headers.insert(HeaderName::from_static("deprecation"), HeaderValue::from_static("@1796083200"));
    let links = format!(
        "<{successor}>; rel=\"successor-version\", </openapi.json>; rel=\"deprecation\"; type=\"application/json\""
    );
    headers.extend(HeaderValue::from_str(&links).ok().map(|links| (LINK, links)));
}

fn options(methods: &[Method]) -> Response<Body> {
    let mut response = Response::new(Body::whole(""));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, failure::allow(methods));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_from_the_header_and_nowhere_else() {
        for (value, wanted) in [
            ("Bearer abc.DEF-_~+/==", Ok("abc.DEF-_~+/==")),
            ("bearer  abc ", Ok("abc")),
            ("Basic YTpi", Err("no token")),
            ("Bearer", Err("not valid")),
            ("Bearer a b", Err("not valid")),
            ("Bearer a\tb", Err("not valid")),
        ] {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
            match (bearer(&headers), wanted) {
                (Ok(secret), Ok(token)) => assert_eq!(secret.reveal(), token),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{value}: {error}"),
                (found, wanted) => panic!("{value}: {found:?} instead of {wanted:?}"),
            }
        }
    }
}
