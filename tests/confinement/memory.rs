//! Memory of every kind, and other things that are counted (lines 43 to 47 of the threats).

use portcullis_core::{Connector, Ended, Level, Limit};

use crate::harness::{Line, bench, check, check_end, has, writing};

/// Line 43.
#[test]
fn memory_of_every_kind_is_counted() {
    if !has(Level::Full) {
        return;
    }
    for kind in ["shared", "memfd", "system-v", "children", "pipes", "sockets", "tables"] {
        let line = Line::probe(&format!("take {kind} 256")).limit(|l| {
            l.memory_bytes = 24 << 20;
            l.processes = 60;
            l.file_size_bytes = 1 << 30;
        });
        check_end(line, Ended::Limited(Limit::Memory));
    }
    for kind in ["shared", "memfd", "system-v"] {
        let line = Line::probe(&format!("take {kind} 8")).limit(|l| l.memory_bytes = 24 << 20);
        check(line, &["holding"]);
    }
}

/// Line 43.
#[test]
fn memory_of_an_earlier_execution_is_given_back() {
    if !has(Level::Full) {
        return;
    }
    // Each fits alone, no two together do; more of them than cells.
    for _ in 0..6 {
        let line = Line::probe("write-until-full /workspace/big").write("/workspace").limit(|l| {
            l.memory_bytes = 32 << 20;
            l.disk_bytes = 20 << 20;
        });
        check(line, &["full after 20 MiB ! ENOSPC"]);
    }
}

/// Line 44.
#[test]
fn zombies_count_as_processes() {
    if !has(Level::Full) {
        return;
    }
    let ran = bench().run(Line::probe("zombies").limit(|l| l.processes = 10)).unwrap();
    assert_eq!(ran.outcome.ended, Ended::Limited(Limit::Processes), "{ran:?}");
    assert_eq!(ran.stdout.trim(), "refused after 9: EAGAIN", "{ran:?}");
    check(Line::probe("print after"), &["after"]);
}

/// Line 46.
#[test]
fn queued_signals_timers_and_queues_are_bounded() {
    check(Line::probe("queue-signals"), &["refused after 256: EAGAIN"]);
    check(Line::probe("timers"), &["refused after 256: EAGAIN"]);
    check(Line::calls("mq_open s:x 0x42 384 0"), &["mq_open ! EMFILE"]);
}

/// Line 46.
#[test]
fn queued_signals_of_a_neighbour_are_its_own() {
    if !has(Level::Namespaces) {
        return;
    }
    // In both commands of a pipeline, and in two cells at once: each is refused at its own bound.
    let bench = crate::harness::Bench::new(&crate::harness::config());
    let first = bench.hold(
        Line::probe("queue-signals").then(Connector::Always, "confinement-probe sleep 30"),
        "refused after 256",
    );
    let ran = bench.run(Line::probe("queue-signals")).unwrap();
    assert_eq!(ran.stdout, "refused after 256: EAGAIN\n");
    drop(first.stop());
}

/// Line 46.
#[test]
fn a_file_beyond_its_limit_is_refused_or_ends_its_writer() {
    // With SIGXFSZ ignored the call fails.
    let line = Line::calls("openat -100 s:/workspace/f 0x42 420 , ftruncate $0 2097153")
        .write("/workspace")
        .limit(|l| l.file_size_bytes = 2 << 20);
    check_end(line, Ended::Limited(Limit::FileSize));
    let line = Line::calls("openat -100 s:/workspace/f 0x42 420 , ftruncate $0 2097152")
        .write("/workspace")
        .limit(|l| l.file_size_bytes = 2 << 20);
    check(line, &["openat = 3", "ftruncate = 0"]);
}

/// Line 47.
#[test]
fn preallocated_and_deleted_files_count() {
    let line = |words: &str| {
        writing(Line::probe(words)).limit(|l| {
            l.disk_bytes = 8 << 20;
            l.file_size_bytes = 64 << 20;
        })
    };
    check(
        line(
            "call openat -100 s:/workspace/f 0x42 420 , fallocate $0 0 0 9437184 , fallocate $0 0 0 4194304",
        ),
        &["openat = 3", "fallocate ! ENOSPC", "fallocate = 0"],
    );
    check(line("deleted-until-full /workspace"), &["full after 8 MiB ! ENOSPC"]);
    check(line("deleted-until-full /tmp"), &["full after 8 MiB ! ENOSPC"]);
}

/// Line 47.
#[test]
fn a_sparse_file_costs_what_is_written_to_it() {
    let line = writing(Line::calls(
        "openat -100 s:/workspace/f 0x42 420 , ftruncate $0 60000000 , fallocate $0 0 0 60000000",
    ))
    .limit(|l| l.disk_bytes = 8 << 20);
    check(line, &["openat = 3", "ftruncate = 0", "fallocate ! ENOSPC"]);
}
