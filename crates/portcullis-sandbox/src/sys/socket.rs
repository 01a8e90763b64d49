//! Messages with descriptors between server, launcher and cells.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use tokio::io::unix::AsyncFd;

use super::{check, check_int, own};

/// The most descriptors that one message carries.
pub(crate) const MAX_DESCRIPTORS: usize = 4;

/// Makes a connected pair of sequenced-packet sockets, close-on-exec. See socketpair(2), unix(7).
pub(crate) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1_i32; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: the pointer is to two live ints that the kernel writes.
    check_int(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
    let [one, other] = ends;
    Ok((own(one.into()), own(other.into())))
}

/// Hands a descriptor to the async runtime: calls on it return instead of waiting. See fcntl(2).
pub(crate) fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: takes a descriptor that we own, and numbers.
    check_int(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })?;
    // SAFETY: an `OwnedFd` names the same open descriptor for as long as it lives, and it moves into the result.
    unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
}

/// Room for `MAX_DESCRIPTORS` in a control message, aligned as `cmsghdr` asks.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Sends one message with descriptors, whole or not at all. See sendmsg(2), unix(7).
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
    }
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control([0; 64]);
    // SAFETY: an all-zero msghdr is a valid, empty one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !descriptors.is_empty() {
        let size = u32::try_from(size_of_val(descriptors)).unwrap_or(0);
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: computes a size from a number.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(size) } as _;
        // SAFETY: control points to 64 bytes, more than CMSG_SPACE of MAX_DESCRIPTORS ints.
        let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        // SAFETY: computes a size from a number.
        let length = unsafe { libc::CMSG_LEN(size) };
        let value = libc::cmsghdr {
            cmsg_len: length as _,
            cmsg_level: libc::SOL_SOCKET,
            cmsg_type: libc::SCM_RIGHTS,
        };
        // SAFETY: the header lies in `control`, which is aligned for it.
        unsafe { header.write(value) };
        // SAFETY: the data of the header just written lies in `control` too.
        let data = unsafe { libc::CMSG_DATA(header) };
        for (index, fd) in descriptors.iter().enumerate() {
            let raw = fd.as_raw_fd();
            // SAFETY: `index` is below MAX_DESCRIPTORS, so the place lies within the space computed above.
            let place = unsafe { data.cast::<RawFd>().add(index) };
            // SAFETY: as above; an unaligned write asks for no alignment.
            unsafe { place.write_unaligned(raw) };
        }
    }
    let sent = loop {
        // SAFETY: the message and all that it points to are live locals or borrowed slices.
        let rc = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        match check(rc as libc::c_long) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if usize::try_from(sent).ok() == Some(bytes.len()) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::WriteZero, "the message was cut"))
    }
}

/// Receives one message into `buffer` with its descriptors (close-on-exec). An empty result is the end of
/// the link. A message or its descriptors cut short are an error. See recvmsg(2), unix(7).
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control([0; 64]);
    // SAFETY: an all-zero msghdr is a valid, empty one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>() as _;
    let received = loop {
        // SAFETY: the message and all that it points to are live locals or borrowed slices.
        let rc = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        match check(rc as libc::c_long) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    let mut descriptors = Vec::new();
    // SAFETY: the kernel has filled in the message; the first header, if any, lies in `control`.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: a non-null header returned by these macros lies wholly within `control`.
    while let Some(found) = unsafe { header.as_ref() } {
        if found.cmsg_level == libc::SOL_SOCKET && found.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: computes a size from a number.
            let overhead = unsafe { libc::CMSG_LEN(0) } as usize;
            #[expect(clippy::unnecessary_cast, reason = "the field's width differs between C libraries")]
            let count = (found.cmsg_len as usize).saturating_sub(overhead) / size_of::<RawFd>();
            // SAFETY: the data of a header lies behind it in `control`.
            let data = unsafe { libc::CMSG_DATA(header) };
            for index in 0..count {
                // SAFETY: `cmsg_len` says that `count` ints are there.
                let place = unsafe { data.cast::<RawFd>().add(index) };
                // SAFETY: as above, and the kernel has filled them in.
                let raw = unsafe { place.read_unaligned() };
                // SAFETY: the kernel has just made this descriptor for us.
                descriptors.push(unsafe { OwnedFd::from_raw_fd(raw) });
            }
        }
        // SAFETY: message and header are those of the loop.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    if message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is longer than allowed"));
    }
    Ok((usize::try_from(received).unwrap_or(0), descriptors))
}
