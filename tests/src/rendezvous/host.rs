//! A host that talks to a server over a real socket.

use std::{
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use wavnet_proto::{
    rendezvous::testing::{Client, Heard},
    rng::Rng,
    time::Time,
    trust::AccessKey,
    wire::Message,
};

use crate::lab::netns::Netns;

/// How long an answer may take before the request is sent again.
const ANSWER: Duration = Duration::from_secs(3);
/// How often a request is sent.
const TRIES: usize = 5;
/// What comes later than this does not come soon.
const SOON: Duration = Duration::from_millis(500);

/// A host of a network.
pub struct Host {
    /// What it says and understands.
    pub client: Client,
    /// Its socket, connected to the server.
    pub socket: UdpSocket,
    started: Instant,
}

impl Host {
    /// A host with a key of its own from a seed, at an address of the namespace.
    ///
    /// # Errors
    /// The address is not there.
    pub fn new(ns: &Netns, at: SocketAddr, server: SocketAddr, access: AccessKey, seed: u64) -> Result<Host> {
        let socket = ns.enter(|| UdpSocket::bind(at).with_context(|| format!("binding {at}")))?;
        Host::with(socket, server, access, seed)
    }

    /// The same with a socket that is there.
    ///
    /// # Errors
    /// The socket cannot reach the server's address family.
    pub fn with(socket: UdpSocket, server: SocketAddr, access: AccessKey, seed: u64) -> Result<Host> {
        socket.connect(server)?;
        socket.set_read_timeout(Some(SOON))?;
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        let client = Client::new(access, Rng::from_seed(bytes));
        Ok(Host { client, socket, started: Instant::now() })
    }

    fn now(&self) -> Time {
        Time::from_nanos(self.started.elapsed().as_nanos() as u64)
    }

    /// What comes next, if it comes soon; what is to be sent back is sent.
    ///
    /// # Errors
    /// The socket fails.
    pub fn hear(&mut self) -> Result<Option<Heard>> {
        let mut buffer = [0; 2048];
        let Ok(len) = self.socket.recv(&mut buffer) else { return Ok(None) };
        let heard = self.client.hear(self.now(), &buffer[..len]);
        for reply in &heard.replies {
            self.socket.send(reply)?;
        }
        Ok(Some(heard))
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn connect(&mut self) -> Result<()> {
        let connected = |heard: &Heard| heard.is_connected.then_some(());
        self.repeat(|client| Ok(client.hello()), connected)?.context("the server does not shake hands")
    }

    /// Says something until there is a message that answers it.
    ///
    /// # Errors
    /// None comes.
    pub fn ask<T>(&mut self, messages: &[Message], answer: impl Fn(&Message) -> Option<T>) -> Result<T> {
        let say = |client: &mut Client| client.say(messages).context("no session");
        let answered = |heard: &Heard| heard.messages.iter().find_map(&answer);
        self.repeat(say, answered)?.with_context(|| format!("no answer to {messages:?}"))
    }

    /// Sends something, again and again, until what is looked for is heard.
    fn repeat<T>(
        &mut self,
        mut say: impl FnMut(&mut Client) -> Result<Vec<u8>>,
        find: impl Fn(&Heard) -> Option<T>,
    ) -> Result<Option<T>> {
        for _ in 0..TRIES {
            let datagram = say(&mut self.client)?;
            // Refused as long as the server is not there.
            let _ = self.socket.send(&datagram);
            let sent = Instant::now();
            while sent.elapsed() < ANSWER {
                if let Some(found) = self.hear()?.as_ref().and_then(&find) {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// Registers with this name and these VNIs; where the server sees it.
    ///
    /// # Errors
    /// The server does not register it.
    pub fn register(&mut self, name: &str, vnis: &[u32]) -> Result<SocketAddr> {
        let register = self.client.register(name, vnis, &[]);
        self.ask(&[register], |m| if let Message::Registered(r) = m { Some(r.mapped) } else { None })
    }
}
