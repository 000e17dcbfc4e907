//! Random and mutated packets through the kernel programs, by test run, and through the same code on the host: the verdict, the
//! bytes and the counted reason must be the same.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, anyhow, ensure};
use proptest::test_runner::{Config as ProptestConfig, TestCaseError, TestRunner};
use wavnet_common::{
    abi::{Config, Count, FloodSet, Member, MemberKey, NextHop, Port, PortFlags, Vtep, VtepFlags},
    addr::Vni,
    fdb::{self, Key, Place},
    reason::Reason,
};
use wavnet_proto::command::Command;
use wavnet_tests::{
    kernel::{HostTables, LOCAL, MEMBER, NOT_MEMBER, Packet, Programs, any_packet, run_kernel, same, vm},
    lab::{self, Lab, Need},
};
use wavnet_user::datapath::{Datapath, Options, Sizes, TcWish};

const BUCKETS: u32 = 1024;
const CASES: u32 = 4000;
const MTU_FRAME: u32 = 1514;

/// Both sides with the same tables.
struct Pair {
    kernel: Datapath,
    programs: Programs,
    host: HostTables,
    /// Interfaces of the ports.
    links: [u32; 4],
}

fn vni(n: u32) -> Vni {
    Vni::new(n).expect("a valid VNI")
}

fn next_hop(addr: Ipv4Addr, resolved: bool, ifindex: u32) -> Vtep {
    let dst_mac = if resolved { [2, 9, 9, 9, 9, 9] } else { [0; 6] };
    let hop = NextHop { ifindex, max_inner: 1564, dst_mac, src_mac: [2, 8, 8, 8, 8, 8], src_v4: LOCAL.octets() };
    let port = 4789u16.to_be_bytes();
    Vtep { flags: VtepFlags::USED, addr: addr.octets(), udp_port: port, next_hop: [hop, hop], ..Vtep::FREE }
}

impl Pair {
    /// VNI 100 (index 3) with ports 0 to 2 (plain, discarding tags, delivered by TC) and VTEPs 0 (resolved) and 2 (not); VNI 200
    /// (index 5) with port 3 and VTEP 1. MACs 0 to 3 are behind the ports of their number, 4 to 6 behind VTEPs, the rest unknown.
    fn new(lab: &Lab, links: [u32; 4]) -> Result<Pair> {
        let pins = std::path::Path::new("/sys/fs/bpf").join(format!("{}-kernel", lab.id()));
        let sizes = Sizes { fdb_buckets: BUCKETS, ..Sizes::default() };
        let options = Options { bpffs: pins.clone(), sizes, program_stats: false, tc: TcWish::Auto, kernel_log: false };
        let kernel = Datapath::open(&options)?;
        let programs = Programs::of(&pins)?;
        let mut pair = Pair { kernel, programs, host: HostTables::new(BUCKETS as usize), links };
        pair.fill()?;
        Ok(pair)
    }

    fn apply(&mut self, command: Command) -> Result<()> {
        let host = &mut self.host;
        match &command {
            Command::SetConfig(config) => host.config = Some(*config),
            Command::SetVni { vni, .. } => host.vnis.push(vni.get()),
            Command::SetPort { index, port } => {
                host.port_of.insert(port.ifindex, *index);
                host.ports.insert(*index, *port);
            }
            Command::SetVtep { index, vtep, addr } => {
                host.vtep_addrs.push(addr.octets());
                host.vteps.insert(*index, *vtep);
            }
            Command::SetMember { key, member: Some(member) } => {
                host.members.insert(*key, *member);
            }
            Command::SetFlood { vni_index, set } => {
                host.floods.insert(*vni_index, **set);
            }
            Command::SetStatic { vni_index, mac, place } => {
                set_static(&host.fdb, Key::new(*vni_index, *mac), *place)?;
            }
            _ => {}
        }
        self.kernel.apply(&command).with_context(|| format!("{command:?}"))
    }

    fn fill(&mut self) -> Result<()> {
        let (blue, red) = ((vni(100), 3u16), (vni(200), 5u16));
        let config = Config { local_v4: LOCAL.octets(), udp_port: 4789u16.to_be_bytes(), reserved: [0; 2] };
        self.apply(Command::SetConfig(config))?;
        for (vni, index) in [blue, red] {
            self.apply(Command::SetVni { index, vni, used: true })?;
        }
        let flags = [0, PortFlags::VLAN_DISCARD, PortFlags::DELIVER_TC, 0];
        for (i, more) in flags.into_iter().enumerate() {
            let (vni, vni_index) = if i == 3 { red } else { blue };
            let (ifindex, flags) = (self.links[i], PortFlags::USED | more);
            let port = Port { ifindex, vni: vni.get(), vni_index, flags, max_frame: MTU_FRAME };
            self.apply(Command::SetPort { index: i as u16, port })?;
        }
        let unresolved = Ipv4Addr::new(192, 0, 2, 4);
        for (index, addr, resolved) in [(0, MEMBER, true), (1, NOT_MEMBER, true), (2, unresolved, false)] {
            let vtep = next_hop(addr, resolved, self.links[0]);
            self.apply(Command::SetVtep { index, vtep, addr })?;
            self.apply(Command::SetNextHop { index, next_hop: vtep.next_hop[0] })?;
            let (vni, vni_index) = if index == 1 { red } else { blue };
            let key = MemberKey { vni: vni.get(), addr: addr.octets() };
            let member = Member { vni_index, vtep_index: index, flags: 0 };
            self.apply(Command::SetMember { key, member: Some(member) })?;
        }
        for (vni_index, ports, vteps) in [(blue.1, &[0u16, 1, 2][..], &[0u16, 2][..]), (red.1, &[3], &[1])] {
            let mut set = Box::new(FloodSet::EMPTY);
            set.ports[..ports.len()].copy_from_slice(ports);
            set.vteps[..vteps.len()].copy_from_slice(vteps);
            (set.port_count, set.vtep_count) = (ports.len() as u32, vteps.len() as u32);
            self.apply(Command::SetFlood { vni_index, set })?;
        }
        for n in 0..7u8 {
            let index = u16::from(n % 4);
            let place = if n < 4 { Place::Port(index) } else { Place::Vtep(index) };
            self.apply(Command::SetStatic { vni_index: blue.1, mac: vm(n), place })?;
        }
        Ok(())
    }

    fn compare(&mut self, packet: &Packet) -> Result<()> {
        self.kernel.heartbeat()?;
        let bytes = &packet.bytes;
        if packet.from_underlay {
            let runs = [
                ("underlay_xdp", self.host.underlay_xdp(bytes), &self.programs.underlay_xdp),
                ("underlay_tc", self.host.underlay_tc(bytes), &self.programs.underlay_tc),
            ];
            for (what, host, program) in runs {
                same(what, bytes, &host, &run_kernel(program, bytes)?)?;
            }
        } else {
            // The frame seems to come from loopback, which is the first port.
            let host = self.host.port_tc(bytes, self.links[0]);
            same("port_tc", bytes, &host, &run_kernel(&self.programs.port_tc, bytes)?)?;
        }
        for (reason, kernel) in self.kernel.drops()? {
            // Whether a copy finds room in a device's queue is not decided by the packet.
            let host = self.host.drops(reason);
            ensure!(
                host == kernel || reason == Reason::CloneFailed,
                "{}: the host counts {host}, the kernel {kernel}, after {packet:?}",
                reason.label()
            );
        }
        for what in [Count::Learned, Count::Moved, Count::StaticKept, Count::FdbFull, Count::Flooded, Count::PassedUp] {
            let (host, kernel) = (self.host.counted(what), self.kernel.count(what)?);
            ensure!(host == kernel, "{what:?}: the host counts {host}, the kernel {kernel}, after {packet:?}");
        }
        Ok(())
    }
}

fn set_static(memory: &[fdb::Row], key: Key, place: Place) -> Result<()> {
    let entry = fdb::Entry { place, is_static: true, is_runtime: false, seen: fdb::Seen(0), epoch: 0 };
    fdb::set(memory, key, entry).map_err(|_| anyhow!("the table is full"))
}

#[test]
fn kernel_and_host_agree_on_random_packets() {
    lab::run("kernel_and_host_agree_on_random_packets", &[Need::Object], |lab| {
        let ns = lab.netns("kernel")?;
        ns.ip("link add name p1 type veth peer name q1")?;
        ns.ip("link add name p2 type veth peer name q2")?;
        for name in ["p1", "q1", "p2", "q2"] {
            ns.ip(&format!("link set dev {name} up"))?;
        }
        let links = [ns.ifindex("lo")?, ns.ifindex("p1")?, ns.ifindex("p2")?, ns.ifindex("q2")?];
        // Test runs take place in the caller's namespace.
        let outcome = ns.enter(|| {
            let mut pair = Pair::new(lab, links)?;
            let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
            let pair = std::cell::RefCell::new(&mut pair);
            let checked = TestRunner::new(config).run(&any_packet(), |packet| {
                pair.borrow_mut().compare(&packet).map_err(|e| TestCaseError::fail(format!("{e:#}")))
            });
            checked.map_err(|e| anyhow!("{e}"))?;
            // The packets must reach deep, or agreement means little.
            let pair = pair.into_inner();
            let hit: Vec<&str> = Reason::ALL.iter().filter(|r| pair.host.drops(**r) > 0).map(|r| r.label()).collect();
            ensure!(hit.len() >= 15, "only these reasons occurred: {hit:?}");
            Ok(())
        });
        let pins = std::path::Path::new("/sys/fs/bpf").join(format!("{}-kernel", lab.id()));
        let _ = std::fs::remove_dir_all(pins);
        outcome
    });
}
