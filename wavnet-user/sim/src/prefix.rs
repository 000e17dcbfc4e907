//! Prefixes: which addresses a LAN has.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// An address prefix, IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    first: IpAddr,
    len: u8,
}

/// Why a text or a length is no prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixError;

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a prefix: write an address and a length, as in 192.168.1.0/24 or 2001:db8:1::/64")
    }
}

impl std::error::Error for PrefixError {}

impl Prefix {
    /// The prefix of this length that `addr` is in.
    pub fn new(addr: IpAddr, len: u8) -> Result<Prefix, PrefixError> {
        let bits = if addr.is_ipv4() { 32 } else { 128 };
        if len > bits {
            return Err(PrefixError);
        }
        let first = match addr {
            IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() & mask(len, 32) as u32)),
            IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() & mask(len, 128))),
        };
        Ok(Prefix { first, len })
    }

    /// Its first address.
    #[must_use]
    pub const fn first(&self) -> IpAddr {
        self.first
    }

    /// True if `addr` is in it.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        addr.is_ipv4() == self.first.is_ipv4() && Prefix::new(addr, self.len).is_ok_and(|p| p.first == self.first)
    }

    /// True if they have addresses in common.
    #[must_use]
    pub fn overlaps(&self, other: &Prefix) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    /// The address that is `n` after the first; `None` if that is not in it any more.
    #[must_use]
    pub fn nth(&self, n: u32) -> Option<IpAddr> {
        let addr = match self.first {
            IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from_bits(a.to_bits().checked_add(n)?)),
            IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from_bits(a.to_bits().checked_add(n.into())?)),
        };
        self.contains(addr).then_some(addr)
    }
}

/// The upper `len` of so many bits.
const fn mask(len: u8, bits: u32) -> u128 {
    let low = bits.saturating_sub(len as u32);
    match u128::MAX.checked_shl(low) {
        Some(mask) => mask,
        None => 0,
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Prefix, PrefixError> {
        let (addr, len) = text.split_once('/').ok_or(PrefixError)?;
        Prefix::new(addr.parse().map_err(|_| PrefixError)?, len.parse().map_err(|_| PrefixError)?)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn text_round_trips_and_nonsense_is_refused() {
        assert_eq!(prefix("192.168.1.7/24").to_string(), "192.168.1.0/24");
        assert_eq!(prefix("2001:db8:1::9/64").to_string(), "2001:db8:1::/64");
        for bad in ["", "192.168.1.0", "192.168.1.0/33", "::/129", "x/8", "10.0.0.0/-1", "10.0.0.0/"] {
            assert_eq!(bad.parse::<Prefix>(), Err(PrefixError), "{bad}");
        }
    }

    #[test]
    fn what_is_in_it() {
        for (p, inside, outside) in [
            ("192.168.1.0/24", "192.168.1.255", "192.168.2.0"),
            ("2001:db8:1::/64", "2001:db8:1:0:ffff::", "2001:db8:1:1::"),
            ("0.0.0.0/0", "255.255.255.255", "::"),
            ("::/0", "ffff::", "0.0.0.0"),
            ("10.0.0.1/32", "10.0.0.1", "10.0.0.0"),
        ] {
            assert!(prefix(p).contains(addr(inside)), "{p} {inside}");
            assert!(!prefix(p).contains(addr(outside)), "{p} {outside}");
        }
        assert!(prefix("10.0.0.0/8").overlaps(&prefix("10.9.0.0/16")));
        assert!(!prefix("10.8.0.0/16").overlaps(&prefix("10.9.0.0/16")));
    }

    #[test]
    fn addresses_are_counted() {
        assert_eq!(prefix("10.0.0.0/30").nth(3), Some(addr("10.0.0.3")));
        assert_eq!(prefix("10.0.0.0/30").nth(4), None);
        assert_eq!(prefix("255.255.255.0/24").nth(256), None);
        assert_eq!(prefix("2001:db8::/64").nth(16), Some(addr("2001:db8::10")));
    }
}
