//! An execution's output.

use std::sync::Arc;

use portcullis_core::{Closing, ExecutionStore, Finish, OutputChunk, OutputStream, Place, Status};

use super::{accept, after, assert_refused, assert_unknown, chunk, completed, id, new};

async fn seqs(store: &dyn ExecutionStore, after_seq: u64, max_bytes: usize) -> Vec<u64> {
    store.output(&id("a"), after_seq, max_bytes).await.unwrap().iter().map(|chunk| chunk.seq).collect()
}

/// Every byte value, both streams, over several calls.
pub async fn output_comes_back_in_order_and_byte_for_byte(store: Arc<dyn ExecutionStore>) {
    accept(&*store, new("a")).await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let chunks: Vec<OutputChunk> = vec![
        chunk(1, b"one\n"),
        chunk(2, &every_byte),
        chunk(3, &[0]),
        chunk(4, &every_byte.repeat(1_024)),
        chunk(5, "caf\u{e9}".as_bytes()),
    ];
    store.append(&id("a"), chunks[..2].to_vec()).await.unwrap();
    store.append(&id("a"), Vec::new()).await.unwrap();
    store.append(&id("a"), chunks[2..].to_vec()).await.unwrap();
    assert_eq!(store.output(&id("a"), 0, usize::MAX).await.unwrap(), chunks);
    let execution = store.read(&id("a")).await.unwrap().unwrap();
    assert_eq!(execution.last_seq, 5);
    assert_eq!(execution.output_bytes, 4 + 256 + 1 + 256 * 1_024 + 5);
}

/// Before, between and behind the chunks of one call.
pub async fn a_gap_is_refused_and_nothing_of_the_call_is_kept(store: Arc<dyn ExecutionStore>) {
    accept(&*store, new("a")).await;
    assert_refused(store.append(&id("a"), vec![chunk(2, b"x")]).await);
    assert_refused(store.append(&id("a"), vec![chunk(1, b"x"), chunk(3, b"y")]).await);
    assert_refused(
        store.append(&id("a"), vec![chunk(1, b"x"), OutputChunk { seq: u64::MAX, ..chunk(2, b"y") }]).await,
    );
    assert!(seqs(&*store, 0, usize::MAX).await.is_empty());
    let execution = store.read(&id("a")).await.unwrap().unwrap();
    assert_eq!((execution.last_seq, execution.output_bytes), (0, 0));
    store.append(&id("a"), vec![chunk(1, b"x"), chunk(2, b"y")]).await.unwrap();
    assert_refused(store.append(&id("a"), vec![chunk(4, b"z")]).await);
    assert_eq!(seqs(&*store, 0, usize::MAX).await, [1, 2]);
}

/// The first one stays: who lost an answer may send it all again, with what follows.
pub async fn a_chunk_that_is_stored_is_passed_over(store: Arc<dyn ExecutionStore>) {
    accept(&*store, new("a")).await;
    store.append(&id("a"), vec![chunk(1, b"x"), chunk(2, b"y")]).await.unwrap();
    store.append(&id("a"), vec![chunk(1, b"other"), chunk(2, b"y"), chunk(3, b"z")]).await.unwrap();
    store.append(&id("a"), vec![chunk(3, b"z"), chunk(3, b"z")]).await.unwrap();
    let stored = store.output(&id("a"), 0, usize::MAX).await.unwrap();
    assert_eq!(stored, [chunk(1, b"x"), chunk(2, b"y"), chunk(3, b"z")]);
    assert_eq!(store.read(&id("a")).await.unwrap().unwrap().output_bytes, 3);
}

/// Neither can be a position to resume from.
pub async fn an_empty_chunk_and_a_number_below_one_are_refused(store: Arc<dyn ExecutionStore>) {
    accept(&*store, new("a")).await;
    assert_refused(store.append(&id("a"), vec![chunk(1, b"")]).await);
    assert_refused(store.append(&id("a"), vec![chunk(0, b"x")]).await);
    assert_refused(store.append(&id("a"), vec![chunk(1, b"x"), chunk(2, b"")]).await);
    assert!(seqs(&*store, 0, usize::MAX).await.is_empty());
}

/// Whatever was told of the end stays true; also of chunks that are stored.
pub async fn output_for_an_ended_execution_is_refused(store: Arc<dyn ExecutionStore>) {
    accept(&*store, new("a")).await;
    store.append(&id("a"), vec![chunk(1, b"x")]).await.unwrap();
    store.finish(&id("a"), completed(after(1))).await.unwrap();
    assert_refused(store.append(&id("a"), vec![chunk(2, b"y")]).await);
    assert_refused(store.append(&id("a"), vec![chunk(1, b"x")]).await);
    assert_eq!(seqs(&*store, 0, usize::MAX).await, [1]);
}

/// As many as fit, at least one, none behind the last.
pub async fn output_is_read_in_whole_chunks_that_fit(store: Arc<dyn ExecutionStore>) {
    accept(&*store, new("a")).await;
    let chunks = (1..=5).map(|seq| chunk(seq, &vec![b'x'; 10 * usize::try_from(seq).unwrap()])).collect();
    store.append(&id("a"), chunks).await.unwrap();
    for (after_seq, max_bytes, wanted) in [
        (0, 0, vec![1]),
        (0, 9, vec![1]),
        (0, 29, vec![1]),
        (0, 30, vec![1, 2]),
        (0, 150, vec![1, 2, 3, 4, 5]),
        (0, usize::MAX, vec![1, 2, 3, 4, 5]),
        (2, 69, vec![3]),
        (2, 70, vec![3, 4]),
        (4, 1, vec![5]),
        (5, 100, vec![]),
        (6, 100, vec![]),
        (u64::MAX, usize::MAX, vec![]),
    ] {
        assert_eq!(seqs(&*store, after_seq, max_bytes).await, wanted, "{after_seq} {max_bytes}");
    }
}

/// In both streams or one, on a border and within a chunk, at the beginning and behind the end.
pub async fn a_place_in_the_output_is_found_by_its_bytes(store: Arc<dyn ExecutionStore>) {
    use OutputStream::{Stderr, Stdout};
    accept(&*store, new("a")).await;
    // Large ones too, which a store may read in several steps: 600,004 bytes of one stream, 4 of the other.
    let pieces: [(OutputStream, &[u8]); 5] = [
        (Stdout, b"ab"),
        (Stderr, b"cd"),
        (Stdout, &[b'x'; 300_000]),
        (Stderr, b"ef"),
        (Stdout, &[b'y'; 300_002]),
    ];
    let chunks = (1..).zip(pieces).map(|(seq, (stream, bytes))| OutputChunk { stream, ..chunk(seq, bytes) });
    store.append(&id("a"), chunks.collect()).await.unwrap();
    for (stream, last_seq, offset, wanted) in [
        (None, 0, 0, (0, 0, 0)),
        (None, 0, 7, (0, 0, 7)),
        (None, 5, 0, (600_008, 0, 0)),
        (None, 5, 1, (600_008, 0, 1)),
        (None, 5, 2, (600_008, 1, 0)),
        (None, 5, 300_004, (600_008, 3, 0)),
        (None, 5, 500_000, (600_008, 4, 199_994)),
        (None, 5, 600_008, (600_008, 5, 0)),
        (None, 3, 300_000, (300_004, 2, 299_996)),
        (Some(Stdout), 5, 300_002, (600_004, 4, 0)),
        (Some(Stdout), 5, 300_003, (600_004, 4, 1)),
        (Some(Stderr), 5, 0, (4, 1, 0)),
        (Some(Stderr), 5, 3, (4, 3, 1)),
        (Some(Stderr), 5, 9, (4, 5, 5)),
        (None, u64::MAX, 1, (600_008, 0, 1)),
    ] {
        let place = Place { stream, last_seq, offset };
        let found = store.locate(&id("a"), place).await.unwrap();
        let found = (found.total_bytes, found.after_seq, found.skip_bytes);
        assert_eq!(found, wanted, "{place:?}");
    }
    assert_unknown(store.locate(&id("b"), Place { stream: None, last_seq: 1, offset: 0 }).await);
}

/// Also when another ending stands, and when the output does not follow what is stored.
pub async fn the_last_output_and_the_ending_are_written_together_or_not_at_all(
    store: Arc<dyn ExecutionStore>,
) {
    accept(&*store, new("a")).await;
    store.append(&id("a"), vec![chunk(1, b"one")]).await.unwrap();
    let closing = |output: Vec<OutputChunk>| Closing { output, ..completed(after(1)).into() };
    assert_refused(store.close(&id("a"), closing(vec![chunk(3, b"gap")])).await);
    assert_refused(store.close(&id("a"), closing(vec![chunk(2, b"")])).await);
    let open = store.read(&id("a")).await.unwrap().unwrap();
    assert_eq!((open.ending, open.last_seq, open.output_bytes), (None, 1, 3));

    // What is stored already is passed over, here as in `append`.
    let last = vec![chunk(1, b"one"), chunk(2, b"two"), chunk(3, b"three")];
    let Finish::Written(ended) = store.close(&id("a"), closing(last)).await.unwrap() else {
        panic!("it was open");
    };
    assert_eq!((ended.status, ended.last_seq, ended.output_bytes), (Status::Completed, 3, 11));
    assert_eq!(store.read(&id("a")).await.unwrap().as_ref(), Some(&*ended));
    let output = [chunk(1, b"one"), chunk(2, b"two"), chunk(3, b"three")];
    assert_eq!(store.output(&id("a"), 0, 100).await.unwrap(), output);

    let late = store.close(&id("a"), closing(vec![chunk(4, b"late")])).await.unwrap();
    assert_eq!(late, Finish::AlreadyEnded(ended));
    assert_eq!(store.output(&id("a"), 0, 100).await.unwrap(), output);
    assert_unknown(store.close(&id("b"), closing(vec![chunk(1, b"one")])).await);
}

/// Written in turn, read apart.
pub async fn outputs_of_several_executions_stay_apart(store: Arc<dyn ExecutionStore>) {
    accept(&*store, new("a")).await;
    accept(&*store, new("b")).await;
    for seq in 1..=20 {
        store.append(&id("a"), vec![chunk(seq, b"a")]).await.unwrap();
        store.append(&id("b"), vec![chunk(seq, b"b")]).await.unwrap();
    }
    for name in ["a", "b"] {
        let stored = store.output(&id(name), 0, usize::MAX).await.unwrap();
        assert_eq!(stored.len(), 20);
        assert!(stored.iter().all(|chunk| chunk.bytes == name.as_bytes()));
    }
}

/// No repetition and no gap, whoever comes first.
pub async fn the_same_chunks_from_two_sides_at_once_are_stored_once(store: Arc<dyn ExecutionStore>) {
    accept(&*store, new("a")).await;
    let mut sides = Vec::new();
    for _ in 0..2 {
        let store = Arc::clone(&store);
        sides.push(tokio::spawn(async move {
            for seq in 1..=50 {
                store.append(&id("a"), vec![chunk(seq, b"xyz")]).await.unwrap();
            }
        }));
    }
    for side in sides {
        side.await.unwrap();
    }
    assert_eq!(seqs(&*store, 0, usize::MAX).await, (1..=50).collect::<Vec<_>>());
    assert_eq!(store.read(&id("a")).await.unwrap().unwrap().output_bytes, 150);
}
