//! A service that does exactly what a test says: it reads requests, and the test's own function answers them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// `POST /api/commands`
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body as JSON; `null` when there is none.
    pub(crate) body: Value,
}

impl Request {
    /// Returns a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What a connection is sent.
pub(crate) enum Reply {
    /// A whole answer.
    Json(u16, Value),
    /// The beginning of an event stream; the connection is closed behind it.
    Events(String),
    /// The same, and then whatever the function does with the connection, which is closed behind it.
    EventsThen(String, Box<dyn FnOnce(&mut TcpStream) + Send>),
    /// Bytes as they are.
    Raw(Vec<u8>),
    /// Nothing: the connection is closed.
    Hangup,
}

type Answer = dyn Fn(&Request) -> Reply + Send + Sync;

/// The peer, for as long as it lives.
pub(crate) struct Peer {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    closed: Arc<AtomicBool>,
    listening: Option<thread::JoinHandle<()>>,
}

impl Peer {
    /// Listens and answers each request with `answer`.
    pub(crate) fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), answer)
    }

    /// The same at a place of one's own, where a peer may have been before.
    pub(crate) fn start_at(
        at: SocketAddr,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        let mut peer = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            closed: Arc::default(),
            listening: None,
        };
        let (requests, closed) = (Arc::clone(&peer.requests), Arc::clone(&peer.closed));
        let answer: Arc<Answer> = Arc::new(answer);
        peer.listening = Some(thread::spawn(move || {
            for connection in listener.incoming() {
                if closed.load(Ordering::SeqCst) {
                    return;
                }
                let (requests, answer) = (Arc::clone(&requests), Arc::clone(&answer));
                thread::spawn(move || serve(connection.unwrap(), &requests, &*answer));
            }
        }));
        peer
    }

    /// Returns where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Returns the requests so far with this request line.
    pub(crate) fn requests_of(&self, line: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.line == line).collect()
    }
}

impl Drop for Peer {
    /// Takes the place away: the listener's thread wakes up and closes it. Connections stay as they are.
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        TcpStream::connect(self.address).ok();
        self.listening.take().map(thread::JoinHandle::join);
    }
}

fn serve(connection: TcpStream, requests: &Mutex<Vec<Request>>, answer: &Answer) {
    let mut reader = BufReader::new(connection);
    while let Some(request) = read(&mut reader) {
        requests.lock().unwrap().push(request.clone());
        let reply = answer(&request);
        let stream = reader.get_mut();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        let written = match reply {
            Reply::Json(status, body) => {
                let body = body.to_string();
                let kind = if status < 400 { "application/json" } else { "application/problem+json" };
                let length = body.len();
                write!(
                    stream,
                    "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}"
                )
            }
            Reply::Raw(bytes) => stream.write_all(&bytes),
            Reply::Hangup => return,
            Reply::Events(events) => {
                write!(stream, "{head}{events}").ok();
                return;
            }
            Reply::EventsThen(events, then) => {
                write!(stream, "{head}{events}").ok();
                then(stream);
                return;
            }
        };
        if written.is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut next = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&read| read > 0)?;
        Some(line.trim_end().to_owned())
    };
    let line = next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let mut headers = Vec::new();
    loop {
        let header = next()?;
        let Some((name, value)) = header.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request { line, headers, body: Value::Null };
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    request.body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Some(request)
}

/// Returns a record as a service sends it, with some members of one's own.
pub(crate) fn record(id: &str, members: Value) -> Value {
    let mut record = json!({
        "executionId": id, "status": "running", "command": "x", "output": null, "exitCode": null,
        "startTime": "2025-03-25T16:17:12.000Z", "endTime": null, "reason": null,
        "stdout": null, "stderr": null, "signal": null, "progress": 1, "truncated": false,
        "outputBytes": 0, "outputOmittedBytes": 0, "usage": null, "confinement": null,
        "limits": {"wallTimeMs": 60000, "cpuTimeMs": 60000, "memoryBytes": 536_870_912, "processes": 64,
            "openFiles": 256, "fileSizeBytes": 67_108_864, "diskBytes": 268_435_456, "outputBytes": 8_388_608,
            "gracePeriodMs": 2000},
        "user": "local", "acceptedAt": "2025-03-25T16:17:12.000Z", "message": null, "rules": [], "programs": [],
    });
    record.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    record
}

/// Returns how a record of an execution that exited looks.
pub(crate) fn exited(id: &str, code: i32) -> Value {
    let status = if code == 0 { "completed" } else { "failed" };
    record(id, json!({"status": status, "reason": "exit", "exitCode": code, "progress": 100}))
}

/// Writes an event.
pub(crate) fn event(id: u64, kind: &str, data: &Value) -> String {
    format!("id: {id}\nevent: {kind}\ndata: {data}\n\n")
}

/// Writes an output event.
pub(crate) fn output(seq: u64, stream: &str, data: &str) -> String {
    let data = json!({"seq": seq, "stream": stream, "time": "2025-03-25T16:17:12.000Z", "data": data});
    event(seq, "output", &data)
}

/// Returns a problem as a service answers it.
pub(crate) fn problem(status: u16, code: &str, error: &str) -> Reply {
    let body = json!({"type": format!("/problems/{code}"), "title": "Problem", "status": status, "detail": error,
        "instance": "urn:uuid:1", "code": code, "error": error});
    Reply::Json(status, body)
}

/// Accepts a submission under the id that it brought.
pub(crate) fn accept(request: &Request) -> Reply {
    Reply::Json(201, json!({"executionId": request.body["executionId"], "status": "scheduled"}))
}

/// Returns the id that stands in a request's path.
pub(crate) fn id_of(request: &Request) -> String {
    let path = request.line.split(' ').nth(1).unwrap_or_default();
    path.split('/').nth(3).unwrap_or_default().to_owned()
}
