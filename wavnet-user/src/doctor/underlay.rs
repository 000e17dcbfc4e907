//! Checks of the underlay and of what else speaks VXLAN on this host.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use rtnetlink::packet_route::{
    address::AddressAttribute,
    link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
};

use wavnet_proto::fabric::XdpRedirect;

use super::{Asked, Check, Verdict};
use crate::ethtool::Ethtool;
use crate::{config::VXLAN_OVERHEAD, netlink::Netlink};

/// What the checks need of an interface.
#[derive(Clone, Debug, Default, PartialEq)]
struct Link {
    index: u32,
    name: String,
    mtu: u32,
    up: bool,
    loopback: bool,
    veth: bool,
    /// UDP port of a kernel vxlan device.
    vxlan_port: Option<u16>,
    /// The driver takes frames that XDP redirects to it; `None` if the kernel does not say.
    xdp_redirect: Option<XdpRedirect>,
}

pub(super) fn checks(asked: &Asked) -> Vec<Check> {
    const NAME: &str = "interfaces";
    let (links, addresses) = match facts() {
        Ok(facts) => facts,
        Err(e) => return vec![Check::new(NAME, Verdict::Unknown, format!("{e:#}"), "allow netlink sockets")],
    };
    let mut checks = vec![vxlan_devices(&links, asked.udp_port)];
    let Some(name) = &asked.underlay else {
        let mend = "run this with --config FILE or --underlay INTERFACE";
        checks.push(Check::new("underlay", Verdict::Unknown, "not asked for", mend));
        return checks;
    };
    let Some(link) = links.iter().find(|l| l.name == *name) else {
        let names: Vec<_> = links.iter().map(|l| l.name.as_str()).collect();
        let mend = format!("correct underlay.interface; there are: {}", names.join(", "));
        checks.push(Check::new("underlay", Verdict::Fail, format!("there is no interface {name}"), mend));
        return checks;
    };
    let own: Vec<_> = addresses.iter().filter(|(i, _)| *i == link.index).map(|(_, a)| *a).collect();
    checks.push(state(link));
    checks.push(address(link, asked.address, &own));
    checks.push(mtu(link, asked.vni_mtu));
    checks.extend(driver(link));
    checks
}

type Facts = (Vec<Link>, Vec<(u32, Ipv4Addr)>);

fn facts() -> Result<Facts> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().context("opening a netlink socket")?;
        let connection = tokio::spawn(connection);
        let links: Vec<LinkMessage> =
            handle.link().get().execute().try_collect().await.context("listing interfaces")?;
        let messages: Vec<_> = handle.address().get().execute().try_collect().await.context("listing addresses")?;
        connection.abort();
        let mut addresses = Vec::new();
        for m in messages {
            for a in m.attributes {
                // The local one: on point-to-point links `Address` is the other end's.
                if let AddressAttribute::Local(IpAddr::V4(address)) = a {
                    addresses.push((m.header.index, address));
                }
            }
        }
        let features = Netlink::open().context("opening a netlink socket")?.xdp_redirect_all();
        let mut links: Vec<Link> = links.iter().map(link).collect();
        for link in &mut links {
            link.xdp_redirect = features.get(&link.index).copied();
        }
        Ok((links, addresses))
    })
}

fn link(message: &LinkMessage) -> Link {
    let up = message.header.flags.contains(LinkFlags::Up);
    let loopback = message.header.flags.contains(LinkFlags::Loopback);
    let mut link = Link { index: message.header.index, up, loopback, ..Link::default() };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(InfoKind::Veth) => link.veth = true,
                        LinkInfo::Data(InfoData::Vxlan(data)) => {
                            link.vxlan_port = data.iter().find_map(|d| match d {
                                InfoVxlan::Port(port) => Some(*port),
                                _ => None,
                            });
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    link
}

fn vxlan_devices(links: &[Link], udp_port: u16) -> Check {
    const NAME: &str = "other VXLAN";
    let same: Vec<_> = links.iter().filter(|l| l.vxlan_port == Some(udp_port)).map(|l| l.name.as_str()).collect();
    if same.is_empty() {
        Check::ok(NAME, format!("no vxlan device of the kernel on UDP port {udp_port}"))
    } else {
        let names = same.join(", ");
        let found = format!("the kernel's vxlan device {names} uses UDP port {udp_port}, too");
        let mend =
            "wavnet takes the frames first: remove the device, or set underlay.port to another port on all hosts";
        Check::new(NAME, Verdict::Warn, found, mend)
    }
}

fn state(link: &Link) -> Check {
    if link.loopback {
        let found = format!("{} is the loopback interface, which reaches no other host", link.name);
        Check::new("underlay", Verdict::Fail, found, "name the NIC that reaches the peers")
    } else if link.up {
        Check::ok("underlay", format!("{} is up", link.name))
    } else {
        let mend = format!("ip link set {} up", link.name);
        Check::new("underlay", Verdict::Fail, format!("{} is down", link.name), mend)
    }
}

fn address(link: &Link, wanted: Option<Ipv4Addr>, own: &[Ipv4Addr]) -> Check {
    const NAME: &str = "underlay address";
    let name = &link.name;
    match (wanted, own.first()) {
        (Some(wanted), _) if own.contains(&wanted) => Check::ok(NAME, format!("{wanted} is on {name}")),
        (Some(wanted), _) => {
            let mend = format!("ip address add {wanted}/LENGTH dev {name}, or correct underlay.address");
            Check::new(NAME, Verdict::Warn, format!("{wanted} is not on {name}"), mend)
        }
        (None, Some(first)) => Check::ok(NAME, format!("{first}, the first on {name}")),
        (None, None) => {
            let mend = format!("ip address add ADDRESS/LENGTH dev {name}");
            Check::new(NAME, Verdict::Fail, format!("{name} has no IPv4 address"), mend)
        }
    }
}

fn mtu(link: &Link, vni_mtu: Option<u32>) -> Check {
    const NAME: &str = "underlay MTU";
    let inner = vni_mtu.unwrap_or(1500);
    let need = inner + VXLAN_OVERHEAD;
    if link.mtu >= need {
        return Check::ok(NAME, format!("{}: fits an inner MTU of {}", link.mtu, link.mtu - VXLAN_OVERHEAD));
    }
    let fits = link.mtu.saturating_sub(VXLAN_OVERHEAD);
    let found = format!("{}: an inner MTU of {inner} needs {need}", link.mtu);
    let mend = format!("ip link set {} mtu {need} (switches on the way, too), or give VMs an MTU of {fits}", link.name);
    Check::new(NAME, if vni_mtu.is_some() { Verdict::Fail } else { Verdict::Warn }, found, mend)
}

fn driver(link: &Link) -> Vec<Check> {
    const NAME: &str = "underlay driver";
    let asked = Ethtool::new().and_then(|e| Ok((e.driver(&link.name)?, e.tx_checksum_offload(&link.name).ok())));
    match asked {
        Err(e) => {
            let found = format!("{} does not say: {e}", link.name);
            vec![Check::new(NAME, Verdict::Unknown, found, "nothing; `wavnet status` shows the hook that attaches")]
        }
        Ok((driver, offload)) => {
            let mut checks = vec![driver_xdp(link, &driver)];
            checks.extend(checksums(&link.name, link.veth, offload));
            checks
        }
    }
}

/// What is known of XDP in the driver: one that takes redirected frames runs programs, too; the reverse does not hold.
fn driver_xdp(link: &Link, driver: &str) -> Check {
    const NAME: &str = "underlay driver";
    match link.xdp_redirect {
        Some(XdpRedirect::OneBuffer | XdpRedirect::Everything) => Check::ok(NAME, format!("{driver}, which has XDP")),
        Some(XdpRedirect::Nothing) => {
            Check::ok(NAME, format!("{driver}; its XDP is tried when the agent starts, with fallbacks"))
        }
        None => Check::ok(NAME, format!("{driver}; the kernel does not say whether it has XDP (Linux 6.3 does)")),
    }
}

/// What there is to say of an interface that leaves checksums unfinished, if it does.
pub(crate) fn checksum_warning(interface: &str, veth: bool) -> Option<String> {
    // Asked every few seconds while an agent runs: only where the answer matters.
    let ask = || Ethtool::new().and_then(|e| e.tx_checksum_offload(interface)).ok();
    let offload = if veth { ask() } else { None };
    let check = checksums(interface, veth, offload).filter(|c| c.verdict == Verdict::Warn)?;
    Some(format!("{}: {}", check.found, check.mend?))
}

fn checksums(name: &str, veth: bool, offload: Option<bool>) -> Option<Check> {
    const NAME: &str = "underlay checksums";
    if !veth {
        return None;
    }
    Some(match offload {
        Some(true) => Check::new(
            NAME,
            Verdict::Warn,
            format!("{name} is a veth that leaves checksums unfinished"),
            format!(
                "ethtool -K {name} tx off, on this end and on the other; otherwise VMs can get frames with partial checksums"
            ),
        ),
        Some(false) => Check::ok(NAME, "finished before the veth"),
        None => Check::new(NAME, Verdict::Unknown, "the veth does not say", format!("ethtool -K {name} tx off")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eth(mtu: u32) -> Link {
        Link { index: 2, name: "eth1".into(), mtu, up: true, ..Link::default() }
    }

    #[test]
    fn the_mtu_must_fit() {
        assert_eq!(mtu(&eth(1550), None).verdict, Verdict::Ok);
        assert_eq!(mtu(&eth(1549), None).verdict, Verdict::Warn);
        assert_eq!(mtu(&eth(1549), Some(1500)).verdict, Verdict::Fail);
        let small = mtu(&eth(1500), Some(1500));
        assert!(small.mend.unwrap().contains("mtu 1550"));
    }

    #[test]
    fn an_underlay_is_up_and_leads_somewhere() {
        assert_eq!(state(&eth(1500)).verdict, Verdict::Ok);
        assert_eq!(state(&Link { up: false, ..eth(1500) }).verdict, Verdict::Fail);
        assert_eq!(state(&Link { loopback: true, ..eth(65536) }).verdict, Verdict::Fail);
    }

    #[test]
    fn addresses() {
        let a = Ipv4Addr::new(192, 0, 2, 1);
        let b = Ipv4Addr::new(192, 0, 2, 2);
        assert_eq!(address(&eth(1500), None, &[]).verdict, Verdict::Fail);
        assert_eq!(address(&eth(1500), None, &[a]).verdict, Verdict::Ok);
        assert_eq!(address(&eth(1500), Some(b), &[a, b]).verdict, Verdict::Ok);
        assert_eq!(address(&eth(1500), Some(b), &[a]).verdict, Verdict::Warn);
    }

    #[test]
    fn a_vxlan_device_on_our_port_is_named() {
        let other = Link { name: "vxlan7".into(), vxlan_port: Some(4789), ..Link::default() };
        let check = vxlan_devices(&[eth(1500), other], 4789);
        assert_eq!(check.verdict, Verdict::Warn);
        assert!(check.found.contains("vxlan7"));
        assert_eq!(vxlan_devices(&[eth(1500)], 4789).verdict, Verdict::Ok);
    }

    #[test]
    fn only_a_veth_with_offload_is_warned_of() {
        assert_eq!(checksums("eth1", false, Some(true)), None);
        assert_eq!(checksums("eth1", true, Some(false)).unwrap().verdict, Verdict::Ok);
        let warned = checksums("eth1", true, Some(true)).unwrap();
        assert_eq!(warned.verdict, Verdict::Warn);
        assert!(warned.mend.unwrap().contains("ethtool -K eth1 tx off"));
        assert_eq!(checksum_warning("lo", false), None);
    }
}
