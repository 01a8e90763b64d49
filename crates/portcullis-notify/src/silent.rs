use async_trait::async_trait;
use portcullis_core::{Notifier, NotifyError, Update};

/// Tells nobody, and has nothing left to deliver: for a service without a listener.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Silent;

#[async_trait]
impl Notifier for Silent {
    fn announce(&self, _update: Update) {}

    async fn conclude(&self, _update: Update) -> Result<(), NotifyError> {
        Ok(())
    }

    fn wants_updates(&self) -> bool {
        false
    }
}
