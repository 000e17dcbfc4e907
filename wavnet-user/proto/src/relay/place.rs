//! Which interface the relay's programs go to, and at which address the server is reached by it.

use std::net::Ipv4Addr;

use crate::fabric::links::{Link, Links};

/// What the operator says about the interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The one with the server's address, else the one that leads to the internet.
    Auto,
    /// The one of this name.
    Named(String),
}

/// An interface for the relay's programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// The server's address, which datagrams are relayed to and from.
    pub addr: Ipv4Addr,
}

/// Why there is no interface for the relay's programs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// None has the name.
    #[error("there is no interface {0}")]
    NoInterface(String),
    /// It has no IPv4 address, and the server listens at all of them.
    #[error("{0} has no IPv4 address")]
    NoAddress(String),
    /// Several could be meant, or none.
    #[error("no interface is the one that leads to the hosts: name it with `relay_xdp`")]
    Ambiguous,
}

/// Chooses an interface for a server that listens at an address, which may be 0.0.0.0. `outward` is the interface that leads to the
/// internet, if one does.
pub(super) fn choose(links: &Links, wish: &Wish, listen: Ipv4Addr, outward: Option<u32>) -> Result<Place, NoPlace> {
    let link = match wish {
        Wish::Named(name) => links.named(name).ok_or_else(|| NoPlace::NoInterface(name.clone()))?,
        Wish::Auto => auto(links, listen, outward).ok_or(NoPlace::Ambiguous)?,
    };
    let addr = if listen.is_unspecified() { link.addresses.first().copied() } else { Some(listen) };
    let name = link.info.name.clone();
    match addr {
        Some(addr) => Ok(Place { ifindex: link.info.ifindex, name, addr }),
        None => Err(NoPlace::NoAddress(name)),
    }
}

fn auto(links: &Links, listen: Ipv4Addr, outward: Option<u32>) -> Option<&Link> {
    let is_able = |link: &&Link| !link.info.loopback && link.info.mac.is_some() && !link.addresses.is_empty();
    let able: Vec<&Link> = links.iter().filter(is_able).collect();
    let has_it = |link: &&&Link| !listen.is_unspecified() && link.addresses.contains(&listen);
    if let Some(link) = able.iter().find(has_it) {
        return Some(link);
    }
    // At all addresses, or at one that is on the loopback interface, as routers announce them.
    let leads_out = |link: &&&Link| Some(link.info.ifindex) == outward;
    match (able.iter().find(leads_out), able.as_slice()) {
        (Some(link), _) | (None, [link]) => Some(link),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fabric::LinkInfo;
    use wavnet_common::addr::Mac;

    fn links(all: &[(u32, &str, &[[u8; 4]])]) -> Links {
        let mut links = Links::default();
        for (ifindex, name, addresses) in all {
            let loopback = *name == "lo";
            links.put(LinkInfo {
                ifindex: *ifindex,
                name: (*name).to_owned(),
                mtu: 1500,
                mac: (*name != "tun0").then_some(Mac([2; 6])),
                up: true,
                loopback,
                no_arp: loopback,
                kind: None,
                xdp_redirect: None,
                datagram_gso: false,
            });
            if let Some(link) = links.get_mut(*ifindex) {
                link.addresses = addresses.iter().map(|a| Ipv4Addr::from(*a)).collect();
            }
        }
        links
    }

    const LO: (u32, &str, &[[u8; 4]]) = (1, "lo", &[[127, 0, 0, 1], [203, 0, 113, 9]]);
    const ETH0: (u32, &str, &[[u8; 4]]) = (2, "eth0", &[[192, 0, 2, 1], [192, 0, 2, 2]]);
    const ETH1: (u32, &str, &[[u8; 4]]) = (3, "eth1", &[[10, 0, 0, 1]]);
    const BARE: (u32, &str, &[[u8; 4]]) = (4, "eth2", &[]);
    const TUN: (u32, &str, &[[u8; 4]]) = (5, "tun0", &[[10, 1, 0, 1]]);

    fn chosen(
        all: &[(u32, &str, &[[u8; 4]])],
        wish: &str,
        listen: [u8; 4],
        outward: Option<u32>,
    ) -> Result<(String, Ipv4Addr), NoPlace> {
        let wish = if wish == "auto" { Wish::Auto } else { Wish::Named(wish.to_owned()) };
        choose(&links(all), &wish, listen.into(), outward).map(|place| (place.name, place.addr))
    }

    #[test]
    fn the_interface_with_the_servers_address_is_taken() {
        let all = [LO, ETH0, ETH1, BARE, TUN];
        assert_eq!(chosen(&all, "auto", [192, 0, 2, 2], Some(3)), Ok(("eth0".into(), [192, 0, 2, 2].into())));
        assert_eq!(chosen(&all, "auto", [10, 0, 0, 1], None), Ok(("eth1".into(), [10, 0, 0, 1].into())));
    }

    #[test]
    fn else_the_one_that_leads_to_the_internet_or_the_only_one() {
        let all = [LO, ETH0, ETH1, BARE, TUN];
        assert_eq!(chosen(&all, "auto", [0; 4], Some(2)), Ok(("eth0".into(), [192, 0, 2, 1].into())));
        assert_eq!(chosen(&all, "auto", [203, 0, 113, 9], Some(3)), Ok(("eth1".into(), [203, 0, 113, 9].into())));
        assert_eq!(chosen(&[LO, ETH1, BARE, TUN], "auto", [0; 4], None), Ok(("eth1".into(), [10, 0, 0, 1].into())));
        for outward in [None, Some(1), Some(4), Some(5), Some(77)] {
            assert_eq!(chosen(&all, "auto", [0; 4], outward), Err(NoPlace::Ambiguous), "{outward:?}");
        }
        assert_eq!(chosen(&[LO], "auto", [127, 0, 0, 1], Some(1)), Err(NoPlace::Ambiguous));
    }

    #[test]
    fn one_that_is_named_is_taken_if_it_can_be() {
        let all = [LO, ETH0, BARE];
        assert_eq!(chosen(&all, "eth2", [192, 0, 2, 2], Some(2)), Ok(("eth2".into(), [192, 0, 2, 2].into())));
        assert_eq!(chosen(&all, "eth2", [0; 4], Some(2)), Err(NoPlace::NoAddress("eth2".into())));
        assert_eq!(chosen(&all, "eth9", [0; 4], Some(2)), Err(NoPlace::NoInterface("eth9".into())));
    }
}
