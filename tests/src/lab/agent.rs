//! A `wavnet agent` on a hypervisor of the lab, and the commands that talk to it.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;
use wavnet_common::reason::Reason;
use wavnet_user::api::model::{AttachState, DropRow, FdbEntry, PeerInfo, PeerState, PortInfo, Status};

use super::{
    Lab, binary,
    cleanup::{self, BPFFS, Leftover},
    config::{AgentConfig, Place},
    host::Host,
    http,
    netns::Netns,
    poll_until,
    process::Process,
};

pub use super::metrics::{promtool_check, sum_of};

const READY: Duration = Duration::from_secs(20);
const METRICS_PORT: u16 = 9810;

/// An agent, its pins and its directories. Dropping it runs `wavnet down` and removes what that leaves.
#[derive(Debug)]
pub struct Agent {
    ns: Netns,
    addr: Ipv4Addr,
    bin: PathBuf,
    pins: PathBuf,
    run_dir: PathBuf,
    file: PathBuf,
    process: Option<Process>,
}

impl Agent {
    /// Starts an agent and waits until it answers.
    ///
    /// # Errors
    /// It ends or does not answer: its log.
    pub fn start(lab: &Lab, host: &Host, config: &AgentConfig) -> Result<Agent> {
        let mut agent = Agent::prepare(lab, host, config)?;
        agent.launch()?;
        Ok(agent)
    }

    /// Writes the configuration, but does not start the agent.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn prepare(lab: &Lab, host: &Host, config: &AgentConfig) -> Result<Agent> {
        let name = host.ns.short_name();
        let pins = Path::new(BPFFS).join(format!("{}-{name}", lab.id()));
        cleanup::register(Leftover::Pins(pins.clone()));
        let agent = Agent {
            ns: host.ns.clone(),
            addr: host.addr,
            bin: binary::usable()?,
            pins,
            run_dir: lab.path(&format!("{name}.run")),
            file: lab.path(&format!("{name}.toml")),
            process: None,
        };
        agent.write_config(config)?;
        Ok(agent)
    }

    /// Writes another configuration over the old one; see [`Agent::reload`].
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_config(&self, config: &AgentConfig) -> Result<()> {
        let place = Place {
            name: self.ns.short_name(),
            bpffs: &self.pins,
            run_dir: &self.run_dir,
            interface: Host::NIC,
            address: self.addr,
            metrics_port: METRICS_PORT,
        };
        fs::write(&self.file, config.toml(&place)).with_context(|| format!("writing {}", self.file.display()))
    }

    /// Starts the process, and waits until it answers.
    ///
    /// # Errors
    /// It ends or does not answer: its log.
    pub fn launch(&mut self) -> Result<()> {
        self.launch_with("")
    }

    /// The same with a redirection, as a shell has it.
    ///
    /// # Errors
    /// As [`Agent::launch`].
    pub fn launch_with(&mut self, redirection: &str) -> Result<()> {
        self.begin(redirection)?;
        self.wait_answers()
    }

    /// Starts the process alone, with a redirection.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn begin(&mut self, redirection: &str) -> Result<()> {
        let (bin, file) = (self.bin.display().to_string(), self.file.display().to_string());
        let script = format!("exec \"$0\" agent --config \"$1\" {redirection}");
        self.process = Some(self.ns.spawn("agent", "sh", &["-c", &script, &bin, &file])?);
        Ok(())
    }

    /// Its process, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Waits until the process that was started answers.
    ///
    /// # Errors
    /// As [`Agent::launch`].
    pub fn wait_answers(&mut self) -> Result<()> {
        let name = self.ns.short_name().to_owned();
        let ended = poll_until(&format!("the agent on {name} to answer"), READY, || {
            if let Some(Err(ended)) = self.process.as_mut().map(Process::still_running) {
                // To wait longer is of no use.
                return Ok(Some(ended));
            }
            let pid = self.status()?.pid;
            let ours = self.pid();
            ensure!(Some(pid) == ours, "process {pid} answers, not {ours:?}");
            Ok(None)
        })?;
        ended.map_or(Ok(()), |ended| Err(ended).with_context(|| format!("starting the agent on {name}")))
    }

    /// Kills the process with SIGKILL, as a crash would; what it pinned stays.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Asks the process to end by SIGTERM, and waits.
    ///
    /// # Errors
    /// It does not end, or not with status 0.
    pub fn terminate(&mut self) -> Result<()> {
        let mut process = self.process.take().context("no agent runs")?;
        process.signal(Signal::SIGTERM)?;
        let status = process.wait(READY)?;
        ensure!(status.success(), "the agent ended with {status}; it said:\n{}", process.log());
        Ok(())
    }

    /// Sends the process a signal.
    ///
    /// # Errors
    /// None runs.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.as_ref().context("no agent runs")?.signal(signal)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// The configuration file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Directory of its pins.
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// Directory of its socket.
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// The namespace it runs in.
    pub fn ns(&self) -> &Netns {
        &self.ns
    }

    /// Runs `wavnet` against this agent, whatever comes of it.
    ///
    /// # Errors
    /// The binary cannot be started.
    pub fn try_cli(&self, words: &str) -> Result<Output> {
        let mut command = self.ns.command(&self.bin);
        command.args(words.split_whitespace()).arg("--run-dir").arg(&self.run_dir);
        if words.starts_with("down") {
            command.arg("--bpffs").arg(&self.pins);
        }
        command.output().with_context(|| format!("starting {}", self.bin.display()))
    }

    /// Runs `wavnet` against this agent; gives its standard output.
    ///
    /// # Errors
    /// It fails: what it says.
    pub fn cli(&self, words: &str) -> Result<String> {
        let out = self.try_cli(words)?;
        let said = String::from_utf8_lossy(&out.stderr);
        ensure!(out.status.success(), "`wavnet {words}` failed with {}: {}", out.status, said.trim());
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Runs `wavnet … --json` against this agent.
    ///
    /// # Errors
    /// It fails, or prints something else than the documented shape.
    pub fn json<T: DeserializeOwned>(&self, words: &str) -> Result<T> {
        let text = self.cli(&format!("{words} --json"))?;
        // An object whose only member names the kind of answer.
        let mut answer: BTreeMap<String, T> =
            serde_json::from_str(&text).with_context(|| format!("`wavnet {words} --json` printed {text}"))?;
        let (_, value) = answer.pop_first().with_context(|| format!("`wavnet {words} --json` printed {text}"))?;
        Ok(value)
    }

    /// `wavnet status`.
    ///
    /// # Errors
    /// See [`Agent::json`].
    pub fn status(&self) -> Result<Status> {
        self.json("status")
    }

    /// `wavnet ports`.
    ///
    /// # Errors
    /// See [`Agent::json`].
    pub fn ports(&self) -> Result<Vec<PortInfo>> {
        self.json("ports")
    }

    /// One port of `wavnet ports`.
    ///
    /// # Errors
    /// It is not listed.
    pub fn port(&self, interface: &str) -> Result<PortInfo> {
        let port = self.ports()?.into_iter().find(|p| p.interface == interface);
        port.with_context(|| format!("port {interface} of {} is not listed", self.ns.short_name()))
    }

    /// `wavnet peers`.
    ///
    /// # Errors
    /// See [`Agent::json`].
    pub fn peers(&self) -> Result<Vec<PeerInfo>> {
        self.json("peers")
    }

    /// `wavnet fdb`.
    ///
    /// # Errors
    /// See [`Agent::json`].
    pub fn fdb(&self) -> Result<Vec<FdbEntry>> {
        self.json("fdb")
    }

    /// Frames dropped for a reason so far.
    ///
    /// # Errors
    /// See [`Agent::json`].
    pub fn drops(&self, reason: Reason) -> Result<u64> {
        let rows: Vec<DropRow> = self.json("drops")?;
        let row = rows.iter().find(|r| r.reason == reason.label());
        Ok(row.with_context(|| format!("`wavnet drops` has no {}", reason.label()))?.frames)
    }

    /// Frames dropped so far, for whatever reason.
    ///
    /// # Errors
    /// See [`Agent::json`].
    pub fn dropped(&self) -> Result<u64> {
        let rows: Vec<DropRow> = self.json("drops")?;
        Ok(rows.iter().map(|row| row.frames).sum())
    }

    /// `wavnet reload`.
    ///
    /// # Errors
    /// The configuration is refused: why.
    pub fn reload(&self) -> Result<String> {
        self.cli("reload")
    }

    /// Waits until every port is attached and every peer's next hop is resolved.
    ///
    /// # Errors
    /// They are not after twenty seconds: which.
    pub fn wait_ready(&self) -> Result<()> {
        poll_until(&format!("ports of {}", self.ns.short_name()), READY, || {
            let ports = self.ports()?;
            ensure!(ports.iter().all(|p| p.state == AttachState::Attached), "{ports:?}");
            Ok(())
        })?;
        self.wait_peers()
    }

    /// Waits until every peer's next hop is resolved.
    ///
    /// # Errors
    /// They are not after twenty seconds: which.
    pub fn wait_peers(&self) -> Result<()> {
        poll_until(&format!("peers of {}", self.ns.short_name()), READY, || {
            let peers = self.peers()?;
            ensure!(peers.iter().all(|p| p.state == PeerState::Up), "{peers:?}");
            Ok(())
        })
    }

    /// Waits until a port is in a state.
    ///
    /// # Errors
    /// It is not after twenty seconds.
    pub fn wait_port(&self, interface: &str, state: AttachState) -> Result<PortInfo> {
        poll_until(&format!("port {interface} of {} to be {state:?}", self.ns.short_name()), READY, || {
            let ports = self.ports()?;
            let port = ports.into_iter().find(|p| p.interface == interface).context("it is not listed")?;
            ensure!(port.state == state, "{port:?}");
            Ok(port)
        })
    }

    /// The metrics page.
    ///
    /// # Errors
    /// See [`http::get`].
    pub fn metrics(&self) -> Result<String> {
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, METRICS_PORT);
        let body = http::get(&self.ns, address, "/metrics")?;
        Ok(String::from_utf8(body)?)
    }

    /// The value of a metric: the sum over all series whose name is `name` and which have every one of `labels`, each
    /// written as `key="value"`.
    ///
    /// # Errors
    /// There is no such series.
    pub fn metric(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let page = self.metrics()?;
        sum_of(&page, name, labels).with_context(|| format!("no {name} with {labels:?} in:\n{page}"))
    }

    /// URL of the metrics, as seen in its namespace.
    pub fn metrics_url(&self) -> String {
        format!("http://127.0.0.1:{METRICS_PORT}/metrics")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let down = self.try_cli("down");
        self.process = None;
        if let Ok(out) = down
            && !out.status.success()
            && !std::thread::panicking()
        {
            eprintln!("`wavnet down` on {}: {}", self.ns.short_name(), String::from_utf8_lossy(&out.stderr).trim());
        }
        let pins = Leftover::Pins(self.pins.clone());
        pins.remove();
        cleanup::forget(&pins);
    }
}
