//! Which addresses may be reached, by whoever chose them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Provenance;

/// The rule that forbids an address, as the end of a sentence.
pub(super) fn refusal(address: IpAddr, provenance: Provenance) -> Option<&'static str> {
    // An IPv4 address in IPv6 clothes is judged as what it is.
    let address = address.to_canonical();
    if is_never(address) {
        return Some("which is a metadata, link-local, multicast or unspecified address");
    }
    match provenance {
        Provenance::FromDocument if is_private(address) => {
            Some("which is private, and only a registered URL may be")
        }
        Provenance::Registered | Provenance::FromDocument => None,
    }
}

fn is_never(address: IpAddr) -> bool {
    /// Metadata service of AWS over IPv6 (link-local by use, unique-local by form).
    const AWS_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    /// Metadata service of Alibaba Cloud.
    const ALIBABA_METADATA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
    match address {
        IpAddr::V4(v4) => {
            v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.octets().starts_with(&[0])
                || v4 == ALIBABA_METADATA
        }
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local()
                || v6.is_multicast()
                || v6.is_unspecified()
                || v6 == AWS_METADATA
        }
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let special = (a == 192 && b == 0 && c == 0) || (a == 198 && (b & 0xfe) == 18);
            v4.is_loopback()
                || v4.is_private()
                || v4.is_documentation()
                || shared
                || special
                || a >= 240
        }
        IpAddr::V6(v6) => {
            let [first, second, ..] = v6.segments();
            // Tunnels and translations can carry any IPv4 address.
            let carries_v4 = (first == 0x64 && second == 0xff9b)
                || first == 0x2002
                || (first == 0x2001 && second == 0);
            v6.is_loopback() || v6.is_unique_local() || carries_v4
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(address: &str, provenance: Provenance) -> bool {
        refusal(address.parse().unwrap(), provenance).is_none()
    }

    #[test]
    fn metadata_and_link_local_addresses_are_never_reached() {
        for address in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "fd00:ec2::254",
            "100.100.100.200",
        ] {
            assert!(!allowed(address, Provenance::Registered), "{address}");
        }
    }

    #[test]
    fn private_addresses_are_for_registered_urls_only() {
        for address in ["127.0.0.1", "10.1.2.3", "::1", "fd12::1", "::ffff:10.0.0.1", "100.64.0.1"]
        {
            assert!(allowed(address, Provenance::Registered), "{address}");
            assert!(!allowed(address, Provenance::FromDocument), "{address}");
        }
        assert!(!allowed("64:ff9b::a00:1", Provenance::FromDocument));
        assert!(allowed("93.184.216.34", Provenance::FromDocument));
        assert!(allowed("2606:2800:220:1::1", Provenance::FromDocument));
    }
}
