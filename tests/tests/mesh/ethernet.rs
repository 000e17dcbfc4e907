//! What one Ethernet carries, over a punched path: DHCP, VLANs, IPv6; and a static peer beside the dynamic ones.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::ensure;
use wavnet_common::addr::Mac;
use wavnet_tests::{
    lab::{
        self, Need, dhcp,
        frame::{VLAN, marked, tagged},
        host::{Vm, VmSpec},
        link,
        nat::{NatKind, RouterSpec},
        ping, poll_until,
        raw::RawSocket,
    },
    mesh::{SiteSpec, World, meet, row},
};

const SOON: Duration = Duration::from_secs(20);
const NEEDS: &[Need] = &[Need::Wavnet, Need::Tool("dnsmasq"), Need::Tool("udhcpc")];

#[test]
fn dhcp_vlans_and_ipv6_go_over_a_punched_path() {
    lab::run("dhcp_vlans_and_ipv6_go_over_a_punched_path", NEEDS, |lab| {
        let mut world = World::new(lab, None)?;
        let spec = SiteSpec::behind(Some(NatKind::PortRestrictedCone));
        let (a, b) = (world.site(lab, &spec)?, world.site(lab, &spec)?);
        meet("untagged IPv4", (&a, &b), "direct", SOON)?;

        let first = Ipv4Addr::new(10, 9, 0, 100);
        let server = dhcp::Server::start(&a.vm.ns, Vm::NIC, first, Ipv4Addr::new(10, 9, 0, 199))?;
        b.vm.ns.ip(&format!("address flush dev {}", Vm::NIC))?;
        let given = dhcp::request(&b.vm.ns, Vm::NIC)?;
        ensure!(given >= first && server.log().contains("DHCPACK"), "{given}: {}", server.log());
        ping::once(&a.vm.ns, given, 56, SOON)?;
        row("an address by DHCP", "direct", "–");

        let nics = [RawSocket::open(&a.vm.ns, Vm::NIC)?, RawSocket::open(&b.vm.ns, Vm::NIC)?];
        for (from, to, [here, there]) in [(&a, &b, [0, 1]), (&b, &a, [1, 0])] {
            let frame = tagged(&marked(to.vm.mac, from.vm.mac, "tagged"), VLAN, 42);
            nics[here].send(&frame)?;
            nics[there].expect("a tagged frame", SOON, |came| came == frame)?;
        }
        row("VLAN tags", "direct", "–");

        for (n, site) in [(1, &a), (2, &b)] {
            let ns = &site.vm.ns;
            for which in ["all", "eth0"] {
                ns.sysctl(&format!("net/ipv6/conf/{which}/disable_ipv6"), "0")?;
            }
            ns.ip(&format!("-6 address add 2001:db8::{n}/64 dev {} nodad", Vm::NIC))?;
        }
        poll_until("IPv6", SOON, || a.vm.ns.run("ping", &["-6", "-c", "1", "-W", "1", "2001:db8::2"]))?;
        row("IPv6", "direct", "–");
        for site in [&a, &b] {
            ensure!(site.agent.dropped()? == 0, "{}", site.agent.cli("drops")?);
        }
        a.wait_for_path(&b, "direct", SOON)
    });
}

#[test]
fn a_static_kernel_peer_and_dynamic_ones_are_one_network() {
    lab::run("a_static_kernel_peer_and_dynamic_ones_are_one_network", &[Need::Wavnet], |lab| {
        let mut world = World::new(lab, None)?;
        let kernel = world.internet.host(lab, "kernel", 1, None)?.host;
        let static_peer = SiteSpec { peers: vec![kernel.addr], ..SiteSpec::default() };
        let open = world.site(lab, &static_peer)?;
        // The kernel's datagrams are let in to a full cone: it cannot open a mapping of its own.
        let router = Some(RouterSpec::new(NatKind::FullCone));
        let natted = world.site(lab, &SiteSpec { router, ..static_peer })?;
        let hidden = world.site(lab, &SiteSpec::behind(Some(NatKind::PortRestrictedCone)))?;
        let external = natted.router.as_ref().map_or(natted.host.addr, |router| router.external());
        link::kernel_vtep(&kernel.ns, World::vni(), kernel.addr, &[open.host.addr, external], 1500)?;
        let addr = Ipv4Addr::new(10, 9, 0, 99);
        let vm = kernel.vm(lab, &VmSpec::new("vmk", Mac([2, 9, 0, 0, 0, 99]), addr))?;
        link::enslave(&kernel.ns, &vm.port, &format!("br{}", World::vni()))?;
        meet("two with a static kernel vxlan peer beside", (&open, &natted), "direct", SOON)?;
        meet("a third one without it", (&hidden, &natted), "direct", SOON)?;
        for site in [&open, &natted] {
            ping::once(&site.vm.ns, addr, 1400, SOON)?;
            ping::once(&vm.ns, site.addr, 1400, SOON)?;
        }
        // Nobody hands frames on from one peer to another.
        ping::unreachable(&hidden.vm.ns, addr)?;
        row("a static kernel vxlan peer and dynamic peers", "direct", "–");
        Ok(())
    });
}
