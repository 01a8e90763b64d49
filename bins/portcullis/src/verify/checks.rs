//! The six checks.

use std::time::{Duration, Instant};

use http::Method;
use portcullis_core::ExecutionId;
use serde_json::{Value, json};

use super::Trouble;
use super::probe::{Probe, Reply};
use crate::service::execution_path;

/// How long an execution may wait for its turn and run, when it takes milliseconds by itself.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the end of an execution may take at its time limit of 1 s: its grace period is in it.
const END_PATIENCE: Duration = Duration::from_secs(15);
/// The same after a cancellation, which is answered when everything of the execution is gone.
const CANCELLED_PATIENCE: Duration = Duration::from_secs(3);
/// The members of a record that callers rely on.
const MEMBERS: [&str; 7] = ["executionId", "status", "command", "output", "exitCode", "startTime", "endTime"];

/// A line that the default allowlist permits and that runs until it is ended, while it reads, writes and holds
/// next to nothing.
///
/// None of `ls`, `echo`, `cat`, `grep`, `find` and `pwd` sleeps, and files to read through are few on one machine
/// and many on another. So `grep` looks for two squares, each twice, in a text without any square (the fixed
/// point of a→abc, b→ac, c→b): it must try every way to part the text. Measured with GNU grep 3.8 and the `C`
/// locale: 17 s for 50 characters, 80 s for 60, so some ten days for these 120, in 9 MB of memory.
const ENDLESS: &str = r"echo abcacbabcbacabcacbacabcbabcacbabcbacabcbabcacbacabcacbabcbacabcacbacabcbabcacbacabcacbabcbacabcbabcacbabcbacabcacbacabc | grep '^.*\(..*\).*\(..*\).*\1\1\2\2$'";
/// The same for a rulebook that allows `sleep` and not the above.
const SLEEP: &str = "sleep 600";

/// One check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    Health,
    Allowed,
    Refused,
    Cancellation,
    Complex,
    Timeout,
}

/// All of them, in order.
pub(super) const ALL: [Check; 6] =
    [Check::Health, Check::Allowed, Check::Refused, Check::Cancellation, Check::Complex, Check::Timeout];

impl Check {
    /// Returns what it looks at.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Allowed => "allowed command",
            Self::Refused => "refused command",
            Self::Cancellation => "cancellation",
            Self::Complex => "complex command",
            Self::Timeout => "timeout",
        }
    }

    /// Makes it, and says what was found.
    pub(super) async fn run(self, probe: &Probe<'_>) -> Result<String, Trouble> {
        match self {
            Self::Health => health(probe).await,
            Self::Allowed => allowed(probe).await,
            Self::Refused => refused(probe).await,
            Self::Cancellation => cancellation(probe).await,
            Self::Complex => complex(probe).await,
            Self::Timeout => timeout(probe).await,
        }
    }
}

fn trouble<T>(expected: impl Into<String>, came: impl Into<String>, mend: &str) -> Result<T, Trouble> {
    Err(Trouble { expected: expected.into(), came: came.into(), mend: mend.into(), hopeless: false })
}

async fn health(probe: &Probe<'_>) -> Result<String, Trouble> {
    let expected = "status 200 with `{\"status\":\"ok\"}`";
    let reply = probe.ask(Method::GET, "/health", None).await?.expect(&[200], expected)?;
    if reply.json != json!({"status": "ok"}) {
        return trouble(expected, reply.describe(), "is another service listening at this address?");
    }
    Ok("it answers 200 with status ok".into())
}

async fn allowed(probe: &Probe<'_>) -> Result<String, Trouble> {
    let line = "echo 'Hello, World!'";
    let reply = run_to_success(probe, line, "Hello, World!").await?;
    let missing: Vec<&str> = MEMBERS.into_iter().filter(|name| reply.json.get(name).is_none()).collect();
    if !missing.is_empty() {
        return trouble(
            format!("a record with {}", MEMBERS.join(", ")),
            format!("it lacks {}", missing.join(", ")),
            "compare the answer with docs/api.md: is this a Portcullis service?",
        );
    }
    if reply.text("command") != line || reply.text("startTime").is_empty() || reply.text("endTime").is_empty()
    {
        return trouble(
            "the line and its times in the record",
            reply.describe(),
            "the service's log says more",
        );
    }
    Ok(format!("`{line}` completed with its output"))
}

/// Runs a line that must complete with this output.
async fn run_to_success(probe: &Probe<'_>, line: &str, output: &str) -> Result<Reply, Trouble> {
    let id = probe.submit(line, None).await?;
    let reply = probe.wait_while(&id, &["scheduled", "running"], PATIENCE).await?;
    let ended =
        (reply.text("status"), reply.json.get("exitCode").and_then(Value::as_i64), reply.text("output"));
    if ended == ("completed", Some(0), output) {
        return Ok(reply);
    }
    let mend = match reply.text("reason") {
        "start_failed" => "it did not start: `portcullis-server doctor` says what this host lacks",
        _ => "`portcullis status ID` and the service's log say more",
    };
    let message = match reply.text("message") {
        "" => String::new(),
        message => format!(" ({message})"),
    };
    trouble(
        format!("`{line}` completed with code 0 and output {output:?}"),
        format!("`{}` with code {:?} and output {:?}{message} (execution {id})", ended.0, ended.1, ended.2),
        mend,
    )
}

async fn refused(probe: &Probe<'_>) -> Result<String, Trouble> {
    // A refused command hidden behind an allowed one is refused as well, and nothing of the line runs.
    for line in ["rm -rf /", "echo 'test' && rm -rf /"] {
        let id = ExecutionId::generate();
        let expected = format!("`{line}` refused with 400 or 403 and an `error` that says it is not allowed");
        let body = json!({ "command": line, "executionId": id.as_str() });
        let reply = probe.ask(Method::POST, "/api/commands", Some(body)).await?;
        if matches!(reply.status.as_u16(), 200..=299) {
            // Whatever it is that runs there now, end it.
            let ended = probe.ask(Method::POST, &execution_path(&id, "/cancel"), Some(json!({}))).await;
            return trouble(
                expected,
                format!(
                    "{} (cancelled: {})",
                    reply.describe(),
                    ended.is_ok_and(|reply| reply.status.is_success())
                ),
                "STOP this service: its rules allow `rm` of everything; compare them with docs/policy.md",
            );
        }
        let reply = reply.expect(&[400, 403], &expected)?;
        if !reply.text("error").to_lowercase().contains("not allowed") {
            let mend = match reply.text("code") {
                "auth/forbidden" => "give the user of this token the permission to run commands",
                _ => "compare the answer with docs/api.md",
            };
            return trouble(expected, format!("{} ({})", reply.describe(), reply.media_type), mend);
        }
        let record = probe.ask(Method::GET, &execution_path(&id, ""), None).await?;
        if record.status.as_u16() != 404 {
            return trouble(
                "no execution of what was refused",
                record.describe(),
                "STOP this service: what it refuses must not run",
            );
        }
    }
    Ok("`rm -rf /` was refused, alone and behind `&&`, and nothing ran".into())
}

/// Submits a line that runs until it is ended.
async fn submit_endless(probe: &Probe<'_>, timeout: Option<u32>) -> Result<ExecutionId, Trouble> {
    match probe.submit(ENDLESS, timeout).await {
        Err(first) if first.came.contains("not allowed") => {
            probe.submit(SLEEP, timeout).await.map_err(|_| Trouble {
                expected: "a line that runs long: `echo … | grep …` or `sleep 600`".into(),
                mend: "let the rules allow this user `echo` and `grep`, or `sleep`".into(),
                ..first
            })
        }
        submitted => submitted,
    }
}

async fn cancellation(probe: &Probe<'_>) -> Result<String, Trouble> {
    let id = submit_endless(probe, None).await?;
    let running = probe.wait_while(&id, &["scheduled"], PATIENCE).await?;
    if running.text("status") != "running" {
        return trouble(
            "an execution that runs until it is cancelled",
            format!("it ended before: {}", running.describe()),
            "`portcullis-server doctor` says what this host lacks; do limits on CPU time come too early?",
        );
    }
    let began = Instant::now();
    let path = execution_path(&id, "/cancel");
    let expected = "status 200 to a cancellation";
    probe.ask(Method::POST, &path, Some(json!({}))).await?.expect(&[200], expected)?;
    let reply = probe.wait_while(&id, &["running"], CANCELLED_PATIENCE).await?;
    if reply.text("status") != "cancelled" {
        return trouble(
            "status `cancelled`",
            reply.describe(),
            "the service's log says why it ended otherwise",
        );
    }
    probe
        .ask(Method::POST, &path, Some(json!({})))
        .await?
        .expect(&[200], "the same answer to a second one")?;
    Ok(format!("a running line was cancelled within {} ms", began.elapsed().as_millis()))
}

async fn complex(probe: &Probe<'_>) -> Result<String, Trouble> {
    let line = "echo 'line1 | not a pipe\nline2 \"quoted\"\nline3; not a command' | grep 'line2' | cat -n && echo done\\; \"it's\" 'all  here'";
    run_to_success(probe, line, "     1\tline2 \"quoted\"\ndone; it's all  here").await?;
    Ok("pipes, `&&`, quotes, backslashes and newlines arrived as written".into())
}

async fn timeout(probe: &Probe<'_>) -> Result<String, Trouble> {
    let id = submit_endless(probe, Some(1)).await?;
    probe.wait_while(&id, &["scheduled"], PATIENCE).await?;
    let began = Instant::now();
    let reply = probe.wait_while(&id, &["running"], END_PATIENCE).await?;
    if reply.text("status") != "timeout" {
        return trouble(
            "status `timeout` for a line with a limit of 1 s",
            reply.describe(),
            "the service's log says why it ended otherwise",
        );
    }
    Ok(format!("a limit of 1 s ended a running line after {} ms", began.elapsed().as_millis()))
}
