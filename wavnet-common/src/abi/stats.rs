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

impl core::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Traffic) {
        self.rx_frames += other.rx_frames;
        self.rx_bytes += other.rx_bytes;
        self.tx_frames += other.tx_frames;
        self.tx_bytes += other.tx_bytes;
    }
}

/// What a port's VM sends to known places, as far as it tells whether XDP on the port is worth it: by `port_xdp` always, by `port_tc` where
/// the agent chooses by it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mix {
    /// Datagrams that XDP carried.
    pub carried: u64,
    /// Datagrams that came to TC, and that XDP carries as a rule: in one frame, untagged.
    pub left: u64,
    /// Super-packets, each counted once.
    pub super_packets: u64,
}

impl core::ops::AddAssign for Mix {
    fn add_assign(&mut self, other: Mix) {
        self.carried += other.carried;
        self.left += other.left;
        self.super_packets += other.super_packets;
    }
}

/// What a CPU keeps of a port: together, as what is apart is fetched apart.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Frames and bytes.
    pub traffic: Traffic,
    /// What kinds of frames come from it.
    pub mix: Mix,
}

const _: () = assert!(size_of::<Traffic>() == 32 && size_of::<Mix>() == 24 && size_of::<Ledger>() == 56);
// SAFETY: four u64.
unsafe impl Plain for Traffic {}
// SAFETY: three u64.
unsafe impl Plain for Mix {}
// SAFETY: repr(C) of plain types of 32 and 24 bytes, aligned to 8: no padding.
unsafe impl Plain for Ledger {}

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
    /// A frame on the underlay was not for this VTEP's programs and passed untouched.
    PassedUp,
    /// A pulse was answered.
    PulseAnswered,
    /// The answer to a pulse of ours came in.
    PulseReturned,
    /// A pulse by a path that is not known went up to the agent.
    PulseUnknown,
    /// A frame was held back: each segment of a super-packet is one.
    Held,
}

impl Count {
    /// Every counter, in the order of the map.
    pub const ALL: [Count; 13] = [
        Count::Learned,
        Count::Moved,
        Count::FdbFull,
        Count::StaticKept,
        Count::EventsLost,
        Count::Flooded,
        Count::FloodCopies,
        Count::KernelNextHop,
        Count::PassedUp,
        Count::PulseAnswered,
        Count::PulseReturned,
        Count::PulseUnknown,
        Count::Held,
    ];
    /// Size of the map.
    pub const COUNT: usize = Count::ALL.len();
}
