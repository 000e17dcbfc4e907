//! Which addresses a NAT that counts gives next.

use std::net::SocketAddr;

/// Mappings that are made towards the peer.
pub(super) const MAPPINGS: usize = 8;
/// Addresses that the peer is told: some more, as others' mappings may come in between.
const TOLD: i32 = 14;
/// Where NATs that count begin anew, as a rule.
const LOWEST: i32 = 1024;

/// The addresses after this one. From the last port on it goes on from the lowest.
pub(super) fn predicted(last: SocketAddr, step: i16) -> impl Iterator<Item = SocketAddr> {
    let ports = i32::from(u16::MAX) + 1 - LOWEST;
    let at = move |n: i32| (i32::from(last.port()) - LOWEST + n * i32::from(step)).rem_euclid(ports) + LOWEST;
    (1..=TOLD).map(move |n| SocketAddr::new(last.ip(), at(n) as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(last: u16, step: i16) -> Vec<u16> {
        predicted(SocketAddr::from(([192, 0, 2, 1], last)), step).map(|addr| addr.port()).take(3).collect()
    }

    #[test]
    fn they_are_steps_further_and_come_round() {
        assert_eq!(ports(5000, 1), [5001, 5002, 5003]);
        assert_eq!(ports(5000, -2), [4998, 4996, 4994]);
        assert_eq!(ports(65534, 1), [65535, 1024, 1025]);
        assert_eq!(ports(1025, -1), [1024, 65535, 65534]);
        // Whatever is said of a NAT, a port is one.
        for step in [i16::MIN, i16::MAX] {
            assert!(predicted(SocketAddr::from(([192, 0, 2, 1], 80)), step).all(|addr| addr.port() >= 1024));
        }
    }
}
