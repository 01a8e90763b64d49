//! Giving up root, for the process that faces the network.
//!
//! The launcher is started before, and stays what it was; everything else of the service needs no privilege. What is
//! done here cannot be undone by the process, whoever gets hold of it.

use std::io;

use crate::sys;

/// A user of the host without privilege.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name, where it has one.
    pub name: Option<String>,
    /// Its uid.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "`{name}`, ")?;
        }
        write!(f, "uid {}, gid {}", self.uid, self.gid)
    }
}

/// Why a process did not give its privilege up. What it had given up by then is gone.
#[derive(Debug, thiserror::Error)]
#[error("could not give up privilege: step `{step}` failed")]
pub struct GiveUpError {
    /// The step.
    pub step: &'static str,
    /// What the kernel answered.
    pub source: io::Error,
}

/// Returns the effective uid of this process.
#[must_use]
pub fn current_uid() -> u32 {
    sys::effective_uid()
}

/// Says why this process cannot become another user; `None` when it can.
#[must_use]
pub fn obstacle(account: &Account) -> Option<String> {
    /// `CAP_SETGID` and `CAP_SETUID`. See capabilities(7).
    const NEEDED: u64 = 1 << 6 | 1 << 7;
    if sys::permitted_capabilities().unwrap_or(0) & NEEDED != NEEDED {
        return Some("the process has neither or only one of CAP_SETUID and CAP_SETGID".into());
    }
    for (map, id) in [("uid_map", account.uid), ("gid_map", account.gid)] {
        if !is_mapped(map, u64::from(id), 1) {
            return Some(format!("the user namespace that the service is in has no {id} in its {map}"));
        }
    }
    None
}

/// Whether ids are known in our user namespace; `map` is `uid_map` or `gid_map`. See user_namespaces(7).
pub(crate) fn is_mapped(map: &str, first: u64, count: u64) -> bool {
    let text = std::fs::read_to_string(format!("/proc/self/{map}")).unwrap_or_default();
    text.lines().any(|line| {
        let mut fields = line.split_whitespace().filter_map(|field| field.parse::<u64>().ok());
        let (Some(inside), Some(_), Some(length)) = (fields.next(), fields.next(), fields.next()) else {
            return false;
        };
        inside <= first && first.saturating_add(count) <= inside.saturating_add(length)
    })
}

/// Gives up every privilege for good: becomes the account, if one is given; in any case keeps no capability, gains none
/// by `exec`, and is undumpable, so that no other process of the same user traces it or reads its memory. Call it
/// while the process has one thread: an identity belongs to each thread for itself.
///
/// # Errors
/// When the kernel refuses a step, or there is more than one thread. The caller ends then.
pub fn give_up_privilege(account: Option<&Account>) -> Result<(), GiveUpError> {
    let at = |step| move |source| GiveUpError { step, source };
    let threads = std::fs::read_dir("/proc/self/task").map_err(at("count the threads"))?.count();
    if threads != 1 {
        return Err(at("count the threads")(io::Error::other(format!("there are {threads}, not one"))));
    }
    // The bounding set goes first, since that takes a capability; without it there is no set to be feared either.
    for capability in 0..64 {
        if !sys::drop_bounding_capability(capability).unwrap_or(false) {
            break;
        }
    }
    if let Some(account) = account {
        // setgroups(2) and setgid(2) come before setuid(2), which gives up the privilege that they need.
        sys::clear_groups().map_err(at("supplementary groups"))?;
        sys::set_gid(account.gid).map_err(at("gid"))?;
        sys::set_uid(account.uid).map_err(at("uid"))?;
    }
    sys::keep_capabilities(0).map_err(at("capabilities"))?;
    sys::set_no_new_privileges().map_err(at("no_new_privs"))?;
    sys::set_dumpable(false).map_err(at("undumpable"))?;
    if account.is_some_and(|account| sys::effective_uid() != account.uid || sys::real_uid() != account.uid) {
        return Err(at("look at the identity")(io::Error::from_raw_os_error(libc::EPERM)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_named_as_an_operator_would() {
        let mut account = Account { name: None, uid: 5, gid: 6 };
        assert_eq!(account.to_string(), "uid 5, gid 6");
        account.name = Some("portcullis".into());
        assert_eq!(account.to_string(), "`portcullis`, uid 5, gid 6");
    }

    #[test]
    fn the_own_id_is_mapped_and_the_invalid_one_is_not() {
        assert!(is_mapped("uid_map", sys::real_uid().into(), 1));
        assert!(!is_mapped("uid_map", u64::from(u32::MAX), 1));
    }

    #[test]
    fn with_other_threads_nothing_is_given_up() {
        // The harness of these tests has several.
        let error = give_up_privilege(None).unwrap_err();
        assert_eq!(error.step, "count the threads");
    }
}
