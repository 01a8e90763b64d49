//! A Socket Service that remembers what it was told. It outlives every service here.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// One update, as it arrived.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Told {
    #[serde(rename = "executionId")]
    id: String,
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) output: String,
    #[serde(default)]
    pub(crate) error: String,
}

impl Told {
    pub(crate) fn is_final(&self) -> bool {
        self.status != "running"
    }
}

/// Updates by execution, in the order of arrival.
pub(crate) type Updates = BTreeMap<String, Vec<Told>>;

pub(crate) struct Peer {
    url: String,
    told: Arc<Mutex<Updates>>,
    /// Whether answers are held back.
    silent: watch::Sender<bool>,
}

impl Peer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let told = Arc::new(Mutex::new(Updates::new()));
        let (silent, silence) = watch::channel(false);
        let here = Arc::clone(&told);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (told, silence) = (Arc::clone(&here), silence.clone());
                let service = service_fn(move |request| take(request, Arc::clone(&told), silence.clone()));
                // Who is killed in the middle of an update leaves half of one, which does not count.
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { url, told, silent }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Has the peer take updates and answer none of them, or answer again.
    pub(crate) fn be_silent(&self, silent: bool) {
        self.silent.send_replace(silent);
    }

    pub(crate) fn updates(&self) -> Updates {
        self.told.lock().unwrap().clone()
    }

    /// Whether the last update of this execution is a final one.
    pub(crate) fn knows_the_end_of(&self, id: &str) -> bool {
        self.told.lock().unwrap().get(id).and_then(|told| told.last()).is_some_and(Told::is_final)
    }
}

async fn take(
    request: Request<Incoming>,
    told: Arc<Mutex<Updates>>,
    mut silence: watch::Receiver<bool>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let right = request.method() == "POST" && request.uri().path() == "/api/execution-status";
    if let (true, Ok(body)) = (right, request.into_body().collect().await) {
        let update: Told = serde_json::from_slice(&body.to_bytes()).unwrap();
        told.lock().unwrap().entry(update.id.clone()).or_default().push(update);
    }
    let _ = silence.wait_for(|silent| !silent).await;
    Ok(Response::new(Full::from(r#"{"success":true}"#)))
}
