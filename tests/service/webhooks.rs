//! Webhooks of the real executable: signed, kept over a kill, disabled by a 410, and what a configuration may say.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use portcullis_core::Status;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::process::Real;
use crate::served::PATIENCE;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEXT_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A message as a receiver gets it.
#[derive(Debug, Clone)]
struct Got {
    head: String,
    body: Vec<u8>,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        let line = |line: &&str| line.to_lowercase().starts_with(&format!("{name}: "));
        self.head.lines().find(line).unwrap_or_else(|| panic!("{name} in {}", self.head))[name.len() + 2..]
            .trim()
    }

    fn data(&self) -> Value {
        serde_json::from_slice::<Value>(&self.body).unwrap()["data"].clone()
    }

    /// Verifies as the specification tells receivers to, with an HMAC of our own (RFC 2104).
    fn is_signed_with(&self, secret: &str) -> bool {
        let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let pad = |byte: u8| {
            let mut block = [byte; 64];
            block.iter_mut().zip(&key).for_each(|(block, key)| *block ^= key);
            block
        };
        let signed = format!("{}.{}.", self.header("webhook-id"), self.header("webhook-timestamp"));
        let inner =
            Sha256::new().chain_update(pad(0x36)).chain_update(signed).chain_update(&self.body).finalize();
        let mac = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
        let wanted = format!("v1,{}", BASE64_STANDARD.encode(mac));
        self.header("webhook-signature").split(' ').any(|signature| signature == wanted)
    }
}

/// A receiver on loopback. Without an answer it takes messages and says nothing.
struct Receiver {
    port: u16,
    got: Arc<Mutex<Vec<Got>>>,
    answer: Arc<Mutex<Option<&'static str>>>,
}

impl Receiver {
    async fn start(answer: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (got, answer) = (Arc::<Mutex<Vec<Got>>>::default(), Arc::new(Mutex::new(answer)));
        tokio::spawn({
            let (got, answer) = (Arc::clone(&got), Arc::clone(&answer));
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&got), Arc::clone(&answer)));
                }
            }
        });
        Self { port, got, answer }
    }

    /// Waits until so many messages have come.
    async fn wait_for(&self, count: usize) -> Vec<Got> {
        let begun = Instant::now();
        loop {
            let got = self.got.lock().unwrap().clone();
            if got.len() >= count {
                return got;
            }
            assert!(begun.elapsed() < PATIENCE, "{} of {count} messages came", got.len());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn serve(mut stream: TcpStream, got: Arc<Mutex<Vec<Got>>>, answer: Arc<Mutex<Option<&'static str>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let mut message = Got { head, body: Vec::new() };
    message.body.resize(message.header("content-length").parse().unwrap(), 0);
    stream.read_exact(&mut message.body).await.unwrap();
    got.lock().unwrap().push(message);
    let answer = *answer.lock().unwrap();
    match answer {
        Some(status) => {
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
        None => std::future::pending().await,
    }
}

/// Writes a configuration file, for the owner alone.
fn config(directory: &Path, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = directory.join("portcullis.toml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

fn table(name: &str, port: u16, more: &str) -> String {
    format!(
        "[webhook.{name}]\nurl = 'http://127.0.0.1:{port}/hook?key=hidden'\nallowed_networks = '127.0.0.1'\n\
         secret = '{SECRET}'\n{more}\n"
    )
}

async fn readiness(real: &Real) -> Value {
    real.client.get("/readyz").await.expect_status(200).json()
}

#[tokio::test]
async fn an_ending_is_posted_to_each_endpoint_that_wants_it_signed_with_each_of_its_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let (all, failures) =
        (Receiver::start(Some("204 No Content")).await, Receiver::start(Some("200 OK")).await);
    let secrets = directory.path().join("secrets");
    fs::write(&secrets, format!("{SECRET}\n{NEXT_SECRET}\n")).unwrap();
    let text = format!(
        "public_url = 'https://portcullis.example/'\n{}{}[webhook.off]\nenabled = false\n",
        table("all", all.port, "")
            .replace(&format!("secret = '{SECRET}'"), &format!("secret_file = '{}'", secrets.display())),
        table("failures", failures.port, "statuses = ['failed', 'timeout']")
    );
    let settings = [("PORTCULLIS_CONFIG", &*config(directory.path(), &text)), ("PORTCULLIS_LOG", "trace")];
    let Some(real) = Real::start(&directory.path().join("data"), &settings).await else { return };
    let hello = real.client.run("hello", "echo hello").await;
    let failed = real.client.run("nothing", "cat nothing").await;
    assert_eq!((hello.status, failed.status), (Status::Completed, Status::Failed));

    let mut got = all.wait_for(2).await;
    got.sort_by_key(|got| got.data()["executionId"].to_string());
    for got in &got {
        assert!(got.is_signed_with(SECRET) && got.is_signed_with(NEXT_SECRET), "{got:?}");
        assert!(!got.is_signed_with("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));
        assert!(got.head.starts_with("POST /hook?key=hidden HTTP/1.1\r\n") && got.body.len() < 20_000);
    }
    assert_ne!(got[0].header("webhook-id"), got[1].header("webhook-id"));
    let data = got[0].data();
    assert_eq!(
        (&data["executionId"], &data["exitCode"], &data["outputBytes"]),
        (&json!("hello"), &json!(0), &json!(6))
    );
    assert_eq!(data["links"]["output"], "https://portcullis.example/api/commands/hello/output");
    assert_eq!(data["endTime"], json!(hello.end_time.unwrap()));

    let failures = failures.wait_for(1).await;
    assert_eq!((failures.len(), &failures[0].data()["executionId"]), (1, &json!("nothing")));
    assert!(failures[0].is_signed_with(SECRET) && !failures[0].is_signed_with(NEXT_SECRET));
    let states = &readiness(&real).await["webhooks"];
    assert_eq!((&states[0]["name"], &states[0]["state"]), (&json!("all"), &json!("delivering")), "{states}");
    assert_eq!(states.as_array().unwrap().len(), 2);

    real.signal("TERM");
    let (code, log) = real.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("\"message\":\"posted\""), "{log}");
    for hidden in [&SECRET[6..], "hidden"] {
        assert!(!log.contains(hidden), "{hidden} in {log}");
    }
}

#[tokio::test]
async fn what_was_not_delivered_when_the_service_was_killed_is_posted_by_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(None).await;
    let path = config(directory.path(), &table("ci", receiver.port, ""));
    let data = directory.path().join("data");
    let settings = [("PORTCULLIS_CONFIG", &*path), ("ALLOWED_COMMANDS", "echo,sleep")];
    let Some(real) = Real::start(&data, &settings).await else { return };
    let ended = real.client.run("ended", "echo x").await;
    assert_eq!(ended.status, Status::Completed);
    let first = receiver.wait_for(1).await;
    let running = json!({"executionId": "running", "command": "sleep 60"});
    real.client.submit(running).await.expect_status(201);
    real.signal("KILL");
    assert_eq!(real.ended().await.0, None);

    *receiver.answer.lock().unwrap() = Some("200 OK");
    let Some(real) = Real::start(&data, &settings).await else { return };
    let mut got = receiver.wait_for(3).await.split_off(1);
    got.sort_by_key(|got| got.data()["executionId"].to_string());
    assert_eq!(got[0].data()["executionId"], "ended");
    assert_eq!((got[0].header("webhook-id"), &got[0].body), (first[0].header("webhook-id"), &first[0].body));
    let lost = got[1].data();
    assert_eq!(
        (&lost["executionId"], &lost["status"], &lost["exitCode"]),
        (&json!("running"), &json!("lost"), &Value::Null)
    );
    assert!(got.iter().all(|got| got.is_signed_with(SECRET)));
    real.signal("TERM");
    assert_eq!(real.ended().await.0, Some(0));

    // Once taken, it is posted no more.
    let Some(real) = Real::start(&data, &settings).await else { return };
    real.client.run("another", "echo y").await;
    assert_eq!(receiver.wait_for(4).await[3].data()["executionId"], "another");
    real.signal("TERM");
    real.ended().await;
}

#[tokio::test]
async fn an_endpoint_that_answered_410_stays_disabled_until_an_operator_enables_it() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(Some("410 Gone")).await;
    let path = config(directory.path(), &table("ci", receiver.port, ""));
    let data = directory.path().join("data");
    let settings = [("PORTCULLIS_CONFIG", &*path)];
    let Some(real) = Real::start(&data, &settings).await else { return };
    real.client.run("a", "echo x").await;
    until("it is disabled", async || readiness(&real).await["webhooks"][0]["state"] == "disabled").await;
    real.signal("TERM");
    let (_, log) = real.ended().await;
    assert!(log.contains("answered 410 and is disabled"), "{log}");

    *receiver.answer.lock().unwrap() = Some("200 OK");
    let Some(real) = Real::start(&data, &settings).await else { return };
    until("it is seen as disabled", async || readiness(&real).await["webhooks"][0]["state"] == "disabled")
        .await;
    real.client.run("b", "echo x").await;
    let listed = operator(&data, &path, &["webhooks", "list"]);
    let shown = String::from_utf8(listed.stdout).unwrap();
    assert!(shown.contains("disabled by a 410 since") && !shown.contains("hidden"), "{shown}");
    let unknown = operator(&data, &path, &["webhooks", "enable", "cd"]);
    assert_eq!(unknown.status.code(), Some(1));
    let enabled = operator(&data, &path, &["webhooks", "enable", "ci"]);
    assert_eq!(enabled.status.code(), Some(0), "{enabled:?}");
    until("it is enabled", async || readiness(&real).await["webhooks"][0]["state"] == "delivering").await;
    assert_eq!(receiver.got.lock().unwrap().len(), 1, "what ended meanwhile is not posted");
    real.client.run("c", "echo x").await;
    assert_eq!(receiver.wait_for(2).await[1].data()["executionId"], "c");
    real.signal("TERM");
    real.ended().await;
}

/// Its `is_ours`, given what a receiver got.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the interpreter of what the guide shows")]
async fn what_the_guide_shows_receivers_verifies_our_messages() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/webhooks.md");
    let guide = fs::read_to_string(guide).unwrap();
    let (_, shown) = guide.split_once("```python\n").unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(Some("204 No Content")).await;
    let path = config(directory.path(), &table("ci", receiver.port, ""));
    let settings = [("PORTCULLIS_CONFIG", &*path)];
    let Some(real) = Real::start(&directory.path().join("data"), &settings).await else { return };
    real.client.run("hello", "echo hello").await;
    let got = receiver.wait_for(1).await.swap_remove(0);
    real.signal("TERM");
    real.ended().await;
    let headers: serde_json::Map<_, _> = ["webhook-id", "webhook-timestamp", "webhook-signature"]
        .map(|name| (name.to_owned(), json!(got.header(name))))
        .into_iter()
        .collect();
    let body = String::from_utf8(got.body.clone()).unwrap();
    for (secret, body, wanted) in
        [(SECRET, body.clone(), "True"), (NEXT_SECRET, body.clone(), "False"), (SECRET, body + " ", "False")]
    {
        let script = format!(
            "{shown}\nimport json, sys\nsecret, headers, body = sys.argv[1:]\n\
             print(is_ours(secret, json.loads(headers), body.encode()))"
        );
        let headers = serde_json::to_string(&headers).unwrap();
        match Command::new("python3").args(["-c", &script, secret, &headers, &body]).output() {
            Ok(output) => assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), wanted, "{output:?}"),
            Err(error) => return crate::process::skip(&format!("no python3: {error}")),
        }
    }
}

#[test]
fn the_table_of_the_example_is_understood_with_every_member() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("hook_secret");
    fs::write(&secret, SECRET).unwrap();
    let example = portcullis_server::example::example();
    let (_, table) = example.split_once("\n#[webhook").unwrap();
    let lines = table.lines().filter(|line| !line.starts_with("# ")).map(|line| line.trim_start_matches('#'));
    let table = format!("[webhook{}", lines.collect::<Vec<_>>().join("\n"));
    let table = table.replace("/run/secrets/ci_webhook", secret.to_str().unwrap());
    assert_eq!(table.lines().count(), 9, "{table}");
    let output =
        operator(directory.path(), &config(directory.path(), &table), &["config", "check", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["webhooks"][0]["url"], "https://hooks.example/portcullis", "{report:#}");
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < PATIENCE, "{what}: does not come true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs the executable as an operator does.
#[expect(clippy::disallowed_methods, reason = "this is the service itself, not something it runs")]
fn operator(data: &Path, config: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis-server"))
        .env_clear()
        .env("PORTCULLIS_DATA_DIR", data)
        .env("PORTCULLIS_CONFIG", config)
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn everything_that_is_wrong_with_a_webhook_is_said_with_its_place_and_without_its_secret() {
    let directory = tempfile::tempdir().unwrap();
    let good = format!("[webhook.ci]\nurl = 'https://hooks.example/?key=hidden'\nsecret = '{SECRET}'\n");
    let secret_file = directory.path().join("hook_secret");
    fs::write(&secret_file, SECRET).unwrap();
    for (text, wanted) in [
        ("webhook = 'x'", "is not tables `[webhook.NAME]`"),
        ("[webhook]\nci = 1", "`webhook.ci` is not a table"),
        ("[webhook.ci]", "it has no secret"),
        (&good.replace("url", "ulr"), "line 2, column 1): there is no such member; the nearest one is `url`"),
        (
            &good.replace("https://", "http://"),
            "`http://`: in the clear it is posted to only within `allowed_networks`",
        ),
        (&good.replace("https://", "ftp://"), "does not begin with `https://`"),
        (&good.replace("https://", "https://me:hidden@"), "holds a user or password"),
        (&good.replace("whsec_", ""), "`webhook.ci.secret`"),
        (&good.replace("whsec_", ""), "a secret begins with `whsec_`"),
        (&good.replace("'whsec_", "'whsec_hidden"), "is base64"),
        (&good.replace("secret =", "secret_file ="), "an absolute path is accepted"),
        (&format!("{good}secret_file = '/nonexistent/hook'"), "could not be read"),
        (
            &format!("{good}statuses = ['running']"),
            "`completed`, `failed`, `cancelled`, `timeout` and `lost` are accepted",
        ),
        (&format!("{good}statuses = []"), "a text, or a list of texts, is accepted"),
        (&format!("{good}programs = 7"), "a text, or a list of texts, is accepted"),
        (&format!("{good}allowed_networks = ['10.0.0.1/8']"), "an address is accepted, or a range"),
        (&format!("{good}timeout_seconds = 0"), "seconds from 0.1 to 60 are accepted"),
        (&format!("{good}timeout_seconds = '5'"), "seconds from 0.1 to 60 are accepted"),
        (&format!("{good}enabled = 'no'"), "true or false is accepted"),
        (&format!("{good}ca_file = 'ca.pem'"), "an absolute path is accepted"),
        (&good.replace("ci", "'C I'"), "its name is not one"),
    ] {
        let path = config(directory.path(), text);
        let output = operator(directory.path(), &path, &["config", "check"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{text}: {said}");
        assert!(said.contains(wanted), "{text}: {said}");
        assert!(!said.contains("hidden") && !said.contains("MfKQ"), "{text}: {said}");
    }
    let more =
        format!("secret_file = ['{}']\ntimeout_seconds = 2.5\nprograms = 'make'\n", secret_file.display());
    let path = config(directory.path(), &(good + &more));
    let output = operator(directory.path(), &path, &["config", "check", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let webhook = &report["webhooks"][0];
    assert_eq!(
        (&webhook["name"], &webhook["url"]),
        (&json!("ci"), &json!("https://hooks.example/")),
        "{report:#}"
    );
    assert_eq!((&webhook["origin"]["line"], report["webhooks"].as_array().unwrap().len()), (&json!(1), 1));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("MfKQ"));
}
