//! The lab's own kernel programs: wire, generator, counters, and those of the benchmark's contenders.

mod forward;

use anyhow::{Context, Result};
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, Map, MapData, MapError, PerCpuArray, xdp::DevMapHash},
    programs::{
        LinkOrder, Program, ProgramError, ProgramFd, SchedClassifier, TcAttachType, Xdp, XdpMode,
        links::FdLink,
        tc::{NlOptions, TcAttachOptions, qdisc_add_clsact},
    },
};

use super::netns::Netns;

#[path = "../../../wavnet-ebpf/src/lab/abi.rs"]
/// What the kernel side and this side agree on.
pub mod abi;

use abi::{Counter, Pair, Probe, Tunnel, Vary, name};

// SAFETY: repr(C) of integers without padding.
unsafe impl Pod for Probe {}
// SAFETY: as above.
unsafe impl Pod for Pair {}
// SAFETY: as above.
unsafe impl Pod for Tunnel {}
// SAFETY: as above.
unsafe impl Pod for Vary {}

/// Where [`Programs::sink`] is among other TC programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before all others.
    First,
    /// Behind all others of tcx.
    Last,
    /// The last filter of the clsact qdisc, behind tcx.
    Clsact,
}

/// A set of the programs; dropping it detaches them.
pub struct Programs {
    ebpf: Ebpf,
    probe: Array<MapData, Probe>,
    vary: Array<MapData, Vary>,
    counts: PerCpuArray<MapData, u64>,
    devices: DevMapHash<MapData>,
}

impl Programs {
    /// Loads them.
    ///
    /// # Errors
    /// Built without them, or the kernel refuses.
    pub fn load() -> Result<Programs> {
        let mut ebpf = load(&mut EbpfLoader::new())?;
        let probe = take(&mut ebpf, name::PROBE)?;
        let vary = take(&mut ebpf, name::VARY)?;
        let counts = take(&mut ebpf, name::COUNTS)?;
        let devices = take(&mut ebpf, name::WIRE_DEVS)?;
        Ok(Programs { ebpf, probe, vary, counts, devices })
    }

    /// Joins two interfaces of a namespace: what comes in on one goes out of the other.
    ///
    /// # Errors
    /// No such interface, or it has an XDP program.
    pub fn wire(&mut self, ns: &Netns, ends: [&str; 2]) -> Result<()> {
        join(&mut self.ebpf, &mut self.devices, name::WIRE, ns, ends).context("making the wire")
    }

    /// Counts and drops at an interface of a namespace what comes in there and matches the probe.
    ///
    /// # Errors
    /// No such interface, or the kernel refuses.
    pub fn sink(&mut self, ns: &Netns, interface: &str, place: Place) -> Result<()> {
        ns.enter(|| {
            let program: &mut SchedClassifier = find(&mut self.ebpf, name::SINK)?;
            let options = match place {
                Place::First => TcAttachOptions::TcxOrder(LinkOrder::first()),
                Place::Last => TcAttachOptions::TcxOrder(LinkOrder::last()),
                Place::Clsact => {
                    // It may be there already; attaching tells if it is not.
                    let _ = qdisc_add_clsact(interface);
                    TcAttachOptions::Netlink(NlOptions { priority: u16::MAX, ..NlOptions::default() })
                }
            };
            program.attach_with_options(interface, TcAttachType::Ingress, options).context("attaching the sink")?;
            Ok(())
        })
    }

    /// Puts an XDP program that does nothing on an interface of a namespace, where nobody else's has room then.
    ///
    /// # Errors
    /// No such interface, or it has an XDP program.
    pub fn occupy(&mut self, ns: &Netns, interface: &str) -> Result<()> {
        let ifindex = ns.ifindex(interface)?;
        ns.enter(|| {
            let program: &mut Xdp = find(&mut self.ebpf, name::EMPTY_XDP)?;
            program.attach_to_if_index(ifindex, XdpMode::Driver).context("attaching a program that does nothing")?;
            Ok(())
        })
    }

    /// Says what is counted.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn set_probe(&mut self, probe: Probe) -> Result<()> {
        self.probe.set(0, probe, 0).context("writing the probe")
    }

    /// Frames counted so far.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn count(&self, at: Counter) -> Result<u64> {
        Ok(self.counts.get(&(at as u32), 0).context("reading a counter")?.iter().sum())
    }

    /// The program by which a test run sends frames out of the interface that they are said to come from.
    ///
    /// # Errors
    /// It is not loaded.
    pub fn sender(&mut self) -> Result<&ProgramFd> {
        let program: &mut Xdp = find(&mut self.ebpf, name::SEND)?;
        Ok(program.fd()?)
    }

    /// The same for frames that differ, as `vary` says.
    ///
    /// # Errors
    /// It is not loaded.
    pub fn varied_sender(&mut self, vary: Vary) -> Result<&ProgramFd> {
        self.vary.set(0, vary, 0).context("writing what frames differ in")?;
        let program: &mut Xdp = find(&mut self.ebpf, name::SEND_VARIED)?;
        Ok(program.fd()?)
    }

    /// The XDP program that does nothing.
    ///
    /// # Errors
    /// It is not loaded.
    pub fn empty_xdp(&mut self) -> Result<&ProgramFd> {
        let program: &mut Xdp = find(&mut self.ebpf, name::EMPTY_XDP)?;
        Ok(program.fd()?)
    }

    /// The TC program that does nothing.
    ///
    /// # Errors
    /// It is not loaded.
    pub fn empty_tc(&mut self) -> Result<&ProgramFd> {
        let program: &mut SchedClassifier = find(&mut self.ebpf, name::EMPTY_TC)?;
        Ok(program.fd()?)
    }
}

/// Has an interface poll as long as the link lives, by an XDP program that does nothing: a veth then takes what XDP of the other end
/// redirects to it. GRO would do the same, but merges frames.
///
/// # Errors
/// Built without the program, no such interface, or it has an XDP program.
pub fn keep_polling(ns: &Netns, interface: &str) -> Result<FdLink> {
    let ifindex = ns.ifindex(interface)?;
    let mut ebpf = EbpfLoader::new().load(object()?).context("loading the lab's kernel programs")?;
    let program: &mut Xdp = find(&mut ebpf, name::EMPTY_XDP)?;
    program.load().with_context(|| format!("loading {}", name::EMPTY_XDP))?;
    let id = ns.enter(|| Ok(program.attach_to_if_index(ifindex, XdpMode::Driver)?));
    let link = program.take_link(id.with_context(|| format!("attaching {} to {interface}", name::EMPTY_XDP))?)?;
    FdLink::try_from(link).context("the kernel has no links of XDP programs")
}

/// Attaches an XDP program to two interfaces and enters each as what the other redirects to.
fn join(ebpf: &mut Ebpf, devices: &mut DevMapHash<MapData>, name: &str, ns: &Netns, ends: [&str; 2]) -> Result<()> {
    let [a, b] = [ns.ifindex(ends[0])?, ns.ifindex(ends[1])?];
    ns.enter(|| {
        for (from, to) in [(a, b), (b, a)] {
            devices.insert(from, to, None, 0).context("writing the devices")?;
            let program: &mut Xdp = find(ebpf, name)?;
            program.attach_to_if_index(from, XdpMode::Driver).with_context(|| format!("attaching {name}"))?;
        }
        Ok(())
    })
}

/// Loads the object's programs.
pub(super) fn load(loader: &mut EbpfLoader<'_>) -> Result<Ebpf> {
    let mut ebpf = loader.load(object()?).context("loading the lab's kernel programs")?;
    for (name, program) in ebpf.programs_mut() {
        match program {
            Program::Xdp(p) => p.load(),
            Program::SchedClassifier(p) => p.load(),
            _ => Ok(()),
        }
        .with_context(|| format!("loading {name}"))?;
    }
    Ok(ebpf)
}

#[cfg(wavnet_lab)]
fn object() -> Result<&'static [u8]> {
    Ok(aya::include_bytes_aligned!(env!("WAVNET_LAB_OBJECT")))
}

#[cfg(not(wavnet_lab))]
fn object() -> Result<&'static [u8]> {
    anyhow::bail!("this program was built without the lab's kernel programs: run `cargo xtask setup`, then build again")
}

pub(super) fn take<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<T> {
    let map = ebpf.take_map(name).with_context(|| format!("the lab's object has no map {name}"))?;
    T::try_from(map).with_context(|| format!("opening map {name}"))
}

pub(super) fn find<'a, T>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut T>
where
    &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).with_context(|| format!("the lab's object has no program {name}"))?;
    program.try_into().with_context(|| format!("program {name}"))
}
