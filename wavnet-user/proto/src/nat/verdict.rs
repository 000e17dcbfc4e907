//! What follows from where the main socket seemed to be.

use std::net::SocketAddr;

use super::{Mapping, Ports};

/// Where the main socket seemed to be to one that it asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sighting {
    /// Its place in the order in which they were asked.
    pub(super) order: u32,
    /// Who was asked.
    pub(super) to: SocketAddr,
    /// Where it seemed to be.
    pub(super) mapped: SocketAddr,
}

/// Steps that are farther than this are not counted as steps: of two ports that a NAT draws from all that it has, one pair
/// in 2,000 is as near.
const FARTHEST_STEP: i32 = 16;

/// RFC 5780 section 4.3, with any number of places asked.
pub(super) fn mapping(sightings: &[Sighting]) -> Mapping {
    let pairs = || sightings.iter().enumerate().flat_map(|(n, a)| sightings.iter().skip(n + 1).map(move |b| (a, b)));
    let same_ip = |(a, b): &(&Sighting, &Sighting)| a.to.ip() == b.to.ip();
    let same_mapping = |(a, b): &(&Sighting, &Sighting)| a.mapped == b.mapped;
    if pairs().all(|p| same_mapping(&p)) {
        // One address says nothing about others: whether its ports are told apart is all that is known.
        return if pairs().any(|p| !same_ip(&p)) { Mapping::EndpointIndependent } else { Mapping::Unknown };
    }
    // Where no two ports of an address were asked, the worse of two possibilities is what others must reckon with.
    let ports_alike = pairs().any(|p| same_ip(&p)) && pairs().filter(same_ip).all(|p| same_mapping(&p));
    if ports_alike { Mapping::AddressDependent } else { Mapping::AddressAndPortDependent }
}

/// Which ports a socket with this port was given, in the order of the sightings.
pub(super) fn ports(sightings: &[Sighting], local: u16, mapping: Mapping) -> Ports {
    if !sightings.is_empty() && sightings.iter().all(|s| s.mapped.port() == local) {
        return Ports::Preserving;
    }
    if !mapping.is_dependent() {
        return Ports::Unknown;
    }
    // A mapping that serves several destinations was made once.
    let mut made: Vec<SocketAddr> = Vec::new();
    for sighting in sightings {
        if !made.contains(&sighting.mapped) {
            made.push(sighting.mapped);
        }
    }
    let steps: Vec<i32> = made.windows(2).filter_map(|pair| step(pair.first()?, pair.last()?)).collect();
    let near = |up: bool| steps.iter().copied().filter(move |s| s.abs() <= FARTHEST_STEP && (*s > 0) == up);
    let up = near(true).count() >= near(false).count();
    // Other hosts take ports in between, so the smallest step is the NAT's own. One that is far may lead from the last port
    // back to the first, or from a mapping that is old.
    match near(up).min_by_key(|s| s.abs()) {
        Some(delta) if near(up).count() * 2 >= steps.len() => {
            i16::try_from(delta).map_or(Ports::Unknown, Ports::Sequential)
        }
        // A single step that is far may be either.
        _ if steps.len() < 2 => Ports::Unknown,
        _ => Ports::Random,
    }
}

/// From one mapping's port to the next one's; none between two of a NAT's addresses with the same port.
fn step(from: &SocketAddr, to: &SocketAddr) -> Option<i32> {
    Some(i32::from(to.port()) - i32::from(from.port())).filter(|s| *s != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pairs: &[(&str, &str)]) -> Vec<Sighting> {
        let at = |text: &str| text.parse().unwrap();
        let numbered = pairs.iter().zip(0..);
        numbered.map(|((to, mapped), order)| Sighting { order, to: at(to), mapped: at(mapped) }).collect()
    }

    #[test]
    fn mappings_are_told_apart_by_what_was_asked() {
        let of = |pairs: &[(&str, &str)]| mapping(&seen(pairs));
        assert_eq!(of(&[]), Mapping::Unknown);
        assert_eq!(of(&[("1.0.0.1:1", "9.0.0.9:7")]), Mapping::Unknown);
        assert_eq!(of(&[("1.0.0.1:1", "9.0.0.9:7"), ("1.0.0.2:1", "9.0.0.9:7")]), Mapping::EndpointIndependent);
        // Two ports of one address.
        assert_eq!(of(&[("1.0.0.1:1", "9.0.0.9:7"), ("1.0.0.1:2", "9.0.0.9:7")]), Mapping::Unknown);
        assert_eq!(of(&[("1.0.0.1:1", "9.0.0.9:7"), ("1.0.0.1:2", "9.0.0.9:8")]), Mapping::AddressAndPortDependent);
        // Two addresses alone: the worse.
        assert_eq!(of(&[("1.0.0.1:1", "9.0.0.9:7"), ("1.0.0.2:1", "9.0.0.9:8")]), Mapping::AddressAndPortDependent);
        let three = |third| of(&[("1.0.0.1:1", "9.0.0.9:7"), ("1.0.0.2:1", "9.0.0.9:8"), ("1.0.0.2:2", third)]);
        assert_eq!(three("9.0.0.9:8"), Mapping::AddressDependent);
        assert_eq!(three("9.0.0.9:9"), Mapping::AddressAndPortDependent);
        assert_eq!(three("9.0.0.9:7"), Mapping::AddressAndPortDependent);
        // Another address with the same port is another mapping.
        assert_eq!(of(&[("1.0.0.1:1", "9.0.0.9:7"), ("1.0.0.2:1", "9.0.0.8:7")]), Mapping::AddressAndPortDependent);
    }

    #[test]
    fn ports_show_their_order() {
        let of = |mapped: &[u16]| {
            let numbered = mapped.iter().zip(1_u16..);
            let pair = |(port, n)| (format!("1.0.0.1:{n}"), format!("9.0.0.9:{port}"));
            let pairs: Vec<(String, String)> = numbered.map(pair).collect();
            let pairs: Vec<_> = pairs.iter().map(|(to, mapped)| (to.as_str(), mapped.as_str())).collect();
            ports(&seen(&pairs), 5000, mapping(&seen(&pairs)))
        };
        assert_eq!(of(&[]), Ports::Unknown);
        assert_eq!(of(&[5000]), Ports::Preserving);
        assert_eq!(of(&[7, 7]), Ports::Unknown, "one mapping has no order");
        assert_eq!(of(&[20, 21]), Ports::Sequential(1));
        assert_eq!(of(&[20, 22, 24, 26]), Ports::Sequential(2));
        assert_eq!(of(&[20, 19, 17, 16]), Ports::Sequential(-1), "others take ports, too");
        assert_eq!(of(&[5000, 1024, 1025, 1026]), Ports::Sequential(1), "the first one keeps its port");
        assert_eq!(of(&[20998, 20999, 20000, 20001]), Ports::Sequential(1), "around the end");
        assert_eq!(of(&[20, 21, 21, 22]), Ports::Sequential(1), "two that share a mapping");
        assert_eq!(of(&[20, 40000]), Ports::Unknown);
        assert_eq!(of(&[5000, 40000, 7000, 7001]), Ports::Random, "two far, one near");
        assert_eq!(of(&[20, 40000, 7000, 60000]), Ports::Random);
        assert_eq!(of(&[1, 65535]), Ports::Unknown);
    }
}
