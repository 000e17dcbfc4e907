//! What operators are told to look at.

use anyhow::{Context, Result, ensure};
use wavnet_tests::lab::{
    self, Need,
    agent::Agent,
    link,
    overlay::{Both, SOON, Shape, blue, ip, mac},
    ping, poll_until, wait_until,
};
use wavnet_user::api::model::{AttachState, HookMode, LinkState};

const NEEDS: &[Need] = &[Need::Wavnet];

fn warns(agent: &Agent, words: &str) -> Result<bool> {
    Ok(agent.status()?.warnings.iter().any(|w| w.contains(words)))
}

#[test]
fn a_port_whose_link_is_down_is_listed_so() {
    lab::run("a_port_whose_link_is_down_is_listed_so", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        let agent = &net.agents[0];
        let is = |state: LinkState| {
            poll_until(&format!("p-a to be {state:?}"), SOON, || {
                let port = agent.wait_port("p-a", AttachState::Attached)?;
                ensure!(port.link == Some(state), "{port:?}");
                let table = agent.cli("ports")?;
                let line = table.lines().find(|l| l.starts_with("p-a ")).context("no line")?;
                ensure!(line.split_whitespace().any(|w| w == state.as_str()), "{table}");
                Ok(())
            })
        };
        is(LinkState::Up)?;
        // Down by itself, and without a carrier.
        net.hosts[0].ns.ip("link set dev p-a down")?;
        is(LinkState::Down)?;
        net.hosts[0].ns.ip("link set dev p-a up")?;
        is(LinkState::Up)?;
        net.a.ns.ip("link set dev eth0 down")?;
        is(LinkState::Down)?;
        net.a.ns.ip("link set dev eth0 up")?;
        is(LinkState::Up)?;
        ping::once(&net.a.ns, ip(2), 56, SOON)?;
        net.a.unplug()?;
        let port = agent.wait_port("p-a", AttachState::Missing)?;
        ensure!(port.link.is_none(), "{port:?}");
        Ok(())
    });
}

#[test]
fn unfinished_checksums_are_warned_of_as_by_the_doctor() {
    lab::run("unfinished_checksums_are_warned_of_as_by_the_doctor", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        let agent = &net.agents[0];
        let words = "u0 is a veth that leaves checksums unfinished";
        ensure!(!warns(agent, words)?, "{:?}", agent.status()?.warnings);
        net.hosts[0].ns.run("ethtool", &["-K", "u0", "tx", "on"])?;
        let out = agent.try_cli("doctor --json --underlay u0")?;
        let report: serde_json::Value = serde_json::from_slice(&out.stdout)?;
        let checks = report["checks"].as_array().context("no checks")?;
        let check = checks.iter().find(|c| c["name"] == "underlay checksums").context("no such check")?;
        let (found, mend) = (check["found"].as_str().unwrap_or_default(), check["mend"].as_str().unwrap_or_default());
        ensure!(found == words, "{check}");
        let warnings = agent.status()?.warnings;
        ensure!(warnings.contains(&format!("{found}: {mend}")), "{warnings:?}");
        wait_until("the log to say so", SOON, || Ok(agent.log().contains(words)))?;
        net.hosts[0].ns.run("ethtool", &["-K", "u0", "tx", "off"])?;
        wait_until("the log to take it back", SOON, || Ok(agent.log().contains(&format!("no longer: {words}"))))?;
        let said = agent.log().lines().filter(|l| l.contains(words) && !l.contains("no longer")).count();
        ensure!(said == 1, "the log said it {said} times");
        ensure!(!warns(agent, words)?, "{:?}", agent.status()?.warnings);
        Ok(())
    });
}

#[test]
fn a_static_entry_behind_a_port_of_another_vni_says_so() {
    lab::run("a_static_entry_behind_a_port_of_another_vni_says_so", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        let agent = &net.agents[0];
        let red = lab::overlay::vni(200);
        // Fit for each other in the file; then a command puts the port elsewhere.
        let config = lab::config::AgentConfig::new(&[blue(), red]).port("p-*", blue());
        agent.write_config(&config.static_port(blue(), mac(0x77), "p-a"))?;
        agent.reload()?;
        let words = "the static entry for 02:00:00:00:00:77 in VNI 100 is not in force: port p-a belongs to VNI 200";
        ensure!(agent.status()?.counts.fdb_static == 1 && !warns(agent, words)?);
        agent.cli("port add p-a --vni 200")?;
        ensure!(warns(agent, words)?, "{:?}", agent.status()?.warnings);
        agent.cli("port remove p-a")?;
        ensure!(!warns(agent, words)? && agent.status()?.counts.fdb_static == 1, "{:?}", agent.status()?.warnings);
        Ok(())
    });
}

#[test]
fn packet_rate_says_what_it_costs_when_it_is_asked_for() {
    lab::run("packet_rate_says_what_it_costs_when_it_is_asked_for", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        let (agent, words) = (&net.agents[0], "warning: mode packet-rate costs bulk TCP");
        let said = agent.cli("port add p-z --vni 100 --mode packet-rate")?;
        ensure!(said.contains(words), "{said}");
        agent.cli("port remove p-z")?;
        let said = agent.cli("port add p-z --vni 100 --mode throughput")?;
        ensure!(!said.contains(words), "{said}");
        Ok(())
    });
}

#[test]
fn a_refused_hook_is_named_and_what_runs_instead() {
    lab::run("a_refused_hook_is_named_and_what_runs_instead", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        let [one, two] = &net.hosts;
        // The driver of veth has no XDP for an end with fewer queues to receive than the other has to send.
        one.ns.ip("link del dev u0")?;
        let queues = |n: u32| format!("numtxqueues {n} numrxqueues {n}");
        one.ns.ip(&format!(
            "link add name u0 mtu 1600 {} type veth peer name u0 mtu 1600 {} netns {}",
            queues(1),
            queues(2),
            two.ns.name()
        ))?;
        for host in [one, two] {
            link::like_a_nic(&host.ns, "u0")?;
            host.ns.ip(&format!("address add {}/24 dev u0", host.addr))?;
            host.ns.ip("link set dev u0 up")?;
        }
        let agent = &net.agents[0];
        let runs = |state: AttachState, mode: HookMode| {
            poll_until(&format!("u0 to be {state:?} in {mode:?}"), SOON, || {
                let underlay = agent.status()?.underlay;
                ensure!((underlay.state, underlay.hook_mode) == (state, Some(mode)), "{underlay:?}");
                ensure!(agent.metric("wavnet_underlay_hook_mode", &[&format!("mode=\"{}\"", mode.as_str())])? == 1.0);
                Ok(())
            })
        };
        let ask = |hook: &str| {
            agent.write_config(&net.config(0).underlay(&format!("hook = \"{hook}\"")))?;
            agent.reload()
        };
        runs(AttachState::Attached, HookMode::XdpGeneric)?;
        let warnings = agent.status()?.warnings.join("\n");
        ensure!(warnings.contains("XDP in the driver on u0 was refused"), "{warnings}");
        ensure!(warnings.contains("running in xdp-generic") && !warnings.contains("generic XDP on u0"), "{warnings}");
        // What is demanded and refused must not pass for attached, nor what ran before for what runs now.
        ask("driver")?;
        runs(AttachState::Error, HookMode::Tc)?;
        ensure!(warns(agent, "the underlay interface u0 runs in tc for now")?, "{:?}", agent.status()?.warnings);
        ping::once(&net.a.ns, ip(2), 56, SOON)?;
        ask("generic")?;
        runs(AttachState::Attached, HookMode::XdpGeneric)?;
        ensure!(!warns(agent, "u0")?, "{:?}", agent.status()?.warnings);
        ping::once(&net.a.ns, ip(2), 56, SOON)
    });
}
