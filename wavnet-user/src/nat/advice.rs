//! What to do about what went wrong.

use std::io;

use wavnet_proto::nat::Note;

use super::{Unresolved, Unsent};
use crate::api::model::NatNote;

fn told(code: &str, message: String, help: &str) -> NatNote {
    NatNote { code: code.to_owned(), message, help: help.to_owned() }
}

/// A classifier's note with a code for programs and advice for people.
pub(super) fn note(note: &Note) -> NatNote {
    let (code, help) = match note {
        Note::NoServer => ("no_server", "name a server that has one"),
        Note::Silent(_) => (
            "silent",
            "check its address and port (`wavnet rendezvous` listens at 4789, other STUN servers mostly at 3478), that it runs, and that firewalls let UDP through both ways",
        ),
        Note::Refused { .. } => ("refused", "it is no STUN server that serves everybody: name another one"),
        Note::NoOtherAddress(_) => (
            "no_other_address",
            "filtering and hairpinning behind it cannot be told by it: give `wavnet rendezvous` a second address and port (other_address, other_port), or name a server with two addresses, which comes first then",
        ),
        Note::OtherSilent { .. } => (
            "other_silent",
            "the server's second address is configured wrong, or a firewall closes it: open both ports of both addresses there, or name another server",
        ),
        Note::ChangeIgnored(_) => (
            "change_ignored",
            "who is let in cannot be told by it: name a server that does it, such as `wavnet rendezvous` with other_address and other_port",
        ),
        Note::NoSocket => ("no_socket", "let this have more open files (`ulimit -n`), and run it again"),
        Note::Moved => (
            "moved",
            "run this again; if it stays so, paths of this host break whenever the mapping moves: see whether the NAT restarts or has too many flows, or forward a UDP port to this host",
        ),
        Note::Vanished(_) => {
            ("vanished", "what was found before that holds; run this again for the rest, or name another server")
        }
        Note::Rewritten => {
            ("rewritten", "switch off the NAT's application level gateways (ALG, often called SIP helper)")
        }
        Note::NoResponsePort(_) => ("no_response_port", "name a server that does, such as `wavnet rendezvous`"),
        Note::NotIdle => (
            "not_idle",
            "run this again; if it stays so, reckon with 30 seconds, which is the least that many NATs have",
        ),
    };
    told(code, note.to_string(), help)
}

/// The note about a datagram that the system would not send.
pub(super) fn unsent(Unsent { to, error }: &Unsent) -> NatNote {
    let help = match error.kind() {
        io::ErrorKind::PermissionDenied => "a firewall of this host forbids it: let UDP out, to any port",
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            "give this host a route there: `ip route get ADDRESS` shows what it has"
        }
        _ => "run this again",
    };
    told("unsent", format!("nothing can be sent to {to}: {error}"), help)
}

/// The note about a name that does not resolve.
pub(super) fn unresolved(Unresolved { name, error }: &Unresolved) -> NatNote {
    let message = format!("the name {} does not resolve: {error}", name.host);
    told("unresolved", message, "correct the name, or give the server's address")
}
