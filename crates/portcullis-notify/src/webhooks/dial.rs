//! One attempt: a name looked up, one of its addresses judged and connected to, a message posted, an answer read.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use portcullis_core::TraceContext;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::address::{Network, is_named, is_public};
use super::config::{InvalidWebhook, Place, WebhookConfig};

/// How long one address is tried, when the name has several.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How much of an answer's head is taken.
const HEAD_BYTES: usize = 16 * 1024;
/// How much of an answer's body is read, and for how long: a receiver that is still writing would be told that its
/// connection was reset, and may take that for a failure.
const BODY_BYTES: usize = 16 * 1024;
const BODY_TIME: Duration = Duration::from_millis(250);

/// What is sent in one attempt.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) id: String,
    pub(crate) timestamp: i64,
    pub(crate) signatures: String,
    pub(crate) body: Bytes,
    /// The execution's span: the endpoint's is beneath it (W3C Trace Context §3).
    pub(crate) trace: Option<TraceContext>,
}

/// What an endpoint answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 2xx: it has the message.
    Taken,
    /// 410: it wants no message any more.
    Gone,
    /// Anything else, or nothing.
    Failed {
        /// What, in our words.
        problem: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
}

/// Makes an attempt at an endpoint.
#[async_trait]
pub(crate) trait Dial: Send + Sync {
    /// Dropping the future may or may not have given the message.
    async fn post(&self, attempt: Attempt) -> Answer;
}

/// An endpoint, reached over HTTP.
pub(crate) struct HttpEndpoint {
    place: Place,
    allowed: Vec<Network>,
    tls: Option<TlsConnector>,
    timeout: Duration,
}

impl HttpEndpoint {
    /// Prepares an endpoint; reads the certificates that may vouch for it.
    pub(crate) fn new(config: &WebhookConfig) -> Result<Self, InvalidWebhook> {
        let place = config.check()?;
        let refuse = |problem: String| InvalidWebhook { endpoint: config.name.clone(), problem };
        let tls = match (place.https, &config.ca_file) {
            (false, _) => None,
            (true, Some(file)) => Some(roots_of_file(file).map_err(refuse)?),
            (true, None) => Some(roots_of_host().map_err(refuse)?),
        };
        let tls = tls.map(client_config).transpose().map_err(refuse)?;
        Ok(Self { place, allowed: config.allowed_networks.clone(), tls, timeout: config.timeout })
    }

    /// Looks the name up, once, and returns the addresses that may be connected to.
    ///
    /// INVARIANT (what is judged is connected to): nobody looks the name up again behind this.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        let found: Vec<SocketAddr> = match self.place.host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, self.place.port)],
            Err(_) => tokio::net::lookup_host((self.place.host.as_str(), self.place.port))
                .await
                .map_err(|error| format!("its name cannot be looked up: {error}"))?
                .collect(),
        };
        let allowed: Vec<_> = found.iter().copied().filter(|address| self.allows(address.ip())).collect();
        match (allowed.is_empty(), found.first()) {
            (false, _) => Ok(allowed),
            (true, Some(refused)) => Err(format!(
                "its address `{}` is not public, and not in `allowed_networks`{}",
                refused.ip(),
                if self.place.https { "" } else { " (where alone `http://` is posted to)" }
            )),
            (true, None) => Err("its name has no address".into()),
        }
    }

    fn allows(&self, address: IpAddr) -> bool {
        is_named(address, &self.allowed) || self.place.https && is_public(address)
    }

    async fn connect(&self) -> Result<TcpStream, String> {
        let mut problem = String::new();
        for address in self.addresses().await? {
            match timeout(CONNECT_TIME, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // One small request: there is nothing to gather.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => problem = format!("`{address}` cannot be reached: {error}"),
                Err(_) => problem = format!("`{address}` did not answer within {CONNECT_TIME:?}"),
            }
        }
        Err(problem)
    }

    async fn attempt(&self, attempt: Attempt) -> Result<Answer, String> {
        let stream = self.connect().await?;
        let Some(tls) = &self.tls else { return self.exchange(stream, attempt).await };
        let name = ServerName::try_from(self.place.host.clone())
            .map_err(|_| "its host's name is none that a certificate has".to_owned())?;
        let stream = tls
            .connect(name, stream)
            .await
            .map_err(|error| format!("no TLS with it: {}", innermost(&error)))?;
        self.exchange(stream, attempt).await
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        attempt: Attempt,
    ) -> Result<Answer, String> {
        let broke = |error: hyper::Error| format!("the connection broke off: {}", innermost(&error));
        let mut builder = hyper::client::conn::http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(broke)?;
        let request = self.request(attempt)?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(broke)?;
            // Success is told by the status alone, redirects are followed nowhere.
            let answer = read_answer(response.status(), response.headers());
            let rest = Limited::new(response.into_body(), BODY_BYTES).collect();
            let _ = timeout(BODY_TIME, rest).await;
            Ok(answer)
        };
        tokio::pin!(exchange, connection);
        tokio::select! {
            answer = &mut exchange => answer,
            // It carries what it has read, or the reason why nothing more comes.
            _ = &mut connection => exchange.await,
        }
    }

    fn request(&self, attempt: Attempt) -> Result<Request<Full<Bytes>>, String> {
        let value = |text: &str| HeaderValue::from_str(text).map_err(|error| error.to_string());
        let mut request = Request::new(Full::new(attempt.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.place.path.parse().map_err(|_| "its URL's path is none".to_owned())?;
        let headers = request.headers_mut();
        headers.insert(HOST, value(&self.place.authority)?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        headers
            .insert(USER_AGENT, HeaderValue::from_static(concat!("portcullis/", env!("CARGO_PKG_VERSION"))));
        headers.insert(HeaderName::from_static("webhook-id"), value(&attempt.id)?);
        headers.insert(HeaderName::from_static("webhook-timestamp"), attempt.timestamp.into());
        headers.insert(HeaderName::from_static("webhook-signature"), value(&attempt.signatures)?);
        if let Some(trace) = &attempt.trace {
            headers.insert(HeaderName::from_static("traceparent"), value(&trace.parent().to_string())?);
            let state = trace.state().map(value).transpose()?;
            headers.extend(state.map(|state| (HeaderName::from_static("tracestate"), state)));
        }
        Ok(request)
    }
}

#[async_trait]
impl Dial for HttpEndpoint {
    async fn post(&self, attempt: Attempt) -> Answer {
        let problem = match timeout(self.timeout, self.attempt(attempt)).await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(problem)) => problem,
            Err(_) => format!("it did not answer within {:?}", self.timeout),
        };
        Answer::Failed { problem, retry_after: None }
    }
}

fn read_answer(status: StatusCode, headers: &HeaderMap) -> Answer {
    match status {
        _ if status.is_success() => Answer::Taken,
        StatusCode::GONE => Answer::Gone,
        _ => {
            let hint = if status.is_redirection() { " (redirects are not followed)" } else { "" };
            let problem = format!("it answered {}{hint}", status.as_u16());
            Answer::Failed { problem, retry_after: retry_after(headers, SystemTime::now()) }
        }
    }
}

/// Reads `Retry-After`: seconds, or a date (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    Some(httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default())
}

fn client_config(roots: RootCertStore) -> Result<TlsConnector, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn roots_of_file(file: &Path) -> Result<RootCertStore, String> {
    let failed = |error: &dyn std::fmt::Display| format!("its `ca_file` `{}`: {error}", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| failed(&error))? {
        roots.add(certificate.map_err(|error| failed(&error))?).map_err(|error| failed(&error))?;
    }
    if roots.is_empty() {
        return Err(failed(&"there is no certificate in it"));
    }
    Ok(roots)
}

/// Reads the certificates that this host trusts, also from where `SSL_CERT_FILE` and `SSL_CERT_DIR` say.
fn roots_of_host() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (taken, _) = roots.add_parsable_certificates(found.certs);
    if taken == 0 {
        let why = found.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
        return Err(format!(
            "this host trusts nobody's certificates{why}: install the package `ca-certificates`, or set `ca_file`"
        ));
    }
    Ok(roots)
}

/// Returns the innermost cause of an error, which says what the outer ones only place.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    loop {
        // An `io::Error` shows what it holds as its own text, and not as its source.
        let held = cause.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
        match held.map(|held| held as &dyn std::error::Error).or_else(|| cause.source()) {
            Some(inner) => cause = inner,
            None => return cause.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
