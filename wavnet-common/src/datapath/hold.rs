//! Frames to a VTEP that are to wait: encapsulated as usual, and then to an interface of the agent's instead of the wire.

use super::{Tables, port::Frame};
use crate::{
    abi::{Count, HoldRow},
    addr::Mac,
    packet::Packet,
};

/// Where a frame waits.
#[derive(Clone, Copy)]
pub(super) struct Held<'a> {
    pub(super) ifindex: u32,
    row: &'a HoldRow,
}

/// Whether frames to a VTEP are to wait. Nobody would ever send them on without an agent.
#[inline(always)]
pub(super) fn held<'a, T: Tables>(tables: &'a T, frame: &Frame, vtep_index: u16) -> Option<Held<'a>> {
    let ifindex = tables.config()?.hold_ifindex;
    let row = tables.hold(vtep_index)?;
    if frame.agent_alive && ifindex != 0 && row.holds() { Some(Held { ifindex, row }) } else { None }
}

impl Held<'_> {
    /// Addresses an encapsulated frame to whoever holds it back, and counts it first, so that those that come after it wait, too.
    /// `false`: there is no room for an address.
    #[inline(always)]
    pub(super) fn wait<P: Packet, T: Tables>(&self, pkt: &mut P, tables: &T, frame: &Frame, vtep_index: u16) -> bool {
        let Some(dst) = pkt.at_mut::<[u8; 6]>(0) else { return false };
        *dst = held_mac(vtep_index).0;
        self.row.hold(frame.frames);
        tables.count(Count::Held, frame.frames);
        true
    }
}

/// The link address of frames that are held back, which says for which VTEP.
#[inline(always)]
#[must_use]
pub const fn held_mac(vtep_index: u16) -> Mac {
    let [hi, lo] = vtep_index.to_be_bytes();
    Mac([2, 0, 0, 0, hi, lo])
}

/// The VTEP that a frame with this link address was held back for.
#[must_use]
pub const fn held_for(mac: Mac) -> Option<u16> {
    match mac.0 {
        [2, 0, 0, 0, hi, lo] => Some(u16::from_be_bytes([hi, lo])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_a_frame_waits_for_is_read_from_its_link_address() {
        for index in [0, 1, 0x1234, u16::MAX] {
            assert_eq!(held_for(held_mac(index)), Some(index));
        }
        assert_eq!(held_for(Mac([2, 0, 0, 1, 0, 0])), None);
    }
}
