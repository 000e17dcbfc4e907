//! XDP on ports, as far as it comes and goes while the port stays.

use wavnet_common::abi::PortFlags;

use super::{Fabric, LinkInfo, PortMode, target::rule_for};

/// A port whose XDP is chosen for by what its VM sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptivePort {
    /// Slot in `PORTS`.
    pub index: u16,
    /// Interface index.
    pub ifindex: u32,
    /// It has XDP now.
    pub xdp: bool,
}

impl Fabric {
    /// The ports to choose for. `None`: changes of the tables wait for a retry, and what the programs have is not known.
    pub fn adaptive_ports(&self) -> Option<Vec<AdaptivePort>> {
        if self.failures.holds() {
            return None;
        }
        let slots = self.tables.ports.iter().filter(|(_, s)| s.ours && s.port.flags & PortFlags::ADAPTIVE != 0);
        let port = |(index, ifindex, flags)| AdaptivePort { index, ifindex, xdp: flags & PortFlags::XDP != 0 };
        Some(slots.map(|(index, s)| port((*index, s.port.ifindex, s.port.flags))).collect())
    }

    /// A choice for one of [`Fabric::adaptive_ports`].
    pub fn choose_xdp(&mut self, ifindex: u32, xdp: bool) {
        if let Some(link) = self.links.get_mut(ifindex) {
            self.dirty |= link.xdp != xdp;
            link.xdp = xdp;
        }
    }

    /// The kernel has refused XDP on a port, which goes on without. It is not tried again before the interface is another one, the
    /// configuration is read again, or the port is added by command.
    pub fn xdp_refused(&mut self, ifindex: u32, why: &str) {
        if let Some(link) = self.links.get_mut(ifindex) {
            link.xdp_refused = Some(why.to_owned());
            // Next time it is chosen for anew.
            link.xdp = false;
            self.dirty = true;
        }
    }

    /// True if it matters of an interface what [`LinkInfo::datagram_gso`] says.
    pub fn wants_features(&self, info: &LinkInfo) -> bool {
        let chosen = || self.links.get(info.ifindex).is_some_and(|link| link.xdp);
        let mode = rule_for(&self.desired, &self.runtime, &info.name).map(|rule| rule.port.mode);
        info.is_tap() && (mode == Some(PortMode::PacketRate) || mode == Some(PortMode::Auto) && chosen())
    }

    /// What was refused on an interface, or (`None`) on any, may be granted now.
    pub(super) fn forgive_xdp(&mut self, name: Option<&str>) {
        for link in self.links.iter_mut().filter(|link| name.is_none_or(|name| link.info.name == name)) {
            self.dirty |= link.xdp_refused.take().is_some();
        }
    }

    /// An earlier agent had chosen XDP for a port of which nothing else is known yet.
    pub(super) fn had_xdp(&self, ifindex: u32) -> bool {
        let slot = self.tables.port_of(ifindex).map(|(_, slot)| slot);
        let news = self.links.get(ifindex).is_none() && !self.reborn.contains(&ifindex);
        news && slot.is_some_and(|s| !s.ours && s.port.flags & PortFlags::XDP != 0)
    }
}
