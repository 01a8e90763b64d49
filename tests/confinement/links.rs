//! Links and swaps that are to lead the service astray (lines 3, 5, 8 to 10 of the threats).

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use portcullis_core::{Connector, Ended, Level, Piece, RedirectionTarget, Span, Word};
use portcullis_sandbox::Mount;

use crate::harness::{Bench, Line, as_root, check, check_end, config, has, path, reading, writing};
use crate::host::workshop;

/// A directory of the host that every cell may write, and a bench that mounts it at `/shared`.
struct Shared {
    directory: PathBuf,
    bench: Bench,
}

impl Shared {
    fn new(name: &str) -> Self {
        let directory = workshop().join(name);
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("precious"), "as it was").unwrap();
        for (path, mode) in [(directory.clone(), 0o777), (directory.join("precious"), 0o666)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let mut config = config();
        config.mounts.push(Mount { source: directory.clone(), target: path("/shared"), writable: true });
        Self { directory, bench: Bench::new(&config) }
    }

    #[track_caller]
    fn is_as_it_was(&self) {
        let precious = self.directory.join("precious");
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "as it was");
        let mode = std::fs::metadata(&precious).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o666);
        let names: Vec<_> = std::fs::read_dir(&self.directory).unwrap().flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }
}

/// Line 8.
#[test]
fn what_a_planted_link_leads_to_stays_as_it_was() {
    if !has(Level::Namespaces) {
        return;
    }
    let shared = Shared::new("planted");
    // The control: with the right to, it is written.
    let ran = shared.bench.run(Line::of("tee /shared/precious").write("/shared")).unwrap();
    assert_eq!(ran.outcome.ended, Ended::Exited(0), "{ran:?}");
    std::fs::write(shared.directory.join("precious"), "as it was").unwrap();

    let plant = || {
        writing(Line::of("ln -s /shared/precious link"))
            .then(Connector::Always, "ln -s /shared d")
            .write("/workspace")
    };
    for line in [
        plant().then(Connector::Always, "echo x").redirect(1, RedirectionTarget::Truncate("link".into())),
        plant().then(Connector::Always, "echo x").redirect(1, RedirectionTarget::Append("link".into())),
        plant()
            .then(Connector::Always, "echo x")
            .redirect(1, RedirectionTarget::Truncate("d/precious".into())),
        plant().then(Connector::Always, "echo x").redirect(1, RedirectionTarget::Truncate("d/new".into())),
        writing(plant().then(Connector::Always, "tee link")),
        writing(plant().then(Connector::Always, "tee d/new")),
        writing(plant().then(Connector::Always, "truncate -s 0 link")),
        writing(plant().then(Connector::Always, "rm -rf d/precious")),
        writing(plant().then(Connector::Always, "mv d/precious gone")),
        writing(plant().then(Connector::Always, "ln d/precious kept")),
    ] {
        let ran = shared.bench.run(line).unwrap();
        assert_ne!(ran.outcome.ended, Ended::Exited(0), "{ran:?}");
        shared.is_as_it_was();
    }
    // Without a uid of its own for the cell the file is the command's, and Landlock does not govern modes.
    if as_root("a file of another owner") {
        let ran = shared.bench.run(writing(plant().then(Connector::Always, "chmod 600 link"))).unwrap();
        assert_ne!(ran.outcome.ended, Ended::Exited(0), "{ran:?}");
        shared.is_as_it_was();
    }
}

/// Line 8.
#[test]
fn a_redirection_reads_nothing_that_its_command_may_not() {
    if !has(Level::Namespaces) {
        return;
    }
    let shared = Shared::new("unread");
    let plant = || {
        writing(Line::of("ln -s /shared/precious link"))
            .then(Connector::Always, "ln -s /shared d")
            .write("/workspace")
    };
    let read = |from: &str| {
        plant()
            .then(Connector::Always, "cat")
            .reading_only(&["/workspace"])
            .redirect(0, RedirectionTarget::Read(from.into()))
    };
    for from in ["link", "d/precious"] {
        let ran = shared.bench.run(read(from)).unwrap();
        assert_eq!((ran.outcome.ended, ran.stdout.as_str()), (Ended::Exited(1), ""), "{from}: {ran:?}");
    }
    // What was judged by its own name is read, also through links of the view itself.
    let ran = shared.bench.run(read("/shared/precious")).unwrap();
    assert_eq!(ran.stdout, "as it was");
    let ran = shared.bench.run(read("/etc/hostname")).unwrap();
    assert_eq!(ran.stdout, "portcullis\n");
}

/// Line 9.
#[test]
fn ten_thousand_swaps_lead_no_redirection_astray() {
    if !has(Level::Namespaces) {
        return;
    }
    let shared = Shared::new("swapped");
    let setup = "mkdir /workspace/d";
    let mut line = Line::of(setup)
        .write("/workspace")
        .then(Connector::Always, "ln -s /shared /workspace/l")
        .write("/workspace");
    line = writing(
        line.then(Connector::Always, "confinement-probe swap /workspace/d /workspace/l /workspace/count"),
    );
    for _ in 0..100 {
        line = line
            .then(Connector::Always, "echo x")
            .redirect(1, RedirectionTarget::Truncate("/workspace/d/precious".into()))
            .then(Connector::Always, "echo x")
            .redirect(1, RedirectionTarget::Append("d/new".into()));
    }
    let line = line.then(Connector::Always, "confinement-probe swaps /workspace/count");
    let ran = shared.bench.run(line).unwrap();
    assert!(ran.stdout.ends_with("swapped 10000 times\n"), "{ran:?}");
    assert!(ran.stderr.contains("cannot open"), "some met the link: {ran:?}");
    shared.is_as_it_was();
}

/// Line 9.
#[test]
fn a_directory_that_moves_takes_no_redirection_upwards() {
    if !has(Level::Namespaces) {
        return;
    }
    let shared = Shared::new("moved");
    // By its text this is `/workspace/shared/precious`, which does not exist. With `b` moved up, `..` twice from
    // it is the root of the view, and the file another one.
    let line = writing(Line::of("mkdir -p /workspace/a/b")).then(Connector::Always, "true");
    let mut line = line;
    line = line.change_directory("/workspace/a/b");
    line = writing(line.then(Connector::Always, "mv /workspace/a/b /workspace/b"));
    let line = line
        .then(Connector::Always, "echo x")
        .redirect(1, RedirectionTarget::Truncate("../../shared/precious".into()));
    let ran = shared.bench.run(line).unwrap();
    assert_ne!(ran.outcome.ended, Ended::Exited(0), "{ran:?}");
    shared.is_as_it_was();
}

/// Lines 9 and 63.
#[test]
fn a_pattern_lists_no_directory_that_a_planted_link_leads_to() {
    if !has(Level::Namespaces) {
        return;
    }
    let shared = Shared::new("unlisted");
    let pattern =
        |text: &str| Word { pieces: vec![Piece::Text(text.into()), Piece::AnyString], span: Span::new(0, 0) };
    let line = |text: &str| {
        Line::of("ln -s /shared d")
            .write("/workspace")
            .then(Connector::Always, "confinement-probe print")
            .reading_only(&["/workspace", "/probe"])
            .word(pattern(text))
    };
    for (text, expected) in
        [("d/", "d/*\n"), ("/shared/", "/shared/precious\n"), ("/probe/", "/probe/confinement-probe\n")]
    {
        let ran = shared.bench.run(line(text)).unwrap();
        assert_eq!(ran.stdout, expected, "{text}: {ran:?}");
    }
}

/// Line 10.
#[test]
fn a_workspace_that_is_hard_to_remove_is_gone_with_its_execution() {
    let line = writing(Line::probe("tangle /workspace 2000")).write("/tmp");
    // More of them than cells.
    for _ in 0..3 {
        check(line.clone(), &["deep 2000"]);
    }
    check(writing(Line::of("ls -A /workspace /tmp")), &["/tmp:", "", "/workspace:"]);
}

/// Line 3.
#[test]
fn what_is_only_read_is_not_written_by_a_mapping_or_a_descriptor() {
    // Mapped shared and to be written; cut short through a descriptor that reads.
    check(
        reading(Line::calls(
            "openat -100 s:/usr/bin/ls 0 , mmap 0 4096 3 1 $0 0 , ftruncate $0 0 , fallocate $0 0 0 4096 , mmap 0 4096 1 1 $0 0 , \
             mprotect $4 4096 3",
        )),
        &[
            "openat = 3",
            "mmap ! EACCES",
            "ftruncate ! EINVAL",
            "fallocate ! EBADF",
            "mmap = …",
            "mprotect ! EACCES",
        ],
    );
}

/// Line 5.
#[test]
fn a_file_is_not_carried_to_where_more_is_allowed() {
    let make = || {
        Line::of("mkdir -p /workspace/from /workspace/to")
            .write("/workspace")
            .then(Connector::Always, "touch /workspace/from/f")
            .write("/workspace")
    };
    let act = "confinement-probe call linkat -100 s:/workspace/from/f -100 s:/workspace/to/f 0 , \
               renameat2 -100 s:/workspace/from/f -100 s:/workspace/to/f 0";
    // To write in both is not enough: it takes the right to delete.
    check(make().then(Connector::Always, act).write("/workspace"), &["linkat ! EXDEV", "renameat2 ! EACCES"]);
    check(
        make().then(Connector::Always, act).write("/workspace/to"),
        &["linkat ! EXDEV", "renameat2 ! EACCES"],
    );
    check(writing(make().then(Connector::Always, act)), &["linkat = 0", "renameat2 = 0"]);
    // Nothing of the host comes into the workspace by its own inode.
    check(
        writing(Line::calls(
            "linkat -100 s:/usr/bin/ls -100 s:/workspace/ls 0 , renameat2 -100 s:/usr/bin/ls -100 s:/workspace/ls 0",
        )),
        &["linkat ! EXDEV", "renameat2 ! EXDEV"],
    );
    check_end(Line::of("true"), Ended::Exited(0));
}
