//! The kernel side as the agent handles it: programs, links, maps.
//!
//! Everything is pinned under one bpffs directory, so that it goes on when the agent ends, however it ends. An agent that starts
//! finds it, checks that it understands it, and takes over: maps stay, programs are replaced in place.

mod clsact;
mod counters;
mod down;
mod error;
mod events;
mod fdb;
mod guards;
mod holds;
mod kernel_log;
mod links;
mod mapped;
mod maps;
mod memory;
mod neighbours;
mod object;
mod owner;
mod paths;
mod pins;
mod programs;
mod relay;
mod sys;

use std::path::PathBuf;

use aya::maps::{MapData, RingBuf};
use wavnet_common::abi::{self, Meta};
use wavnet_proto::{command::Command, fabric::Adopted};

pub use counters::ProgramRun;
pub use down::{DownReport, down};
pub use error::Error;
pub use events::Events;
pub use fdb::{FdbEntry, FdbView};
pub use holds::Holds;
pub use kernel_log::KernelLog;
pub use links::{HookMode, PortHook, PortHooks, PortXdp, TcWish};
pub use neighbours::Neighbour;
pub(crate) use object::OLDEST_KERNEL;
pub use object::{event_clock_ns, monotonic_ns};
pub use paths::Paths;
pub use relay::{Relay, RelayHooks};

/// Sizes of the tables; fixed when the maps are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Ports.
    pub ports: u32,
    /// VNIs.
    pub vnis: u32,
    /// Peers.
    pub vteps: u32,
    /// Memberships: {VNI, peer} pairs.
    pub members: u32,
    /// Buckets of the FDB, four entries each; a power of two.
    pub fdb_buckets: u32,
}

impl Sizes {
    /// Bytes that all maps take, about, on a machine with so many CPUs.
    #[must_use]
    pub fn memory(&self, cpus: u64) -> u64 {
        memory::memory(self, cpus)
    }
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes {
            ports: abi::size::PORTS,
            vnis: abi::size::VNIS,
            vteps: abi::size::VTEPS,
            members: abi::size::MEMBERS,
            fdb_buckets: abi::size::FDB_BUCKETS,
        }
    }
}

/// How to open the datapath.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory for pins, on a bpffs.
    pub bpffs: PathBuf,
    /// Sizes of the tables.
    pub sizes: Sizes,
    /// Have the kernel measure the programs' run time (costs about 20 ns a frame).
    pub program_stats: bool,
    /// How TC programs are attached.
    pub tc: TcWish,
    /// Have the programs log what should not happen, at most a line a second on each CPU.
    pub kernel_log: bool,
    /// What hashes begin with in tables that are made anew; `None`, as everywhere but in tests that must come to the same again:
    /// random.
    pub seed: Option<u64>,
}

/// Loaded programs and open maps. Dropping it changes nothing in the kernel.
pub struct Datapath {
    programs: programs::Programs,
    maps: maps::Maps,
    cookie: u32,
    fdb: FdbView,
    events: Option<RingBuf<MapData>>,
    kernel_log: Option<KernelLog>,
    pins: pins::PinDir,
    tc: TcWish,
    /// Why faster hooks on the underlay were refused.
    refusals: Vec<(HookMode, String)>,
    /// Keeps the measuring on.
    _stats: Option<std::os::fd::OwnedFd>,
}

impl Datapath {
    /// Loads the programs that each host needs and makes the maps, or takes over what another agent left in the directory.
    ///
    /// # Errors
    /// See [`Error`]: each says what to do.
    pub fn open(options: &Options) -> Result<Datapath, Error> {
        object::check_kernel()?;
        // Before anything is made.
        object::bytes()?;
        let pins = pins::PinDir::open(&options.bpffs)?;
        let found = pins.prepare(&options.sizes)?;
        let fresh = found.is_none();
        let meta = found.unwrap_or_else(|| Meta {
            abi_version: abi::ABI_VERSION,
            created_ns: object::realtime_ns(),
            seed: options.seed.unwrap_or_else(object::random),
            ..Meta::UNWRITTEN
        });
        let pinned = pins::map_names().map(|name| (name, pins.map(name))).collect();
        let recipe = programs::Recipe { sizes: options.sizes, meta, kernel_log: options.kernel_log, pinned };
        let mut programs = programs::Programs::load(recipe)?;
        let ebpf = programs.maps();
        let mut maps = maps::Maps::take(ebpf, meta.seed)?;
        if fresh {
            maps.write_meta(&meta)?;
        } else {
            maps.renew_guards()?;
        }
        let fdb = FdbView::map(ebpf, meta.seed)?;
        if !fresh {
            let [members, ports, paths] = maps.mapped();
            mapped::recover(&[fdb.mapped(), members, ports, paths]);
        }
        let events = Some(events::open(ebpf)?);
        let kernel_log = if options.kernel_log { Some(KernelLog::open(ebpf)?) } else { None };
        let stats = if options.program_stats { Some(counters::enable_stats()?) } else { None };
        Ok(Datapath {
            programs,
            maps,
            cookie: meta.cookie(),
            fdb,
            events,
            kernel_log,
            pins,
            tc: options.tc,
            refusals: Vec::new(),
            _stats: stats,
        })
    }

    /// What the programs know their own notes by.
    pub const fn cookie(&self) -> u32 {
        self.cookie
    }

    /// When the maps were made, CLOCK_REALTIME nanoseconds: since when counters count.
    pub fn created_ns(&self) -> Result<u64, Error> {
        Ok(self.maps.meta()?.created_ns)
    }

    /// Reads back what is in force: slots in use, static entries, attachments.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn adopted(&self) -> Result<Adopted, Error> {
        let mut statics = Vec::new();
        self.fdb.for_each(|e| {
            if e.is_static {
                statics.push((e.vni_index, e.mac, e.place));
            }
        });
        Ok(Adopted { statics, underlays: self.live_underlays()?, ..self.maps.adopted()? })
    }

    /// Carries out a command that writes maps or attaches programs. Those that ask the kernel's routing are the agent's business
    /// and do nothing here.
    ///
    /// # Errors
    /// Those of the kernel, with what was tried.
    pub fn apply(&mut self, command: &Command) -> Result<(), Error> {
        match command {
            Command::SetStatic { vni_index, mac, place } => self.fdb.set_static(*vni_index, *mac, *place),
            Command::RemoveMac { vni_index, mac } => {
                self.fdb.remove(*vni_index, *mac);
                Ok(())
            }
            Command::FlushPlace(place) => {
                self.fdb.remove_if(|e| e.place == *place);
                Ok(())
            }
            Command::FlushVni(vni_index) => {
                self.fdb.remove_if(|e| e.vni_index == *vni_index);
                Ok(())
            }
            Command::FlushVniPlace(vni_index, place) => {
                self.fdb.remove_if(|e| e.vni_index == *vni_index && e.place == *place);
                Ok(())
            }
            other => self.maps.apply(other),
        }
    }

    /// An interface is gone from this network namespace. The kernel has taken back what refers to it; the tables say so when
    /// [`Datapath::apply`] is told.
    pub fn interface_gone(&mut self, ifindex: u32) {
        self.maps.guards.interface_gone(ifindex);
    }

    /// An interface is there. If it was gone for a moment, what the kernel took back is there again.
    pub fn interface_there(&mut self, ifindex: u32) {
        self.maps.guards.interface_there(ifindex);
    }

    /// News of interfaces may have been missed: as [`Datapath::interface_there`] for all of them.
    pub fn recheck_interfaces(&mut self) {
        self.maps.guards.enter_all();
    }

    /// Says that the agent is alive; to be repeated every [`abi::Heartbeat::PERIOD_MS`].
    pub fn heartbeat(&mut self) -> Result<(), Error> {
        self.maps.heartbeat(object::monotonic_ns())
    }

    /// The forwarding table, as it is at this moment.
    pub fn fdb(&self) -> &FdbView {
        &self.fdb
    }

    /// Paths of dynamic peers: pulses.
    pub fn paths(&self) -> &Paths {
        &self.maps.paths
    }

    /// Frames that are held back.
    pub fn holds(&self) -> &Holds {
        &self.maps.holds
    }

    /// The event stream, watched by the tokio runtime that this is called in; `None` the second time.
    ///
    /// # Errors
    /// Those of the event loop.
    pub fn take_events(&mut self) -> Result<Option<Events>, Error> {
        self.events.take().map(Events::watch).transpose()
    }

    /// The programs' log if [`Options::kernel_log`] asked for it; `None` the second time.
    pub fn take_kernel_log(&mut self) -> Option<KernelLog> {
        self.kernel_log.take()
    }
}
