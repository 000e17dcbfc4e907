//! Our own STUN server and client: `wavnet rendezvous` and `wavnet nat`.

use std::{fs, net::SocketAddrV4};

use anyhow::{Context, Result, bail, ensure};
use wavnet_user::api::model::NatInfo;

use super::{
    classify::{Classifier, Finding},
    kind::{Classic, Dependence},
    stun::{SOON, Server, Servers, ask},
};
use crate::lab::{binary, host::Host, poll_until, process::Process, tools, wan::PublicHost};

/// A running `wavnet rendezvous`, with a network that nobody is in.
#[derive(Debug)]
pub struct Rendezvous {
    /// Where it listens. With one address the second one is the first.
    pub servers: Servers,
    process: Process,
}

impl Rendezvous {
    /// Starts it at the ports of STUN on the first address of a host, and on the second one if it has that, and waits until it answers.
    ///
    /// # Errors
    /// `wavnet` is missing, or what it says.
    pub fn start(on: &PublicHost) -> Result<Rendezvous> {
        let ns = &on.host.ns;
        let wavnet = binary::usable()?;
        let dir = ns.log_path("rendezvous").with_extension("d");
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let path = |name: &str| dir.join(name).display().to_string();
        let [key, network, access, state] = ["host.key", "network.key", "network.access", "state"].map(path);
        for words in [&["generate", &key][..], &["network", &network], &["access", &network, &access]] {
            tools::output(ns.command(&wavnet).arg("key").args(words))?;
        }
        let other = on.addresses.get(1).copied();
        let servers = Servers {
            primary: on.host.addr,
            alternate: other.unwrap_or(on.host.addr),
            port: 3478,
            alternate_port: 3479,
        };
        let listen = SocketAddrV4::new(servers.primary, servers.port).to_string();
        let (port, run_dir) = (servers.alternate_port.to_string(), dir.display().to_string());
        let mut words =
            vec!["rendezvous", "--listen", &listen, "--key", &key, "--access-key", &access, "--metrics", "off"];
        words.extend(["--state-dir", &state, "--run-dir", &run_dir]);
        let other = other.map(|other| other.to_string());
        if let Some(other) = &other {
            words.extend(["--other-address", other, "--other-port", &port]);
        }
        let mut process = ns.spawn("rendezvous", &wavnet, &words)?;
        poll_until("wavnet rendezvous to answer", SOON, || {
            process.still_running()?;
            ask(&on.host, SocketAddrV4::new(servers.primary, servers.port))
        })?;
        Ok(Rendezvous { servers, process })
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

impl Server for Rendezvous {
    fn name(&self) -> &'static str {
        "wavnet rendezvous"
    }

    fn servers(&self) -> &Servers {
        &self.servers
    }
}

/// Runs `wavnet nat --json` on a host with more arguments: what it says, and its exit code.
///
/// # Errors
/// It does not run, or prints something else than documented.
pub fn nat(host: &Host, words: &[&str]) -> Result<(Vec<NatInfo>, i32)> {
    let mut command = host.ns.command(binary::usable()?);
    let out = command.args(["nat", "--json"]).args(words).output().context("starting `wavnet nat`")?;
    let [said, errors] = [out.stdout, out.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    let found =
        serde_json::from_str::<serde_json::Value>(&said).and_then(|value| serde_json::from_value(value["nat"].clone()));
    let infos = found.with_context(|| format!("`wavnet nat {}` said: {said}{errors}", words.join(" ")))?;
    Ok((infos, out.status.code().unwrap_or(-1)))
}

/// `wavnet nat`, which tells all there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WavnetNat;

impl Classifier for WavnetNat {
    fn name(&self) -> &'static str {
        "wavnet nat"
    }

    fn classify(&self, host: &Host, port: u16, servers: &Servers) -> Result<Finding> {
        let server = SocketAddrV4::new(servers.primary, servers.port).to_string();
        let local = SocketAddrV4::new(host.addr, port).to_string();
        let (infos, code) = nat(host, &["--server", &server, "--listen", &local])?;
        let [info] = &infos[..] else { bail!("{infos:?}") };
        ensure!(code == 0 && info.notes.is_empty() && !info.unstable, "exit code {code}, {info:?}");
        finding(info)
    }
}

/// Its words as the lab's.
///
/// # Errors
/// It says that it does not know.
pub fn finding(info: &NatInfo) -> Result<Finding> {
    let classic = match info.kind.as_str() {
        "open" => Classic::Open,
        "symmetric-firewall" => Classic::SymmetricFirewall,
        "full-cone" => Classic::FullCone,
        "restricted-cone" => Classic::RestrictedCone,
        "port-restricted-cone" => Classic::PortRestrictedCone,
        "symmetric" => Classic::Symmetric,
        _ => bail!("not known: {info:?}"),
    };
    let dependence = |word: &str| match word {
        "endpoint-independent" => Ok(Dependence::EndpointIndependent),
        "address-dependent" => Ok(Dependence::AddressDependent),
        "address-and-port-dependent" => Ok(Dependence::AddressAndPortDependent),
        _ => bail!("not known: {info:?}"),
    };
    Ok(Finding {
        translated: Some(info.situation == "natted"),
        mapping: Some(dependence(&info.mapping)?),
        filtering: Some(dependence(&info.filtering)?),
        classic: Some(classic),
        keeps_port: info.preserves_port,
        hairpins: info.hairpin,
    })
}
