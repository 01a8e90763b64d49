//! Parts in memory that a test drives, and the journal in which they write what was asked of them.

mod launcher;
mod listener;
mod service;
mod store;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis_core::*;

pub(super) use launcher::{Act, Cell, FakeLauncher};
pub(super) use listener::Listener;
pub(super) use service::{Service, at_once, eventually, story};
pub(super) use store::{Cut, FaultyStore};

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn id(text: &str) -> ExecutionId {
    ExecutionId::parse(text).unwrap()
}

pub(super) fn principal(name: &str) -> Principal {
    Principal { id: format!("id-{name}"), name: name.into(), ..Principal::local() }
}

pub(super) fn ann() -> Principal {
    principal("ann")
}

pub(super) fn confinement() -> Confinement {
    Confinement { level: Level::Full, landlock_abi: Some(7), cgroup: None, weaker: vec![] }
}

pub(super) fn unavailable<T>(operation: &'static str) -> Result<T, StoreError> {
    Err(StoreError::Unavailable { operation, source: "the disk is full".into() })
}

/// What the parts were asked, in order: `claim x`, `run x`, `conclude x completed`.
#[derive(Clone, Default)]
pub(super) struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    pub(super) fn write(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(super) fn count(&self, line: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|l| *l == line).count()
    }

    pub(super) fn position(&self, line: &str) -> Option<usize> {
        self.0.lock().unwrap().iter().position(|l| l == line)
    }
}

/// Permits every line but those of `rm`, and makes a mistake at `mistake`.
pub(super) struct AllButRm;

impl Policy for AllButRm {
    fn judge(&self, _: &Principal, submission: &Submission) -> Verdict {
        let program = submission.command.split(' ').next().and_then(ProgramName::parse).unwrap();
        assert!(program.as_str() != "mistake", "as the test wanted");
        if program.as_str() == "rm" {
            return Verdict::Deny(Box::new(Denial {
                code: DenialCode::new("program/not-allowed"),
                kind: DenialKind::Forbidden,
                span: Span::new(0, 2),
                subject: "rm".into(),
                rule: None,
                message: "`rm` is not allowed".into(),
                suggestion: None,
                effects: Vec::new(),
                further: vec![],
            }));
        }
        let workspace = ViewPath::parse("/workspace").unwrap();
        let plan = Plan {
            script: Script { steps: vec![] },
            working_directory: workspace.clone(),
            workspace,
            environment: vec![("LINE".into(), submission.command.clone())],
            stdin: None,
            limits: Limits::default(),
            protected: vec![],
        };
        let grant = Grant { rules: vec!["all".into()], programs: vec![program], added: Vec::new() };
        Verdict::Permit(Box::new(Permit::grant(plan)), grant)
    }

    fn allowed(&self, _: &Principal) -> Vec<AllowedProgram> {
        vec![]
    }
}
