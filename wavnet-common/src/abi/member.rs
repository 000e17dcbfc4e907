//! Which peers are members of which VNIs.

use crate::wire::be::load32;

/// Key of `MEMBERS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemberKey {
    /// The VNI.
    pub vni: u32,
    /// The peer's outer IPv4 address, wire order; of a dynamic peer, which has none of its own, what stands for it: see
    /// [`MemberKey::dynamic`].
    pub addr: [u8; 4],
}

impl MemberKey {
    /// Keeps the key from being zero.
    const TAG: u64 = 1 << 63;

    /// The key as it stands in a bucket: the address, the VNI's lower byte, and, beyond the bit that is not for keys, its other two.
    #[inline(always)]
    #[must_use]
    pub fn to_word(self) -> u64 {
        let vni = u64::from(self.vni);
        MemberKey::TAG | (vni >> 8) << 41 | (vni & 0xff) << 32 | u64::from(load32(&self.addr))
    }

    /// The key of a dynamic peer: 0.0.0.0/8 is never a source on the wire (RFC 1122 section 3.2.1.3), and a frame that claims so is
    /// dropped.
    #[inline(always)]
    #[must_use]
    pub const fn dynamic(vni: u32, vtep_index: u16) -> MemberKey {
        let [hi, lo] = vtep_index.to_be_bytes();
        MemberKey { vni, addr: [0, 0, hi, lo] }
    }

    /// The dynamic peer's index in `VTEPS`; `None`: it is a static one's key.
    #[must_use]
    pub const fn dynamic_index(&self) -> Option<u16> {
        match self.addr {
            [0, 0, hi, lo] => Some(u16::from_be_bytes([hi, lo])),
            _ => None,
        }
    }

    /// The other way round.
    #[must_use]
    pub const fn from_word(word: u64) -> MemberKey {
        let vni = (word >> 41) as u32 & 0xffff;
        MemberKey { vni: vni << 8 | (word >> 32) as u32 & 0xff, addr: (word as u32).to_ne_bytes() }
    }
}

/// Value of `MEMBERS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The VNI of the key, again: the CPU may read the value of an entry that has taken this one's place.
    pub vni: u32,
    /// Index in `VNIS`.
    pub vni_index: u16,
    /// Index in `VTEPS`.
    pub vtep_index: u16,
    /// False if the VNI does not learn from data.
    pub learns: bool,
    /// Of a static peer: dynamic peers are at its address, too (behind the same NAT), so their paths are looked for first. What
    /// comes from none of them is the static peer's.
    pub shares: bool,
}

impl Member {
    const FIXED: u64 = 1 << 57;
    const SHARES: u64 = 1 << 58;

    /// The value as it stands in a bucket.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        let fixed = if self.learns { 0 } else { Member::FIXED };
        let shares = if self.shares { Member::SHARES } else { 0 };
        fixed | shares | (self.vtep_index as u64) << 40 | (self.vni_index as u64) << 24 | self.vni as u64
    }

    /// The other way round.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u64) -> Member {
        Member {
            vni: word as u32 & 0x00ff_ffff,
            vni_index: (word >> 24) as u16,
            vtep_index: (word >> 40) as u16,
            learns: word & Member::FIXED == 0,
            shares: word & Member::SHARES != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_dynamic_peers_are_told_from_addresses() {
        for index in [0, 1, 0x1234, u16::MAX] {
            let key = MemberKey::dynamic(0xab_cdef, index);
            assert_eq!((key.addr[0], key.dynamic_index()), (0, Some(index)));
            assert_eq!(MemberKey::from_word(key.to_word()), key);
        }
        assert_eq!(MemberKey { vni: 1, addr: [192, 0, 2, 1] }.dynamic_index(), None);
    }

    #[test]
    fn members_are_read_back() {
        for (learns, shares) in [(true, false), (false, false), (true, true), (false, true)] {
            let member = Member { vni: 0xff_ffff, vni_index: 0xabcd, vtep_index: 0x1234, learns, shares };
            assert_eq!(Member::from_word(member.to_word()), member);
            assert_eq!(member.to_word() & !crate::buckets::PAYLOAD, 0);
        }
    }
}
