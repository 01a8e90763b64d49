//! Tells who started the service how it is: systemd's notification protocol. See sd_notify(3).
//!
//! A service manager that wants to be told gives an address in `NOTIFY_SOCKET`. What is told is one datagram
//! of lines `NAME=value`; a manager that does not listen costs nothing but that.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::health::Health;

/// Who watches over the service, if anybody does.
#[derive(Debug, Default)]
pub struct Supervisor {
    socket: Option<UnixDatagram>,
    /// How long it waits for a sign of life.
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// Finds it by the environment: `NOTIFY_SOCKET` (a path, or `@` and an abstract name), `WATCHDOG_USEC` and
    /// `WATCHDOG_PID`.
    ///
    /// # Errors
    /// When there is an address and it cannot be used: who is waited for in vain would end the service.
    pub fn find(environment: &BTreeMap<OsString, OsString>) -> io::Result<Self> {
        let get = |name: &str| environment.get(OsStr::new(name)).filter(|value| !value.is_empty());
        let Some(address) = get("NOTIFY_SOCKET") else { return Ok(Self::default()) };
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            _ => return Err(io::Error::other("it is neither an absolute path nor an abstract name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        // A manager that does not read must not stop the service.
        socket.set_nonblocking(true)?;
        let number = |name: &str| get(name).and_then(|value| value.to_str()?.parse::<u64>().ok());
        let ours = get("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(std::process::id().into());
        let watchdog = number("WATCHDOG_USEC").filter(|&time| ours && time > 0).map(Duration::from_micros);
        Ok(Self { socket: Some(socket), watchdog })
    }

    /// Tells that requests are answered from now on, and one line about the service.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={}", status.replace('\n', " ")));
    }

    /// Tells that the rules are being read again.
    pub fn reloading(&self) {
        self.tell("RELOADING=1\nSTATUS=reading the rulebook again");
    }

    /// Tells that this is over, and what came of it.
    pub fn reloaded(&self, status: &str) {
        self.ready(status);
    }

    /// Tells that the service is ending.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=letting what runs end");
    }

    /// Gives a sign of life twice in the time that the manager waits for one, for as long as the service is alive.
    /// Never returns.
    pub async fn keep_alive(&self, health: &Health) {
        let Some(time) = self.watchdog else { return std::future::pending().await };
        let mut ticks = tokio::time::interval(time / 2);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if health.is_alive().await {
                self.tell("WATCHDOG=1");
            } else {
                tracing::error!(
                    "no sign of life for the service manager: the store or the launcher does not answer"
                );
            }
        }
    }

    fn tell(&self, lines: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(lines.as_bytes())
        {
            tracing::warn!(%error, "could not tell the service manager");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(variables: &[(&str, &str)]) -> io::Result<Supervisor> {
        Supervisor::find(&variables.iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    fn next(listener: &UnixDatagram) -> String {
        listener.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut bytes = [0; 256];
        let length = listener.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_manager_is_told_at_a_path_and_at_an_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let abstract_name = format!("portcullis-test-{}", std::process::id());
        let at_name = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        for (listener, address) in [
            (UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap().to_owned()),
            (UnixDatagram::bind_addr(&at_name).unwrap(), format!("@{abstract_name}")),
        ] {
            let supervisor = find(&[("NOTIFY_SOCKET", &address)]).unwrap();
            supervisor.ready("two\nlines");
            supervisor.stopping();
            assert_eq!(next(&listener), "READY=1\nSTATUS=two lines");
            assert!(next(&listener).starts_with("STOPPING=1\n"));
        }
    }

    #[test]
    fn without_a_manager_nothing_is_told_and_a_wrong_address_is_an_error() {
        assert!(find(&[]).unwrap().socket.is_none());
        assert!(find(&[("NOTIFY_SOCKET", "")]).unwrap().socket.is_none());
        for address in ["vsock:2:1", "relative", "/nowhere/at/all"] {
            assert!(find(&[("NOTIFY_SOCKET", address)]).is_err(), "{address}");
        }
    }

    #[test]
    fn a_watchdog_counts_only_when_it_is_for_this_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let _listener = UnixDatagram::bind(&path).unwrap();
        let own = std::process::id().to_string();
        let watchdog = |time: &str, pid: Option<&str>| {
            let mut variables = vec![("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", time)];
            variables.extend(pid.map(|pid| ("WATCHDOG_PID", pid)));
            find(&variables).unwrap().watchdog
        };
        assert_eq!(watchdog("3000000", Some(&own)), Some(Duration::from_secs(3)));
        assert_eq!(watchdog("3000000", None), Some(Duration::from_secs(3)));
        assert_eq!(watchdog("3000000", Some("1")), None);
        assert_eq!(watchdog("0", None), None);
        assert_eq!(watchdog("soon", None), None);
    }
}
