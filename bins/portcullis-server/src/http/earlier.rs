//! Endpoints for callers that were written for another service: one that runs and waits, and the earlier service's three.

use http::header::{LOCATION, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use portcullis_api::{EarlierSubmitted, EarlierView, ExecuteRequest, ExecuteResponse};
use portcullis_core::{ExecutionId, Submission};
use portcullis_engine::{Cancelled, Submitted};

use super::body::{Body, RequestBody};
use super::endpoints::{Call, POLL_AGAIN, json};
use super::failure::Failure;

impl Call<'_> {
    /// Runs a command line and answers with what came of it.
    pub(super) async fn execute(&mut self, body: RequestBody) -> Result<Response<Body>, Failure> {
        self.parameters::<0>([])?;
        let ExecuteRequest { submit, ignored } = ExecuteRequest::read(&self.json_body(body).await?)?;
        let (id, submission) = submit.into_submission();
        let id = self.accepted(id, submission).await?;
        let (execution, output) = self.wait(&id, self.service.config.execute_wait).await?;
        let mut response = if execution.status.is_terminal() {
            let written = |record| json(StatusCode::OK, &ExecuteResponse::of(record, ignored));
            self.shown(&execution, output, written).await?
        } else {
            let mut response = self.record(&execution, output).await?;
            *response.status_mut() = StatusCode::ACCEPTED;
            response.headers_mut().insert(RETRY_AFTER, POLL_AGAIN);
            response
        };
        locate(&mut response, &format!("/api/commands/{id}"));
        Ok(response)
    }

    /// Submits a command line as the earlier service took it, which made every id itself.
    pub(super) async fn earlier_submit(&self, body: RequestBody) -> Result<Response<Body>, Failure> {
        self.parameters::<0>([])?;
        let (_, submission) = ExecuteRequest::read(&self.json_body(body).await?)?.submit.into_submission();
        let id = self.accepted(None, submission).await?;
        let mut response = json(StatusCode::CREATED, &EarlierSubmitted::of(id.clone()));
        locate(&mut response, &format!("/api/execution/{id}"));
        Ok(response)
    }

    pub(super) async fn earlier_read(&self) -> Result<Response<Body>, Failure> {
        self.parameters::<0>([])?;
        let execution = self.service.engine.read(&self.principal, &self.id()?).await?;
        self.shown(&execution, None, |record| json(StatusCode::OK, &EarlierView::from(record))).await
    }

    pub(super) async fn earlier_cancel(&self) -> Result<Response<Body>, Failure> {
        self.parameters::<0>([])?;
        match self.cancelled().await? {
            Cancelled::Cancelled(execution) => {
                self.shown(&execution, None, |record| json(StatusCode::OK, &EarlierView::from(record))).await
            }
            Cancelled::AlreadyEnded(execution) => Err(Failure::AlreadyEnded(execution)),
        }
    }

    /// Submits a command line and returns its execution's id.
    async fn accepted(
        &self,
        id: Option<ExecutionId>,
        submission: Submission,
    ) -> Result<ExecutionId, Failure> {
        Ok(match self.service.engine.submit(&self.principal, id, self.submission(submission)).await? {
            Submitted::New(execution) | Submitted::Same(execution) => execution.id,
        })
    }
}

fn locate(response: &mut Response<Body>, path: &str) {
    response.headers_mut().extend(HeaderValue::from_str(path).ok().map(|path| (LOCATION, path)));
}
