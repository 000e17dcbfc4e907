//! The commands as operators and their scripts meet them: exit codes, tables, errors that say what to do.

use std::process::Output;

use anyhow::{Context, Result};
use wavnet_tests::lab::{
    self, Lab, Need,
    agent::Agent,
    binary,
    host::VmSpec,
    netns::Netns,
    overlay::{Both, Lone, SOON, Shape, ip, mac},
    ping, wait_until,
};
use wavnet_user::api::model::{AttachState, Done, PeerInfo};

const NEEDS: &[Need] = &[Need::Wavnet];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run(ns: &Netns, args: &[&str]) -> Result<Output> {
    let bin = binary::usable()?;
    ns.command(&bin).args(args).output().context("starting wavnet")
}

/// Runs an agent that must not start; gives its exit code and what it said.
fn refused(ns: &Netns, args: &[&str]) -> Result<(Option<i32>, String)> {
    let mut process = ns.spawn("refused", binary::usable()?, args)?;
    let status = process.wait(SOON)?;
    Ok((status.code(), process.log()))
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    lab::run("exit_codes_tell_what_went_wrong", NEEDS, |lab| {
        let net = Lone::start(lab, &[], |c| c)?;
        for (words, code) in [
            ("status", 0),
            ("ports", 0),
            ("peers", 0),
            ("fdb", 0),
            ("drops", 0),
            ("drops --all", 0),
            ("status --json", 0),
            ("nonsense", 2),
            ("port add", 2),
            ("port add tap9 --vni 0", 2),
            ("peer add 300.0.0.1 --vni 100", 2),
            ("fdb --mac 1:2:3", 2),
            ("port add tap9 --vni 999", 4),
            ("port remove tap9", 4),
            ("port add p-a --vni 100", 4),
            ("peer remove 203.0.113.9", 4),
            ("fdb remove --vni 100 --mac 02:00:00:00:00:99", 4),
        ] {
            let out = net.agent.try_cli(words)?;
            let said = text(&out.stderr);
            assert_eq!(out.status.code(), Some(code), "`wavnet {words}` said: {said}");
            assert_eq!(said.is_empty(), code == 0, "`wavnet {words}` said: {said}");
            assert!(!said.contains("panicked"), "{said}");
        }
        let nowhere = lab.path("nowhere").display().to_string();
        let out = run(&net.host.ns, &["status", "--run-dir", &nowhere])?;
        assert_eq!(out.status.code(), Some(3), "no agent runs there");
        assert!(text(&out.stderr).contains("wavnet agent"), "it does not say what to do: {}", text(&out.stderr));
        Ok(())
    });
}

#[test]
fn tables_show_what_is_there() {
    lab::run("tables_show_what_is_there", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        let agent = &net.agents[0];
        for (words, expected) in [
            ("status", &["hv1", "u0", "172.31.0.1", "xdp-driver"][..]),
            ("ports", &["p-a", "100", "attached"]),
            ("peers", &["172.31.0.2", "100", "up"]),
            ("fdb", &["02:00:00:00:00:01", "02:00:00:00:00:02", "p-a", "172.31.0.2"]),
            ("fdb --peer 172.31.0.2", &["02:00:00:00:00:02"]),
            ("drops --all", &["unknown_vni", "exceeds_underlay_mtu"]),
        ] {
            let table = agent.cli(words)?;
            for word in expected {
                assert!(table.contains(word), "`wavnet {words}` does not show {word}:\n{table}");
            }
        }
        assert!(!agent.cli("fdb --peer 172.31.0.2")?.contains("02:00:00:00:00:01"), "the filter lets others through");
        Ok(())
    });
}

#[test]
fn ports_and_peers_come_and_go_by_command() {
    lab::run("ports_and_peers_come_and_go_by_command", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        let (one, two) = (&net.agents[0], &net.agents[1]);
        let c = net.hosts[0].vm(lab, &VmSpec::new("c", mac(3), ip(3)))?;
        ping::unreachable(&c.ns, ip(2))?;
        let done: Done = one.json("port add p-c --vni 100")?;
        assert!(!done.changes.is_empty(), "{done:?}");
        one.wait_port("p-c", AttachState::Attached)?;
        ping::once(&c.ns, ip(2), 56, SOON)?;
        one.cli("port remove p-c")?;
        wait_until("the port to leave the list", SOON, || Ok(!one.ports()?.iter().any(|p| p.interface == "p-c")))?;
        wait_until("pings to fail", SOON, || Ok(ping::unreachable(&c.ns, ip(2)).is_ok()))?;

        // A peer of the configuration cannot be removed by command; one that was added can.
        assert_eq!(one.try_cli("peer remove 172.31.0.2")?.status.code(), Some(4));
        one.cli("peer add 172.31.0.77 --vni 100")?;
        let find = |peers: Vec<PeerInfo>| peers.into_iter().find(|p| p.address.to_string() == "172.31.0.77");
        assert!(find(one.peers()?).is_some());
        one.cli("peer remove 172.31.0.77")?;
        assert!(find(one.peers()?).is_none());
        assert_eq!(two.peers()?.len(), 1);
        ping::once(&net.a.ns, ip(2), 56, SOON)
    });
}

#[test]
fn fdb_changes_are_told_as_they_happen() {
    lab::run("fdb_changes_are_told_as_they_happen", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        let agent = &net.agents[0];
        let run_dir = agent.run_dir().display().to_string();
        let watch =
            agent.ns().spawn("watch", binary::usable()?, &["fdb", "--watch", "--json", "--run-dir", &run_dir])?;
        let c = net.hosts[1].vm(lab, &VmSpec::new("c", mac(3), ip(3)))?;
        net.agents[1].cli("port add p-c --vni 100")?;
        wait_until("the new MAC to be told", SOON, || {
            let _ = ping::once(&c.ns, ip(1), 56, std::time::Duration::ZERO);
            Ok(watch.log().lines().any(|l| l.contains("learned") && l.contains("02:00:00:00:00:03")))
        })?;
        agent.cli("fdb add --vni 100 --mac 02:00:00:00:00:60 --port p-a")?;
        wait_until("the static entry to be told", SOON, || {
            Ok(watch.log().lines().any(|l| l.contains("added") && l.contains("02:00:00:00:00:60")))
        })
    });
}

/// An agent's arguments for a directory of pins, all else being right.
fn agent_args<'a>(bpffs: &'a str, run_dir: &'a str) -> Vec<&'a str> {
    let rest = ["--vni", "100", "--port", "p-a", "--peer", "172.31.0.9", "--metrics", "off", "--run-dir", run_dir];
    ["agent", "--underlay", "u0", "--bpffs", bpffs].into_iter().chain(rest).collect()
}

#[test]
fn flags_serve_the_simple_case_without_a_file() {
    lab::run("flags_serve_the_simple_case_without_a_file", NEEDS, |lab| {
        let [one, _two] = lab.pair(1600)?;
        let vm = one.vm(lab, &VmSpec::new("a", mac(1), ip(1)))?;
        let agent = Agent::prepare(lab, &one, &lab::config::AgentConfig::new(&[]))?;
        let (pins, run_dir) = (agent.pins().display().to_string(), agent.run_dir().display().to_string());
        let mut process = one.ns.spawn("agent", binary::usable()?, &agent_args(&pins, &run_dir))?;
        wait_until("the agent to attach its port", SOON, || {
            process.still_running()?;
            let ports = agent.ports().unwrap_or_default();
            Ok(ports.iter().any(|p| p.interface == vm.port && p.state == AttachState::Attached))
        })?;
        assert_eq!(agent.peers()?.len(), 1);
        process.signal(nix::sys::signal::Signal::SIGINT)?;
        assert!(process.wait(SOON)?.success(), "{}", process.log());
        Ok(())
    });
}

#[test]
fn errors_at_start_say_what_to_do() {
    lab::run("errors_at_start_say_what_to_do", NEEDS, start_errors);
}

fn start_errors(lab: &Lab) -> Result<()> {
    let [one, _two] = lab.pair(1600)?;
    let run_dir = lab.path("start.run").display().to_string();
    // Pins somewhere else than on a bpffs.
    let ordinary = lab.path("pins").display().to_string();
    let (code, said) = refused(&one.ns, &agent_args(&ordinary, &run_dir))?;
    assert!(code.is_some_and(|c| c != 0) && said.contains("bpf"), "pins on an ordinary file system: {code:?}: {said}");
    assert!(said.contains("mount"), "it does not say what to do: {said}");
    // No privileges: root of a user namespace of its own.
    let pins = format!("/sys/fs/bpf/{}-none", lab.id());
    let bin = binary::usable()?.display().to_string();
    let args = [&["--user", "--map-root-user", &bin][..], &agent_args(&pins, &run_dir)].concat();
    let mut process = one.ns.spawn("unprivileged", "unshare", &args)?;
    let status = process.wait(SOON)?;
    let said = process.log();
    assert_eq!(status.code(), Some(1), "without privileges: {said}");
    assert!(said.contains("root") || said.contains("CAP_"), "it does not say what is missing: {said}");
    // A configuration with errors: all of them, with their lines.
    let file = lab.path("bad.toml");
    std::fs::write(
        &file,
        "[underlay]\ninterface = \"u0\"\nmtu = 1500\n\n[[vni]]\nid = 0\n\n[[vni]]\nid = 5\nmtu = 1500\ncolour = 1\n",
    )?;
    let path = file.display().to_string();
    for args in [&["agent", "--config", &path][..], &["agent", "--config", &path, "--check"]] {
        let (code, said) = refused(&one.ns, args)?;
        assert_eq!(code, Some(4), "{said}");
        for word in ["bad.toml:6", "colour", "mtu"] {
            assert!(said.contains(word), "{word} is not mentioned: {said}");
        }
    }
    let (code, said) = refused(&one.ns, &["agent", "--config", &lab.path("none.toml").display().to_string()])?;
    assert!(code.is_some_and(|c| c != 0) && said.contains("none.toml"), "{code:?}: {said}");
    Ok(())
}

#[test]
fn an_underlay_that_does_not_exist_yet_is_waited_for() {
    lab::run("an_underlay_that_does_not_exist_yet_is_waited_for", NEEDS, |lab| {
        let [one, two] = lab.pair(1600)?;
        one.ns.ip("link del dev u0")?;
        let config = lab::config::AgentConfig::new(&[lab::overlay::blue()]).peer(two.addr, &[lab::overlay::blue()]);
        let agent = Agent::start(lab, &one, &config)?;
        let status = agent.status()?;
        assert_eq!(status.underlay.state, AttachState::Missing);
        assert!(!status.warnings.is_empty(), "nothing is said about the missing NIC: {status:?}");
        lab::topology::rewire(&one, &two, 1600)?;
        agent.wait_peers()?;
        assert_eq!(agent.status()?.underlay.state, AttachState::Attached);
        Ok(())
    });
}

#[test]
fn doctor_finds_nothing_wrong_where_an_agent_runs() {
    lab::run("doctor_finds_nothing_wrong_where_an_agent_runs", NEEDS, |lab| {
        let net = Lone::start(lab, &[], |c| c)?;
        let file = net.agent.file().display().to_string();
        let out = run(&net.host.ns, &["doctor", "--config", &file])?;
        assert!(out.status.success(), "{}\n{}", text(&out.stdout), text(&out.stderr));
        Ok(())
    });
}
