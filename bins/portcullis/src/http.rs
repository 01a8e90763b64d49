//! One HTTP client for everything: plain HTTP/1.1, a deadline on every step, a bound on every body.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use portcullis_core::Secret;
use tokio::time::timeout;

/// How long a connection may take to come about.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How long an answer may take, from sending to its last byte. A cancellation is answered when everything of the
/// execution is gone, which includes its grace period.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
/// The largest answer that is held in memory; output comes in a stream and is not held.
const ANSWER_LIMIT_BYTES: usize = 64 << 20;

/// Where a service is: `http://HOST[:PORT][/PATH]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseUrl {
    authority: String,
    host: String,
    port: u16,
    path: String,
}

/// Why a text is not the URL of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{url}` is not the URL of a service: {problem}; accepted is `http://HOST:PORT`")]
pub(crate) struct InvalidUrl {
    url: String,
    problem: &'static str,
}

impl BaseUrl {
    /// Reads a URL; a path before `/api` and `/health` is kept, for a service behind a gateway.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let refuse = |problem| Err(InvalidUrl { url: text.to_owned(), problem });
        let Ok(uri) = text.trim().parse::<Uri>() else { return refuse("it cannot be read") };
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return refuse("TLS is not spoken here; use a tunnel or a proxy on this machine");
            }
            _ => return refuse("it does not begin with `http://`"),
        }
        let Some(authority) = uri.authority() else { return refuse("it names no host") };
        if authority.as_str().contains('@') {
            // The text is not repeated: it may hold a password.
            let url = format!("http://…@{}", authority.host());
            return Err(InvalidUrl { url, problem: "a name or password does not belong in it" });
        }
        if uri.query().is_some() {
            return refuse("it has a query");
        }
        Ok(Self {
            authority: authority.to_string(),
            host: authority.host().trim_matches(['[', ']']).to_ascii_lowercase(),
            port: authority.port_u16().unwrap_or(80),
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// Whether the service is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Whether both lead to the same socket, as far as their text tells; all names of this machine count as one.
    pub(crate) fn is_same_place(&self, other: &Self) -> bool {
        self.port == other.port && (self.host == other.host || (self.is_loopback() && other.is_loopback()))
    }

    fn join(&self, path: &str) -> Result<Uri, http::Error> {
        Uri::builder()
            .scheme("http")
            .authority(self.authority.as_str())
            .path_and_query(format!("{}{path}", self.path))
            .build()
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// Why no answer was had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// Nothing listens there, or it cannot be reached: nothing was sent.
    #[error("cannot connect to `{url}`: {problem}")]
    Connect {
        /// Where.
        url: String,
        /// What the system said.
        problem: String,
    },
    /// The connection ended before the answer did: the request may have been carried out.
    #[error("the connection to `{url}` was lost: {problem}")]
    Lost {
        /// Where.
        url: String,
        /// What is known of it.
        problem: String,
    },
    /// The answer took too long: the request may have been carried out.
    #[error("`{url}` did not answer within {} s", ANSWER_DEADLINE.as_secs())]
    Deadline {
        /// Where.
        url: String,
    },
    /// The answer is larger than anything a service of ours sends.
    #[error("the answer of `{url}` is larger than {ANSWER_LIMIT_BYTES} bytes")]
    TooLarge {
        /// Where.
        url: String,
    },
    /// The request cannot be written as HTTP.
    #[error("the request cannot be sent: {0}")]
    Request(#[from] http::Error),
}

impl HttpError {
    /// Whether the request may have reached the service, although no answer came back.
    pub(crate) fn may_have_arrived(&self) -> bool {
        matches!(self, Self::Lost { .. } | Self::Deadline { .. })
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Speaks to one service, with one token.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    inner: HyperClient<HttpConnector, Full<Bytes>>,
    base: BaseUrl,
    token: Option<Secret>,
}

impl Client {
    /// Opens nothing yet.
    pub(crate) fn new(base: BaseUrl, token: Option<Secret>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_DEADLINE));
        connector.set_nodelay(true);
        let inner = HyperClient::builder(TokioExecutor::new()).build(connector);
        Self { inner, base, token }
    }

    /// Returns where the service is.
    pub(crate) fn base(&self) -> &BaseUrl {
        &self.base
    }

    /// Sends a request and returns the whole answer, whatever its status.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Answer, HttpError> {
        let request = self.request(method, path, body, &[(ACCEPT, "application/json")])?;
        let whole = async {
            let response = self.send(request).await?;
            let (head, body) = response.into_parts();
            Ok(Answer { status: head.status, headers: head.headers, body: self.collect(body).await? })
        };
        timeout(ANSWER_DEADLINE, whole).await.unwrap_or_else(|_| Err(self.deadline()))
    }

    /// Sends a GET and returns as soon as the answer has begun.
    pub(crate) async fn open(
        &self,
        path: &str,
        headers: &[(http::HeaderName, &str)],
    ) -> Result<Response<Incoming>, HttpError> {
        let request = self.request(Method::GET, path, None, headers)?;
        timeout(ANSWER_DEADLINE, self.send(request)).await.unwrap_or_else(|_| Err(self.deadline()))
    }

    /// Reads the rest of an answer that [`Client::open`] began.
    pub(crate) async fn collect(&self, mut body: Incoming) -> Result<Bytes, HttpError> {
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.lost(&error))?;
            let Ok(data) = frame.into_data() else { continue };
            if whole.len() + data.len() > ANSWER_LIMIT_BYTES {
                return Err(HttpError::TooLarge { url: self.base.to_string() });
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    }

    /// Describes the loss of a connection in mid-answer.
    pub(crate) fn lost(&self, error: &dyn std::error::Error) -> HttpError {
        HttpError::Lost { url: self.base.to_string(), problem: innermost(error) }
    }

    fn deadline(&self) -> HttpError {
        HttpError::Deadline { url: self.base.to_string() }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        headers: &[(http::HeaderName, &str)],
    ) -> Result<Request<Full<Bytes>>, HttpError> {
        let mut request = Request::builder()
            .method(method)
            .uri(self.base.join(path)?)
            .header(USER_AGENT, concat!("portcullis/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            let mut value =
                HeaderValue::try_from(format!("Bearer {}", token.reveal())).map_err(http::Error::from)?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        Ok(request.body(Full::new(body.unwrap_or_default()))?)
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, HttpError> {
        self.inner.request(request).await.map_err(|error| {
            if error.is_connect() {
                HttpError::Connect { url: self.base.to_string(), problem: innermost(&error) }
            } else {
                self.lost(&error)
            }
        })
    }
}

/// Returns the last cause of an error: the one that the system gave, in the operator's words.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// Writes a text so that it is one part of a path or a query value (RFC 3986 §2.3: all but the unreserved).
pub(crate) fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_with_port_and_path() {
        for (text, shown, port, path) in [
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000", 5000, ""),
            ("http://example.com/commands/", "http://example.com/commands", 80, "/commands"),
            ("http://[::1]:5000/\n", "http://[::1]:5000", 5000, ""),
        ] {
            let url = BaseUrl::parse(text).unwrap();
            assert_eq!((url.to_string().as_str(), url.port, url.path.as_str()), (shown, port, path));
        }
    }

    #[test]
    fn what_is_not_the_url_of_a_service_is_refused_with_what_is_accepted() {
        for (text, problem) in [
            ("https://x", "TLS"),
            ("127.0.0.1:5000", "does not begin with `http://`"),
            ("http://u:p@x", "password"),
            ("http://x/?a", "query"),
            ("not a url", "cannot be read"),
            ("", "cannot be read"),
        ] {
            let error = BaseUrl::parse(text).unwrap_err().to_string();
            assert!(error.contains(problem) && error.contains("http://HOST:PORT"), "{text}: {error}");
        }
    }

    #[test]
    fn names_of_this_machine_are_one_place() {
        let url = |text| BaseUrl::parse(text).unwrap();
        assert!(url("http://localhost:5000").is_same_place(&url("http://127.0.0.1:5000")));
        assert!(url("http://[::1]:5000").is_loopback());
        assert!(!url("http://localhost:5000").is_same_place(&url("http://localhost:5001")));
        assert!(!url("http://10.0.0.1:5000").is_same_place(&url("http://localhost:5000")));
    }

    #[test]
    fn what_is_not_unreserved_is_encoded() {
        assert_eq!(percent_encode("../a b%é"), "..%2Fa%20b%25%C3%A9");
    }

    #[test]
    fn debug_hides_the_token() {
        let client = Client::new(BaseUrl::parse("http://x").unwrap(), Some(Secret::new("hush")));
        assert!(!format!("{client:?}").contains("hush"));
    }
}
