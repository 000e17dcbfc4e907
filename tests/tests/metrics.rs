//! The metrics of a running agent, as Prometheus sees them.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use wavnet_common::{addr::Mac, reason::Reason};
use wavnet_proto::mesh::Dropped;
use wavnet_tests::{
    lab::{
        self, Need,
        agent::{promtool_check, sum_of},
        frame::marked,
        host::Vm,
        nat::NatKind,
        overlay::{Both, Shape, ip, mac, until},
        ping, poll_until,
        raw::RawSocket,
        stream,
    },
    mesh::{NEEDS, SiteSpec, World, server_of},
};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_real_scrape_satisfies_promtool_and_counts_what_happened() {
    let needs = [Need::Wavnet, Need::Tool("promtool")];
    lab::run("a_real_scrape_satisfies_promtool_and_counts_what_happened", &needs, |lab| {
        let net = Both::start(lab, Shape { tables: String::new(), ..Shape::default() })?;
        let agent = &net.agents[0];
        let before = agent.metrics()?;
        promtool_check(lab, &before)?;
        stream::bulk(&net.b.ns, ip(2), &net.a.ns, 3_000_000)?;
        let after = agent.metrics()?;
        promtool_check(lab, &after)?;
        let grown = |name: &str, labels: &[&str]| {
            sum_of(&after, name, labels).unwrap_or(f64::NAN) - sum_of(&before, name, labels).unwrap_or(f64::NAN)
        };
        let peer = format!("peer=\"{}\"", net.hosts[1].addr);
        for (what, labels) in [("peer", peer.as_str()), ("vni", "vni=\"100\""), ("port", "port=\"p-a\"")] {
            // A port receives from the VM what VNI and peer send.
            let out = if what == "port" { "rx" } else { "tx" };
            let direction = format!("direction=\"{out}\"");
            let bytes = grown(&format!("wavnet_{what}_bytes_total"), &[labels, &direction]);
            let frames = grown(&format!("wavnet_{what}_frames_total"), &[labels, &direction]);
            assert!((3_000_000.0..3_600_000.0).contains(&bytes), "{what} {out}: {bytes} bytes for 3 MB of TCP");
            assert!((2000.0..4000.0).contains(&frames), "{what} {out}: {frames} frames for 3 MB of TCP");
        }
        for reason in Reason::ALL {
            let label = format!("reason=\"{}\"", reason.label());
            assert!(sum_of(&after, "wavnet_drops_total", &[&label]).is_some(), "no series for {}", reason.label());
        }
        assert_eq!(sum_of(&after, "wavnet_peer_up", &[&peer]), Some(1.0));
        assert_eq!(sum_of(&after, "wavnet_ports_unattached", &[]), Some(0.0));
        assert!(sum_of(&after, "wavnet_fdb_entries", &["vni=\"100\"", "kind=\"learned\""]) >= Some(2.0));
        assert!(sum_of(&after, "wavnet_fdb_learned_total", &[]) >= Some(2.0));
        assert_eq!(sum_of(&after, "wavnet_build_info", &[]), Some(1.0));
        let ratio = grown("wavnet_peer_frames_total", &[&peer, "direction=\"rx\""]);
        assert!(ratio > 0.0, "acknowledgements were not counted: {ratio}");
        Ok(())
    });
}

#[test]
fn a_real_scrape_of_a_mesh_satisfies_promtool() {
    let needs = [NEEDS, &[Need::Tool("promtool")]].concat();
    lab::run("a_real_scrape_of_a_mesh_satisfies_promtool", &needs, |lab| {
        let mut world = World::new(lab, None)?;
        let cone = SiteSpec::behind(Some(NatKind::PortRestrictedConeRemapped));
        let [a, b] = world.sites(lab, [&cone, &SiteSpec::default()])?;
        a.wait_for_path(&b, "direct", SOON)?;
        ping::once(&a.vm.ns, b.addr, 56, SOON)?;
        let is = |name: &str, labels: &[&str], value: f64| {
            poll_until(name, SOON, || {
                let found = a.agent.metric(name, labels)?;
                ensure!(found == value, "{found} with {labels:?}");
                Ok(())
            })
        };
        let external = a.router.as_ref().context("a router")?.external();
        let page = a.agent.metrics()?;
        promtool_check(lab, &page)?;
        let mapped = server_of(&a.agent, 0)?.mapped.context("a mapped address")?;
        ensure!(mapped.ip() == external && mapped.port() != 4789, "{mapped}");
        let (server, peer) = (format!("server=\"{}:4789\"", world.public.host.addr), format!("peer=\"{}\"", b.key));
        is("wavnet_mesh_server_registered", &[&server], 1.0)?;
        is("wavnet_mesh_peer_path", &[&peer, "path=\"direct\""], 1.0)?;
        is("wavnet_mesh_peer_path", &[&peer, "path=\"relayed\""], 0.0)?;
        let nat = ["type=\"port-restricted-cone\"", "preserves_port=\"no\"", &format!("mapped=\"{mapped}\"")];
        is("wavnet_nat_info", &nat, 1.0)?;
        for reason in Dropped::ALL {
            let label = format!("reason=\"{}\"", reason.label());
            ensure!(sum_of(&page, "wavnet_mesh_drops_total", &[&label]).is_some(), "no series for {label}");
        }
        promtool_check(lab, &a.agent.metrics()?)
    });
}

#[test]
fn program_run_time_is_measured_when_asked_for() {
    lab::run("program_run_time_is_measured_when_asked_for", &[Need::Wavnet], |lab| {
        let net = Both::start(lab, Shape::default())?;
        let agent = &net.agents[0];
        let off = sum_of(&agent.metrics()?, "wavnet_program_runs_total", &[]);
        assert_eq!(off, None, "measured without being asked");
        let text = std::fs::read_to_string(agent.file())?;
        let mut net = net;
        std::fs::write(net.agents[0].file(), text.replace("[metrics]\n", "[metrics]\nprogram_run_time = true\n"))?;
        net.agents[0].terminate()?;
        net.agents[0].launch()?;
        stream::bulk(&net.b.ns, ip(2), &net.a.ns, 500_000)?;
        stream::bulk(&net.a.ns, ip(1), &net.b.ns, 500_000)?;
        // What is flooded is the TC program's.
        let heard = RawSocket::open(&net.a.ns, Vm::NIC)?;
        RawSocket::open(&net.b.ns, Vm::NIC)?.send(&marked(Mac::BROADCAST, mac(2), "flood"))?;
        until(&heard, "flood")?;
        for program in ["underlay_xdp", "underlay_tc", "port_tc"] {
            let label = format!("program=\"{program}\"");
            let runs = net.agents[0].metric("wavnet_program_runs_total", &[&label])?;
            let time = net.agents[0].metric("wavnet_program_run_time_seconds_total", &[&label])?;
            assert!(runs > 0.0 && time > 0.0 && time < 60.0, "{program}: {runs} runs, {time} s");
        }
        Ok(())
    });
}

#[test]
fn scrapes_answer_while_frames_flow() {
    lab::run("scrapes_answer_while_frames_flow", &[Need::Wavnet], |lab| {
        let net = Both::start(lab, Shape::default())?;
        let start = Instant::now();
        let mut last = 0.0;
        for _ in 0..20 {
            stream::bulk(&net.b.ns, ip(2), &net.a.ns, 100_000)?;
            let now = net.agents[0].metric("wavnet_vni_bytes_total", &["direction=\"tx\""])?;
            assert!(now >= last + 100_000.0, "the counter stands still: {last} then {now}");
            last = now;
        }
        println!("20 transfers and scrapes took {:?}", start.elapsed());
        Ok(())
    });
}
