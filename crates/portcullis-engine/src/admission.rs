//! Whether what is being prepared was accepted.

use tokio::sync::watch;

/// An execution that starts at once is prepared while the store is still asked to accept it. This is what its runner
/// holds of that question.
#[derive(Clone)]
pub(crate) struct Admission(Option<watch::Receiver<bool>>);

/// Who says that it was accepted. Dropped before, it says that it was not.
pub(crate) struct Admit(watch::Sender<bool>);

impl Admission {
    /// That of what the store has accepted before.
    pub(crate) fn given() -> Self {
        Self(None)
    }

    pub(crate) fn asked() -> (Admit, Self) {
        let (admit, admission) = watch::channel(false);
        (Admit(admit), Self(Some(admission)))
    }

    /// Resolves when it is known whether it was accepted.
    pub(crate) async fn is_given(&self) -> bool {
        match &self.0 {
            None => true,
            Some(admission) => admission.clone().wait_for(|given| *given).await.is_ok(),
        }
    }
}

impl Admit {
    pub(crate) fn give(self) {
        self.0.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_nobody_admits_is_not_admitted() {
        assert!(Admission::given().is_given().await);
        let (admit, admission) = Admission::asked();
        drop(admit);
        assert!(!admission.is_given().await);
        let (admit, admission) = Admission::asked();
        let asked_twice = admission.clone();
        admit.give();
        assert!(admission.is_given().await && asked_twice.is_given().await);
    }
}
