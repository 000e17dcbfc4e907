//! Port prediction: where a symmetric NAT counts its ports up (or down), the next ones are known once one is known.
//!
//! A fresh socket asks a server's STUN for its mapping: that is where the NAT's counter is. The mappings of the next sockets, towards the
//! peer, are as many steps further. The peer is told these addresses, and tries them; so both sides have sent to each other. Where both NATs
//! count, both sides do so, and each sends by its n-th socket to the other's n-th address.

use std::{net::SocketAddr, time::Duration};

use super::{Context, Peer, Timer, Way, search::LOOK};
use crate::{
    mesh::{
        nat::{Obstacle, obstacle},
        predict::{MAPPINGS, predicted},
        turns::FRESH,
    },
    nat::Ports,
    stun::{Builder, Class, TransactionId},
    time::Time,
    transmit::{Socket, Transmit},
    wire::{
        Candidate, CandidateKind, Label, Message,
        message::{Candidates, Probe},
    },
};

/// Attempts before the search for one among all ports; they cost little.
pub(super) const ATTEMPTS: u32 = 3;
/// Between two of them.
pub(super) const PAUSE: Duration = Duration::from_millis(500);
/// Before the question is asked once more, and how often it is.
const RETRY: Duration = Duration::from_millis(400);
const QUESTIONS: u8 = 3;
/// For how long the peer's answer is waited for.
const ANSWER: Duration = Duration::from_secs(2);
/// Between two probes by each socket, and how many there are.
const ROUND: Duration = Duration::from_millis(150);
const ROUNDS: u8 = 10;
/// Looks afterwards whether what was found leads to the peer, at the most.
const LOOKS: u8 = 4;
/// A peer without a path, by way of servers, is there for so long after it has said something.
const HEARD: Duration = Duration::from_secs(15);

/// How far a prediction is.
#[derive(Debug)]
pub(super) struct Prediction {
    stage: Stage,
    /// Where the peer's mappings should be, if its NAT counts, too.
    theirs: Vec<SocketAddr>,
    /// Sockets: the first asks, the others are to be met.
    sockets: Vec<u16>,
}

#[derive(Debug)]
enum Stage {
    /// Asked this server, so often.
    Asked { id: TransactionId, server: SocketAddr, times: u8 },
    /// The peer was told, and is tried.
    Told { rounds: u8 },
}

impl Prediction {
    /// Nothing was sent to the peer's addresses yet: it may say which they are.
    fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Asked { .. }) || self.theirs.is_empty()
    }

    /// It has left mappings in the NATs.
    pub(super) fn has_sent(&self) -> bool {
        matches!(self.stage, Stage::Told { rounds } if rounds > 0)
    }

    pub(super) fn owns(&self, n: u16) -> bool {
        self.sockets.contains(&n)
    }

    pub(super) fn into_sockets(self) -> Vec<u16> {
        self.sockets
    }
}

impl Peer {
    /// How far each port of our NAT is from the one before, if that helps to reach this peer.
    pub(super) fn step(&self, cx: &Context<'_>) -> Option<i16> {
        match (obstacle(&cx.local.nat, &self.nat)?, cx.local.nat.ports) {
            (Obstacle::Ours | Obstacle::Both, Ports::Sequential(step)) => Some(step),
            _ => None,
        }
    }

    /// Whether a prediction is to be tried before (or in place of) a search.
    pub(super) fn may_predict(&self, cx: &Context<'_>) -> bool {
        // Where both NATs count, one of them begins.
        let is_ours = obstacle(&cx.local.nat, &self.nat) == Some(Obstacle::Ours) || self.begins(cx);
        let is_known = cx.out.stun_server.is_some() && self.target().is_some() && self.is_there(cx.now);
        is_ours && is_known && self.has_attempts(cx)
    }

    /// True if it is the peer that is to begin one, if any.
    pub(super) fn waits_for_prediction(&self, cx: &Context<'_>) -> bool {
        match obstacle(&cx.local.nat, &self.nat) {
            Some(Obstacle::Theirs) => true,
            Some(Obstacle::Both) => !self.begins(cx),
            Some(Obstacle::Ours) | None => false,
        }
    }

    /// Whether one more may help.
    fn has_attempts(&self, cx: &Context<'_>) -> bool {
        self.predictions < ATTEMPTS && self.step(cx).is_some()
    }

    /// Whether the peer, which has begun, is to be answered.
    fn can_answer(&self, cx: &Context<'_>) -> bool {
        self.has_attempts(cx) && !self.has_direct(cx.now)
    }

    /// It is its turn: answers what it has told while another prediction was under way, if it still waits for that.
    pub(super) fn answer_told(&mut self, cx: &mut Context<'_>) -> bool {
        let told = self.told_while_busy.take().filter(|(at, _)| cx.now.since(*at) < FRESH && self.can_answer(cx));
        let Some((at, theirs)) = told else { return false };
        if cx.out.turns.are_free() {
            self.predict(cx, theirs);
        } else {
            self.remember_told(cx, at, theirs);
        }
        true
    }

    /// What it has told is to be answered when it is its turn.
    fn remember_told(&mut self, cx: &mut Context<'_>, at: Time, theirs: Vec<SocketAddr>) {
        self.told_while_busy = Some((at, theirs));
        cx.out.turns.is_asked_by(self.key, at);
        // One that only waits ends at once.
        if let Some(key) = cx.out.turns.makes_way(cx.now) {
            cx.timers.set(Timer::Search(key), cx.now);
        }
    }

    /// True if it was there a moment ago. One that has gone answers nothing, and others wait meanwhile: there is one prediction at a time.
    fn is_there(&self, now: Time) -> bool {
        !self.is_lost(now) || now.since(self.last_heard) < HEARD
    }

    /// Begins: asks where the counter is.
    pub(super) fn predict(&mut self, cx: &mut Context<'_>, theirs: Vec<SocketAddr>) {
        let Some(server) = cx.out.stun_server else { return };
        cx.out.turns.begin(self.key);
        let is_both = obstacle(&cx.local.nat, &self.nat) == Some(Obstacle::Both);
        cx.out.turns.set_waiting(is_both && theirs.is_empty());
        self.predictions = self.predictions.saturating_add(1);
        let sockets = cx.out.open_sockets(1 + MAPPINGS);
        let stage = Stage::Asked { id: TransactionId::new(cx.rng.bytes()), server, times: 0 };
        self.prediction = Some(Prediction { stage, theirs, sockets });
        self.go_on_predicting(cx);
    }

    /// [`Timer::Search`], while a prediction is under way.
    pub(super) fn go_on_predicting(&mut self, cx: &mut Context<'_>) {
        if cx.out.turns.makes_way(cx.now) == Some(self.key) {
            self.predictions = self.predictions.saturating_sub(1);
            let told = self.prediction.as_ref().is_some_and(|p| matches!(p.stage, Stage::Told { .. }));
            self.stop_search(cx);
            if !told {
                return self.consider_search(cx);
            }
            // Its answer, which comes too late now, is tried for a while.
            return cx.timers.set_no_later(Timer::Search(self.key), cx.now + ANSWER);
        }
        let is_alone = obstacle(&cx.local.nat, &self.nat) == Some(Obstacle::Ours);
        let has_found = self.prediction.as_ref().is_some_and(|prediction| self.has_found(&prediction.sockets));
        let Some(prediction) = &mut self.prediction else { return };
        match &mut prediction.stage {
            Stage::Asked { id, server, times } if *times < QUESTIONS => {
                *times += 1;
                let (id, to) = (*id, *server);
                let question = Builder::message(Class::Request, id, &[]).unwrap_or_default();
                if let Some(first) = prediction.sockets.first() {
                    cx.out.transmits.push_back(Transmit { from: Socket::Extra(*first), to, payload: question });
                }
                cx.out.question = Some((id, self.key));
                cx.timers.set(Timer::Search(self.key), cx.now + RETRY);
            }
            // Who has not told its own addresses does nothing at ours, either.
            Stage::Told { rounds } if *rounds < ROUNDS && (is_alone || !prediction.theirs.is_empty()) => {
                *rounds += 1;
                self.try_sockets(cx);
                cx.timers.set(Timer::Search(self.key), cx.now + ROUND);
            }
            Stage::Told { rounds } if *rounds < ROUNDS + LOOKS && has_found => {
                *rounds += 1;
                cx.timers.set(Timer::Search(self.key), cx.now + LOOK);
            }
            _ => {
                self.stop_search(cx);
                self.consider_search(cx);
            }
        }
    }

    /// STUN has answered: the last mapping of our NAT is this one.
    pub(in crate::mesh) fn measured(&mut self, cx: &mut Context<'_>, id: TransactionId, mapped: SocketAddr) {
        let step = self.step(cx);
        let Some(prediction) = &mut self.prediction else { return };
        let (Stage::Asked { id: asked, .. }, Some(step)) = (&prediction.stage, step) else { return };
        if *asked != id || cx.out.turns.makes_way(cx.now) == Some(self.key) {
            return;
        }
        prediction.stage = Stage::Told { rounds: 0 };
        let kind = CandidateKind::Predicted;
        let candidates = predicted(mapped, step).map(|addr| Candidate { kind, addr }).collect();
        let said = Candidates { generation: cx.local.generation, candidates, nat: cx.local.nat };
        // Our mappings are made at once, before others take their ports.
        if obstacle(&cx.local.nat, &self.nat) == Some(Obstacle::Ours) || self.knows_theirs() {
            self.go_on_predicting(cx);
        } else {
            cx.timers.set(Timer::Search(self.key), cx.now + ANSWER);
        }
        self.say_anyhow(cx, &[Message::Candidates(said)]);
    }

    fn knows_theirs(&self) -> bool {
        self.prediction.as_ref().is_some_and(|prediction| !prediction.theirs.is_empty())
    }

    /// The peer tells where its next mappings should be.
    pub(super) fn hear_predicted(&mut self, cx: &mut Context<'_>, addrs: Vec<SocketAddr>) {
        if obstacle(&cx.local.nat, &self.nat) != Some(Obstacle::Both) {
            let kind = CandidateKind::Predicted;
            let candidates: Vec<Candidate> = addrs.into_iter().map(|addr| Candidate { kind, addr }).collect();
            return self.punch(cx, &candidates);
        }
        // Each is met by a mapping of our own.
        let theirs: Vec<_> = addrs.into_iter().filter(|addr| self.is_seen_at(addr.ip())).collect();
        if theirs.is_empty() {
            return;
        }
        // Else an answer comes too late: its mappings are bound to others than those that would be made now.
        let can_answer = !self.begins(cx) && self.can_answer(cx);
        match &mut self.prediction {
            Some(prediction) if prediction.is_open() => {
                cx.out.turns.set_waiting(false);
                prediction.theirs = theirs;
                if let Stage::Told { .. } = prediction.stage {
                    self.go_on_predicting(cx);
                }
            }
            _ if !can_answer => {}
            None if cx.out.turns.are_free() => self.predict(cx, theirs),
            _ => self.remember_told(cx, cx.now, theirs),
        }
    }

    fn try_sockets(&mut self, cx: &mut Context<'_>) {
        let mapped = self.target();
        let Some(prediction) = &self.prediction else { return };
        let theirs = &prediction.theirs;
        let ways: Vec<Way> = prediction
            .sockets
            .iter()
            .skip(1)
            .enumerate()
            .filter_map(|(i, n)| {
                let remote = if theirs.is_empty() { mapped } else { theirs.get(i).copied() };
                remote.map(|remote| Way { socket: Socket::Extra(*n), remote, label: Label::ZERO })
            })
            .collect();
        self.scatter(cx, &ways);
    }

    /// Probes ways that are none before something comes by them.
    pub(super) fn scatter(&mut self, cx: &mut Context<'_>, ways: &[Way]) {
        // What answers is probed for itself; so these need not be told apart.
        let probe = Message::Probe(Probe { transaction: cx.rng.u64(), flags: 0 });
        for way in ways {
            for payload in self.seal(cx.now, Label::ZERO, std::slice::from_ref(&probe)) {
                cx.out.transmits.push_back(Transmit { from: way.socket, to: way.remote, payload });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mesh::{Mesh, Settings, lend},
        nat::{Filtering, Mapping, NatSummary},
        policy::Policy,
        rng::Rng,
        trust::{NetworkKey, PublicKey, SecretKey},
        wire::Name,
    };

    const NOW: Time = Time::from_nanos(1_000_000_000);

    fn addrs(ports: std::ops::Range<u16>) -> Vec<SocketAddr> {
        ports.map(|port| ([192, 0, 2, 1], port).into()).collect()
    }

    /// A host behind a NAT that counts, and two peers behind such NATs: one that begins, and one that it is the host's part to ask.
    fn host() -> (Mesh, PublicKey, PublicKey) {
        let mut rng = Rng::from_seed([5; 32]);
        let mut secrets: [SecretKey; 3] = std::array::from_fn(|_| SecretKey::generate(&mut rng));
        secrets.sort_by_key(SecretKey::public);
        let [asks, own, asked] = secrets;
        let network = NetworkKey::generate(&mut rng);
        let settings = Settings {
            name: Name::default(),
            servers: Vec::new(),
            access: network.access(),
            member: network.member(),
            policy: Policy::Network,
            vnis: std::collections::BTreeSet::new(),
            pulse: Settings::PULSE,
            search: true,
            peers: 2,
        };
        let mut mesh = Mesh::new(settings, own, [6; 32]);
        mesh.local.nat = NatSummary {
            mapping: Mapping::AddressAndPortDependent,
            filtering: Filtering::AddressAndPortDependent,
            ports: Ports::Sequential(1),
            ..NatSummary::default()
        };
        mesh.out.stun_server = Some(([192, 0, 2, 9], 4789).into());
        let peers = [asks, asked].map(|secret| secret.public());
        for key in peers {
            let mut peer = Peer::new(key, NOW);
            peer.nat = mesh.local.nat;
            peer.candidates = vec![Candidate { kind: CandidateKind::Mapped, addr: addrs(1..2)[0] }];
            peer.note_seen(NOW, addrs(1..2)[0].ip());
            mesh.peers.insert(key, peer);
        }
        (mesh, peers[0], peers[1])
    }

    fn with<R>(mesh: &mut Mesh, key: PublicKey, act: impl FnOnce(&mut Peer, &mut Context<'_>) -> R) -> R {
        act(mesh.peers.get_mut(&key).expect("a peer"), lend!(mesh, NOW))
    }

    fn theirs(mesh: &mut Mesh, key: PublicKey) -> Option<Vec<SocketAddr>> {
        with(mesh, key, |peer, _| peer.prediction.as_ref().map(|prediction| prediction.theirs.clone()))
    }

    /// Each address that is tried is a mapping of our NAT.
    #[test]
    fn who_tells_addresses_all_the_time_has_few_of_them_tried() {
        let (mut mesh, asks, _) = host();
        with(&mut mesh, asks, |peer, cx| peer.hear_predicted(cx, addrs(2000..2014)));
        let (id, _) = mesh.out.question.expect("a question of STUN");
        with(&mut mesh, asks, |peer, cx| peer.measured(cx, id, ([192, 0, 2, 7], 5000).into()));
        for n in 0..50 {
            with(&mut mesh, asks, |peer, cx| peer.hear_predicted(cx, addrs(3000 + n..3014 + n)));
        }
        assert_eq!(theirs(&mut mesh, asks), Some(addrs(2000..2014)));
        // The last ones have their turn afterwards.
        let rounds = (0..).take_while(|_| {
            with(&mut mesh, asks, |peer, cx| peer.go_on_predicting(cx));
            theirs(&mut mesh, asks).is_some()
        });
        assert!(rounds.count() < ROUNDS.into());
        assert!(mesh.out.turns.is_called(asks));
        assert!(with(&mut mesh, asks, |peer, cx| peer.answer_told(cx)));
        assert_eq!(theirs(&mut mesh, asks), Some(addrs(3049..3063)));
    }

    #[test]
    fn a_prediction_that_only_waits_makes_way_for_who_waits_for_us() {
        let (mut mesh, asks, asked) = host();
        with(&mut mesh, asked, |peer, cx| peer.predict(cx, Vec::new()));
        let (id, _) = mesh.out.question.expect("a question of STUN");
        with(&mut mesh, asked, |peer, cx| peer.measured(cx, id, ([192, 0, 2, 7], 5000).into()));
        with(&mut mesh, asks, |peer, cx| peer.hear_predicted(cx, addrs(2000..2014)));
        assert_eq!(mesh.timers.at(Timer::Search(asked)), Some(NOW));
        with(&mut mesh, asked, |peer, cx| peer.go_on_predicting(cx));
        assert_eq!((theirs(&mut mesh, asked), mesh.timers.at(Timer::Search(asks))), (None, Some(NOW)));
        let attempts = with(&mut mesh, asked, |peer, _| peer.predictions);
        assert_eq!((attempts, mesh.out.searched), (0, None), "it has cost nothing");
        assert!(with(&mut mesh, asks, |peer, cx| peer.answer_told(cx)));
        // What the other one answers now is for mappings that are none.
        with(&mut mesh, asked, |peer, cx| peer.hear_predicted(cx, addrs(4000..4014)));
        assert_eq!(theirs(&mut mesh, asks), Some(addrs(2000..2014)));
        let told = with(&mut mesh, asked, |peer, _| peer.told_while_busy.is_some());
        assert!(!told && theirs(&mut mesh, asked).is_none());
    }
}
