//! Measures a cell from permit to reaped against a bare spawn, side by side in one run.
//!
//! `cargo bench -p portcullis-sandbox`. Figures of one machine and one moment say little: the ratios are what
//! to look at. Both sides are measured in turn, batch by batch, so that a change of the machine's speed meets both.
//! Other sandboxes are measured beside them where they are installed (bubblewrap, firejail, nsjail, isolate). `-- sequential` measures that part alone.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "what is measured is a bare spawn")]

use std::path::Path;
use std::process::{Command as Bare, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_core::{
    Command, Confinement, Connector, Ended, ExecutionObserver, Flow, Launcher, Limits, OutputStream, Permit,
    Pipeline, Plan, ProgramName, Rights, Script, SimpleCommand, Span, Step, StopReason, ViewPath, Word,
};
use portcullis_sandbox::{Config, Sandbox};

/// Executions of each side in one batch.
const BATCH: usize = 40;

struct Sink;

#[async_trait::async_trait]
impl ExecutionObserver for Sink {
    async fn starting(&self, _: &Confinement) -> Flow {
        Flow::Continue
    }
    async fn output(&self, _: OutputStream, bytes: Vec<u8>) -> Flow {
        std::hint::black_box(bytes);
        Flow::Continue
    }
    async fn stop_requested(&self) -> StopReason {
        std::future::pending().await
    }
}

fn permit(stages: &[(&str, &[&str])], writable: bool) -> Permit {
    let nowhere = Span::new(0, 0);
    let workspace = ViewPath::parse("/workspace").unwrap();
    let commands = stages.iter().map(|(program, arguments)| {
        Command::Simple(Box::new(SimpleCommand {
            program: ProgramName::parse(program).unwrap(),
            arguments: arguments.iter().map(|word| Word::literal(*word, nowhere)).collect(),
            assignments: Vec::new(),
            redirections: Vec::new(),
            rights: Rights {
                write: if writable { vec![workspace.clone()] } else { Vec::new() },
                ..Rights::default()
            },
            span: nowhere,
        }))
    });
    let pipeline = Pipeline { commands: commands.collect() };
    Permit::grant(Plan {
        script: Script { steps: vec![Step { connector: Connector::Always, pipeline }] },
        working_directory: workspace.clone(),
        workspace,
        environment: Vec::new(),
        stdin: None,
        limits: Limits::default(),
        protected: Vec::new(),
    })
}

fn bare(program: &str, arguments: &[&str]) {
    let output = with_environment(Bare::new(program).args(arguments)).output().unwrap();
    assert!(output.status.success());
}

/// Gives a bare command the variables that a cell gives: with another locale a program does other work.
fn with_environment(command: &mut Bare) -> &mut Bare {
    let variables = [
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/"),
        ("USER", "user"),
        ("LOGNAME", "user"),
        ("LANG", "C.UTF-8"),
    ];
    command.env_clear().envs(variables).stdin(Stdio::null())
}

/// Others that confine a command, with as much as they can: measured where they are installed.
const PEERS: [(&str, &str, &[&str]); 4] = [
    (
        "bubblewrap",
        "/usr/bin/bwrap",
        &[
            "--unshare-all",
            "--die-with-parent",
            "--ro-bind",
            "/usr",
            "/usr",
            "--symlink",
            "usr/bin",
            "/bin",
            "--symlink",
            "usr/lib",
            "/lib",
            "--symlink",
            "usr/lib64",
            "/lib64",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
        ],
    ),
    ("firejail", "/usr/bin/firejail", &["--quiet", "--noprofile", "--net=none", "--seccomp", "--private"]),
    ("nsjail", "/usr/bin/nsjail", &["--really_quiet", "--mode", "o", "--chroot", "/", "--"]),
    ("isolate", "/usr/bin/isolate", &["--silent", "--processes=8", "--run", "--"]),
];

fn peer(executable: &str, options: &[&str], program: &str, arguments: &[&str]) {
    let mut command = Bare::new(executable);
    command.args(options).arg(program).args(arguments);
    let output = with_environment(&mut command).output().unwrap();
    assert!(output.status.success(), "{executable}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a permit, and returns the CPU time that the kernel counted for the cell and all that ran in it.
async fn confined(sandbox: &Sandbox, permit: Permit) -> Duration {
    let outcome = sandbox.launch(permit, Arc::new(Sink)).await.unwrap();
    assert_eq!(outcome.ended, Ended::Exited(0));
    outcome.usage.cpu_time
}

/// Returns the CPU time of the children of this process that have been waited for, in clock ticks. See
/// proc_pid_stat(5).
fn ticks_of_children() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[13].parse::<u64>().unwrap() + fields[14].parse::<u64>().unwrap()
}

struct Figures(Vec<Duration>);

impl Figures {
    fn at(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a position in a short list"
        )]
        let index = ((sorted.len() - 1) as f64 * share) as usize;
        sorted.get(index).copied().unwrap_or_default().as_secs_f64() * 1e6
    }
}

fn main() {
    portcullis_sandbox::enter_if_launcher();
    let cells = 8;
    let state_directory = std::env::temp_dir().join(format!("portcullis-bench-{}", std::process::id()));
    let process =
        portcullis_sandbox::start_launcher(&Config { cells, state_directory, ..Config::default() }).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sandbox = Arc::new(runtime.block_on(Sandbox::connect(process)).unwrap());
    println!("confinement: {:?}", sandbox.confinement());
    let installed = |(_, executable, _): &(&str, &str, &[&str])| Path::new(executable).exists();
    for (name, ..) in PEERS.iter().filter(|peer| !installed(peer)) {
        println!("{name} is not installed: not measured");
    }

    println!("\nsequential, microseconds          median      p99   median over bare spawn   CPU time, mean");
    for (title, program, arguments) in [("true", "true", &[][..]), ("echo hello", "echo", &["hello"][..])] {
        let path = format!("/usr/bin/{program}");
        let mut sides: Vec<(&str, Figures, Duration)> = Vec::new();
        let mut names = vec!["bare spawn", "cell", "cell, workspace and /tmp"];
        names.extend(PEERS.iter().filter(|peer| installed(peer)).map(|(name, ..)| *name));
        for name in &names {
            sides.push((name, Figures(Vec::new()), Duration::ZERO));
        }
        for round in 0..12 {
            for (name, figures, used) in &mut sides {
                let before = ticks_of_children();
                let mut cpu = Duration::ZERO;
                for _ in 0..BATCH {
                    let started = Instant::now();
                    match *name {
                        "bare spawn" => bare(&path, arguments),
                        kind if !kind.starts_with("cell") => {
                            let found = PEERS.iter().find(|(name, ..)| *name == kind).unwrap();
                            peer(found.1, found.2, &path, arguments);
                        }
                        kind => {
                            let permit = permit(&[(program, arguments)], kind != "cell");
                            cpu += runtime.block_on(confined(&sandbox, permit));
                        }
                    }
                    // The first rounds make views and fill caches.
                    if round >= 2 {
                        figures.0.push(started.elapsed());
                    }
                }
                // A clock tick is 10 ms, see sysconf(3): one batch says little, all of them enough.
                cpu += Duration::from_millis(10 * (ticks_of_children() - before));
                if round >= 2 {
                    *used += cpu;
                }
            }
        }
        let base = sides.first().map_or(1.0, |(_, figures, _)| figures.at(0.5));
        for (name, figures, used) in &sides {
            let (median, p99) = (figures.at(0.5), figures.at(0.99));
            let cpu = used.as_secs_f64() * 1e6 / figures.0.len() as f64;
            println!(
                "{:<32}{median:>8.0} {p99:>8.0}   {:.2} {cpu:>31.0}",
                format!("{title}: {name}"),
                median / base
            );
        }
    }

    if std::env::args().any(|argument| argument == "sequential") {
        return;
    }
    println!("\nexecutions a second, `echo hello`");
    println!("at once   bare    cell  ratio   cell+workspace  ratio");
    let threaded =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    drop(sandbox);
    let state_directory = std::env::temp_dir().join(format!("portcullis-bench-{}-2", std::process::id()));
    let process =
        portcullis_sandbox::start_launcher(&Config { cells, state_directory, ..Config::default() }).unwrap();
    let sandbox = Arc::new(threaded.block_on(Sandbox::connect(process)).unwrap());
    for at_once in [1, 2, 8, 32] {
        let count = 600;
        let mut best = [0.0_f64; 3];
        for _ in 0..3 {
            let rate = |elapsed: Duration| count as f64 / elapsed.as_secs_f64();
            let started = Instant::now();
            std::thread::scope(|scope| {
                for _ in 0..at_once {
                    scope.spawn(|| (0..count / at_once).for_each(|_| bare("/usr/bin/echo", &["hello"])));
                }
            });
            best[0] = best[0].max(rate(started.elapsed()));
            for (slot, writable) in [(1, false), (2, true)] {
                let started = Instant::now();
                threaded.block_on(async {
                    let tasks: Vec<_> = (0..at_once)
                        .map(|_| {
                            let sandbox = Arc::clone(&sandbox);
                            tokio::spawn(async move {
                                for _ in 0..count / at_once {
                                    let _ =
                                        confined(&sandbox, permit(&[("echo", &["hello"])], writable)).await;
                                }
                            })
                        })
                        .collect();
                    for task in tasks {
                        task.await.unwrap();
                    }
                });
                best[slot] = best[slot].max(rate(started.elapsed()));
            }
        }
        let [bare, cell, workspace] = best;
        println!(
            "{at_once:>7} {bare:>6.0}  {cell:>6.0}  {:>5.2}   {workspace:>14.0}  {:>5.2}",
            cell / bare,
            workspace / bare
        );
    }

    println!("\none more stage of a pipeline, microseconds (median; cell / bare)");
    let mut one = Figures(Vec::new());
    let mut two = Figures(Vec::new());
    let mut alone = Figures(Vec::new());
    for _ in 0..8 {
        for _ in 0..BATCH {
            let timed = |stages: &[(&str, &[&str])]| {
                let started = Instant::now();
                let _ = threaded.block_on(confined(&sandbox, permit(stages, false)));
                started.elapsed()
            };
            one.0.push(timed(&[("true", &[])]));
            two.0.push(timed(&[("true", &[]), ("true", &[])]));
            let started = Instant::now();
            bare("/usr/bin/true", &[]);
            alone.0.push(started.elapsed());
        }
    }
    println!("{:>8.0} / {:.0}", two.at(0.5) - one.at(0.5), alone.at(0.5));
}
