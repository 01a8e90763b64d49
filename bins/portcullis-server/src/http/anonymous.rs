//! Who acts when nobody says who: nobody, unless the operator has named somebody.
//!
//! Callers of the earlier service send no token. Where they are to work unchanged, requests without one act as one user
//! of the operator's naming. That is for programs near by: a page in a browser never gets it, nor does what came
//! through a proxy, since then nobody knows from where.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE, FORWARDED, ORIGIN, VIA};
use http::request::Parts;
use portcullis_core::Principal;

/// The id of the user that acts for whoever sends no token. No user of an Auth Service has it: theirs are numbers.
const ID: &str = "anonymous";

/// Headers that only browsers send, or proxies.
const NOT_FROM_A_PROGRAM_NEAR_BY: [HeaderName; 9] = [
    ORIGIN,
    COOKIE,
    HeaderName::from_static("sec-fetch-site"),
    HeaderName::from_static("sec-fetch-mode"),
    HeaderName::from_static("sec-fetch-dest"),
    FORWARDED,
    VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-real-ip"),
];

/// The user that acts for requests without a token, and where those may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anonymous {
    principal: Principal,
    from: Vec<Network>,
}

impl Anonymous {
    /// Lets requests from these networks act as a user of this name with these roles.
    #[must_use]
    pub fn new(name: String, roles: Vec<String>, from: Vec<Network>) -> Self {
        let roles = roles.into_iter().collect();
        Self { principal: Principal { id: ID.into(), name, roles, ..Principal::local() }, from }
    }

    /// Returns the user's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.principal.name
    }

    /// Returns where requests may come from, as it is written.
    #[must_use]
    pub fn networks(&self) -> String {
        self.from.iter().map(Network::to_string).collect::<Vec<_>>().join(", ")
    }

    /// Returns who acts for a request, if anybody. One that says who asks, and is wrong, is nobody's.
    pub(crate) fn principal(&self, request: &Parts, peer: IpAddr) -> Option<&Principal> {
        let near = self.from.iter().any(|network| network.holds(peer));
        let says = |name: &HeaderName| request.headers.contains_key(name);
        let fits = near && !says(&AUTHORIZATION) && !NOT_FROM_A_PROGRAM_NEAR_BY.iter().any(says);
        fits.then_some(&self.principal)
    }
}

/// A range of addresses that share their first bits (RFC 4632 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// Reads `192.0.2.0/24`, `fd00::/8`, or one address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { Ipv4Addr::BITS } else { Ipv6Addr::BITS };
        let plain = |bits: &str| bits.bytes().all(|byte| byte.is_ascii_digit()).then(|| bits.parse().ok())?;
        let bits = bits.map_or(Some(most), plain).filter(|bits| *bits <= most)?;
        let network = Self { address, bits };
        // A range that begins in its middle is a slip of the pen.
        (network.first_bits(address) == number(address)).then_some(network)
    }

    fn holds(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && self.first_bits(address) == number(self.address)
    }

    /// Clears all bits of an address but the first ones.
    fn first_bits(self, address: IpAddr) -> u128 {
        let most = if address.is_ipv4() { Ipv4Addr::BITS } else { Ipv6Addr::BITS };
        let rest = most.saturating_sub(self.bits);
        number(address).checked_shr(rest).unwrap_or(0).checked_shl(rest).unwrap_or(0)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn networks_hold_what_shares_their_first_bits() {
        for (network, address, wanted) in [
            ("127.0.0.0/8", "127.9.9.9", true),
            ("127.0.0.0/8", "128.0.0.1", false),
            ("127.0.0.0/8", "::ffff:127.0.0.1", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::1", "::1", true),
            ("fd00::/8", "fdab::1", true),
            ("fd00::/8", "fe80::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "192.0.2.1", false),
        ] {
            let parsed = Network::parse(network).unwrap();
            assert_eq!(parsed.holds(address.parse().unwrap()), wanted, "{address} in {network}");
        }
        for wrong in
            ["", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/", "10.0.0.0/+8", "::/129", "localhost", "10.0.0/8"]
        {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_a_program_near_by_that_says_nothing_acts_as_the_named_user() {
        let near = vec![Network::parse("127.0.0.0/8").unwrap()];
        let anonymous = Anonymous::new("agents".into(), vec!["runner".into()], near);
        let acts = |peer: &str, header: Option<(&str, &str)>| {
            let mut request = Request::builder().uri("/api/execute").header("host", "localhost");
            if let Some((name, value)) = header {
                request = request.header(name, value);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            anonymous.principal(&parts, peer.parse().unwrap()).map(|principal| principal.name.clone())
        };
        assert_eq!(acts("127.0.0.1", None).as_deref(), Some("agents"));
        assert_eq!(acts("127.0.0.1", Some(("accept", "*/*"))).as_deref(), Some("agents"));
        assert_eq!(acts("192.0.2.1", None), None);
        for header in [
            ("authorization", "Bearer x"),
            ("authorization", "Basic x"),
            ("origin", "http://localhost:5000"),
            ("sec-fetch-site", "same-origin"),
            ("cookie", "a=b"),
            ("forwarded", "for=192.0.2.1"),
            ("x-forwarded-for", "127.0.0.1"),
            ("via", "1.1 proxy"),
        ] {
            assert_eq!(acts("127.0.0.1", Some(header)), None, "{header:?}");
        }
    }
}
