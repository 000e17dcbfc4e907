//! What the lab's programs and their user space agree on. Compiled into both.

/// What the counting programs look for, and what the wire does with it: `PROBE[0]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Destination MAC of counted frames, as a number, first octet most significant.
    pub mac: u64,
    /// Bits of that MAC that may be others; zero: none.
    pub any: u64,
    /// On the wire: the VNI of counted frames; zero: they are not encapsulated.
    pub vni: u32,
    /// On the wire: nonzero to count and drop the frames instead of passing them on.
    pub hold: u32,
}

/// The two interfaces that the TC redirect joins: `PAIR[0]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// Index of one.
    pub a: u32,
    /// Index of the other one.
    pub b: u32,
}

/// What the programs around a collect-metadata vxlan device join: `TUNNEL[0]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tunnel {
    /// Index of the VM's port.
    pub port: u32,
    /// Index of the vxlan device.
    pub device: u32,
    /// The VNI.
    pub vni: u32,
    /// The other hypervisor's IPv4 address as a number, first octet most significant.
    pub remote: u32,
}

/// What `SEND_VARIED` writes into each frame, a 32-bit word in wire order that it picks at random: `VARY[0]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vary {
    /// Where in the frame, bytes; below 128.
    pub at: u32,
    /// The smallest word.
    pub first: u32,
    /// From each word to the next one.
    pub step: u32,
    /// How many words. One of them costs as much as many.
    pub count: u32,
}

/// What programs that look up MACs do: `LOOKUPS[0]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lookups {
    /// Where the row of pseudo-random MACs begins.
    pub seed: u64,
    /// How many lookups.
    pub count: u32,
    /// How many MACs there are: see [`mac_of`].
    pub macs: u32,
    /// Nonzero: which MAC is next depends on what was found, so that each lookup waits for the one before.
    pub chained: u32,
    /// Zero.
    pub reserved: u32,
}

/// The MACs of [`Lookups`], by number.
pub const fn mac_of(number: u32) -> u64 {
    0x0600_0000_0000 | number as u64
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
    /// The same, and each frame differs from the others by a [`super::Vary`].
    pub const SEND_VARIED: &str = "lab_send_varied";
    /// TC ingress on a VM's NIC: counts and drops.
    pub const SINK: &str = "lab_sink";
    /// XDP that does nothing: what a test run costs by itself.
    pub const EMPTY_XDP: &str = "lab_empty_xdp";
    /// TC that does nothing: what a test run costs by itself.
    pub const EMPTY_TC: &str = "lab_empty_tc";
    /// XDP on two interfaces: from each to the other.
    pub const XDP_REDIRECT: &str = "lab_xdp_redirect";
    /// TC ingress on two interfaces: from each to the other.
    pub const TC_REDIRECT: &str = "lab_tc_redirect";
    /// TC ingress on a VM's port: into a collect-metadata vxlan device.
    pub const TUNNEL_OUT: &str = "lab_tunnel_out";
    /// TC ingress on a collect-metadata vxlan device: to a VM's port.
    pub const TUNNEL_IN: &str = "lab_tunnel_in";
    /// XDP for test runs: looks up MACs in [`BUCKETS`] as [`super::Lookups`] says; `XDP_PASS` if
    /// all but one in 1,024 are there.
    pub const LOOK_UP_BUCKETS: &str = "lab_look_up_buckets";
    /// The same in [`HASH`].
    pub const LOOK_UP_HASH: &str = "lab_look_up_hash";
    /// Makes the same MACs, and looks up none.
    pub const LOOK_UP_NOTHING: &str = "lab_look_up_none";
    /// `[0]`: a [`super::Probe`].
    pub const PROBE: &str = "PROBE";
    /// Interface index → the interface that the wire redirects to.
    pub const WIRE_DEVS: &str = "WIRE_DEVS";
    /// Interface index → the interface that the XDP redirect goes to.
    pub const REDIRECT_DEVS: &str = "REDIRECT_DEVS";
    /// `[0]`: a [`super::Pair`].
    pub const PAIR: &str = "PAIR";
    /// `[0]`: a [`super::Tunnel`].
    pub const TUNNEL: &str = "TUNNEL";
    /// Per CPU: frames, by [`super::Counter`].
    pub const COUNTS: &str = "COUNTS";
    /// `[0]`: a [`super::Vary`].
    pub const VARY: &str = "VARY";
    /// `[0]`: a [`super::Lookups`].
    pub const LOOKUPS: &str = "LOOKUPS";
    /// A forwarding table as wavnet has it; how large is set at load.
    pub const BUCKETS: &str = "BUCKETS";
    /// Buckets of [`BUCKETS`] minus one; set at load.
    pub const BUCKETS_MASK: &str = "BUCKETS_MASK";
    /// The kernel's hash map with the same keys; how large is set at load.
    pub const HASH: &str = "HASH";
}
