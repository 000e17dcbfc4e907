//! Requests as an operator reads them, in the log.

use std::fmt;

use wavnet_common::addr::Vni;

use super::{
    FdbFilter, Request,
    model::{PlaceInfo, PortMode, VlanMode},
};

/// Longest piece of a client's text in a log, characters.
const TEXT: usize = 64;
/// More VNIs than this are counted rather than listed.
const VNIS: usize = 8;

/// Text of a client, fit for one line of a log: what is not printable is escaped, and what is long is cut.
pub(crate) fn brief(text: &str, longest: usize) -> String {
    let mut shown: String = text.chars().take(longest).flat_map(char::escape_debug).collect();
    if text.chars().nth(longest).is_some() {
        shown.push('…');
    }
    shown
}

/// A word of a client.
struct Word<'a>(&'a str);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&brief(self.0, TEXT))
    }
}

/// ` --vni 1,2`, or nothing for none.
struct Vnis<'a>(&'a [Vni]);

impl fmt::Display for Vnis<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, vni) in self.0.iter().take(VNIS).enumerate() {
            write!(f, "{}{vni}", if i == 0 { " --vni " } else { "," })?;
        }
        match self.0.len().saturating_sub(VNIS) {
            0 => Ok(()),
            n => write!(f, " and {n} more"),
        }
    }
}

/// As the command that makes the request.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Fdb(filter) => filter.fmt(f),
            Request::PortAdd { interface, vni, vlan, mode } => {
                write!(f, "port add {} --vni {vni}", Word(interface))?;
                option(f, "vlan", (*vlan != VlanMode::default()).then(|| vlan.as_str()).as_ref())?;
                option(f, "mode", (*mode != PortMode::default()).then(|| mode.as_str()).as_ref())
            }
            Request::PortRemove { interface } => write!(f, "port remove {}", Word(interface)),
            Request::PeerAdd { address, udp_port, vnis } => {
                write!(f, "peer add {address}{}", Vnis(vnis))?;
                option(f, "udp-port", udp_port.as_ref())
            }
            Request::PeerRemove { address, vnis } => write!(f, "peer remove {address}{}", Vnis(vnis)),
            Request::FdbAdd { vni, mac, place } => {
                write!(f, "fdb add --vni {vni} --mac {mac}")?;
                match place {
                    PlaceInfo::Port(name) => write!(f, " --port {}", Word(name)),
                    PlaceInfo::Peer(address) => write!(f, " --peer {address}"),
                    PlaceInfo::Host(key) => write!(f, " --host {}", Word(key)),
                }
            }
            Request::FdbRemove { vni, mac } => write!(f, "fdb remove --vni {vni} --mac {mac}"),
            Request::Watch => f.write_str("fdb --watch"),
            Request::Detach => f.write_str("down"),
            Request::Rendezvous => f.write_str("rendezvous status"),
            Request::Status | Request::Peers | Request::Mesh | Request::Ports | Request::Drops | Request::Reload => {
                f.write_str(self.name())
            }
        }
    }
}

impl fmt::Display for FdbFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fdb")?;
        option(f, "vni", self.vni.as_ref())?;
        option(f, "mac", self.mac.as_ref())?;
        option(f, "port", self.port.as_deref().map(Word).as_ref())?;
        option(f, "peer", self.peer.as_ref())?;
        option(f, "limit", self.limit.as_ref())
    }
}

fn option<T: fmt::Display>(f: &mut fmt::Formatter<'_>, name: &str, value: Option<&T>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, " --{name} {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::protocol::RequestLine;

    fn request(members: &str) -> Request {
        RequestLine::parse(format!("{{\"v\": 1, \"request\": {members}}}").as_bytes()).unwrap()
    }

    #[test]
    fn requests_read_like_commands() {
        for (members, words) in [
            ("\"status\"", "status"),
            ("\"detach\"", "down"),
            ("\"port_add\", \"interface\": \"tap0\", \"vni\": 100", "port add tap0 --vni 100"),
            (
                "\"port_add\", \"interface\": \"tap0\", \"vni\": 100, \"vlan\": \"discard\", \"mode\": \"packet-rate\"",
                "port add tap0 --vni 100 --vlan discard --mode packet-rate",
            ),
            (
                "\"peer_add\", \"address\": \"192.0.2.2\", \"vnis\": [1, 2], \"udp_port\": 8472",
                "peer add 192.0.2.2 --vni 1,2 --udp-port 8472",
            ),
            ("\"peer_remove\", \"address\": \"192.0.2.2\"", "peer remove 192.0.2.2"),
            (
                "\"fdb_add\", \"vni\": 1, \"mac\": \"02:00:00:00:00:01\", \"place\": {\"port\": \"tap0\"}",
                "fdb add --vni 1 --mac 02:00:00:00:00:01 --port tap0",
            ),
            ("\"fdb\", \"vni\": 1, \"port\": \"tap0\", \"limit\": 3", "fdb --vni 1 --port tap0 --limit 3"),
        ] {
            let shown = request(members).to_string();
            assert_eq!(shown, words);
            let line = ["wavnet"].into_iter().chain(words.split(' '));
            assert!(crate::cli::parses(line), "{words} is no command");
        }
    }

    #[test]
    fn what_a_client_sends_does_not_flood_the_log() {
        let long = "x\n".repeat(10_000);
        let name = serde_json::to_string(&long).unwrap();
        let shown = request(&format!("\"port_remove\", \"interface\": {name}")).to_string();
        assert!(shown.chars().count() < 200 && !shown.contains('\n') && shown.ends_with('…'), "{shown}");
        let vnis: Vec<String> = (1..5000).map(|n| n.to_string()).collect();
        let shown = request(&format!("\"peer_add\", \"address\": \"192.0.2.2\", \"vnis\": [{}]", vnis.join(",")));
        assert_eq!(shown.to_string(), "peer add 192.0.2.2 --vni 1,2,3,4,5,6,7,8 and 4991 more");
    }
}
