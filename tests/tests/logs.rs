//! What the agent's log says, and how often.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use wavnet_common::{addr::Mac, reason::Reason};
use wavnet_tests::lab::{
    self, Lab, Need,
    agent::Agent,
    config::AgentConfig,
    frame::marked,
    host::{Host, VmSpec},
    overlay::{SOON, blue, ip, mac},
    poll_until,
    raw::RawSocket,
    tap::Tap,
    topology::UNDERLAY_MTU,
    vnet::{VnetHdr, VnetTap},
    wait_until,
};
use wavnet_user::api::model::AttachState;

const NEEDS: &[Need] = &[Need::Wavnet];

/// Lines of the log with all of these words.
fn lines(log: &str, words: &[&str]) -> Vec<String> {
    log.lines().filter(|line| words.iter().all(|w| line.contains(w))).map(str::to_owned).collect()
}

/// Ends the agent, so that nothing more comes; all that it has said.
fn whole_log(agent: &mut Agent) -> Result<String> {
    agent.terminate()?;
    let path = agent.ns().log_path("agent");
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// A super-packet that no program can encapsulate: the kernel tunnels none that is not IP.
fn impossible(dst: Mac) -> (VnetHdr, Vec<u8>) {
    let mut frame = marked(dst, mac(1), "impossible");
    frame.resize(3000, 0);
    let header = VnetHdr {
        flags: VnetHdr::NEEDS_CSUM,
        gso_type: VnetHdr::TCPV4,
        hdr_len: 54,
        gso_size: 1400,
        csum_start: 34,
        csum_offset: 16,
    };
    (header, frame)
}

/// An agent with this log level, and `count` frames from a VM that its program cannot handle. Its log, how long it ran meanwhile, and
/// the index of the VM's port.
fn after_bad_frames(lab: &Lab, level: &str, count: u64) -> Result<(String, Duration, u32)> {
    let [host, far] = lab.pair(UNDERLAY_MTU)?;
    let tap = VnetTap::create(&host.ns, "tap-s", 1500, false)?;
    let config = AgentConfig::new(&[blue()]).port("tap-s", blue()).peer(far.addr, &[blue()]).log_level(level);
    let start = Instant::now();
    let mut agent = Agent::start(lab, &host, &config.static_peer(blue(), mac(3), far.addr))?;
    agent.wait_ready()?;
    let (header, frame) = impossible(mac(3));
    for _ in 0..count {
        tap.send(&header, &frame)?;
    }
    wait_until("all bad frames to be counted", SOON, || Ok(agent.drops(Reason::Rewrite)? == count))?;
    if level == "debug" {
        wait_until("a line about them", SOON, || Ok(!lines(&agent.log(), &["wavnet::kernel"]).is_empty()))?;
    }
    let index = host.ns.ifindex("tap-s")?;
    let log = whole_log(&mut agent)?;
    Ok((log, start.elapsed(), index))
}

#[test]
fn the_kernel_programs_say_what_surprises_them_at_level_debug_once_a_second() {
    let test = "the_kernel_programs_say_what_surprises_them_at_level_debug_once_a_second";
    lab::run(test, NEEDS, |lab| {
        const FRAMES: u64 = 5000;
        let (log, took, index) = after_bad_frames(lab, "debug", FRAMES)?;
        let said = lines(&log, &["wavnet::kernel", "rewrite", &format!("interface {index}:")]);
        ensure!(!said.is_empty(), "nothing is said of {FRAMES} frames");
        let cpus = thread_count();
        let most = (took.as_secs() + 2) * cpus;
        ensure!(said.len() as u64 <= most, "{} lines in {took:?} on {cpus} CPUs", said.len());
        // Were it as slow as that, the bound above would prove nothing.
        ensure!(most < FRAMES / 10, "{FRAMES} frames took {took:?}");
        ensure!(said[0].contains("WARN"), "{}", said[0]);
        Ok(())
    });
}

fn thread_count() -> u64 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u64)
}

#[test]
fn the_kernel_programs_are_silent_at_the_default_level() {
    lab::run("the_kernel_programs_are_silent_at_the_default_level", NEEDS, |lab| {
        let (log, _, _) = after_bad_frames(lab, "", 500)?;
        ensure!(lines(&log, &["INFO", "agent ready"]).len() == 1, "this is no log at the default level:\n{log}");
        let said = lines(&log, &["wavnet::kernel"]);
        ensure!(said.is_empty(), "{said:?}");
        ensure!(lines(&log, &["DEBUG"]).is_empty(), "this is no log at the default level:\n{log}");
        Ok(())
    });
}

#[test]
fn a_copy_that_a_port_refuses_is_counted_and_told_at_level_debug() {
    lab::run("a_copy_that_a_port_refuses_is_counted_and_told_at_level_debug", NEEDS, |lab| {
        let [host, far] = lab.pair(UNDERLAY_MTU)?;
        let (sender, _full) = (Tap::create(&host.ns, "tap-s", 1500)?, Tap::create(&host.ns, "tap-f", 1500)?);
        // A queue that takes nothing.
        host.ns.run("tc", &["qdisc", "replace", "dev", "tap-f", "root", "pfifo", "limit", "0"])?;
        let config = AgentConfig::new(&[blue()]).port("tap-*", blue()).peer(far.addr, &[blue()]);
        let agent = Agent::start(lab, &host, &config)?;
        agent.wait_ready()?;
        let before = agent.drops(Reason::CloneFailed)?;
        sender.send(&marked(Mac::BROADCAST, mac(1), "to all"))?;
        wait_until("the copy to be counted", SOON, || Ok(agent.drops(Reason::CloneFailed)? == before + 1))?;
        poll_until("a line about it", SOON, || {
            ensure!(!lines(&agent.log(), &["wavnet::kernel", "clone_failed"]).is_empty(), "there is none");
            Ok(())
        })
    });
}

/// Warnings are looked for every so often.
fn said_once(agent: &Agent, words: &[&str]) -> Result<()> {
    poll_until(&format!("a line with {words:?}"), SOON, || {
        let said = lines(&agent.log(), words);
        ensure!(said.len() == 1, "{said:?} of\n{}", agent.log());
        Ok(())
    })
}

#[test]
fn what_is_wrong_is_said_once_and_so_is_its_end() {
    lab::run("what_is_wrong_is_said_once_and_so_is_its_end", NEEDS, |lab| {
        let [host, far] = lab.pair(UNDERLAY_MTU)?;
        let down = Tap::create(&host.ns, "tap-down", 1500)?;
        let long = host.vm(lab, &VmSpec { mtu: 9000, ..VmSpec::new("long", mac(1), ip(1)) })?;
        let silent = std::net::Ipv4Addr::new(172, 31, 0, 77);
        let nowhere = std::net::Ipv4Addr::new(203, 0, 113, 9);
        let config = AgentConfig::new(&[blue()])
            .port("tap-*", blue())
            .port("p-long", blue())
            .port("p-gone", blue())
            .peer(far.addr, &[blue()])
            .peer(silent, &[blue()])
            .peer(nowhere, &[blue()])
            .log_level("");
        let mut agent = Agent::start(lab, &host, &config)?;
        let wrong: [&[&str]; 4] = [
            &["WARN", "172.31.0.77", "does not answer ARP"],
            &["WARN", "203.0.113.9", "no route"],
            &["WARN", "p-gone", "no such interface"],
            &["WARN", "p-long", "MTU above 1550"],
        ];
        for words in wrong {
            said_once(&agent, words)?;
        }
        // What comes later is told after another look at all of them, and so is its end.
        host.ns.ip("link set dev tap-down down")?;
        said_once(&agent, &["WARN", "tap-down", "is down"])?;
        host.ns.ip("link set dev tap-down up")?;
        said_once(&agent, &["INFO", "no longer", "tap-down"])?;
        // Of another one in the same trouble it is said, and of no other.
        agent.cli("peer add 172.31.0.78 --vni 100")?;
        said_once(&agent, &["WARN", "the next hop to the peer 172.31.0.78 does not"])?;
        agent.cli("peer remove 172.31.0.78")?;
        said_once(&agent, &["INFO", "no longer: the next hop to the peer 172.31.0.78 does not"])?;
        // What is mended is told, too.
        let gone = host.vm(lab, &VmSpec::new("gone", mac(9), ip(9)))?;
        host.ns.ip("link set dev p-long mtu 1500")?;
        far.ns.ip("address add 172.31.0.77/24 dev u0")?;
        host.ns.ip("route add 203.0.113.0/24 via 172.31.0.2")?;
        for words in wrong {
            said_once(&agent, &[&["INFO", "no longer"], &words[1..]].concat())?;
        }
        let log = whole_log(&mut agent)?;
        for words in wrong {
            ensure!(lines(&log, words).len() == 1, "said more than once: {:?}", lines(&log, words));
            ensure!(lines(&log, &words[1..]).len() == 2, "taken back more than once: {:?}", lines(&log, &words[1..]));
        }
        drop((down, long, gone));
        Ok(())
    });
}

/// An agent with a VNI of an MTU, on an underlay that is said to have one.
fn with_mtus(vni: u32, underlay: &str) -> AgentConfig {
    AgentConfig::new(&[]).underlay(underlay).table(&format!("[[vni]]\nid = 100\nmtu = {vni}")).log_level("")
}

#[test]
fn an_mtu_of_a_vni_that_the_interface_cannot_carry_is_told() {
    lab::run("an_mtu_of_a_vni_that_the_interface_cannot_carry_is_told", NEEDS, |lab| {
        let [host, _far] = lab.pair(1500)?;
        // The file says that the underlay has what it has not.
        let agent = Agent::start(lab, &host, &with_mtus(1500, "mtu = 1600"))?;
        said_once(&agent, &["WARN", "VNI 100 has an MTU of 1500", "1450"])?;
        let shown = agent.status()?.warnings;
        ensure!(shown.iter().any(|w| w.contains("VNI 100")), "status does not show it: {shown:?}");
        host.ns.ip(&format!("link set dev {} mtu 1600", Host::NIC))?;
        said_once(&agent, &["INFO", "no longer", "VNI 100"])?;
        ensure!(agent.status()?.warnings.is_empty(), "{:?}", agent.status()?.warnings);

        // By reload: refused if the file contradicts itself, and said if it contradicts the interface.
        agent.write_config(&with_mtus(1580, "mtu = 1600"))?;
        let out = agent.try_cli("reload")?;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        ensure!(out.status.code() == Some(4) && said.contains("mtu"), "{}: {said}", out.status);
        agent.write_config(&with_mtus(1580, ""))?;
        let out = agent.try_cli("reload")?;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        ensure!(out.status.code() == Some(4), "the interface has 1600: {}: {said}", out.status);
        ensure!(said.contains("1630") && said.contains(Host::NIC), "it does not say what to do: {said}");
        agent.write_config(&with_mtus(1580, "mtu = 1700"))?;
        let out = agent.try_cli("reload")?;
        let all = [out.stdout, out.stderr].concat();
        let said = String::from_utf8_lossy(&all).into_owned();
        ensure!(out.status.success() && said.contains("VNI 100 has an MTU of 1580"), "{}: {said}", out.status);
        said_once(&agent, &["WARN", "VNI 100 has an MTU of 1580", "1550"])
    });
}

#[test]
fn an_mtu_that_the_interface_cannot_carry_keeps_the_agent_from_starting() {
    lab::run("an_mtu_that_the_interface_cannot_carry_keeps_the_agent_from_starting", NEEDS, |lab| {
        let [host, _far] = lab.pair(1500)?;
        let agent = Agent::prepare(lab, &host, &with_mtus(1500, ""))?;
        let file = agent.file().display().to_string();
        let mut process = host.ns.spawn("refused", lab::binary::usable()?, &["agent", "--config", &file])?;
        let status = process.wait(SOON)?;
        let said = process.log();
        ensure!(status.code() == Some(4), "{status}: {said}");
        for word in ["mtu = 1500", "1550", "ip link set u0 mtu"] {
            ensure!(said.contains(word), "{word} is not said: {said}");
        }
        Ok(())
    });
}

#[test]
fn a_smaller_mtu_that_the_file_gives_the_underlay_is_what_ports_are_measured_by() {
    let test = "a_smaller_mtu_that_the_file_gives_the_underlay_is_what_ports_are_measured_by";
    lab::run(test, NEEDS, |lab| {
        let [host, _far] = lab.pair(1600)?;
        let vm = host.vm(lab, &VmSpec::new("a", mac(1), ip(1)))?;
        let config = AgentConfig::new(&[blue()]).port(&vm.port, blue()).log_level("");
        let agent = Agent::start(lab, &host, &config)?;
        agent.wait_port(&vm.port, AttachState::Attached)?;
        ensure!(agent.status()?.warnings.is_empty(), "{:?}", agent.status()?.warnings);
        agent.write_config(&config.underlay("mtu = 1500"))?;
        let said = agent.reload()?;
        ensure!(said.contains("p-a") && said.contains("1450"), "{said}");
        said_once(&agent, &["WARN", "p-a has an MTU above 1450"])?;
        // The underlay still carries what it can.
        let nic = RawSocket::open(&vm.ns, lab::host::Vm::NIC)?;
        nic.send(&marked(Mac::BROADCAST, mac(1), "hello"))
    });
}
