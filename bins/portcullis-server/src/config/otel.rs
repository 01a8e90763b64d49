//! Where spans go, by the names that OpenTelemetry's specification has for it ("OpenTelemetry Environment Variable
//! Specification", "OpenTelemetry Protocol Exporter").

use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Uri};

use super::values::Parsed;

/// Whether this build can export spans.
pub(super) const EXPORTS: bool = cfg!(feature = "otel");

/// Where spans are posted, with what, and as whose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpConfig {
    /// Where they are posted.
    pub target: Uri,
    /// Headers of each post; `Debug` hides their values.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What describes the service, its name among it.
    pub resource: Vec<(String, String)>,
}

/// Names what is described when nobody else does.
const SERVICE_NAME: &str = "portcullis";

/// Puts together what describes the service: `OTEL_SERVICE_NAME` goes before a name among the attributes.
pub(super) fn resource(
    attributes: Vec<(String, String)>,
    service_name: Option<String>,
) -> Vec<(String, String)> {
    let ours = [
        ("service.name", SERVICE_NAME),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.sdk.name", "portcullis"),
        ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
    ];
    let mut resource: Vec<(String, String)> = Vec::new();
    let ours = ours.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let named = service_name.map(|name| ("service.name".to_owned(), name));
    for (key, value) in ours.into_iter().chain(attributes).chain(named) {
        match resource.iter_mut().find(|(known, _)| *known == key) {
            Some((_, before)) => *before = value,
            None => resource.push((key, value)),
        }
    }
    resource
}

/// Reads the base of a collector: spans go to `v1/traces` beneath it.
pub(super) fn endpoint(text: &str) -> Parsed<Uri> {
    if text.contains(['?', '#']) {
        return Err("a URL without query is accepted, such as `http://127.0.0.1:4318`".into());
    }
    traces_endpoint(text)?;
    traces_endpoint(&format!("{}/v1/traces", text.trim_end_matches('/')))
}

/// Reads where spans go, as it is.
pub(super) fn traces_endpoint(text: &str) -> Parsed<Uri> {
    let url = text.parse::<Uri>().ok();
    let plain = url.filter(|url| {
        let authority = url.authority().filter(|authority| !authority.as_str().contains('@'));
        url.scheme_str() == Some("http") && authority.is_some_and(|authority| !authority.host().is_empty())
    });
    plain.ok_or_else(|| {
        "an `http://` URL without user and password is accepted, such as `http://127.0.0.1:4318`; a collector that \
         wants TLS is reached through one beside the service"
            .into()
    })
}

/// Reads headers, separated by commas.
pub(super) fn headers(text: &str) -> Parsed<Vec<(HeaderName, HeaderValue)>> {
    let header = |(name, value): (String, String)| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let mut value = HeaderValue::from_str(&value).ok()?;
        // Debug then says no more than that.
        value.set_sensitive(true);
        let ours = [CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING].contains(&name);
        (!ours).then_some((name, value))
    };
    pairs(text)?.into_iter().map(header).collect::<Option<_>>().ok_or_else(|| {
        "headers are accepted as `name=value` separated by commas, but for those that belong to every post".into()
    })
}

/// Reads pairs as in a W3C `baggage` header: values are percent-encoded, and blanks around them do not count.
pub(super) fn pairs(text: &str) -> Parsed<Vec<(String, String)>> {
    let pair = |member: &str| {
        let (key, value) = member.split_once('=')?;
        let key = decoded(key.trim())?;
        (!key.is_empty()).then_some((key, decoded(value.trim())?))
    };
    let members = text.split(',').map(str::trim).filter(|member| !member.is_empty());
    members.map(pair).collect::<Option<_>>().ok_or_else(|| {
        "pairs `key=value` separated by commas are accepted; `%` and two hexadecimal digits stand for a byte".into()
    })
}

/// Returns the text that a percent-encoded one stands for (RFC 3986 §2.1).
fn decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        decoded.push(match byte {
            b'%' => (digit(bytes.next()?)? << 4) | digit(bytes.next()?)?,
            plain => plain,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_base_and_one_of_traces_is_taken_as_it_is() {
        let base = |text: &str| endpoint(text).map(|url| url.to_string());
        assert_eq!(base("http://127.0.0.1:4318").as_deref(), Ok("http://127.0.0.1:4318/v1/traces"));
        assert_eq!(
            base("http://collector:4318/otlp/").as_deref(),
            Ok("http://collector:4318/otlp/v1/traces")
        );
        assert_eq!(traces_endpoint("http://c:1").unwrap().to_string(), "http://c:1/");
        assert_eq!(traces_endpoint("http://c:1/x?y=z").unwrap().to_string(), "http://c:1/x?y=z");
        for wrong in
            ["", "https://c:4318", "c:4318", "/x", "http://", "grpc://c:4317", "http://u:p@c", "http://c/?x"]
        {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn headers_are_pairs_whose_values_nobody_sees() {
        let read = headers("api-key=s3cret, x-scope = a%20b%2Cc ,").unwrap();
        let shown: Vec<_> =
            read.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(shown, [("api-key", "s3cret"), ("x-scope", "a b,c")]);
        assert!(!format!("{read:?}").contains("s3cret"));
        for wrong in ["key", "=x", "a b=c", "k=%zz", "k=%2", "k=%0a", "k=%ff", "content-type=x", "Host=x"] {
            let problem = headers(wrong).unwrap_err();
            assert!(
                problem.contains("`name=value`") || problem.contains("`key=value`"),
                "{wrong}: {problem}"
            );
        }
    }

    #[test]
    fn the_name_of_the_service_is_found_where_it_counts_most() {
        let name = |attributes: &str, named: Option<&str>| {
            let resource = resource(pairs(attributes).unwrap(), named.map(str::to_owned));
            let names = resource.iter().filter(|(key, _)| key == "service.name");
            names.map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        assert_eq!(name("", None), ["portcullis"]);
        assert_eq!(name("service.name=a,deployment.environment.name=x", None), ["a"]);
        assert_eq!(name("service.name=a", Some("b")), ["b"]);
    }
}
