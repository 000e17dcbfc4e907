//! The interfaces there are.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::LinkInfo;

/// An interface and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) info: LinkInfo,
    pub(crate) addresses: Vec<Ipv4Addr>,
    /// Why attaching failed; not tried again before the next retry.
    pub(crate) failed: Option<String>,
    /// There was no room for it as a port.
    pub(crate) no_room: bool,
    /// By what it sends it shall have XDP, if it may.
    pub(crate) xdp: bool,
    /// Why the kernel has refused XDP.
    pub(crate) xdp_refused: Option<String>,
}

/// The interfaces there are, by index.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links(BTreeMap<u32, Link>);

impl Links {
    pub(crate) fn get(&self, ifindex: u32) -> Option<&Link> {
        self.0.get(&ifindex)
    }

    pub(crate) fn get_mut(&mut self, ifindex: u32) -> Option<&mut Link> {
        self.0.get_mut(&ifindex)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.0.values()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Link> {
        self.0.values_mut()
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Link> {
        // A rename can give a name to a second interface before we hear of the first one's new name: the newer one has it.
        self.0.values().rev().find(|l| l.info.name == name)
    }

    /// Takes what is known of a link; the earlier knowledge, if that was different.
    pub(crate) fn put(&mut self, info: LinkInfo) -> Change {
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

    pub(crate) fn remove(&mut self, ifindex: u32) -> Option<Link> {
        self.0.remove(&ifindex)
    }

    pub(crate) fn has_address(&self, addr: Ipv4Addr) -> bool {
        self.0.values().any(|l| l.addresses.contains(&addr))
    }
}

/// What a piece of news changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// Name and the like.
    Other,
    /// How packets go over it: routes may have changed with it.
    Carrier,
}
