//! Output (lines 51 and 52 of the threats).

use portcullis_core::{Ended, Level, Limit, OutputStream};
use std::sync::Arc;

use crate::harness::{Line, Watcher, bench, has};

/// Line 51.
#[test]
fn single_bytes_on_both_streams_are_counted_together() {
    if !has(Level::Namespaces) {
        return;
    }
    let line = |count: u32| Line::probe(&format!("ticks {count}")).limit(|l| l.output_bytes = 10_000);
    let ran = bench().run(line(10_000)).unwrap();
    assert_eq!((ran.stdout.len(), ran.stderr.len()), (5_000, 5_000), "{:?}", ran.outcome);
    assert_eq!((ran.outcome.ended, ran.outcome.truncated), (Ended::Exited(0), false));
    let ran = bench().run(line(1_000_000)).unwrap();
    assert_eq!(ran.stdout.len() + ran.stderr.len(), 10_000, "{:?}", ran.outcome);
    assert_eq!((ran.outcome.ended, ran.outcome.truncated), (Ended::Limited(Limit::Output), true));
}

/// Line 51.
#[test]
fn a_flood_on_both_streams_at_once_is_bounded() {
    if !has(Level::Namespaces) {
        return;
    }
    let line = Line::probe("flood 100000000000")
        .redirect(1, portcullis_core::RedirectionTarget::Duplicate(portcullis_core::Duplicate::Stderr))
        .pipe("confinement-probe flood 100000000000")
        .limit(|l| l.output_bytes = 200_000);
    let ran = bench().run(line).unwrap();
    assert_eq!(ran.stdout.len() + ran.stderr.len(), 200_000, "{:?}", ran.outcome);
    assert_eq!(ran.outcome.ended, Ended::Limited(Limit::Output));
}

/// Line 51.
#[test]
fn a_line_without_end_is_handed_on_in_pieces() {
    if !has(Level::Namespaces) {
        return;
    }
    let watcher = Arc::new(Watcher::default());
    let line = Line::probe("flood 4000000");
    let ran = bench().run_watched(line, Arc::clone(&watcher)).unwrap();
    assert_eq!(ran.stdout.len(), 4_000_000, "{:?}", ran.outcome);
    let longest = watcher.output.lock().unwrap().iter().map(|(_, bytes)| bytes.len()).max();
    assert!(longest <= Some(32 * 1024), "{longest:?}");
}

/// Line 52.
#[test]
fn every_byte_comes_back_as_it_was() {
    if !has(Level::Namespaces) {
        return;
    }
    // Every byte, every pair of bytes, a character cut by each border, a lone carriage return, U+2028.
    let mut bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_be_bytes).collect();
    bytes.extend("€\u{2028}\r\r\n".bytes().cycle().take(100_001));
    let mut line = Line::probe("read-input");
    line.stdin = Some(bytes.clone());
    let watcher = Arc::new(Watcher::default());
    bench().run_watched(line, Arc::clone(&watcher)).unwrap();
    assert!(watcher.bytes(OutputStream::Stdout) == bytes, "the bytes differ");
}
