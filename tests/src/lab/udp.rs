//! A host's UDP socket, to see what arrives and from where: what a NAT makes of it.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{host::Host, netns::Netns};

/// For how long to wait for what must come.
const SOON: Duration = Duration::from_secs(10);

/// A socket in a namespace.
#[derive(Debug)]
pub struct Udp {
    /// The socket itself.
    pub socket: UdpSocket,
    /// Where it is bound.
    pub local: SocketAddrV4,
}

impl Udp {
    /// A socket of a host, on a port (0: any).
    ///
    /// # Errors
    /// The port is taken.
    pub fn open(host: &Host, port: u16) -> Result<Udp> {
        Udp::bind(&host.ns, host.addr, port)
    }

    /// A socket on one of several addresses.
    ///
    /// # Errors
    /// The port is taken, or there is no such address.
    pub fn bind(ns: &Netns, address: Ipv4Addr, port: u16) -> Result<Udp> {
        let what = || format!("a UDP socket on {address}:{port} of {}", ns.short_name());
        let socket = ns.enter(|| Ok(UdpSocket::bind((address, port))?)).with_context(what)?;
        let SocketAddr::V4(local) = socket.local_addr()? else { bail!("{}: not IPv4", what()) };
        Ok(Udp { socket, local })
    }

    /// Sends a text.
    ///
    /// # Errors
    /// What the kernel says; what ICMP said about an earlier one is no error.
    pub fn send(&self, to: SocketAddrV4, text: &str) -> Result<()> {
        self.send_bytes(to, text.as_bytes())
    }

    /// The same with bytes.
    ///
    /// # Errors
    /// As [`Udp::send`].
    pub fn send_bytes(&self, to: SocketAddrV4, bytes: &[u8]) -> Result<()> {
        let mut sent = self.socket.send_to(bytes, to);
        if sent.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
            sent = self.socket.send_to(bytes, to);
        }
        let what = || format!("sending {} from {} to {to}", String::from_utf8_lossy(bytes), self.local);
        sent.map(drop).with_context(what)
    }

    /// The next text, and who sent it.
    ///
    /// # Errors
    /// None comes.
    pub fn receive(&self) -> Result<(String, SocketAddrV4)> {
        let end = Instant::now() + SOON;
        loop {
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left))?;
            let mut bytes = [0; 2048];
            match self.socket.recv_from(&mut bytes) {
                Ok((n, SocketAddr::V4(from))) => return Ok((String::from_utf8_lossy(&bytes[..n]).into_owned(), from)),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                other => bail!("nothing came to {}: {other:?}", self.local),
            }
        }
    }

    /// The sender of the next text, which must be this one: whatever else came before would be an error.
    ///
    /// # Errors
    /// Another one comes, or none.
    pub fn expect(&self, text: &str) -> Result<SocketAddrV4> {
        let (got, from) = self.receive().with_context(|| format!("waiting for {text}"))?;
        if got != text {
            bail!("{got} of {from} came to {} in the place of {text}", self.local);
        }
        Ok(from)
    }

    /// What this socket is for another one that it sends to.
    ///
    /// # Errors
    /// What it sent does not come.
    pub fn seen_by(&self, other: &Udp) -> Result<SocketAddrV4> {
        let text = format!("who is {}", self.local);
        self.send(other.local, &text)?;
        other.expect(&text)
    }
}
