//! A service on a free port of this machine.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use portcullis_api::ExecutionView;
use portcullis_core::{ExecutionStore, Launcher};
use portcullis_engine::{Engine, Parts};
use portcullis_notify::{Silent, WebhooksWatch};
use portcullis_server::health::Health;
use portcullis_server::http::{Hosts, HttpConfig, Service, serve};
use portcullis_server::telemetry::{
    MeasuredAuthenticator, MeasuredLauncher, MeasuredStore, Meters, Metrics, Peers,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::answers::{Answer, Stream};
use crate::doubles::{Actor, AllButRm, Brittle, Tokens};

/// Longer than anything here takes; a test that waits for it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Served {
    client: Client,
    pub(crate) engine: Arc<Engine>,
    pub(crate) service: Arc<Service>,
    pub(crate) actor: Arc<Actor>,
    pub(crate) store: Arc<Brittle>,
    pub(crate) close: watch::Sender<bool>,
    pub(crate) serving: tokio::task::JoinHandle<()>,
}

/// What a test may want otherwise.
pub(crate) struct Wanted {
    pub(crate) http: HttpConfig,
    pub(crate) engine: portcullis_engine::Config,
    pub(crate) cells: usize,
}

impl Served {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Wanted)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut wanted = Wanted {
            http: HttpConfig::new(Hosts::new(address, Vec::new())),
            engine: portcullis_engine::Config::default(),
            cells: 4,
        };
        wanted.engine.flush_interval = Duration::from_millis(1);
        // As the composed service does.
        wanted.engine.confinement = Some(crate::doubles::confinement());
        change(&mut wanted);
        let actor = Actor::new(wanted.cells);
        let store = Arc::new(Brittle::default());
        let meters = Meters::new();
        let launcher: Arc<dyn Launcher> = MeasuredLauncher::new(actor.clone(), meters.clone());
        let parts = Parts {
            policy: Arc::new(AllButRm),
            launcher: launcher.clone(),
            store: MeasuredStore::new(store.clone(), meters.clone()) as Arc<dyn ExecutionStore>,
            notifier: Arc::new(Silent),
        };
        let engine = Engine::start(parts, wanted.engine).await.unwrap();
        let confinement = crate::doubles::confinement();
        let health =
            Health::new(engine.clone(), actor.clone(), store.clone(), confinement, WebhooksWatch::default());
        let authenticator = MeasuredAuthenticator::new(Arc::new(Tokens), meters.clone());
        let (peers, confinement) = (Peers::default(), crate::doubles::confinement());
        let metrics =
            Arc::new(Metrics { meters, engine: engine.clone(), launcher, confinement, peers, audit: None });
        let service = Service::new(engine.clone(), authenticator, health, metrics, wanted.http);
        let (close, closing) = watch::channel(false);
        let serving = tokio::spawn(serve(listener, service.clone(), closing));
        let client = Client { address, token: "alice".into() };
        Self { client, engine, service, actor, store, close, serving }
    }

    /// Ends the service and waits for it.
    pub(crate) async fn close(self) {
        self.close.send(true).unwrap();
        tokio::time::timeout(PATIENCE, self.serving).await.expect("the service ends").unwrap();
    }
}

impl Deref for Served {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// Somebody with a token.
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
}

impl Client {
    /// Begins a request of the client's own.
    pub(crate) fn request(&self, method: &str, path: &str) -> Asked {
        let request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(path)
            .header("host", self.address.to_string());
        Asked { address: self.address, request, token: Some(self.token.clone()), body: Bytes::new() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request("GET", path).send().await
    }

    /// Submits a command line.
    pub(crate) async fn submit(&self, body: serde_json::Value) -> Answer {
        self.request("POST", "/api/commands").json(&body).send().await
    }

    /// Submits a command line under an id and waits for its end.
    pub(crate) async fn run(&self, id: &str, command: &str) -> ExecutionView {
        let body = serde_json::json!({"executionId": id, "command": command});
        self.submit(body).await.expect_status(201);
        self.ended(id).await
    }

    /// Waits for the end of an execution by its events, and reads its record.
    pub(crate) async fn ended(&self, id: &str) -> ExecutionView {
        let mut events = self.events(id, None).await;
        while events.next().await.expect("an end").kind != "end" {}
        self.get(&format!("/api/commands/{id}")).await.expect_status(200).read()
    }

    pub(crate) async fn events(&self, id: &str, last_event_id: Option<&str>) -> Stream {
        let mut asked = self.request("GET", &format!("/api/commands/{id}/events"));
        if let Some(last) = last_event_id {
            asked = asked.header("last-event-id", last);
        }
        asked.stream().await
    }

    /// Sends bytes as they are and returns everything that comes back until the service closes the connection.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        read.expect("the service closes the connection").unwrap_or_default();
        String::from_utf8(answer).unwrap()
    }
}

/// A request that is being made.
pub(crate) struct Asked {
    address: SocketAddr,
    request: http::request::Builder,
    token: Option<String>,
    body: Bytes,
}

impl Asked {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub(crate) fn token(mut self, token: impl Into<Option<&'static str>>) -> Self {
        self.token = token.into().map(str::to_owned);
        self
    }

    pub(crate) fn json(self, body: &serde_json::Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) async fn send(self) -> Answer {
        let method = self.request.method_ref().cloned().unwrap();
        let target = self.request.uri_ref().unwrap().to_string();
        Answer::whole(&method, &target, self.respond().await).await
    }

    pub(crate) async fn stream(self) -> Stream {
        Stream::new(self.respond().await).await
    }

    async fn respond(self) -> http::Response<hyper::body::Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = self.request;
        if let Some(token) = self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::new(self.body)).unwrap();
        let answer = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
        answer.expect("an answer in time").expect("an answer")
    }
}
