//! Parts that a test can steer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use portcullis_core::*;
use portcullis_store::MemoryStore;
use time::OffsetDateTime;
use tokio::sync::Semaphore;

/// Knows four tokens: `alice`, `bob`, `guest` (who lacks the permission) and `down` (nobody can say).
pub(crate) struct Tokens;

#[async_trait]
impl Authenticator for Tokens {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Principal, AuthenticateError> {
        let token = credentials.bearer.as_ref().ok_or(AuthenticateError::Missing)?.reveal();
        match token {
            "alice" | "bob" => {
                Ok(Principal { id: format!("id-{token}"), name: token.into(), ..Principal::local() })
            }
            "guest" => Err(AuthenticateError::Forbidden {
                permission: "run agents".into(),
                principal: Some(Arc::new(Principal {
                    id: "id-guest".into(),
                    name: "guest".into(),
                    ..Principal::local()
                })),
            }),
            "down" => Err(AuthenticateError::Unavailable {
                retry_after: Some(Duration::from_millis(6500)),
                source: "connection refused".into(),
            }),
            _ => Err(AuthenticateError::Invalid),
        }
    }
}

/// Does not know what `$(` means, refuses `rm`, makes a mistake at `panic`, and permits the rest. The line goes
/// to the launcher in the environment.
pub(crate) struct AllButRm;

impl Policy for AllButRm {
    fn judge(&self, _: &Principal, submission: &Submission) -> Verdict {
        let line = &submission.command;
        assert!(line != "panic", "as the test wanted");
        let denial = |kind, code, start: usize, subject: &str, message: &str| {
            Verdict::Deny(Box::new(Denial {
                code: DenialCode::new(code),
                kind,
                span: Span::new(start, start + subject.len()),
                subject: subject.into(),
                rule: Some(RuleRef { name: "base".into(), line: Some(3) }),
                message: message.into(),
                suggestion: Some("leave it out".into()),
                effects: Vec::new(),
                further: Vec::new(),
            }))
        };
        if let Some(at) = line.find("$(") {
            let message = "command substitution is not part of the language";
            return denial(DenialKind::Malformed, "syntax/substitution", at, "$(", message);
        }
        if let Some(at) = line.find("rm ") {
            return denial(
                DenialKind::Forbidden,
                "program/not-allowed",
                at,
                "rm",
                "the program `rm` is not allowed",
            );
        }
        let workspace = ViewPath::parse("/workspace").unwrap();
        let limits = Limits::default();
        let plan = Plan {
            script: Script { steps: Vec::new() },
            working_directory: workspace.clone(),
            workspace,
            environment: vec![("LINE".into(), line.clone())],
            stdin: submission.stdin.clone().map(String::into_bytes),
            limits: Limits { wall_time: submission.timeout.unwrap_or(limits.wall_time), ..limits },
            protected: Vec::new(),
        };
        let program = line.split(' ').next().and_then(ProgramName::parse).unwrap();
        Verdict::Permit(
            Box::new(Permit::grant(plan)),
            Grant { rules: vec!["base".into()], programs: vec![program], added: Vec::new() },
        )
    }

    fn programs(&self, submission: &Submission) -> Vec<ProgramName> {
        submission
            .command
            .split("; ")
            .filter_map(|part| ProgramName::parse(part.split(' ').next()?))
            .collect()
    }

    fn allowed(&self, _: &Principal) -> Vec<AllowedProgram> {
        ["echo", "git", "git"]
            .map(|name| AllowedProgram {
                program: ProgramName::parse(name).unwrap(),
                rule: "base".into(),
                subcommands: if name == "git" { vec!["log".into()] } else { Vec::new() },
                limits: portcullis_core::Limits::default(),
            })
            .to_vec()
    }
}

/// What the [`Actor`] pretends to hold.
pub(crate) fn confinement() -> Confinement {
    Confinement {
        level: Level::Full,
        landlock_abi: Some(7),
        cgroup: Some(CgroupVersion::V2),
        weaker: Vec::new(),
    }
}

/// Acts out a few lines: `echo TEXT`, `cat` (its input), `complain TEXT` (on standard error), `exit N`, `kill N`,
/// `bytes` (some that are no text), `flood N` (bytes), `sleep` (until stopped, or for its time limit), `gated` (a
/// line, and after each opening of the gate another, of three).
pub(crate) struct Actor {
    pub(crate) gate: Semaphore,
    pub(crate) launches: AtomicUsize,
    pub(crate) capacity: usize,
    /// Pretends that nothing can be launched any more.
    pub(crate) dead: AtomicBool,
}

impl Actor {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            gate: Semaphore::new(0),
            launches: AtomicUsize::new(0),
            capacity,
            dead: AtomicBool::new(false),
        })
    }
}

#[async_trait]
impl Launcher for Actor {
    async fn launch(
        &self,
        permit: Permit,
        observer: Arc<dyn ExecutionObserver>,
    ) -> Result<Outcome, LaunchError> {
        use OutputStream::{Stderr, Stdout};
        let plan = permit.into_plan();
        if observer.starting(&confinement()).await == Flow::Stop {
            return Err(LaunchError::Forbidden);
        }
        self.launches.fetch_add(1, Ordering::SeqCst);
        let line = plan.environment[0].1.as_str();
        let (program, text) = line.split_once(' ').unwrap_or((line, ""));
        let print = async |stream, bytes: Vec<u8>| {
            observer.output(stream, bytes).await;
        };
        let mut truncated = false;
        let ended = match program {
            "echo" => {
                print(Stdout, format!("{}\n", text.replace('\'', "")).into()).await;
                Ended::Exited(0)
            }
            "cat" => {
                print(Stdout, plan.stdin.unwrap_or_default()).await;
                Ended::Exited(0)
            }
            "complain" => {
                print(Stdout, b"before\n".to_vec()).await;
                print(Stderr, format!("{text}\n").into()).await;
                Ended::Exited(2)
            }
            "exit" => Ended::Exited(text.parse().unwrap()),
            "kill" => Ended::Signaled(text.parse().unwrap()),
            "bytes" => {
                print(Stdout, b"a\xff\0\r\ndata: x\n\nevent: end\n".to_vec()).await;
                Ended::Exited(0)
            }
            "flood" => {
                let mut left: usize = text.parse().unwrap();
                while left > 0 {
                    let piece = left.min(65_536);
                    print(Stdout, vec![b'x'; piece]).await;
                    left -= piece;
                }
                truncated = true;
                Ended::Limited(Limit::Output)
            }
            "gated" => {
                for part in 1..=3 {
                    print(Stdout, format!("{part}\n").into()).await;
                    if part < 3 {
                        self.gate.acquire().await.unwrap().forget();
                    }
                }
                Ended::Exited(0)
            }
            "sleep" => tokio::select! {
                reason = observer.stop_requested() => Ended::Stopped(reason),
                () = tokio::time::sleep(plan.limits.wall_time) => Ended::Limited(Limit::WallTime),
            },
            other => {
                return Err(LaunchError::Program { program: other.into(), problem: "it is missing".into() });
            }
        };
        let usage = Usage {
            cpu_time: Duration::from_millis(3),
            peak_memory_bytes: Some(4096),
            wall_time: Duration::from_millis(5),
        };
        Ok(Outcome { ended, usage, truncated })
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn problem(&self) -> Option<String> {
        self.dead.load(Ordering::SeqCst).then(|| "the launcher has ended".into())
    }
}

/// Records like a [`MemoryStore`] while it is well.
#[derive(Default)]
pub(crate) struct Brittle {
    inner: MemoryStore,
    pub(crate) broken: AtomicBool,
    /// A trial is not answered.
    pub(crate) silent: AtomicBool,
    /// How many trials there were.
    pub(crate) probes: AtomicUsize,
    /// How much output was read for somebody.
    pub(crate) output_bytes_read: AtomicUsize,
}

impl Brittle {
    fn well(&self, operation: &'static str) -> Result<&MemoryStore, StoreError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable { operation, source: "no space left on device".into() });
        }
        Ok(&self.inner)
    }
}

#[async_trait]
impl ExecutionStore for Brittle {
    async fn accept(&self, new: NewExecution) -> Result<Acceptance, StoreError> {
        self.well("accept")?.accept(new).await
    }

    async fn claim(
        &self,
        id: &ExecutionId,
        at: OffsetDateTime,
        confinement: &Confinement,
    ) -> Result<Claim, StoreError> {
        self.well("claim")?.claim(id, at, confinement).await
    }

    async fn append(&self, id: &ExecutionId, chunks: Vec<OutputChunk>) -> Result<(), StoreError> {
        self.well("append")?.append(id, chunks).await
    }

    async fn close(&self, id: &ExecutionId, closing: Closing) -> Result<Finish, StoreError> {
        self.well("finish")?.close(id, closing).await
    }

    async fn read(&self, id: &ExecutionId) -> Result<Option<Execution>, StoreError> {
        self.well("read")?.read(id).await
    }

    async fn output(&self, id: &ExecutionId, after: u64, max: usize) -> Result<Vec<OutputChunk>, StoreError> {
        let chunks = self.well("read output")?.output(id, after, max).await?;
        let bytes = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        self.output_bytes_read.fetch_add(bytes, Ordering::SeqCst);
        Ok(chunks)
    }

    async fn locate(&self, id: &ExecutionId, place: Place) -> Result<Located, StoreError> {
        self.well("find a place in output")?.locate(id, place).await
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        self.well("list")?.list(query).await
    }

    async fn refuse(&self, refusal: Refusal) -> Result<(), StoreError> {
        self.well("record a refusal")?.refuse(refusal).await
    }

    async fn refusals(&self, limit: usize) -> Result<Vec<Refusal>, StoreError> {
        self.well("read refusals")?.refusals(limit).await
    }

    async fn recover(&self, at: OffsetDateTime) -> Result<Recovery, StoreError> {
        self.well("recover")?.recover(at).await
    }

    async fn undelivered(&self, limit: usize) -> Result<Vec<Execution>, StoreError> {
        self.well("read updates")?.undelivered(limit).await
    }

    async fn delivered(&self, id: &ExecutionId, delivery: Delivery) -> Result<(), StoreError> {
        self.well("note an update")?.delivered(id, delivery).await
    }

    async fn trim(&self, keep: Keep) -> Result<u64, StoreError> {
        self.well("trim")?.trim(keep).await
    }

    async fn was_removed(&self, owner: &str, id: &ExecutionId) -> Result<bool, StoreError> {
        self.well("look for a removed execution")?.was_removed(owner, id).await
    }

    async fn expire(&self, ended_before: OffsetDateTime) -> Result<u64, StoreError> {
        self.well("expire")?.expire(ended_before).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.probes.fetch_add(1, Ordering::SeqCst);
        if self.silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.well("write a page as a trial")?.probe().await
    }
}
