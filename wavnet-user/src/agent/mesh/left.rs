//! What an earlier agent has left of the mesh: for how long it is kept, and that the mesh is told of it.

use std::time::Duration;

use wavnet_proto::{
    fabric::{Fabric, PathFrom, PeerPath},
    mesh::Way,
    time::Time,
    transmit::Socket,
    trust::{NetworkId, PublicKey},
    wire::Label,
};

use super::{Overlay, now};

/// What nobody has asked for is kept for so long if no server takes us in. A peer that is there probes its path each minute, hears that it is not known here, and shakes hands by
/// that path: ten seconds between two pulses, and some for what is lost, are in it.
const ALONE: Duration = Duration::from_secs(120);

/// How far we are with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    started: Time,
    told: bool,
}

impl Left {
    pub(super) fn new(started: Time) -> Left {
        Left { started, told: false }
    }

    /// True if what nobody has asked for is given up. `led`: until when servers have led us to whom they know.
    pub(super) fn is_over(&self, now: Time, led: Option<Time>) -> bool {
        now >= led.unwrap_or(self.started + ALONE)
    }
}

impl Overlay {
    /// Whose peers there are.
    pub(in crate::agent) fn network(&self) -> NetworkId {
        self.settings.access.network()
    }

    /// Tells the mesh which paths there are from before, as soon as there are sockets for them.
    pub(super) fn take_over(&mut self, fabric: &Fabric) {
        if self.sockets.is_some() && !std::mem::replace(&mut self.left.told, true) {
            self.mesh.take_over(now(), fabric.unclaimed_paths().filter_map(way));
        }
    }
}

/// As the mesh sees it; `None`: it is no peer's.
fn way(path: &PeerPath) -> Option<(Way, PublicKey)> {
    let key = PublicKey::new(path.peer?.0).ok()?;
    let (at, label) = match path.from {
        PathFrom::Direct(at) => (at, Label::ZERO),
        PathFrom::Relayed { relay, label } => (relay, label),
    };
    let socket = at.to.get().checked_sub(1).map_or(Socket::Main, Socket::Extra);
    Some((Way { socket, remote: at.from().into(), label }, key))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;

    use wavnet_common::{
        abi::{Arrival, LocalPort},
        addr,
    };

    use super::*;

    #[test]
    fn what_is_left_ends_in_any_case() {
        let (start, second) = (Time::from_nanos(1 << 40), Duration::from_secs(1));
        let left = Left::new(start);
        let over =
            |seconds: u32, led: Option<u32>| left.is_over(start + second * seconds, led.map(|at| start + second * at));
        assert_eq!([over(119, None), over(120, None)], [false, true]);
        assert_eq!([over(61, Some(62)), over(62, Some(62))], [false, true]);
        assert_eq!([over(121, Some(179)), over(179, Some(179))], [false, true]);
    }

    #[test]
    fn the_mesh_sees_a_path_by_the_socket_that_it_comes_to() {
        let peer = Some(addr::PeerId([1; 32]));
        let from = SocketAddrV4::new([192, 0, 2, 1].into(), 40_000);
        let key = PublicKey::new([1; 32]).unwrap();
        let of = |from| way(&PeerPath { from, peer }).unwrap();
        for (to, socket) in [(LocalPort::MAIN, Socket::Main), (LocalPort::extra(0).unwrap(), Socket::Extra(0))] {
            let direct = Way { socket, remote: from.into(), label: Label::ZERO };
            assert_eq!(of(PathFrom::Direct(Arrival::new(from, to))), (direct, key));
        }
        let relay = Arrival::new(from, LocalPort::extra(7).unwrap());
        let relayed = Way { socket: Socket::Extra(7), remote: from.into(), label: Label::new(9).unwrap() };
        assert_eq!(of(PathFrom::Relayed { relay, label: Label::of_word(9) }), (relayed, key));
        assert_eq!(way(&PeerPath { from: PathFrom::Direct(relay), peer: None }), None);
    }
}
