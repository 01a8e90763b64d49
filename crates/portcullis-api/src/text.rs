use portcullis_core::{OutputChunk, OutputStream};

/// Output as text, gathered chunk by chunk in order of arrival.
///
/// Bytes that are not UTF-8 become U+FFFD. A character that a chunk's border cuts in two is put together
/// again, for each stream apart, and stands where its last byte arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputText {
    both: String,
    stdout: Decoded,
    stderr: Decoded,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Decoded {
    text: String,
    /// The beginning of a character whose rest has not arrived: at most three bytes.
    open: Vec<u8>,
}

impl OutputText {
    /// Adds a chunk.
    pub fn push(&mut self, chunk: &OutputChunk) {
        let stream = match chunk.stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        };
        let from = stream.text.len();
        stream.push(&chunk.bytes);
        self.both.push_str(stream.text.get(from..).unwrap_or_default());
    }

    /// Ends both streams: a character that is still open counts as invalid.
    pub fn close(&mut self) {
        for stream in [&mut self.stdout, &mut self.stderr] {
            if !stream.open.is_empty() {
                stream.open.clear();
                stream.text.push(char::REPLACEMENT_CHARACTER);
                self.both.push(char::REPLACEMENT_CHARACTER);
            }
        }
    }

    /// Returns both streams without their last newline, as a record shows them.
    #[must_use]
    pub fn output(&self) -> &str {
        self.both.strip_suffix('\n').unwrap_or(&self.both)
    }

    /// Returns one stream, complete.
    #[must_use]
    pub fn stream(&self, stream: OutputStream) -> &str {
        match stream {
            OutputStream::Stdout => &self.stdout.text,
            OutputStream::Stderr => &self.stderr.text,
        }
    }
}

impl Decoded {
    fn push(&mut self, bytes: &[u8]) {
        let joined;
        let mut rest = if self.open.is_empty() {
            bytes
        } else {
            joined = [self.open.as_slice(), bytes].concat();
            self.open.clear();
            joined.as_slice()
        };
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => return self.text.push_str(valid),
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    self.text.push_str(&String::from_utf8_lossy(valid));
                    let Some(invalid) = error.error_len() else {
                        self.open = after.to_vec();
                        return;
                    };
                    self.text.push(char::REPLACEMENT_CHARACTER);
                    rest = after.get(invalid..).unwrap_or_default();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    fn gather(chunks: &[(OutputStream, &[u8])]) -> OutputText {
        let mut text = OutputText::default();
        for (seq, (stream, bytes)) in (1..).zip(chunks) {
            let at = OffsetDateTime::UNIX_EPOCH;
            text.push(&OutputChunk { seq, stream: *stream, at, bytes: bytes.to_vec() });
        }
        text.close();
        text
    }

    #[test]
    fn the_last_newline_is_left_out_of_output_alone() {
        let text = gather(&[(OutputStream::Stdout, b"Hello, World!\n")]);
        assert_eq!(text.output(), "Hello, World!");
        assert_eq!(text.stream(OutputStream::Stdout), "Hello, World!\n");
        assert_eq!(gather(&[(OutputStream::Stdout, b"a\n\n")]).output(), "a\n");
    }

    #[test]
    fn a_character_cut_by_a_border_or_by_the_other_stream_is_put_together() {
        let text = gather(&[
            (OutputStream::Stdout, b"a\xf0\x9f"),
            (OutputStream::Stderr, b"E\xc3"),
            (OutputStream::Stdout, b"\xa6\x80b"),
            (OutputStream::Stderr, b"\xa4"),
        ]);
        assert_eq!(text.output(), "aE🦀bä");
        assert_eq!(text.stream(OutputStream::Stdout), "a🦀b");
        assert_eq!(text.stream(OutputStream::Stderr), "Eä");
    }

    #[test]
    fn invalid_bytes_become_replacement_characters_as_the_standard_library_does_it() {
        for bytes in [&b"\xff\xfe"[..], b"a\xc3(", b"\xed\xa0\x80", b"x\xf0\x9f", b"\xe2\x82\xe2\x82\xac"] {
            assert_eq!(gather(&[(OutputStream::Stdout, bytes)]).output(), String::from_utf8_lossy(bytes));
        }
    }
}
