//! Validated names of things on the wire: [`Mac`], [`Vni`] and [`Label`]; and [`PeerId`].

use core::{fmt, str::FromStr};

/// An IEEE 802 MAC address, in wire order.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// True for broadcast and multicast addresses: the I/G bit of the first octet (IEEE 802-2014, 8.2).
    #[inline(always)]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// True for 00:00:00:00:00:00, which no station may use.
    #[inline(always)]
    pub const fn is_zero(self) -> bool {
        self.to_u64() == 0
    }

    /// True if a frame may carry this address as its source: neither a group address nor zero.
    #[inline(always)]
    pub const fn is_station(self) -> bool {
        !self.is_group() && !self.is_zero()
    }

    /// True for 01:80:c2:00:00:00 to …:0f, which an 802.1D bridge never forwards (IEEE 802.1Q-2018, table 8-1).
    #[inline(always)]
    pub const fn is_bridge_reserved(self) -> bool {
        self.to_u64() & 0xffff_ffff_fff0 == 0x0180_c200_0000
    }

    /// The address as a number below 2^48, first octet most significant.
    #[inline(always)]
    pub const fn to_u64(self) -> u64 {
        let m = self.0;
        u64::from_be_bytes([0, 0, m[0], m[1], m[2], m[3], m[4], m[5]])
    }

    /// The inverse of [`Mac::to_u64`]; the upper 16 bits are ignored.
    #[inline(always)]
    pub const fn from_u64(n: u64) -> Mac {
        let b = n.to_be_bytes();
        Mac([b[2], b[3], b[4], b[5], b[6], b[7]])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = self.0;
        write!(f, "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", m[0], m[1], m[2], m[3], m[4], m[5])
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not a MAC address or a number not a VNI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddrError {
    /// Not six hexadecimal octets joined by `:` or `-`.
    Mac,
    /// Not a number from 1 to 16777215.
    Vni,
}

impl fmt::Display for AddrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddrError::Mac => "not a MAC address: write six hexadecimal octets, as in 52:54:00:12:34:56",
            AddrError::Vni => "not a VNI: write a number from 1 to 16777215",
        })
    }
}

impl core::error::Error for AddrError {}

impl FromStr for Mac {
    type Err = AddrError;

    fn from_str(s: &str) -> Result<Mac, AddrError> {
        let mut out = [0; 6];
        let mut parts = s.split([':', '-']);
        for byte in &mut out {
            let part = parts.next().ok_or(AddrError::Mac)?;
            if part.is_empty() || part.len() > 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(AddrError::Mac);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| AddrError::Mac)?;
        }
        if parts.next().is_some() { Err(AddrError::Mac) } else { Ok(Mac(out)) }
    }
}

/// A VXLAN Network Identifier: 24 bits (RFC 7348 section 4); zero is not used for tenants here.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vni(u32);

impl Vni {
    /// The largest VNI, 2^24 - 1.
    pub const MAX: u32 = 0x00ff_ffff;

    /// A VNI, or [`AddrError::Vni`] for zero and for what does not fit 24 bits.
    pub const fn new(n: u32) -> Result<Vni, AddrError> {
        if n == 0 || n > Vni::MAX { Err(AddrError::Vni) } else { Ok(Vni(n)) }
    }

    /// The number, 1 to 2^24 - 1.
    #[inline(always)]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Vni {
    type Err = AddrError;

    fn from_str(s: &str) -> Result<Vni, AddrError> {
        s.parse().ok().and_then(|n| Vni::new(n).ok()).ok_or(AddrError::Vni)
    }
}

/// Names a session between two hosts on the way to and from a relay: 24 bits. Zero where no relay is on the way (docs/wire.md
/// section 1).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(u32);

impl Label {
    /// No relay is on the way.
    pub const ZERO: Label = Label(0);
    /// The largest label.
    pub const MAX: u32 = 0x00ff_ffff;

    /// A label; `None` for what does not fit 24 bits.
    #[must_use]
    pub const fn new(n: u32) -> Option<Label> {
        if n > Label::MAX { None } else { Some(Label(n)) }
    }

    /// As it is on the wire.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 3] {
        let [_, a, b, c] = self.0.to_be_bytes();
        [a, b, c]
    }

    /// From the wire.
    #[must_use]
    pub const fn from_bytes([a, b, c]: [u8; 3]) -> Label {
        Label(u32::from_be_bytes([0, a, b, c]))
    }

    /// What stands behind the first byte of VXLAN, control and relayed pulses: the lower 24 bits of their first word.
    #[inline(always)]
    #[must_use]
    pub const fn of_word(word: u32) -> Label {
        Label(word & Label::MAX)
    }

    /// The number.
    #[inline(always)]
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// True for [`Label::ZERO`].
    #[inline(always)]
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}", self.0)
    }
}

/// Who a peer is that was not configured by its address: its public key, as far as the datapath is concerned any 32 bytes.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub [u8; 32]);

/// Enough to tell one from another.
impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(6).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn mac_text_round_trips_and_refuses_nonsense() {
        let m: Mac = "52:54:00:Ab-cd:0f".parse().unwrap();
        assert_eq!(m.to_string(), "52:54:00:ab:cd:0f");
        assert_eq!(Mac::from_u64(m.to_u64()), m);
        for bad in
            ["", "52:54:00:12:34", "52:54:00:12:34:56:78", "+2:54:00:12:34:56", "525400123456", "g2:54:00:12:34:56"]
        {
            assert_eq!(bad.parse::<Mac>(), Err(AddrError::Mac), "{bad}");
        }
    }

    #[test]
    fn mac_kinds() {
        assert!(Mac::BROADCAST.is_group() && !Mac::BROADCAST.is_station());
        assert!(!Mac([0; 6]).is_station());
        assert!(Mac([0x52, 0x54, 0, 1, 2, 3]).is_station());
        assert!(Mac([1, 0x80, 0xc2, 0, 0, 0x0f]).is_bridge_reserved());
        assert!(!Mac([1, 0x80, 0xc2, 0, 0, 0x10]).is_bridge_reserved());
    }

    #[test]
    fn labels_have_24_bits() {
        assert_eq!((Label::new(0), Label::new(1 << 24)), (Some(Label::ZERO), None));
        assert_eq!(Label::new(Label::MAX).map(Label::get), Some(0xff_ffff));
        assert_eq!(Label::of_word(0x0812_3456).get(), 0x12_3456);
        assert!(Label::of_word(0x0800_0000).is_zero() && Label::ZERO.is_zero());
    }

    #[test]
    fn vni_range() {
        assert!(Vni::new(0).is_err() && Vni::new(1 << 24).is_err());
        assert_eq!("16777215".parse::<Vni>().unwrap().get(), Vni::MAX);
        assert!("-1".parse::<Vni>().is_err());
    }
}
