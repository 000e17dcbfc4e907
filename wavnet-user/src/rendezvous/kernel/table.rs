//! The kernel's relay as the core's thread writes it.

use std::sync::Arc;

use wavnet_common::abi::relay::RelayCount;
use wavnet_proto::{
    rendezvous::{Limits, RelayKey, RelayTarget},
    wire::Label,
};

use super::{KernelRelay, set_limits};
use crate::rendezvous::{RelayTable, RelayTotals};

/// A [`RelayTable`] in the kernel.
pub(in crate::rendezvous) struct KernelTable(pub(in crate::rendezvous) Arc<KernelRelay>);

impl RelayTable for KernelTable {
    fn set(&mut self, key: RelayKey, target: RelayTarget) -> bool {
        self.0.change(|tables| tables.set(key.label, key.from, target.to, target.label))
    }

    fn delete(&mut self, key: RelayKey) {
        self.0.change(|tables| tables.remove(key.label, key.from));
    }

    fn limit(&mut self, limits: &Limits) {
        self.0.change(|tables| set_limits(tables, limits));
    }

    fn used(&mut self) -> Vec<Label> {
        let mut inner = self.0.lock();
        let inner = &mut *inner;
        inner.programs.used(inner.tables.rows())
    }

    fn totals(&self) -> RelayTotals {
        let mut totals = RelayTotals::default();
        let counts = self.0.lock().counts();
        for (what, n) in counts {
            match what {
                RelayCount::RelayedByXdp => totals.xdp.0 = n,
                RelayCount::BytesByXdp => totals.xdp.1 = n,
                RelayCount::RelayedByTc => totals.tc.0 = n,
                RelayCount::BytesByTc => totals.tc.1 = n,
                RelayCount::TooFast => totals.dropped = n,
                RelayCount::StunAnswered => totals.stun = n,
                RelayCount::StunTooFast => totals.stun_too_fast = n,
                _ => {}
            }
        }
        totals
    }

    fn name(&self) -> &'static str {
        self.0.hook().unwrap_or("user-space")
    }
}
