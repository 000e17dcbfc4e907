//! Configurations of agents under test.

use std::{fmt::Write as _, net::Ipv4Addr, path::Path};

use wavnet_common::addr::{Mac, Vni};

/// What a test wants of an agent; written as the TOML that users write.
#[derive(Clone, Debug, Default)]
pub struct AgentConfig {
    vnis: Vec<Vni>,
    knows_all: bool,
    ports: Vec<String>,
    peers: Vec<(Ipv4Addr, Vec<Vni>)>,
    statics: Vec<String>,
    agent: String,
    underlay: String,
    any_address: bool,
    metrics: String,
    extra: String,
    log_level: Option<String>,
}

impl AgentConfig {
    /// An agent with VNIs and nothing else.
    pub fn new(vnis: &[Vni]) -> AgentConfig {
        AgentConfig { vnis: vnis.to_vec(), ..AgentConfig::default() }
    }

    /// Another VNI.
    pub fn vni(mut self, vni: Vni) -> AgentConfig {
        self.vnis.push(vni);
        self
    }

    /// Nothing is learned in any VNI.
    pub fn without_learning(mut self) -> AgentConfig {
        self.knows_all = true;
        self
    }

    /// A port by name or pattern.
    pub fn port(self, interface: &str, vni: Vni) -> AgentConfig {
        self.port_with(interface, vni, "")
    }

    /// A port that drops tagged frames.
    pub fn port_discarding_tags(self, interface: &str, vni: Vni) -> AgentConfig {
        self.port_with(interface, vni, "vlan = \"discard\"\n")
    }

    /// A port in a mode, such as `packet-rate`.
    pub fn port_mode(self, interface: &str, vni: Vni, mode: &str) -> AgentConfig {
        self.port_with(interface, vni, &format!("mode = \"{mode}\"\n"))
    }

    fn port_with(mut self, interface: &str, vni: Vni, more: &str) -> AgentConfig {
        self.ports.push(format!("[[port]]\ninterface = \"{interface}\"\nvni = {vni}\n{more}"));
        self
    }

    /// A peer that is a member of some VNIs.
    pub fn peer(mut self, address: Ipv4Addr, vnis: &[Vni]) -> AgentConfig {
        self.peers.push((address, vnis.to_vec()));
        self
    }

    /// A static FDB entry behind a peer.
    pub fn static_peer(mut self, vni: Vni, mac: Mac, peer: Ipv4Addr) -> AgentConfig {
        self.statics.push(format!("[[static]]\nvni = {vni}\nmac = \"{mac}\"\npeer = \"{peer}\"\n"));
        self
    }

    /// A static FDB entry behind a port.
    pub fn static_port(mut self, vni: Vni, mac: Mac, port: &str) -> AgentConfig {
        self.statics.push(format!("[[static]]\nvni = {vni}\nmac = \"{mac}\"\nport = \"{port}\"\n"));
        self
    }

    /// Another level of the log than debug; empty: the agent's default.
    pub fn log_level(mut self, level: &str) -> AgentConfig {
        self.log_level = Some(level.into());
        self
    }

    /// A line of `[agent]`.
    pub fn agent(mut self, line: &str) -> AgentConfig {
        self.agent.push_str(line);
        self.agent.push('\n');
        self
    }

    /// A line of `[underlay]`.
    pub fn underlay(mut self, line: &str) -> AgentConfig {
        self.underlay.push_str(line);
        self.underlay.push('\n');
        self
    }

    /// The address is not given: it is the one that the NIC has at the time.
    pub fn any_address(mut self) -> AgentConfig {
        self.any_address = true;
        self
    }

    /// A line for `[metrics]`.
    pub fn metrics(mut self, line: &str) -> AgentConfig {
        self.metrics.push_str(line);
        self.metrics.push('\n');
        self
    }

    /// Other tables, such as `[fdb]`, as text.
    pub fn table(mut self, text: &str) -> AgentConfig {
        self.extra.push_str(text);
        self.extra.push('\n');
        self
    }

    /// The file's text.
    pub(super) fn toml(&self, place: &Place<'_>) -> String {
        let Place { name, bpffs, run_dir, interface, address, metrics_port } = place;
        let level = match self.log_level.as_deref() {
            Some("") => String::new(),
            level => format!("level = \"{}\"\n", level.unwrap_or("debug")),
        };
        let address = if self.any_address { String::new() } else { format!("address = \"{address}\"\n") };
        let mut out = format!(
            "[agent]\nname = \"{name}\"\nbpffs = \"{}\"\nrun_dir = \"{}\"\n{}\n[log]\n{level}\n\
             [metrics]\nlisten = \"127.0.0.1:{metrics_port}\"\n{}\n\
             [underlay]\ninterface = \"{interface}\"\n{address}{}\n",
            bpffs.display(),
            run_dir.display(),
            self.agent,
            self.metrics,
            self.underlay,
        );
        let _ = writeln!(out, "{}", self.extra);
        for vni in &self.vnis {
            let learning = if self.knows_all { "learning = false\n" } else { "" };
            let _ = writeln!(out, "[[vni]]\nid = {vni}\n{learning}");
        }
        for table in self.ports.iter().chain(&self.statics) {
            let _ = writeln!(out, "{table}");
        }
        for (address, vnis) in &self.peers {
            let vnis: Vec<String> = vnis.iter().map(Vni::to_string).collect();
            let _ = writeln!(out, "[[peer]]\naddress = \"{address}\"\nvnis = [{}]\n", vnis.join(", "));
        }
        out
    }
}

/// What depends on where an agent runs rather than on the test.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) name: &'a str,
    pub(super) bpffs: &'a Path,
    pub(super) run_dir: &'a Path,
    pub(super) interface: &'a str,
    pub(super) address: Ipv4Addr,
    pub(super) metrics_port: u16,
}
