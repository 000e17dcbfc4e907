//! Two hosts that talk over a server's relay.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use wavnet_proto::{
    trust::PublicKey,
    wire::{Label, Message},
};

use super::{Host, Server};
use crate::lab::netns::Netns;

/// How long a frame may take where nothing is lost: whoever relays it may have no CPU for a while.
const PATIENCE: Duration = Duration::from_secs(3);

/// Two hosts, and their labels for each other.
pub struct Pair {
    /// The hosts.
    pub hosts: [Host; 2],
    /// What each one sends and receives by.
    pub labels: [Label; 2],
    sent: u64,
}

impl Pair {
    /// Registers two hosts, at these addresses of these namespaces, and introduces them to each other.
    ///
    /// # Errors
    /// The server does not do what it should.
    pub fn new(server: &Server, at: SocketAddr, sides: [(&Netns, SocketAddr); 2]) -> Result<Pair> {
        let [a, b] = Pair::registered(server, at, sides)?;
        let mut pair = Pair { hosts: [a, b], labels: [Label::ZERO; 2], sent: 0 };
        pair.meet()?;
        Ok(pair)
    }

    /// The two hosts before they meet.
    ///
    /// # Errors
    /// As [`Pair::new`].
    pub fn registered(server: &Server, at: SocketAddr, sides: [(&Netns, SocketAddr); 2]) -> Result<[Host; 2]> {
        let [first, second] = sides;
        let [a, b] = [(first, 1), (second, 2)].map(|((ns, from), seed)| {
            let mut host = Host::new(ns, from, at, server.access()?, seed)?;
            host.connect()?;
            host.register("host", &[7])?;
            Ok::<_, anyhow::Error>(host)
        });
        Ok([a?, b?])
    }

    /// Two registered hosts, of which the first one wants to talk and the second one may not even hear of it.
    ///
    /// # Errors
    /// As [`Pair::new`].
    pub fn one_sided([mut a, b]: [Host; 2]) -> Result<(Pair, Label)> {
        let mine = label(&mut a, b.client.key())?;
        Ok((Pair { hosts: [a, b], labels: [mine, Label::ZERO], sent: 0 }, mine))
    }

    /// Each asks for the other one; again after a restart of the server.
    ///
    /// # Errors
    /// As [`Pair::new`].
    pub fn meet(&mut self) -> Result<()> {
        let [a, b] = &mut self.hosts;
        let keys = [a.client.key(), b.client.key()];
        self.labels = [label(a, keys[1])?, label(b, keys[0])?];
        Ok(())
    }

    /// A frame with a label, unlike those before.
    pub fn frame(&mut self, label: Label, len: usize) -> Vec<u8> {
        self.sent += 1;
        let [x, y, z] = label.to_bytes();
        let mut frame = [&[8, x, y, z][..], &self.sent.to_be_bytes()].concat();
        frame.resize(len.max(frame.len()), 9);
        frame
    }

    /// Sends a frame from one of them to the other one, which must hear it, with its own label. What came before is passed over.
    ///
    /// # Errors
    /// It does not come, or with another label.
    pub fn pass(&mut self, from: usize) -> Result<()> {
        let sent = self.frame(self.labels[from], 200);
        self.hosts[from].socket.send(&sent)?;
        let start = Instant::now();
        loop {
            let heard = self.heard(1 - from)?;
            ensure!(heard.is_some() || start.elapsed() < PATIENCE, "nothing was relayed");
            let Some(heard) = heard else { continue };
            if heard[4..] == sent[4..] {
                ensure!(heard[1..4] == self.labels[1 - from].to_bytes(), "it came with label {:02x?}", &heard[1..4]);
                return Ok(());
            }
        }
    }

    /// The next frame that one of them hears, if it comes soon.
    ///
    /// # Errors
    /// The socket fails.
    pub fn heard(&mut self, at: usize) -> Result<Option<Vec<u8>>> {
        let mut buffer = [0; 2048];
        while let Ok(len) = self.hosts[at].socket.recv(&mut buffer) {
            if buffer[0] == 8 {
                return Ok(Some(buffer[..len].to_vec()));
            }
        }
        Ok(None)
    }
}

/// Asks for a peer; the label that it is given.
fn label(host: &mut Host, peer: PublicKey) -> Result<Label> {
    let connect = host.client.connect(peer, &[]);
    host.ask(&[connect], |m| if let Message::Invite(i) = m { (i.peer == peer).then_some(i.label) } else { None })
}
