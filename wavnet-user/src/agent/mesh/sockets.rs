//! The UDP sockets of the mesh: the main one, on the underlay's address and port, and those of a search or a classification.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsRawFd,
};

use nix::sys::socket::{MsgFlags, SockaddrStorage, sendto};
use tokio::{net::UdpSocket, sync::mpsc, task::JoinHandle};
use wavnet_common::abi::ExtraPorts;
use wavnet_proto::{
    places::Ports,
    transmit::{Socket, Transmit},
};

/// Longest datagram: control datagrams are shorter, and longer ones are not ours.
const LONGEST: usize = 2048;
/// Datagrams of extra sockets that wait; more are dropped, as by any full queue.
const QUEUE: usize = 1024;
/// The first port that is tried for extra sockets: below the range that the kernel gives out by itself.
const FIRST_PORT: u16 = 20_000;

/// A datagram that came in.
#[derive(Debug)]
pub(in crate::agent) struct Received {
    pub(super) socket: Socket,
    pub(super) from: SocketAddr,
    pub(super) payload: Vec<u8>,
}

/// An extra socket, and the task that reads it.
struct Extra {
    socket: std::sync::Arc<UdpSocket>,
    reader: JoinHandle<()>,
}

impl Drop for Extra {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// All sockets.
pub(super) struct Sockets {
    local: Ipv4Addr,
    port: u16,
    main: UdpSocket,
    extra: BTreeMap<u16, Extra>,
    queue: mpsc::Sender<Received>,
    queued: mpsc::Receiver<Received>,
    buffer: Vec<u8>,
}

impl Sockets {
    /// Opens the main socket.
    ///
    /// # Errors
    /// The port is in use, or the address is not the host's.
    pub(super) fn open(local: Ipv4Addr, port: u16) -> io::Result<Sockets> {
        let (queue, queued) = mpsc::channel(QUEUE);
        let main = bind(local, port)?;
        Ok(Sockets { local, port, main, extra: BTreeMap::new(), queue, queued, buffer: vec![0; LONGEST] })
    }

    /// The address of the main socket.
    pub(super) fn address(&self) -> SocketAddr {
        (self.local, self.port).into()
    }

    /// Ports up to that of the last extra socket that is open, for the programs. Others in between may be anybody's: only what comes by a
    /// known path is ours there.
    pub(super) fn extra_ports(&self) -> ExtraPorts {
        let last = self.extra.keys().next_back().filter(|n| **n < ExtraPorts::MOST);
        last.map_or(ExtraPorts::NONE, |last| ExtraPorts::new(FIRST_PORT, last + 1))
    }

    /// The ports of all sockets that frames may come by.
    pub(super) fn ports(&self) -> Ports {
        Ports { main: self.port, extra: FIRST_PORT }
    }

    /// Opens an extra socket: the first 512 have ports in a row, which the programs know; others have any.
    ///
    /// # Errors
    /// The port is in use, or there are too many files.
    pub(super) fn open_extra(&mut self, n: u16) -> io::Result<()> {
        let port = if n < ExtraPorts::MOST { self.ports().of(Socket::Extra(n)) } else { 0 };
        self.extra.remove(&n);
        let socket = std::sync::Arc::new(bind(self.local, port)?);
        let (reading, queue) = (socket.clone(), self.queue.clone());
        let reader = tokio::spawn(async move {
            let mut buffer = vec![0; LONGEST];
            loop {
                // An error is an ICMP message about some destination: the next datagram may be fine.
                let Ok((len, from)) = reading.recv_from(&mut buffer).await else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let payload = buffer.get(..len).unwrap_or_default().to_vec();
                let received = Received { socket: Socket::Extra(n), from, payload };
                match queue.try_send(received) {
                    Err(mpsc::error::TrySendError::Closed(_)) => return,
                    Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => {}
                }
            }
        });
        self.extra.insert(n, Extra { socket, reader });
        Ok(())
    }

    /// Closes an extra socket.
    pub(super) fn close_extra(&mut self, n: u16) {
        self.extra.remove(&n);
    }

    /// The next datagram.
    pub(super) async fn next(&mut self) -> Received {
        loop {
            tokio::select! {
                received = self.main.recv_from(&mut self.buffer) => {
                    // As above.
                    let Ok((len, from)) = received else { tokio::task::yield_now().await; continue };
                    let payload = self.buffer.get(..len).unwrap_or_default().to_vec();
                    return Received { socket: Socket::Main, from, payload };
                }
                Some(received) = self.queued.recv() => return received,
            }
        }
    }

    /// Another datagram, if one is there.
    pub(super) fn try_next(&mut self) -> Option<Received> {
        if let Ok(received) = self.queued.try_recv() {
            return Some(received);
        }
        let (len, from) = self.main.try_recv_from(&mut self.buffer).ok()?;
        let payload = self.buffer.get(..len).unwrap_or_default().to_vec();
        Some(Received { socket: Socket::Main, from, payload })
    }

    /// Sends a datagram, at once or not at all.
    ///
    /// # Errors
    /// The system's queue is full, or it does not know how to get there.
    pub(super) fn send(&self, transmit: &Transmit) -> io::Result<()> {
        self.send_parts(transmit.from, transmit.to, &transmit.payload)
    }

    /// The same with its parts.
    ///
    /// # Errors
    /// As [`Sockets::send`].
    pub(super) fn send_parts(&self, from: Socket, to: SocketAddr, payload: &[u8]) -> io::Result<()> {
        let socket = match from {
            Socket::Extra(n) => &*self.extra.get(&n).ok_or(io::ErrorKind::NotConnected)?.socket,
            Socket::Main | Socket::Other(_) => &self.main,
        };
        // tokio would not try before it was told that the socket can be written to, which a new one was not.
        sendto(socket.as_raw_fd(), payload, &SockaddrStorage::from(to), MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }
}

fn bind(local: Ipv4Addr, port: u16) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind((local, port))?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}
