//! Runs one program under confinement and prints how it ended.
//!
//! `cargo run -p portcullis-sandbox --example confined -- [--write] [--level LEVEL] [--times N] PROGRAM [ARGUMENT …]`
//!
//! A permit comes from a policy; this example makes one by hand, to show what it holds.

use std::io::Write;
use std::sync::Arc;

use portcullis_core::{
    Command, Confinement, Connector, ExecutionObserver, Flow, Launcher, Level, Limits, Network, OutputStream,
    Permit, Pipeline, Plan, ProgramName, Rights, Script, SimpleCommand, Span, Step, StopReason, ViewPath,
    Word,
};

struct Terminal;

#[async_trait::async_trait]
impl ExecutionObserver for Terminal {
    async fn starting(&self, confinement: &Confinement) -> Flow {
        eprintln!("confinement: {}", confinement.level.as_str());
        for weaker in &confinement.weaker {
            eprintln!("  weaker: {weaker}");
        }
        Flow::Continue
    }

    async fn output(&self, stream: OutputStream, bytes: Vec<u8>) -> Flow {
        let written = match stream {
            OutputStream::Stdout => std::io::stdout().write_all(&bytes),
            OutputStream::Stderr => std::io::stderr().write_all(&bytes),
        };
        if written.is_ok() { Flow::Continue } else { Flow::Stop }
    }

    async fn stop_requested(&self) -> StopReason {
        std::future::pending().await
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    portcullis_sandbox::enter_if_launcher();
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut config = portcullis_sandbox::Config { cells: 1, ..Default::default() };
    let mut write = false;
    let mut times = 1;
    while let Some(option) = arguments.first().filter(|argument| argument.starts_with("--")).cloned() {
        arguments.remove(0);
        match option.as_str() {
            "--write" => write = true,
            "--level" => config.floor = Level::parse(&arguments.remove(0)),
            "--times" => times = arguments.remove(0).parse()?,
            other => return Err(format!("unknown option `{other}`").into()),
        }
    }
    let mut words = arguments.into_iter();
    let program = words.next().as_deref().and_then(ProgramName::parse).ok_or("name a program")?;
    let nowhere = Span::new(0, 0);
    let workspace = ViewPath::parse("/workspace").ok_or("a path")?;
    let writable = if write { vec![workspace.clone()] } else { Vec::new() };
    let command = SimpleCommand {
        program,
        arguments: words.map(|word| Word::literal(word, nowhere)).collect(),
        assignments: Vec::new(),
        redirections: Vec::new(),
        rights: Rights {
            read: vec![ViewPath::root()],
            write: writable.clone(),
            delete: writable,
            execute: Vec::new(),
            network: Network::None,
        },
        span: nowhere,
    };
    let pipeline = Pipeline { commands: vec![Command::Simple(Box::new(command))] };
    let permit = Permit::grant(Plan {
        script: Script { steps: vec![Step { connector: Connector::Always, pipeline }] },
        working_directory: workspace.clone(),
        workspace,
        environment: Vec::new(),
        stdin: None,
        limits: Limits::default(),
        protected: Vec::new(),
    });
    // The launcher is started while there is one thread; only then comes the runtime.
    let process = portcullis_sandbox::start_launcher(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let sandbox = portcullis_sandbox::Sandbox::connect(process).await?;
        for _ in 0..times {
            let outcome = sandbox.launch(permit.clone(), Arc::new(Terminal)).await?;
            eprintln!("{outcome:?}");
        }
        Ok(())
    })
}
