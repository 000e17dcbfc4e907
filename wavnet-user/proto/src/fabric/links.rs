//! The interfaces there are.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::LinkInfo;

/// An interface and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) info: LinkInfo,
    pub(super) addresses: Vec<Ipv4Addr>,
    /// Why attaching failed; not tried again before the next retry.
    pub(super) failed: Option<String>,
    /// There was no room for it as a port.
    pub(super) no_room: bool,
    /// By what it sends it shall have XDP, if it may.
    pub(super) xdp: bool,
    /// Why the kernel has refused XDP.
    pub(super) xdp_refused: Option<String>,
}

/// The interfaces there are, by index.
#[derive(Clone, Debug, Default)]
pub(super) struct Links(BTreeMap<u32, Link>);

impl Links {
    pub(super) fn get(&self, ifindex: u32) -> Option<&Link> {
        self.0.get(&ifindex)
    }

    pub(super) fn get_mut(&mut self, ifindex: u32) -> Option<&mut Link> {
        self.0.get_mut(&ifindex)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.0.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Link> {
        self.0.values_mut()
    }

    pub(super) fn named(&self, name: &str) -> Option<&Link> {
        // A rename can give a name to a second interface before we hear of the first one's new name: the newer one has it.
        self.0.values().rev().find(|l| l.info.name == name)
    }

    /// Takes what is known of a link; the earlier knowledge, if that was different.
    pub(super) fn put(&mut self, info: LinkInfo) -> Change {
        match self.0.get_mut(&info.ifindex) {
            Some(link) if link.info == info => Change::None,
            Some(link) => {
                let carries = |l: &LinkInfo| (l.mtu, l.mac, l.up, l.loopback, l.no_arp);
                let change = if carries(&link.info) == carries(&info) { Change::Other } else { Change::Carrier };
                link.info = info;
                change
            }
            None => {
                let link =
                    Link { info, addresses: Vec::new(), failed: None, no_room: false, xdp: false, xdp_refused: None };
                self.0.insert(link.info.ifindex, link);
                Change::Carrier
            }
        }
    }

    pub(super) fn remove(&mut self, ifindex: u32) -> Option<Link> {
        self.0.remove(&ifindex)
    }

    pub(super) fn has_address(&self, addr: Ipv4Addr) -> bool {
        self.0.values().any(|l| l.addresses.contains(&addr))
    }
}

/// What a piece of news changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// Name and the like.
    Other,
    /// How packets go over it: routes may have changed with it.
    Carrier,
}
