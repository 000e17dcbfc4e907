//! Any message that can be said.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use proptest::{collection::vec, prelude::*};
use wavnet_common::addr::Vni;
use wavnet_proto::{
    trust::PublicKey,
    wire::{
        Candidate, CandidateKind, Label, Message, Name, NatSummary, check_address,
        message::{
            ByeReason, Candidates, Connect, Entry, Forward, HostState, Invite, Page, PeerHello, Probe, ProbeAnswer,
            Refused, RefusedCode, Register, Registered, Search, Selected, Sync,
        },
    },
};

pub(crate) fn key() -> impl Strategy<Value = PublicKey> {
    any::<[u8; 32]>().prop_filter_map("no key", |mut bytes| {
        bytes[31] &= 0x7f;
        PublicKey::new(bytes).ok()
    })
}

pub(crate) fn address() -> impl Strategy<Value = SocketAddr> {
    let addr = (any::<IpAddr>(), 1..=u16::MAX).prop_map(SocketAddr::from);
    addr.prop_filter("nobody's", |addr| check_address(*addr).is_ok())
}

pub(crate) fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let kind = (1..=4u8).prop_map(|n| CandidateKind::new(n).unwrap());
    vec((kind, address()).prop_map(|(kind, addr)| Candidate { kind, addr }), 0..=16)
}

pub(crate) fn name() -> impl Strategy<Value = Name> {
    "[a-zA-Z0-9äß愛 ._-]{0,20}".prop_map(|name| Name::new(&name).unwrap())
}

pub(crate) fn vnis() -> impl Strategy<Value = BTreeSet<Vni>> {
    let vni = prop_oneof![1..300u32, 1..=Vni::MAX, Just(Vni::MAX)].prop_map(|n| Vni::new(n).unwrap());
    prop::collection::btree_set(vni, 0..=256)
}

fn nat() -> impl Strategy<Value = NatSummary> {
    any::<[u8; 8]>().prop_map(NatSummary::decode)
}

fn label() -> impl Strategy<Value = Label> {
    (0..1u32 << 24).prop_map(|n| Label::new(n).unwrap())
}

fn entry() -> impl Strategy<Value = Entry> {
    (key(), any::<u8>(), name()).prop_map(|(key, state, name)| Entry { key, state: HostState(state), name })
}

fn forward() -> impl Strategy<Value = Forward> {
    (key(), vec(any::<u8>(), 0..=1148)).prop_map(|(peer, datagram)| Forward { peer, datagram })
}

fn to_server() -> impl Strategy<Value = Message> {
    prop_oneof![
        (any::<(u32, u8)>(), nat(), name(), candidates(), vnis()).prop_map(
            |((request, flags), nat, name, candidates, vnis)| {
                Message::Register(Register { request, flags, nat, name, candidates, vnis })
            }
        ),
        any::<u32>().prop_map(|request| Message::Refresh { request }),
        (any::<(u32, u64)>(), prop::option::of(key())).prop_map(|((request, since), after)| Message::Sync(Sync {
            request,
            since,
            after
        })),
        (any::<u32>(), key(), candidates()).prop_map(|(request, peer, candidates)| Message::Connect(Connect {
            request,
            peer,
            candidates
        })),
        forward().prop_map(Message::Forward),
        any::<u32>().prop_map(|token| Message::Checked { token }),
    ]
}

fn from_server() -> impl Strategy<Value = Message> {
    prop_oneof![
        (any::<(u32, u16, u64, bool)>(), address(), vec(address(), 0..=8)).prop_map(
            |((request, lease, version, relay), mapped, stun)| {
                Message::Registered(Registered { request, lease, mapped, version, stun, relay })
            }
        ),
        (any::<(u32, u64, bool)>(), vec(entry(), 0..9)).prop_map(|((request, version, more), entries)| {
            Message::Page(Page { request, version, more, entries })
        }),
        any::<u64>().prop_map(|version| Message::Changed { version }),
        (key(), label(), any::<u8>(), nat(), address(), candidates()).prop_map(
            |(peer, label, flags, nat, mapped, candidates)| {
                Message::Invite(Invite { peer, label, flags, nat, mapped, candidates })
            }
        ),
        forward().prop_map(Message::Forwarded),
        any::<(u32, u8)>().prop_map(|(request, code)| Message::Refused(Refused { request, code: RefusedCode(code) })),
        any::<u8>().prop_map(|reason| Message::Bye { reason: ByeReason(reason) }),
        any::<u32>().prop_map(|token| Message::Check { token }),
    ]
}

fn between_agents() -> impl Strategy<Value = Message> {
    prop_oneof![
        (any::<(u8, u8, u32, u32, bool)>(), name(), vnis(), candidates(), nat()).prop_map(
            |((version, stages, generation, seen, answer), name, vnis, candidates, nat)| {
                Message::PeerHello(PeerHello { version, stages, generation, seen, answer, name, vnis, candidates, nat })
            }
        ),
        any::<(u64, u8)>().prop_map(|(transaction, phase)| Message::Search(Search { transaction, phase })),
        any::<(u64, u8)>().prop_map(|(transaction, flags)| Message::Probe(Probe { transaction, flags })),
        (any::<(u64, u8)>(), address()).prop_map(|((transaction, flags), from)| Message::ProbeAnswer(ProbeAnswer {
            transaction,
            flags,
            from
        })),
        (any::<u32>(), candidates(), nat()).prop_map(|(generation, candidates, nat)| {
            Message::Candidates(Candidates { generation, candidates, nat })
        }),
        any::<(u64, u8)>().prop_map(|(transaction, flags)| Message::Selected(Selected { transaction, flags })),
        any::<u64>().prop_map(|transaction| Message::Marker { transaction }),
        any::<u64>().prop_map(|transaction| Message::MarkerSeen { transaction }),
    ]
}

pub(crate) fn message() -> impl Strategy<Value = Message> {
    prop_oneof![to_server(), from_server(), between_agents()]
}
