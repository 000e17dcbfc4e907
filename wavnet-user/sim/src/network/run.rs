//! Running: one event after the other, and the nodes after each.

use std::time::Duration;

use wavnet_proto::{time::Time, transmit::Transmit};

use super::Network;
use crate::{Datagram, HostId, Node, Reason, SocketRequest, datagram::Flight, host::nowhere, queue::Event, trace::At};

/// A node that is woken so often in one moment never comes to rest.
const WAKE_LIMIT: u32 = 1000;
/// One that sends so much in answer to one thing never ends.
const SEND_LIMIT: u32 = 1_000_000;
/// So many events in one moment come from nodes that answer each other without end over links without delay.
const MOMENT_LIMIT: u32 = 10_000_000;

impl<N: Node> Network<N> {
    /// The network's time.
    #[must_use]
    pub const fn now(&self) -> Time {
        self.world.now
    }

    /// When the next event is; `None` if nothing will ever happen by itself.
    #[must_use]
    pub fn next_event(&self) -> Option<Time> {
        self.world.queue.next_at()
    }

    /// Lets the next event happen. Returns false if there is none.
    ///
    /// # Panics
    ///
    /// If a node never comes to rest, with what it does.
    pub fn step(&mut self) -> bool {
        let Some((at, event)) = self.world.queue.pop() else { return false };
        self.in_this_moment = if at > self.world.now { 0 } else { self.in_this_moment + 1 };
        assert!(
            self.in_this_moment < MOMENT_LIMIT,
            "time stands still: nodes answer each other over links without delay"
        );
        self.world.now = at;
        match event {
            Event::Flight(flight, stage) => match self.world.arrived(stage) {
                Some((host, has_left)) => self.arrive(host, *flight, has_left),
                None => self.world.advance(flight, stage),
            },
            Event::Start(host) => self.start(HostId(host)),
            Event::Wake(host) => self.wake(HostId(host)),
            Event::Action(id) => {
                if let Some(action) = self.actions.remove(&id) {
                    action(self);
                }
            }
        }
        true
    }

    /// Lets everything happen up to and at this time, and makes it that time.
    pub fn run_until(&mut self, time: Time) {
        while self.world.queue.next_at().is_some_and(|at| at <= time) {
            self.step();
        }
        self.world.now = self.world.now.max(time);
    }

    /// The same, for so long from now.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(self.world.now + duration);
    }

    /// Runs until the condition holds, which is looked at now and after each event; but no longer than up to and at the deadline. Returns
    /// when it was first seen to hold; `None` if it was not.
    #[must_use]
    pub fn run_until_met(&mut self, deadline: Time, mut condition: impl FnMut(&Network<N>) -> bool) -> Option<Time> {
        loop {
            if condition(self) {
                return Some(self.world.now);
            }
            if self.world.queue.next_at().is_none_or(|at| at > deadline) {
                self.world.now = self.world.now.max(deadline);
                return None;
            }
            self.step();
        }
    }

    /// The node is told its sockets, unless that was done.
    pub(super) fn start(&mut self, id: HostId) {
        let host = &mut self.hosts[id.index()];
        if host.started || !host.is_awake() {
            return;
        }
        host.started = true;
        self.tell_sockets(id);
        self.drive(id);
    }

    pub(super) fn tell_sockets(&mut self, id: HostId) {
        let host = &mut self.hosts[id.index()];
        let now = host.clock.read(self.world.now);
        if let Some(node) = &mut host.node {
            node.handle_sockets(now, &host.sockets.list());
        }
    }

    fn arrive(&mut self, id: HostId, flight: Flight, has_left: bool) {
        self.start(id);
        let host = &self.hosts[id.index()];
        let socket = match host.sockets.at(flight.datagram.to) {
            _ if has_left => Err(Reason::NoRoute),
            _ if host.suspended.is_some() => Err(Reason::Suspended),
            _ if host.node.is_none() => Err(Reason::Stopped),
            socket => socket.ok_or(Reason::NoSocket),
        };
        let socket = match socket {
            Ok(socket) => socket,
            Err(reason) => return self.world.drop(flight, reason, Some(At::Attached(id.into()))),
        };
        let Datagram { from, to, .. } = flight.datagram;
        let payload = self.world.delivered(id, flight);
        let host = &mut self.hosts[id.index()];
        let now = host.clock.read(self.world.now);
        if let Some(node) = &mut host.node {
            node.handle_input(now, socket, to, from, &payload);
        }
        self.drive(id);
    }

    fn wake(&mut self, id: HostId) {
        let now = self.world.now;
        let host = &mut self.hosts[id.index()];
        if host.wake_at != Some(now) {
            // It was to be woken earlier by then, and has been.
            return;
        }
        host.wake_at = None;
        if !host.is_awake() {
            return;
        }
        let local = host.clock.read(now);
        let Some(node) = &mut host.node else { return };
        if node.poll_timeout().is_none_or(|timeout| timeout > local) {
            return self.schedule(id);
        }
        host.woken = if host.woken.0 == now { (now, host.woken.1 + 1) } else { (now, 0) };
        assert!(host.woken.1 < WAKE_LIMIT, "{id} never comes to rest: its timeout stays {:?}", node.poll_timeout());
        self.world.trace.woken(now, id);
        node.handle_timeout(local);
        self.drive(id);
    }

    /// After each `handle_*`.
    pub(super) fn drive(&mut self, id: HostId) {
        let mut sockets_changed = false;
        for turn in 0.. {
            assert!(turn < SEND_LIMIT, "{id} never stops sending");
            let Some(node) = &mut self.hosts[id.index()].node else { return };
            if let Some(request) = node.poll_socket_request() {
                self.obey(id, request);
                sockets_changed = true;
            } else if std::mem::take(&mut sockets_changed) {
                self.tell_sockets(id);
            } else if let Some(transmit) = node.poll_transmit() {
                self.transmit(id, transmit);
            } else {
                break;
            }
        }
        self.schedule(id);
    }

    fn obey(&mut self, id: HostId, request: SocketRequest) {
        let host = &mut self.hosts[id.index()];
        match request {
            SocketRequest::Open { socket, port } => {
                host.sockets.close(socket);
                if let Some(port) = port.or_else(|| host.sockets.ephemeral(&mut host.rng)) {
                    host.sockets.open(socket, port);
                }
            }
            SocketRequest::Close(socket) => host.sockets.close(socket),
        }
    }

    fn transmit(&mut self, id: HostId, transmit: Transmit) {
        let Transmit { from, to, payload } = transmit;
        match self.hosts[id.index()].sockets.source(from, to.is_ipv6()) {
            Some(from) => self.world.send(id, Datagram { from, to, payload }),
            None => self.world.send_nothing(id, Datagram { from: nowhere(to.is_ipv6()), to, payload }),
        }
    }

    /// Puts the node's next timeout into the queue, unless it is woken before that anyway.
    pub(super) fn schedule(&mut self, id: HostId) {
        let host = &mut self.hosts[id.index()];
        if !host.is_awake() {
            return;
        }
        let Some(timeout) = host.node.as_mut().and_then(Node::poll_timeout) else { return };
        let at = host.clock.when(timeout).max(self.world.now);
        if host.wake_at.is_none_or(|earliest| at < earliest) {
            host.wake_at = Some(at);
            self.world.queue.put(at, Event::Wake(id.0));
        }
    }
}
