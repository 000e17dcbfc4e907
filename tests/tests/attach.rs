//! Attachments: qdiscs of our making and of others, and the change between the two ways of attaching to TC.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use wavnet_common::addr::Mac;
use wavnet_tests::lab::{
    self, Need,
    frame::{has_mark, marked},
    host::{Vm, VmSpec},
    netns::Netns,
    overlay::{Both, SOON, Shape, ip, mac, until},
    ping::{self, Ping},
    raw::RawSocket,
};
use wavnet_user::api::model::AttachState;

const NEEDS: &[Need] = &[Need::Wavnet];

fn qdisc(ns: &Netns, device: &str) -> Result<bool> {
    Ok(ns.run("tc", &["qdisc", "show", "dev", device, "clsact"])?.contains("clsact"))
}

fn filters(ns: &Netns, device: &str) -> Result<String> {
    ns.run("tc", &["filter", "show", "dev", device, "ingress"])
}

#[test]
fn down_removes_the_qdiscs_that_wavnet_made_and_no_others() {
    lab::run("down_removes_the_qdiscs_that_wavnet_made_and_no_others", NEEDS, |lab| {
        let mut net = Both::start(lab, Shape::underlay("tc = \"clsact\""))?;
        let ns = net.hosts[0].ns.clone();
        ensure!(qdisc(&ns, "u0")? && qdisc(&ns, "p-a")?, "no qdisc to remove: the test proves nothing");
        let others = ["c", "d", "e"].map(|name| net.hosts[0].vm(lab, &VmSpec::new(name, mac(9), ip(9))));
        // One that is there already, and one that somebody else uses from now on.
        ns.run("tc", &["qdisc", "add", "dev", "p-c", "clsact"])?;
        for port in ["p-c", "p-d", "p-e"] {
            net.agents[0].cli(&format!("port add {port} --vni 100"))?;
            net.agents[0].wait_port(port, AttachState::Attached)?;
        }
        let program = net.agents[0].pins().join(format!("links/clsact-port-{}", ns.ifindex("p-a")?));
        let program = program.display().to_string();
        ns.run("tc", &["filter", "add", "dev", "p-d", "egress", "bpf", "object-pinned", &program])?;
        // A port that is removed gives its qdisc back at once.
        net.agents[0].cli("port remove p-e")?;
        ensure!(!qdisc(&ns, "p-e")?, "the qdisc of a removed port is left");

        // Who made them is known after a restart, and to a `down` without agent.
        net.agents[0].kill();
        net.agents[0].launch()?;
        net.agents[0].wait_ready()?;
        net.agents[0].kill();
        net.agents[0].cli("down")?;
        for (device, stays) in [("u0", false), ("p-a", false), ("p-c", true), ("p-d", true)] {
            ensure!(qdisc(&ns, device)? == stays, "clsact on {device}: {}", qdisc(&ns, device)?);
            ensure!(!filters(&ns, device)?.contains("_tc"), "{device} still has {}", filters(&ns, device)?);
        }
        let kept = ns.run("tc", &["filter", "show", "dev", "p-d", "egress"])?;
        ensure!(kept.contains("bpf"), "somebody else's filter is gone: {kept}");
        drop(others);
        Ok(())
    });
}

#[test]
fn tcx_and_clsact_take_turns_under_traffic() {
    lab::run("tcx_and_clsact_take_turns_under_traffic", NEEDS, |lab| {
        let mut net = Both::start(lab, Shape::default())?;
        // Somebody else's qdiscs, which stay: the kernel itself drops frames while it adds or removes one.
        for (host, port) in net.hosts.iter().zip(["p-a", "p-b"]) {
            for device in [port, "u0"] {
                host.ns.run("tc", &["qdisc", "add", "dev", device, "clsact"])?;
            }
        }
        let (a, b) = (RawSocket::open(&net.a.ns, Vm::NIC)?, RawSocket::open(&net.b.ns, Vm::NIC)?);
        let pings = Ping::start(&net.a.ns, ip(2), Duration::from_millis(4))?;
        let stop = AtomicBool::new(false);
        let sent = thread::scope(|scope| -> Result<u32> {
            let sender = scope.spawn(|| -> Result<u32> {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    a.send(&marked(Mac::BROADCAST, mac(1), &number(n)))?;
                    n += 1;
                    thread::sleep(Duration::from_millis(5));
                }
                Ok(n)
            });
            let turns = [("clsact", "clsact"), ("auto", "tcx"), ("clsact", "clsact"), ("auto", "tcx")]
                .into_iter()
                .try_for_each(|(wish, hook)| take_turns(&mut net, wish, hook, &pings));
            stop.store(true, Ordering::Relaxed);
            let sent = sender.join().expect("the sender panicked");
            turns.and(sent)
        })?;
        let loss = pings.stop();
        ensure!(loss.lost() == 0, "{loss:?}");
        a.send(&marked(Mac::BROADCAST, mac(1), "fence"))?;
        let got = until(&b, "fence")?;
        ensure!(sent > 100, "only {sent} frames were sent");
        for n in 0..sent {
            let copies = got.iter().filter(|frame| has_mark(frame, &number(n))).count();
            ensure!(copies == 1, "frame {n} of {sent} came {copies} times");
        }
        Ok(())
    });
}

fn number(n: u32) -> String {
    format!("number {n:06}")
}

fn take_turns(net: &mut Both, wish: &str, hook: &str, pings: &Ping) -> Result<()> {
    for i in 0..2 {
        net.agents[i].write_config(&net.config(i).underlay(&format!("tc = \"{wish}\"")))?;
        net.agents[i].terminate()?;
        net.agents[i].launch()?;
        net.agents[i].wait_ready()?;
        let (port, ns) = (["p-a", "p-b"][i], &net.hosts[i].ns);
        let found = net.agents[i].wait_port(port, AttachState::Attached)?.hook;
        ensure!(found.as_deref() == Some(hook), "{wish}: {found:?}");
        for (device, program) in [(port, "port_tc"), ("u0", "underlay_tc")] {
            let found = filters(ns, device)?;
            ensure!(found.contains(program) == (hook == "clsact"), "{wish}, {device}: {found}");
            ensure!(qdisc(ns, device)?, "{wish}: somebody else's qdisc of {device} is gone");
        }
        let pins: Vec<String> = std::fs::read_dir(net.agents[i].pins().join("links"))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_>>()?;
        ensure!(pins.iter().any(|p| p.starts_with("tcx-")) != (hook == "clsact"), "{wish}: {pins:?}");
        pings.wait_answered(50, SOON)?;
    }
    ping::once(&net.a.ns, ip(2), 1472, SOON)
}
