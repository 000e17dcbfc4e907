//! Why a frame was discarded: one enum, one counter per variant, one metric label per variant.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $label:literal,)+) => {
        /// Why a frame was discarded. The discriminant is the index into the `DROPS` map; the label is the
        /// value of `reason` in `wavnet_drops_total`.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)+ }

        impl Reason {
            /// Every reason, in the order of the `DROPS` map.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)+];

            /// The value of the metric's label `reason`.
            pub const fn label(self) -> &'static str {
                match self { $(Reason::$name => $label,)+ }
            }

            /// What the reason means, in a sentence or two, for people.
            pub const fn help(self) -> &'static str {
                match self { $(Reason::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

reasons! {
    /// The frame or its outer headers end before a header they announce.
    OuterTruncated = "outer_truncated",
    /// The outer IPv4 header is impossible: version, header length or total length do not fit the packet.
    OuterMalformed = "outer_malformed",
    /// The outer IPv4 header checksum is wrong.
    OuterChecksum = "outer_checksum",
    /// The outer IPv4 header has options, which no VTEP sends.
    OuterOptions = "outer_options",
    /// The outer packet is a fragment; a VTEP must not fragment (RFC 7348 section 4.3).
    OuterFragment = "outer_fragment",
    /// The kernel merged several datagrams before the program saw them; `ethtool -K NIC rx-udp-gro-forwarding off rx-gro-list off`.
    OuterAggregated = "outer_aggregated",
    /// The NIC took a VLAN tag off a frame of another network before XDP saw it; `ethtool -K NIC rx-vlan-offload off`.
    OuterTagged = "outer_tagged",
    /// The outer TTL was zero on arrival.
    OuterTtl = "outer_ttl",
    /// The outer source is this VTEP's own address: a loop or a forgery.
    OwnSource = "own_source",
    /// The outer source is an address that no host can have (0.0.0.0/8).
    OuterSource = "outer_source",
    /// The datagram on our port is STUN or control and not VXLAN (RFC 7348 section 5), and no agent of ours has a socket for it.
    VxlanFlags = "vxlan_flags",
    /// The datagram on our port is neither VXLAN (its I flag is not set, RFC 7348 section 5) nor anything else that we know.
    UnknownPayload = "unknown_payload",
    /// The VNI is not configured on this host.
    UnknownVni = "unknown_vni",
    /// The outer source address is no configured peer.
    UnknownVtep = "unknown_vtep",
    /// The datagram comes from an address and port (or, by a relay, with a label) that are no peer's, or to another of our ports than that
    /// peer's do.
    UnknownPath = "unknown_path",
    /// The answer to a pulse that was not sent, was answered already, or was given up.
    PulseStray = "pulse_stray",
    /// The peer is known, but is not a member of this VNI.
    NotMember = "not_member",
    /// The inner frame is shorter than an Ethernet header.
    InnerTruncated = "inner_truncated",
    /// The inner source MAC is a group address or zero, which no station may use.
    BadSourceMac = "bad_source_mac",
    /// The inner destination is 01:80:c2:00:00:00-0f, which bridges never forward (STP, LACP, pause).
    BridgeReserved = "bridge_reserved",
    /// The inner frame carries a VLAN tag and the port is set to discard those (RFC 7348 section 6.1).
    VlanTagged = "vlan_tagged",
    /// The frame has more VLAN tags than the port program can carry (two).
    VlanStack = "vlan_stack",
    /// The frame came in on a port that is not in the tables, or leaves to one that is gone.
    UnknownPort = "unknown_port",
    /// The port that the frame is for is administratively down.
    PortDown = "port_down",
    /// The destination is behind the port or peer the frame came from: nothing to forward.
    Hairpin = "hairpin",
    /// The destination MAC is behind a peer and the frame came from a peer: peers are never bridged (split horizon).
    SplitHorizon = "split_horizon",
    /// Encapsulated, the frame would exceed the underlay's MTU.
    ExceedsUnderlayMtu = "exceeds_underlay_mtu",
    /// Decapsulated, the frame exceeds the port's MTU.
    ExceedsPortMtu = "exceeds_port_mtu",
    /// There is no route to the peer.
    NoRoute = "no_route",
    /// The next hop's link address is not known; the kernel is asked to resolve it.
    NeighbourUnresolved = "neighbour_unresolved",
    /// There is nobody to flood the frame to.
    NoReceiver = "no_receiver",
    /// A tunnel's super-packet, from a tunnel inside a container; there, `ethtool -K NIC tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off`.
    NestedTunnel = "nested_tunnel",
    /// The kernel refused to change the packet (no memory or headroom).
    Rewrite = "rewrite",
    /// The kernel refused a copy for one receiver of a flooded frame, or its transmission.
    CloneFailed = "clone_failed",
    /// A VM handed a super-packet to a tap with XDP as what looks like one frame: sent as it is, it would have arrived damaged. TC would have cut it; `mode = "throughput"` leaves the port to TC.
    HiddenOffload = "hidden_offload",
}

impl Reason {
    /// How many reasons there are: the size of the `DROPS` map.
    pub const COUNT: usize = Reason::ALL.len();

    /// True for what should not happen on a sound host, whatever frames come in: worth a line in the log.
    #[inline(always)]
    pub const fn is_surprising(self) -> bool {
        matches!(self, Reason::UnknownPort | Reason::Rewrite | Reason::CloneFailed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn labels_are_unique_snake_case_and_in_map_order() {
        let mut seen = HashSet::new();
        for (i, r) in Reason::ALL.iter().enumerate() {
            assert_eq!(*r as usize, i);
            assert!(seen.insert(r.label()), "{r:?} repeats a label");
            assert!(r.label().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            assert!(r.help().ends_with('.'), "{r:?}");
        }
    }
}
