use portcullis_core::{
    AllowedProgram, Denial, DenialCode, DenialKind, Limits, Policy, Principal, Span, Submission, Verdict,
};

use crate::Rulebook;

/// Judges by a rulebook, within the service's own limits.
#[derive(Debug, Clone)]
pub struct RulebookPolicy {
    rulebook: Rulebook,
    caps: Limits,
}

impl RulebookPolicy {
    /// Returns the policy of this rulebook; no permit exceeds the caps.
    #[must_use]
    pub fn new(rulebook: Rulebook, caps: Limits) -> Self {
        Self { rulebook, caps }
    }
}

impl Policy for RulebookPolicy {
    fn judge(&self, _principal: &Principal, submission: &Submission) -> Verdict {
        let _ = (&self.rulebook, &self.caps);
        Verdict::Deny(Box::new(Denial {
            code: DenialCode::new("program/not-allowed"),
            kind: DenialKind::Forbidden,
            span: Span::new(0, submission.command.len()),
            subject: submission.command.clone(),
            rule: None,
            message: "the line is not allowed: nothing is, yet".into(),
            suggestion: None,
            further: Vec::new(),
        }))
    }

    fn allowed(&self, _principal: &Principal) -> Vec<AllowedProgram> {
        Vec::new()
    }
}
