//! Server-sent events, as the HTML Living Standard has them (§9.2.6, "Interpreting an event stream").

use std::time::Duration;

/// The largest event that is taken, in bytes of its `data`. The service's output events are far below.
const EVENT_LIMIT_BYTES: usize = 16 << 20;

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// The `event:` field; `message` when there was none.
    pub(crate) kind: String,
    /// The `data:` lines, joined by newlines.
    pub(crate) data: String,
}

/// Turns the bytes of a stream into events, wherever the bytes are cut.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    /// The last byte was CR: an LF that follows belongs to the same end of line.
    after_cr: bool,
    begun: bool,
    kind: String,
    data: String,
    has_data: bool,
    id: Option<String>,
    retry: Option<Duration>,
}

/// A stream that is not to be read on: one of its events has no end in sight.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {EVENT_LIMIT_BYTES} bytes")]
pub(crate) struct EventTooLarge;

impl Parser {
    /// Takes bytes and gives each event that they complete to `each`, with the id that is in force after it.
    ///
    /// # Errors
    /// When an event is larger than a service of ours sends.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Event, Option<&str>),
    ) -> Result<(), EventTooLarge> {
        for &byte in bytes {
            let ended_by_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if ended_by_cr => {}
                b'\n' | b'\r' => {
                    if let Some(event) = self.end_line() {
                        each(event, self.id.as_deref());
                    }
                }
                _ => {
                    if self.line.len() + self.data.len() >= EVENT_LIMIT_BYTES {
                        return Err(EventTooLarge);
                    }
                    self.line.push(byte);
                }
            }
        }
        Ok(())
    }

    /// Returns the `retry:` of the stream, if it gave one.
    pub(crate) fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// Interprets a whole line; an empty one ends the event.
    fn end_line(&mut self) -> Option<Event> {
        let mut bytes = std::mem::take(&mut self.line);
        if !std::mem::replace(&mut self.begun, true) && bytes.starts_with(b"\xef\xbb\xbf") {
            bytes.drain(..3);
        }
        if bytes.is_empty() {
            return self.end_event();
        }
        let line = String::from_utf8_lossy(&bytes);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => {
                self.retry = value.parse().ok().map(Duration::from_millis);
            }
            // Comments (an empty field name) keep the connection alive; unknown fields are for later versions.
            _ => {}
        }
        None
    }

    fn end_event(&mut self) -> Option<Event> {
        let kind = std::mem::take(&mut self.kind);
        let data = std::mem::take(&mut self.data);
        std::mem::take(&mut self.has_data)
            .then(|| Event { kind: if kind.is_empty() { "message".into() } else { kind }, data })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Seen = Vec<(String, String, Option<String>)>;

    fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Seen, Option<Duration>) {
        let mut parser = Parser::default();
        let mut seen = Vec::new();
        for chunk in chunks {
            parser
                .push(chunk, |event, id| seen.push((event.kind, event.data, id.map(str::to_owned))))
                .unwrap();
        }
        (seen, parser.retry())
    }

    #[track_caller]
    fn check(stream: &str, wanted: &[(&str, &str, Option<&str>)]) {
        let (seen, _) = read([stream.as_bytes()]);
        let seen: Vec<_> = seen.iter().map(|(k, d, i)| (k.as_str(), d.as_str(), i.as_deref())).collect();
        assert_eq!(seen, wanted);
    }

    #[test]
    fn fields_make_an_event_and_a_blank_line_ends_it() {
        check("event: output\nid: 7\ndata: {}\n\n", &[("output", "{}", Some("7"))]);
    }

    #[test]
    fn data_lines_are_joined_and_only_one_blank_after_the_colon_is_dropped() {
        check("data:a\ndata:  b\ndata\n\n", &[("message", "a\n b\n", None)]);
    }

    #[test]
    fn lines_end_with_lf_or_cr_or_both() {
        check(
            "data: a\r\ndata: b\rdata: c\n\r\ndata: d\r\r",
            &[("message", "a\nb\nc", None), ("message", "d", None)],
        );
    }

    #[test]
    fn comments_unknown_fields_and_a_byte_order_mark_are_passed_over() {
        check("\u{feff}data: a\n: heartbeat\nfuture: x\n\n:\n\n", &[("message", "a", None)]);
    }

    #[test]
    fn an_id_stays_in_force_and_one_with_nul_is_ignored() {
        check(
            "id: 1\ndata: a\n\nid: 2\0\ndata: b\n\nid: 3\n\ndata: c\n\n",
            &[("message", "a", Some("1")), ("message", "b", Some("1")), ("message", "c", Some("3"))],
        );
    }

    #[test]
    fn an_event_without_data_or_without_its_blank_line_does_not_count() {
        check("event: status\n\ndata: cut", &[]);
    }

    #[test]
    fn retry_is_taken_when_it_is_a_number() {
        assert_eq!(read([&b"retry: 250\n"[..]]).1, Some(Duration::from_millis(250)));
        assert_eq!(read([&b"retry: soon\nretry: -1\nretry:\n"[..]]).1, None);
    }

    #[test]
    fn an_event_without_end_is_refused_and_memory_stays_bounded() {
        let mut parser = Parser::default();
        let block = vec![b'x'; 1 << 20];
        let refused = (0..64).find(|_| parser.push(&block, |_, _| {}).is_err());
        assert_eq!(refused, Some(16));
    }

    /// Text made of what streams are made of, so that borders fall inside everything.
    fn stream() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("data:".to_owned()),
            Just("data: ".to_owned()),
            Just("id: ".to_owned()),
            Just("event: ".to_owned()),
            Just("retry: 5".to_owned()),
            Just("\n".to_owned()),
            Just("\r".to_owned()),
            Just("\r\n".to_owned()),
            Just(":".to_owned()),
            Just("\u{feff}".to_owned()),
            "[a-zäß€🦀\0]{0,3}",
        ];
        proptest::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn events_are_the_same_wherever_the_bytes_are_cut(
            text in stream(),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
        ) {
            let bytes = text.as_bytes();
            let mut borders: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            borders.extend([0, bytes.len()]);
            borders.sort_unstable();
            let chunks = borders.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
            prop_assert_eq!(read(chunks), read([bytes]));
        }
    }
}
