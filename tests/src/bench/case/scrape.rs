//! How long a scrape of the metrics takes on a hypervisor with many peers and MACs.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use wavnet_common::addr::Mac;

use crate::lab::{
    Lab,
    config::AgentConfig,
    frame::ethernet,
    host::Vm,
    overlay::{Both, Shape, blue, mac},
    raw::RawSocket,
    wait_until,
};

/// What the row says that was scraped.
pub(in crate::bench) const VARIANT: &str = "100 peers, 10000 MACs";
const PEERS: u8 = 100;
const MACS: u64 = 10_000;
/// IEEE's ethertype for experiments.
const EXPERIMENT: u16 = 0x88b5;

/// Two hypervisors of which one has them.
pub(in crate::bench) fn set_up(lab: &Lab) -> Result<Both> {
    let net = Both::start(lab, Shape::default())?;
    let agent = &net.agents[0];
    let mut config = AgentConfig::new(&[blue()]).port("p-a", blue()).peer(net.hosts[1].addr, &[blue()]);
    for n in 1..PEERS {
        config = config.peer(Ipv4Addr::new(172, 31, 1, n), &[blue()]);
    }
    agent.write_config(&config)?;
    agent.reload()?;
    ensure!(agent.peers()?.len() == usize::from(PEERS), "the agent has {} peers", agent.peers()?.len());

    let vm = RawSocket::open(&net.a.ns, Vm::NIC)?;
    for n in 0..MACS {
        vm.send(&ethernet(mac(2), Mac::from_u64(0x0201_0000_0000 + n), EXPERIMENT, &[0; 46]))?;
    }
    wait_until("the FDB to hold them all", Duration::from_secs(20), || {
        Ok(agent.metric("wavnet_fdb_entries", &["kind=\"learned\""])? >= MACS as f64)
    })?;
    Ok(net)
}

/// Nanoseconds from connecting to the last byte.
pub(in crate::bench) fn measure(net: &Both) -> Result<f64> {
    let start = Instant::now();
    let page = net.agents[0].metrics()?;
    let elapsed = start.elapsed();
    ensure!(page.matches("wavnet_peer_up{").count() == usize::from(PEERS), "the page lacks peers");
    Ok(elapsed.as_nanos() as f64)
}
