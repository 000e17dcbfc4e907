//! STUN server and clients that others made: coturn's, and Debian's stun-client.

use std::{
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    classify::{Classifier, Finding},
    kind::{Classic, Dependence},
};
use crate::lab::{host::Host, poll_until, process::Process, tools, wan::PublicHost};

/// Until a server answers.
pub(super) const SOON: Duration = Duration::from_secs(20);

/// Where a STUN server listens: two addresses with two ports each, which telling behaviours apart needs (RFC 5780).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Servers {
    /// The first address.
    pub primary: Ipv4Addr,
    /// The second one.
    pub alternate: Ipv4Addr,
    /// The first port.
    pub port: u16,
    /// The second one.
    pub alternate_port: u16,
}

/// A running `turnserver` that serves STUN alone.
#[derive(Debug)]
pub struct Coturn {
    /// Where it listens.
    pub servers: Servers,
    process: Process,
}

/// A running STUN server, whoever made it.
pub trait Server: Sync {
    /// What reports call it.
    fn name(&self) -> &'static str;

    /// Where it listens.
    fn servers(&self) -> &Servers;
}

impl Server for Coturn {
    fn name(&self) -> &'static str {
        "turnserver"
    }

    fn servers(&self) -> &Servers {
        &self.servers
    }
}

impl Coturn {
    /// Starts it on a host with two addresses, and waits until it answers.
    ///
    /// # Errors
    /// It has one address, or coturn is missing or does not answer: what it says.
    pub fn start(on: &PublicHost) -> Result<Coturn> {
        let [primary, alternate, ..] = on.addresses[..] else { bail!("a STUN server needs two addresses") };
        let servers = Servers { primary, alternate, port: 3478, alternate_port: 3479 };
        let ns = &on.host.ns;
        let files = ["pid", "db"].map(|name| ns.log_path("turnserver").with_extension(name).display().to_string());
        let mut words: Vec<String> = ["-n", "--no-auth", "-S", "-m", "1"].map(str::to_owned).into();
        words.extend(["tls", "dtls", "cli", "tcp", "tcp-relay"].map(|what| format!("--no-{what}")));
        // Else it writes to the system's directories.
        words.extend(["--log-file=stdout".into(), format!("--pidfile={}", files[0]), format!("--userdb={}", files[1])]);
        words.extend([format!("-p{}", servers.port), format!("--alt-listening-port={}", servers.alternate_port)]);
        words.extend([primary, alternate].map(|address| format!("-L{address}")));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut process = ns.spawn("turnserver", "turnserver", &words)?;
        for address in [primary, alternate] {
            poll_until(&format!("turnserver to answer on {address}"), SOON, || {
                process.still_running()?;
                ask(&on.host, SocketAddrV4::new(address, servers.port))
            })?;
        }
        Ok(Coturn { servers, process })
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// Sends a Binding request (RFC 8489) and waits for anything that comes back.
pub(super) fn ask(host: &Host, server: SocketAddrV4) -> Result<()> {
    let request = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    host.ns.enter(|| {
        let socket = UdpSocket::bind((host.addr, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        socket.send_to(&request, server)?;
        socket.recv(&mut [0; 512]).context("no answer")?;
        Ok(())
    })
}

/// coturn's `turnutils_natdiscovery`: mapping and filtering as RFC 5780 has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatDiscovery;

impl Classifier for NatDiscovery {
    fn name(&self) -> &'static str {
        "turnutils_natdiscovery"
    }

    fn classify(&self, host: &Host, port: u16, servers: &Servers) -> Result<Finding> {
        let (local, port, server) = (host.addr.to_string(), port.to_string(), servers.port.to_string());
        let words = ["-m", "-f", "-p", &server, "-L", &local, "-l", &port, &servers.primary.to_string()];
        let said = run(host, "turnutils_natdiscovery", &words)?;
        natdiscovery(&said).with_context(|| format!("turnutils_natdiscovery said: {said}"))
    }
}

/// What `turnutils_natdiscovery` said. Its filtering is found from another local port than its mapping.
///
/// It takes the address for test III from the answer to test II, and not to test I. What that names is, by RFC 5780 section 7.4, the other port
/// of the first address; coturn's own server names the second one again. With a server that goes by the RFC test III so asks where it tells
/// nothing about ports: mappings that it calls address- and port-dependent may depend on the address alone.
fn natdiscovery(said: &str) -> Result<Finding> {
    let of = |behaviour: &str| {
        let line = said.lines().find(|line| line.contains(behaviour) && line.ends_with('!'))?;
        [
            ("Endpoint Independent", Dependence::EndpointIndependent),
            ("Address Dependent", Dependence::AddressDependent),
            ("Address and Port Dependent", Dependence::AddressAndPortDependent),
        ]
        .into_iter()
        .find_map(|(words, dependence)| line.contains(words).then_some(dependence))
    };
    let endpoints = |what: &str| {
        let line = said.lines().find_map(|line| line.split_once(what))?;
        line.1.trim_start_matches([':', ' ']).trim_end().parse::<SocketAddrV4>().ok()
    };
    let (mapped, local) = (endpoints("UDP reflexive addr:"), endpoints("Local addr:"));
    let (mapped, local) = (mapped.context("no mapped address")?, local.context("no local address")?);
    let (mapping, filtering) = (of("Mapping"), of("Filtering"));
    ensure!(filtering.is_some() && (mapping.is_some() || mapped == local), "behaviours are missing");
    let answer = |n: u8| {
        let said = said.split_once(&format!("RFC 5780 response {n}\n"))?.1;
        let origin = said.split_once("Response origin: : ")?.1.lines().next()?;
        origin.trim().parse::<SocketAddrV4>().ok()
    };
    let astray = answer(1).zip(answer(3)).is_some_and(|(first, third)| first.ip() == third.ip());
    let mapping = mapping.filter(|mapping| !astray || *mapping != Dependence::AddressAndPortDependent);
    Ok(Finding {
        translated: Some(mapped.ip() != local.ip()),
        mapping,
        filtering,
        keeps_port: Some(mapped.port() == local.port()),
        ..Finding::default()
    })
}

/// The client of Debian's package stun-client: the types of RFC 3489.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StunClient;

impl Classifier for StunClient {
    fn name(&self) -> &'static str {
        "stun"
    }

    fn classify(&self, host: &Host, port: u16, servers: &Servers) -> Result<Finding> {
        let words = [&servers.primary.to_string(), "-p", &port.to_string(), "-i", &host.addr.to_string()];
        let said = run(host, "stun", &words)?;
        stun_client(&said).with_context(|| format!("stun said: {said}"))
    }
}

/// What `stun` said.
fn stun_client(said: &str) -> Result<Finding> {
    use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
    let primary = said.lines().find_map(|line| line.strip_prefix("Primary: ")).context("no type")?;
    let types = [
        ("Open", Classic::Open, Some(EndpointIndependent), Some(EndpointIndependent)),
        ("Firewall", Classic::SymmetricFirewall, None, None),
        (
            "Independent Mapping, Independent Filter",
            Classic::FullCone,
            Some(EndpointIndependent),
            Some(EndpointIndependent),
        ),
        (
            "Independent Mapping, Address Dependent Filter",
            Classic::RestrictedCone,
            Some(EndpointIndependent),
            Some(AddressDependent),
        ),
        (
            "Independent Mapping, Port Dependent Filter",
            Classic::PortRestrictedCone,
            Some(EndpointIndependent),
            Some(AddressAndPortDependent),
        ),
        ("Dependent Mapping", Classic::Symmetric, None, None),
    ];
    let found = types.into_iter().find(|(words, ..)| primary.starts_with(words));
    let (_, classic, mapping, filtering) = found.with_context(|| format!("an unknown type: {primary}"))?;
    let says = |yes: &str, no: &str| {
        if primary.contains(yes) { Some(true) } else { primary.contains(no).then_some(false) }
    };
    Ok(Finding {
        translated: Some(!matches!(classic, Classic::Open | Classic::SymmetricFirewall)),
        mapping,
        filtering,
        classic: Some(classic),
        keeps_port: says("preserves ports", "random port"),
        hairpins: says("will hairpin", "no hairpin"),
    })
}

/// Runs a client to its end. Their exit status tells the type, or nothing.
fn run(host: &Host, program: &str, words: &[&str]) -> Result<String> {
    let mut command = host.ns.command(program);
    let shown = || format!("starting `{program}` (Debian package: {})", tools::package(program));
    let out = command.args(words).output().with_context(shown)?;
    Ok([out.stdout, out.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat())
}
