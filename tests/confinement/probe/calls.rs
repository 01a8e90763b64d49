//! System calls by name, with arguments written as text.

use std::ffi::CString;
use std::io;

use crate::numbers::NUMBERS;

/// A value that a call points to, kept alive while it is made.
type Held = Box<dyn std::any::Any>;

/// Makes the calls, separated by `,`.
pub(crate) fn make(words: &[&str]) {
    let mut results: Vec<i64> = Vec::new();
    for call in words.split(|word| *word == ",") {
        let Some((name, arguments)) = call.split_first() else { continue };
        let Some(number) = number_of(name) else {
            crate::say(&format!("{name} ? unknown to the probe"));
            std::process::exit(98);
        };
        let mut held = Vec::new();
        let mut values = [0_usize; 6];
        for (slot, argument) in values.iter_mut().zip(arguments) {
            *slot = value_of(argument, &results, &mut held);
        }
        match raw(number, &values) {
            Ok(result) => {
                results.push(result);
                crate::say(&format!("{name} = {result}"));
            }
            Err(error) => {
                results.push(-1);
                crate::say(&format!("{name} ! {}", errno_name(error)));
            }
        }
        drop(held);
    }
}

/// Makes one system call. What its arguments point to is the caller's affair.
pub(crate) fn raw(number: libc::c_long, arguments: &[usize]) -> io::Result<i64> {
    let mut values = [0_usize; 6];
    for (slot, argument) in values.iter_mut().zip(arguments) {
        *slot = *argument;
    }
    let [a, b, c, d, e, f] = values;
    // SAFETY: pointers among the arguments are to values that the caller keeps alive; what a call does to this
    // process is what the test asks about.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn value_of(argument: &str, results: &[i64], held: &mut Vec<Held>) -> usize {
    if let Some(text) = argument.strip_prefix("s:") {
        let text = CString::new(text).unwrap_or_default();
        let pointer = text.as_ptr() as usize;
        held.push(Box::new(text));
        return pointer;
    }
    if let Some(count) = argument.strip_prefix("b:") {
        let mut bytes = vec![0_u8; count.parse().unwrap_or(8)];
        let pointer = bytes.as_mut_ptr() as usize;
        held.push(Box::new(bytes));
        return pointer;
    }
    if let Some(list) = argument.strip_prefix("w:") {
        let mut words: Vec<u64> = list.split('/').map(|word| number(word) as u64).collect();
        let pointer = words.as_mut_ptr() as usize;
        held.push(Box::new(words));
        return pointer;
    }
    if let Some(index) = argument.strip_prefix('$') {
        let index: usize = index.parse().unwrap_or(0);
        return results.get(index).copied().unwrap_or(-1) as usize;
    }
    number(argument) as usize
}

fn number(text: &str) -> i64 {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap_or(0) as i64,
        None => text.parse().unwrap_or(0),
    }
}

/// Returns the symbolic name of an error.
pub(crate) fn errno_name(error: io::Error) -> String {
    let names = [
        (libc::EPERM, "EPERM"),
        (libc::ENOENT, "ENOENT"),
        (libc::ESRCH, "ESRCH"),
        (libc::EIO, "EIO"),
        (libc::ENXIO, "ENXIO"),
        (libc::E2BIG, "E2BIG"),
        (libc::ENOEXEC, "ENOEXEC"),
        (libc::EBADF, "EBADF"),
        (libc::ECHILD, "ECHILD"),
        (libc::EAGAIN, "EAGAIN"),
        (libc::ENOMEM, "ENOMEM"),
        (libc::EACCES, "EACCES"),
        (libc::EFAULT, "EFAULT"),
        (libc::EBUSY, "EBUSY"),
        (libc::EEXIST, "EEXIST"),
        (libc::EXDEV, "EXDEV"),
        (libc::ENODEV, "ENODEV"),
        (libc::ENOTDIR, "ENOTDIR"),
        (libc::EISDIR, "EISDIR"),
        (libc::EINVAL, "EINVAL"),
        (libc::ENFILE, "ENFILE"),
        (libc::EMFILE, "EMFILE"),
        (libc::ENOTTY, "ENOTTY"),
        (libc::ETXTBSY, "ETXTBSY"),
        (libc::EFBIG, "EFBIG"),
        (libc::ENOSPC, "ENOSPC"),
        (libc::EROFS, "EROFS"),
        (libc::ELOOP, "ELOOP"),
        (libc::ENOSYS, "ENOSYS"),
        (libc::EOPNOTSUPP, "EOPNOTSUPP"),
        (libc::EAFNOSUPPORT, "EAFNOSUPPORT"),
        (libc::ENETUNREACH, "ENETUNREACH"),
        (libc::ECONNREFUSED, "ECONNREFUSED"),
        (libc::ENOKEY, "ENOKEY"),
    ];
    let number = error.raw_os_error().unwrap_or(0);
    names
        .iter()
        .find(|(known, _)| *known == number)
        .map_or_else(|| number.to_string(), |(_, name)| (*name).into())
}

fn number_of(name: &str) -> Option<libc::c_long> {
    let known = NUMBERS.iter().find(|(known, _)| *known == name);
    known.map(|&(_, number)| number).or_else(|| name.parse().ok())
}
