//! Compares what a document shows with what was printed, apart from what differs each time.

/// Says how an output differs from what is shown, if it does. `…` stands for anything.
///
/// What is JSON or an answer of HTTP may be broken into lines at will in a document; of headers it shows those it wants.
/// There, ids and numbers are not compared; and what confines depends on the host.
pub(crate) fn difference(shown: &str, printed: &str) -> Option<String> {
    let matches = if shown.starts_with("HTTP/1.1 ") {
        let (head, body) = shown.split_once("\n\n").unwrap_or((shown, ""));
        let printed = printed.replace('\r', "");
        let (printed_head, printed_body) = printed.split_once("\n\n").unwrap_or((&printed, ""));
        let headers: Vec<String> = printed_head.lines().map(masked).collect();
        let all = head.lines().map(masked).all(|header| headers.iter().any(|there| fits(&header, there)));
        all && fits(&masked(body), &masked(printed_body))
    } else if shown.starts_with(['{', '[']) || shown.contains("\ndata: ") {
        fits(&masked(shown), &masked(printed))
    } else {
        let lines = |text: &str| text.trim_end().lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        fits(&lines(shown), &lines(printed))
    };
    (!matches).then(|| format!("--- shown\n{shown}--- printed\n{printed}"))
}

/// Whether the parts between `…` are there, in order, and nothing beside them.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Takes away what differs from run to run: blanks, ids, cursors, numbers, what confines.
fn masked(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    // Where no control group counts it, the peak of memory is not known.
    let text = without_confinement(&text).replace("\"peakMemoryBytes\":null", "\"peakMemoryBytes\":0");
    let mut masked = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_alphanumeric() || (c == '-' && !word.is_empty()) {
            word.push(c);
            continue;
        }
        masked.push_str(&masked_word(&word));
        word.clear();
        masked.push(c);
    }
    masked.trim_end().to_owned()
}

/// A word that is an id, or the digits of one that is not.
fn masked_word(word: &str) -> String {
    let of_hex = word.len() >= 16 && word.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    if of_hex {
        return "#".into();
    }
    let mut masked = String::new();
    for c in word.chars() {
        match c {
            '0'..='9' if masked.ends_with('#') => {}
            '0'..='9' => masked.push('#'),
            c => masked.push(c),
        }
    }
    masked
}

fn without_confinement(text: &str) -> String {
    let mut parts = text.split("\"confinement\":{");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        kept.push_str("\"confinement\":{}");
        kept.push_str(part.split_once('}').map_or("", |(_, rest)| rest));
    }
    kept
}

#[test]
fn what_differs_each_time_is_not_compared_and_everything_else_is() {
    let same = |shown: &str, printed: &str| difference(shown, printed).is_none();
    assert!(same("a\nb\n", "a\nb\n") && !same("a\n", "a\nb\n") && !same("a 1\n", "a 2\n"));
    assert!(same("a … c\n", "a b c\n") && !same("a … c\n", "a b d\n"));
    let id = "01a20c6f-fd1f-72cb-b122-2b11e5524a9f";
    let printed = format!("{{\"id\":\"{id}\",\"ms\":12,\"confinement\":{{\"level\":\"full\"}},\"x\":true}}");
    assert!(same(
        "{\"id\":\"01a20c6f-fd1f-72cb-b122-000000000000\",\n \"ms\":4,\"confinement\":{},\"x\":true}",
        &printed
    ));
    assert!(same("{\"id\":…}", &printed) && !same("{\"ms\":…}", &printed));
    let answer = "HTTP/1.1 200 OK\r\ndate: now\r\nlink: <x>\r\n\r\n{}\n";
    assert!(same("HTTP/1.1 200 OK\nlink: <x>\n\n{}\n", answer));
    assert!(
        !same("HTTP/1.1 201 Created\nlink: <x>\n\n{}\n", answer)
            && !same("HTTP/1.1 200 OK\nlink: <y>\n\n{}\n", answer)
    );
}
