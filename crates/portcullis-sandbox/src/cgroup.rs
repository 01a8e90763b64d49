//! Placeholder until the module lands; the file is sandbox-b s to overwrite. The lead uses: Root::make, Root::version, Root::group, Group::{share, set_limits, reset, sample, is_empty_but_one, attach, descriptors}, Counters, Version.
use portcullis_core::Limits;
use std::io;
use std::time::Duration;
pub(crate) struct Group;
pub(crate) struct Root;
pub(crate) struct Counters {
    pub(crate) cpu: Duration,
    pub(crate) peak_memory_bytes: Option<u64>,
    pub(crate) oom_kills: u64,
    pub(crate) pids_refused: u64,
}
pub(crate) enum Version {
    V1,
    V2,
}
impl Root {
    pub(crate) fn make() -> Result<Self, String> {
        Err("x".into())
    }
    pub(crate) fn version(&self) -> Version {
        Version::V1
    }
    pub(crate) fn group(&mut self, _: &str, _: &Limits) -> io::Result<Group> {
        Ok(Group)
    }
}
impl Group {
    pub(crate) fn share(&self) -> io::Result<Group> {
        Ok(Group)
    }
    pub(crate) fn set_limits(&mut self, _: &Limits) -> io::Result<()> {
        Ok(())
    }
    pub(crate) fn reset(&mut self) -> io::Result<()> {
        Ok(())
    }
    pub(crate) fn sample(&self) -> io::Result<Counters> {
        Err(io::Error::other(""))
    }
    pub(crate) fn is_empty_but_one(&self) -> io::Result<bool> {
        Ok(true)
    }
    pub(crate) fn attach(&self, _: i32) -> io::Result<()> {
        Ok(())
    }
    pub(crate) fn descriptors(&self) -> Vec<i32> {
        vec![]
    }
}
