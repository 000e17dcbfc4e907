//! Every hook mode carries everything, and says which it is.

use std::{net::SocketAddrV4, time::Duration};

use anyhow::{Context, Result, ensure};
use wavnet_common::{abi::program, addr::Mac};
use wavnet_tests::lab::{
    self, Lab, Need,
    frame::{IPV4, ethernet, marked, udp4},
    host::{Host, Vm, VmSpec},
    overlay::{Both, Lone, Mesh, SOON, Shape, ip, mac, until},
    ping::{self, Ping},
    poll_until,
    programs::{
        Place, Programs,
        abi::{Counter, PORT, Probe},
    },
    raw::RawSocket,
    stream, wait_until,
};
use wavnet_user::api::model::{AttachState, HookMode};

const NEEDS: &[Need] = &[Need::Wavnet];

fn carries_everything(lab: &Lab, wish: &str, mode: HookMode) -> Result<()> {
    // Routed: what another agent sends straight into a veth counts as redirected, which generic XDP does not look at.
    let net = Mesh::start_with(lab, 2, 2, |config| {
        config.underlay(&format!("hook = \"{wish}\"")).metrics("program_run_time = true")
    })?;
    for agent in &net.agents {
        let underlay = agent.status()?.underlay;
        ensure!(underlay.hook_mode == Some(mode), "asked for {wish}: {underlay:?}");
        let label = format!("mode=\"{}\"", mode.as_str());
        ensure!(agent.metric("wavnet_underlay_hook_mode", &[&label])? == 1.0, "the metric shows another mode");
    }
    let [a, b] = [&net.vms[0], &net.vms[1]];
    let tap = net.underlay.hosts[0].tap_vm(lab, &VmSpec::new("t", mac(7), ip(7)))?;
    net.agents[0].cli("port add tap-t --vni 100")?;
    net.agents[0].wait_port("tap-t", AttachState::Attached)?;
    let pings = Ping::start(&a.ns, ip(2), Duration::from_millis(3))?;
    for (from, to) in [(a, 2), (b, 1), (&tap, 2), (b, 7), (a, 7)] {
        ping::once(&from.ns, ip(to), 1472, SOON)?;
    }
    stream::bulk(&b.ns, ip(2), &a.ns, 5_000_000)?;
    stream::bulk(&a.ns, ip(1), &b.ns, 5_000_000)?;
    stream::bulk(&tap.ns, ip(7), &b.ns, 2_000_000)?;
    let nics = (RawSocket::open(&a.ns, Vm::NIC)?, RawSocket::open(&b.ns, Vm::NIC)?);
    nics.0.send(&marked(Mac::BROADCAST, mac(1), "broadcast"))?;
    until(&nics.1, "broadcast")?;
    let loss = pings.stop();
    ensure!(loss.lost() == 0, "{wish}: {loss:?}");
    let program = match mode {
        HookMode::XdpDriver => program::UNDERLAY_XDP,
        HookMode::XdpGeneric => program::UNDERLAY_XDP_GENERIC,
        HookMode::Tc => program::UNDERLAY_TC,
    };
    let runs = net.agents[1].metric("wavnet_program_runs_total", &[&format!("program=\"{program}\"")])?;
    // TCP may come in super-packets, but not that few.
    ensure!(runs > 500.0, "{wish}: {program} ran {runs} times");
    Ok(())
}

#[test]
fn driver_xdp_carries_everything() {
    lab::run("driver_xdp_carries_everything", NEEDS, |lab| carries_everything(lab, "driver", HookMode::XdpDriver));
}

#[test]
fn auto_takes_driver_xdp_on_veth() {
    lab::run("auto_takes_driver_xdp_on_veth", NEEDS, |lab| carries_everything(lab, "auto", HookMode::XdpDriver));
}

#[test]
fn generic_xdp_carries_everything() {
    lab::run("generic_xdp_carries_everything", NEEDS, |lab| carries_everything(lab, "generic", HookMode::XdpGeneric));
}

#[test]
fn tc_alone_carries_everything() {
    lab::run("tc_alone_carries_everything", NEEDS, |lab| carries_everything(lab, "tc", HookMode::Tc));
}

/// As on kernels before 6.6: filters of the clsact qdisc, which no link pins.
#[test]
fn clsact_carries_everything_and_outlives_the_agent() {
    lab::run("clsact_carries_everything_and_outlives_the_agent", NEEDS, |lab| {
        let mut net = Both::start(lab, Shape::underlay("tc = \"clsact\""))?;
        let filters = |device: &str| -> Result<String> {
            net.hosts[0].ns.run("tc", &["filter", "show", "dev", device, "ingress"])
        };
        ensure!(filters("p-a")?.contains("port_tc"), "no filter of ours on the port: {}", filters("p-a")?);
        ensure!(filters("u0")?.contains("underlay_tc"), "no filter of ours on the underlay: {}", filters("u0")?);
        let pings = Ping::start(&net.a.ns, ip(2), Duration::from_millis(3))?;
        pings.wait_answered(50, SOON)?;
        net.agents[0].kill();
        pings.wait_answered(150, SOON)?;
        net.agents[0].launch()?;
        pings.wait_answered(250, SOON)?;
        let loss = pings.stop();
        ensure!(loss.lost() == 0, "killed and restarted: {loss:?}");

        // Killed between attaching and marking: the next agent finds the filter without its mark.
        net.agents[0].kill();
        let links = net.agents[0].pins().join("links");
        for entry in std::fs::read_dir(&links)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("clsact-")) {
                std::fs::remove_file(path)?;
            }
        }
        net.agents[0].launch()?;
        ping::once(&net.a.ns, ip(2), 56, SOON)?;
        // And the other way round: the mark without its filter.
        net.agents[0].kill();
        net.hosts[0].ns.run("tc", &["qdisc", "del", "dev", "p-a", "clsact"])?;
        net.agents[0].launch()?;
        ping::once(&net.a.ns, ip(2), 56, SOON)?;

        net.agents[0].cli("down")?;
        ping::unreachable(&net.a.ns, ip(2))?;
        for device in ["p-a", "u0"] {
            let left = net.hosts[0].ns.run("tc", &["filter", "show", "dev", device, "ingress"])?;
            ensure!(!left.contains("_tc"), "{device} still has {left}");
        }
        Ok(())
    });
}

#[test]
fn vms_talk_ipv6() {
    lab::run("vms_talk_ipv6", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        for (vm, n) in [(&net.a, 1), (&net.b, 2)] {
            for which in ["all", "default", Vm::NIC] {
                vm.ns.sysctl(&format!("net/ipv6/conf/{which}/disable_ipv6"), "0")?;
            }
            vm.ns.ip(&format!("-6 address add fd00::{n}/64 dev {} nodad", Vm::NIC))?;
        }
        for (vm, to) in [(&net.a, "fd00::2"), (&net.b, "fd00::1")] {
            for size in ["56", "1452"] {
                poll_until(&format!("{to} to answer"), SOON, || {
                    vm.ns.run("ping", &["-6", "-n", "-q", "-c", "1", "-W", "1", "-s", size, to]).map(drop)
                })?;
            }
        }
        Ok(())
    });
}

/// What is not ours is left to other software's programs, wherever they stand.
#[test]
fn tc_programs_of_others_see_what_is_not_ours() {
    lab::run("tc_programs_of_others_see_what_is_not_ours", NEEDS, |lab| {
        for (tc, place) in [("auto", Place::Last), ("auto", Place::Clsact), ("clsact", Place::Clsact)] {
            let net = Lone::start(lab, &[], |c| c.underlay(&format!("hook = \"tc\"\ntc = \"{tc}\"")))?;
            let mut others = Programs::load()?;
            let nic = net.host.ns.mac(Host::NIC)?;
            others.set_probe(Probe { mac: nic.to_u64(), ..Probe::default() })?;
            others.sink(&net.host.ns, Host::NIC, place)?;
            let (from, to) = (SocketAddrV4::new(net.far.addr, 40_000), SocketAddrV4::new(net.host.addr, PORT));
            let foreign = ethernet(nic, mac(9), IPV4, &udp4(from, to, b"not for the overlay"));
            for _ in 0..7 {
                net.wire.send(&foreign)?;
            }
            wait_until("the other program to see it", SOON, || Ok(others.count(Counter::Sink)? == 7))
                .with_context(|| format!("{tc}, {place:?}: saw {:?}", others.count(Counter::Sink)))?;
            // And what is ours it does not see.
            net.fence_out("hello")?;
            net.fence_in("for the VM")?;
            ensure!(others.count(Counter::Sink)? == 7);
        }
        Ok(())
    });
}
