//! Frames that wait while a peer changes its path: read from the device that the programs send them to, and sent on by our sockets.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use wavnet_common::{
    abi::Hold,
    addr::Mac,
    datapath::{OUTER_LEN, held_for},
    wire::VxlanHdr,
};
use wavnet_proto::{
    command::PeerKey,
    fabric::Fabric,
    held::Held,
    places::{Place, Places, id},
    time::Time,
    trust::PublicKey,
};

use super::{Overlay, device::Device, now, sockets::Sockets};
use crate::datapath::Datapath;

/// Bytes of frames that are kept at the most, for all peers.
const LIMIT: usize = 32 << 20;
/// Frames that are read at once.
const BATCH: usize = 1024;
/// The loop's other work waits no longer than this for frames to be sent on as fast as they come.
const TURN: Duration = Duration::from_millis(2);
/// Where VXLAN begins in a frame.
const VXLAN: usize = OUTER_LEN - VxlanHdr::LEN;

/// What is held back.
pub(super) struct Holding {
    device: io::Result<Device>,
    held: Held,
    /// Whose the slots are.
    peers: BTreeMap<u16, PublicKey>,
}

impl Holding {
    /// Makes the device. Without one nothing is held back.
    pub(super) fn open() -> Holding {
        Holding { device: Device::open(), held: Held::new(LIMIT), peers: BTreeMap::new() }
    }

    /// For the programs; zero: there is none.
    pub(super) fn ifindex(&self) -> u32 {
        self.device.as_ref().map_or(0, Device::ifindex)
    }

    /// Why there is no device.
    pub(super) fn trouble(&self) -> Option<&io::Error> {
        self.device.as_ref().err()
    }

    /// Frames that were given up.
    pub(super) fn dropped(&self) -> u64 {
        self.held.dropped()
    }

    pub(super) async fn readable(&self) {
        match &self.device {
            Ok(device) => device.readable().await,
            Err(_) => std::future::pending().await,
        }
    }

    pub(super) fn poll_timeout(&self, now: Time) -> Option<Time> {
        self.held.poll_timeout(now)
    }

    /// Frames to this peer are about to be held back.
    pub(super) fn begin(&mut self, fabric: &mut Fabric, datapath: &Datapath, peer: PublicKey) {
        let Some(slot) = fabric.dynamic_slot(id(&peer)).filter(|_| self.device.is_ok()) else { return };
        let held = datapath.holds().counts(slot).0;
        if self.peers.get(&slot).is_some_and(|before| *before != peer) {
            self.held.forget(now(), slot, held);
        }
        self.held.begin(now(), slot, held);
        self.tell(datapath, slot);
        self.peers.insert(slot, peer);
        fabric.hold_peer(PeerKey::Dynamic(id(&peer)), Hold::Hold);
    }

    /// They may be sent on.
    pub(super) fn release(&mut self, peer: PublicKey) {
        for (slot, _) in self.peers.iter().filter(|(_, key)| **key == peer) {
            self.held.may_go(now(), *slot);
        }
    }

    /// Tells the programs how many frames we are done with.
    fn tell(&self, datapath: &Datapath, slot: u16) {
        if let Some(done) = self.held.done(slot) {
            datapath.holds().release(slot, done);
        }
    }

    /// Reads what is in the device. True if it was read to its end.
    fn read(&mut self, datapath: &Datapath) -> bool {
        let Ok(device) = &mut self.device else { return true };
        for _ in 0..BATCH {
            let Some(frame) = device.read() else { return true };
            // Else it is what the kernel itself has to say on a new interface.
            let dst = frame.first_chunk().copied().map(Mac);
            let Some(slot) = dst.and_then(held_for) else { continue };
            let payload =
                frame.get(VXLAN..).filter(|payload| payload.len() > VxlanHdr::LEN).unwrap_or_default().to_vec();
            if !self.held.push(slot, payload)
                && let Some(done) = self.held.done(slot)
            {
                datapath.holds().release(slot, done);
            }
        }
        false
    }

    /// Sends on what may go. False if the system does not take more now.
    fn send(&mut self, datapath: &Datapath, sockets: &Sockets, places: &Places) -> bool {
        let slots: Vec<u16> = self.held.slots().collect();
        for slot in slots {
            let place = self.peers.get(&slot).and_then(|peer| places.get(peer));
            while let Some(frame) = self.held.front(slot) {
                match place.map(|place| send_one(sockets, place, frame)) {
                    Some(Ok(())) => self.held.sent(slot),
                    Some(Err(e)) if e.kind() == io::ErrorKind::WouldBlock => return false,
                    // The frame is lost, as it would be from the programs: nobody is there any more, or the network has a fault.
                    Some(Err(_)) | None => self.held.not_sent(slot),
                }
                self.tell(datapath, slot);
            }
        }
        true
    }

    /// Looks how far each peer has got, and has the programs go on accordingly.
    fn look(&mut self, fabric: &mut Fabric, datapath: &Datapath, before: &BTreeMap<u16, u64>, emptied: bool) {
        for (slot, held) in before {
            let key = self.peers.get(slot).map(id);
            let there = key.filter(|key| fabric.dynamic_slot(*key) == Some(*slot));
            if there.is_none() && self.peers.remove(slot).is_some() {
                self.held.forget(now(), *slot, datapath.holds().counts(*slot).0);
            }
            let view = there.and_then(|key| fabric.dynamic_peer(key));
            let moved = view.is_none_or(|v| v.in_force == Some(v.endpoint));
            if let (Some(hold), Some(key)) = (self.held.look(now(), *slot, *held, emptied, moved), there) {
                fabric.hold_peer(PeerKey::Dynamic(key), hold);
            }
            self.tell(datapath, *slot);
        }
        let held = &self.held;
        self.peers.retain(|slot, _| held.done(*slot).is_some());
    }

    /// How many frames were held back so far, for each peer of whom some are.
    fn counts(&self, datapath: &Datapath) -> BTreeMap<u16, u64> {
        self.held.slots().map(|slot| (slot, datapath.holds().counts(slot).0)).collect()
    }
}

impl Overlay {
    /// Reads what was held back, sends on what may go, and has the programs hold back less, step by step.
    pub(in crate::agent) fn tend_held(&mut self, fabric: &mut Fabric, datapath: &Datapath) {
        let started = Instant::now();
        loop {
            let counts = self.holding.counts(datapath);
            let emptied = self.holding.read(datapath);
            let sockets = self.sockets.as_ref();
            let open = sockets.is_some_and(|sockets| self.holding.send(datapath, sockets, &self.places));
            self.holding.look(fabric, datapath, &counts, emptied);
            let settled = self.holding.counts(datapath) == counts;
            if (emptied && settled) || !open || started.elapsed() > TURN {
                break;
            }
        }
    }

    /// Nothing is to be held back any more, for nobody will be here to send it on: what is here goes now.
    pub(in crate::agent) fn end_holding(&mut self, fabric: &mut Fabric) {
        let peers: Vec<PublicKey> = self.holding.peers.values().copied().collect();
        for peer in peers {
            self.holding.release(peer);
            fabric.hold_peer(PeerKey::Dynamic(id(&peer)), Hold::Normal);
        }
    }
}

/// Sends a frame with the label of the path that it takes now.
fn send_one(sockets: &Sockets, place: &Place, frame: &[u8]) -> io::Result<()> {
    let mut payload = frame.to_vec();
    if let Some(label) = payload.get_mut(1..4) {
        let [_, bytes @ ..] = place.endpoint.label.get().to_be_bytes();
        label.copy_from_slice(&bytes);
    }
    let to = SocketAddr::from((place.endpoint.addr, place.endpoint.port));
    sockets.send_parts(place.socket, to, &payload)
}
