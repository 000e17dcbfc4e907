//! Two hosts, a WAN link that can be shaped between them, and what they send over it: their own packets, or their VMs' frames.
//!
//! ```text
//! VM ns ─ hypervisor ns ─ router ns ─ WAN link ─ internet ns ─ router ns ─ hypervisor ns ─ VM ns
//! ```

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{
    bench::case::tcp::{Ends, PORT},
    lab::{
        Lab,
        nat::{NatKind, Router, RouterSpec},
        netns::Netns,
        tools,
        wan::{Impairment, Internet, LinkSpec, WanLink, Way},
    },
    mesh::{Site, SiteSpec, World},
};

/// What the internet carries: that of nearly all access networks.
pub(super) const MTU: u32 = 1500;
/// The senders' NIC, bits per second: somewhat faster than the fastest link. A sender as fast as the machine would begin with bursts
/// that the emulator cannot take, and real ones are not.
const NIC: u64 = 1_250_000_000;
/// Buffers of TCP: room for a gigabit and a fifth of a second, and for a queue as long.
const BUFFERS: &str = "4096 131072 134217728";
/// The shortest queue before the rate, in bytes: real ones hold some tens of frames at least.
const SHORTEST_QUEUE: u64 = 64 << 10;
/// The longest: what is on its way besides must find room in the emulator.
const LONGEST_QUEUE: u64 = 28 << 20;
/// How long two agents may take to find each other.
const SOON: Duration = Duration::from_secs(30);

/// Two ends with a shaped link between them.
pub(super) struct Road {
    from: Netns,
    to: Netns,
    listen: Ipv4Addr,
    at: Ipv4Addr,
    // In this order they go: agents before what carries their packets.
    sites: Option<[Site; 2]>,
    _world: Option<World>,
    routers: [Router; 2],
    _internet: Option<Internet>,
}

impl Road {
    /// Hosts' own packets, without an overlay and without agents: through NATs of a kind, the second of which forwards a TCP port
    /// and echoes to its host, as an operator would have it do.
    pub(super) fn bare(lab: &Lab, kind: NatKind) -> Result<Road> {
        let mut internet = Internet::new(lab, MTU)?;
        let mut near = Router::new(lab, "r1", &mut internet, &RouterSpec::new(kind).link(open()))?;
        let mut far = Router::new(lab, "r2", &mut internet, &RouterSpec::new(kind))?;
        let (a, b) = (near.host(lab, "hv1")?, far.host(lab, "hv2")?);
        forward_to(&far, b.addr)?;
        let road = Road {
            from: a.ns,
            to: b.ns,
            listen: b.addr,
            at: far.external(),
            sites: None,
            _world: None,
            routers: [near, far],
            _internet: Some(internet),
        };
        road.tune()
    }

    /// Frames of VMs over a direct path between two agents behind routers of a kind.
    pub(super) fn overlay(lab: &Lab, kind: NatKind) -> Result<Road> {
        let mut world = World::with_mtu(lab, MTU, None)?;
        let spec = |router| SiteSpec { router: Some(router), log_level: Some(String::new()), ..SiteSpec::default() };
        let mut a = world.site(lab, &spec(RouterSpec::new(kind).link(open())))?;
        let mut b = world.site(lab, &spec(RouterSpec::new(kind)))?;
        let routers = [a.router.take(), b.router.take()].map(|router| router.context("no router"));
        let [near, far] = routers;
        let (from, to, addr) = (a.vm.ns.clone(), b.vm.ns.clone(), b.addr);
        a.wait_for_path(&b, "direct", SOON)?;
        b.wait_for_path(&a, "direct", SOON)?;
        let road = Road {
            from,
            to,
            listen: addr,
            at: addr,
            sites: Some([a, b]),
            _world: Some(world),
            routers: [near?, far?],
            _internet: None,
        };
        road.tune()
    }

    /// Gives TCP of both ends room for long fat networks, and has it forget what an earlier connection has learnt.
    fn tune(self) -> Result<Road> {
        for ns in [&self.from, &self.to] {
            ns.sysctl("net/ipv4/tcp_rmem", BUFFERS)?;
            ns.sysctl("net/ipv4/tcp_wmem", BUFFERS)?;
            ns.sysctl("net/ipv4/tcp_no_metrics_save", "1")?;
        }
        Ok(self)
    }

    fn link(&self) -> Result<&WanLink> {
        self.routers[0].link.as_ref().context("the first router has no WAN link")
    }

    /// Shapes both directions: half of this delay each, and a rate in bits per second if there is one.
    pub(super) fn shape(&self, delay: Duration, rate: Option<(u64, Duration)>) -> Result<()> {
        let mut impairment = Impairment::delayed(delay / 2);
        if let Some((rate, rtt)) = rate {
            impairment = impairment.rate(rate).queue(queue(rate, rtt));
        }
        Way::BOTH.into_iter().try_for_each(|way| self.link()?.set(way, impairment))
    }

    /// Frames that the link dropped so far and that no WAN would have dropped: all of them, and those that the emulator did not take in
    /// time.
    pub(super) fn faults(&self) -> Result<[u64; 2]> {
        let mut faults = [0, 0];
        for way in Way::BOTH {
            let counts = self.link()?.counts(way)?;
            faults = [faults[0] + counts.faults(), faults[1] + counts.missed];
        }
        Ok(faults)
    }

    /// Where streams begin and end.
    pub(super) fn ends(&self) -> Ends<'_> {
        Ends { from: &self.from, to: &self.to, listen: self.listen, at: self.at, nic: Some(NIC) }
    }

    /// Fails if frames do not take the direct path (any more): then it is something else that is measured.
    pub(super) fn check(&self) -> Result<()> {
        let Some([a, b]) = &self.sites else { return Ok(()) };
        for (site, other) in [(a, b), (b, a)] {
            let peer = site.peer(other)?;
            let kind = peer.selected().map_or("none", |path| path.kind.as_str());
            ensure!(kind == "direct", "frames of {} take a path that is {kind}", site.host.ns.short_name());
        }
        Ok(())
    }
}

/// A link that does nothing yet.
fn open() -> LinkSpec {
    LinkSpec::both(Impairment::default())
}

/// Bytes that wait before a rate: what is on its way in one round trip, within bounds.
pub(super) fn queue(rate: u64, rtt: Duration) -> u64 {
    let bytes = u128::from(rate) * rtt.as_micros() / 8_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX).clamp(SHORTEST_QUEUE, LONGEST_QUEUE)
}

/// What an operator enters as "port forwarding".
fn forward_to(router: &Router, host: Ipv4Addr) -> Result<()> {
    let rules = format!(
        "table ip forwarded {{\n  chain pre {{\n    type nat hook prerouting priority -101;\n    iifname wan tcp dport {PORT} dnat to {host}\n    \
         iifname wan icmp type echo-request dnat to {host}\n  }}\n}}\n"
    );
    tools::feed(router.ns.command("nft").args(["-f", "-"]), &rules).map(drop).context("forwarding a port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_one_round_trip_within_bounds() {
        assert_eq!(queue(100_000_000, Duration::from_millis(75)), 937_500);
        assert_eq!(queue(10_000_000, Duration::from_micros(500)), SHORTEST_QUEUE);
        assert_eq!(queue(10_000_000_000, Duration::from_millis(220)), LONGEST_QUEUE);
    }
}
