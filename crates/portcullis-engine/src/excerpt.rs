//! As much of a finished execution's output as listeners are told.

use std::collections::VecDeque;

use portcullis_core::{Execution, OutputChunk, OutputStream, Reason, Status, Update};

use crate::newest::{is_blank, shown};

/// Bytes kept of the beginning, and again of the end, of each stream.
const HALF_BYTES: usize = 64 * 1024;

/// The beginning and the end of both streams of an execution.
#[derive(Default)]
pub(crate) struct Excerpt {
    stdout: Ends,
    stderr: Ends,
}

#[derive(Default)]
struct Ends {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    left_out: u64,
}

impl Excerpt {
    pub(crate) fn read(&mut self, chunk: &OutputChunk) {
        match chunk.stream {
            OutputStream::Stdout => self.stdout.read(&chunk.bytes),
            OutputStream::Stderr => self.stderr.read(&chunk.bytes),
        }
    }

    /// Returns the terminal update of an execution with this output.
    pub(crate) fn update(self, execution: &Execution) -> Update {
        let message = execution.ending.as_ref().and_then(|ending| ending.message.clone());
        let by_itself = execution
            .ending
            .as_ref()
            .is_some_and(|ending| matches!(ending.reason, Reason::Exit | Reason::Signal));
        let (output, error) = match execution.status {
            Status::Cancelled => (Some("Execution cancelled by user".into()), None),
            Status::Completed => (self.stdout.lines(), None),
            Status::Timeout => (self.stdout.lines(), Some("Execution timed out".into())),
            // What the line itself said about its failure is more than what we can say.
            _ if by_itself => (self.stdout.lines(), self.stderr.lines().or(message)),
            _ => (self.stdout.lines(), join(message, self.stderr.lines())),
        };
        Update {
            id: execution.id.clone(),
            status: execution.status,
            progress: 100,
            output,
            error,
            trace: execution.trace(),
        }
    }
}

impl Ends {
    fn read(&mut self, bytes: &[u8]) {
        let room = HALF_BYTES - self.head.len();
        let (head, tail) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(head);
        self.tail.extend(tail);
        let over = self.tail.len().saturating_sub(HALF_BYTES);
        self.tail.drain(..over);
        self.left_out += over as u64;
    }

    /// Returns the lines that are not blank. Where the middle is missing a line says so, in place of the
    /// lines that were cut.
    fn lines(mut self) -> Option<String> {
        let tail = self.tail.make_contiguous();
        let text = if self.left_out == 0 {
            self.head.extend_from_slice(tail);
            not_blank(&self.head).join("\n")
        } else {
            let head_end = self.head.iter().rposition(|&byte| byte == b'\n').unwrap_or(self.head.len());
            let tail_start = tail.iter().position(|&byte| byte == b'\n').unwrap_or(0);
            let (head, cut) = self.head.split_at(head_end);
            let (cut_too, tail) = tail.split_at(tail_start);
            let left_out = self.left_out + (cut.len() + cut_too.len()) as u64;
            let mut lines = not_blank(head);
            lines.push(format!("[{left_out} bytes left out]"));
            lines.append(&mut not_blank(tail));
            lines.join("\n")
        };
        (!text.is_empty()).then_some(text)
    }
}

fn not_blank(bytes: &[u8]) -> Vec<String> {
    bytes.split(|&byte| byte == b'\n').filter(|line| !is_blank(line)).map(shown).collect()
}

fn join(first: Option<String>, second: Option<String>) -> Option<String> {
    match (first, second) {
        (Some(first), Some(second)) => Some(format!("{first}\n{second}")),
        (first, second) => first.or(second),
    }
}

#[cfg(test)]
mod tests {
    use portcullis_core::{Ending, Limits};
    use time::OffsetDateTime;

    use super::*;

    fn execution(status: Status, reason: Reason, message: Option<&str>) -> Execution {
        Execution {
            id: portcullis_core::ExecutionId::parse("x").unwrap(),
            owner: "1".into(),
            owner_name: "ann".into(),
            command: "true".into(),
            fingerprint: portcullis_core::Fingerprint([0; 32]),
            programs: vec![],
            rules: vec![],
            limits: Limits::default(),
            accepted_at: OffsetDateTime::UNIX_EPOCH,
            provenance: portcullis_core::Provenance::default(),
            started_at: None,
            confinement: None,
            status,
            last_seq: 0,
            output_bytes: 0,
            ending: Some(Ending {
                status,
                reason,
                exit_code: None,
                signal: None,
                ended_at: OffsetDateTime::UNIX_EPOCH,
                usage: None,
                truncated: false,
                message: message.map(str::to_owned),
            }),
        }
    }

    fn excerpt(pieces: &[(OutputStream, &[u8])]) -> Excerpt {
        let mut excerpt = Excerpt::default();
        for (seq, (stream, bytes)) in (1..).zip(pieces) {
            let at = OffsetDateTime::UNIX_EPOCH;
            excerpt.read(&OutputChunk { seq, stream: *stream, at, bytes: bytes.to_vec() });
        }
        excerpt
    }

    #[track_caller]
    fn check(execution: &Execution, output: Option<&str>, error: Option<&str>) {
        use OutputStream::{Stderr, Stdout};
        let pieces: [(_, &[u8]); 4] =
            [(Stdout, b"one\n\nt"), (Stderr, b"bad\r\n"), (Stdout, b"wo \xc3"), (Stdout, b"\xa9\n")];
        let update = excerpt(&pieces).update(execution);
        assert_eq!((update.output.as_deref(), update.error.as_deref()), (output, error));
        assert_eq!((update.status, update.progress), (execution.status, 100));
    }

    #[test]
    fn terminal_updates_say_what_the_contract_says() {
        use {Reason as R, Status as S};
        let out = Some("one\ntwo é");
        check(&execution(S::Completed, R::Exit, None), out, None);
        check(&execution(S::Failed, R::Exit, Some("it ended with exit code 2")), out, Some("bad"));
        check(&execution(S::Failed, R::MemoryLimit, Some("memory")), out, Some("memory\nbad"));
        check(&execution(S::Timeout, R::TimeLimit, Some("time")), out, Some("Execution timed out"));
        check(&execution(S::Cancelled, R::Cancelled, None), Some("Execution cancelled by user"), None);
        check(&execution(S::Lost, R::ServiceDied, Some("died")), out, Some("died\nbad"));
    }

    #[test]
    fn failure_without_a_word_is_told_with_its_message() {
        let failed = execution(Status::Failed, Reason::Exit, Some("it ended with exit code 2"));
        let update = excerpt(&[]).update(&failed);
        assert_eq!((update.output, update.error.as_deref()), (None, Some("it ended with exit code 2")));
    }

    #[test]
    fn long_output_keeps_its_beginning_and_its_end_in_bounded_memory() {
        let lines: Vec<String> = (0..100_000).map(|n| format!("line {n:06}")).collect();
        let bytes = lines.join("\n").into_bytes();
        let pieces: Vec<_> = bytes.chunks(1_000).map(|piece| (OutputStream::Stdout, piece)).collect();
        let text = excerpt(&pieces).update(&execution(Status::Completed, Reason::Exit, None)).output.unwrap();
        assert!(text.len() < 2 * HALF_BYTES + 100, "{}", text.len());
        assert!(text.starts_with("line 000000\nline 000001\n") && text.ends_with("\nline 099999"));
        let told = text.lines().filter(|line| line.len() != "line 000000".len()).collect::<Vec<_>>();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].ends_with(" bytes left out]"));
    }
}
