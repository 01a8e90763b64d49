//! The network, and sockets of the host (lines 39 to 42 of the threats).

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use crate::harness::{Line, check, check_everywhere, reading, writing};
use crate::host::workshop;

/// Line 39.
#[test]
fn no_family_of_sockets_but_the_local_one_by_any_command_of_a_line() {
    for family in [2, 10, 16, 17, 38, 40] {
        let calls = format!("call socket {family} 1 0 , socket {family} 2 0 , socket {family} 3 0");
        check_everywhere(&calls, writing, &["socket ! EAFNOSUPPORT"; 3]);
    }
    check_everywhere(
        "call socketpair 1 1 0 b:8 , socketpair 2 1 0 b:8",
        reading,
        &["socketpair = 0", "socketpair ! EAFNOSUPPORT"],
    );
}

/// Line 40.
#[test]
fn a_port_of_the_host_is_out_of_reach() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // AF_INET, the port and 127.0.0.1, as bytes in this order.
    let address = 0x0100_007f_0000_0002_u64 | u64::from(port.swap_bytes()) << 16;
    // bash is the program that opens sockets by a path; so no socket is there to connect with.
    check(
        Line::calls(&format!(
            "socket 2 1 0 , connect 3 w:{address:#x}/0 16 , openat -100 s:/dev/tcp/127.0.0.1/{port} 2"
        )),
        &["socket ! EAFNOSUPPORT", "connect ! EBADF", "openat ! ENOENT"],
    );
    check(Line::of("cat /proc/net/dev"), &[]);
}

/// Line 41.
#[test]
fn an_abstract_socket_of_the_host_is_out_of_reach() {
    let name = format!("portcullis-host-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    check_everywhere(&format!("connect abstract {name}"), reading, &["connect ! ECONNREFUSED"]);
    // The control: from outside it answers.
    assert!(std::os::unix::net::UnixStream::connect_addr(&address).is_ok());
}

/// Line 41.
#[test]
fn a_socket_of_the_host_is_absent_under_its_path() {
    let at = workshop().join("host.socket");
    let _listener = UnixListener::bind(&at).unwrap();
    std::fs::set_permissions(&at, std::fs::Permissions::from_mode(0o777)).unwrap();
    check_everywhere(&format!("connect path {}", at.display()), writing, &["connect ! ENOENT"]);
    for known in
        ["/run/docker.sock", "/var/run/docker.sock", "/run/dbus/system_bus_socket", "/run/systemd/private"]
    {
        check(Line::probe(&format!("connect path {known}")), &["connect ! ENOENT"]);
    }
    assert!(std::os::unix::net::UnixStream::connect(&at).is_ok());
}
