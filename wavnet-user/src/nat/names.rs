//! Servers by name: how they are written, and which addresses they have.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use futures_util::future::join_all;

use super::{Family, NatError};
use crate::config::{ServerAddress, Underlay, mesh};

/// Ports that are asked where none is given: that of rendezvous servers, and STUN's own (RFC 8489).
pub const PORTS: [u16; 2] = [Underlay::UDP_PORT, 3478];

/// So many addresses of a name are used in each family: one that is dead does not end it, and many do not crowd out other servers.
const ADDRESSES: usize = 2;

/// Where a STUN server is: `HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerName {
    /// A name or an address.
    pub host: String,
    /// UDP port; `None`: those of [`PORTS`] are tried.
    pub port: Option<u16>,
}

impl FromStr for ServerName {
    type Err = String;

    fn from_str(s: &str) -> Result<ServerName, String> {
        let (host, port) = mesh::host_and_port(s).ok_or("write HOST, HOST:PORT or [IPV6]:PORT")?;
        Ok(ServerName { host: host.to_owned(), port })
    }
}

impl From<&ServerAddress> for ServerName {
    fn from(server: &ServerAddress) -> ServerName {
        ServerName { host: server.host.clone(), port: Some(server.port) }
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => f.write_str(&self.host),
            Some(port) if self.host.contains(':') => write!(f, "[{}]:{port}", self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
        }
    }
}

/// An address of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Address and port.
    pub address: SocketAddr,
    /// Its place among the names.
    pub name: usize,
    /// Nobody has said that it is at this port.
    pub guessed: bool,
}

/// A name that does not resolve, and why.
#[derive(Debug)]
pub struct Unresolved {
    /// The name.
    pub name: ServerName,
    /// Why.
    pub error: io::Error,
}

/// Addresses of servers, in the order of their names, and names that have none.
///
/// # Errors
/// None of the names has an address.
pub async fn resolve(names: &[ServerName]) -> Result<(Vec<Server>, Vec<Unresolved>), NatError> {
    let found = join_all(names.iter().map(addresses)).await;
    let (mut servers, mut unresolved) = (Vec::new(), Vec::new());
    for ((place, name), found) in names.iter().enumerate().zip(found) {
        match found {
            Ok(ips) => servers.extend(of_name(place, name, &ips)),
            Err(error) => unresolved.push(Unresolved { name: name.clone(), error }),
        }
    }
    if servers.is_empty()
        && let Some(first) = unresolved.pop()
    {
        return Err(NatError::Unresolved { name: first.name.host, source: first.error });
    }
    Ok((servers, unresolved))
}

async fn addresses(name: &ServerName) -> io::Result<Vec<IpAddr>> {
    if let Ok(ip) = name.host.parse() {
        return Ok(vec![ip]);
    }
    // A port must be there; it is not looked at.
    let found = tokio::net::lookup_host((name.host.as_str(), 0)).await?;
    let mut ips = Vec::new();
    for ip in found.map(|address| address.ip().to_canonical()) {
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    if ips.is_empty() { Err(io::Error::new(io::ErrorKind::NotFound, "it has no address")) } else { Ok(ips) }
}

fn of_name(place: usize, name: &ServerName, ips: &[IpAddr]) -> Vec<Server> {
    let ports = name.port.map_or(PORTS.to_vec(), |port| vec![port]);
    let of = |family| ips.iter().filter(move |ip| Family::of(**ip) == family).take(ADDRESSES);
    let ips = Family::ALL.into_iter().flat_map(of);
    let server = |ip: &IpAddr, port: &u16| Server {
        address: SocketAddr::new(*ip, *port),
        name: place,
        guessed: name.port.is_none(),
    };
    ips.flat_map(|ip| ports.iter().map(move |port| server(ip, port))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_with_or_without_a_port() {
        for (text, host, port) in [
            ("stun.example.net", "stun.example.net", None),
            ("192.0.2.1:53", "192.0.2.1", Some(53)),
            ("2001:db8::1", "2001:db8::1", None),
            ("[2001:db8::1]:53", "2001:db8::1", Some(53)),
        ] {
            let name: ServerName = text.parse().unwrap();
            assert_eq!((name.host.as_str(), name.port), (host, port));
            assert_eq!(name.to_string(), text);
        }
        for bad in ["", ":1", "a b", "host:0", "host:70000", "[::1", "host#key"] {
            assert!(bad.parse::<ServerName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_without_a_port_is_asked_at_both_and_none_crowds_out_others() {
        let ips: Vec<IpAddr> =
            (1..=9).map(|n| IpAddr::from([192, 0, 2, n])).chain(["2001:db8::1".parse().unwrap()]).collect();
        let servers = of_name(3, &"a".parse().unwrap(), &ips);
        let shown: Vec<_> = servers.iter().map(|s| s.address.to_string()).collect();
        let want = [
            "192.0.2.1:4789",
            "192.0.2.1:3478",
            "192.0.2.2:4789",
            "192.0.2.2:3478",
            "[2001:db8::1]:4789",
            "[2001:db8::1]:3478",
        ];
        assert_eq!(shown, want);
        assert!(servers.iter().all(|s| s.guessed && s.name == 3));
        assert!(of_name(0, &"a:53".parse().unwrap(), &ips).iter().all(|s| !s.guessed && s.address.port() == 53));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_does_not_resolve_is_told() {
        let names = ["nosuch.invalid:1", "127.0.0.1:2"].map(|name| name.parse().unwrap());
        let (servers, unresolved) = resolve(&names).await.unwrap();
        assert_eq!((servers.len(), servers[0].name, unresolved[0].name.clone()), (1, 1, names[0].clone()));
        let error = resolve(&names[..1]).await.unwrap_err();
        assert!(matches!(&error, NatError::Unresolved { name, .. } if name == "nosuch.invalid"), "{error:?}");
    }
}
