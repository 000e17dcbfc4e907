//! What holds for every frame, whatever it is.

use std::{format, string::String, vec::Vec};

use super::{Devices, Hook, Outcome, Stimulus, World};
use crate::{
    abi::Count,
    datapath::{Of, Verdict},
};

impl Outcome {
    /// A frame is dropped for a counted reason or goes on uncounted; what passes is untouched; nothing from a VTEP goes to a
    /// VTEP; nothing goes back to where it came from; no tenant's frame reaches another's port; what is sent is counted.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check_rules(&self, stimulus: &Stimulus, devices: &Devices) -> Result<(), String> {
        let rule = |holds: bool, what: &str| {
            if holds { Ok(()) } else { Err(format!("{what}: {self:02x?} of {stimulus:02x?}")) }
        };
        let drops: u64 = self.tally.drops.values().sum();
        let copies = self.copies.len() as u64;
        match self.verdict {
            Verdict::Drop(reason) => rule(self.tally.drops.contains_key(&reason), "a drop is counted")?,
            Verdict::Consumed => {
                let noted = self.tally.count(Count::PulseReturned);
                let errands = self.errands.len() as u64;
                rule(drops + copies + errands + noted > 0, "what is consumed went somewhere, or was noted")?;
            }
            Verdict::Answered => {
                let addresses = |frame: &[u8]| (frame[..6].to_vec(), frame[6..12].to_vec());
                let ((to, by), (dst, src)) = (addresses(&self.bytes), addresses(&stimulus.frame));
                rule(to == src && by == dst, "an answer goes to whom it comes from")?;
                rule(self.bytes[26..30] == stimulus.frame[30..34], "an answer comes from us")?;
                rule(self.bytes[30..34] == stimulus.frame[26..30], "an answer goes to whom it comes from")?;
                rule(self.bytes.len() == stimulus.frame.len(), "an answer is as long as what it answers")?;
                rule(self.tally.count(Count::PulseAnswered) == 1, "an answer is counted")?;
            }
            Verdict::Pass => rule(self.bytes == stimulus.frame, "what passes is untouched")?,
            _ => {}
        }
        if !matches!(self.verdict, Verdict::Drop(_)) && self.tally.count(Count::Flooded) == 0 {
            rule(drops == 0, "what goes on is not counted as dropped")?;
        }
        let mut receivers: Vec<u32> = self.copies.iter().map(|(to, _)| *to).collect();
        // Sent, as far as XDP is concerned.
        if let (Verdict::HandedOver, Some((index, _))) = (self.verdict, self.noted) {
            receivers.push(devices.ports[usize::from(index)]);
        }
        if let Verdict::ToPort { ifindex, .. }
        | Verdict::ToWire { ifindex }
        | Verdict::Sealed { ifindex }
        | Verdict::Held { ifindex }
        | Verdict::ToNeighbour { ifindex } = self.verdict
        {
            receivers.push(ifindex);
        }
        let world = World::new(devices);
        let tenant = |ifindex| world.ports.iter().find(|(_, p)| p.ifindex == ifindex).map(|(_, p)| p.vni);
        let (from, vni) = match stimulus.hook {
            Hook::Port(place) | Hook::PortXdp(place) => (devices.ports[place], tenant(devices.ports[place])),
            _ => (devices.underlay, stimulus.frame.get(46..49).map(|b| u32::from_be_bytes([0, b[0], b[1], b[2]]))),
        };
        rule(!receivers.contains(&from), "nothing goes back")?;
        for to in &receivers {
            let outside = *to == devices.underlay || *to == devices.hold;
            rule(outside || tenant(*to) == vni, "tenants are apart")?;
        }
        let sent = |of| self.tally.traffic(of).tx_frames;
        let ports = world.ports.iter().map(|(i, _)| sent(Of::Port(*i)));
        let sent: u64 = ports.chain(world.vteps.iter().map(|(i, _)| sent(Of::Vtep(*i)))).sum();
        let frames = u64::from(stimulus.gso.1.max(1));
        rule(sent == receivers.len() as u64 * frames, "what is sent is counted")
    }
}
