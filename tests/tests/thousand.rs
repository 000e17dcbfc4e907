//! One agent with a thousand peers: real XDP, a real server, a real NAT in front of it; 999 of the peers are cores with sockets, and one is an
//! agent with a VM.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use wavnet_common::addr::Vni;
use wavnet_tests::{
    lab::{self, nat::NatKind, ping, poll_until},
    mesh::{NEEDS, SiteSpec, World, crowd::Crowd, mesh_of},
    rendezvous::resident,
};

const PEERS: usize = 1000;
/// Each of the crowd is in one of these, with three others and the agent.
const VNIS: usize = 250;
const SOON: Duration = Duration::from_secs(120);
/// What a peer may cost the agent.
const MOST: u64 = 16 * 1024;

fn vni(n: usize) -> Result<Vni> {
    Vni::new(1000 + (n % VNIS) as u32).context("a VNI")
}

#[test]
fn an_agent_has_a_thousand_peers() {
    lab::run("an_agent_has_a_thousand_peers", NEEDS, |lab| {
        let mut world = World::new(lab, None)?;
        let quiet = SiteSpec { log_level: Some("info".into()), ..SiteSpec::behind(Some(NatKind::PortRestrictedCone)) };
        let [mut hub, other] = world.sites(lab, [&quiet, &quiet])?;
        hub.wait_for_path(&other, "direct", SOON)?;
        hub.config = (0..VNIS).try_fold(hub.config, |config, n| anyhow::Ok(config.vni(vni(n)?)))?;
        hub.agent.write_config(&hub.config)?;
        hub.agent.reload()?;
        let before = resident(hub.agent.status()?.pid)?;
        let crowd = world.internet.host(lab, "crowd", 20, None)?;
        let of = (0..PEERS - 1).map(|n| anyhow::Ok(BTreeSet::from([vni(n)?]))).collect::<Result<_>>()?;
        let hosts = Crowd::start(&world, &crowd.host.ns, &crowd.addresses, of)?;
        let key = hub.key.parse().map_err(|e| anyhow::anyhow!("{e:?}"))?;
        poll_until("a direct path to everybody", SOON, || {
            let peers = mesh_of(&hub.agent)?.peers;
            let count = |kind: &str| peers.iter().filter(|p| p.selected().is_some_and(|p| p.kind == kind)).count();
            let (direct, theirs) = (count("direct"), hosts.direct_to(&key));
            ensure!(
                (direct, theirs) == (PEERS, PEERS - 1),
                "{direct} direct, {} relayed, of {}; {theirs} of the crowd are direct",
                count("relayed"),
                peers.len()
            );
            Ok(())
        })?;
        let each = resident(hub.agent.status()?.pid)?.saturating_sub(before) / PEERS as u64;
        println!("{each} bytes of memory for each of {PEERS} peers");
        ensure!(each <= MOST, "{each} bytes for each peer");
        let peers = mesh_of(&hub.agent)?.peers;
        let of_one: Vec<_> = peers.iter().filter(|peer| peer.vnis.len() != 1 || !peer.connected).collect();
        ensure!(of_one.is_empty(), "{of_one:?}");
        ping::once(&hub.vm.ns, other.addr, 56, SOON)?;
        hosts.end()?;
        // Whoever was in the middle of them stays.
        ping::once(&other.vm.ns, hub.addr, 56, SOON)
    });
}
