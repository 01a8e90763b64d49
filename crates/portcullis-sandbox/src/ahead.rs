//! The init of the next execution, which a cell makes while nobody asks; see `docs/decisions/0035-an-init-that-waits.md`.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use portcullis_core::ProgramName;

use crate::cell::Cell;
use crate::init;
use crate::sys::{self, Polled, Waiting};
use crate::view::{self, Proc};
use crate::wire::{self, AtStep, StepError};

/// How long nobody has asked before a cell makes ready for what may come. Whoever asks sooner would wait for it.
const IDLE: Duration = Duration::from_micros(100);

/// What executions have in common whose init can be made beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) programs: BTreeSet<ProgramName>,
    pub(crate) writes: bool,
    pub(crate) proc: Proc,
}

/// An init that was made for an execution before it came.
#[derive(Debug)]
pub(crate) struct Ahead {
    kind: Kind,
    /// `None` when it could not be made.
    waiting: Option<Waiting>,
}

impl Cell {
    /// Whether the server's next word comes before there is time for more. Of an execution that writes, more is saved than
    /// its making costs, also where it is waited for.
    pub(crate) fn is_asked_soon(&self) -> bool {
        if self.expected.as_ref().is_some_and(|kind| kind.writes) {
            return false;
        }
        let mut entries = [Polled { fd: self.link.as_fd(), ready: false }];
        let _ = sys::poll(&mut entries, Some(IDLE));
        let [link] = entries;
        link.ready
    }

    /// Makes an init for an execution like the last one, while nobody waits for it. Where it cannot be made, the next
    /// execution makes its own, and says what failed.
    pub(crate) fn make_ahead(&mut self) {
        let Some(kind) = self.expected.take() else { return };
        let Some(stacks) =
            self.stacks.as_ref().filter(|_| self.current_view.as_ref() == Some(&kind.programs))
        else {
            return;
        };
        let (filters, part, proc) = (Rc::clone(&self.filters), init::closing_part(kind.writes), kind.proc);
        let make_ready = Box::new(move || init::make_ready(&filters, part, proc).is_ok());
        let namespaces = libc::CLONE_NEWPID | libc::CLONE_NEWIPC;
        // What it may have left when it could not be made ready, the next execution takes away.
        let start = || Waiting::start(&stacks.init, namespaces, make_ready);
        let waiting = wire::attempt("init made beforehand", start).ok();
        self.ahead = Some(Ahead { kind, waiting });
    }

    /// Returns the init that waits for this kind of execution. Another one ends, and its `/proc` is taken away.
    pub(crate) fn take_ahead(&mut self, kind: &Kind) -> Result<Option<Waiting>, StepError> {
        let Some(Ahead { kind: expected, waiting }) = self.ahead.take() else { return Ok(None) };
        if let Some(mut waiting) = waiting.filter(|_| expected == *kind)
            && waiting.lives()
        {
            return Ok(Some(waiting));
        }
        self.take_away_proc(expected.proc)?;
        Ok(None)
    }

    /// Takes away what an init that has ended had mounted for an execution that does not come.
    pub(crate) fn take_away_proc(&self, proc: Proc) -> Result<(), StepError> {
        if proc == Proc::Own && view::proc_device().ok() != self.base_proc {
            view::take_away(&[PathBuf::from("/proc")]).at("view: proc of another execution")?;
        }
        Ok(())
    }
}
