//! The datapath outlives the agent.

use std::time::Duration;

use anyhow::Result;
use aya::maps::{Array, Map, MapData};
use wavnet_common::{abi::map, addr::Mac, reason::Reason};
use wavnet_tests::lab::{
    self, Need,
    agent::Agent,
    frame::{Outer, has_mark, marked},
    host::{Vm, VmSpec},
    overlay::{Both, Lone, SOON, Shape, blue, ip, mac, until, vni},
    ping::{self, Ping},
    poll_until,
    raw::RawSocket,
    stream::Stream,
};
use wavnet_user::api::model::{AttachState, FdbEntry, FdbKind};

const NEEDS: &[Need] = &[Need::Wavnet];
const PACE: Duration = Duration::from_millis(4);

#[test]
fn a_killed_agent_loses_nothing() {
    lab::run("a_killed_agent_loses_nothing", NEEDS, |lab| {
        let mut net = Both::start(lab, Shape::default())?;
        let stream = Stream::start(&net.b.ns, ip(2), &net.a.ns)?;
        let there = Ping::start(&net.a.ns, ip(2), PACE)?;
        let back = Ping::start(&net.b.ns, ip(1), PACE)?;
        there.wait_sent(100)?;
        let sent_before = net.agents[0].metric("wavnet_peer_frames_total", &[])?;
        for agent in &mut net.agents {
            agent.kill();
        }
        // Long enough that the heartbeat is stale (3 s) and the kernel finds the next hops.
        there.wait_sent(1000)?;
        for agent in &mut net.agents {
            agent.launch()?;
        }
        there.wait_sent(200)?;
        for agent in &net.agents {
            agent.wait_ready()?;
        }
        there.wait_sent(200)?;
        let (there, back) = (there.stop(), back.stop());
        assert_eq!((there.lost(), back.lost()), (0, 0), "pings lost: {there:?} {back:?}");
        assert!(there.sent >= 1500, "{there:?}");
        stream.wait_progress(SOON)?;
        stream.finish()?;
        let by_kernel = net.agents[0].metric("wavnet_kernel_next_hop_frames_total", &[])?;
        assert!(by_kernel > 100.0, "{by_kernel} frames went by the kernel's next hop while the agent was dead");
        let sent_after = net.agents[0].metric("wavnet_peer_frames_total", &[])?;
        assert!(sent_after >= sent_before + 1000.0, "counters began anew: {sent_before} then {sent_after}");
        Ok(())
    });
}

#[test]
fn programs_are_replaced_under_traffic() {
    lab::run("programs_are_replaced_under_traffic", NEEDS, |lab| {
        let mut net = Both::start(lab, Shape::default())?;
        let pings = Ping::start(&net.a.ns, ip(2), PACE)?;
        pings.wait_sent(100)?;
        for _ in 0..3 {
            for agent in &mut net.agents {
                agent.terminate()?;
                agent.launch()?;
                pings.wait_sent(100)?;
            }
        }
        let loss = pings.stop();
        assert_eq!(loss.lost(), 0, "{loss:?}");
        assert!(loss.sent >= 700, "{loss:?}");
        Ok(())
    });
}

#[test]
fn what_was_added_and_learned_survives_a_restart() {
    lab::run("what_was_added_and_learned_survives_a_restart", NEEDS, |lab| {
        let mut net = Both::start(lab, Shape::default())?;
        let c = net.hosts[0].vm(lab, &VmSpec::new("c", mac(3), ip(3)))?;
        net.agents[0].cli("port add p-c --vni 100")?;
        net.agents[0].wait_port("p-c", AttachState::Attached)?;
        ping::once(&c.ns, ip(2), 56, SOON)?;
        let learned = |entries: Vec<FdbEntry>| -> Vec<_> {
            entries.into_iter().filter(|e| e.kind == FdbKind::Learned).map(|e| (e.mac, e.place)).collect()
        };
        let before = learned(net.agents[0].fdb()?);
        assert!(before.len() >= 3, "{before:?}");
        net.agents[0].kill();
        net.agents[0].launch()?;
        net.agents[0].wait_port("p-c", AttachState::Attached)?;
        let after = learned(net.agents[0].fdb()?);
        for entry in &before {
            assert!(after.contains(entry), "{entry:?} was forgotten; left: {after:?}");
        }
        ping::once(&c.ns, ip(2), 56, SOON)
    });
}

#[test]
fn what_a_killed_agent_leaves_and_the_next_one_does_not_want_is_freed() {
    lab::run("what_a_killed_agent_leaves_and_the_next_one_does_not_want_is_freed", NEEDS, |lab| {
        // Room for what there is, and no more: what takes a slot has to find a free one.
        let limits = "[limits]\nports = 2\nvnis = 2\npeers = 2\n";
        let (red, green) = (vni(200), vni(300));
        let mut net = Lone::start(lab, &[], |config| config.table(limits))?;
        let small = net.config();
        let with = |vni| small.clone().vni(vni).port("p-c", vni).peer(Lone::SPARE, &[blue(), vni]);
        let c = net.host.vm(lab, &VmSpec::new("c", mac(3), ip(3)))?;
        let nic = RawSocket::open(&c.ns, Vm::NIC)?;
        let outer = net.outer();
        let in_vni = |vni| Outer { vni, ..outer.clone() };
        let spare = |vni| Outer { src: Lone::SPARE, ..in_vni(vni) };
        let pass = |net: &Lone, vni, mark: &str| -> Result<()> {
            net.agent.wait_peers()?;
            net.agent.wait_port("p-c", AttachState::Attached)?;
            net.inject(&spare(vni), &marked(Mac::BROADCAST, mac(0xfd), mark))?;
            until(&nic, mark)?;
            nic.send(&marked(mac(0xfd), mac(3), &format!("{mark} back")))?;
            until(&net.wire, &format!("{mark} back")).map(drop)
        };
        net.agent.write_config(&with(red))?;
        net.agent.reload()?;
        pass(&net, red.get(), "red")?;
        net.inject(&spare(blue().get()), &marked(mac(1), mac(0xfc), "spare"))?;
        until(&net.vm_nic, "spare")?;
        net.fence_out("a")?;
        net.fence_in("far")?;
        assert_eq!(used(&net.agent)?, [2, 2, 2]);
        assert_eq!(net.agent.fdb()?.len(), 5, "{:?}", net.agent.fdb()?);

        net.agent.kill();
        net.agent.write_config(&small)?;
        net.agent.launch()?;
        net.agent.wait_ready()?;
        assert_eq!(net.agent.ports()?.iter().map(|p| &p.interface).collect::<Vec<_>>(), [&net.a.port]);
        assert_eq!(net.agent.peers()?.iter().map(|p| p.address).collect::<Vec<_>>(), [net.far.addr]);
        assert_eq!(net.agent.status()?.counts.vnis, 1);
        assert_eq!(used(&net.agent)?, [1, 1, 1], "slots of PORTS, VNIS and VTEPS in use");
        let entries = net.agent.fdb()?;
        assert!(entries.len() == 2 && entries.iter().all(|e| e.vni == blue()), "{entries:?}");
        assert_eq!(net.agent.status()?.counts.fdb_entries, 2, "entries that point to nobody");

        // What went is gone for the programs, too, and the rest works.
        let drops = || anyhow::Ok([net.agent.drops(Reason::UnknownVni)?, net.agent.drops(Reason::UnknownVtep)?]);
        let before = drops()?;
        net.inject(&in_vni(red.get()), &marked(mac(3), mac(0xfe), "lost"))?;
        net.inject(&spare(blue().get()), &marked(mac(1), mac(0xfc), "lost"))?;
        nic.send(&marked(mac(0xfd), mac(3), "lost"))?;
        assert!(!net.fence_in("after")?.iter().any(|f| has_mark(f, "lost")), "a frame from a peer that went");
        assert!(!net.fence_out("out")?.iter().any(|f| has_mark(f, "lost")), "a frame from a port that went");
        assert!(nic.drain(|f| has_mark(f, "lost"))?.is_empty(), "a frame to a port that went");
        assert_eq!(drops()?, before.map(|n| n + 1));

        // The slots serve others.
        net.agent.write_config(&with(green))?;
        net.agent.reload()?;
        assert_eq!(used(&net.agent)?, [2, 2, 2]);
        pass(&net, green.get(), "green")
    });
}

/// How many slots of `PORTS`, `VNIS` and `VTEPS` are in use, as the programs see it.
fn used(agent: &Agent) -> Result<[usize; 3]> {
    fn count<const WORDS: usize>(agent: &Agent, name: &str, word: usize) -> Result<usize> {
        let pinned = MapData::from_pin(agent.pins().join("maps").join(name))?;
        let table: Array<_, [u32; WORDS]> = Map::Array(pinned).try_into()?;
        let slots: Vec<[u32; WORDS]> = table.iter().collect::<Result<_, _>>()?;
        Ok(slots.iter().filter(|slot| slot[word] != 0).count())
    }
    // By interface, VNI and flags.
    Ok([count::<4>(agent, map::PORTS, 0)?, count::<2>(agent, map::VNIS, 0)?, count::<34>(agent, map::VTEPS, 1)?])
}

#[test]
fn a_port_that_is_deleted_and_recreated_works_again() {
    lab::run("a_port_that_is_deleted_and_recreated_works_again", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        for _ in 0..3 {
            net.a.unplug()?;
            net.agents[0].wait_port(&net.a.port, AttachState::Missing)?;
            net.a.plug(&net.hosts[0], 1500)?;
            net.a.set_address(ip(1))?;
            net.agents[0].wait_port(&net.a.port, AttachState::Attached)?;
            ping::once(&net.a.ns, ip(2), 56, SOON)?;
            ping::once(&net.b.ns, ip(1), 1472, SOON)?;
        }
        Ok(())
    });
}

#[test]
fn a_port_that_is_recreated_while_the_agent_is_dead_is_attached_at_its_start() {
    let test = "a_port_that_is_recreated_while_the_agent_is_dead_is_attached_at_its_start";
    lab::run(test, NEEDS, |lab| {
        let mut net = Both::start(lab, Shape::default())?;
        net.agents[0].kill();
        net.a.unplug()?;
        net.a.plug(&net.hosts[0], 1500)?;
        net.a.set_address(ip(1))?;
        net.agents[0].launch()?;
        net.agents[0].wait_port(&net.a.port, AttachState::Attached)?;
        ping::once(&net.a.ns, ip(2), 56, SOON)
    });
}

#[test]
fn a_recreated_underlay_nic_is_attached_again() {
    lab::run("a_recreated_underlay_nic_is_attached_again", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        let [one, two] = &net.hosts;
        one.ns.ip("link del dev u0")?;
        poll_until("the agents to miss their NIC", SOON, || {
            let state = net.agents[0].status()?.underlay.state;
            anyhow::ensure!(state == AttachState::Missing, "{state:?}");
            Ok(())
        })?;
        lab::topology::rewire(one, two, 1600)?;
        for agent in &net.agents {
            agent.wait_ready()?;
        }
        ping::once(&net.a.ns, ip(2), 56, SOON)?;
        ping::once(&net.b.ns, ip(1), 1472, SOON)
    });
}

#[test]
fn a_second_agent_on_the_same_pins_is_refused() {
    lab::run("a_second_agent_on_the_same_pins_is_refused", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        let agent = &net.agents[0];
        let (file, other) = (agent.file().display().to_string(), lab.path("other.toml"));
        // The same pins, but another run directory: the socket is not what keeps them apart.
        let text = std::fs::read_to_string(agent.file())?;
        let elsewhere = lab.path("elsewhere").display().to_string();
        let text = text.replace(&agent.run_dir().display().to_string(), &elsewhere).replace(":9810", ":9811");
        std::fs::write(&other, text)?;
        for file in [file, other.display().to_string()] {
            let said = refused(agent, &file)?;
            assert!(said.contains("already") || said.contains("another agent"), "it does not say why: {said}");
        }
        assert_eq!(net.agents[0].status()?.counts.ports_attached, 1);
        ping::once(&net.a.ns, ip(2), 56, SOON)
    });
}

fn refused(agent: &lab::agent::Agent, file: &str) -> Result<String> {
    let mut second = agent.ns().spawn("second", lab::binary::usable()?, &["agent", "--config", file])?;
    let status = second.wait(SOON)?;
    assert!(!status.success(), "a second agent ran and ended with {status}");
    Ok(second.log())
}
