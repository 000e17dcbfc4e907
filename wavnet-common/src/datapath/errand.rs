//! Errands: a flooded frame's copy that comes in by its port again, for one VTEP alone. The packet's mark says which.
//!
//! A VM cannot send on errands: the kernel clears the marks of what comes from another network namespace, and what a tap's owner
//! writes has none. What comes from this namespace by a veth may have a mark of somebody else's; so errands are honoured only while
//! they are sent, which is without an agent.

/// Upper half of the mark ("WV").
const ERRAND: u32 = 0x5756_0000;

/// The mark of a packet that this VTEP shall get.
#[inline(always)]
#[must_use]
pub const fn mark(vtep_index: u16) -> u32 {
    ERRAND | vtep_index as u32
}

/// The VTEP that a packet with this mark is for; `None`: an ordinary packet.
#[inline(always)]
#[must_use]
pub const fn vtep(mark: u32) -> Option<u16> {
    if mark & 0xffff_0000 == ERRAND { Some(mark as u16) } else { None }
}
