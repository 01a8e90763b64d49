//! A panic in a part must not leave a record open: it is caught where the part is called.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;

use portcullis_core::StoreError;

/// A panic that was caught, with its text.
#[derive(Debug, thiserror::Error)]
#[error("internal failure: {0}")]
pub struct Panicked(String);

impl Panicked {
    /// Takes the text out of what a panic left.
    pub(crate) fn of(payload: &(dyn Any + Send)) -> Self {
        Self(text(payload))
    }
}

/// Runs a future to its end or its panic. After a panic the future is dropped, with all it held.
pub(crate) async fn catching<T>(
    mut work: Pin<Box<dyn Future<Output = T> + Send + '_>>,
) -> Result<T, Panicked> {
    // Nothing of a future that panicked is looked at again, so broken invariants stay inside it.
    poll_fn(move |context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(payload) => std::task::Poll::Ready(Err(Panicked::of(payload.as_ref()))),
    })
    .await
}

/// The same for a call of the store: a store that panicked counts as one that failed.
pub(crate) async fn catching_store<T>(
    operation: &'static str,
    call: Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + '_>>,
) -> Result<T, StoreError> {
    match catching(call).await {
        Ok(answer) => answer,
        Err(panicked) => Err(StoreError::Unavailable { operation, source: Box::new(panicked) }),
    }
}

fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().map(str::to_owned);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "unknown".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn panic_becomes_an_error_with_its_text() {
        assert_eq!(catching(Box::pin(async { 1 })).await.unwrap(), 1);
        let caught = catching::<()>(Box::pin(async {
            tokio::task::yield_now().await;
            panic!("cell {}", 7)
        }));
        assert_eq!(caught.await.unwrap_err().to_string(), "internal failure: cell 7");
    }
}
