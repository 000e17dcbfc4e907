//! wavnet's programs on hypervisors, with tables filled for two VMs: what an agent sets up, learning included.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use wavnet_common::{
    abi::{Config, Count, FloodSet, Heartbeat, Member, MemberKey, NextHop, Port, PortFlags, Vtep, VtepFlags},
    datapath::OUTER_LEN,
    wire::EthHdr,
};
use wavnet_proto::command::Command;
use wavnet_user::datapath::{Datapath, HookMode, HookWish, Options, Sizes, TcWish, down};

use super::{
    programs::abi::VXLAN_PORT,
    rig::{VM_MTU, Wired, vni},
};
use crate::lab::{Lab, host::Host, topology::UNDERLAY_MTU};

/// Index of the only VNI, port and VTEP.
pub(super) const ONLY: u16 = 0;

/// A datapath and its directory of pins, which is removed when this is dropped.
pub(super) struct Pinned {
    datapath: Option<Datapath>,
    path: PathBuf,
}

impl Pinned {
    pub(super) fn open(lab: &Lab, name: &str) -> Result<Pinned> {
        // The name by which the lab knows, and removes, what a killed process leaves.
        let path = Path::new("/sys/fs/bpf").join(format!("{}-{name}", lab.id()));
        let options = Options { bpffs: path.clone(), sizes: Sizes::default(), program_stats: false, tc: TcWish::Auto };
        let mut pinned = Pinned { datapath: None, path };
        pinned.datapath = Some(Datapath::open(&options)?);
        Ok(pinned)
    }

    pub(super) fn datapath(&mut self) -> Result<&mut Datapath> {
        self.datapath.as_mut().context("the datapath is closed")
    }

    /// Where the maps are.
    pub(super) fn maps(&self) -> PathBuf {
        self.path.join("maps")
    }

    /// Fills the tables for one VNI with one port and one peer.
    pub(super) fn fill(&mut self, local: [u8; 4], remote: [u8; 4], port_ifindex: u32, hop: NextHop) -> Result<()> {
        let udp_port = VXLAN_PORT.to_be_bytes();
        let port = Port {
            ifindex: port_ifindex,
            vni: vni().get(),
            vni_index: ONLY,
            flags: PortFlags::USED,
            max_frame: VM_MTU + EthHdr::LEN as u32,
        };
        let vtep = Vtep { flags: VtepFlags::USED, addr: remote, udp_port, next_hop: [hop; 2], ..Vtep::FREE };
        let mut set = Box::new(FloodSet::EMPTY);
        (set.vtep_count, set.vteps[0], set.port_count, set.ports[0]) = (1, ONLY, 1, ONLY);
        let key = MemberKey { vni: vni().get(), addr: remote };
        let member = Some(Member { vni_index: ONLY, vtep_index: ONLY, flags: 0 });
        let commands = [
            Command::SetVni { index: ONLY, vni: vni(), used: true },
            Command::SetPort { index: ONLY, port },
            Command::SetVtep { index: ONLY, vtep, addr: remote.into() },
            Command::SetMember { key, member },
            Command::SetFlood { vni_index: ONLY, set },
            Command::SetConfig(Config { local_v4: local, udp_port, reserved: [0; 2] }),
        ];
        let datapath = self.datapath()?;
        datapath.heartbeat()?;
        commands.iter().try_for_each(|command| datapath.apply(command).with_context(|| format!("{command:?}")))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // Its lock first.
        self.datapath = None;
        if let Err(error) = down(&self.path) {
            eprintln!("{error}");
        }
    }
}

/// The longest inner frame that the underlay takes in one piece.
pub(super) const MAX_INNER: u32 = UNDERLAY_MTU - (OUTER_LEN - EthHdr::LEN) as u32;

/// Both hypervisors.
pub(super) struct Overlay {
    sides: Arc<Mutex<[Pinned; 2]>>,
    stop: Arc<AtomicBool>,
    heart: Option<JoinHandle<()>>,
}

impl Overlay {
    pub(super) fn start(lab: &Lab, wired: &Wired) -> Result<Overlay> {
        let sides = Arc::new(Mutex::new([attach(lab, wired, 0)?, attach(lab, wired, 1)?]));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (sides.clone(), stop.clone());
        let heart = thread::Builder::new().name("heartbeat".into()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for side in lock(&shared).iter_mut() {
                    if let Err(error) = side.datapath().and_then(|d| Ok(d.heartbeat()?)) {
                        eprintln!("heartbeat: {error:#}");
                    }
                }
                thread::park_timeout(Duration::from_millis(Heartbeat::PERIOD_MS));
            }
        })?;
        Ok(Overlay { sides, stop, heart: Some(heart) })
    }

    /// What must not rise while frames are measured.
    pub(super) fn detours(&self) -> Result<Detours> {
        let mut detours = Detours::default();
        for side in lock(&self.sides).iter_mut() {
            let datapath = side.datapath()?;
            detours.flooded += datapath.count(Count::Flooded)?;
            detours.by_kernel += datapath.count(Count::KernelNextHop)?;
            detours.drops.extend(datapath.drops()?.iter().map(|(reason, frames)| (reason.label(), *frames)));
        }
        Ok(detours)
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(heart) = self.heart.take() {
            heart.thread().unpark();
            let _ = heart.join();
        }
    }
}

/// Counts of frames that did not go the way that is measured.
#[derive(Debug, Default)]
pub(super) struct Detours {
    flooded: u64,
    by_kernel: u64,
    drops: Vec<(&'static str, u64)>,
}

impl Detours {
    /// Fails if there were any since `before`.
    pub(super) fn none_since(&self, before: &Detours) -> Result<()> {
        let (flooded, by_kernel) = (self.flooded - before.flooded, self.by_kernel - before.by_kernel);
        ensure!(flooded == 0, "{flooded} frames were flooded: the receiver's address had not been learned");
        ensure!(by_kernel == 0, "{by_kernel} frames went by the kernel's next hop: heartbeats were late");
        for ((reason, now), (_, then)) in self.drops.iter().zip(&before.drops) {
            ensure!(now == then, "{} frames were dropped for {reason}", now - then);
        }
        Ok(())
    }
}

fn lock(sides: &Mutex<[Pinned; 2]>) -> MutexGuard<'_, [Pinned; 2]> {
    sides.lock().unwrap_or_else(PoisonError::into_inner)
}

fn attach(lab: &Lab, wired: &Wired, side: usize) -> Result<Pinned> {
    let (host, peer, port) = (&wired.hosts[side], &wired.hosts[1 - side], &wired.vms[side].port);
    let (nic, port_ifindex) = (host.ns.ifindex(Host::NIC)?, host.ns.ifindex(port)?);
    let hop = NextHop {
        ifindex: nic,
        max_inner: MAX_INNER,
        dst_mac: peer.ns.mac(Host::NIC)?.0,
        src_mac: host.ns.mac(Host::NIC)?.0,
        src_v4: host.addr.octets(),
    };
    let mut pinned = Pinned::open(lab, host.ns.short_name())?;
    host.ns.enter(|| {
        pinned.fill(host.addr.octets(), peer.addr.octets(), port_ifindex, hop)?;
        let datapath = pinned.datapath()?;
        datapath.attach_port(port_ifindex, port)?;
        let mode = datapath.attach_underlay(nic, Host::NIC, HookWish::Driver)?;
        ensure!(mode == HookMode::Driver, "the underlay program runs in {mode:?} mode, not in the driver");
        Ok(pinned)
    })
}
