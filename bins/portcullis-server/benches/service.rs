//! Measures the real service on its durable store: from the submission to the final record read back, beside a
//! bare spawn of the same program, in one run.
//!
//! `cargo bench -p portcullis-server --bench service`; `-- sequential`, `-- clients` and the name of a way measure
//! that part alone. Ratios are what to look at; both sides are measured in turn.
//! A client keeps one connection and asks in one of three ways:
//!
//! - *one*: `POST` with `Prefer: wait`, answered with the final record;
//! - *two*: `POST`, then `GET` of the record with `Prefer: wait`;
//! - *stream*: `POST`, then the event stream to its end, then the record.
//!
//! On a machine that is not quiet, processor time and switches of an execution say more than the clock: the bench
//! reads those of the service's threads, and of its launcher, cells and commands, from `/proc`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the service is started as a user would, beside bare spawns")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

struct Service {
    child: Child,
    address: String,
    token: String,
    _directory: tempfile::TempDir,
}

impl Service {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Another build of the service can be measured with this bench, for a comparison.
        let program = env::var("BENCH_SERVER");
        let child = Command::new(program.as_deref().unwrap_or(env!("CARGO_BIN_EXE_portcullis-server")))
            .env("PORTCULLIS_DATA_DIR", directory.path())
            .env("PORTCULLIS_LISTEN", "127.0.0.1:0")
            .env("PORTCULLIS_LOG", env::var("PORTCULLIS_LOG").unwrap_or("warn".into()))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        let url = loop {
            if let Ok(url) = fs::read_to_string(directory.path().join("url")) {
                break url;
            }
            assert!(started.elapsed() < Duration::from_secs(30), "the service starts");
            std::thread::yield_now();
        };
        let token = fs::read_to_string(directory.path().join("token")).unwrap().trim().to_owned();
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

/// How a client comes to the final record.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    One,
    Two,
    Stream,
}

impl Way {
    /// Returns the ways that were asked for by name; all when none was.
    fn asked() -> Vec<Self> {
        let all = vec![Self::One, Self::Two, Self::Stream];
        let named: Vec<_> = all.iter().copied().filter(|way| is_asked(way.name())).collect();
        if named.is_empty() { all } else { named }
    }

    fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Two => "two",
            Self::Stream => "stream",
        }
    }
}

struct Client<'a> {
    service: &'a Service,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl<'a> Client<'a> {
    fn new(service: &'a Service) -> Self {
        let stream = TcpStream::connect(&service.address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { service, stream, buffer: Vec::new() }
    }

    /// Sends a request and returns its whole answer, head and body.
    fn ask(&mut self, method: &str, path: &str, headers: &str, body: &str) -> &str {
        let Self { service: Service { address, token, .. }, stream, buffer } = self;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Type: \
             application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        buffer.clear();
        let mut part = [0; 4_096];
        loop {
            let read = stream.read(&mut part).unwrap();
            assert!(read > 0, "the service closed the connection");
            buffer.extend_from_slice(&part[..read]);
            let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&buffer[..end]).unwrap().to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            let whole = match length {
                Some(length) => buffer.len() == end + 4 + length.parse::<usize>().unwrap(),
                None => buffer.ends_with(b"\r\n0\r\n\r\n"),
            };
            if whole {
                return std::str::from_utf8(buffer).unwrap();
            }
        }
    }

    fn run(&mut self, way: Way, line: &str) {
        const WAIT: &str = "Prefer: wait=60\r\n";
        let body = format!("{{\"command\":\"{line}\"}}");
        let wait = if way == Way::One { WAIT } else { "" };
        let mut answer = self.ask("POST", "/api/commands", wait, &body).to_owned();
        if way != Way::One {
            let id = answer.split("\"executionId\":\"").nth(1).and_then(|rest| rest.split('"').next());
            let path = format!("/api/commands/{}", id.unwrap());
            if way == Way::Stream {
                self.ask("GET", &format!("{path}/events"), "", "");
            }
            answer = self.ask("GET", &path, if way == Way::Two { WAIT } else { "" }, "").to_owned();
        }
        assert!(
            answer.contains("\"status\":\"completed\"") && answer.contains("\"output\":\"hello\""),
            "{answer}"
        );
    }
}

fn bare() {
    let mut command = Command::new("/usr/bin/echo");
    let output =
        command.arg("hello").env_clear().env("LANG", "C.UTF-8").stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.stdout, b"hello\n");
}

/// What was used since some moment: processor time, and switches from one thread to another.
#[derive(Clone, Copy, Default)]
struct Used {
    server_micros: f64,
    sandbox_micros: f64,
    server_switches: f64,
}

impl Used {
    /// Reads the service's threads, and all its descendants with those that they have reaped.
    fn now(server: u32) -> Self {
        let mut used = Self::default();
        for task in fs::read_dir(format!("/proc/{server}/task")).unwrap().flatten() {
            let read = |file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
            let nanoseconds = read("schedstat").split(' ').next().and_then(|text| text.parse::<f64>().ok());
            used.server_micros += nanoseconds.unwrap_or(0.0) / 1e3;
            let status = read("status");
            let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
            used.server_switches +=
                lines.filter_map(|line| line.split('\t').nth(1)?.parse::<f64>().ok()).sum::<f64>();
        }
        let mut processes = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
            let parent: u32 = fields[1].parse().unwrap();
            // utime, stime, cutime and cstime of proc_pid_stat(5), in hundredths of a second.
            let ticks: f64 = fields[11..15].iter().filter_map(|field| field.parse::<f64>().ok()).sum();
            processes.push((pid, parent, ticks));
        }
        let mut family = vec![server];
        while let Some(parent) = family.pop() {
            for &(pid, _, ticks) in processes.iter().filter(|(_, of, _)| *of == parent) {
                used.sandbox_micros += ticks * 1e4;
                family.push(pid);
            }
        }
        used
    }

    fn print(self, before: Self, executions: usize) {
        let of_each = |now: f64, before: f64| (now - before) / executions as f64;
        println!(
            "           of each: {:.0} µs of the server's threads, {:.0} µs of launcher, cells and commands, {:.1} \
             switches of the server's threads",
            of_each(self.server_micros, before.server_micros),
            of_each(self.sandbox_micros, before.sandbox_micros),
            of_each(self.server_switches, before.server_switches),
        );
    }
}

fn quantile(times: &mut [Duration], part: f64) -> f64 {
    times.sort();
    times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6
}

fn sequential(service: &Service) {
    let mut client = Client::new(service);
    for way in Way::asked() {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let mut before = Used::default();
        for round in 0..10 {
            for _ in 0..30 {
                let started = Instant::now();
                bare();
                let bare_time = started.elapsed();
                let started = Instant::now();
                client.run(way, "echo hello");
                if round > 0 {
                    theirs.push(bare_time);
                    ours.push(started.elapsed());
                }
            }
            if round == 0 {
                before = Used::now(service.child.id());
            }
        }
        let used = Used::now(service.child.id());
        let (median, bare) = (quantile(&mut ours, 0.5), quantile(&mut theirs, 0.5));
        println!(
            "{:>9} {median:>8.0} {:>8.0} {bare:>8.0}   {:>5.2}",
            way.name(),
            quantile(&mut ours, 0.99),
            median / bare
        );
        used.print(before, ours.len());
    }
}

fn at_once(service: &Service, clients: usize) {
    let each = 480 / clients;
    let count = each * clients;
    let mut rates = [0.0_f64; 3];
    let mut used = [Used::default(); 3];
    let mut bare_rate = 0.0_f64;
    for _ in 0..3 {
        let started = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..clients {
                scope.spawn(|| (0..each).for_each(|_| bare()));
            }
        });
        bare_rate = bare_rate.max(count as f64 / started.elapsed().as_secs_f64());
        for ((way, rate), used) in Way::asked().into_iter().zip(&mut rates).zip(&mut used) {
            let before = Used::now(service.child.id());
            let started = Instant::now();
            std::thread::scope(|scope| {
                for _ in 0..clients {
                    scope.spawn(|| {
                        let mut client = Client::new(service);
                        (0..each).for_each(|_| client.run(way, "echo hello"));
                    });
                }
            });
            *rate = rate.max(count as f64 / started.elapsed().as_secs_f64());
            let after = Used::now(service.child.id());
            used.server_micros += after.server_micros - before.server_micros;
            used.sandbox_micros += after.sandbox_micros - before.sandbox_micros;
            used.server_switches += after.server_switches - before.server_switches;
        }
    }
    for ((way, rate), used) in Way::asked().into_iter().zip(rates).zip(used) {
        println!("{:>9} {clients:>8} {bare_rate:>8.0} {rate:>10.0}   {:>5.2}", way.name(), rate / bare_rate);
        used.print(Used::default(), count * 3);
    }
}

fn is_asked(name: &str) -> bool {
    env::args().any(|argument| argument == name)
}

fn main() {
    let service = Service::start();
    if !is_asked("clients") {
        println!("`echo hello`, microseconds\n      way   median      p99     bare   ratio");
        sequential(&service);
    }
    if !is_asked("sequential") {
        println!("      way  clients   bare/s  service/s   ratio");
        [1, 8, 32].into_iter().for_each(|clients| at_once(&service, clients));
    }
}
