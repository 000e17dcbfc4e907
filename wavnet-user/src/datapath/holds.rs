//! Frames that are held back for a while.

use aya::Ebpf;
use wavnet_common::abi::{Hold, HoldRow, map};

use super::{Error, mapped::Rows};

/// The table.
pub struct Holds(Rows<HoldRow>);

impl Holds {
    pub(super) fn map(ebpf: &mut Ebpf) -> Result<Holds, Error> {
        Ok(Holds(Rows::map(ebpf, map::HOLDS)?))
    }

    /// How many frames to a peer were held back, and how many of them were sent on, both since ever.
    ///
    /// What the device lost (its queue was full) is never read from it: if it has been empty for a while, what is missing is to be given
    /// up by [`Holds::release`]. Else frames would be held back for good.
    pub fn counts(&self, vtep_index: u16) -> (u64, u64) {
        self.row(vtep_index).map(HoldRow::counts).unwrap_or_default()
    }

    /// Says how many frames to a peer have been sent on, or given up, since ever.
    pub fn release(&self, vtep_index: u16, released: u64) {
        if let Some(row) = self.row(vtep_index) {
            row.release(released);
        }
    }

    pub(super) fn set(&self, vtep_index: u16, hold: Hold) {
        if let Some(row) = self.row(vtep_index) {
            row.set(hold);
        }
    }

    fn row(&self, vtep_index: u16) -> Option<&HoldRow> {
        self.0.get(vtep_index.into())
    }
}
