//! The kernel's relay, as a rendezvous server handles it: an object of its own, without pins. What is attached goes with the process.

use std::collections::BTreeMap;

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData, PerCpuArray},
    programs::{LinkOrder, Program, SchedClassifier, TcAttachType, Xdp, XdpMode, links::FdLink, tc::TcAttachOptions},
};
use wavnet_common::{
    abi::relay::{LegRow, Metered, RelayConfig, RelayCount, RelayLink, map, program},
    addr::Label,
    buckets::{self, rows_for},
};
use wavnet_proto::{command::HookWish, relay::RelayCommand};

use super::{
    Error, HookMode,
    mapped::{Mapped, Rows},
    maps::{Abi, enter, fail, take},
    object::{self, random},
    programs::load_all,
};

/// How a relay's programs are attached to an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayHooks {
    /// By XDP, and in which mode; `None`: by TC alone.
    pub xdp: Option<HookMode>,
    /// By TC, too: what XDP cannot send does not reach the server then.
    pub tc: bool,
    /// What was refused, and why.
    pub refused: Vec<String>,
}

/// Programs and tables. Dropping it ends the relay.
pub struct Relay {
    ebpf: Ebpf,
    config: Array<MapData, Abi<RelayConfig>>,
    links: Array<MapData, Abi<RelayLink>>,
    leg_of_label: Mapped,
    legs: Rows<LegRow>,
    counts: PerCpuArray<MapData, u64>,
    /// Frames of each leg when [`Relay::used`] looked last.
    seen: Vec<u64>,
    attached: BTreeMap<u32, Vec<FdLink>>,
}

impl Relay {
    /// Loads the programs, with room for so many legs, two of which are a session.
    ///
    /// # Errors
    /// See [`Error`]: each says what to do.
    pub fn open(legs: u32) -> Result<Relay, Error> {
        object::check_kernel()?;
        let (seed, rows, mask) = (random(), rows_for(legs), rows_for(legs) - 1);
        let mut loader = EbpfLoader::new();
        loader.override_global("LABELS_MASK", &mask, true);
        loader.override_global("SEED", &seed, true);
        loader.map_max_entries(map::LEGS, legs);
        loader.map_max_entries(map::LEG_OF_LABEL, rows);
        let mut ebpf = loader.load(bytes()?).map_err(Error::load)?;
        load_all(&mut ebpf)?;
        Ok(Relay {
            config: take(&mut ebpf, map::RELAY_CONFIG)?,
            links: take(&mut ebpf, map::RELAY_LINKS)?,
            leg_of_label: Mapped::map(&mut ebpf, map::LEG_OF_LABEL, seed)?,
            legs: Rows::map(&mut ebpf, map::LEGS)?,
            counts: take(&mut ebpf, map::RELAY_COUNTS)?,
            ebpf,
            seen: vec![0; legs as usize],
            attached: BTreeMap::new(),
        })
    }

    /// Attaches to an interface: to XDP, if it can be had and nobody else has it, and behind that to TC.
    ///
    /// # Errors
    /// Neither attaches, or not the XDP that was demanded.
    pub fn attach(&mut self, ifindex: u32, name: &str, wish: HookWish) -> Result<RelayHooks, Error> {
        self.detach(ifindex);
        let modes: &[(XdpMode, HookMode)] = match wish {
            HookWish::Auto => &[(XdpMode::Driver, HookMode::Driver), (XdpMode::Skb, HookMode::Generic)],
            HookWish::Driver => &[(XdpMode::Driver, HookMode::Driver)],
            HookWish::Generic => &[(XdpMode::Skb, HookMode::Generic)],
            HookWish::Tc => &[],
        };
        let (mut links, mut refused) = (Vec::new(), Vec::new());
        // TC first: what XDP passes up must find it.
        match self.attach_tc(name) {
            Ok(link) => links.push(link),
            Err(e) => refused.push(format!("{:#}", anyhow::Error::from(e))),
        }
        let tc = !links.is_empty();
        let mut found = None;
        for (xdp, mode) in modes {
            match self.attach_xdp(ifindex, *xdp) {
                Ok(link) => {
                    links.push(link);
                    found = Some(*mode);
                    break;
                }
                Err(e) => refused.push(format!("{:#}", anyhow::Error::from(e))),
            }
        }
        if links.is_empty() || (found.is_none() && matches!(wish, HookWish::Driver | HookWish::Generic)) {
            return Err(Error::kernel(format!("attaching the relay to {name}"), refused.join("; ")));
        }
        self.attached.insert(ifindex, links);
        Ok(RelayHooks { xdp: found, tc, refused })
    }

    /// Detaches from an interface; it may be gone.
    pub fn detach(&mut self, ifindex: u32) {
        self.attached.remove(&ifindex);
    }

    fn attach_xdp(&mut self, ifindex: u32, mode: XdpMode) -> Result<FdLink, Error> {
        let name = if mode == XdpMode::Skb { program::RELAY_XDP_GENERIC } else { program::RELAY_XDP };
        let fail = |e| Error::kernel(format!("attaching {name}"), e);
        let Some(Program::Xdp(program)) = self.ebpf.program_mut(name) else { return Err(no_program(name)) };
        let program: &mut Xdp = program;
        let id = program.attach_to_if_index(ifindex, mode).map_err(fail)?;
        let link = program.take_link(id).map_err(fail)?;
        // Another kind of attachment would stay when the process is killed.
        FdLink::try_from(link).map_err(|e| Error::kernel(format!("attaching {name}"), e))
    }

    fn attach_tc(&mut self, interface: &str) -> Result<FdLink, Error> {
        let name = program::RELAY_TC;
        let fail = |e| Error::kernel(format!("attaching {name} to {interface}"), e);
        let Some(Program::SchedClassifier(program)) = self.ebpf.program_mut(name) else {
            return Err(no_program(name));
        };
        let program: &mut SchedClassifier = program;
        let options = TcAttachOptions::TcxOrder(LinkOrder::last());
        let id = program.attach_with_options(interface, TcAttachType::Ingress, options).map_err(fail)?;
        let link = program.take_link(id).map_err(fail)?;
        FdLink::try_from(link).map_err(|e| Error::kernel(format!("attaching {name} to {interface}"), e))
    }

    /// Carries out a command that writes tables. Questions to the kernel's routing are the shell's business and do nothing here.
    ///
    /// # Errors
    /// Those of the kernel, with what was tried.
    pub fn apply(&mut self, command: &RelayCommand) -> Result<(), Error> {
        match command {
            RelayCommand::SetServer(config) => self.config.set(0, Abi(*config), 0).map_err(fail(map::RELAY_CONFIG)),
            RelayCommand::SetLink { row, link } => {
                self.links.set((*row).into(), Abi(*link), 0).map_err(fail(map::RELAY_LINKS))
            }
            RelayCommand::SetLeg { row, leg, rate } => {
                let there = self.leg(*row)?;
                there.set(Some(leg));
                if rate.is_some() {
                    there.meter().set(*rate, object::monotonic_ns());
                }
                if let Some(seen) = self.seen.get_mut(*row as usize) {
                    *seen = self.legs.get(*row).map_or(0, |leg| leg.meter().metered().frames);
                }
                enter(&self.leg_of_label, map::LEG_OF_LABEL, leg.label.get().into(), (*row).into())
            }
            RelayCommand::FreeLeg { row, label } => {
                buckets::remove(&self.leg_of_label, label.get().into());
                self.leg(*row)?.set(None);
                Ok(())
            }
            RelayCommand::SetHop { row, hop } => {
                self.leg(*row)?.set_hop(*hop);
                Ok(())
            }
            RelayCommand::SetRate { row, rate } => {
                self.leg(*row)?.meter().set(*rate, object::monotonic_ns());
                Ok(())
            }
            RelayCommand::Ask(_) => Ok(()),
        }
    }

    fn leg(&self, row: u32) -> Result<&LegRow, Error> {
        self.legs.get(row).ok_or_else(|| Error::kernel(format!("writing map {}", map::LEGS), "there is no such row"))
    }

    /// Those of these labels, with their rows, by which something was sent since the last call.
    pub fn used(&mut self, labels: impl Iterator<Item = (Label, u32)>) -> Vec<Label> {
        let news = |(label, row): (Label, u32)| {
            let frames = self.legs.get(row)?.meter().metered().frames;
            let seen = self.seen.get_mut(row as usize)?;
            (std::mem::replace(seen, frames) != frames).then_some(label)
        };
        labels.filter_map(news).collect()
    }

    /// What came by a leg since its label is there.
    pub fn metered(&self, row: u32) -> Metered {
        self.legs.get(row).map(|leg| leg.meter().metered()).unwrap_or_default()
    }

    /// What became of datagrams, since the relay is there.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn counts(&self) -> Result<Vec<(RelayCount, u64)>, Error> {
        let read = |count: RelayCount| {
            let values = self.counts.get(&(count as u32), 0).map_err(|e| Error::kernel("reading a counter", e))?;
            Ok((count, values.iter().sum()))
        };
        RelayCount::ALL.into_iter().map(read).collect()
    }

    /// A loaded program by its name ([`program`]), for test-runs and for reading its size.
    ///
    /// # Errors
    /// The object has no such program.
    pub fn program(&self, name: &str) -> Result<&Program, Error> {
        self.ebpf.program(name).ok_or_else(|| no_program(name))
    }
}

fn no_program(name: &str) -> Error {
    Error::kernel(format!("finding program {name}"), "the object has no such program")
}

/// The compiled programs.
#[cfg(wavnet_relay)]
fn bytes() -> Result<&'static [u8], Error> {
    Ok(aya::include_bytes_aligned!(env!("WAVNET_RELAY_OBJECT")))
}

/// The compiled programs.
#[cfg(not(wavnet_relay))]
fn bytes() -> Result<&'static [u8], Error> {
    Err(Error::NoObject)
}
