//! `[mesh]`: peers that rendezvous servers lead to.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use wavnet_proto::{trust::PublicKey, wire::message::MAX_VNIS};

use super::{
    diagnostic::{At, Diagnostics, Located},
    section::{Section, boolean, parsed, text},
    types::Underlay,
    value,
};

/// `[mesh]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    /// Rendezvous servers, the preferred one first; at least one, each once.
    pub servers: Vec<ServerAddress>,
    /// File with this host's secret key.
    pub key: PathBuf,
    /// File with the network's key; `None`: none, and the allow-list says who is a peer.
    pub network_key: Option<PathBuf>,
    /// File with the identities that may be peers; `None`: whoever has the network's key.
    pub allow: Option<PathBuf>,
    /// File with the identities that may not be, whatever else is said of them.
    pub revoked: Option<PathBuf>,
    /// Between two CONNECT_PULSEs of an idle path: 1 s to 10 s.
    pub pulse: Duration,
    /// Whether paths through symmetric NATs are searched for.
    pub search: bool,
}

impl Mesh {
    /// Where the host's key is unless it is said.
    pub const KEY: &str = "/etc/wavnet/host.key";
    /// Most rendezvous servers.
    pub const SERVERS_MAX: usize = 8;
    /// Shortest period of pulses.
    pub const PULSE_MIN: Duration = Duration::from_secs(1);
    /// Longest: with it an idle path that is dead is still replaced within 15 s.
    pub const PULSE_MAX: Duration = Duration::from_secs(10);
}

/// Where a rendezvous server is: `HOST[:PORT][#PUBLIC-KEY]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerAddress {
    /// A name or an address.
    pub host: String,
    /// UDP port; 4789 unless it is said.
    pub port: u16,
    /// The key that it must have; `None`: whoever has the access key may be it.
    pub key: Option<PublicKey>,
}

impl FromStr for ServerAddress {
    type Err = String;

    fn from_str(s: &str) -> Result<ServerAddress, String> {
        const HOW: &str = "write HOST, HOST:PORT or [IPV6]:PORT, and behind it, if you like, # and its public key";
        let (place, key) = match s.split_once('#') {
            Some((place, key)) => (place, Some(key.parse().map_err(|e: wavnet_proto::trust::KeyError| e.to_string())?)),
            None => (s, None),
        };
        let (host, port) = host_and_port(place).ok_or(HOW)?;
        let port = port.unwrap_or(Underlay::UDP_PORT);
        Ok(ServerAddress { host: host.to_owned(), port, key })
    }
}

/// A name or an address, and the port behind it if there is one: `HOST`, `HOST:PORT` or `[IPV6]:PORT`.
pub(crate) fn host_and_port(s: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match s.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<IpAddr>().ok()?;
            let port = if port.is_empty() { None } else { Some(port.strip_prefix(':')?) };
            (host, port)
        }
        // More than one colon: an IPv6 address without brackets.
        None => match s.rsplit_once(':').filter(|_| s.parse::<IpAddr>().is_err()) {
            Some((host, port)) => (host, Some(port)),
            None => (s, None),
        },
    };
    let port = match port {
        Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
        None => None,
    };
    let is_name = host.split('.').all(|label| {
        let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        (1..=63).contains(&label.len()) && inner
    });
    (is_name || host.parse::<IpAddr>().is_ok()).then_some((host, port))
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bracketed = self.host.contains(':');
        if bracketed { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

/// The same with places, before it is checked.
#[derive(Debug)]
pub(super) struct RawMesh {
    pub(super) servers: Vec<Located<ServerAddress>>,
    pub(super) at: At,
    pub(super) rest: Mesh,
    /// Something in it was wrong, and is left out.
    pub(super) incomplete: bool,
}

/// What holds where nothing is said.
pub(crate) fn defaults() -> Mesh {
    Mesh {
        servers: Vec::new(),
        key: Mesh::KEY.into(),
        network_key: None,
        allow: None,
        revoked: None,
        pulse: wavnet_proto::mesh::Settings::PULSE,
        search: true,
    }
}

/// Reads `[mesh]`, if it is there.
pub(super) fn read(root: &mut Section<'_, '_>, d: &mut Diagnostics) -> Option<RawMesh> {
    let mut s = root.table(d, "mesh")?;
    let errors = d.0.len();
    let servers = s.list(d, "servers", parsed(str::parse::<ServerAddress>));
    if servers.is_none() && d.0.len() == errors {
        d.add(s.at(), s.key("servers"), "the key `servers` is missing")
            .help("name the rendezvous servers: servers = [\"rendezvous.example.net\"]");
    }
    let mut rest = defaults();
    s.set(d, "key", &mut rest.key, parsed(value::absolute));
    s.set(d, "network_key", &mut rest.network_key, parsed(|t| value::absolute(t).map(Some)));
    s.set(d, "allow", &mut rest.allow, parsed(|t| value::absolute(t).map(Some)));
    s.set(d, "revoked", &mut rest.revoked, parsed(|t| value::absolute(t).map(Some)));
    s.set(d, "pulse", &mut rest.pulse, |v| pulse(text(v)?));
    s.set(d, "search", &mut rest.search, boolean);
    let at = s.at().clone();
    s.finish(d);
    let incomplete = d.0.len() > errors;
    Some(RawMesh { servers: servers?.value, at, rest, incomplete })
}

/// A period of pulses.
///
/// # Errors
/// In words.
pub fn pulse(s: &str) -> Result<Duration, String> {
    let period = value::duration(s)?;
    if (Mesh::PULSE_MIN..=Mesh::PULSE_MAX).contains(&period) {
        Ok(period)
    } else {
        Err("pulses are sent every 1s to 10s: more often is no use, and NATs forget, or dead paths stay, with less"
            .into())
    }
}

/// Checks what belongs together.
pub(super) fn validate(raw: RawMesh, vnis: usize, d: &mut Diagnostics) -> Mesh {
    let RawMesh { servers, at, rest, incomplete } = raw;
    if servers.is_empty() {
        d.add(&at, "mesh.servers", "there is no rendezvous server").help("name at least one, or leave [mesh] out");
    }
    if let Some(one) = servers.get(Mesh::SERVERS_MAX) {
        d.add(&one.at, "mesh.servers", format!("there are more than {} rendezvous servers", Mesh::SERVERS_MAX));
    }
    for (i, server) in servers.iter().enumerate() {
        let before = servers.iter().take(i).map(|s| &s.value);
        if before.clone().any(|s| (&s.host, s.port) == (&server.value.host, server.value.port)) {
            d.add(&server.at, "mesh.servers", format!("{} is given twice", server.value));
        }
    }
    if vnis > MAX_VNIS {
        d.add(&at, "mesh", format!("there are {vnis} VNIs, and a host can tell others of {MAX_VNIS}"))
            .help("run an agent without [mesh] and with static peers, or spread the VNIs over more hosts");
    }
    if rest.network_key.is_none() && rest.allow.is_none() && !incomplete {
        d.add(&at, "mesh.network_key", "nothing says who may be a peer")
            .help("make a network's key with `wavnet key network` and name its file in network_key, or list identities in a file for allow");
    }
    Mesh { servers: servers.into_iter().map(|s| s.value).collect(), ..rest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn server(s: &str) -> Result<String, String> {
        s.parse::<ServerAddress>().map(|server| server.to_string())
    }

    #[test]
    fn servers_have_names_or_addresses_ports_and_keys() {
        for (text, read) in [
            ("rendezvous.example.net", "rendezvous.example.net:4789"),
            ("192.0.2.1", "192.0.2.1:4789"),
            ("192.0.2.1:53", "192.0.2.1:53"),
            ("[2001:db8::1]:53", "[2001:db8::1]:53"),
            ("[2001:db8::1]", "[2001:db8::1]:4789"),
            ("2001:db8::1", "[2001:db8::1]:4789"),
        ] {
            assert_eq!(server(text).as_deref(), Ok(read));
        }
        for bad in ["", ":53", "a b", "host:0", "host:70000", "[host]:1", "[::1", "[::1]x", "a..b", "host#nonsense"] {
            assert!(server(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pulses_keep_nats_open_and_notice_dead_paths() {
        assert_eq!(pulse("5s"), Ok(Duration::from_secs(5)));
        assert!(pulse("0s").is_err() && pulse("11s").is_err() && pulse("5").is_err());
    }

    #[test]
    fn a_mesh_needs_servers_and_somebody_to_trust() {
        const SMALL: &str = "[underlay]\ninterface = \"eth1\"\n[[vni]]\nid = 100\n";
        let parse = |mesh: &str| Config::parse(&format!("{SMALL}{mesh}"), "test.toml");
        for (mesh, key, says) in [
            ("[mesh]\nservers = [\"rv.example.net\"]\n", "mesh.network_key", "who may be a peer"),
            ("[mesh]\nnetwork_key = \"/k\"\n", "mesh.servers", "missing"),
            ("[mesh]\nnetwork_key = \"/k\"\nservers = []\n", "mesh.servers", "no rendezvous server"),
            ("[mesh]\nnetwork_key = \"k\"\nservers = [\"a\"]\n", "mesh.network_key", "absolute"),
            ("[mesh]\nrevoked = \"/r\"\nservers = [\"a\"]\n", "mesh.network_key", "who may be a peer"),
            ("[mesh]\nallow = \"/k\"\nrevoked = \"r\"\nservers = [\"a\"]\n", "mesh.revoked", "absolute"),
            ("[mesh]\nallow = \"/k\"\nrevoked = [\"r\"]\nservers = [\"a\"]\n", "mesh.revoked", "text in quotes"),
            ("[mesh]\nallow = \"/k\"\nservers = [\"a\", \"a:4789\"]\n", "mesh.servers", "twice"),
        ] {
            let errors = parse(mesh).expect_err(mesh);
            let told: Vec<_> = errors.places().map(|(d, _)| (d.key.clone(), d.message.clone())).collect();
            assert_eq!(told.len(), 1, "{mesh}: {told:?}");
            assert!(told[0].0 == key && told[0].1.contains(says), "{mesh}: {told:?}");
        }
        let mesh =
            parse("[mesh]\nservers = [\"rv.example.net\"]\nallow = \"/a\"\npulse = \"2s\"\n").unwrap().mesh.unwrap();
        assert_eq!((mesh.pulse.as_secs(), mesh.key, mesh.search), (2, Mesh::KEY.into(), true));
        assert_eq!(parse("").unwrap().mesh, None);
        let many: String = (1000..1256).map(|vni| format!("[[vni]]\nid = {vni}\n")).collect();
        let mesh = "[mesh]\nservers = [\"rv.example.net\"]\nallow = \"/a\"\n";
        let errors = parse(&format!("{mesh}{many}")).expect_err("one VNI too many");
        assert!(errors.places().any(|(d, _)| d.message.contains("there are 257 VNIs")));
    }
}
