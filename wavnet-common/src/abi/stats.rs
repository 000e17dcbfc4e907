//! Types of the counters that the programs write.

use super::Plain;

/// Frames and bytes of one port, VNI or peer on one CPU. Bytes are those of inner frames, without FCS.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames received from it.
    pub rx_frames: u64,
    /// Bytes received from it.
    pub rx_bytes: u64,
    /// Frames sent to it.
    pub tx_frames: u64,
    /// Bytes sent to it.
    pub tx_bytes: u64,
}

// SAFETY: four u64.
unsafe impl Plain for Traffic {}

/// Index into `COUNTS`: what is counted beside traffic and drops.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Count {
    /// A MAC was seen for the first time and entered into the FDB.
    Learned,
    /// A MAC was seen at another place than before, and its entry changed.
    Moved,
    /// A MAC could not be entered because both its buckets are full; the frame went its way.
    FdbFull,
    /// A frame came from a MAC whose entry is static and points elsewhere; the entry stayed.
    StaticKept,
    /// An event found no room in the ring buffer.
    EventsLost,
    /// A frame was flooded (once per frame, not per copy).
    Flooded,
    /// Copies made of flooded frames.
    FloodCopies,
    /// A frame went out through the kernel's neighbour table because the agent's next hop was missing or stale.
    KernelNextHop,
    /// A frame on the underlay was not for this VTEP and passed untouched.
    PassedUp,
}

impl Count {
    /// Every counter, in the order of the map.
    pub const ALL: [Count; 9] = [
        Count::Learned,
        Count::Moved,
        Count::FdbFull,
        Count::StaticKept,
        Count::EventsLost,
        Count::Flooded,
        Count::FloodCopies,
        Count::KernelNextHop,
        Count::PassedUp,
    ];
    /// Size of the map.
    pub const COUNT: usize = Count::ALL.len();
}
