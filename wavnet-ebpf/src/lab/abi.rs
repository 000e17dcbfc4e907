//! What the lab's programs and their user space agree on. Compiled into both.

/// What the counting programs look for, and what the wire does with it: `PROBE[0]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Destination MAC of counted frames, as a number, first octet most significant.
    pub mac: u64,
    /// On the wire: the VNI of counted frames; zero: they are not encapsulated.
    pub vni: u32,
    /// On the wire: nonzero to count and drop the frames instead of passing them on.
    pub hold: u32,
}

/// UDP destination port of counted frames: discard (RFC 863).
pub const PORT: u16 = 9;

/// UDP destination port of VXLAN (RFC 7348).
pub const VXLAN_PORT: u16 = 4789;

/// Where frames are counted: index into `COUNTS`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// At the wire's beginning, while it holds them.
    Wire = 0,
    /// At the receiving VM.
    Sink = 1,
}

/// Names of programs and maps in the object.
pub mod name {
    /// XDP on both NICs of the wire: from each to the other.
    pub const WIRE: &str = "lab_wire";
    /// XDP for test runs with live frames: sends each frame out of the interface that it is said to come from.
    pub const SEND: &str = "lab_send";
    /// TC ingress on a VM's NIC: counts and drops.
    pub const SINK: &str = "lab_sink";
    /// XDP that does nothing: what a test run costs by itself.
    pub const EMPTY_XDP: &str = "lab_empty_xdp";
    /// TC that does nothing: what a test run costs by itself.
    pub const EMPTY_TC: &str = "lab_empty_tc";
    /// `[0]`: a [`super::Probe`].
    pub const PROBE: &str = "PROBE";
    /// Interface index → the interface that the wire redirects to.
    pub const WIRE_DEVS: &str = "WIRE_DEVS";
    /// Per CPU: frames, by [`super::Counter`].
    pub const COUNTS: &str = "COUNTS";
}
