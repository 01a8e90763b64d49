//! Against receivers on loopback.

use std::sync::Mutex;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::config::tests::secret;
use super::*;

/// A receiver that answers every request with the same bytes, and keeps what it was sent.
struct Receiver {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    async fn start(answer: impl Into<Vec<u8>>, tls: Option<TlsAcceptor>) -> Self {
        let (answer, requests) = (answer.into(), Arc::<Mutex<Vec<String>>>::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let kept = Arc::clone(&requests);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answer, kept, tls) = (answer.clone(), Arc::clone(&kept), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &answer, &kept).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, &answer, &kept).await,
                            Err(_) => Ok(()),
                        },
                    }
                });
            }
        });
        Self { port, requests }
    }

    fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &[u8],
    kept: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let mut request = Vec::new();
    while !String::from_utf8_lossy(&request).ends_with("{\"a\":1}") {
        request.push(stream.read_u8().await?);
    }
    kept.lock().unwrap().push(String::from_utf8(request).unwrap());
    match answer {
        b"NOTHING" => std::future::pending().await,
        b"FLOOD" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            loop {
                stream.write_all(&[b'x'; 65_536]).await?;
            }
        }
        b"FLOODED HEAD" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            loop {
                stream.write_all(b"X-More: yes\r\n").await?;
            }
        }
        answer => stream.write_all(answer).await?,
    }
    stream.shutdown().await
}

fn config(url: String) -> WebhookConfig {
    let allowed_networks = vec!["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
    let timeout = Duration::from_secs(10);
    WebhookConfig { allowed_networks, timeout, ..WebhookConfig::new("ci", url, vec![secret()]) }
}

fn attempt() -> Attempt {
    Attempt {
        id: "msg_1".into(),
        timestamp: 1_700_000_000,
        signatures: "v1,abc v1,def".into(),
        body: Bytes::from_static(b"{\"a\":1}"),
        trace: TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", ["vendor=1"]),
    }
}

async fn post(config: &WebhookConfig) -> Answer {
    HttpEndpoint::new(config).unwrap().post(attempt()).await
}

#[track_caller]
fn assert_failed(answer: &Answer, wanted: &str) {
    assert!(
        matches!(answer, Answer::Failed { problem, .. } if problem.contains(wanted)),
        "{wanted}: {answer:?}"
    );
}

#[tokio::test]
async fn a_message_is_posted_with_its_headers_on_a_connection_of_its_own() {
    let receiver = Receiver::start("HTTP/1.1 204 No Content\r\n\r\n", None).await;
    let url = format!("http://localhost:{}/hooks/x?key=1", receiver.port);
    assert_eq!(post(&config(url)).await, Answer::Taken);
    let request = receiver.requests.lock().unwrap()[0].to_lowercase();
    for line in [
        "post /hooks/x?key=1 http/1.1\r\n",
        &format!("\r\nhost: localhost:{}\r\n", receiver.port),
        "\r\ncontent-type: application/json\r\n",
        "\r\ncontent-length: 7\r\n",
        "\r\nconnection: close\r\n",
        "\r\nwebhook-id: msg_1\r\n",
        "\r\nwebhook-timestamp: 1700000000\r\n",
        "\r\nwebhook-signature: v1,abc v1,def\r\n",
        "\r\nuser-agent: portcullis/",
        "\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n",
        "\r\ntracestate: vendor=1\r\n",
    ] {
        assert!(request.contains(line), "{line:?} in {request}");
    }
}

#[tokio::test]
async fn every_answer_is_told_by_its_status_whatever_its_body() {
    let html = "HTTP/1.1 500 Oops\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
    let limited = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n";
    for (answer, wanted) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", None),
        // Half a body, and no end to it: the status was told.
        ("HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\nhalf", None),
        ("FLOOD", None),
        (html, Some("it answered 500")),
        (limited, Some("it answered 429")),
        ("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", Some("it answered 400")),
        ("HTTP/1.1 200", Some("broke off")),
        ("SSH-2.0-OpenSSH_9.6\r\n", Some("broke off")),
        ("FLOODED HEAD", Some("broke off")),
        ("", Some("broke off")),
    ] {
        let receiver = Receiver::start(answer, None).await;
        let answered = post(&config(format!("http://127.0.0.1:{}/", receiver.port))).await;
        match wanted {
            None => assert_eq!(answered, Answer::Taken, "{answer}"),
            Some(wanted) => assert_failed(&answered, wanted),
        }
        if answer == limited {
            let asked_for = Some(Duration::from_secs(120));
            assert!(matches!(answered, Answer::Failed { retry_after, .. } if retry_after == asked_for));
        }
        assert_eq!(receiver.count(), 1, "{answer}");
    }
}

#[tokio::test]
async fn a_redirect_is_followed_nowhere() {
    let other = Receiver::start("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", None).await;
    for status in ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let to = format!("http://127.0.0.1:{}/", other.port);
        let answer = format!("HTTP/1.1 {status}\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
        let receiver = Receiver::start(answer, None).await;
        let answer = post(&config(format!("http://127.0.0.1:{}/", receiver.port))).await;
        assert_failed(&answer, "(redirects are not followed)");
    }
    assert_eq!(other.count(), 0);
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_is_given_its_time_and_no_more() {
    let receiver = Receiver::start("NOTHING", None).await;
    let config = WebhookConfig {
        timeout: Duration::from_millis(200),
        ..config(format!("http://127.0.0.1:{}/", receiver.port))
    };
    assert_failed(&post(&config).await, "did not answer within 200ms");
}

#[tokio::test]
async fn nobody_there_is_told_with_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let answer = post(&config(format!("http://{address}/"))).await;
    assert_failed(&answer, &format!("`{address}` cannot be reached: Connection refused"));
    let nowhere =
        WebhookConfig { timeout: Duration::from_secs(60), ..config("http://nowhere.invalid/".into()) };
    assert_failed(&post(&nowhere).await, "its name cannot be looked up");
}

#[tokio::test]
async fn an_address_that_leads_inside_is_refused_before_it_is_connected_to() {
    let receiver = Receiver::start("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", None).await;
    let issuer = issuer();
    let file = ca_file(&issuer);
    let port = receiver.port;
    let hosts = [
        "127.0.0.1",
        "[::ffff:127.0.0.1]",
        "localhost",
        "0.0.0.0",
        "2130706433",
        "0x7f.1",
        "[::1]",
        "[64:ff9b::7f00:1]",
    ];
    for host in hosts {
        let config = WebhookConfig {
            allowed_networks: vec!["10.1.0.0/16".parse().unwrap()],
            ca_file: Some(file.path().to_owned()),
            ..config(format!("https://{host}:{port}/"))
        };
        assert_failed(&post(&config).await, "is not public, and not in `allowed_networks`");
    }
    // In the clear not even a public one is.
    let config = config("http://8.8.8.8/".into());
    assert_failed(&post(&config).await, "where alone `http://` is posted to");
    assert_eq!(receiver.count(), 0);
}

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn issuer() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn ca_file(issuer: &Issuer) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), issuer.pem()).unwrap();
    file
}

/// A server's side, with a certificate for a name that ends in a year.
fn acceptor(issuer: &Issuer, name: &str, year: i32) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(year, 1, 1);
    let certificate = params.signed_by(&key, issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn tls_is_held_to_name_time_and_issuer() {
    let (issuer, stranger) = (issuer(), issuer());
    let file = ca_file(&issuer);
    for (by, name, year, host, wanted) in [
        (&issuer, "localhost", 2120, "localhost", None),
        (&issuer, "127.0.0.1", 2120, "127.0.0.1", None),
        (&issuer, "other.example", 2120, "localhost", Some("not valid for name")),
        (&issuer, "localhost", 2021, "localhost", Some("expired")),
        (&stranger, "localhost", 2120, "localhost", Some("invalid peer certificate")),
    ] {
        let tls = acceptor(by, name, year);
        let receiver = Receiver::start("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Some(tls)).await;
        let url = format!("https://{host}:{}/", receiver.port);
        let config = WebhookConfig { ca_file: Some(file.path().to_owned()), ..config(url) };
        let answer = post(&config).await;
        match wanted {
            None => assert_eq!((answer, receiver.count()), (Answer::Taken, 1), "{name} {year}"),
            Some(wanted) => {
                assert_failed(&answer, wanted);
                assert_failed(&answer, "no TLS with it");
                assert_eq!(receiver.count(), 0, "{name} {year}");
            }
        }
    }
    // Who speaks no TLS at all.
    let receiver = Receiver::start("HTTP/1.1 200 OK\r\n\r\n", None).await;
    let url = format!("https://localhost:{}/", receiver.port);
    let timeout = Duration::from_secs(1);
    let config = WebhookConfig { ca_file: Some(file.path().to_owned()), timeout, ..config(url) };
    assert!(matches!(post(&config).await, Answer::Failed { .. }));
}

#[test]
fn a_file_of_certificates_that_holds_none_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "no certificate").unwrap();
    for (path, reason) in
        [(file.path(), "no certificate in it"), (Path::new("/nonexistent/ca.pem"), "No such file")]
    {
        let config = WebhookConfig { ca_file: Some(path.to_owned()), ..config("https://localhost/".into()) };
        let problem = HttpEndpoint::new(&config).err().unwrap().to_string();
        assert!(problem.contains(reason) && problem.contains(path.to_str().unwrap()), "{problem}");
    }
}

#[test]
fn an_endpoint_may_ask_for_time_in_seconds_or_by_date() {
    let now = httpdate::parse_http_date("Tue, 01 Dec 2026 10:00:00 GMT").unwrap();
    for (text, seconds) in [
        ("120", Some(120)),
        (" 0 ", Some(0)),
        ("99999999999999999999999", Some(u64::MAX)),
        ("Tue, 01 Dec 2026 10:02:00 GMT", Some(120)),
        ("Tue, 01 Dec 2026 09:00:00 GMT", Some(0)),
        ("-5", None),
        ("soon", None),
        ("", None),
    ] {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(text).unwrap())]);
        assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{text}");
    }
    assert_eq!(retry_after(&HeaderMap::new(), now), None);
}

#[test]
fn success_is_told_by_the_status_alone() {
    for (status, wanted) in
        [(200, Answer::Taken), (204, Answer::Taken), (299, Answer::Taken), (410, Answer::Gone)]
    {
        assert_eq!(read_answer(StatusCode::from_u16(status).unwrap(), &HeaderMap::new()), wanted);
    }
    for (status, wanted) in
        [(301, "it answered 301 (redirects"), (404, "it answered 404"), (500, "it answered 500")]
    {
        let answer = read_answer(StatusCode::from_u16(status).unwrap(), &HeaderMap::new());
        assert!(
            matches!(&answer, Answer::Failed { problem, .. } if problem.starts_with(wanted)),
            "{answer:?}"
        );
    }
}
