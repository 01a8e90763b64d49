//! The service's own log, on standard error: for people on a terminal, else one JSON object a line.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people when standard error is a terminal, else JSON.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Starts to log, panics included. Does nothing when something else of the process has done so.
pub fn start(filter: &str, format: LogFormat) {
    let human = match format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    // The configuration has been checked: what is wrong here is wrong in a way that leaves a log better than none.
    let builder = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(filter)).with_ansi(false);
    let _ = if human {
        builder.with_target(false).with_writer(OneLine).try_init()
    } else {
        builder.json().flatten_event(true).with_span_list(false).with_writer(io::stderr).try_init()
    };
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let reason =
            text.or(payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason given");
        let place = panic.location().map(ToString::to_string);
        tracing::error!(reason, place, "a mistake of ours: panicked");
    }));
}

/// Writes each event to standard error as exactly one line, whatever its values hold: what a caller sent must
/// not forge a line or drive a terminal. (JSON escapes by itself.)
struct OneLine;

struct OneLineWriter {
    line: Vec<u8>,
}

impl<'a> MakeWriter<'a> for OneLine {
    type Writer = OneLineWriter;

    fn make_writer(&'a self) -> OneLineWriter {
        OneLineWriter { line: Vec::new() }
    }
}

impl Write for OneLineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for OneLineWriter {
    fn drop(&mut self) {
        // Nobody is left to be told when standard error cannot be written.
        let _ = io::stderr().lock().write_all(escaped(&self.line).as_bytes());
    }
}

/// Escapes every control character but the last newline.
fn escaped(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let mut escaped = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        if c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped.push('\n');
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_it_holds() {
        assert_eq!(escaped(b"plain \xc3\xa4\n"), "plain ä\n");
        assert_eq!(escaped(b"a\nINFO forged\r\x1b[2J\x9b\n"), "a\\nINFO forged\\r\\u{1b}[2J\u{fffd}\n");
        assert_eq!(escaped("\u{202e}\u{9b}".as_bytes()), "\\u{202e}\\u{9b}\n");
    }
}
