//! What a peer and we say to each other.

use std::{collections::BTreeSet, time::Duration};

use wavnet_common::addr::Vni;

use super::{Peer, Via};
use crate::{
    bucket::Rate,
    mesh::{
        context::Context,
        output::{Command, Event, Way},
        path::Said,
        timer::Timer,
    },
    wire::{
        Candidate, CandidateKind, Message, Messages,
        message::{Candidates, Invite, PeerHello},
    },
};

/// Before PEER_HELLO is said again; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// PEER_HELLOs that one peer is answered: they may be twenty times as long as its own.
const ANSWERS: Rate = Rate { per_second: 4, burst: 8 };

impl Peer {
    /// A server tells us to reach out for it, and where. `relay`: where that server relays, and our label.
    pub(in crate::mesh) fn invited(&mut self, cx: &mut Context<'_>, link: usize, relay: Option<Way>, invite: Invite) {
        if let Some(way) = relay {
            self.relayed_by(cx, way);
        }
        let mapped = Candidate { kind: CandidateKind::Mapped, addr: invite.mapped };
        self.note_seen(cx.now, invite.mapped.ip());
        let candidates: Vec<Candidate> = std::iter::once(mapped).chain(invite.candidates).collect();
        // Once the session stands the peer's own word counts, and not the server's.
        if !self.is_connected() {
            self.nat = invite.nat;
            self.candidates.clone_from(&candidates);
        }
        self.asked_for(cx, link);
        self.punch(cx, &candidates);
        self.introduced(cx);
        if self.is_connected() {
            self.consider_search(cx);
        }
    }

    /// [`Timer::Tell`]: says who we are, until the peer has said that it knows.
    pub(in crate::mesh) fn tell_again(&mut self, cx: &mut Context<'_>) {
        if self.is_connected() && self.told != cx.local.generation {
            self.tell(cx);
            self.ask_unwatched(cx);
        }
    }

    /// What we say of ourselves has changed.
    pub(in crate::mesh) fn tell_anew(&mut self, cx: &mut Context<'_>) {
        self.tells = 0;
        if self.is_connected() {
            self.tell(cx);
        }
    }

    /// Says who we are.
    pub(in crate::mesh) fn tell(&mut self, cx: &mut Context<'_>) {
        let local = cx.local;
        let answer = self.told != local.generation;
        let hello = PeerHello {
            version: 1,
            stages: 0,
            generation: local.generation,
            seen: self.generation,
            answer,
            name: local.settings.name.clone(),
            vnis: local.settings.vnis.clone(),
            candidates: local.candidates(),
            nat: local.nat,
        };
        let pause = FIRST_PAUSE.saturating_mul(1 << self.tells.min(10)).min(LONGEST_PAUSE);
        self.say_anyhow(cx, &[Message::PeerHello(hello)]);
        if answer {
            self.tells = self.tells.saturating_add(1);
            cx.timers.set(Timer::Tell(self.key), cx.now + pause);
        }
    }

    /// What it says, decrypted. False: some of it cannot be read.
    pub(in crate::mesh) fn hear(&mut self, cx: &mut Context<'_>, via: Via, said: Said, plaintext: &[u8]) -> bool {
        for message in Messages::new(plaintext) {
            let Ok(message) = message else { return false };
            match (message, via) {
                // What it said of itself before the session of now may have been another one, in its place.
                (Message::PeerHello(hello), _) if self.is_of_now(said) => self.hear_hello(cx, hello),
                (Message::Candidates(candidates), _) if self.is_of_now(said) => self.hear_candidates(cx, candidates),
                (Message::Probe(probe), Via::Way(way)) => self.hear_probe(cx, way, said, probe),
                (Message::ProbeAnswer(answer), Via::Way(way)) => self.hear_answer(cx, way, said, answer),
                (Message::Selected(_), Via::Way(way)) => self.hear_selected(way, said),
                (Message::Marker { transaction }, Via::Way(way)) => self.hear_marker(cx, way, transaction),
                (Message::MarkerSeen { transaction }, _) => self.hear_marker_seen(cx, transaction),
                (Message::Search(search), _) => self.hear_search(cx, search),
                (Message::Bye { .. }, _) if self.is_of_now(said) => self.left = true,
                _ => {}
            }
        }
        true
    }

    fn hear_hello(&mut self, cx: &mut Context<'_>, hello: PeerHello) {
        self.told = self.told.max(hello.seen.min(cx.local.generation));
        if hello.generation > self.generation {
            self.generation = hello.generation;
            (self.vnis, self.nat) = (hello.vnis, hello.nat);
            let is_first = self.name.replace(hello.name).is_none();
            if let Some(name) = self.name.as_ref().filter(|_| is_first) {
                cx.out.event(Event::Connected { peer: self.key, name: name.to_string() });
            }
            self.hear_whereabouts(cx, hello.generation, hello.candidates);
            self.classify(cx);
            self.consider_search(cx);
        }
        // Who has no answer asks again.
        if hello.answer && self.answers.take(cx.now, ANSWERS, 1) {
            self.tell(cx);
        }
        self.admit(cx);
        self.reselect(cx);
    }

    /// Where it may be reached. If that is no longer where it was, no path is what it was.
    fn hear_whereabouts(&mut self, cx: &mut Context<'_>, generation: u32, candidates: Vec<Candidate>) {
        if generation < self.whereabouts {
            return;
        }
        self.whereabouts = generation;
        let before = std::mem::replace(&mut self.candidates, candidates);
        let has_moved = before.iter().any(|c| self.candidates.iter().all(|now| now.addr != c.addr));
        if has_moved && self.name.is_some() {
            self.doubt_all(cx);
        }
        let candidates = self.candidates.clone();
        self.punch(cx, &candidates);
        self.seek_servers(cx);
    }

    /// Puts in force which VNIs it may join.
    pub(in crate::mesh) fn admit(&mut self, cx: &mut Context<'_>) {
        if self.name.is_none() {
            return;
        }
        let settings = &cx.local.settings;
        let ours = self.vnis.intersection(&settings.vnis);
        let vnis: BTreeSet<Vni> = ours.filter(|vni| settings.policy.allows(&self.key, **vni)).copied().collect();
        if self.admitted.as_ref() != Some(&vnis) {
            cx.out.command(Command::Admit { peer: self.key, vnis: vnis.clone() });
            let first = self.admitted.replace(vnis).is_none();
            if first {
                self.add_proven(cx);
            }
        }
    }

    fn hear_candidates(&mut self, cx: &mut Context<'_>, said: Candidates) {
        if said.generation < self.generation {
            return;
        }
        if self.nat != said.nat {
            self.nat = said.nat;
            self.classify(cx);
            self.consider_search(cx);
        }
        let is_predicted = |c: &&Candidate| c.kind == CandidateKind::Predicted;
        let predicted: Vec<_> = said.candidates.iter().filter(is_predicted).map(|c| c.addr).collect();
        // Those that are said so are for now, and all that is said.
        if predicted.is_empty() {
            self.hear_whereabouts(cx, said.generation, said.candidates);
            self.was_proposed(cx);
        } else if cx.local.settings.search {
            self.hear_predicted(cx, predicted);
        }
    }

    /// Has both sides try all addresses once more.
    pub(super) fn propose(&mut self, cx: &mut Context<'_>) {
        let local = cx.local;
        let said = Candidates { generation: local.generation, candidates: local.candidates(), nat: local.nat };
        self.say_anyhow(cx, &[Message::Candidates(said)]);
    }
}
