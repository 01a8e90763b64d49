//! Reaching files (lines 1 to 11 of the threats).

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use portcullis_core::{Connector, Level, RedirectionTarget};
use portcullis_sandbox::Mount;

use crate::harness::{
    Bench, Line, as_root, bench, check, check_everywhere_on, check_on, config, has, path, reading, writing,
};
use crate::host::workshop;

#[test]
fn what_is_not_in_the_view_is_absent_even_to_stat_access_and_chdir() {
    for host in [
        "/root",
        "/boot",
        "/sys",
        "/run",
        "/var",
        "/home/root",
        "/etc/shadow",
        "/etc/ssh",
        "/proc/sys",
        "/proc/kcore",
        "/opt",
    ] {
        check(
            Line::calls(&format!(
                "openat -100 s:{host} 0x200000 , statx -100 s:{host} 0 0 b:256 , access -100 s:{host} 0 , chdir s:{host}"
            )),
            &["openat ! ENOENT", "statx ! ENOENT", "access ! ENOENT", "chdir ! ENOENT"],
        );
    }
    check(Line::calls("openat -100 s:/usr 0x200000 , chdir s:/usr"), &["openat = 3", "chdir = 0"]);
}

#[test]
fn the_stand_in_for_etc_knows_one_user_and_no_secret() {
    check(
        Line::of("cat /etc/passwd"),
        &["root:x:0:0:…", "user:x:1000:1000::/home/user:…", "nobody:x:65534:…"],
    );
}

#[test]
fn aliases_lead_nowhere_else() {
    for alias in [
        "/proc/self/root/root",
        "/proc/1/root/root",
        "/usr/../root",
        "//root",
        "/proc/self/cwd/../root",
        "/proc/thread-self/root/boot",
    ] {
        let ran = bench().run(Line::calls(&format!("openat -100 s:{alias} 0x200000"))).unwrap();
        if !has(Level::Namespaces) {
            return;
        }
        let answer = ran.stdout.trim();
        assert!(
            ["openat ! ENOENT", "openat ! EACCES", "openat ! EPERM"].contains(&answer),
            "{alias}: {answer}"
        );
    }
}

#[test]
fn nothing_of_the_host_can_be_changed() {
    check(
        Line::calls(
            "openat -100 s:/usr/bin/ls 1 , openat -100 s:/usr/bin/ls 0x201 , openat -100 s:/usr/x 0x41 420 , \
             truncate s:/usr/bin/ls 0 , mkdirat -100 s:/usr/x 493 , unlinkat -100 s:/usr/bin/ls 0 , \
             renameat2 -100 s:/usr/bin/ls -100 s:/usr/bin/l 0 , symlinkat s:/x -100 s:/usr/x",
        ),
        &[
            // Its mode says so before the mount does.
            "openat ! EACCES",
            "openat ! EROFS",
            "openat ! EROFS",
            "truncate ! EACCES",
            "mkdirat ! EROFS",
            "unlinkat ! EROFS",
            "renameat2 ! EROFS",
            "symlinkat ! EROFS",
        ],
    );
}

#[test]
fn modes_owners_times_and_attributes_stay_where_only_reading_is_given() {
    // Under Landlock alone these succeed: the filter of a command that only reads refuses them.
    check(
        Line::calls(
            "fchmodat -100 s:/usr/bin/ls 511 , fchownat -100 s:/usr/bin/ls 1000 1000 0 , \
             utimensat -100 s:/usr/bin/ls 0 0 , setxattr s:/usr/bin/ls s:user.x s:y 1 0",
        ),
        &["fchmodat ! EPERM", "fchownat ! EPERM", "utimensat ! EPERM", "setxattr ! EPERM"],
    );
}

#[test]
fn a_reader_cannot_change_what_its_neighbour_may_write() {
    let line = |rights: fn(Line) -> Line| {
        let first = Line::of("touch /workspace/file").write("/workspace");
        let second = "confinement-probe call fchmodat -100 s:/workspace/file 384 , openat -100 s:/workspace/file 1 , \
                      utimensat -100 s:/workspace/file 0 0 , unlinkat -100 s:/workspace/file 0";
        rights(first.then(Connector::IfSucceeded, second))
    };
    check(
        line(|line| line),
        &["fchmodat ! EPERM", "openat ! EACCES", "utimensat ! EPERM", "unlinkat ! EACCES"],
    );
    check(
        line(|line| line.write("/workspace").delete("/workspace")),
        &["fchmodat = 0", "openat = 3", "utimensat = 0", "unlinkat = 0"],
    );
}

#[test]
fn writing_does_not_include_deleting() {
    let make = || Line::of("touch /workspace/a").write("/workspace");
    let act = "confinement-probe call unlinkat -100 s:/workspace/a 0 , renameat2 -100 s:/workspace/a -100 s:/workspace/b 0";
    check(
        make().then(Connector::IfSucceeded, act).write("/workspace"),
        &["unlinkat ! EACCES", "renameat2 ! EACCES"],
    );
    let remove = "confinement-probe call unlinkat -100 s:/workspace/a 0";
    check(
        make().then(Connector::IfSucceeded, remove).write("/workspace").delete("/workspace"),
        &["unlinkat = 0"],
    );
}

#[test]
fn a_line_that_writes_nothing_has_no_writable_path() {
    check(
        Line::calls(
            "openat -100 s:/workspace/x 0x41 420 , openat -100 s:/tmp/x 0x41 420 , openat -100 s:/home/user/x 0x41 420 , \
             openat -100 s:/dev/shm/x 0x41 420 , openat -100 s:/etc/passwd 1 , openat -100 s:/dev/null 1",
        ),
        &[
            "openat ! EROFS",
            "openat ! EROFS",
            "openat ! EROFS",
            "openat ! ENOENT",
            "openat ! EROFS",
            "openat = 3",
        ],
    );
}

#[test]
fn set_id_bits_and_device_nodes_are_never_made() {
    check(
        Line::calls(
            "openat -100 s:/workspace/f 0x41 2541 , openat -100 s:/workspace/f 0x41 493 , fchmodat -100 s:/workspace/f 2541 , \
             fchmodat -100 s:/workspace/f 1517 , mkdirat -100 s:/workspace/d 1023 , \
             mknodat -100 s:/workspace/n 8630 0x103 , mknodat -100 s:/workspace/m 25014 0x700",
        )
        .write("/workspace"),
        &[
            "openat ! EPERM",
            "openat = 3",
            "fchmodat ! EPERM",
            "fchmodat ! EPERM",
            "mkdirat ! EPERM",
            "mknodat ! EPERM",
            "mknodat ! EPERM",
        ],
    );
}

#[test]
fn the_devices_are_those_without_a_state() {
    check(Line::probe("special-files"), &["fd full null random stderr stdin stdout urandom zero"]);
}

/// A bench with a directory of the host that everybody may write, in the view to be read.
fn with_an_open_mount(name: &str) -> (Bench, PathBuf) {
    let source = workshop().join(name);
    std::fs::create_dir(&source).unwrap();
    std::fs::set_permissions(&source, std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::write(source.join("file"), "theirs").unwrap();
    std::fs::set_permissions(source.join("file"), std::fs::Permissions::from_mode(0o666)).unwrap();
    let mut config = config();
    config.mounts.push(Mount { source: source.clone(), target: path("/open"), writable: false });
    (Bench::new(&config), source)
}

/// Line 3.
#[test]
fn a_mount_for_reading_is_not_written_whatever_its_modes() {
    if !has(Level::Namespaces) {
        return;
    }
    let (bench, source) = with_an_open_mount("open-to-write");
    let calls = "call openat -100 s:/open/file 0 , openat -100 s:/open/file 1 , openat -100 s:/open/new 0x41 420 , \
                 unlinkat -100 s:/open/file 0 , mkdirat -100 s:/open/directory 448";
    let refused = ["openat = 3", "openat ! EROFS", "openat ! EROFS", "unlinkat ! EROFS", "mkdirat ! EROFS"];
    check_everywhere_on(&bench, calls, writing, &refused);
    assert_eq!(std::fs::read_to_string(source.join("file")).unwrap(), "theirs");
}

/// Line 7.
#[test]
fn a_device_node_of_a_mount_is_not_opened() {
    if !has(Level::Namespaces) || !as_root("a device node") {
        return;
    }
    let (bench, source) = with_an_open_mount("open-device");
    let node = source.join("null");
    #[expect(clippy::disallowed_methods, reason = "the one program that makes a device node")]
    let made = std::process::Command::new("mknod").arg("-m666").arg(&node).args(["c", "1", "3"]).status();
    assert!(made.unwrap().success());
    check_everywhere_on(&bench, "call openat -100 s:/open/null 0", reading, &["openat ! EACCES"]);
    // The control: outside of the view it is opened, and one of the view's own is.
    assert!(std::fs::File::open(&node).is_ok());
    check_on(&bench, Line::calls("openat -100 s:/dev/null 0"), &["openat = 3"]);
}

/// Lines 3, 7, 13 and 18.
#[test]
fn every_mount_of_the_view_is_locked() {
    if !has(Level::Namespaces) {
        return;
    }
    let ran = bench().run(writing(Line::of("cat /proc/self/mountinfo"))).unwrap();
    let mounts: Vec<(&str, &str)> = ran
        .stdout
        .lines()
        .map(|line| {
            let mut fields = line.split(' ').skip(4);
            (fields.next().unwrap(), fields.next().unwrap())
        })
        .collect();
    assert!(mounts.len() > 10, "{ran:?}");
    for (at, options) in mounts {
        let has = |option: &str| options.split(',').any(|known| known == option);
        assert!(has("nosuid"), "{at} lacks nosuid: {options}");
        assert!(has("nodev") || at.starts_with("/dev/"), "{at} lacks nodev: {options}");
        // What the permit names and may write, in this order.
        let named = ["/usr/", "/lib", "/etc/"].iter().any(|top| at.starts_with(top));
        assert!(has("noexec") || named, "{at} lacks noexec: {options}");
        assert!(has("ro") || at == "/workspace" || at == "/tmp", "{at} is writable: {options}");
    }
}

#[test]
fn protected_directories_of_a_mount_are_covered() {
    let mut line = Line::calls(
        "openat -100 s:/usr/share/doc 0x10000 , openat -100 s:/usr/share/doc/base-files 0x10000 , openat -100 s:/usr/share 0x10000",
    );
    line.protected = vec![path("/usr/share/doc")];
    check(line, &["openat ! EACCES", "openat ! EACCES", "openat = 3"]);
}

/// Line 1.
#[test]
fn protected_directories_may_lie_within_each_other() {
    let mut line = Line::calls(
        "openat -100 s:/usr/share/doc 0x10000 , openat -100 s:/usr/share 0x10000 , openat -100 s:/usr/lib 0x10000",
    );
    line.protected = vec![path("/usr/share"), path("/usr/share/doc"), path("/usr/share/doc/base-files")];
    for _ in 0..3 {
        check(line.clone(), &["openat ! EACCES", "openat ! EACCES", "openat = 3"]);
    }
    line.protected.reverse();
    check(line, &["openat ! EACCES", "openat ! EACCES", "openat = 3"]);
    check(Line::calls("openat -100 s:/usr/share/doc 0x10000"), &["openat = 3"]);
}

#[test]
fn a_redirection_follows_no_planted_link() {
    let plant = || Line::of("ln -s /workspace/secret /workspace/link").write("/workspace");
    let write = plant()
        .then(Connector::Always, "echo x")
        .redirect(1, RedirectionTarget::Truncate("/workspace/link".into()))
        .then(Connector::Always, "confinement-probe call access -100 s:/workspace/secret 0");
    check(write, &["access ! ENOENT"]);
    let process = Line::of("ln -s /proc/self/environ /workspace/link")
        .write("/workspace")
        .then(Connector::Always, "cat")
        .redirect(0, RedirectionTarget::Read("/workspace/link".into()));
    let ran = bench().run(process).unwrap();
    assert_eq!(ran.stdout, "", "{ran:?}");
}

#[test]
fn a_command_reads_what_its_own_permit_gives() {
    let make = || Line::of("touch /workspace/mine /workspace/other").write("/workspace");
    let look = "confinement-probe call openat -100 s:/workspace/mine 0 , openat -100 s:/workspace/other 0 , openat -100 s:/workspace 0x10000";
    check(
        make().then(Connector::Always, look).reading_only(&["/workspace/mine", "/probe"]),
        &["openat = 3", "openat ! EACCES", "openat ! EACCES"],
    );
    check(make().then(Connector::Always, look), &["openat = 3", "openat = 4", "openat = 5"]);
}
