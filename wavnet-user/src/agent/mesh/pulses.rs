//! Pulses whose answers the kernel is to see.

use std::{collections::VecDeque, time::Duration};

use wavnet_common::wire::pulse::Number;
use wavnet_proto::{mesh::PathId, time::Time, trust::PublicKey};

use super::{Overlay, now};
use crate::datapath::Datapath;

/// An answer that has not come by then does not come.
const TOO_LATE: Duration = Duration::from_secs(3);

/// Pulses under way.
#[derive(Default)]
pub(super) struct Awaited(VecDeque<Pulse>);

struct Pulse {
    peer: PublicKey,
    path: PathId,
    slot: u16,
    number: u16,
    sent: Time,
    /// The programs wait for it.
    told: bool,
}

impl Awaited {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, peer: PublicKey, path: PathId, slot: u16, number: u16) {
        self.0.push_back(Pulse { peer, path, slot, number, sent: now(), told: false });
    }

    /// Those that the programs do not wait for yet: slots and numbers.
    pub(super) fn fresh(&mut self) -> impl Iterator<Item = (u16, u16)> {
        let fresh = self.0.iter_mut().filter(|p| !p.told);
        fresh.map(|p| {
            p.told = true;
            (p.slot, p.number)
        })
    }

    /// The path is gone.
    pub(super) fn forget(&mut self, path: PathId) {
        self.0.retain(|p| p.path != path);
    }
}

impl Overlay {
    /// Tells the mesh which answers have come.
    pub(super) fn look_for_answers(&mut self, datapath: &Datapath) {
        let now = now();
        let mesh = &mut self.mesh;
        self.awaited.0.retain(|p| match datapath.paths().pulse_returned(p.slot, Number::new(p.number)) {
            Some(at) => {
                mesh.pulse_answered(now, &p.peer, p.path, p.number, Time::from_nanos(at));
                false
            }
            None => now.since(p.sent) < TOO_LATE,
        });
    }
}
