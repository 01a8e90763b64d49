//! The host's crash handler (line 37 of the threats): this kernel's may be set.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use portcullis_core::{Ended, Level};

use crate::harness::{Line, bench, has};
use crate::host::workshop;

const PATTERN: &str = "/proc/sys/kernel/core_pattern";

#[test]
#[expect(clippy::disallowed_methods, reason = "a crash outside of any cell, as the control")]
fn a_crash_starts_no_handler_that_core_pattern_names() {
    if !has(Level::Full) {
        return;
    }
    let (handler, marks) = (workshop().join("handler"), workshop().join("crashes"));
    let script = format!("#!/bin/sh\ncat > /dev/null\necho \"$1\" >> {}\n", marks.display());
    fs::write(&handler, script).unwrap();
    fs::set_permissions(&handler, fs::Permissions::from_mode(0o755)).unwrap();
    let before = fs::read_to_string(PATTERN).unwrap();
    // %P: the process's number in the first pid namespace.
    fs::write(PATTERN, format!("|{} %P", handler.display())).unwrap();

    let ran = bench().run(Line::probe("signal 11")).unwrap();
    assert_eq!(ran.outcome.ended, Ended::Signaled(11), "{ran:?}");
    // The control, with the limit of 0 that most services have: it does not keep a handler from being started.
    let control = Command::new("/bin/sh")
        .args(["-c", "ulimit -c 0; exec \"$0\" signal 11"])
        .arg(workshop().join("bin/confinement-probe"))
        .spawn()
        .unwrap();
    let pid = control.id().to_string();
    let _ = control.wait_with_output().unwrap();
    let began = Instant::now();
    while marked(&marks).is_empty() {
        assert!(began.elapsed() < Duration::from_secs(20), "the handler of the control was not started");
        std::thread::yield_now();
    }
    fs::write(PATTERN, before.trim()).unwrap();
    assert_eq!(marked(&marks), [pid], "the control alone");
}

fn marked(marks: &Path) -> Vec<String> {
    fs::read_to_string(marks).unwrap_or_default().lines().map(str::to_owned).collect()
}
