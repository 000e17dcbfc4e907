//! The eight bytes of docs/wire.md.

use proptest::prelude::*;
use wavnet_proto::nat::{Filtering, Mapping, NatSummary, PaperType, Ports, Situation};

#[test]
fn bytes_are_those_of_the_document() {
    assert_eq!(NatSummary::default().encode(), [0; 8]);
    let summary = NatSummary {
        situation: Situation::Natted,
        mapping: Mapping::AddressAndPortDependent,
        filtering: Filtering::AddressDependent,
        filtering_at_most: false,
        ports: Ports::Sequential(-2),
        preserves_port: Some(false),
        hairpin: Some(true),
        many_addresses: true,
        unstable: false,
        lifetime: 258,
        lifetime_at_least: true,
    };
    assert_eq!(summary.encode(), [0b1010_1111, 0b1010_1001, 0xff, 0xfe, 1, 2, 0, 0]);
    assert_eq!(summary.paper_type(), PaperType::Symmetric);
}

#[test]
fn what_has_no_meaning_is_not_known() {
    let of = NatSummary::decode;
    assert_eq!(of([0b1000_0000, 0, 0, 0, 0, 0, 0, 0]).ports, Ports::Unknown, "steps of zero");
    assert_eq!(of([0, 0b0000_1111, 0, 0, 0, 0, 0, 0]), NatSummary::default());
    assert_eq!(of([0, 0, 0, 0, 0, 0, 7, 9]), NatSummary::default(), "bytes to come");
}

#[test]
fn papers_types_are_those_of_rfc_3489() {
    let of = |situation, mapping, filtering| {
        NatSummary { situation, mapping, filtering, ..NatSummary::default() }.paper_type()
    };
    use Filtering as F;
    use Mapping as M;
    use Situation as S;
    assert_eq!(of(S::Unknown, M::EndpointIndependent, F::EndpointIndependent), PaperType::Unknown);
    assert_eq!(of(S::Blocked, M::Unknown, F::Unknown), PaperType::Blocked);
    assert_eq!(of(S::Direct, M::EndpointIndependent, F::Unknown), PaperType::Open);
    assert_eq!(of(S::Direct, M::EndpointIndependent, F::AddressDependent), PaperType::SymmetricFirewall);
    assert_eq!(of(S::Natted, M::Unknown, F::EndpointIndependent), PaperType::Unknown);
    assert_eq!(of(S::Natted, M::EndpointIndependent, F::Unknown), PaperType::Unknown);
    assert_eq!(of(S::Natted, M::AddressDependent, F::EndpointIndependent), PaperType::Symmetric);
    for paper in [PaperType::Unknown, PaperType::Open, PaperType::Blocked, PaperType::SymmetricFirewall] {
        assert!(!paper.to_string().is_empty());
    }
}

proptest! {
    #[test]
    fn eight_bytes_are_read_and_written_alike(bytes in any::<[u8; 8]>()) {
        let summary = NatSummary::decode(bytes);
        prop_assert_eq!(NatSummary::decode(summary.encode()), summary);
        prop_assert!(!summary.paper_type().to_string().is_empty());
    }
}
