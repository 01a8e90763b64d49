//! The page at `/`, as files. What it does in a browser is in `tests/page`.

use portcullis_api::ProblemCode as Code;

use crate::served::Served;

#[tokio::test]
async fn the_page_is_given_to_anybody_with_headers_that_bind_the_browser() {
    let served = Served::start().await;
    for (path, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/page/page.css", "text/css; charset=utf-8"),
        ("/page/main.js", "text/javascript; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
    ] {
        let answer = served.request("GET", path).token(None).send().await.expect_status(200);
        assert_eq!(answer.header("content-type"), media_type, "{path}");
        assert_eq!(answer.header("cache-control"), "no-cache", "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(answer.header("cross-origin-opener-policy"), "same-origin", "{path}");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin", "{path}");
        let policy = answer.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self';",
            "style-src 'self';",
            "connect-src 'self';",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {part} in {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        let tag = answer.header("etag");
        let again = served.request("GET", path).token(None).header("if-none-match", tag).send().await;
        let again = again.expect_status(304);
        assert_eq!((again.header("etag"), again.body.len()), (tag, 0), "{path}");
    }
}

#[tokio::test]
async fn the_page_has_no_other_files() {
    let served = Served::start().await;
    for path in
        ["/page/", "/page/none.js", "/page/..%2fmain.js", "/page/a/main.js", "/index.html", "/favicon.ico"]
    {
        served.get(path).await.expect_status(404).expect_problem(Code::RouteUnknown);
    }
    served.request("POST", "/").send().await.expect_status(405).expect_problem(Code::RouteMethod);
    let head = served.request("HEAD", "/").token(None).send().await.expect_status(200);
    assert_eq!(head.body.len(), 0);
}
