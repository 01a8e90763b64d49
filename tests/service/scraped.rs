//! Reads what Prometheus reads, and is stricter: whatever is not as the two formats are specified fails.

use std::collections::{BTreeMap, BTreeSet};

/// An answer of `/metrics`.
#[derive(Debug, Default)]
pub(crate) struct Scraped {
    /// Every family by the name of its samples, without what a histogram's add; its type, unit and samples.
    pub(crate) families: BTreeMap<String, Found>,
    open: bool,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Found {
    pub(crate) kind: String,
    pub(crate) unit: String,
    pub(crate) help: String,
    /// By the whole name and labels, as they are written.
    pub(crate) samples: BTreeMap<String, f64>,
    pub(crate) labels: BTreeSet<String>,
}

impl Scraped {
    /// Reads Prometheus text 0.0.4 or OpenMetrics 1.0.0.
    #[track_caller]
    pub(crate) fn read(text: &str, open: bool) -> Self {
        let mut scraped = Self { open, ..Self::default() };
        assert!(text.ends_with('\n') && !text.contains('\r'));
        let mut lines: Vec<&str> = text.lines().collect();
        if open {
            assert_eq!(lines.pop(), Some("# EOF"));
        }
        let mut current = String::new();
        for line in lines {
            assert!(!line.is_empty(), "an empty line");
            match line.strip_prefix("# ") {
                Some(comment) => scraped.comment(comment, &mut current),
                None => scraped.sample(line, &current),
            }
        }
        scraped.check();
        scraped
    }

    fn comment(&mut self, comment: &str, current: &mut String) {
        let mut parts = comment.splitn(3, ' ');
        let (word, name, rest) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        is_name(name);
        match word {
            "HELP" => {
                assert!(!self.families.contains_key(name), "`{name}` is there twice");
                assert!(!rest.is_empty() && !rest.ends_with('.'), "{rest}");
                let family = Found { help: rest.into(), ..Found::default() };
                self.families.insert(name.into(), family);
                *current = name.into();
            }
            "TYPE" => {
                assert_eq!(name, current);
                assert!(["counter", "gauge", "histogram"].contains(&rest), "{rest}");
                let family = self.families.get_mut(name).unwrap();
                assert!(family.kind.is_empty() && family.samples.is_empty());
                family.kind = rest.into();
            }
            "UNIT" => {
                assert!(
                    self.open && name == current && name.ends_with(&format!("_{rest}")),
                    "{name}: {rest}"
                );
                self.families.get_mut(name).unwrap().unit = rest.into();
            }
            other => panic!("`# {other}` is no line of either format"),
        }
    }

    fn sample(&mut self, line: &str, current: &str) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = match series.split_once('{') {
            None => (series, Vec::new()),
            Some((name, labels)) => (name, pairs(labels.strip_suffix('}').unwrap())),
        };
        is_name(name);
        let value: f64 = if value == "+Inf" { f64::INFINITY } else { value.parse().unwrap() };
        let family = self.families.get_mut(current).unwrap();
        let end = name.strip_prefix(current).unwrap_or_else(|| panic!("{name} in the family {current}"));
        let allowed: &[&str] = match (family.kind.as_str(), self.open) {
            ("counter", true) => &["_total"],
            ("histogram", _) => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        assert!(allowed.contains(&end), "{name} in the family {current}");
        if family.kind == "counter" {
            assert!(name.ends_with("_total") && value >= 0.0 && value.is_finite(), "{line}");
        }
        let bound = labels.iter().filter(|(name, _)| name == "le").count();
        assert_eq!(bound, usize::from(end == "_bucket"), "{line}");
        family.labels.extend(labels.into_iter().map(|(name, _)| name).filter(|name| name != "le"));
        assert!(family.samples.insert(series.into(), value).is_none(), "{series} is there twice");
    }

    /// Buckets only grow, the last is infinite and equals the count.
    fn check(&self) {
        for (name, family) in &self.families {
            assert!(!family.kind.is_empty(), "{name} has no type");
            if family.kind != "histogram" {
                continue;
            }
            let mut series: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
            for (sample, value) in &family.samples {
                let Some((rest, bound)) = sample.split_once("le=\"") else { continue };
                let bound = bound.split('"').next().unwrap();
                let bound: f64 = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
                let labels = rest.strip_prefix(&format!("{name}_bucket{{")).unwrap().trim_end_matches(',');
                series.entry(labels.into()).or_default().push((bound, *value));
            }
            for (labels, mut buckets) in series {
                buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
                assert!(
                    buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1),
                    "{name}"
                );
                let (last, all) = *buckets.last().unwrap();
                let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
                assert_eq!(
                    (last, Some(&all)),
                    (f64::INFINITY, family.samples.get(&format!("{name}_count{braces}")))
                );
                assert!(family.samples.contains_key(&format!("{name}_sum{braces}")));
            }
        }
    }

    /// Returns one sample.
    #[track_caller]
    pub(crate) fn value(&self, series: &str) -> f64 {
        let found = self.families.values().find_map(|family| family.samples.get(series));
        *found.unwrap_or_else(|| panic!("no `{series}`"))
    }

    pub(crate) fn series(&self) -> BTreeSet<&str> {
        self.families.values().flat_map(|family| family.samples.keys().map(String::as_str)).collect()
    }
}

#[track_caller]
fn is_name(name: &str) {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    assert!(name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(plain), "{name}");
}

/// Reads `name="value"` pairs.
fn pairs(mut text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").unwrap();
        is_name(name);
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next().expect("a value ends") {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    other => panic!("`\\{other}` is no escape"),
                }),
                (_, c) => value.push(c),
            }
        };
        pairs.push((name.to_owned(), value));
        text = &rest[end + 1..];
        text = text.strip_prefix(',').unwrap_or(text);
    }
    pairs
}
