//! `wavnet down` leaves nothing behind.

use anyhow::{Context, Result, ensure};
use wavnet_tests::lab::{
    self, Need,
    host::Host,
    netns::Netns,
    overlay::{Both, Shape, ip},
    ping,
};

const NEEDS: &[Need] = &[Need::Wavnet];
const HOOKS: [&str; 3] = ["driver", "generic", "tc"];

#[test]
fn down_removes_everything() {
    lab::run("down_removes_everything", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        let agent = &net.agents[0];
        assert!(agent.pins().exists());
        agent.cli("down")?;
        assert!(!agent.pins().exists(), "{} is still there", agent.pins().display());
        ping::unreachable(&net.a.ns, ip(2))?;
        let links = net.hosts[0].ns.ip("-d link show dev u0")?;
        assert!(!links.contains("xdp"), "XDP is still attached: {links}");
        Ok(())
    });
}

#[test]
fn down_after_a_kill_releases_the_neighbours_too() {
    lab::run("down_after_a_kill_releases_the_neighbours_too", NEEDS, |lab| {
        let mut net = Both::start(lab, Shape::default())?;
        let managed = |ns: &Netns| ns.ip("neigh show dev u0").map(|list| list.contains("managed"));
        assert!(managed(&net.hosts[0].ns)?, "the peer is not kept resolved: the test proves nothing");
        net.agents[0].kill();
        net.agents[0].cli("down")?;
        assert!(!managed(&net.hosts[0].ns)?, "{}", net.hosts[0].ns.ip("neigh show dev u0")?);
        Ok(())
    });
}

#[test]
fn down_leaves_nothing_on_links_and_neighbours() {
    lab::run("down_leaves_nothing_on_links_and_neighbours", NEEDS, |lab| {
        for (round, hook) in HOOKS.into_iter().enumerate() {
            let mut net = Both::start(lab, Shape::underlay(&format!("hook = \"{hook}\"")))?;
            let ns = net.hosts[0].ns.clone();
            if round == 1 {
                net.agents[0].kill();
            }
            net.agents[0].cli("down")?;
            for device in [Host::NIC, net.a.port.as_str()] {
                ensure!(!ns.ip(&format!("-d link show dev {device}"))?.contains("xdp"), "{hook}: XDP is on {device}");
                let queues = ns.run("tc", &["qdisc", "show", "dev", device])?;
                ensure!(!queues.contains("clsact") && !queues.contains("ingress"), "{hook}: {device} has {queues}");
                for way in ["ingress", "egress"] {
                    let filters = ns.run("tc", &["filter", "show", "dev", device, way])?;
                    ensure!(filters.trim().is_empty(), "{hook}: {device} has {filters}");
                    let programs = tcx(&ns, device, way)?;
                    ensure!(programs.is_empty(), "{hook}: {device} has tcx {way} programs {programs:?}");
                }
            }
            let neighbours = ns.ip("neigh show")?;
            ensure!(!neighbours.contains("managed") && !neighbours.contains("extern_learn"), "{hook}: {neighbours}");
            ensure!(!net.agents[0].pins().exists(), "{hook}: {} is still there", net.agents[0].pins().display());
        }
        Ok(())
    });
}

/// Ids of the programs that the kernel has on an interface by tcx.
fn tcx(ns: &Netns, device: &str, way: &str) -> Result<Vec<u32>> {
    use aya::programs::{SchedClassifier, TcAttachType};
    let kind = if way == "ingress" { TcAttachType::Ingress } else { TcAttachType::Egress };
    ns.enter(|| {
        let (_, programs) = SchedClassifier::query_tcx(device, kind).with_context(|| format!("tcx of {device}"))?;
        Ok(programs.iter().map(aya::programs::ProgramInfo::id).collect())
    })
}
