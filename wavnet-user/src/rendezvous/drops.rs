//! What is dropped, or is of no use, beside the core, which tells of its own drops: the log says of each kind that it happens, once.

use wavnet_common::abi::relay::RelayCount;

use super::stats::{Stats, get};

/// How often each kind has happened, in words.
pub(super) fn kinds(stats: &Stats, kernel: &[(RelayCount, u64)]) -> impl Iterator<Item = (&'static str, u64)> {
    let threads = [
        ("STUN that is no request, or a wrong one", get(&stats.stun_ignored)),
        ("requests of STUN whose source has had as many answers as it may", get(&stats.stun_too_fast)),
        ("datagrams that found the server's queue full", get(&stats.queue_full)),
        ("datagrams longer than any that hosts send", get(&stats.too_long)),
    ];
    threads.into_iter().chain(kernel.iter().filter_map(|(what, n)| Some((words(*what)?, *n))))
}

/// `None`: that is as it should be, or goes on to the server.
fn words(what: RelayCount) -> Option<&'static str> {
    match what {
        RelayCount::UnknownLabel => Some("relayed datagrams whose label is nobody's"),
        RelayCount::OtherSender => Some("relayed datagrams whose label is another sender's"),
        RelayCount::TooFast => Some("relayed datagrams of a sender that sends more than it may"),
        RelayCount::TooLong => Some("relayed datagrams longer than the link to their receiver takes"),
        RelayCount::TtlExpired => Some("relayed datagrams that have been through too many hands"),
        RelayCount::Malformed => Some("datagrams whose headers contradict each other"),
        RelayCount::UnknownPayload => Some("datagrams that are nothing that wavnet knows"),
        RelayCount::StunTooFast => {
            Some("requests of STUN, at the interface, whose source has had as many answers as it may")
        }
        RelayCount::RelayedByXdp
        | RelayCount::BytesByXdp
        | RelayCount::RelayedByTc
        | RelayCount::BytesByTc
        | RelayCount::ForServer
        | RelayCount::LeftToServer
        | RelayCount::StunAnswered => None,
    }
}
