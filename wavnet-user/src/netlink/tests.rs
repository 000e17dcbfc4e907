//! Against the real kernel, in network namespaces of our own.

use std::{net::Ipv4Addr, process::Command, sync::mpsc::channel, time::Duration};

use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourExtFlags};
use wavnet_common::addr::Mac;
use wavnet_proto::fabric::{RouteInfo, Via, XdpRedirect};

use super::{Event, Monitor, Netlink, tc};
use crate::testing::{Namespace, ip, skip};

const A: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const B: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const B_MAC: Mac = Mac([2, 0, 0, 0, 0, 0xb]);

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a future to its end.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("a minute is enough") })
}

/// What tests start with: a monitor, opened first, and the means to ask.
fn open() -> (Monitor, Netlink) {
    (Monitor::open().unwrap(), Netlink::open().unwrap())
}

/// Runs what a test does in a namespace.
fn within(ns: &Namespace, test: impl AsyncFnOnce(Monitor, Netlink) + Send + 'static) {
    ns.run(|| {
        block_on(async {
            let (monitor, netlink) = open();
            test(monitor, netlink).await;
        });
    });
}

/// Runs what a test does in a namespace of its own, if there can be one.
fn alone(test: impl AsyncFnOnce(Monitor, Netlink) + Send + 'static) {
    if let Some(ns) = Namespace::new() {
        within(&ns, test);
    }
}

/// Waits for an event that satisfies.
async fn wait(monitor: &mut Monitor, mut wanted: impl FnMut(&Event) -> bool) {
    while !monitor.next().await.unwrap().iter().any(&mut wanted) {}
}

fn index(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap()
}

/// Two namespaces joined by a veth, wav-a with address A in the first, wav-b with B in the second.
fn pair() -> Option<(Namespace, Namespace)> {
    let (a, b) = (Namespace::new()?, Namespace::new()?);
    a.ip(&format!("link add wav-a mtu 1400 type veth peer name wav-b address {B_MAC} netns {}", b.tid));
    a.ip(&format!("addr add {A}/24 dev wav-a"));
    a.ip("link set lo up");
    a.ip("link set wav-a up");
    b.ip(&format!("addr add {B}/24 dev wav-b"));
    b.ip("link set wav-b up");
    Some((a, b))
}

#[test]
fn links_come_change_and_go() {
    alone(async |mut monitor, netlink| {
        ip("link add wav-a address 02:00:00:00:00:0a type veth peer name wav-b");
        let ifindex = index("wav-a");
        let has = |e: &Event| matches!(e, Event::Link(l) if l.ifindex == ifindex);
        wait(&mut monitor, has).await;
        ip("link set wav-a up mtu 1333");
        ip("link set wav-b up");
        wait(&mut monitor, |e| matches!(e, Event::Link(l) if l.ifindex == ifindex && l.up && l.mtu == 1333)).await;

        let links = netlink.snapshot().await.unwrap().links;
        let lo = links.iter().find(|l| l.name == "lo").unwrap();
        assert!(lo.loopback && lo.mac.is_none());
        let a = links.iter().find(|l| l.name == "wav-a").unwrap();
        assert_eq!((a.ifindex, a.mtu, a.mac), (ifindex, 1333, Some(Mac([2, 0, 0, 0, 0, 0xa]))));
        assert_eq!((a.kind.as_deref(), a.no_arp, a.loopback), (Some("veth"), false, false));

        ip("link set wav-a down");
        ip("link set wav-a name wav-c");
        wait(&mut monitor, |e| matches!(e, Event::Link(l) if l.ifindex == ifindex && l.name == "wav-c")).await;
        ip("link del wav-c");
        wait(&mut monitor, |e| *e == Event::LinkGone(ifindex)).await;
    });
}

#[test]
fn leaving_a_bridge_is_not_going_away() {
    alone(async |mut monitor, _| {
        ip("link add wav-br type bridge");
        ip("link add wav-a type veth peer name wav-b");
        let ifindex = index("wav-a");
        ip("link set wav-a master wav-br");
        ip("link set wav-a nomaster");
        ip("link set wav-a alias done");
        ip("link del wav-br");
        let mut gone = false;
        wait(&mut monitor, |e| {
            gone |= *e == Event::LinkGone(ifindex);
            matches!(e, Event::LinkGone(other) if *other != ifindex)
        })
        .await;
        assert!(!gone);
    });
}

#[test]
fn addresses_come_with_the_usual_source_first() {
    alone(async |mut monitor, netlink| {
        ip("link add wav-a type veth peer name wav-b");
        let ifindex = index("wav-a");
        ip("addr add 169.254.1.1/16 scope link dev wav-a");
        ip("addr add 198.51.100.1/24 dev wav-a");
        ip("addr add 198.51.100.9/24 dev wav-a");
        ip("addr add 203.0.113.1/24 dev wav-a");
        wait(&mut monitor, |e| *e == Event::Addresses(ifindex)).await;
        let found = netlink.addresses(Some(ifindex)).await.unwrap().remove(&ifindex).unwrap();
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["198.51.100.1", "203.0.113.1", "198.51.100.9", "169.254.1.1"]);
        assert_eq!(netlink.snapshot().await.unwrap().addresses[&ifindex].len(), 4);
    });
}

#[test]
fn routes_are_found_and_their_changes_heard() {
    let Some((a, _b)) = pair() else { return };
    within(&a, async |mut monitor, netlink| {
        let oif = index("wav-a");
        let on_link = RouteInfo { oif, via: Via::OnLink, mtu: None, local: false };
        assert_eq!(netlink.route(B, Some(A)).await.unwrap(), Some(on_link));
        assert_eq!(netlink.route(B, None).await.unwrap(), Some(on_link));
        assert_eq!(netlink.route(B, Some(Ipv4Addr::new(203, 0, 113, 7))).await.unwrap(), None, "not ours");
        assert!(netlink.route(A, None).await.unwrap().unwrap().local);
        let far = Ipv4Addr::new(203, 0, 113, 5);
        assert_eq!(netlink.route(far, Some(A)).await.unwrap(), None);
        ip("route add 203.0.113.0/24 via 198.51.100.2 mtu 1300");
        wait(&mut monitor, |e| *e == Event::Routes).await;
        let via = RouteInfo { oif, via: Via::Gateway(B), mtu: Some(1300), local: false };
        assert_eq!(netlink.route(far, Some(A)).await.unwrap(), Some(via));
        for kind in ["unreachable", "blackhole", "prohibit"] {
            ip(&format!("route replace {kind} {far}/32"));
            assert_eq!(netlink.route(far, Some(A)).await.unwrap(), None, "{kind}");
        }
        ip("rule add to 203.0.113.0/24 table 100");
        wait(&mut monitor, |e| *e == Event::Routes).await;
    });
}

#[test]
fn neighbours_are_resolved_kept_and_released() {
    let Some((a, _b)) = pair() else { return };
    within(&a, async |mut monitor, netlink| {
        let ifindex = index("wav-a");
        let managed = async || {
            let managed = NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed);
            netlink.get(ifindex, B).await.unwrap().expect("the entry itself stays").attributes.contains(&managed)
        };
        let now = netlink.resolve(ifindex, B).await.unwrap();
        if now.is_none() {
            wait(&mut monitor, |e| *e == Event::Neighbour(ifindex, B, Some(B_MAC))).await;
        }
        assert_eq!(netlink.resolve(ifindex, B).await.unwrap(), Some(B_MAC));
        assert!(managed().await);
        assert!(netlink.release(ifindex, B).await.unwrap() && !managed().await);
        wait(&mut monitor, |e| *e == Event::NeighbourReleased(ifindex, B)).await;
        assert!(!netlink.release(ifindex, B).await.unwrap(), "it was released already");

        let nobody = Ipv4Addr::new(198, 51, 100, 77);
        assert_eq!(netlink.resolve(ifindex, nobody).await.unwrap(), None);
        assert!(netlink.release(ifindex, nobody).await.unwrap(), "managed, if not resolved");
        assert!(!netlink.release(ifindex, Ipv4Addr::new(198, 51, 100, 78)).await.unwrap(), "there is no such entry");

        ip("neigh replace 198.51.100.66 lladdr 02:00:00:00:00:66 nud permanent dev wav-a");
        let fixed = Ipv4Addr::new(198, 51, 100, 66);
        assert_eq!(netlink.resolve(ifindex, fixed).await.unwrap(), Some(Mac([2, 0, 0, 0, 0, 0x66])));
        let entry = netlink.get(ifindex, fixed).await.unwrap().unwrap();
        assert!(super::neighbour::is_fixed(entry.header.state), "the administrator's entry stays permanent");
        // What somebody else has the kernel manage is not ours to release.
        ip(&format!("neigh replace {B} managed dev wav-a proto static"));
        assert!(!netlink.release(ifindex, B).await.unwrap() && managed().await);
    });
}

#[test]
fn a_new_link_address_is_heard_of() {
    let Some((a, b)) = pair() else { return };
    let (ready, is_ready) = channel();
    let listener = a.spawn(move || {
        block_on(async {
            let (mut monitor, netlink) = open();
            netlink.resolve(index("wav-a"), B).await.unwrap();
            ready.send(()).unwrap();
            let moved = Some(Mac([2, 0, 0, 0, 0, 0xc]));
            wait(&mut monitor, |e| matches!(e, Event::Neighbour(_, B, mac) if *mac == moved)).await;
        });
    });
    is_ready.recv_timeout(PATIENCE).unwrap();
    b.ip("link set wav-b address 02:00:00:00:00:0c");
    a.ip(&format!("neigh flush {B} dev wav-a"));
    a.ip(&format!("neigh replace {B} use dev wav-a"));
    listener.join().expect("heard of the new link address");
}

#[test]
fn redirection_into_a_veth_depends_on_its_other_end() {
    let Some((a, b)) = pair() else { return };
    if Command::new("ethtool").arg("--version").output().is_err() {
        return skip("no ethtool").unwrap_or_default();
    }
    let (ready, before) = channel();
    let listener = a.spawn(move || {
        block_on(async {
            let (mut monitor, netlink) = open();
            let ifindex = index("wav-a");
            ready.send((netlink.xdp_redirect(ifindex), netlink.xdp_redirect_all().get(&ifindex).copied())).unwrap();
            wait(&mut monitor, |e| *e == Event::XdpRedirect(ifindex, XdpRedirect::Everything)).await;
            (netlink.xdp_redirect(ifindex), netlink.xdp_redirect(4_000_000))
        })
    });
    assert_eq!(before.recv_timeout(PATIENCE).unwrap(), (Some(XdpRedirect::Nothing), Some(XdpRedirect::Nothing)));
    b.run(|| {
        let status = Command::new("ethtool").args(["-K", "wav-b", "gro", "on"]).status().unwrap();
        assert!(status.success());
    });
    assert_eq!(listener.join().expect("heard of the change"), (Some(XdpRedirect::Everything), None));
}

#[test]
fn overflow_is_told_not_hidden() {
    alone(async |_, _| {
        let mut monitor = Monitor::open_with(4096).unwrap();
        // The runtime has one thread, which is busy here: nobody reads.
        for i in 0..100 {
            ip(&format!("addr add 10.0.0.{i}/32 dev lo"));
        }
        wait(&mut monitor, |e| *e == Event::Lost).await;
        ip("link add wav-a type veth peer name wav-b");
        wait(&mut monitor, |e| matches!(e, Event::Link(l) if l.name == "wav-a")).await;
    });
}

#[test]
fn a_clsact_qdisc_is_looked_into_and_removed() {
    let Some(ns) = Namespace::new() else { return };
    if Command::new("tc").arg("-V").output().is_err() {
        return skip("no tc").unwrap_or_default();
    }
    ns.run(|| {
        ip("link add wav-a type veth peer name wav-b");
        let ifindex = index("wav-a");
        assert_eq!(tc::clsact_filters(ifindex).unwrap(), []);
        assert!(tc::remove_clsact(ifindex).is_err(), "there is none");
        let made = Command::new("tc").args(["qdisc", "add", "dev", "wav-a", "clsact"]).status().unwrap();
        assert!(made.success());
        tc::remove_clsact(ifindex).unwrap();
        assert!(tc::remove_clsact(ifindex).is_err(), "it is gone");
    });
}
