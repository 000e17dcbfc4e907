//! What XDP has redirected from a tap, on its way out: a last look whether it was a frame.
//!
//! A tap runs XDP on what its owner wrote before there is a packet, but on some of it after (generic XDP): on super-packets, of which
//! small ones of datagrams look like frames in every byte. A redirect would hand them, with what the kernel keeps beside them, to
//! another driver past every check. So XDP on a tap seals what it redirects, and what has lost its seal on the way was a packet.

use super::{Tables, Verdict};
use crate::{packet::Seal, reason::Reason};

/// XDP behind the redirect. The seal goes: nobody else shall find it.
#[inline(always)]
pub fn guard<P: Seal, T: Tables>(pkt: &mut P, tables: &T) -> Verdict {
    if pkt.unseal() == Some(tables.cookie()) {
        return Verdict::Pass;
    }
    tables.dropped(Reason::HiddenOffload);
    Verdict::Drop(Reason::HiddenOffload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Devices, TestPacket, TestTables, World};

    #[test]
    fn only_what_is_sealed_passes_and_the_seal_goes() {
        let tables = TestTables::new(&World::new(&Devices::NUMBERS), 64);
        let damaged = Verdict::Drop(Reason::HiddenOffload);
        for (seal, verdict) in
            [(Some(TestTables::COOKIE), Verdict::Pass), (Some(TestTables::COOKIE + 1), damaged), (None, damaged)]
        {
            tables.tally.take();
            let mut packet = TestPacket::new(&[0x5a; 60]);
            packet.seal = seal;
            assert_eq!((guard(&mut packet, &tables), packet.seal), (verdict, None), "{seal:?}");
            assert_eq!(packet.bytes(), [0x5a; 60]);
            let drops = tables.tally.take().drops.get(&Reason::HiddenOffload).copied();
            assert_eq!(drops, (verdict == damaged).then_some(1));
        }
    }
}
