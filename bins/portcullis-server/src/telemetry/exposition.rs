//! The two text formats that Prometheus reads.
//!
//! *Text 0.0.4* is understood by everything that scrapes; *OpenMetrics 1.0.0* is stricter, names units, and has an end
//! that tells a whole answer from one that was cut. Which one a scraper gets is what it asks for.

use std::fmt::Write;

use http::HeaderMap;
use http::header::ACCEPT;

use super::instruments::Histogram;

/// A family of metrics: everything about it but its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Its name as it is queried, without what a histogram's samples add.
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// `seconds`, `bytes`, or nothing for a plain number.
    pub unit: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means: one sentence, without final stop.
    pub help: &'static str,
}

/// What kind of metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bound, with a sum.
    Histogram,
}

impl Kind {
    /// Returns the word of both formats.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A format of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// Returns the format that a request asks for: OpenMetrics where version 1.0.0 of it is accepted at least as
    /// gladly as plain text, else text. (RFC 9110 §12.5.1.)
    pub(crate) fn wanted(headers: &HeaderMap) -> Self {
        let (mut open, mut text) = (0, 0);
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        for range in values.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut thousandths, mut version) = (1_000, None);
            for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => thousandths = quality(value.trim()),
                    "version" => version = Some(value.trim().trim_matches('"')),
                    _ => {}
                }
            }
            match media_type.as_str() {
                "application/openmetrics-text" if version.is_none_or(|version| version == "1.0.0") => {
                    open = open.max(thousandths);
                }
                "text/plain" => text = text.max(thousandths),
                _ => {}
            }
        }
        if open > 0 && open >= text { Self::OpenMetrics } else { Self::Text }
    }

    /// Returns the media type of an answer.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Reads a weight; what is none counts as nothing.
fn quality(text: &str) -> u32 {
    let weight = text.parse::<f64>().ok().filter(|weight| (0.0..=1.0).contains(weight));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
    weight.map_or(0, |weight| (weight * 1_000.0) as u32)
}

/// An answer in the making: families one after another, each with all of its samples.
pub(crate) struct Exposition {
    format: Format,
    text: String,
    family: &'static str,
    kind: Kind,
}

impl Exposition {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, text: String::with_capacity(64 * 1024), family: "", kind: Kind::Gauge }
    }

    /// Begins a family. What is written to a string does not fail.
    pub(crate) fn family(&mut self, family: &'static Family) -> &mut Self {
        let Family { name, kind, unit, help, .. } = *family;
        // OpenMetrics names a family of counters without the `_total` of its samples.
        let shown = match (self.format, kind) {
            (Format::OpenMetrics, Kind::Counter) => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        let _ = writeln!(self.text, "# HELP {shown} {help}");
        let _ = writeln!(self.text, "# TYPE {shown} {}", kind.as_str());
        if self.format == Format::OpenMetrics && !unit.is_empty() {
            let _ = writeln!(self.text, "# UNIT {shown} {unit}");
        }
        (self.family, self.kind) = (name, kind);
        self
    }

    /// Adds a whole number to the family.
    pub(crate) fn count(&mut self, labels: &[(&str, &str)], value: u64) -> &mut Self {
        let _ = write!(self.text, "{}", self.family);
        self.labels(labels.iter().copied());
        let _ = writeln!(self.text, " {value}");
        self
    }

    /// Adds a number to the family.
    pub(crate) fn number(&mut self, labels: &[(&str, &str)], value: f64) -> &mut Self {
        let _ = write!(self.text, "{}", self.family);
        self.labels(labels.iter().copied());
        let _ = writeln!(self.text, " {}", number(value));
        self
    }

    /// Adds a histogram to the family.
    pub(crate) fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) -> &mut Self {
        let (buckets, sum) = histogram.read();
        let all = buckets.last().map_or(0, |(_, all)| *all);
        for (bound, below) in buckets {
            let _ = write!(self.text, "{}_bucket", self.family);
            self.labels(labels.iter().copied().chain([("le", number(bound).as_str())]));
            let _ = writeln!(self.text, " {below}");
        }
        for (end, value) in [("_sum", number(sum)), ("_count", all.to_string())] {
            let _ = write!(self.text, "{}{end}", self.family);
            self.labels(labels.iter().copied());
            let _ = writeln!(self.text, " {value}");
        }
        self
    }

    fn labels<'a>(&mut self, labels: impl Iterator<Item = (&'a str, &'a str)>) {
        let mut open = '{';
        for (name, value) in labels {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{open}{name}=\"{value}\"");
            open = ',';
        }
        if open == ',' {
            self.text.push('}');
        }
    }

    /// Ends the answer.
    pub(crate) fn end(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// Writes a number as both formats read it; a whole one with `.0`, as OpenMetrics has the bounds of buckets.
fn number(value: f64) -> String {
    if value == f64::INFINITY { "+Inf".into() } else { format!("{value:?}") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;

    use super::*;

    #[track_caller]
    fn wants(accept: Option<&str>, wanted: Format) {
        let value = accept.map(|accept| (ACCEPT, HeaderValue::from_str(accept).unwrap()));
        assert_eq!(Format::wanted(&value.into_iter().collect()), wanted, "{accept:?}");
    }

    #[test]
    fn open_metrics_is_given_to_who_asks_for_it() {
        wants(None, Format::Text);
        wants(Some("*/*"), Format::Text);
        wants(Some("text/plain"), Format::Text);
        wants(Some("application/openmetrics-text"), Format::OpenMetrics);
        wants(Some("application/openmetrics-text; version=1.0.0; charset=utf-8"), Format::OpenMetrics);
        wants(Some("application/openmetrics-text;version=0.0.1"), Format::Text);
        wants(Some("application/openmetrics-text;q=0"), Format::Text);
        wants(Some("application/openmetrics-text;q=0.1, text/plain"), Format::Text);
        wants(Some("application/openmetrics-text;q=nonsense"), Format::Text);
        // What Prometheus 2 and 3 send.
        wants(
            Some(
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            ),
            Format::OpenMetrics,
        );
        wants(Some("text/plain;version=0.0.4;q=1,*/*;q=0.1"), Format::Text);
    }

    const CALLS: Family =
        Family { name: "x_calls_total", kind: Kind::Counter, unit: "", labels: &["who"], help: "Calls" };
    const TIME: Family =
        Family { name: "x_time_seconds", kind: Kind::Histogram, unit: "seconds", labels: &[], help: "Time" };

    fn written(format: Format) -> String {
        let histogram = Histogram::new(&[0.5, 1.0]);
        histogram.see(Duration::from_millis(750));
        let mut exposition = Exposition::new(format);
        exposition.family(&CALLS).count(&[("who", "a\"\\\nb")], 3);
        exposition.family(&TIME).histogram(&[], &histogram);
        exposition.end()
    }

    #[test]
    fn both_formats_are_written_as_they_are_specified() {
        let samples = "x_time_seconds_bucket{le=\"0.5\"} 0\nx_time_seconds_bucket{le=\"1.0\"} 1\n\
                       x_time_seconds_bucket{le=\"+Inf\"} 1\nx_time_seconds_sum 0.75\nx_time_seconds_count 1\n";
        assert_eq!(
            written(Format::Text),
            format!(
                "# HELP x_calls_total Calls\n# TYPE x_calls_total counter\nx_calls_total{{who=\"a\\\"\\\\\\nb\"}} 3\n\
                 # HELP x_time_seconds Time\n# TYPE x_time_seconds histogram\n{samples}"
            )
        );
        assert_eq!(
            written(Format::OpenMetrics),
            format!(
                "# HELP x_calls Calls\n# TYPE x_calls counter\nx_calls_total{{who=\"a\\\"\\\\\\nb\"}} 3\n\
                 # HELP x_time_seconds Time\n# TYPE x_time_seconds histogram\n# UNIT x_time_seconds seconds\n{samples}\
                 # EOF\n"
            )
        );
    }
}
