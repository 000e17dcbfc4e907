//! Every decision about a frame, generic over packet memory and tables.
//!
//! ```text
//! underlay NIC ─▶ underlay::xdp ─▶ port            (unicast, where the port takes redirects from XDP)
//!                     ├─ decapsulated, noted ─▶ GRO ─▶ underlay::tc ─▶ port      (TCP; ports that take none)
//!                     ├─ as it came ─▶ underlay::tc ─▶ copies to all ports of the VNI
//!                     ├─ pulses ─▶ back, answered                       (by TC where XDP cannot send)
//!                     └─ STUN and control, as they came ─▶ underlay::tc ─▶ the agent's socket
//! port ─▶ port_xdp ─▶ another port, or encapsulated to a VTEP      (datagrams; where the port has XDP; from a tap by way of `guard`)
//!   └────────┴─▶ port::tc ─▶ another port, or encapsulated to a VTEP, or copies to all of both
//! ```
//!
//! A kernel program calls one of these functions and turns the [`Verdict`] into its return value; nothing else.

mod encap;
pub mod errand;
mod express;
mod flow;
mod guard;
mod handover;
mod hold;
mod hop;
mod outer;
mod path;
pub mod port;
mod pulse;
mod receiver;
mod sender;
mod source;
mod tables;
mod udp;
pub mod underlay;

pub use encap::{OUTER_LEN, OuterHdr};
pub use express::xdp as port_xdp;
pub use flow::{Flow, Kind, flow, source_port};
pub use guard::guard;
pub use handover::Note;
pub use hold::{held_for, held_mac};
pub use tables::{Of, Tables};

use crate::{abi::Count, packet::Copies, reason::Reason};

/// What becomes of a frame. Drops are counted already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not ours, or not for this hook: goes on as it came.
    Pass,
    /// Discarded.
    Drop(Reason),
    /// Decapsulated, with a note: on to TC, by way of the stack's GRO.
    HandedOver,
    /// To a local port.
    ToPort {
        /// Index in `PORTS` and `PORT_DEVS`.
        index: u16,
        /// Its interface.
        ifindex: u32,
    },
    /// Encapsulated, with link addresses: out of this interface.
    ToWire {
        /// Interface.
        ifindex: u32,
    },
    /// To this interface, a port or encapsulated to the wire, sealed: by way of [`guard()`].
    Sealed {
        /// Interface.
        ifindex: u32,
    },
    /// A pulse that has been made its own answer: back out of the interface that it came by.
    Answered,
    /// Encapsulated, to be sent later: to this interface, which holds it back.
    Held {
        /// Interface.
        ifindex: u32,
    },
    /// Encapsulated: out of this interface, the kernel finds next hop and link addresses.
    ToNeighbour {
        /// Interface.
        ifindex: u32,
    },
    /// Copies went to everybody who was to get one, or what it said was noted; the original is of no more use.
    Consumed,
}

/// Sends one copy of a flooded frame to a port, and counts it.
#[inline(always)]
fn copy_to_port<P: Copies, T: Tables>(pkt: &mut P, tables: &T, index: u16, ifindex: u32, frames: u64, bytes: u64) {
    if pkt.copy_to(ifindex) {
        tables.count(Count::FloodCopies, 1);
        tables.sent(Of::Port(index), frames, bytes);
    } else {
        tables.dropped(Reason::CloneFailed);
    }
}
