//! What a core asks its shell to do: map writes, attachments, questions to the kernel's routing.

use std::net::Ipv4Addr;

use wavnet_common::{
    abi::{Config, FloodSet, Member, MemberKey, NextHop, Port, Vtep},
    addr::{Mac, Vni},
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
    /// Use or free a slot of `VTEPS`, and `INDEX_OF_VTEP` with it; [`Vtep::FREE`] frees it.
    SetVtep {
        /// Slot.
        index: u16,
        /// New content.
        vtep: Vtep,
        /// The address that the slot had or will have.
        addr: Ipv4Addr,
    },
    /// Set the counters of a slot to zero: it gets another owner.
    ResetCounters(Slot),
    /// Put a next hop in force: the shell writes the half that is not in force and switches to it.
    SetNextHop {
        /// Slot in `VTEPS`.
        index: u16,
        /// New next hop.
        next_hop: NextHop,
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
