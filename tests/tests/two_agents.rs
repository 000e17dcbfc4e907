//! Two agents in one network namespace.

use std::{net::Ipv4Addr, path::PathBuf, process::Output, time::Duration};

use anyhow::{Context, Result, ensure};
use wavnet_tests::lab::{
    self, Lab, Need,
    agent::Agent,
    binary,
    host::Host,
    link,
    netns::Netns,
    overlay::{Both, SOON, Shape, ip},
    ping::{self, Ping},
    poll_until,
    process::Process,
    wait_until,
};

const NEEDS: &[Need] = &[Need::Wavnet];

/// The second agent, with pins and directories of its own.
struct Second {
    ns: Netns,
    pins: PathBuf,
    run_dir: PathBuf,
    file: PathBuf,
    process: Option<Process>,
}

impl Second {
    /// With the configuration of the first, where `change` does not change it.
    fn prepare(lab: &Lab, first: &Agent, change: impl FnOnce(String) -> String) -> Result<Second> {
        let mut pins = first.pins().as_os_str().to_owned();
        pins.push("-two");
        let (pins, run_dir) = (PathBuf::from(pins), lab.path("two.run"));
        let text = std::fs::read_to_string(first.file())?;
        let swap = |text: String, from: &std::path::Path, to: &std::path::Path| {
            text.replace(&format!("\"{}\"", from.display()), &format!("\"{}\"", to.display()))
        };
        let text = swap(text, first.pins(), &pins);
        let text = swap(text, first.run_dir(), &run_dir).replace(":9810", ":9811");
        let file = lab.path("two.toml");
        std::fs::write(&file, change(text))?;
        Ok(Second { ns: first.ns().clone(), pins, run_dir, file, process: None })
    }

    fn launch(&mut self) -> Result<()> {
        let file = self.file.display().to_string();
        self.process = Some(self.ns.spawn("two", binary::usable()?, &["agent", "--config", &file])?);
        poll_until("the second agent to answer", SOON, || self.status().map(drop))
    }

    fn cli(&self, words: &str) -> Result<Output> {
        let mut command = self.ns.command(binary::usable()?);
        command.args(words.split_whitespace()).arg("--run-dir").arg(&self.run_dir);
        Ok(command.output()?)
    }

    fn status(&self) -> Result<serde_json::Value> {
        Ok(serde_json::from_slice(&self.cli("status --json")?.stdout)?)
    }

    fn down(&mut self) -> Result<()> {
        let out = self.cli(&format!("down --bpffs {}", self.pins.display()))?;
        ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        Ok(())
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let down = self.down();
        if let (Err(e), false) = (down, std::thread::panicking()) {
            eprintln!("`wavnet down` of the second agent: {e:#}");
        }
    }
}

/// Neighbours on an interface that the kernel keeps resolved.
fn managed(ns: &Netns, device: &str) -> Result<bool> {
    Ok(ns.ip(&format!("neigh show dev {device}"))?.contains("managed"))
}

const FAR: Ipv4Addr = Ipv4Addr::new(172, 31, 9, 2);

#[test]
fn each_agent_keeps_its_own_neighbours() {
    lab::run("each_agent_keeps_its_own_neighbours", NEEDS, |lab| {
        let mut net = Both::start(lab, Shape::default())?;
        let [one, far] = net.hosts.clone();
        link::veth((&one.ns, "u1"), (&far.ns, "u1"), 1600, 2)?;
        link::like_a_nic(&one.ns, "u1")?;
        one.ns.ip("address add 172.31.9.1/24 dev u1")?;
        far.ns.ip(&format!("address add {FAR}/24 dev u1"))?;
        let mut second = Second::prepare(lab, &net.agents[0], |text| {
            let text = text.replace(&format!("\"{}\"", Host::NIC), "\"u1\"").replace("\"p-a\"", "\"p-z\"");
            text.replace(&one.addr.to_string(), "172.31.9.1").replace(&far.addr.to_string(), &FAR.to_string())
        })?;
        second.launch()?;
        wait_until("the second agent's neighbour to be managed", SOON, || managed(&one.ns, "u1"))?;
        ensure!(managed(&one.ns, "u0")?, "the first agent's neighbour is not managed");

        // Released behind its back, it is managed again at once (everything is looked at anew but once a minute).
        one.ns.ip(&format!("neigh replace {FAR} dev u1 use"))?;
        wait_until("the neighbour to be managed again", SOON, || managed(&one.ns, "u1"))?;

        // A dead agent cannot defend what its programs need: neither the start nor the end of the other may take it away.
        second.process = None;
        net.agents[0].kill();
        net.agents[0].launch()?;
        net.agents[0].wait_ready()?;
        ensure!(managed(&one.ns, "u1")?, "the start of one agent released the other's neighbour");
        net.agents[0].cli("down")?;
        ensure!(!managed(&one.ns, "u0")?, "its own neighbour stays managed");
        ensure!(managed(&one.ns, "u1")?, "the end of one agent released the other's neighbour");

        second.down()?;
        ensure!(!managed(&one.ns, "u1")?, "the second agent's neighbour stays managed");
        ensure!(!second.pins.exists());
        Ok(())
    });
}

#[test]
fn an_interface_that_has_an_agent_is_refused_to_another() {
    lab::run("an_interface_that_has_an_agent_is_refused_to_another", NEEDS, |lab| {
        for line in ["", "tc = \"clsact\""] {
            refused(lab, line).with_context(|| format!("with {line:?}"))?;
        }
        Ok(())
    });
}

fn refused(lab: &Lab, line: &str) -> Result<()> {
    let mut net = Both::start(lab, Shape::underlay(line))?;
    let pings = Ping::start(&net.a.ns, ip(2), Duration::from_millis(4))?;
    let mut second = Second::prepare(lab, &net.agents[0], |text| text)?;
    second.launch()?;
    let says = |words: &str| {
        poll_until(&format!("the second agent to say {words}"), SOON, || {
            let status = second.status()?;
            let warnings = status["status"]["warnings"].to_string();
            ensure!(warnings.contains(words), "{status}");
            Ok(())
        })
    };
    let by = format!("programs of another agent, whose pins are in {}", net.agents[0].pins().display());
    says(&format!("the underlay interface u0 is not attached: u0 has the {by}"))?;
    says(&format!("port p-a is not attached: p-a has the {by}"))?;
    // It is not the process that counts: the programs of a dead agent go on.
    net.agents[0].kill();
    pings.wait_answered(50, SOON)?;
    net.agents[0].launch()?;
    pings.wait_answered(50, SOON)?;
    says("the underlay interface u0 is not attached")?;
    let loss = pings.stop();
    ensure!(loss.lost() == 0, "the second agent did harm: {loss:?}");

    // Once the first is gone, the second takes its place by itself.
    net.agents[0].cli("down")?;
    poll_until("the second agent to be attached", SOON, || {
        let status = second.status()?;
        ensure!(status["status"]["underlay"]["state"] == "attached", "{status}");
        ensure!(status["status"]["counts"]["ports_attached"] == 1, "{status}");
        Ok(())
    })?;
    ping::once(&net.a.ns, ip(2), 56, SOON)
}
