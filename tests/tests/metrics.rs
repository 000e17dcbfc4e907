//! The metrics of a running agent, as Prometheus sees them.

use std::time::Instant;

use wavnet_common::reason::Reason;
use wavnet_tests::lab::{
    self, Need,
    agent::{promtool_check, sum_of},
    overlay::{Both, Shape, ip},
    stream,
};

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
