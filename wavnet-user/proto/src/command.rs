//! What a core asks its shell to do: map writes, attachments, questions to the kernel's routing.

use std::{fmt, net::Ipv4Addr};

use wavnet_common::{
    abi::{Arrival, Config, Endpoint, FloodSet, Hold, Member, MemberKey, NextHop, Path, Port, Vtep},
    addr::{Mac, PeerId, Vni},
    fdb::Place,
};

/// Which hook of an underlay interface to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HookWish {
    /// Driver XDP, else generic XDP, else TC alone.
    #[default]
    Auto,
    /// Driver XDP or an error.
    Driver,
    /// Generic XDP or an error.
    Generic,
    /// TC alone.
    Tc,
}

/// A slot of one of the tables that have counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// Slot in `PORTS`.
    Port(u16),
    /// Slot in `VNIS`.
    Vni(u16),
    /// Slot in `VTEPS`.
    Vtep(u16),
}

/// Who a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PeerKey {
    /// One that is known by its address, whatever ports its frames come from.
    Static(Ipv4Addr),
    /// One that is known by its key, and by the paths that its frames come by.
    Dynamic(PeerId),
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerKey::Static(addr) => addr.fmt(f),
            PeerKey::Dynamic(id) => id.fmt(f),
        }
    }
}

/// One thing for the shell to do, in the order given. Each is idempotent: repeating it after a crash does no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Write `CONFIG`.
    SetConfig(Config),
    /// Use or free (`None`) a slot of `VNIS`, and `INDEX_OF_VNI` with it.
    SetVni {
        /// Slot.
        index: u16,
        /// The VNI that the slot had, to be forgotten, or will have.
        vni: Vni,
        /// Use (`true`) or free.
        used: bool,
    },
    /// Write a slot of `PORTS` with `PORT_OF_IFINDEX` and `PORT_DEVS`; [`Port::FREE`] frees it.
    SetPort {
        /// Slot.
        index: u16,
        /// New content.
        port: Port,
    },
    /// Attach the port programs to an interface (its slot is written already), or put the present program in the place of
    /// an older agent's.
    AttachPort {
        /// Interface.
        ifindex: u32,
        /// Its name, for messages and pins.
        name: String,
        /// With XDP, as far as the interface takes it; without, XDP is detached.
        xdp: bool,
    },
    /// Detach the port programs; the interface may be gone.
    DetachPort {
        /// Interface.
        ifindex: u32,
    },
    /// Attach the underlay programs, or put the present ones in the place of an older agent's.
    AttachUnderlay {
        /// Interface.
        ifindex: u32,
        /// Its name, for messages and pins.
        name: String,
        /// Which hook to use.
        hook: HookWish,
    },
    /// Detach the underlay programs; the interface may be gone.
    DetachUnderlay {
        /// Interface.
        ifindex: u32,
    },
    /// Use or free a slot of `VTEPS`, and `INDEX_OF_VTEP` or `VTEP_IDS` with it; [`Vtep::FREE`] frees it. Nothing is held back then.
    SetVtep {
        /// Slot.
        index: u16,
        /// New content.
        vtep: Vtep,
        /// Whose the slot was or will be.
        peer: PeerKey,
    },
    /// Set the counters of a slot to zero: it gets another owner.
    ResetCounters(Slot),
    /// Put an endpoint and a next hop in force: the shell writes the half that is not in force and switches to it.
    SetNextHop {
        /// Slot in `VTEPS`.
        index: u16,
        /// Where the peer is.
        endpoint: Endpoint,
        /// How to get there.
        next_hop: NextHop,
    },
    /// Have frames to a peer held back, or not any more.
    SetHold {
        /// Slot in `VTEPS`.
        index: u16,
        /// What becomes of them.
        hold: Hold,
    },
    /// Use or free (`None`) a slot of `PATHS`, and the entry of `PATH_OF_SOURCE` that leads to it.
    SetPath {
        /// Slot.
        index: u16,
        /// New content.
        path: Option<Path>,
    },
    /// Enter a relay into `PATH_OF_SOURCE`, or remove it.
    SetRelay {
        /// The number that paths by it have ([`wavnet_common::abi::Source::Relayed`]).
        number: u16,
        /// Where its datagrams come from.
        at: Arrival,
        /// Enter (`true`) or remove.
        used: bool,
    },
    /// Write or delete (`None`) an entry of `MEMBERS`.
    SetMember {
        /// Key.
        key: MemberKey,
        /// Value.
        member: Option<Member>,
    },
    /// Put a flood set in force: the shell writes the half that is not in force and switches to it.
    SetFlood {
        /// Slot in `VNIS`.
        vni_index: u16,
        /// New set.
        set: Box<FloodSet>,
    },
    /// Enter a static FDB entry.
    SetStatic {
        /// Slot in `VNIS`.
        vni_index: u16,
        /// MAC.
        mac: Mac,
        /// Where it is.
        place: Place,
    },
    /// Remove an FDB entry, static or learned.
    RemoveMac {
        /// Slot in `VNIS`.
        vni_index: u16,
        /// MAC.
        mac: Mac,
    },
    /// Remove every FDB entry that points to a place.
    FlushPlace(Place),
    /// Remove every FDB entry of a VNI.
    FlushVni(u16),
    /// Remove the FDB entries of one VNI that point to a place (a membership ended).
    FlushVniPlace(u16, Place),
    /// Ask the kernel for the route to an address and report it.
    QueryRoute {
        /// Destination.
        addr: Ipv4Addr,
        /// Source address of the packets, for policy routing; `None` while the host does not have it.
        from: Option<Ipv4Addr>,
    },
    /// Ask the kernel to resolve and keep fresh a neighbour (NTF_MANAGED, or NTF_USE where that is unknown) and report it.
    ResolveNeighbour {
        /// Interface.
        ifindex: u32,
        /// Next hop.
        addr: Ipv4Addr,
    },
    /// The next hop is no longer needed: withdraw what [`Command::ResolveNeighbour`] installed.
    ForgetNeighbour {
        /// Interface.
        ifindex: u32,
        /// Next hop.
        addr: Ipv4Addr,
    },
}
