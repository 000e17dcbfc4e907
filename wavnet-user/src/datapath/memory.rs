//! How much memory the maps take.

use wavnet_common::abi::{self, MapKind, map, size};

use super::{Sizes, maps::entries};

/// Maps of the object that the programs have for themselves: not pinned, and so not of the ABI. Name, kind, bytes of the one value.
const PRIVATE: [(&str, MapKind, u32); 2] = [("LOGGED_AT", MapKind::PerCpu, 8), ("SCRATCH", MapKind::PerCpu, 2056)];

/// Ring buffers, with their bytes.
const RINGS: [(&str, u32); 2] = [(abi::EVENTS, size::EVENTS), ("AYA_LOGS", 128 << 10)];

/// Bytes of the programs' constants, about, which are maps, too.
const CONSTANTS: u64 = 4096;

/// Bytes that all maps take, about, on a machine with so many CPUs.
pub(super) fn memory(sizes: &Sizes, cpus: u64) -> u64 {
    maps(sizes, cpus).map(|(_, bytes)| bytes).sum::<u64>() + CONSTANTS
}

/// The same of each map by its name, but for constants.
fn maps(sizes: &Sizes, cpus: u64) -> impl Iterator<Item = (&'static str, u64)> {
    let pinned = abi::MAPS.iter().map(move |spec| {
        let sized = entries(sizes).find(|(name, _)| *name == spec.name).map(|(_, n)| n);
        let unsized_entries = if spec.name == map::BULKY { abi::Bulky::SETS } else { 1 };
        let each = element(spec.kind, spec.key_size, spec.value_size, cpus);
        (spec.name, u64::from(sized.unwrap_or(unsized_entries)) * each)
    });
    let private = PRIVATE.into_iter().map(move |(name, kind, bytes)| (name, element(kind, 4, bytes, cpus)));
    pinned.chain(private).chain(RINGS.map(|(name, bytes)| (name, bytes.into())))
}

fn element(kind: MapKind, key: u32, value: u32, cpus: u64) -> u64 {
    /// What the kernel adds to each element of a hash map, its chain's head included.
    const ELEMENT: u64 = 64;
    let word = |bytes: u32| u64::from(bytes.next_multiple_of(8));
    match kind {
        MapKind::Array => word(value),
        MapKind::PerCpu => word(value) * cpus,
        MapKind::Hash => word(key) + word(value) + ELEMENT,
    }
}

#[cfg(all(test, wavnet_ebpf))]
mod tests {
    use std::collections::BTreeMap;

    use aya_obj::{EbpfSectionKind, Map, Object, generated::bpf_map_type::*};

    use super::*;
    use crate::datapath::object;

    const CPUS: u64 = 3;

    /// By what the object says of a map.
    fn bytes(name: &str, map: &Map) -> u64 {
        let each = |kind| element(kind, map.key_size(), map.value_size(), CPUS);
        u64::from(map.max_entries())
            * match map.map_type() {
                t if t == BPF_MAP_TYPE_ARRAY as u32 || t == BPF_MAP_TYPE_DEVMAP as u32 => each(MapKind::Array),
                t if t == BPF_MAP_TYPE_PERCPU_ARRAY as u32 => each(MapKind::PerCpu),
                t if t == BPF_MAP_TYPE_HASH as u32 || t == BPF_MAP_TYPE_DEVMAP_HASH as u32 => each(MapKind::Hash),
                t if t == BPF_MAP_TYPE_RINGBUF as u32 => 1,
                other => panic!("{name} is of type {other}, whose memory is not reckoned"),
            }
    }

    /// The object's own sizes are the defaults of the agent.
    #[test]
    fn every_map_of_the_object_is_reckoned() {
        let object = Object::parse(object::bytes().unwrap()).unwrap();
        let is_data = |map: &Map| !matches!(map.section_kind(), EbpfSectionKind::Maps | EbpfSectionKind::BtfMaps);
        let (data, maps): (Vec<_>, Vec<_>) = object.maps.iter().partition(|(_, map)| is_data(map));
        let there: BTreeMap<&str, u64> = maps.iter().map(|(name, map)| (name.as_str(), bytes(name, map))).collect();
        let reckoned: BTreeMap<&str, u64> = super::maps(&Sizes::default(), CPUS).collect();
        assert_eq!(reckoned, there);
        let data: u64 = data.iter().map(|(name, map)| bytes(name, map)).sum();
        assert!(data <= CONSTANTS, "{data} bytes of constants");
        assert_eq!(memory(&Sizes::default(), CPUS), there.values().sum::<u64>() + CONSTANTS);
    }
}
