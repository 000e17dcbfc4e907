//! What a simulated host runs.

use std::net::SocketAddr;

use wavnet_proto::{
    time::Time,
    transmit::{Socket, Transmit},
};

/// A sans-IO core, or several of them with what a shell would do between them.
///
/// After each `handle_*` the network asks for socket requests and transmissions until there are none, and then when to wake the node.
/// `now` is what the host's clock says, which a scenario may set.
pub trait Node {
    /// A datagram has come.
    fn handle_input(&mut self, now: Time, socket: Socket, local: SocketAddr, from: SocketAddr, payload: &[u8]);

    /// The time has come that [`Node::poll_timeout`] named, or is over.
    fn handle_timeout(&mut self, now: Time);

    /// When to wake it.
    fn poll_timeout(&mut self) -> Option<Time>;

    /// The next datagram to send.
    fn poll_transmit(&mut self) -> Option<Transmit>;

    /// The sockets that are open and the addresses that they have, one line per socket and family, in order: when the node starts, and
    /// after each change. An open socket that is not there has no address.
    fn handle_sockets(&mut self, _now: Time, _sockets: &[(Socket, SocketAddr)]) {}

    /// The next socket to open or close.
    fn poll_socket_request(&mut self) -> Option<SocketRequest> {
        None
    }
}

/// What a node asks of its host's UDP stack. What came of it [`Node::handle_sockets`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketRequest {
    /// Open this socket on the host's first address of each family; one that is open is closed before. It stays closed if somebody else
    /// has the port.
    Open {
        /// Its name.
        socket: Socket,
        /// The port; `None` for one of the ephemeral ports (32768 to 60999, as Linux has them).
        port: Option<u16>,
    },
    /// Close it.
    Close(Socket),
}

/// A host of a network whose hosts run different nodes: whatever is asked of it, the one that it runs answers.
pub trait OneOf {
    /// The node that it runs.
    fn node(&mut self) -> &mut dyn Node;
}

impl<H: OneOf> Node for H {
    fn handle_input(&mut self, now: Time, socket: Socket, local: SocketAddr, from: SocketAddr, payload: &[u8]) {
        self.node().handle_input(now, socket, local, from, payload);
    }

    fn handle_timeout(&mut self, now: Time) {
        self.node().handle_timeout(now);
    }

    fn poll_timeout(&mut self) -> Option<Time> {
        self.node().poll_timeout()
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.node().poll_transmit()
    }

    fn handle_sockets(&mut self, now: Time, sockets: &[(Socket, SocketAddr)]) {
        self.node().handle_sockets(now, sockets);
    }

    fn poll_socket_request(&mut self) -> Option<SocketRequest> {
        self.node().poll_socket_request()
    }
}
