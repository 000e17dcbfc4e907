//! Many MACs, VTEPs or VNIs, used at random, against one of them. Programs and interfaces are real; the bench writes the tables
//! itself, as an agent would, for an agent would want as many interfaces as VNIs.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, ensure};
use wavnet_common::{
    abi::{Count, Endpoint, HopFlags, Member, MemberKey, NextHop, Port, PortFlags, Vtep},
    addr::{Mac, Vni},
    datapath::OUTER_LEN,
    fdb::Place,
    reason::Reason,
    wire::EthHdr,
};
use wavnet_proto::command::{Command, HookWish, PeerKey};
use wavnet_user::datapath::{Datapath, Error, HookMode, Sizes};

use super::{
    duel::{Duel, Lane},
    frames,
};
use crate::{
    bench::{
        affinity::Side,
        contender::Contender,
        pinned::{MAX_INNER, ONLY, Pinned},
        rig::{Rig, VM_MTU, VNI, vni},
        rtt,
        sender::Sender,
        setting::Setting,
    },
    lab::{
        Lab,
        host::Host,
        programs::abi::{Counter, VXLAN_PORT, Vary},
    },
};

/// MACs in the tables of [`Scale::macs`].
pub(super) const MACS: u32 = 100_000;
const VTEPS: u16 = 1_000;
const VNIS: u16 = 4_000;

/// MACs beside the second VM's follow it: its lower four octets are the first word.
const FIRST_MAC: u32 = 2;
/// Bits in which they differ from it.
const MAC_BITS: u64 = 0xff_ffff;
/// The lower four octets of a frame's destination.
const MAC_AT: u32 = 2;
/// The word of a VXLAN header that holds the VNI.
const VNI_AT: u32 = (OUTER_LEN - 4) as u32;

/// A rig without agents.
pub(super) struct Scale {
    rig: Rig,
    sides: [Pinned; 2],
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Macs,
    Vteps,
    Vnis,
}

impl Scale {
    /// From VM to VM, to many MACs.
    pub(super) fn macs(lab: &Lab) -> Result<Scale> {
        let mut scale = Scale::set_up(lab, What::Macs, Sizes::default())?;
        for (side, place) in scale.sides.iter_mut().zip([Place::Vtep(ONLY), Place::Port(ONLY)]) {
            let datapath = side.datapath()?;
            for number in 1..MACS {
                match datapath.apply(&Command::SetStatic { vni_index: ONLY, mac: mac(number), place }) {
                    // A few find both their buckets full; see `guard`.
                    Ok(()) | Err(Error::FdbFull { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(scale)
    }

    /// From a VM to the wire, for many VTEPs, each with a MAC behind it. All are reached by the same next hop, as behind a router.
    pub(super) fn vteps(lab: &Lab) -> Result<Scale> {
        let mut scale = Scale::set_up(lab, What::Vteps, Sizes::default())?;
        let hop = next_hop(&scale.rig, 0)?;
        let datapath = scale.sides[0].datapath()?;
        for index in 1..VTEPS {
            let addr = Ipv4Addr::new(172, 31, 1 + (index / 250) as u8, 1 + (index % 250) as u8);
            let vtep = Vtep::new(0, &Endpoint::plain(addr.octets(), VXLAN_PORT), &hop);
            datapath.apply(&Command::SetVtep { index, vtep, peer: PeerKey::Static(addr) })?;
            let (mac, place) = (mac(index.into()), Place::Vtep(index));
            datapath.apply(&Command::SetStatic { vni_index: ONLY, mac, place })?;
        }
        Ok(scale)
    }

    /// From the wire to a VM, in many VNIs. Each has a port of its own in the tables; the interface is the same.
    pub(super) fn vnis(lab: &Lab) -> Result<Scale> {
        let sizes = Sizes { ports: VNIS.into(), vnis: VNIS.into(), ..Sizes::default() };
        let mut scale = Scale::set_up(lab, What::Vnis, sizes)?;
        let [from, to] = &scale.rig.wired.hosts;
        let vm = &scale.rig.wired.vms[1];
        let ifindex = to.ns.ifindex(&vm.port)?;
        let datapath = scale.sides[1].datapath()?;
        to.ns.enter(|| {
            // The first VNI's port last: replies of the VM are its.
            for index in (0..VNIS).rev() {
                let vni = Vni::new(VNI + u32::from(index)).context("a VNI out of range")?;
                datapath.apply(&Command::SetVni { index, vni, used: true })?;
                let max_frame = VM_MTU + EthHdr::LEN as u32;
                let port = Port { ifindex, vni: vni.get(), vni_index: index, flags: PortFlags::USED, max_frame };
                datapath.apply(&Command::SetPort { index, port })?;
                let key = MemberKey { vni: vni.get(), addr: from.addr.octets() };
                let member = Member { vni: vni.get(), vni_index: index, vtep_index: ONLY, learns: true, shares: false };
                datapath.apply(&Command::SetMember { key, member: Some(member) })?;
                datapath.apply(&Command::SetStatic { vni_index: index, mac: vm.mac, place: Place::Port(index) })?;
            }
            Ok(())
        })?;
        Ok(scale)
    }

    /// Two hypervisors with one VNI, each other as peer, and their VMs.
    fn set_up(lab: &Lab, what: What, sizes: Sizes) -> Result<Scale> {
        let rig = Rig::build(lab, Contender::Wavnet, Setting::Bare)?;
        let side = |side: usize| -> Result<Pinned> {
            let (host, other) = (&rig.wired.hosts[side], &rig.wired.hosts[1 - side]);
            let [own, others] = [&rig.wired.vms[side], &rig.wired.vms[1 - side]];
            let hop = next_hop(&rig, side)?;
            let [nic, port] = [host.ns.ifindex(Host::NIC)?, host.ns.ifindex(&own.port)?];
            let mut pinned = Pinned::open(lab, &format!("scale{side}"), sizes)?;
            host.ns.enter(|| {
                pinned.fill(host.addr.octets(), other.addr.octets(), port, hop)?;
                let datapath = pinned.datapath()?;
                for (vm, place) in [(own, Place::Port(ONLY)), (others, Place::Vtep(ONLY))] {
                    datapath.apply(&Command::SetStatic { vni_index: ONLY, mac: vm.mac, place })?;
                }
                let hook = datapath.attach_underlay(nic, Host::NIC, HookWish::Driver)?;
                ensure!(hook == HookMode::Driver, "the underlay's hook is {hook:?}");
                datapath.attach_port(port, &own.port, false)?;
                Ok(())
            })?;
            Ok(pinned)
        };
        let sides = [side(0)?, side(1)?];
        Ok(Scale { rig, sides, what })
    }

    /// Does something while frames go to, or of, so many things. Fails if they took another way than the one that is measured.
    pub(super) fn forwarding<R>(
        &mut self,
        count: u32,
        work: impl FnOnce(&mut [Pinned; 2], &dyn Fn() -> Result<u64>) -> Result<R>,
    ) -> Result<R> {
        beat(&mut self.sides)?;
        rtt::prime(&self.rig)?;
        let macs = Vary { at: MAC_AT, first: FIRST_MAC, step: 1, count };
        let (stream, vary, counter) = match self.what {
            What::Macs => (self.rig.at_vm()?, macs, Counter::Sink),
            What::Vteps => (self.rig.at_vm()?, macs, Counter::Wire),
            What::Vnis => {
                let vnis = Vary { at: VNI_AT, first: vni().get() << 8, step: 1 << 8, count };
                (self.rig.at_wire()?, vnis, Counter::Sink)
            }
        };
        self.rig.count_frames(MAC_BITS, counter == Counter::Wire)?;
        let astray = [self.sides[0].astray()?, self.sides[1].astray()?];
        let sender = Sender::start(&stream, self.rig.programs.varied_sender(vary)?, Side::Sender)?;
        let programs = &self.rig.programs;
        let before = programs.count(counter)?;
        let done = work(&mut self.sides, &|| programs.count(counter))?;
        let frames = programs.count(counter)? - before;
        sender.stop()?;
        for (side, before) in self.sides.iter_mut().zip(astray) {
            let more = side.astray()? - before;
            // Frames to MACs that found no room are flooded: very few.
            ensure!(more <= frames / 1_000, "{more} frames of {frames} were dropped or flooded");
        }
        self.rig.pass_all()?;
        Ok(done)
    }

    /// Both sides' tables.
    pub(super) fn sides(&mut self) -> &mut [Pinned; 2] {
        &mut self.sides
    }
}

/// Agents are alive.
pub(super) fn beat(sides: &mut [Pinned; 2]) -> Result<()> {
    sides.iter_mut().try_for_each(|side| Ok(side.datapath()?.heartbeat()?))
}

impl Duel for Scale {
    fn lanes(&self) -> Vec<Lane> {
        let (counts, unit): (&[u32], _) = match self.what {
            What::Macs => (&[MACS, 1, 1_000, 10_000], "MAC"),
            What::Vteps => (&[VTEPS as u32, 1], "VTEP"),
            What::Vnis => (&[VNIS as u32, 1], "VNI"),
        };
        let lane = |count: &u32| Lane {
            name: format!("{count} {unit}{}", if *count == 1 { "" } else { "s" }),
            at: Some(*count),
        };
        counts.iter().map(lane).collect()
    }

    fn run(&mut self, lane: usize, time: Duration) -> Result<f64> {
        let count = self.lanes()[lane].at.context("a number of things")?;
        self.forwarding(count, |sides, frames| frames::rate(time, || beat(sides), frames))
    }
}

impl Pinned {
    /// Frames that did not go the way that is measured.
    fn astray(&mut self) -> Result<u64> {
        let datapath: &Datapath = self.datapath()?;
        let dropped: u64 = datapath.drops()?.iter().map(|(_, frames): &(Reason, u64)| frames).sum();
        Ok(dropped + datapath.count(Count::Flooded)? + datapath.count(Count::KernelNextHop)?)
    }
}

/// From a side's NIC to the other's.
fn next_hop(rig: &Rig, side: usize) -> Result<NextHop> {
    let (host, other) = (&rig.wired.hosts[side], &rig.wired.hosts[1 - side]);
    Ok(NextHop {
        ifindex: host.ns.ifindex(Host::NIC)?,
        max_inner: MAX_INNER,
        dst_mac: other.ns.mac(Host::NIC)?.0,
        src_mac: host.ns.mac(Host::NIC)?.0,
        src_v4: host.addr.octets(),
        flags: HopFlags::XDP,
    })
}

/// The MAC of a number; 0: the second VM's.
fn mac(number: u32) -> Mac {
    Mac::from_u64(0x0200_0000_0000 | u64::from(FIRST_MAC + number))
}
