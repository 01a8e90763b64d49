//! What was tried, and what the kernel answered.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

/// Something that can be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum Tried {
    Usr,
    Devices,
    Pidfd,
    CloseRange,
    NoNewPrivileges,
    Seccomp,
    UserNamespace,
    MountNamespace,
    PidNamespace,
    NetworkNamespace,
    IpcNamespace,
    UtsNamespace,
    CgroupNamespace,
    OpenTree,
    MountSetattr,
    Tmpfs,
    Proc,
    Landlock,
    LandlockRefer,
    LandlockTruncate,
    LandlockTcp,
    LandlockIoctl,
    LandlockScopes,
    Cgroups,
    CgroupMemory,
    CgroupPids,
    CgroupCpuacct,
    CgroupCpu,
    UidRange,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It works; more about it, if there is more.
    Works(String),
    /// It does not; why.
    Fails(String),
    /// It was not tried; why.
    Untried(String),
}

/// Everything that was tried.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    answers: BTreeMap<Tried, Answer>,
    /// Why things that were not tried were not.
    otherwise: String,
}

impl Facts {
    /// Facts when nothing could be tried.
    pub(super) fn of_nothing(why: String) -> Self {
        Self { answers: BTreeMap::new(), otherwise: why }
    }

    /// Facts of a host that has everything.
    #[cfg(test)]
    pub(super) fn of_everything() -> Self {
        let tried = super::mechanisms::TABLE.iter().map(|row| row.tried);
        Self {
            answers: tried.map(|tried| (tried, Answer::Works(String::new()))).collect(),
            otherwise: String::new(),
        }
    }

    /// Notes what came of a trial; `about` says more of what works.
    pub(super) fn note(&mut self, tried: Tried, result: io::Result<()>, about: impl Into<String>) {
        let answer = match result {
            Ok(()) => Answer::Works(about.into()),
            Err(error) => Answer::Fails(error.to_string()),
        };
        self.answers.insert(tried, answer);
    }

    pub(super) fn set(&mut self, tried: Tried, answer: Answer) {
        self.answers.insert(tried, answer);
    }

    /// Takes over what another process has noted.
    pub(super) fn take_over(&mut self, other: Self) {
        self.answers.extend(other.answers);
    }

    pub(super) fn of(&self, tried: Tried) -> Answer {
        self.answers.get(&tried).cloned().unwrap_or_else(|| Answer::Untried(self.otherwise.clone()))
    }
}
