//! A report in the words of docs/api.md.

use std::time::Duration;

use wavnet_proto::nat::{Filtering, Lifetime, Mapping, NatSummary, Note, PaperType, Ports, Report, Situation};

use super::{Family, Server, Unresolved, advice};
use crate::api::model::{MeshNat, NatInfo, NatLifetime, NatNote};

/// What a classification has found out.
pub fn info(report: &Report) -> NatInfo {
    let summary = &report.summary;
    let (ports, port_step) = match summary.ports {
        Ports::Unknown => ("unknown", None),
        Ports::Preserving => ("preserving", None),
        Ports::Sequential(step) => ("sequential", Some(step)),
        Ports::Random => ("random", None),
    };
    let situation = match summary.situation {
        Situation::Unknown => "unknown",
        Situation::Blocked => "blocked",
        Situation::Direct => "direct",
        Situation::Natted => "natted",
    };
    NatInfo {
        family: Family::of(report.local.ip()).to_string().to_lowercase(),
        kind: kind(report.paper_type()).to_owned(),
        situation: situation.to_owned(),
        mapping: mapping(summary.mapping).to_owned(),
        filtering: filtering(summary.filtering).to_owned(),
        filtering_at_most: summary.filtering_at_most,
        ports: ports.to_owned(),
        port_step,
        preserves_port: summary.preserves_port,
        hairpin: summary.hairpin,
        many_addresses: summary.many_addresses,
        unstable: summary.unstable,
        local: report.local,
        mapped: report.mapped,
        server: report.server,
        lifetime: report.lifetime.map(lifetime),
        notes: report.notes.iter().map(advice::note).collect(),
    }
}

/// What a host says of the NAT in front of it, in the same words.
pub fn words(summary: &NatSummary) -> MeshNat {
    MeshNat {
        kind: kind(summary.paper_type()).to_owned(),
        mapping: mapping(summary.mapping).to_owned(),
        filtering: filtering(summary.filtering).to_owned(),
    }
}

const fn kind(kind: PaperType) -> &'static str {
    match kind {
        PaperType::Unknown => "unknown",
        PaperType::Open => "open",
        PaperType::FullCone => "full-cone",
        PaperType::RestrictedCone => "restricted-cone",
        PaperType::PortRestrictedCone => "port-restricted-cone",
        PaperType::Symmetric => "symmetric",
        PaperType::SymmetricFirewall => "symmetric-firewall",
        PaperType::Blocked => "blocked",
    }
}

const fn mapping(mapping: Mapping) -> &'static str {
    match mapping {
        Mapping::Unknown => "unknown",
        Mapping::EndpointIndependent => "endpoint-independent",
        Mapping::AddressDependent => "address-dependent",
        Mapping::AddressAndPortDependent => "address-and-port-dependent",
    }
}

const fn filtering(filtering: Filtering) -> &'static str {
    match filtering {
        Filtering::Unknown => "unknown",
        Filtering::EndpointIndependent => "endpoint-independent",
        Filtering::AddressDependent => "address-dependent",
        Filtering::AddressAndPortDependent => "address-and-port-dependent",
    }
}

fn lifetime(lifetime: Lifetime) -> NatLifetime {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    NatLifetime { alive_ms: millis(lifetime.alive_after), dead_ms: lifetime.dead_after.map(millis) }
}

/// Notes of a session beside those of its report: names without an address, and what could not be sent. A port that was only guessed and does
/// not answer is no news if the server does at the other one.
pub(super) fn notes(
    report: &Report,
    servers: &[Server],
    unresolved: &[Unresolved],
    unsent: Option<&super::Unsent>,
) -> Vec<NatNote> {
    let of = |address| servers.iter().find(|s| s.address == address);
    let failed = |note: &Note| match note {
        Note::Silent(address) | Note::Refused { server: address, .. } => Some(*address),
        _ => None,
    };
    let failures: Vec<_> = report.notes.iter().filter_map(failed).collect();
    let answers = |name| servers.iter().any(|s| s.name == name && !failures.contains(&s.address));
    let is_news = |note: &&Note| {
        let server = failed(note).and_then(of);
        server.is_none_or(|s| !s.guessed || !answers(s.name))
    };
    let told = report.notes.iter().filter(is_news).map(advice::note);
    told.chain(unresolved.iter().map(advice::unresolved)).chain(unsent.map(advice::unsent)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guessed_port_that_is_silent_is_told_only_if_the_other_one_is_too() {
        let server = |address: &str, name, guessed| Server { address: address.parse().unwrap(), name, guessed };
        let servers =
            [server("192.0.2.1:4789", 0, true), server("192.0.2.1:3478", 0, true), server("192.0.2.9:53", 1, false)];
        let codes = |silent: &[usize]| {
            let notes = silent.iter().map(|n| Note::Silent(servers[*n].address)).collect();
            let local = "192.0.2.7:1".parse().unwrap();
            let (summary, mapped, server, lifetime) = (NatSummary::default(), None, None, None);
            let report = Report { summary, local, mapped, server, lifetime, notes };
            notes_of(&report, &servers)
        };
        assert_eq!(codes(&[0]), Vec::<String>::new());
        assert_eq!(codes(&[0, 1]).len(), 2);
        assert_eq!(codes(&[0, 2]), ["the STUN server 192.0.2.9:53 does not answer"]);
    }

    fn notes_of(report: &Report, servers: &[Server]) -> Vec<String> {
        notes(report, servers, &[], None).into_iter().map(|note| note.message).collect()
    }
}
