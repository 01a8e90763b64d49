//! `run` and `watch`: an execution's output becomes ours, and its end our exit code.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portcullis_api::{ExecutionView, Problem, SubmitRequest};
use portcullis_core::ExecutionId;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::args::Run;
use crate::denial;
use crate::ending;
use crate::failure::Failure;
use crate::follow::{Followed, Follower};
use crate::line;
use crate::printer::{Printer, Voice};
use crate::progress::Progress;
use crate::service::{CallError, Read, Service};
use crate::show::print_json;
use crate::terminal::Colour;

/// Left by Ctrl-C: 128 + SIGINT.
const EXIT_INTERRUPTED: i32 = 130;
/// Nobody reads our output any more: 128 + SIGPIPE.
const EXIT_BROKEN_PIPE: u8 = 141;
/// How often a submission is sent again whose answer was lost. It has its id from here, so that it runs once at most.
const SUBMISSIONS: usize = 4;
/// How long a service that cannot take a submission now is asked again, as it says when.
const BUSY_PATIENCE: Duration = Duration::from_secs(30);
/// The most that is read from our standard input; a service's own limit may be below.
const STDIN_LIMIT_BYTES: u64 = 16 << 20;

/// Runs a command line and returns its exit code.
pub(crate) async fn run(
    service: &Service,
    args: Run,
    json: bool,
    colour: Colour,
) -> Result<ExitCode, Failure> {
    let voice = Voice::new(colour, args.quiet || json);
    let words = args.words.len();
    let request = SubmitRequest {
        command: line::of(args.line, args.words)?,
        // Chosen here, so that a submission whose answer is lost can be sent again and runs once.
        execution_id: Some(args.id.unwrap_or_else(ExecutionId::generate)),
        timeout: args.timeout,
        stdin: if args.stdin { Some(read_stdin()?) } else { None },
        env: args.env.into_iter().collect::<BTreeMap<_, _>>(),
        working_directory: args.workdir,
    };
    let submission = Arc::new(Submission::default());
    if !args.detach {
        cancel_when_interrupted(service, &request, Arc::clone(&submission), voice.clone())?;
    }
    let id = match submit(service, &request, &submission, &voice).await {
        Ok(accepted) => accepted.value.execution_id,
        Err(CallError::Problem { problem, .. }) if problem.denial.is_some() => {
            return Err(refusal(&request.command, &problem, words));
        }
        Err(error) => return Err(service.failure(error)),
    };
    submission.accepted.notify_one();
    if args.detach {
        println!("{id}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut printer = (!json).then(Printer::to_standard_streams);
    match follow(service, &id, printer.as_mut(), &voice).await? {
        Seen::End(record) => conclude(service, &record, json, &voice).await,
        Seen::NobodyReads => {
            // As a local command would end by SIGPIPE. What it did so far stays recorded.
            service.cancel(&id).await.map_err(|error| service.failure(error)).ok();
            Ok(ExitCode::from(EXIT_BROKEN_PIPE))
        }
    }
}

/// Follows an execution that runs already, and returns its exit code.
pub(crate) async fn watch(
    service: &Service,
    id: &ExecutionId,
    json: bool,
    colour: Colour,
) -> Result<ExitCode, Failure> {
    let voice = Voice::new(colour, json);
    let mut printer = (!json).then(Printer::to_standard_streams);
    match follow(service, id, printer.as_mut(), &voice).await? {
        Seen::End(record) => conclude(service, &record, json, &voice).await,
        Seen::NobodyReads => Ok(ExitCode::from(EXIT_BROKEN_PIPE)),
    }
}

/// Where a submission is, for who interrupts it.
#[derive(Default)]
struct Submission {
    /// Told when the service has it.
    accepted: Notify,
    /// The service has refused it for now, and nothing is under way.
    waiting: AtomicBool,
}

/// Submits; again when the answer is lost on the way, and when a busy service says that it is worth it.
async fn submit(
    service: &Service,
    request: &SubmitRequest,
    submission: &Submission,
    voice: &Voice,
) -> Result<Read<portcullis_api::SubmitResponse>, CallError> {
    let deadline = Instant::now() + BUSY_PATIENCE;
    let mut tries = 1;
    loop {
        match service.submit(request).await {
            Err(CallError::Http(error)) if error.may_have_arrived() && tries < SUBMISSIONS => tries += 1,
            Err(error) => {
                let again = error.again_after().map(|pause| Instant::now() + pause);
                let Some(again) = again.filter(|again| *again <= deadline) else { return Err(error) };
                let pause = again.duration_since(Instant::now()).as_secs_f64().ceil();
                voice.say(&format!("{error}; trying again in {pause} s"));
                submission.waiting.store(true, Ordering::SeqCst);
                tokio::time::sleep_until(again).await;
                submission.waiting.store(false, Ordering::SeqCst);
            }
            accepted => return accepted,
        }
    }
}

/// Cancels the execution at the first SIGINT or SIGTERM, and leaves at the second, whatever goes on.
fn cancel_when_interrupted(
    service: &Service,
    request: &SubmitRequest,
    submission: Arc<Submission>,
    voice: Voice,
) -> Result<(), Failure> {
    let Some(id) = request.execution_id.clone() else { return Ok(()) };
    let listen =
        |kind| signal(kind).map_err(|error| Failure::new(format!("signals cannot be watched: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let service = service.clone();
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        if submission.waiting.load(Ordering::SeqCst) {
            std::process::exit(EXIT_INTERRUPTED);
        }
        voice.say("cancelling; Ctrl-C again leaves at once");
        tokio::spawn(async move {
            // Before it is accepted there is nothing to cancel; when it is refused, nothing is left to do.
            submission.accepted.notified().await;
            match service.cancel(&id).await {
                // It ended by itself in the meantime; its own end is coming.
                Err(error) if error.status() == Some(http::StatusCode::CONFLICT) => {}
                Err(error) => voice.say(&format!("could not cancel: {}", service.failure(error).message())),
                Ok(_) => {}
            }
        });
        either(&mut interrupt, &mut terminate).await;
        std::process::exit(EXIT_INTERRUPTED);
    });
    Ok(())
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

enum Seen {
    End(Box<ExecutionView>),
    NobodyReads,
}

/// Prints the output of an execution until it ends, or until nobody reads it.
async fn follow(
    service: &Service,
    id: &ExecutionId,
    printer: Option<&mut Printer>,
    voice: &Voice,
) -> Result<Seen, Failure> {
    let seen = follow_to_the_end(service, id, printer, voice).await;
    if seen.is_err() {
        voice.end_line();
    }
    seen
}

async fn follow_to_the_end(
    service: &Service,
    id: &ExecutionId,
    mut printer: Option<&mut Printer>,
    voice: &Voice,
) -> Result<Seen, Failure> {
    let mut follower = Follower::new(service, id);
    let mut progress = Progress::new(voice.clone());
    loop {
        let followed = tokio::select! {
            followed = follower.next() => followed,
            () = progress.tick() => continue,
        };
        voice.erase_progress();
        let printed = match followed? {
            Followed::Output(stream, bytes) => {
                progress.saw_output(&bytes);
                match &mut printer {
                    Some(printer) => {
                        voice.saw_output(stream, &bytes);
                        printer.print(stream, &bytes).await
                    }
                    None => Ok(()),
                }
            }
            Followed::End(record) => {
                if let Some(printer) = printer {
                    printer.finish().await.ok();
                }
                return Ok(Seen::End(record));
            }
            Followed::Reconnecting(why) => {
                voice.say(&format!("{why}; the execution goes on, connecting again"));
                Ok(())
            }
            Followed::Reconnected => {
                voice.say("connected again");
                Ok(())
            }
            Followed::Status(record) => {
                progress.saw_status(&record);
                Ok(())
            }
        };
        match printed {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Seen::NobodyReads),
            Err(error) => return Err(Failure::new(format!("the output cannot be written: {error}"))),
        }
    }
}

/// Says how it ended, as far as the exit code does not.
async fn conclude(
    service: &Service,
    record: &ExecutionView,
    json: bool,
    voice: &Voice,
) -> Result<ExitCode, Failure> {
    if json {
        // The event carries no output; the record does.
        let whole = service.read(&record.execution_id).await.map_err(|error| service.failure(error))?;
        print_json(&whole.json)?;
    } else if let Some(remark) = ending::remark(record) {
        voice.say(&remark);
    }
    Ok(ExitCode::from(record.shell_code()))
}

/// Shows why a line was refused.
fn refusal(line: &str, problem: &Problem, words: usize) -> Failure {
    let picture = problem.denial.as_ref().map(|view| denial::draw_view(line, view)).unwrap_or_default();
    let picture = picture.trim_end();
    let failure = Failure::new(picture.strip_prefix("denied: ").unwrap_or(picture));
    if words == 1 && line.contains([' ', '|', ';', '&']) {
        return failure.hint("after `--` each argument is one word; leave the `--` out to run a whole line");
    }
    failure
}

fn read_stdin() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    io::stdin()
        .take(STDIN_LIMIT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(format!("standard input cannot be read: {error}")))?;
    if bytes.len() as u64 > STDIN_LIMIT_BYTES {
        return Err(Failure::new(format!("standard input has more than {STDIN_LIMIT_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(format!("standard input is not UTF-8 at byte {at}"))
            .hint("the service takes text as input; encode it, for example with `base64`")
    })
}
