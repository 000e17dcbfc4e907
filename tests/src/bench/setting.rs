//! How hypervisors and VMs are set up: most cases share one setting, others need their own.

use std::net::Ipv4Addr;

/// A setting of the topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    /// Veth ports with one queue.
    Plain,
    /// Ports of ours are in packet-rate mode.
    PacketRate,
    /// The receiving VM is on a tap.
    TapReceiver,
    /// The sending VM is on a tap.
    TapSender,
    /// So many VTEPs get what is flooded.
    Flood(u8),
    /// Nothing is learned: we are told who is where.
    NoLearning,
    /// Ports have two queues.
    TwoQueues,
    /// The same, and ports of ours are in packet-rate mode.
    TwoQueuesPacketRate,
    /// Nobody connects the VMs: the case does.
    Bare,
}

impl Setting {
    /// For names of namespaces.
    pub(super) const fn letter(self) -> char {
        match self {
            Setting::Plain => 'a',
            Setting::PacketRate => 'p',
            Setting::TapReceiver => 'r',
            Setting::TapSender => 's',
            Setting::Flood(_) => 'f',
            Setting::NoLearning => 'n',
            Setting::TwoQueues => 'q',
            Setting::TwoQueuesPacketRate => 'u',
            Setting::Bare => 'b',
        }
    }

    /// Whether the VM on a side (0 sends, 1 receives) is on a tap.
    pub(super) const fn on_tap(self, side: usize) -> bool {
        matches!((self, side), (Setting::TapSender, 0) | (Setting::TapReceiver, 1))
    }

    /// Queues of a veth port.
    pub(super) const fn port_queues(self) -> u32 {
        match self {
            Setting::TwoQueues | Setting::TwoQueuesPacketRate => 2,
            _ => 1,
        }
    }

    /// Whether ports of ours are in packet-rate mode.
    pub(super) const fn packet_rate(self) -> bool {
        matches!(self, Setting::PacketRate | Setting::TwoQueuesPacketRate)
    }

    /// Addresses of the VTEPs beside the two that there are. Frames to them go to the second hypervisor's NIC, as to a router.
    pub(super) fn absent_vteps(self) -> impl Iterator<Item = Ipv4Addr> {
        let count = if let Setting::Flood(all) = self { all - 1 } else { 0 };
        (1..=count).map(|n| Ipv4Addr::new(172, 31, 1, n))
    }
}

/// Where [`Setting::absent_vteps`] are.
pub(super) const ABSENT: &str = "172.31.1.0/24";
