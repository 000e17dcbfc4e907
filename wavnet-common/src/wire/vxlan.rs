//! VXLAN (RFC 7348 section 5).

use super::be::Be32;
use crate::addr::Label;

/// A VXLAN header.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VxlanHdr {
    /// Flags (8 bits) and 24 reserved bits, zero on send and ignored on receive, but for a [`Label`] on the way to and from a relay.
    pub flags: Be32,
    /// VNI (24 bits) and 8 reserved bits.
    pub vni: Be32,
}

impl VxlanHdr {
    /// Bytes of the header.
    pub const LEN: usize = 8;
    /// The I flag in [`VxlanHdr::flags`]: the VNI is valid.
    pub const I_FLAG: u32 = 0x0800_0000;
    /// The port that IANA assigned.
    pub const PORT: u16 = 4789;

    /// A header for a VNI (24 bits).
    #[inline(always)]
    pub const fn new(vni: u32) -> VxlanHdr {
        VxlanHdr { flags: Be32::new(VxlanHdr::I_FLAG), vni: Be32::new(vni << 8) }
    }

    /// The label, which means something only if a relay sent it.
    #[inline(always)]
    pub fn label(&self) -> Label {
        Label::of_word(self.flags.get())
    }

    /// The VNI, or `None` when the I flag is missing.
    #[inline(always)]
    pub fn vni(&self) -> Option<u32> {
        if self.flags.get() & VxlanHdr::I_FLAG == 0 { None } else { Some(self.vni.get() >> 8) }
    }
}
