//! Where a server can be asked, and from where it can answer.

use std::net::SocketAddr;

use super::{
    StunServer,
    probe::{is_usable, plain},
};

/// The four addresses of RFC 5780's tests, as far as a server has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Targets {
    /// Where it was asked first.
    pub(super) main: SocketAddr,
    /// The same address with the other port.
    pub(super) port: Option<SocketAddr>,
    /// The other address with the first port.
    pub(super) address: Option<SocketAddr>,
    /// The other address with the other port.
    pub(super) both: Option<SocketAddr>,
    /// The server has named its other address itself, so it should be able to answer from there.
    pub(super) named: Option<SocketAddr>,
}

impl Targets {
    /// Of a server that named this OTHER-ADDRESS. What cannot be one is ignored.
    pub(super) fn new(server: &StunServer, other: Option<SocketAddr>) -> Targets {
        let main = plain(server.address);
        let mut targets = Targets { main, port: None, address: None, both: None, named: None };
        if let Some(other) = other.map(plain).filter(|o| is_usable(*o, main)) {
            if other.ip() != main.ip() && other.port() != main.port() {
                targets.port = Some(SocketAddr::new(main.ip(), other.port()));
                targets.address = Some(SocketAddr::new(other.ip(), main.port()));
                targets.both = Some(other);
                targets.named = Some(other);
            } else {
                targets.add(other);
            }
        }
        for known in server.others.iter().map(|k| plain(*k)).filter(|k| is_usable(*k, main)) {
            targets.add(known);
        }
        targets
    }

    fn add(&mut self, known: SocketAddr) {
        let place = match (known.ip() == self.main.ip(), known.port() == self.main.port()) {
            (true, true) => return,
            (true, false) => &mut self.port,
            (false, true) => &mut self.address,
            (false, false) => &mut self.both,
        };
        place.get_or_insert(known);
    }

    /// How much can be learned with it: 2 all, 1 something about ports or mapping, 0 the mapped address.
    pub(super) fn worth(&self) -> u8 {
        match (self.named, self.port, self.address, self.both) {
            (Some(_), ..) => 2,
            (None, None, None, None) => 0,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn targets(other: Option<&str>, others: &[&str]) -> Targets {
        let server = StunServer { address: at("192.0.2.1:3478"), others: others.iter().map(|text| at(text)).collect() };
        Targets::new(&server, other.map(at))
    }

    #[test]
    fn other_address_stands_for_three() {
        let full = targets(Some("192.0.2.2:3479"), &[]);
        assert_eq!(full.port, Some(at("192.0.2.1:3479")));
        assert_eq!(full.address, Some(at("192.0.2.2:3478")));
        assert_eq!(full.both, Some(at("192.0.2.2:3479")));
        assert_eq!(full.worth(), 2);
        // What the server says comes before what is known otherwise.
        assert_eq!(targets(Some("192.0.2.2:3479"), &["192.0.2.1:9", "192.0.2.3:3478", "192.0.2.3:1"]), full);
    }

    #[test]
    fn half_of_another_address_is_what_it_is() {
        let port = targets(Some("192.0.2.1:3479"), &[]);
        assert_eq!((port.port, port.both, port.worth()), (Some(at("192.0.2.1:3479")), None, 1));
        assert_eq!(targets(None, &["192.0.2.1:3479"]), port);
        let address = targets(Some("192.0.2.2:3478"), &[]);
        assert_eq!((address.address, address.port, address.worth()), (Some(at("192.0.2.2:3478")), None, 1));
        assert_eq!(targets(None, &["192.0.2.1:3478"]).worth(), 0);
    }

    #[test]
    fn nobody_is_sent_to_where_no_server_can_be() {
        for lie in [
            "192.0.2.2:0",
            "0.0.0.0:3479",
            "127.0.0.1:3479",
            "224.0.0.1:3479",
            "255.255.255.255:3479",
            "[2001:db8::1]:3479",
            "[::1]:3479",
        ] {
            assert_eq!(targets(Some(lie), &[lie]), targets(None, &[]), "{lie}");
        }
        let home = StunServer { address: at("127.0.0.1:3478"), others: Vec::new() };
        assert_eq!(Targets::new(&home, Some(at("127.0.0.2:3479"))).worth(), 2);
    }
}
