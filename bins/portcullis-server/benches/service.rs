//! Measures the real service on its durable store: from the submission to the final record read back, beside a
//! bare spawn of the same program, in one run.
//!
//! `cargo bench -p portcullis-server`. Ratios are what to look at; both sides are measured in turn. A client
//! submits, follows the event stream to its end, and reads the record, over one kept connection.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the service is started as a user would, beside bare spawns")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Service {
    child: Child,
    address: String,
    token: String,
    _directory: tempfile::TempDir,
}

impl Service {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_portcullis-server"))
            .env("PORTCULLIS_DATA_DIR", directory.path())
            .env("PORTCULLIS_LISTEN", "127.0.0.1:0")
            .env("PORTCULLIS_LOG", "warn")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        let url = loop {
            if let Ok(url) = std::fs::read_to_string(directory.path().join("url")) {
                break url;
            }
            assert!(started.elapsed() < Duration::from_secs(30), "the service starts");
            std::thread::yield_now();
        };
        let token = std::fs::read_to_string(directory.path().join("token")).unwrap().trim().to_owned();
        Self {
            child,
            address: url.trim().trim_start_matches("http://").to_owned(),
            token,
            _directory: directory,
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client<'a> {
    service: &'a Service,
    stream: BufReader<TcpStream>,
}

impl<'a> Client<'a> {
    fn new(service: &'a Service) -> Self {
        let stream = TcpStream::connect(&service.address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { service, stream: BufReader::new(stream) }
    }

    /// Sends a request and returns the whole body of its answer.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> String {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.service.address,
            self.service.token,
            body.len()
        );
        self.stream.get_mut().write_all(head.as_bytes()).unwrap();
        let (mut length, mut chunked) = (0, false);
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
            chunked |= line == "transfer-encoding: chunked";
            if line.is_empty() {
                break;
            }
        }
        let mut text = Vec::new();
        if chunked {
            loop {
                let mut line = String::new();
                self.stream.read_line(&mut line).unwrap();
                let size = usize::from_str_radix(line.trim(), 16).unwrap();
                let mut part = vec![0; size + 2];
                self.stream.read_exact(&mut part).unwrap();
                if size == 0 {
                    break;
                }
                text.extend_from_slice(&part[..size]);
            }
        } else {
            text.resize(length, 0);
            self.stream.read_exact(&mut text).unwrap();
        }
        String::from_utf8(text).unwrap()
    }

    fn run(&mut self, command: &str) {
        let answer = self.ask("POST", "/api/commands", &format!("{{\"command\":\"{command}\"}}"));
        let id = answer
            .split("\"executionId\":\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .unwrap()
            .to_owned();
        self.ask("GET", &format!("/api/commands/{id}/events"), "");
        let record = self.ask("GET", &format!("/api/commands/{id}"), "");
        assert!(
            record.contains("\"status\":\"completed\"") && record.contains("\"output\":\"hello\""),
            "{record}"
        );
    }
}

fn bare() {
    let mut command = Command::new("/usr/bin/echo");
    let output =
        command.arg("hello").env_clear().env("LANG", "C.UTF-8").stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.stdout, b"hello\n");
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6
}

fn main() {
    let service = Service::start();
    let mut client = Client::new(&service);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..10 {
        for _ in 0..30 {
            let started = Instant::now();
            bare();
            let bare_time = started.elapsed();
            let started = Instant::now();
            client.run("echo hello");
            if round > 0 {
                theirs.push(bare_time);
                ours.push(started.elapsed());
            }
        }
    }
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    println!(
        "sequential, `echo hello`, microseconds (median): service {ours:.0}, bare spawn {theirs:.0}, ratio {:.2}",
        ours / theirs
    );

    println!("clients   bare/s  service/s   ratio");
    for clients in [1, 8, 32] {
        let count = 480;
        let (mut bare_rate, mut service_rate) = (0.0_f64, 0.0_f64);
        for _ in 0..3 {
            let started = Instant::now();
            std::thread::scope(|scope| {
                for _ in 0..clients {
                    scope.spawn(|| (0..count / clients).for_each(|_| bare()));
                }
            });
            bare_rate = bare_rate.max(count as f64 / started.elapsed().as_secs_f64());
            let started = Instant::now();
            std::thread::scope(|scope| {
                for _ in 0..clients {
                    scope.spawn(|| {
                        let mut client = Client::new(&service);
                        (0..count / clients).for_each(|_| client.run("echo hello"));
                    });
                }
            });
            service_rate = service_rate.max(count as f64 / started.elapsed().as_secs_f64());
        }
        println!("{clients:>7} {bare_rate:>8.0} {service_rate:>10.0}   {:>5.2}", service_rate / bare_rate);
    }
}
