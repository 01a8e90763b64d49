//! The instruments of the service, and what is read from them.

use std::array;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use portcullis_core::{AuthenticateError, CallResult, Calls, Execution, Reason, Refusal, Status};
use portcullis_policy::code;

use super::exposition::Exposition;
use super::families as family;
use super::instruments::{Counter, Gauge, Histogram, LONG, SHORT, Seconds};
#[cfg(feature = "otel")]
use super::spans::Spans;
use crate::http::paths;

/// Everything that is counted while the service works. Each has its place from the beginning, so the number of series
/// has a bound that no caller moves.
pub struct Meters {
    accepted: Counter,
    repeated: Counter,
    ended: [Counter; ENDS.len()],
    denials: Vec<Counter>,
    queue_wait: Histogram,
    pub(super) launch: Histogram,
    whole: Histogram,
    run: Histogram,
    commands_cpu: Seconds,
    pub(super) output: Counter,
    store: [Operation; StoreCall::ALL.len()],
    authentications: [Counter; LETTINGS.len()],
    auth_service: Arc<PeerMeter>,
    socket_service: Arc<PeerMeter>,
    routes: Vec<RouteMeter>,
    watchers: Gauge,
    #[cfg(feature = "otel")]
    spans: std::sync::OnceLock<Spans>,
}

/// A stream of events that counts as open for as long as this lives.
pub(crate) struct Watching(Arc<Meters>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.watchers.down();
    }
}

/// Every ending that there is.
const ENDS: [(Status, Reason); 14] = [
    (Status::Completed, Reason::Exit),
    (Status::Failed, Reason::Exit),
    (Status::Failed, Reason::Signal),
    (Status::Timeout, Reason::TimeLimit),
    (Status::Failed, Reason::CpuLimit),
    (Status::Failed, Reason::MemoryLimit),
    (Status::Failed, Reason::ProcessLimit),
    (Status::Failed, Reason::OutputLimit),
    (Status::Failed, Reason::FileSizeLimit),
    (Status::Cancelled, Reason::Cancelled),
    (Status::Failed, Reason::Shutdown),
    (Status::Failed, Reason::StartFailed),
    (Status::Failed, Reason::Interrupted),
    (Status::Lost, Reason::ServiceDied),
];

/// What comes of asking who asks.
const LETTINGS: [&str; 5] = ["let_in", "missing", "invalid", "forbidden", "unavailable"];

/// An operation of the store.
#[derive(Debug, Clone, Copy)]
pub(super) enum StoreCall {
    Accept,
    Claim,
    Append,
    Close,
    Read,
    Output,
    List,
    Locate,
    Refuse,
    Refusals,
    Recover,
    Undelivered,
    Delivered,
    Expire,
    Probe,
}

impl StoreCall {
    const ALL: [(Self, &'static str); 15] = [
        (Self::Accept, "accept"),
        (Self::Claim, "claim"),
        (Self::Append, "append"),
        (Self::Close, "close"),
        (Self::Read, "read"),
        (Self::Output, "output"),
        (Self::List, "list"),
        (Self::Locate, "locate"),
        (Self::Refuse, "refuse"),
        (Self::Refusals, "refusals"),
        (Self::Recover, "recover"),
        (Self::Undelivered, "undelivered"),
        (Self::Delivered, "delivered"),
        (Self::Expire, "expire"),
        (Self::Probe, "probe"),
    ];
}

struct Operation {
    time: Histogram,
    failures: Counter,
}

/// What is counted of one peer service.
pub(crate) struct PeerMeter {
    time: Histogram,
    results: [Counter; RESULTS.len()],
}

const RESULTS: [&str; 4] = ["answered", "refused", "failed", "silent"];

impl PeerMeter {
    fn new() -> Arc<Self> {
        Arc::new(Self { time: Histogram::new(SHORT), results: Default::default() })
    }

    fn calls(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RESULTS.into_iter().zip(self.results.iter().map(Counter::read))
    }
}

impl Calls for PeerMeter {
    fn ended(&self, result: CallResult, took: Duration) {
        self.time.see(took);
        let at = match result {
            CallResult::Answered => 0,
            CallResult::Refused => 1,
            CallResult::Failed => 2,
            CallResult::Silent => 3,
        };
        one(&self.results, at);
    }
}

/// What is counted of one route.
struct RouteMeter {
    route: &'static str,
    time: Histogram,
    answers: [[Counter; STATUSES.len()]; METHODS.len()],
}

/// Of the methods of others only that they were others'. (`_OTHER` as in OpenTelemetry's conventions.)
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "_OTHER"];
/// The statuses that the service answers with; the last stands for what a mistake of ours would add.
const STATUSES: [&str; 27] = [
    "200", "201", "202", "204", "206", "304", "400", "401", "403", "404", "405", "406", "408", "409", "410",
    "412", "413", "414", "415", "416", "421", "422", "429", "431", "500", "503", "other",
];

impl RouteMeter {
    fn new(route: &'static str) -> Self {
        let answers = array::from_fn(|_| array::from_fn(|_| Counter::default()));
        Self { route, time: Histogram::new(LONG), answers }
    }
}

/// Where no route was reached.
const NO_ROUTE: &str = "-";

impl Meters {
    /// Begins to count, from nothing.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let routes = [NO_ROUTE].into_iter().chain(paths()).map(RouteMeter::new);
        Arc::new(Self {
            accepted: Counter::default(),
            repeated: Counter::default(),
            ended: Default::default(),
            denials: (0..=code::TABLE.len()).map(|_| Counter::default()).collect(),
            queue_wait: Histogram::new(LONG),
            launch: Histogram::new(LONG),
            whole: Histogram::new(LONG),
            run: Histogram::new(LONG),
            commands_cpu: Seconds::default(),
            output: Counter::default(),
            store: StoreCall::ALL
                .map(|_| Operation { time: Histogram::new(SHORT), failures: Counter::default() }),
            authentications: Default::default(),
            auth_service: PeerMeter::new(),
            socket_service: PeerMeter::new(),
            routes: routes.collect(),
            watchers: Gauge::default(),
            #[cfg(feature = "otel")]
            spans: std::sync::OnceLock::new(),
        })
    }

    /// Has spans sent of what is counted from now on; the first call alone counts.
    #[cfg(feature = "otel")]
    pub fn export(&self, spans: Spans) {
        let _ = self.spans.set(spans);
    }

    /// Returns what takes spans, if they are exported.
    #[cfg(feature = "otel")]
    #[must_use]
    pub fn spans(&self) -> Option<&Spans> {
        self.spans.get()
    }

    /// Returns what counts the questions to the Auth Service.
    pub fn auth_service(&self) -> Arc<dyn Calls> {
        self.auth_service.clone()
    }

    /// Returns what counts the posts to the Socket Service.
    pub fn socket_service(&self) -> Arc<dyn Calls> {
        self.socket_service.clone()
    }

    pub(super) fn accepted(&self, execution: &Execution) {
        self.accepted.one();
        if execution.started_at.is_some() {
            self.queue_wait.see(Duration::ZERO);
        }
    }

    pub(super) fn submitted_again(&self) {
        self.repeated.one();
    }

    pub(super) fn claimed(&self, execution: &Execution) {
        let waited = execution.started_at.map(|started| started - execution.accepted_at);
        self.queue_wait.see(waited.and_then(|waited| waited.try_into().ok()).unwrap_or_default());
    }

    pub(super) fn ended(&self, execution: &Execution) {
        let Some(ending) = &execution.ending else { return };
        if let Some(at) = ENDS.iter().position(|end| *end == (ending.status, ending.reason)) {
            one(&self.ended, at);
        }
        self.whole.see((ending.ended_at - execution.accepted_at).try_into().unwrap_or_default());
        if let Some(usage) = &ending.usage {
            self.run.see(usage.wall_time);
            self.commands_cpu.add(usage.cpu_time);
        }
        #[cfg(feature = "otel")]
        if let Some(spans) = self.spans() {
            spans.execution(execution);
        }
    }

    /// Notes what a start found open.
    pub(super) fn recovered(&self, lost: usize, interrupted: usize) {
        for (end, many) in [
            ((Status::Lost, Reason::ServiceDied), lost),
            ((Status::Failed, Reason::Interrupted), interrupted),
        ] {
            let at = ENDS.iter().position(|known| *known == end);
            if let Some(counter) = at.and_then(|at| self.ended.get(at)) {
                counter.add(many as u64);
            }
        }
    }

    pub(super) fn denied(&self, refusal: &Refusal) {
        let known = code::TABLE.iter().position(|(code, _)| *code == refusal.denial.code);
        one(&self.denials, known.unwrap_or(code::TABLE.len()));
    }

    pub(super) fn store(&self, call: StoreCall, took: Duration, failed: bool) {
        let Some(operation) = self.store.get(call as usize) else { return };
        operation.time.see(took);
        if failed {
            operation.failures.one();
        }
    }

    pub(super) fn authenticated<T>(&self, asked: &Result<T, AuthenticateError>) {
        let at = match asked {
            Ok(_) => 0,
            Err(AuthenticateError::Missing) => 1,
            Err(AuthenticateError::Invalid) => 2,
            Err(AuthenticateError::Forbidden { .. }) => 3,
            Err(AuthenticateError::Unavailable { .. }) => 4,
        };
        one(&self.authentications, at);
    }

    /// Notes that a stream of events is opened.
    pub(crate) fn watching(this: &Arc<Self>) -> Watching {
        this.watchers.up();
        Watching(Arc::clone(this))
    }

    /// Notes an answered request; `route` is the path of its route, if it reached one.
    pub(crate) fn answered(&self, route: Option<&str>, method: &Method, status: StatusCode, took: Duration) {
        let route = route.unwrap_or(NO_ROUTE);
        let Some(meter) = self.routes.iter().find(|meter| meter.route == route) else { return };
        meter.time.see(took);
        let method = METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1);
        let status =
            STATUSES.iter().position(|known| *known == status.as_str()).unwrap_or(STATUSES.len() - 1);
        if let Some(statuses) = meter.answers.get(method) {
            one(statuses, status);
        }
    }

    /// Writes the families of an execution's life.
    pub(super) fn write_executions(&self, to: &mut Exposition) {
        to.family(&family::ACCEPTED).count(&[], self.accepted.read());
        to.family(&family::REPEATED).count(&[], self.repeated.read());
        to.family(&family::DENIALS);
        let codes = code::TABLE.iter().map(|(code, _)| code.as_str()).chain(["other"]);
        for (code, denials) in codes.zip(&self.denials) {
            to.count(&[("code", code)], denials.read());
        }
        to.family(&family::ENDED);
        for ((status, reason), ended) in ENDS.iter().zip(&self.ended) {
            to.count(&[("status", status.as_str()), ("reason", reason.as_str())], ended.read());
        }
        to.family(&family::QUEUE_WAIT).histogram(&[], &self.queue_wait);
        to.family(&family::LAUNCH).histogram(&[], &self.launch);
        to.family(&family::WHOLE).histogram(&[], &self.whole);
        to.family(&family::RUN).histogram(&[], &self.run);
        to.family(&family::COMMANDS_CPU).number(&[], self.commands_cpu.read());
        to.family(&family::OUTPUT).count(&[], self.output.read());
    }

    /// Writes the families of store, peers and requests.
    pub(super) fn write_surroundings(&self, to: &mut Exposition) {
        to.family(&family::STORE);
        for ((_, name), operation) in StoreCall::ALL.iter().zip(&self.store) {
            to.histogram(&[("operation", name)], &operation.time);
        }
        to.family(&family::STORE_FAILURES);
        for ((_, name), operation) in StoreCall::ALL.iter().zip(&self.store) {
            to.count(&[("operation", name)], operation.failures.read());
        }
        to.family(&family::AUTHENTICATIONS);
        for (result, counter) in LETTINGS.iter().zip(&self.authentications) {
            to.count(&[("result", result)], counter.read());
        }
        let peers = [("auth_service", &self.auth_service), ("socket_service", &self.socket_service)];
        to.family(&family::CALLS);
        for (peer, meter) in peers {
            for (result, calls) in meter.calls() {
                to.count(&[("peer", peer), ("result", result)], calls);
            }
        }
        to.family(&family::CALL);
        for (peer, meter) in peers {
            to.histogram(&[("peer", peer)], &meter.time);
        }
        to.family(&family::SPANS);
        #[cfg(feature = "otel")]
        if let Some(spans) = self.spans() {
            spans.write(to);
        }
        to.family(&family::REQUESTS);
        for meter in &self.routes {
            for (method, statuses) in METHODS.iter().zip(&meter.answers) {
                let answers = STATUSES.iter().zip(statuses).map(|(status, answers)| (status, answers.read()));
                for (status, answers) in answers.filter(|(_, answers)| *answers > 0) {
                    let labels = [("route", meter.route), ("method", method), ("status", status)];
                    to.count(&labels, answers);
                }
            }
        }
        to.family(&family::REQUEST);
        for meter in &self.routes {
            to.histogram(&[("route", meter.route)], &meter.time);
        }
        to.family(&family::WATCHERS).count(&[], self.watchers.read());
    }
}

/// Counts one at a place.
fn one(counters: &[Counter], at: usize) {
    if let Some(counter) = counters.get(at) {
        counter.one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_place_and_every_call_its_own() {
        for reason in Reason::ALL {
            assert!(ENDS.iter().any(|(_, known)| *known == reason), "{reason:?}");
        }
        for (at, (call, name)) in StoreCall::ALL.into_iter().enumerate() {
            assert_eq!(call as usize, at, "{name}");
        }
    }

    #[test]
    fn whatever_a_caller_sends_makes_no_series_of_its_own() {
        let meters = Meters::new();
        let before = series(&meters);
        for n in 0..1_000_u16 {
            let method = Method::from_bytes(format!("M{n}").as_bytes()).unwrap();
            let status = StatusCode::from_u16(n.clamp(100, 999)).unwrap();
            meters.answered(None, &method, status, Duration::ZERO);
            meters.answered(Some("/not/a/route"), &method, status, Duration::ZERO);
        }
        assert!(series(&meters) - before <= STATUSES.len());
    }

    fn series(meters: &Meters) -> usize {
        let mut exposition = Exposition::new(crate::telemetry::Format::Text);
        meters.write_surroundings(&mut exposition);
        exposition.end().lines().filter(|line| !line.starts_with('#')).count()
    }
}
