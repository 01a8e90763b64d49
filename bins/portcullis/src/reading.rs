//! The commands that ask one question and show the answer.

use std::process::ExitCode;

use http::StatusCode;
use http_body_util::BodyExt as _;
use portcullis_api::{ExecutionView, SubmitRequest};
use portcullis_core::{ExecutionId, OutputStream};
use serde_json::json;

use crate::args::{Check, List, Output};
use crate::denial;
use crate::failure::{EXIT_NO, Failure};
use crate::http::{Answer, percent_encode};
use crate::line;
use crate::printer::Printer;
use crate::service::{CallError, Service, execution_path};
use crate::show::{self, print, print_json};
use crate::terminal::{Colour, plain};

/// Shows a record.
pub(crate) async fn status(
    service: &Service,
    id: &ExecutionId,
    json: bool,
    colour: Colour,
) -> Result<ExitCode, Failure> {
    let read = service.read(id).await.map_err(|error| service.failure(error))?;
    if json {
        print_json(&read.json)?
    } else {
        print(&show::record(&read.value, colour))?
    }
    Ok(ExitCode::SUCCESS)
}

/// Cancels, and shows what became of it. That it had ended before is an answer too, with exit code 1.
pub(crate) async fn cancel(
    service: &Service,
    id: &ExecutionId,
    json: bool,
    colour: Colour,
) -> Result<ExitCode, Failure> {
    let answered = match service.cancel(id).await {
        Ok(read) => read.json,
        Err(CallError::Problem { problem, .. }) if problem.status == StatusCode::CONFLICT.as_u16() => {
            match &problem.execution {
                Some(record) if json => print_json(&json!(record))?,
                Some(record) => {
                    print(&format!("{id} had ended already: {}\n", record.status.as_str()))?;
                }
                None => return Err(service.failure(CallError::Problem { problem, retry_after: None })),
            }
            return Ok(ExitCode::from(EXIT_NO));
        }
        Err(error) => return Err(service.failure(error)),
    };
    if json {
        print_json(&answered)?;
    } else {
        let status = answered.get("status").and_then(|status| status.as_str()).unwrap_or("cancelled");
        print(&format!("{id} {}\n", colour.paint("33", &plain(status))))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Lists executions.
pub(crate) async fn list(
    service: &Service,
    args: &List,
    json: bool,
    colour: Colour,
) -> Result<ExitCode, Failure> {
    let mut query = format!("?limit={}", args.limit);
    let status = args.status.map(|status| status.as_str().to_owned());
    for (name, value) in [
        ("status", &status),
        ("program", &args.program),
        ("acceptedFrom", &args.since),
        ("acceptedBefore", &args.before),
        ("cursor", &args.cursor),
    ] {
        if let Some(value) = value {
            query.push_str(&format!("&{name}={}", percent_encode(value)));
        }
    }
    let read = service.list(&query).await.map_err(|error| service.failure(error))?;
    if json {
        print_json(&read.json)?;
    } else {
        print(&show::list(&read.value.executions, read.value.next.as_deref(), colour))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints stored output as it comes, however much it is.
pub(crate) async fn output(service: &Service, args: &Output, json: bool) -> Result<ExitCode, Failure> {
    if json {
        let ExecutionView { execution_id, status, output, stdout, stderr, output_omitted_bytes, .. } =
            service.read(&args.id).await.map_err(|error| service.failure(error))?.value;
        print_json(&json!({
            "executionId": execution_id, "status": status, "output": output, "stdout": stdout, "stderr": stderr,
            "outputOmittedBytes": output_omitted_bytes,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let query = args.stream.as_ref().map(|stream| format!("?stream={stream}")).unwrap_or_default();
    let client = service.client();
    let fail = |error: CallError| service.failure(error);
    let path = execution_path(&args.id, &format!("/output{query}"));
    let response = client.open(&path, &[]).await.map_err(|error| fail(error.into()))?;
    let (head, mut body) = response.into_parts();
    if !head.status.is_success() {
        let body = client.collect(body).await.map_err(|error| fail(error.into()))?;
        return Err(fail(service.problem(&Answer { status: head.status, headers: head.headers, body })));
    }
    let mut printer = Printer::to_standard_streams();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| fail(client.lost(&error).into()))?;
        let Ok(data) = frame.into_data() else { continue };
        if let Err(error) = printer.print(OutputStream::Stdout, &data).await {
            if error.kind() == std::io::ErrorKind::BrokenPipe {
                return Ok(ExitCode::SUCCESS);
            }
            return Err(Failure::new(format!("the output cannot be written: {error}")));
        }
    }
    printer.finish().await.ok();
    Ok(ExitCode::SUCCESS)
}

/// Says whether a line would be allowed.
pub(crate) async fn check(service: &Service, args: Check, json: bool) -> Result<ExitCode, Failure> {
    let line = line::of(args.line, args.words)?;
    let read = service.validate(&SubmitRequest::of(&line)).await.map_err(|error| service.failure(error))?;
    let judgement = read.value;
    if json {
        print_json(&read.json)?;
    } else if judgement.valid {
        print(&show::allowed_by(&judgement.rules, &judgement.added))?;
    } else if let Some(view) = &judgement.denial {
        print(&denial::draw_view(&line, view))?;
    } else {
        print(&format!("{}\n", plain(&judgement.message)))?;
    }
    Ok(if judgement.valid { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NO) })
}

/// Lists what the caller may run.
pub(crate) async fn allowed(service: &Service, json: bool) -> Result<ExitCode, Failure> {
    let read = service.allowed().await.map_err(|error| service.failure(error))?;
    if json {
        print_json(&read.json)?
    } else {
        print(&show::allowed(&read.value))?
    }
    Ok(ExitCode::SUCCESS)
}
