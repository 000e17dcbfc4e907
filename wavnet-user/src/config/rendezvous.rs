//! The rendezvous server's configuration: a TOML file or flags in, a validated [`RendezvousConfig`] or every error at once out.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use toml::de::DeTable;
use wavnet_proto::rendezvous::{Limits, Settings};

use super::{
    ConfigError, ConfigErrors, Source,
    diagnostic::{At, Diagnostics, Located, describe},
    section::{Section, boolean, parsed, within},
    types::{Log, Metrics},
    value,
};

/// A network that the server serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkFiles {
    /// Its access key; `None`: a network without a key, whose hosts are known by `allow` alone.
    pub access_key: Option<PathBuf>,
    /// The identities that may come; `None`: all that have the key.
    pub allow: Option<PathBuf>,
    /// Those that may not.
    pub revoked: Option<PathBuf>,
}

/// Where the kernel relays, rather than the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RelayXdp {
    /// At the interface that has the server's address, else at the one that leads to the internet.
    #[default]
    Auto,
    /// Nowhere.
    Off,
    /// At this interface.
    Interface(String),
}

impl fmt::Display for RelayXdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RelayXdp::Auto => f.write_str("auto"),
            RelayXdp::Off => f.write_str("off"),
            RelayXdp::Interface(name) => f.write_str(name),
        }
    }
}

/// Everything that the server is told, but for what its key files and lists say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RendezvousConfig {
    /// Where it listens: at one address of a family.
    pub listen: Vec<SocketAddr>,
    /// Second addresses for STUN's behaviour discovery, one of a family.
    pub other_address: Vec<IpAddr>,
    /// Second port for the same.
    pub other_port: Option<u16>,
    /// File of the secret key.
    pub key: PathBuf,
    /// Directory for what outlives the process.
    pub state_dir: PathBuf,
    /// Directory for the socket.
    pub run_dir: PathBuf,
    /// Permissions of the socket.
    pub socket_mode: u32,
    /// Group that owns the socket.
    pub socket_group: Option<String>,
    /// Whether it relays.
    pub relay: bool,
    /// Where the kernel relays.
    pub relay_xdp: RelayXdp,
    /// How long a silent host is known.
    pub lease: Duration,
    /// Threads that receive.
    pub threads: usize,
    /// How much of everything there may be.
    pub limits: Limits,
    /// The networks, at least one.
    pub networks: Vec<NetworkFiles>,
    /// `[log]`.
    pub log: Log,
    /// `[metrics]`.
    pub metrics: Metrics,
}

impl RendezvousConfig {
    /// Name of the socket in the run directory.
    pub const SOCKET: &str = "rendezvous.sock";
    /// Default of `run_dir`. Not an agent's: systemd gives the directory of a unit to that unit's user, with all that is in it.
    pub const RUN_DIR: &str = "/run/wavnet-rendezvous";
    /// Default of `state_dir`.
    pub const STATE_DIR: &str = "/var/lib/wavnet";
    /// Where metrics are by default: beside those of an agent on the same host.
    pub const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9811);
    /// Keys that a reload cannot apply; beside them, what the file of `key` has.
    const FIXED: [&str; 11] = [
        "listen",
        "other_address",
        "other_port",
        "state_dir",
        "run_dir",
        "socket_mode",
        "socket_group",
        "relay_xdp",
        "threads",
        "log",
        "metrics",
    ];

    /// With nothing but defaults: listens nowhere, serves no network.
    pub fn new() -> RendezvousConfig {
        RendezvousConfig {
            listen: Vec::new(),
            other_address: Vec::new(),
            other_port: None,
            key: PathBuf::new(),
            state_dir: RendezvousConfig::STATE_DIR.into(),
            run_dir: RendezvousConfig::RUN_DIR.into(),
            socket_mode: 0o660,
            socket_group: None,
            relay: true,
            relay_xdp: RelayXdp::Auto,
            lease: Settings::LEASE,
            threads: threads(),
            limits: Limits::default(),
            networks: Vec::new(),
            log: Log::default(),
            metrics: Metrics { listen: Some(RendezvousConfig::METRICS), program_run_time: false },
        }
    }

    /// Path of the socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join(RendezvousConfig::SOCKET)
    }

    /// Of what a reload cannot apply, what differs in `new`.
    pub fn needs_restart(&self, new: &RendezvousConfig) -> Vec<&'static str> {
        let differs = [
            self.listen != new.listen,
            self.other_address != new.other_address,
            self.other_port != new.other_port,
            self.state_dir != new.state_dir,
            self.run_dir != new.run_dir,
            self.socket_mode != new.socket_mode,
            self.socket_group != new.socket_group,
            self.relay_xdp != new.relay_xdp,
            self.threads != new.threads,
            self.log != new.log,
            self.metrics != new.metrics,
        ];
        RendezvousConfig::FIXED.into_iter().zip(differs).filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }

    /// True if a reload to `new` has the server relay by itself, though the kernel could: its programs are loaded at the start only.
    pub fn relays_without_kernel(&self, new: &RendezvousConfig) -> bool {
        !self.relay && new.relay && self.relay_xdp != RelayXdp::Off
    }

    /// Reads TOML; `name` is what errors call the file.
    ///
    /// # Errors
    /// All that is wrong, with lines and columns.
    pub fn parse(text: &str, name: &str) -> Result<RendezvousConfig, ConfigErrors> {
        let mut d = Diagnostics::default();
        let config = read(text, &mut d);
        if d.0.is_empty() { Ok(config) } else { Err(ConfigErrors::new(Some(name.to_owned()), text.to_owned(), d.0)) }
    }

    /// Checks what came by flags.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn check_flags(self) -> Result<RendezvousConfig, ConfigErrors> {
        let mut d = Diagnostics::default();
        let flag = |name: &str, value: &dyn fmt::Display| At::Flag(format!("--{name} {value}"));
        let listen: Vec<_> =
            self.listen.iter().map(|addr| Located { value: *addr, at: flag("listen", addr) }).collect();
        let others: Vec<_> =
            self.other_address.iter().map(|ip| Located { value: *ip, at: flag("other-address", ip) }).collect();
        let port = self.other_port.map(|port| Located { value: port, at: flag("other-port", &port) });
        check(&listen, &others, port.as_ref(), "", &mut d);
        if d.0.is_empty() { Ok(self) } else { Err(ConfigErrors::new(None, String::new(), d.0)) }
    }
}

impl Default for RendezvousConfig {
    fn default() -> RendezvousConfig {
        RendezvousConfig::new()
    }
}

/// One for each CPU, up to eight.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().min(8))
}

/// Where the configuration comes from; read again on reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RendezvousSource {
    /// A TOML file.
    File(PathBuf),
    /// Flags. The files that they name are read again all the same.
    Flags(Box<RendezvousConfig>),
}

impl RendezvousSource {
    /// Reads and checks it.
    ///
    /// # Errors
    /// The file cannot be read, or all that is wrong in it.
    pub fn load(&self) -> Result<RendezvousConfig, ConfigError> {
        match self {
            RendezvousSource::Flags(config) => Ok(RendezvousConfig::clone(config)),
            RendezvousSource::File(path) => {
                let text = Source::read(path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
                RendezvousConfig::parse(&text, &path.display().to_string()).map_err(ConfigError::Invalid)
            }
        }
    }
}

impl fmt::Display for RendezvousSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RendezvousSource::File(path) => path.display().fmt(f),
            RendezvousSource::Flags(_) => f.write_str("command line"),
        }
    }
}

fn read(text: &str, d: &mut Diagnostics) -> RendezvousConfig {
    let mut config = RendezvousConfig::new();
    let (document, errors) = DeTable::parse_recoverable(text);
    for e in &errors {
        d.add(&At::Span(e.span().unwrap_or_default()), "", e.message().trim_end());
    }
    if !errors.is_empty() {
        return config;
    }
    let mut root = Section::new("", At::Span(document.span().start..document.span().start), document.get_ref());
    server(&mut root, text, &mut config, d);
    limits(&mut root, &mut config.limits, d);
    networks(&mut root, &mut config, d);
    if let Some(mut s) = root.table(d, "log") {
        s.set(d, "level", &mut config.log.level, parsed(value::word));
        s.set(d, "format", &mut config.log.format, parsed(value::word));
        s.finish(d);
    }
    if let Some(mut s) = root.table(d, "metrics") {
        s.set(d, "listen", &mut config.metrics.listen, parsed(value::listen));
        s.finish(d);
    }
    root.finish(d);
    config
}

fn server(root: &mut Section<'_, '_>, text: &str, config: &mut RendezvousConfig, d: &mut Diagnostics) {
    let errors = d.0.len();
    let Some(mut s) = root.table(d, "rendezvous") else {
        if d.0.len() == errors {
            d.add(root.at(), "rendezvous", "the table [rendezvous] is missing").help(
                "say where to listen and which key is yours:\n            [rendezvous]\n            listen = [\"0.0.0.0:4789\"]\n            \
                 key = \"/etc/wavnet/rendezvous.key\"",
            );
        }
        return;
    };
    let before = d.0.len();
    let listen = s.list(d, "listen", parsed(value::server_address)).map(|l| l.value).unwrap_or_default();
    let others = s.list(d, "other_address", parsed(value::server_ip)).map(|l| l.value).unwrap_or_default();
    let port = s.get(d, "other_port", |v| within(1..=65_535)(v).map(|n| n as u16));
    if listen.is_empty() && d.0.len() == before {
        d.add(s.at(), s.key("listen"), "the server listens nowhere")
            .help("name an address and port: listen = [\"0.0.0.0:4789\"]");
    }
    check(&listen, &others, port.as_ref(), text, d);
    if let Some(key) = s.require(d, "key", parsed(value::path)) {
        config.key = key.value;
    }
    s.set(d, "state_dir", &mut config.state_dir, parsed(value::path));
    s.set(d, "run_dir", &mut config.run_dir, parsed(value::run_dir));
    s.set(d, "socket_mode", &mut config.socket_mode, parsed(value::mode));
    s.set(d, "socket_group", &mut config.socket_group, parsed(|t| value::label(t).map(Some)));
    s.set(d, "relay", &mut config.relay, boolean);
    s.set(d, "relay_xdp", &mut config.relay_xdp, parsed(value::relay_xdp));
    s.set(d, "lease", &mut config.lease, parsed(value::lease));
    s.set(d, "threads", &mut config.threads, |v| within(1..=64)(v).map(|n| n as usize));
    s.finish(d);
    config.listen = listen.into_iter().map(|l| l.value).collect();
    config.other_address = others.into_iter().map(|l| l.value).collect();
    config.other_port = port.map(|p| p.value);
}

fn limits(root: &mut Section<'_, '_>, limits: &mut Limits, d: &mut Diagnostics) {
    let Some(mut s) = root.table(d, "limits") else { return };
    let many = |most: u32| move |v: &_| within(1..=most)(v).map(|n| n as usize);
    s.set(d, "hosts", &mut limits.hosts, many(1_000_000));
    s.set(d, "relays", &mut limits.relays, many(4_000_000));
    let mut rate = |key, rate: &mut wavnet_proto::bucket::Rate, most, burst: u64| {
        if let Some(n) = s.get(d, key, within(1..=most)) {
            rate.per_second = n.value.into();
            rate.burst = u64::from(n.value) * burst;
        }
    };
    rate("handshakes_per_second", &mut limits.handshakes, 100_000, 1);
    rate("handshakes_per_second_of_prefix", &mut limits.handshakes_of_prefix, 100_000, 2);
    rate("requests_per_second", &mut limits.requests, 1_000_000, 10);
    if let Some(n) = s.get(d, "stun_per_second_of_source", within(0..=1_000_000)) {
        limits.stun_of_source = NonZeroU32::new(n.value);
    }
    if let Some(n) = s.get(d, "relay_mbit_per_second", within(1..=1_000_000)) {
        // Bytes, and the burst of 40 ms.
        let bytes = u64::from(n.value) * 125_000;
        limits.relay_bytes = wavnet_proto::bucket::Rate { per_second: bytes, burst: (bytes / 25).max(100_000) };
    }
    s.finish(d);
}

fn networks(root: &mut Section<'_, '_>, config: &mut RendezvousConfig, d: &mut Diagnostics) {
    let (errors, at) = (d.0.len(), root.at().clone());
    for mut s in root.tables(d, "network") {
        let before = d.0.len();
        let [access_key, allow, revoked] =
            ["access_key", "allow", "revoked"].map(|name| s.get(d, name, parsed(value::path)).map(|l| l.value));
        if access_key.is_none() && allow.is_none() && d.0.len() == before {
            d.add(s.at(), "network.access_key", "nothing says who belongs to this network").help(
                "name its access key (`wavnet key access`) in access_key, or list identities in a file for allow",
            );
        }
        s.finish(d);
        config.networks.push(NetworkFiles { access_key, allow, revoked });
    }
    if config.networks.is_empty() && d.0.len() == errors {
        d.add(&at, "network.access_key", "the server serves no network").help(
            "make an access key of your network's key (`wavnet key access`), and name it:\n            [[network]]\n            \
             access_key = \"/etc/wavnet/network.access\"",
        );
    }
}

/// Addresses and ports against each other.
fn check(
    listen: &[Located<SocketAddr>],
    others: &[Located<IpAddr>],
    other_port: Option<&Located<u16>>,
    text: &str,
    d: &mut Diagnostics,
) {
    let mut families: HashMap<bool, &Located<SocketAddr>> = HashMap::new();
    for l in listen {
        if let Some(first) = families.insert(l.value.is_ipv4(), l) {
            let message =
                format!("{} is a second address of its family, the first is {}", l.value, describe(&first.at, text));
            d.add(&l.at, "rendezvous.listen", message)
                .help("give one of IPv4 and one of IPv6 at the most; 0.0.0.0 is all of IPv4, [::] all of IPv6");
        }
        if let Some(port) = other_port.filter(|port| port.value == l.value.port()) {
            let message = format!("port {} is the server's own: {}", port.value, describe(&l.at, text));
            d.add(&port.at, "rendezvous.other_port", message).help("choose another one");
        }
    }
    let mut seen: HashMap<bool, &Located<IpAddr>> = HashMap::new();
    for other in others {
        let key = "rendezvous.other_address";
        if let Some(first) = seen.insert(other.value.is_ipv4(), other) {
            let message =
                format!("{} is a second one of its family, the first is {}", other.value, describe(&first.at, text));
            d.add(&other.at, key, message).help("give one of IPv4 and one of IPv6 at the most");
        }
        let Some(main) = families.get(&other.value.is_ipv4()) else {
            d.add(&other.at, key, format!("the server listens at no address of the family of {}", other.value));
            continue;
        };
        if main.value.ip().is_unspecified() {
            let message = format!("with a second address, {} cannot be the first", main.value.ip());
            d.add(&other.at, key, message)
                .help("name the first address in `listen`, so that it is clear which is which");
        } else if main.value.ip() == other.value {
            d.add(&other.at, key, format!("{} is the first address, too", other.value));
        }
        if other_port.is_none() {
            d.add(&other.at, key, "a second address needs a second port (RFC 5780 section 6)")
                .help("give `other_port` as well");
        }
    }
}
