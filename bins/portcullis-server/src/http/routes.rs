//! The one table of routes.

use http::Method;

/// A route: a method, a path, and what answers there.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) method: Method,
    /// Segments that begin with `:` stand for one segment that is not empty.
    pub(crate) path: &'static str,
    pub(crate) endpoint: Endpoint,
    /// The path that takes its place, where it is kept for callers of the earlier service alone.
    pub(crate) successor: Option<&'static str>,
}

/// What answers at a route. The kind decides whether a caller must show who it is: only a private endpoint
/// is given a principal, and it is given nothing else without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// Answers anybody, and says nothing that is anybody's.
    Open(Open),
    /// Answers who holds a token.
    Private(Private),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Open {
    /// That requests are answered.
    Alive,
    /// Whether new work is taken.
    Ready,
    Problem,
    /// A file of the page for people.
    Page,
    /// The description of this table for programs.
    Description,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Private {
    Submit,
    List,
    Read,
    Cancel,
    Events,
    Output,
    Validate,
    Allowed,
    Execute,
    EarlierSubmit,
    EarlierRead,
    EarlierCancel,
    Metrics,
}

const fn open(method: Method, path: &'static str, endpoint: Open) -> Route {
    Route { method, path, endpoint: Endpoint::Open(endpoint), successor: None }
}

const fn private(method: Method, path: &'static str, endpoint: Private) -> Route {
    Route { method, path, endpoint: Endpoint::Private(endpoint), successor: None }
}

impl Route {
    /// Marks a route as deprecated.
    const fn succeeded_by(mut self, path: &'static str) -> Self {
        self.successor = Some(path);
        self
    }

    /// Returns the path that takes the place of this one for a request.
    pub(crate) fn successor(&self, values: &[&str]) -> Option<String> {
        let plain = |value: &&&str| {
            value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:%".contains(&byte))
        };
        let mut values = values.iter().filter(plain);
        let filled = self.successor?.split('/').map(|segment| match segment.starts_with(':') {
            true => values.next().copied().unwrap_or(segment),
            false => segment,
        });
        Some(filled.collect::<Vec<_>>().join("/"))
    }
}

/// Every route there is; each is described in `openapi.json`, which a test holds against this table. `HEAD` follows from `GET`; `OPTIONS` is answered everywhere.
pub(crate) const ROUTES: &[Route] = &[
    open(Method::GET, "/", Open::Page),
    open(Method::GET, "/page/:file", Open::Page),
    open(Method::GET, "/health", Open::Alive),
    open(Method::GET, "/livez", Open::Alive),
    open(Method::GET, "/readyz", Open::Ready),
    open(Method::GET, "/openapi.json", Open::Description),
    open(Method::GET, "/problems/:family/:detail", Open::Problem),
    private(Method::POST, "/api/commands", Private::Submit),
    private(Method::GET, "/api/commands", Private::List),
    private(Method::GET, "/api/commands/allowed", Private::Allowed),
    private(Method::POST, "/api/commands/validate", Private::Validate),
    private(Method::POST, "/api/commands/execute", Private::Execute),
    private(Method::GET, "/api/commands/:id", Private::Read),
    private(Method::POST, "/api/commands/:id/cancel", Private::Cancel),
    private(Method::GET, "/api/commands/:id/events", Private::Events),
    private(Method::GET, "/api/commands/:id/output", Private::Output),
    private(Method::POST, "/api/execute", Private::EarlierSubmit).succeeded_by("/api/commands"),
    private(Method::GET, "/api/execution/:id", Private::EarlierRead).succeeded_by("/api/commands/:id"),
    private(Method::POST, "/api/execution/:id/cancel", Private::EarlierCancel)
        .succeeded_by("/api/commands/:id/cancel"),
    private(Method::GET, "/metrics", Private::Metrics),
];

/// Returns every route's method and path, for who holds something else against the table.
#[must_use]
pub fn table() -> Vec<(Method, &'static str)> {
    ROUTES.iter().map(|route| (route.method.clone(), route.path)).collect()
}

/// Returns the path of every route, once.
pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
    let first = |at: usize, path: &str| !ROUTES.iter().take(at).any(|before| before.path == path);
    ROUTES.iter().enumerate().filter(move |(at, route)| first(*at, route.path)).map(|(_, route)| route.path)
}

/// What the table has for a request.
#[derive(Debug)]
pub(crate) enum Found<'p> {
    /// This route, with what stands at its `:` segments, still percent-encoded.
    Route(&'static Route, Vec<&'p str>),
    /// The path, with these methods.
    Methods(Vec<Method>),
    /// Nothing.
    Nothing,
}

/// Looks a request up. Of several paths that match, the one with the fewest `:` segments counts alone.
pub(crate) fn find<'p>(method: &Method, path: &'p str) -> Found<'p> {
    let matching = || ROUTES.iter().filter_map(|route| Some((route, matched(route.path, path)?)));
    let Some(fewest) = matching().map(|(_, values)| values.len()).min() else {
        return Found::Nothing;
    };
    let candidates = matching().filter(|(_, values)| values.len() == fewest);
    let wanted = if method == Method::HEAD { &Method::GET } else { method };
    let mut methods = Vec::new();
    for (route, values) in candidates {
        if route.method == wanted {
            return Found::Route(route, values);
        }
        methods.push(route.method.clone());
        if route.method == Method::GET {
            methods.push(Method::HEAD);
        }
    }
    methods.push(Method::OPTIONS);
    Found::Methods(methods)
}

/// Compares a path with a route's, segment by segment, and returns what stands at the `:` segments.
fn matched<'p>(route: &str, path: &'p str) -> Option<Vec<&'p str>> {
    let mut values = Vec::new();
    let mut segments = path.split('/');
    for expected in route.split('/') {
        let segment = segments.next()?;
        if !expected.starts_with(':') {
            if segment != expected {
                return None;
            }
        } else if segment.is_empty() {
            return None;
        } else {
            values.push(segment);
        }
    }
    segments.next().is_none().then_some(values)
}

/// Decodes a percent-encoded text (RFC 3986 §2.1); `None` when it is not well formed or not UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// Encodes a text so that it is one value of a query (RFC 3986 §2.3: all but the unreserved).
pub(crate) fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Reads the parameters of a query, in order; `None` when it is not well formed.
pub(crate) fn query_parameters(query: &str) -> Option<Vec<(String, String)>> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // WHATWG URL, application/x-www-form-urlencoded: a plus stands for a blank.
            Some((percent_decode(&name.replace('+', " "))?, percent_decode(&value.replace('+', " "))?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: Method, path: &str, wanted: &str) {
        let found = match find(&method, path) {
            Found::Route(route, values) => format!("{:?} {}", route.endpoint, values.join(" ")),
            Found::Methods(methods) => methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", "),
            Found::Nothing => "nothing".into(),
        };
        assert_eq!(found.trim_end(), wanted, "{method} {path}");
    }

    #[test]
    fn paths_lead_to_their_endpoints() {
        check(Method::GET, "/", "Open(Page)");
        check(Method::GET, "/page/main.js", "Open(Page) main.js");
        check(Method::GET, "/health", "Open(Alive)");
        check(Method::GET, "/readyz", "Open(Ready)");
        check(Method::HEAD, "/health", "Open(Alive)");
        check(Method::POST, "/api/commands", "Private(Submit)");
        check(Method::GET, "/api/commands/test-123", "Private(Read) test-123");
        check(Method::GET, "/api/commands/a%2Fb", "Private(Read) a%2Fb");
        check(Method::POST, "/api/commands/x/cancel", "Private(Cancel) x");
        check(Method::GET, "/problems/execution/not-found", "Open(Problem) execution not-found");
    }

    #[test]
    fn a_literal_path_goes_before_an_id() {
        check(Method::GET, "/api/commands/allowed", "Private(Allowed)");
        check(Method::GET, "/api/commands/validate", "POST, OPTIONS");
    }

    #[test]
    fn what_is_not_in_the_table_is_nothing() {
        for path in [
            "",
            "//",
            "/page/",
            "*",
            "/healthz",
            "/health/",
            "/api/commands/",
            "/api/commands//cancel",
            "/api/commands/a/b",
        ] {
            check(Method::GET, path, "nothing");
        }
        check(Method::DELETE, "/api/commands/x", "GET, HEAD, OPTIONS");
    }

    #[test]
    fn percent_encoding_is_decoded_strictly() {
        for (text, wanted) in [
            ("a%2Fb%00", Some("a/b\0")),
            ("%c3%A4", Some("ä")),
            ("%", None),
            ("%4", None),
            ("%+1", None),
            ("%ff", None),
        ] {
            assert_eq!(percent_decode(text).as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_encoded_is_decoded_again() {
        let text = "a b&c=ä/%\0~";
        assert_eq!(percent_encode(text), "a%20b%26c%3D%C3%A4%2F%25%00~");
        assert_eq!(percent_decode(&percent_encode(text)).as_deref(), Some(text));
    }

    #[test]
    fn queries_are_pairs() {
        let pairs = query_parameters("a=1&b=x+y%26&&c").unwrap();
        let wanted = [("a", "1"), ("b", "x y&"), ("c", "")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(pairs, wanted);
        assert_eq!(query_parameters("a=%zz"), None);
    }
}
