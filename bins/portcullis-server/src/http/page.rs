//! The page for people, at `/`: static files that are part of the executable.
//!
//! It is an ordinary caller of the API and has no privilege there. What a browser may do on its behalf is said here,
//! in headers: nothing that is not one of these files is run, drawn or asked.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_NONE_MATCH, REFERRER_POLICY, X_FRAME_OPTIONS,
};
use http::{Response, StatusCode};
use sha2::{Digest as _, Sha256};

use super::body::Body;
use super::failure::Failure;

/// A file of the page.
#[derive(Debug)]
pub(crate) struct File {
    /// Its name below `/page/`.
    pub(crate) name: &'static str,
    media_type: &'static str,
    pub(crate) content: &'static [u8],
}

/// Lists files of `page/`, each with its media type.
macro_rules! files {
    ($($name:literal $media_type:expr,)*) => {
        &[$(File {
            name: $name,
            media_type: $media_type,
            content: include_bytes!(concat!("../../page/", $name)),
        },)*]
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";
const JS: &str = "text/javascript; charset=utf-8";

/// What stands at `/`.
const INDEX: &str = "index.html";

/// Every file there is.
pub(crate) const FILES: &[File] = files! {
    "index.html" HTML,
    "page.css" CSS,
    "icon.svg" SVG,
    "allowed.js" JS,
    "api.js" JS,
    "clipboard.js" JS,
    "composer.js" JS,
    "dom.js" JS,
    "escapes.js" JS,
    "events.js" JS,
    "execution.js" JS,
    "facts.js" JS,
    "health.js" JS,
    "history.js" JS,
    "keys.js" JS,
    "main.js" JS,
    "output.js" JS,
    "preferences.js" JS,
    "screen.js" JS,
    "search.js" JS,
    "session.js" JS,
    "signin.js" JS,
    "text.js" JS,
    "timeline.js" JS,
    "verdict.js" JS,
    "viewer.js" JS,
    "words.js" JS,
};

/// What a browser may do for the page (Content Security Policy Level 3). Scripts and styles are files of this
/// service, never text of the document; only this service is asked; no text ever becomes markup or code, since no Trusted Types policy
/// can be made; no other page frames it, and no form leaves it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

/// Headers of every file beside those of every answer.
const HEADERS: [(HeaderName, &str); 6] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    // For browsers that do not know `frame-ancestors`.
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
];

/// A file as the executable has it, with its validator.
struct Known {
    file: &'static File,
    tag: HeaderValue,
}

static KNOWN: LazyLock<Vec<Known>> = LazyLock::new(|| {
    let known = |file: &'static File| {
        let digest = Sha256::digest(file.content);
        let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        HeaderValue::try_from(format!("\"{hex}\"")).ok().map(|tag| Known { file, tag })
    };
    FILES.iter().filter_map(known).collect()
});

/// Answers with a file, or with 304 when the browser has it. Browsers keep the files and ask each time (RFC 9111
/// §5.2.2.4): after an update nobody sees the page of yesterday.
pub(crate) fn file(name: Option<&str>, asked: &HeaderMap) -> Result<Response<Body>, Failure> {
    let name = name.unwrap_or(INDEX);
    let Known { file, tag } = KNOWN.iter().find(|known| known.file.name == name).ok_or(Failure::NoRoute)?;
    let has_it = has(asked, tag);
    let mut response = Response::new(Body::whole(if has_it { Bytes::new() } else { file.content.into() }));
    if has_it {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(ETAG, tag.clone());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.media_type));
    headers.extend(HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value))));
    Ok(response)
}

/// Whether one of the validators that the browser has is this one (RFC 9110 §13.1.2: compared weakly).
fn has(asked: &HeaderMap, tag: &HeaderValue) -> bool {
    let tags = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    tags.flat_map(|list| list.split(','))
        .map(|one| one.trim().trim_start_matches("W/"))
        .any(|one| one == "*" || one.as_bytes() == tag.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn text(file: &File) -> &str {
        std::str::from_utf8(file.content).unwrap()
    }

    #[test]
    fn the_list_has_every_file_of_the_folder_and_no_other() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let there: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let listed: BTreeSet<String> = FILES.iter().map(|file| file.name.to_owned()).collect();
        assert_eq!(listed, there);
    }

    /// The policy would refuse them, and the page would not work: said when it is built, not when it is opened.
    #[test]
    fn the_page_has_nothing_inline_and_names_no_other_origin() {
        for file in FILES {
            let text = text(file).replace("http://www.w3.org/2000/svg", "");
            for origin in ["http://", "https://", "url(//", "src=\"//", "href=\"//"] {
                assert!(!text.contains(origin), "{} names {origin}", file.name);
            }
            if file.media_type == HTML {
                for inline in [" style=", "<style", " onclick", " onload", " onerror", "javascript:"] {
                    assert!(!text.contains(inline), "{} has {inline}", file.name);
                }
                assert_eq!(
                    text.matches("<script").count(),
                    text.matches("<script type=\"module\" src=").count()
                );
            }
        }
    }

    #[test]
    fn no_script_of_the_page_makes_markup_or_code_of_text() {
        for file in FILES.iter().filter(|file| file.media_type == JS) {
            for sink in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "setHTML",
                "srcdoc",
                "createContextualFragment",
                "parseFromString",
                "localStorage.setItem(TOKEN",
            ] {
                assert!(!text(file).contains(sink), "{} has {sink}", file.name);
            }
        }
    }

    #[test]
    fn what_one_file_imports_or_links_is_there() {
        for file in FILES {
            let text = text(file);
            let imported = text.split("from \"./").skip(1);
            let linked = text.split("=\"/page/").skip(1);
            for name in imported.chain(linked).filter_map(|rest| rest.split('"').next()) {
                assert!(FILES.iter().any(|file| file.name == name), "{} wants {name}", file.name);
            }
        }
    }

    #[test]
    fn a_browser_that_has_a_file_is_told_so() {
        let first = file(None, &HeaderMap::new()).unwrap();
        let tag = first.headers()[ETAG].to_str().unwrap().to_owned();
        for (value, wanted) in [
            (tag.clone(), 304),
            (format!("W/{tag}"), 304),
            (format!("\"other\", {tag}"), 304),
            ("*".to_owned(), 304),
            ("\"other\"".to_owned(), 200),
            (String::new(), 200),
        ] {
            let asked = HeaderMap::from_iter([(IF_NONE_MATCH, value.parse().unwrap())]);
            let answer = file(None, &asked).unwrap();
            assert_eq!(answer.status(), wanted, "{value}");
            assert_eq!(answer.headers()[ETAG], tag.as_str());
            assert!(
                answer.headers()[CONTENT_SECURITY_POLICY]
                    .to_str()
                    .unwrap()
                    .contains("frame-ancestors 'none'")
            );
        }
    }
}
