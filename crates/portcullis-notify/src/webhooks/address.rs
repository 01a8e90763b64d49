//! Which addresses may be posted to.
//!
//! An endpoint's name is resolved by somebody else's servers, so it may lead anywhere: to a service on this host's
//! loopback, in its network, to a cloud's metadata. What is judged here is the address that is then connected to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`, or one address alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    prefix: u8,
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.prefix);
                u64::from(base.to_bits()) >> shift == u64::from(address.to_bits()) >> shift
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                (base.to_bits() ^ address.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let accepted =
            "an address is accepted, or a range such as `10.0.0.0/8`, with no bit set behind its prefix";
        let (base, prefix) = text.split_once('/').map_or((text, None), |(base, prefix)| (base, Some(prefix)));
        let base: IpAddr = base.parse().map_err(|_| accepted)?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => most,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| accepted)?
            }
            Some(_) => return Err(accepted),
        };
        let network = Self { base, prefix };
        let behind = match base {
            _ if prefix > most => return Err(accepted),
            IpAddr::V4(base) => base.to_bits().checked_shl(prefix.into()).unwrap_or(0) != 0,
            IpAddr::V6(base) => base.to_bits().checked_shl(prefix.into()).unwrap_or(0) != 0,
        };
        if behind { Err(accepted) } else { Ok(network) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

/// Whether an address is in one of the networks that the operator named; one of IPv4 is known in each of its
/// disguises.
pub(crate) fn is_named(address: IpAddr, networks: &[Network]) -> bool {
    let plain = match address {
        IpAddr::V6(address) => address.to_ipv4_mapped().map(IpAddr::V4),
        IpAddr::V4(_) => None,
    };
    networks
        .iter()
        .any(|network| network.contains(address) || plain.is_some_and(|plain| network.contains(plain)))
}

/// Whether an address is one of the public internet.
///
/// Everything that the registries of special-purpose addresses (RFC 6890, IANA) do not call globally reachable is not,
/// and neither are addresses of transition that carry such an address inside, multicast, and the one public
/// address that is every Azure machine's wire server.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    const NOT_PUBLIC: [(Ipv4Addr, u32); 16] = [
        (Ipv4Addr::new(0, 0, 0, 0), 8),
        (Ipv4Addr::new(10, 0, 0, 0), 8),
        (Ipv4Addr::new(100, 64, 0, 0), 10),
        (Ipv4Addr::new(127, 0, 0, 0), 8),
        (Ipv4Addr::new(168, 63, 129, 16), 32),
        (Ipv4Addr::new(169, 254, 0, 0), 16),
        (Ipv4Addr::new(172, 16, 0, 0), 12),
        (Ipv4Addr::new(192, 0, 0, 0), 24),
        (Ipv4Addr::new(192, 0, 2, 0), 24),
        (Ipv4Addr::new(192, 88, 99, 0), 24),
        (Ipv4Addr::new(192, 168, 0, 0), 16),
        (Ipv4Addr::new(198, 18, 0, 0), 15),
        (Ipv4Addr::new(198, 51, 100, 0), 24),
        (Ipv4Addr::new(203, 0, 113, 0), 24),
        (Ipv4Addr::new(224, 0, 0, 0), 4),
        (Ipv4Addr::new(240, 0, 0, 0), 4),
    ];
    !NOT_PUBLIC.iter().any(|(base, prefix)| (base.to_bits() ^ address.to_bits()) >> (32 - prefix) == 0)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match segments {
        // IPv4-mapped (RFC 4291): the kernel connects to the IPv4 address.
        [0, 0, 0, 0, 0, 0xffff, high, low] |
        // NAT64 (RFC 6052): a gateway does.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] |
        // 6to4 (RFC 3056): a router does.
        [0x2002, high, low, ..] => is_public_v4(embedded(high, low)),
        // ISATAP (RFC 5214): the interface's own address of IPv4.
        [.., 0x0000 | 0x0200, 0x5efe, _, _] => false,
        // Teredo, ORCHID, benchmarks and the rest of 2001::/23 (RFC 2928); documentation (RFC 3849, RFC 9637).
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => false,
        [0x3fff, second, ..] if second < 0x1000 => false,
        // What is given out to the internet is of 2000::/3 (RFC 4291); loopback, unique local, link-local,
        // multicast, discard and all else is not.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_of_the_internet_are_public() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "198.17.255.255",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "2001:200::1",
        ] {
            assert!(is_public(ip(text)), "{text}");
        }
    }

    #[test]
    fn addresses_that_lead_inside_are_not_public_in_any_disguise() {
        let v4 = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
        ];
        for text in v4 {
            let Ok(IpAddr::V4(address)) = text.parse::<IpAddr>() else { unreachable!() };
            let [a, b, c, d] = address.octets();
            let hex = format!("{a:02x}{b:02x}:{c:02x}{d:02x}");
            for disguised in [
                text.to_owned(),
                format!("::ffff:{text}"),
                format!("::{text}"),
                format!("64:ff9b::{hex}"),
                format!("2002:{hex}::1"),
                format!("2a00::5efe:{hex}"),
            ] {
                assert!(!is_public(ip(&disguised)), "{disguised}");
            }
        }
        for text in [
            "::",
            "::1",
            "fe80::1",
            "fe80::a9fe:a9fe",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "100::1",
            "2001::1",
            "2001:20::1",
            "2001:db8::1",
            "3fff::1",
            "5f00::1",
            "64:ff9b:1::808:808",
            "4000::1",
        ] {
            assert!(!is_public(ip(text)), "{text}");
        }
    }

    #[test]
    fn networks_are_read_and_hold_what_is_in_them() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("fd00::/8", "fdff::1", "fc00::1"),
            ("::1", "::1", "::2"),
            ("::/0", "ffff::1", "127.0.0.1"),
            ("192.168.4.0/22", "::ffff:192.168.7.255", "192.168.8.0"),
        ] {
            let networks = [network.parse::<Network>().unwrap()];
            assert!(is_named(ip(inside), &networks), "{network} {inside}");
            assert!(!is_named(ip(outside), &networks), "{network} {outside}");
        }
        for text in
            ["", "10.0.0.0/33", "10.0.0.1/8", "::/129", "10.0.0.0/", "10.0.0.0/+8", "host", "10.0.0.0/8/8"]
        {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
