//! What one Ethernet carries, over a punched path: DHCP, VLANs, IPv6; and a static peer beside the dynamic ones.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Result, ensure};
use wavnet_common::addr::Mac;
use wavnet_tests::{
    lab::{
        self, Need, dhcp,
        frame::{VLAN, marked, tagged},
        host::{Vm, VmSpec},
        link,
        nat::NatKind,
        ping, poll_until,
        raw::RawSocket,
    },
    mesh::{Site, SiteSpec, World, meet, row},
};

const SOON: Duration = Duration::from_secs(20);
const NEEDS: &[Need] =
    &[Need::Wavnet, Need::Tool("nft"), Need::Tool("conntrack"), Need::Tool("dnsmasq"), Need::Tool("udhcpc")];

fn addresses_by_dhcp(a: &Site, b: &Site) -> Result<()> {
    let first = Ipv4Addr::new(10, 9, 0, 100);
    let server = dhcp::Server::start(&a.vm.ns, Vm::NIC, first, Ipv4Addr::new(10, 9, 0, 199))?;
    b.vm.ns.ip(&format!("address flush dev {}", Vm::NIC))?;
    let given = dhcp::request(&b.vm.ns, Vm::NIC)?;
    ensure!(given >= first && server.log().contains("DHCPACK"), "{given}: {}", server.log());
    ping::once(&a.vm.ns, given, 56, SOON)?;
    b.vm.set_address(b.addr)?;
    row("an address by DHCP", "direct", "–");
    Ok(())
}

fn tags_stay(a: &Site, b: &Site) -> Result<()> {
    let nics = [RawSocket::open(&a.vm.ns, Vm::NIC)?, RawSocket::open(&b.vm.ns, Vm::NIC)?];
    for (from, to, [here, there]) in [(a, b, [0, 1]), (b, a, [1, 0])] {
        let frame = tagged(&marked(to.vm.mac, from.vm.mac, "tagged"), VLAN, 42);
        nics[here].send(&frame)?;
        nics[there].expect("a tagged frame", SOON, |came| came == frame)?;
    }
    row("VLAN tags", "direct", "–");
    Ok(())
}

fn ipv6_flows(a: &Site, b: &Site) -> Result<()> {
    for (n, site) in [(1, a), (2, b)] {
        for which in ["all", Vm::NIC] {
            site.vm.ns.sysctl(&format!("net/ipv6/conf/{which}/disable_ipv6"), "0")?;
        }
        site.vm.ns.ip(&format!("-6 address add 2001:db8::{n}/64 dev {} nodad", Vm::NIC))?;
    }
    let size = ["-6", "-c", "1", "-W", "1", "-s", "1400", "2001:db8::2"];
    poll_until("IPv6", SOON, || a.vm.ns.run("ping", &size))?;
    row("IPv6", "direct", "–");
    Ok(())
}

#[test]
fn dhcp_vlans_ipv6_and_a_static_kernel_peer_are_one_network_with_punched_paths() {
    lab::run("dhcp_vlans_ipv6_and_a_static_kernel_peer_are_one_network_with_punched_paths", NEEDS, |lab| {
        let mut world = World::new(lab, None)?;
        let kernel = world.internet.host(lab, "kernel", 1, None)?.host;
        let beside = |kind| SiteSpec { peers: vec![kernel.addr], ..SiteSpec::behind(kind) };
        // The kernel's datagrams are let in to a full cone: it cannot open a mapping of its own.
        let [open, natted, hidden] = world.sites(
            lab,
            [&beside(None), &beside(Some(NatKind::FullCone)), &SiteSpec::behind(Some(NatKind::PortRestrictedCone))],
        )?;
        meet("beside a static kernel vxlan peer", (&open, &natted), "direct", SOON)?;
        meet("untagged IPv4", (&hidden, &natted), "direct", SOON)?;
        addresses_by_dhcp(&natted, &hidden)?;
        tags_stay(&natted, &hidden)?;
        ipv6_flows(&natted, &hidden)?;

        let external = natted.router.as_ref().map_or(natted.host.addr, |router| router.external());
        link::kernel_vtep(&kernel.ns, World::vni(), kernel.addr, &[open.host.addr, external], 1500)?;
        let addr = Ipv4Addr::new(10, 9, 0, 99);
        let vm = kernel.vm(lab, &VmSpec::new("vmk", Mac([2, 9, 0, 0, 0, 99]), addr))?;
        link::enslave(&kernel.ns, &vm.port, &format!("br{}", World::vni()))?;
        for site in [&open, &natted] {
            ping::once(&site.vm.ns, addr, 1400, SOON)?;
            ping::once(&vm.ns, site.addr, 1400, SOON)?;
        }
        // Nobody hands frames on from one peer to another.
        ping::unreachable(&hidden.vm.ns, addr)?;
        row("a static kernel vxlan peer and dynamic peers", "direct", "–");
        hidden.wait_for_path(&natted, "direct", SOON)
    });
}
