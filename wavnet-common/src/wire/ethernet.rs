//! Ethernet II and IEEE 802.1Q tags.

use super::be::{Be16, load16, load32};
use crate::addr::Mac;

/// Ethertypes that the datapath tells apart.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// IEEE 802.1Q customer tag.
    pub const VLAN: u16 = 0x8100;
    /// IEEE 802.1ad service tag.
    pub const QINQ: u16 = 0x88a8;

    /// True for the ethertypes that announce a VLAN tag.
    #[inline(always)]
    pub const fn is_tag(ethertype: u16) -> bool {
        ethertype == VLAN || ethertype == QINQ
    }
}

/// Bytes of one VLAN tag.
pub const TAG_LEN: usize = 4;

/// An Ethernet header.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthHdr {
    /// Destination.
    pub dst: [u8; 6],
    /// Source.
    pub src: [u8; 6],
    /// Ethertype, or a length below 0x600.
    pub ethertype: Be16,
}

impl EthHdr {
    /// Bytes of the header.
    pub const LEN: usize = 14;

    /// Destination address.
    #[inline(always)]
    pub fn dst(&self) -> Mac {
        load_mac(&self.dst)
    }

    /// Source address.
    #[inline(always)]
    pub fn src(&self) -> Mac {
        load_mac(&self.src)
    }
}

/// Reads six bytes by one 32-bit and one 16-bit load.
#[inline(always)]
pub(crate) fn load_mac(bytes: &[u8; 6]) -> Mac {
    let [a, b, c, d, e, f] = bytes;
    if cfg!(target_arch = "bpf") {
        // SAFETY: both lie inside the six bytes.
        let (hi, lo) = unsafe { (load32(&*bytes.as_ptr().cast()), load16(&*bytes.as_ptr().add(4).cast())) };
        Mac::from_u64(u64::from(u32::from_be(hi)) << 16 | u64::from(u16::from_be(lo)))
    } else {
        Mac([*a, *b, *c, *d, *e, *f])
    }
}
