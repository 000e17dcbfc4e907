//! What the kernel side may cost, and what it makes of pins that are not as they should be.

use std::{collections::BTreeSet, path::Path};

use aya::{
    maps::{Array, MapData, MapInfo},
    programs::loaded_programs,
};
use wavnet_common::abi::{self, program};
use wavnet_tests::kernel::{PinPath, SIZES, require, size_of};
use wavnet_user::datapath::{Datapath, Error, Sizes, down};

/// What a program may cost.
struct Budget {
    program: &'static str,
    /// Instructions that the verifier may walk through (its limit is 1,000,000).
    verified: u32,
    /// Instructions.
    code: usize,
    /// Bytes of stack (the limit is 512).
    stack: u32,
}

const BUDGETS: [Budget; 6] = [
    Budget { program: program::UNDERLAY_XDP, verified: 90_000, code: 3_600, stack: 256 },
    Budget { program: program::UNDERLAY_XDP_GENERIC, verified: 80_000, code: 3_300, stack: 256 },
    Budget { program: program::UNDERLAY_TC, verified: 80_000, code: 4_000, stack: 352 },
    Budget { program: program::PORT_XDP, verified: 50_000, code: 2_300, stack: 256 },
    Budget { program: program::TAP_GUARD, verified: 1_000, code: 150, stack: 64 },
    Budget { program: program::PORT_TC, verified: 100_000, code: 6_000, stack: 352 },
];

/// Bytes of all maps with the default sizes, on a machine of two CPUs; each further CPU costs `PER_CPU` at the most.
const MAP_MEMORY: u64 = 16 << 20;
const PER_CPU: u64 = 512 << 10;

#[test]
fn programs_stay_below_their_budgets() {
    let Some(pins) = require("kernel_budget::programs_stay_below_their_budgets") else { return };
    let mut datapath = pins.open(SIZES).expect("the programs load");
    let mut over = Vec::new();
    for Budget { program, verified, code, stack } in BUDGETS {
        let size = size_of(datapath.program(program).expect("the object has it")).expect("the kernel tells its size");
        println!("{program}: {size:?}");
        if size.verified > verified || size.instructions > code || size.stack > stack {
            over.push(format!(
                "{program}: {size:?}; budget: {verified} verified, {code} instructions, {stack} bytes of stack"
            ));
        }
    }
    assert!(over.is_empty(), "{over:#?}");
}

/// The kernel's check of each program is most of an agent's start.
#[test]
fn what_few_hosts_need_is_loaded_when_it_is_needed() {
    let Some(pins) = require("kernel_budget::what_few_hosts_need_is_loaded_when_it_is_needed") else { return };
    let mut datapath = pins.open(SIZES).expect("the programs load");
    let loaded = |datapath: &Datapath| {
        let runs = datapath.program_runs().expect("the kernel tells");
        runs.into_iter().map(|run| run.name).collect::<BTreeSet<String>>()
    };
    let before = loaded(&datapath);
    datapath.program(program::UNDERLAY_XDP_GENERIC).expect("it loads");
    let after = loaded(&datapath);
    let more: Vec<&String> = after.difference(&before).collect();
    assert_eq!(more, [program::UNDERLAY_XDP_GENERIC]);
    assert_eq!(after.len(), BUDGETS.len());
}

#[test]
fn what_is_loaded_later_has_no_maps_of_its_own() {
    let Some(pins) = require("kernel_budget::what_is_loaded_later_has_no_maps_of_its_own") else { return };
    let mut datapath = pins.open(SIZES).expect("the programs load");
    let map = pins.path().join("maps").join(abi::MAPS[0].name);
    std::fs::remove_file(&map).expect("a pin");
    let error = datapath.program(program::UNDERLAY_XDP_GENERIC).expect_err("its map has gone");
    assert!(format!("{:#}", anyhow::Error::from(error)).contains(&map.display().to_string()));
    assert!(!map.exists());
}

#[test]
fn programs_load_with_logging_too() {
    let Some(pins) = require("kernel_budget::programs_load_with_logging_too") else { return };
    let mut options = pins.options(SIZES);
    options.kernel_log = true;
    // The log needs an event loop only when it is read.
    wavnet_user::datapath::Datapath::open(&options).expect("the verifier accepts the programs with their logging");
}

#[test]
fn maps_are_those_of_the_abi_and_fit_their_budget() {
    let Some(pins) = require("kernel_budget::maps_are_those_of_the_abi_and_fit_their_budget") else { return };
    let _datapath = pins.open(Sizes::default()).expect("the programs load");
    let mut memory = 0;
    for spec in abi::MAPS {
        let info = info(&pins, spec.name);
        let found = (info.name_as_str(), info.key_size(), info.value_size());
        assert_eq!(found, (Some(spec.name), spec.key_size, spec.value_size), "{}", spec.name);
        memory += memory_of(&pins, spec.name);
    }
    memory += memory_of(&pins, abi::EVENTS);
    let mut names: Vec<String> = std::fs::read_dir(pins.path().join("maps"))
        .expect("a directory of maps")
        .map(|entry| entry.expect("a pin").file_name().to_string_lossy().into_owned())
        .collect();
    let mut wanted: Vec<&str> = abi::MAPS.iter().map(|m| m.name).chain([abi::EVENTS]).collect();
    names.sort();
    wanted.sort_unstable();
    assert_eq!(names, wanted);
    let cpus = aya::util::nr_cpus().expect("the number of CPUs") as u64;
    println!("maps: {} KiB on {cpus} CPUs", memory >> 10);
    // What `wavnet doctor` says beforehand.
    let said = Sizes::default().memory(cpus);
    assert!(said.abs_diff(memory) < memory / 4, "{said} bytes said, {memory} taken");
    assert!(memory <= MAP_MEMORY + cpus.saturating_sub(2) * PER_CPU, "{memory} bytes of maps");
}

fn info(pins: &PinPath, name: &str) -> MapInfo {
    MapInfo::from_pin(pins.path().join("maps").join(name)).expect("a pinned map")
}

/// Bytes as the kernel accounts them.
fn memory_of(pins: &PinPath, name: &str) -> u64 {
    use std::os::fd::{AsFd, AsRawFd};
    let map = MapData::from_pin(pins.path().join("maps").join(name)).expect("a pinned map");
    let fdinfo =
        std::fs::read_to_string(format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd())).expect("fdinfo");
    let line = fdinfo.lines().find_map(|l| l.strip_prefix("memlock:")).expect("a line for memory");
    line.trim().parse().expect("a number")
}

#[test]
fn a_second_agent_is_refused() {
    let Some(pins) = require("kernel_budget::a_second_agent_is_refused") else { return };
    let first = pins.open(SIZES).expect("the programs load");
    assert!(matches!(pins.open(SIZES), Err(Error::Locked { .. })));
    assert!(matches!(down(pins.path()), Err(Error::Locked { .. })));
    drop(first);
    pins.open(SIZES).expect("free again");
}

#[test]
fn maps_of_another_layout_are_refused_until_down() {
    let Some(pins) = require("kernel_budget::maps_of_another_layout_are_refused_until_down") else { return };
    drop(pins.open(SIZES).expect("the programs load"));
    let ports = pins.path().join("maps").join(abi::map::PORTS);
    std::fs::remove_file(&ports).expect("unpinning");
    pin_array::<24>(&ports, SIZES.ports);
    refused(&pins, "another layout");
    std::fs::remove_file(&ports).expect("unpinning");
    refused(&pins, "PORTS is missing");
    pin_array::<16>(&ports, SIZES.ports + 1);
    refused(&pins, "entries");
    let report = down(pins.path()).expect("down works on what open refuses");
    assert_eq!((report.links, report.maps), (0, abi::MAPS.len() + 1));
    assert!(!pins.path().exists());
    drop(pins.open(SIZES).expect("a fresh start"));
}

#[test]
fn other_sizes_are_refused() {
    let Some(pins) = require("kernel_budget::other_sizes_are_refused") else { return };
    drop(pins.open(SIZES).expect("the programs load"));
    let other = Sizes { fdb_buckets: SIZES.fdb_buckets * 2, ..SIZES };
    assert!(matches!(pins.open(other), Err(Error::Incompatible { .. })));
    let other = Sizes { vnis: SIZES.vnis + 1, ..SIZES };
    assert!(matches!(pins.open(other), Err(Error::Incompatible { .. })));
}

#[test]
fn remains_of_an_agent_that_died_while_making_maps_are_replaced() {
    const TEST: &str = "kernel_budget::remains_of_an_agent_that_died_while_making_maps_are_replaced";
    let Some(pins) = require(TEST) else { return };
    let maps = pins.path().join("maps");
    for dir in [pins.path(), &maps, &pins.path().join("links")] {
        std::fs::create_dir(dir).expect("a directory on bpffs");
    }
    // META is there and says nothing yet; another map is of another time.
    pin_array::<{ std::mem::size_of::<abi::Meta>() }>(&maps.join(abi::map::META), 1);
    pin_array::<24>(&maps.join(abi::map::PORTS), 7);
    drop(pins.open(SIZES).expect("half-made pins are replaced"));
    assert_eq!(info(&pins, abi::map::PORTS).value_size(), 16);
    // So is a directory without META.
    std::fs::remove_file(maps.join(abi::map::META)).expect("unpinning");
    drop(pins.open(SIZES).expect("half-made pins are replaced"));
}

#[test]
fn entries_and_counters_outlive_the_agent() {
    let Some(pins) = require("kernel_budget::entries_and_counters_outlive_the_agent") else { return };
    let mac = wavnet_common::addr::Mac([0x52, 0x54, 0, 0, 0, 1]);
    let place = wavnet_common::fdb::Place::Port(3);
    let created = {
        let mut datapath = pins.open(SIZES).expect("the programs load");
        let command = wavnet_proto::command::Command::SetStatic { vni_index: 1, mac, place };
        datapath.apply(&command).expect("room for one entry");
        datapath.created_ns().expect("META")
    };
    let datapath = pins.open(SIZES).expect("taking over");
    assert_eq!(datapath.created_ns().expect("META"), created);
    assert_eq!(datapath.adopted().expect("reading back").statics, [(1, mac, place)]);
    let programs = loaded_programs().filter_map(Result::ok).filter(|p| p.name_as_str() == Some(program::PORT_TC));
    assert!(programs.count() >= 1);
}

#[track_caller]
fn refused(pins: &PinPath, why_part: &str) {
    match pins.open(SIZES) {
        Err(e @ Error::Incompatible { .. }) => {
            let text = e.to_string();
            assert!(text.contains(why_part) && text.contains("wavnet down"), "{text}");
        }
        Err(e) => panic!("{e}"),
        Ok(_) => panic!("taken over"),
    }
}

/// Pins an array of values of `SIZE` bytes.
fn pin_array<const SIZE: usize>(path: &Path, entries: u32)
where
    [u8; SIZE]: aya::Pod,
{
    let map = Array::<MapData, [u8; SIZE]>::create(entries, 0).expect("making a map");
    map.pin(path).expect("pinning a map");
}
