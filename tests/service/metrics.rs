//! What is counted can be fetched, in both formats, by who may, while the service works.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use portcullis_api::ProblemCode;
use portcullis_server::telemetry::{FAMILIES, Kind};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::process::{Real, skip};
use crate::scraped::Scraped;
use crate::served::{Client, Served};

const OPEN: &str = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

async fn scrape(client: &Client) -> Scraped {
    let answer = client.get("/metrics").await.expect_status(200);
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    Scraped::read(std::str::from_utf8(&answer.body).unwrap(), false)
}

/// Does something of everything.
async fn scenario(served: &Served) {
    served.run("done", "echo hello").await;
    served.run("fails", "exit 3").await;
    served.submit(json!({"executionId": "done", "command": "echo hello"})).await.expect_status(200);
    served.submit(json!({"executionId": "done", "command": "echo other"})).await.expect_status(409);
    served.submit(json!({"command": "rm -rf /"})).await.expect_status(403);
    served.submit(json!({"command": "echo $(id)"})).await.expect_status(400);
    served.submit(json!({"executionId": "asleep", "command": "sleep"})).await.expect_status(201);
    served.request("POST", "/api/commands/asleep/cancel").send().await.expect_status(200);
    served.request("GET", "/api/commands").token("wrong").send().await.expect_status(401);
    served.request("GET", "/api/commands").token(None).send().await.expect_status(401);
    served.request("GET", "/api/commands").token("guest").send().await.expect_status(403);
    served.request("BREW", "/nowhere").send().await.expect_status(404);
}

#[tokio::test]
async fn what_happens_is_counted_where_the_names_say() {
    let served = Served::start().await;
    let watched = {
        served.submit(json!({"executionId": "watched", "command": "gated"})).await.expect_status(201);
        served.events("watched", None).await
    };
    scenario(&served).await;
    let found = scrape(&served).await;
    for (series, wanted) in [
        ("portcullis_executions_accepted_total", 4.0),
        ("portcullis_submissions_repeated_total", 1.0),
        ("portcullis_submissions_turned_away_total{reason=\"id_taken\"}", 1.0),
        ("portcullis_denials_total{code=\"program/not-allowed\"}", 1.0),
        ("portcullis_denials_total{code=\"syntax/substitution\"}", 1.0),
        ("portcullis_executions_ended_total{status=\"completed\",reason=\"exit\"}", 1.0),
        ("portcullis_executions_ended_total{status=\"failed\",reason=\"exit\"}", 1.0),
        ("portcullis_executions_ended_total{status=\"cancelled\",reason=\"cancelled\"}", 1.0),
        ("portcullis_executions_ended_total{status=\"lost\",reason=\"service_died\"}", 0.0),
        ("portcullis_executions_running", 1.0),
        ("portcullis_executions_queued", 0.0),
        ("portcullis_execution_seconds_count", 3.0),
        ("portcullis_execution_run_seconds_sum", 0.015),
        ("portcullis_executions_cpu_seconds_total", 0.009),
        ("portcullis_launch_seconds_count", 4.0),
        ("portcullis_execution_queue_seconds_count", 4.0),
        ("portcullis_authentications_total{result=\"missing\"}", 1.0),
        ("portcullis_authentications_total{result=\"invalid\"}", 1.0),
        ("portcullis_authentications_total{result=\"forbidden\"}", 1.0),
        ("portcullis_store_operation_seconds_count{operation=\"refuse\"}", 2.0),
        ("portcullis_http_requests_total{route=\"/api/commands\",method=\"POST\",status=\"409\"}", 1.0),
        ("portcullis_http_requests_total{route=\"-\",method=\"_OTHER\",status=\"404\"}", 1.0),
        ("portcullis_watchers", 1.0),
        ("portcullis_confinement_info{level=\"full\",cgroup=\"v2\",landlock_abi=\"7\"}", 1.0),
        ("portcullis_draining", 0.0),
    ] {
        assert_eq!(found.value(series), wanted, "{series}");
    }
    // "hello\n", and what the gate has let through of the other.
    assert!(found.value("portcullis_execution_output_bytes_total") >= 6.0);
    drop(watched);
    served.store.broken.store(true, Ordering::SeqCst);
    served.submit(json!({"command": "echo x"})).await.expect_status(503);
    let found = scrape(&served).await;
    assert_eq!(found.value("portcullis_store_failures_total{operation=\"accept\"}"), 1.0);
}

#[tokio::test]
async fn both_formats_hold_every_family_and_nothing_that_a_caller_chose() {
    let served = Served::start().await;
    scenario(&served).await;
    let answer = served.request("GET", "/metrics").header("accept", OPEN).send().await.expect_status(200);
    assert_eq!(answer.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = std::str::from_utf8(&answer.body).unwrap();
    let (open, plain) = (Scraped::read(text, true), scrape(&served).await);
    // What is not configured here: peers, webhooks, an audit log, a collector.
    let quiet = ["portcullis_peer_failing", "portcullis_webhook_", "portcullis_audit_", "portcullis_spans_"];
    for family in FAMILIES {
        let found = plain.families.get(family.name).unwrap_or_else(|| panic!("no `{}`", family.name));
        let shown = family.name.strip_suffix("_total").filter(|_| family.kind == Kind::Counter);
        let unit = &open.families[shown.unwrap_or(family.name)].unit;
        assert_eq!(
            (found.kind.as_str(), unit.as_str()),
            (family.kind.as_str(), family.unit),
            "{}",
            family.name
        );
        assert_eq!(found.help, family.help);
        if quiet.iter().any(|quiet| family.name.starts_with(quiet)) {
            assert!(found.samples.is_empty());
            continue;
        }
        assert!(!found.samples.is_empty(), "`{}` has no sample", family.name);
        let labels: BTreeSet<_> = family.labels.iter().map(ToString::to_string).collect();
        assert_eq!(found.labels, labels, "{}", family.name);
    }
    assert_eq!(plain.families.len(), FAMILIES.len());
    for secret in ["alice", "hello", "asleep", "id-", "BREW", "nowhere", "127.0.0.1"] {
        assert!(!text.contains(secret), "`{secret}` is in the metrics");
    }
}

#[tokio::test]
async fn requests_make_no_series_that_are_not_there_beforehand() {
    let served = Served::start().await;
    scenario(&served).await;
    scenario_of_strangers(&served).await;
    // The first scrape is counted after its answer.
    scrape(&served).await;
    let before = scrape(&served).await;
    scenario_of_strangers(&served).await;
    let after = scrape(&served).await;
    assert_eq!(before.series(), after.series());
}

async fn scenario_of_strangers(served: &Served) {
    for n in 0..50 {
        served.get(&format!("/api/commands/unknown-{n}")).await.expect_status(404);
        served.get(&format!("/nowhere/{n}")).await.expect_status(404);
        served.request(&format!("M{n}"), "/api/commands").send().await.expect_status(405);
    }
}

#[tokio::test]
async fn metrics_are_for_who_has_a_token_or_reaches_their_own_address() {
    let served = Served::start().await;
    let nobody = served.request("GET", "/metrics").token(None).send().await.expect_status(401);
    nobody.expect_problem(ProblemCode::AuthMissing);
    served.get("/metrics?match=x").await.expect_status(400);
    served.request("POST", "/metrics").send().await.expect_status(405);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_until, closing) = watch::channel(false);
    tokio::spawn(portcullis_server::http::serve(listener, served.service.for_scrapers(address), closing));
    let scraper = Client { address, token: "wrong".into() };
    scrape(&scraper).await;
    // Nothing else is there, whoever asks.
    let alice = Client { address, token: "alice".into() };
    for path in ["/health", "/readyz", "/api/commands", "/api/commands/x", "/", "/metrics/"] {
        alice.get(path).await.expect_status(404);
    }
    let body = json!({"command": "echo x"});
    alice.request("POST", "/api/commands").json(&body).send().await.expect_status(404);
    // A page that has its own name lead here reads nothing.
    let rebound = "GET /metrics HTTP/1.1\r\nhost: attacker.example\r\nconnection: close\r\n\r\n";
    assert!(scraper.raw(rebound.as_bytes()).await.starts_with("HTTP/1.1 421"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_whole_while_the_service_is_busy() {
    let served = std::sync::Arc::new(Served::start().await);
    let busy: Vec<_> = (0..4)
        .map(|worker| {
            let served = served.clone();
            tokio::spawn(async move {
                for n in 0..50 {
                    served.run(&format!("w{worker}-{n}"), "echo hello").await;
                }
            })
        })
        .collect();
    let mut accepted = 0.0;
    while busy.iter().any(|task| !task.is_finished()) {
        let found = scrape(&served).await;
        let now = found.value("portcullis_executions_accepted_total");
        assert!(now >= accepted);
        accepted = now;
    }
    for task in busy {
        task.await.unwrap();
    }
    let found = scrape(&served).await;
    assert_eq!(found.value("portcullis_executions_accepted_total"), 200.0);
    assert_eq!(found.value("portcullis_executions_ended_total{status=\"completed\",reason=\"exit\"}"), 200.0);
    assert_eq!(found.value("portcullis_execution_output_bytes_total"), 1_200.0);
}

/// Has Prometheus' own tool look at an answer.
#[expect(clippy::disallowed_methods, reason = "promtool is no command of the service's")]
fn promtool(arguments: &[&str], input: &[u8]) -> Option<(bool, String)> {
    let started = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut tool) = started else {
        skip("promtool is not here: nothing of Prometheus' own has looked at the metrics");
        return None;
    };
    tool.stdin.take().unwrap().write_all(input).unwrap();
    let output = tool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

#[tokio::test]
async fn the_real_executable_gives_metrics_that_prometheus_finds_nothing_wrong_with() {
    let directory = tempfile::tempdir().unwrap();
    // Taken and given back: the service is told an address, and says nothing of a free one.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = [("PORTCULLIS_METRICS_LISTEN", &*address.to_string())];
    let Some(real) = Real::start(directory.path(), &settings).await else { return };
    real.client.run("one", "echo hello").await;
    real.client.run("two", "cat /nowhere").await;
    real.client.submit(json!({"command": "rm -rf /"})).await.expect_status(403);
    let scraper = Client { address, token: String::new() };
    let found = scrape(&scraper).await;
    for (series, least) in [
        ("portcullis_executions_accepted_total", 2.0),
        ("portcullis_denials_total{code=\"program/not-allowed\"}", 1.0),
        ("portcullis_execution_run_seconds_count", 2.0),
        ("portcullis_executions_cpu_seconds_total", 0.0),
        ("portcullis_cells{state=\"ready\"}", 1.0),
        ("portcullis_cells_made_total", 1.0),
        ("portcullis_store_operation_seconds_count{operation=\"close\"}", 2.0),
        ("process_resident_memory_bytes", 1_000_000.0),
        ("process_open_fds", 5.0),
        ("process_max_fds", 100.0),
        ("process_start_time_seconds", 1.6e9),
    ] {
        assert!(found.value(series) >= least, "{series}: {}", found.value(series));
    }
    let body = scraper.get("/metrics").await.body;
    if let Some((fine, said)) = promtool(&["check", "metrics"], &body) {
        assert!(fine && said.trim().is_empty(), "{said}");
    }
}
