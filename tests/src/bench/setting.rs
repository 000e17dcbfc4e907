//! How hypervisors and VMs are set up: most cases share one setting, others need their own.

use std::net::Ipv4Addr;

/// A setting of the topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    /// Veth ports with one queue.
    Plain,
    /// Ports of ours are in packet-rate mode.
    PacketRate,
    /// The same as plain, for what packet-rate ports are measured in beside it.
    Bulk,
    /// The same, and ports of ours are in packet-rate mode.
    BulkPacketRate,
    /// The receiving VM is on a tap.
    TapReceiver,
    /// The sending VM is on a tap.
    TapSender,
    /// The same, and that tap is in packet-rate mode if it is a port of ours.
    TapSenderPacketRate,
    /// Both VMs are on the first hypervisor.
    Local,
    /// The same, and ports of ours are in packet-rate mode.
    LocalPacketRate,
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
            Setting::Bulk => 'k',
            Setting::BulkPacketRate => 'x',
            Setting::TapReceiver => 'r',
            Setting::TapSender => 's',
            Setting::TapSenderPacketRate => 't',
            Setting::Local => 'l',
            Setting::LocalPacketRate => 'm',
            Setting::Flood(_) => 'f',
            Setting::NoLearning => 'n',
            Setting::TwoQueues => 'q',
            Setting::TwoQueuesPacketRate => 'u',
            Setting::Bare => 'b',
        }
    }

    /// Whether the VM on a side (0 sends, 1 receives) is on a tap.
    pub(super) const fn on_tap(self, side: usize) -> bool {
        matches!((self, side), (Setting::TapSender | Setting::TapSenderPacketRate, 0) | (Setting::TapReceiver, 1))
    }

    /// On which hypervisor a VM is.
    pub(super) const fn host_of(self, vm: usize) -> usize {
        match self {
            Setting::Local | Setting::LocalPacketRate => 0,
            _ => vm,
        }
    }

    /// Queues of a veth port.
    pub(super) const fn port_queues(self) -> u32 {
        match self {
            Setting::TwoQueues | Setting::TwoQueuesPacketRate => 2,
            _ => 1,
        }
    }

    /// Whether the port of a VM is in packet-rate mode if it is ours.
    pub(super) const fn packet_rate(self, vm: usize) -> bool {
        match self {
            Setting::PacketRate | Setting::BulkPacketRate | Setting::TwoQueuesPacketRate | Setting::LocalPacketRate => {
                true
            }
            // What the mode costs and gives there is a tap's; the receiver's answers are not what is measured.
            Setting::TapSenderPacketRate => vm == 0,
            _ => false,
        }
    }

    /// What wavnet is measured in, too, in the same rounds as everybody in this setting.
    pub(super) const fn beside(self) -> Option<Setting> {
        match self {
            Setting::Bulk => Some(Setting::BulkPacketRate),
            Setting::TapSender => Some(Setting::TapSenderPacketRate),
            Setting::Local => Some(Setting::LocalPacketRate),
            _ => None,
        }
    }

    /// What rows of a setting are called that is measured beside another.
    pub(super) const fn variant(self) -> Option<&'static str> {
        match self {
            Setting::BulkPacketRate | Setting::TapSenderPacketRate | Setting::LocalPacketRate => Some("packet-rate"),
            _ => None,
        }
    }

    /// Addresses of the VTEPs beside the two that there are. Frames to them go to the second hypervisor's NIC, as to a router.
    pub(super) fn absent_vteps(self) -> impl Iterator<Item = Ipv4Addr> {
        let count = if let Setting::Flood(all) = self { all - 1 } else { 0 };
        (1..=count).map(|n| Ipv4Addr::new(172, 31, 1, n))
    }
}

/// Where [`Setting::absent_vteps`] are.
pub(super) const ABSENT: &str = "172.31.1.0/24";
