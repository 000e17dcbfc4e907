//! What a scenario does to hosts: restarts, moves, sleep, clocks.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use wavnet_proto::{time::Time, transmit::Socket};

use super::Network;
use crate::{Asleep, HostId, Node, SegmentId, queue::Event};

impl<N: Node> Network<N> {
    /// All hosts.
    pub fn hosts(&self) -> impl Iterator<Item = HostId> + use<N> {
        (0..self.hosts.len() as u32).map(HostId)
    }

    /// Whether something runs on a host.
    #[must_use]
    pub fn is_running(&self, host: HostId) -> bool {
        self.hosts[host.index()].node.is_some()
    }

    /// A host's node.
    ///
    /// # Panics
    ///
    /// If nothing runs on the host.
    #[must_use]
    pub fn node(&self, host: HostId) -> &N {
        match &self.hosts[host.index()].node {
            Some(node) => node,
            None => panic!("nothing runs on {host}"),
        }
    }

    /// Does something with a host's node, which is given its own time, and then what the node wants after it.
    ///
    /// # Panics
    ///
    /// If nothing runs on the host, or it is suspended.
    pub fn act<R>(&mut self, host: HostId, action: impl FnOnce(&mut N, Time) -> R) -> R {
        assert!(self.hosts[host.index()].suspended.is_none(), "{host} is suspended");
        self.start(host);
        let of = &mut self.hosts[host.index()];
        let now = of.clock.read(self.world.now);
        let result = match &mut of.node {
            Some(node) => action(node, now),
            None => panic!("nothing runs on {host}"),
        };
        self.drive(host);
        result
    }

    /// What a host's clock says.
    #[must_use]
    pub fn local_time(&self, host: HostId) -> Time {
        self.hosts[host.index()].clock.read(self.world.now)
    }

    /// A host's addresses.
    #[must_use]
    pub fn addresses(&self, host: HostId) -> &[IpAddr] {
        self.hosts[host.index()].sockets.addresses()
    }

    /// The segment that a host is on.
    #[must_use]
    pub fn segment(&self, host: HostId) -> SegmentId {
        self.hosts[host.index()].segment
    }

    /// A host's open sockets that have an address, one line per socket and family.
    #[must_use]
    pub fn sockets(&self, host: HostId) -> Vec<(Socket, SocketAddr)> {
        self.hosts[host.index()].sockets.list()
    }

    /// The address and port of [`Socket::Main`], IPv4 if it has both.
    ///
    /// # Panics
    ///
    /// If it has neither.
    #[must_use]
    pub fn main_address(&self, host: HostId) -> SocketAddr {
        let sockets = &self.hosts[host.index()].sockets;
        match sockets.source(Socket::Main, false).or_else(|| sockets.source(Socket::Main, true)) {
            Some(local) => local,
            None => panic!("the main socket of {host} has no address"),
        }
    }

    /// Binds a socket to one of a host's addresses and a port: another port for its main socket, or a server's other sockets. When the host gets other
    /// addresses, it has the one at the same place of the list of that family.
    ///
    /// # Panics
    ///
    /// If the host has no such address, or another socket has it and the port.
    pub fn bind(&mut self, host: HostId, socket: Socket, local: SocketAddr) {
        assert!(self.hosts[host.index()].sockets.bind(socket, local), "{host} cannot bind {socket:?} to {local}");
        self.sockets_changed(host);
    }

    /// Opens a socket on the host's first address of each family.
    ///
    /// # Panics
    ///
    /// If another socket has the port.
    pub fn open(&mut self, host: HostId, socket: Socket, port: u16) {
        assert!(self.hosts[host.index()].sockets.open(socket, port), "{host} cannot open {socket:?} on port {port}");
        self.sockets_changed(host);
    }

    /// Closes a socket.
    pub fn close(&mut self, host: HostId, socket: Socket) {
        self.hosts[host.index()].sockets.close(socket);
        self.sockets_changed(host);
    }

    /// Attaches a host to another segment, or to the same with other addresses. Its link stays as it is; what was under way to it is lost.
    ///
    /// # Panics
    ///
    /// If somebody on the segment has one of the addresses.
    pub fn move_host(&mut self, host: HostId, segment: SegmentId, addresses: &[IpAddr]) {
        self.world.note(host, &format!("moved to {segment} as {addresses:?}"));
        self.world.topology.move_host(host, segment, addresses);
        let of = &mut self.hosts[host.index()];
        of.segment = segment;
        of.sockets.set_addresses(addresses);
        self.sockets_changed(host);
    }

    /// Ends a host's node, as by a signal that it does not see, and returns it. Its extra sockets are closed.
    pub fn kill(&mut self, host: HostId) -> Option<N> {
        self.world.note(host, "killed");
        let of = &mut self.hosts[host.index()];
        of.started = false;
        of.sockets.close_extra();
        of.node.take()
    }

    /// Starts a node on a host, in place of what ran there, which it returns.
    pub fn restart(&mut self, host: HostId, node: N) -> Option<N> {
        let old = self.kill(host);
        self.world.note(host, "restarted");
        self.hosts[host.index()].node = Some(node);
        self.world.queue.put(self.world.now, Event::Start(host.0));
        old
    }

    /// A host goes to sleep: its node is not woken, and what comes for it is lost.
    pub fn suspend(&mut self, host: HostId) {
        self.world.note(host, "suspended");
        let now = self.world.now;
        self.hosts[host.index()].suspended.get_or_insert(now);
    }

    /// A host wakes up. Its node is told its sockets, and woken if its time has come meanwhile.
    pub fn resume(&mut self, host: HostId, asleep: Asleep) {
        let now = self.world.now;
        let of = &mut self.hosts[host.index()];
        let Some(since) = of.suspended.take() else { return };
        self.world.note(host, "resumed");
        if asleep == Asleep::StandsStill {
            of.clock.back(now.since(since));
        }
        if of.started {
            self.sockets_changed(host);
        } else {
            self.world.queue.put(now, Event::Start(host.0));
        }
    }

    /// A host's clock jumps forward.
    pub fn clock_forward(&mut self, host: HostId, by: Duration) {
        self.world.note(host, &format!("clock forward by {by:?}"));
        self.hosts[host.index()].clock.forward(by);
        self.schedule(host);
    }

    /// A host's clock jumps back, but not before its zero, where it then stands still.
    pub fn clock_back(&mut self, host: HostId, by: Duration) {
        self.world.note(host, &format!("clock back by {by:?}"));
        self.hosts[host.index()].clock.back(by);
        self.schedule(host);
    }

    /// Tells a node that runs. One that is not started yet is told when it is, one that sleeps when it wakes up.
    fn sockets_changed(&mut self, host: HostId) {
        let of = &self.hosts[host.index()];
        if of.started && of.is_awake() {
            self.tell_sockets(host);
            self.drive(host);
        }
    }
}
