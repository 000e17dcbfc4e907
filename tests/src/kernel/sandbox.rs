//! A place for kernel tests: pins, namespace, interfaces.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use anyhow::{Context, Result, ensure};
use aya::{
    maps::{Map, MapData, PerCpuArray, PerCpuValues},
    programs::{Program, TestRun, TestRunOptions},
    util::nr_cpus,
};
use nix::{
    net::if_::if_nametoindex,
    sched::{CloneFlags, unshare},
};
use wavnet_common::{
    abi::{Config, Count, Gates, map, program},
    addr::Mac,
    datapath::{Note, Of, errand},
    fdb::{self, Place, Seen},
    testing::{Devices, Hook, Stimulus, Tally, TestFdb, World},
};
use wavnet_proto::command::Command as TableCommand;
use wavnet_user::datapath::{Datapath, Error, Options, Sizes, TcWish, down};

use super::{Capture, Frames, install};
use crate::lab::{NOT_ROOT, binary::object, skip};

/// Small tables, so that full ones are met; the FDB has as many buckets as that of the host's tables in tests.
pub const SIZES: Sizes = Sizes { ports: 64, vnis: 16, vteps: 64, members: 64, fdb_buckets: 64 };

/// A directory for pins of its own; gone when dropped.
#[derive(Debug)]
pub struct PinPath(PathBuf);

impl PinPath {
    /// The path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Options for opening a datapath there, with the defaults of the agent.
    pub fn options(&self, sizes: Sizes) -> Options {
        let seed = Some(TestFdb::SEED);
        Options { bpffs: self.0.clone(), sizes, program_stats: false, tc: TcWish::Auto, kernel_log: false, seed }
    }

    /// Opens a datapath there.
    ///
    /// # Errors
    /// See [`Datapath::open`].
    pub fn open(&self, sizes: Sizes) -> Result<Datapath, Error> {
        Datapath::open(&self.options(sizes))
    }
}

impl Drop for PinPath {
    fn drop(&mut self) {
        if let Err(e) = down(&self.0) {
            eprintln!("{} stays: {e}", self.0.display());
        }
    }
}

/// A directory for pins; or, printing `SKIP: <test>: <reason>`, none.
///
/// # Panics
/// Instead of skipping, when `WAVNET_REQUIRE_KERNEL=1` is set.
#[track_caller]
pub fn require(test: &str) -> Option<PinPath> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let pins = PinPath(format!("/sys/fs/bpf/wav-{}-{number}", std::process::id()).into());
    let reason = match object() {
        _ if !nix::unistd::geteuid().is_root() => NOT_ROOT.to_owned(),
        Ok(()) => return Some(pins),
        Err(e) => format!("{e:#}"),
    };
    skip(test, &reason);
    None
}

/// The programs over a test world, on interfaces of a namespace that nobody else is in.
pub struct Sandbox {
    /// The interfaces.
    pub devices: Devices,
    /// The tables' contents.
    pub world: World,
    /// The programs.
    pub datapath: Datapath,
    capture: Capture,
    /// What is in force.
    flags: u16,
    gates: RefCell<PerCpuArray<MapData, Words>>,
}

/// `GATES[0]`, which keeps frames in order between XDP and TC: zeros, as words, where nobody waits.
type Words = [u64; WORDS];
const WORDS: usize = size_of::<Gates>() / 8;

/// What came of a frame in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelOutcome {
    /// The program's return value.
    pub action: u32,
    /// The frame afterwards.
    pub bytes: Vec<u8>,
    /// What was noted for TC: port and VNI.
    pub noted: Option<(u16, u16)>,
    /// Copies: interface, bytes.
    pub copies: Vec<(u32, Vec<u8>)>,
    /// Copies that came in again: interface, bytes.
    pub errands: Vec<(u32, Vec<u8>)>,
    /// What was counted, without lost events.
    pub tally: Tally,
}

impl Sandbox {
    /// Runs `f` in a new sandbox, in a thread of its own.
    ///
    /// # Errors
    /// What `f` says, or what could not be made.
    pub fn run(pins: &PinPath, f: impl FnOnce(&mut Sandbox) -> Result<()> + Send) -> Result<()> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
                let devices = make_devices()?;
                let world = World::new(&devices);
                let mut datapath = pins.open(SIZES)?;
                install(&world, &mut datapath)?;
                let capture = Capture::start()?;
                let flags = world.config.flags;
                let gates = MapData::from_pin(pins.path().join("maps").join(map::GATES))?;
                let gates = RefCell::new(PerCpuArray::try_from(Map::PerCpuArray(gates))?);
                f(&mut Sandbox { devices, world, datapath, capture, flags, gates })
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Puts the FDB back to the world's entries.
    pub fn reset_fdb(&self) {
        self.datapath.fdb().remove_if(|_| true);
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
        let now = now.map_or(0, |t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64);
        self.world.fill_fdb(self.datapath.fdb(), Seen::at(now));
    }

    /// Has the world's pulses wait for their answers again.
    pub fn expect_pulses(&self) {
        for (path, number) in &self.world.expected {
            self.datapath.paths().expect_pulse(*path, *number);
        }
    }

    /// Entries of the FDB, sorted, without their ages.
    pub fn fdb_entries(&self) -> Vec<(u16, Mac, Place, bool)> {
        let mut all = Vec::new();
        fdb::for_each(self.datapath.fdb(), |key, e| all.push((key.vni_index(), key.mac(), e.place, e.is_static)));
        all.sort();
        all
    }

    /// Counters since the maps were made.
    ///
    /// # Errors
    /// Those of the kernel.
    fn tally(&self) -> Result<Tally> {
        let drops = self.datapath.drops()?.into_iter().filter(|(_, n)| *n != 0).collect();
        let mut counts = BTreeMap::new();
        for what in Count::ALL.into_iter().filter(|c| *c != Count::EventsLost) {
            counts.insert(what as u32, self.datapath.count(what)?);
        }
        let mut traffic = BTreeMap::new();
        let ports = self.world.ports.iter().map(|(i, _)| Of::Port(*i));
        let vnis = self.world.vnis.iter().map(|(i, _)| Of::Vni(*i));
        let vteps = self.world.vteps.iter().map(|(i, _)| Of::Vtep(*i));
        for of in ports.chain(vnis).chain(vteps) {
            let t = self.datapath.traffic(of)?;
            traffic.insert(Tally::slot(of), [t.rx_frames, t.rx_bytes, t.tx_frames, t.tx_bytes]);
        }
        Ok(Tally { drops, counts, traffic })
    }

    /// Nobody waits: programs that a test runs alone have nobody to open the gates behind them.
    fn open_gates(&self) -> Result<()> {
        let cpus = nr_cpus().map_err(|(what, e)| anyhow::anyhow!("{what}: {e}"))?;
        let open = PerCpuValues::try_from(vec![[0; WORDS]; cpus])?;
        Ok(self.gates.borrow_mut().set(0, open, 0)?)
    }

    /// Runs a program on one frame. The heartbeat is as it is.
    ///
    /// # Errors
    /// Those of the kernel: frames that a test-run refuses.
    pub fn test_run(&mut self, stimulus: &Stimulus) -> Result<KernelOutcome> {
        if stimulus.flags != self.flags {
            let config = Config { flags: stimulus.flags, ..self.world.config };
            self.datapath.apply(&TableCommand::SetConfig(config))?;
            self.flags = stimulus.flags;
        }
        self.open_gates()?;
        let before = self.tally()?;
        self.capture.drain()?;
        let mut out = vec![0; stimulus.frame.len() + 512];
        let (name, ifindex) = match stimulus.hook {
            Hook::UnderlayXdp => (program::UNDERLAY_XDP, None),
            Hook::UnderlayTc => (program::UNDERLAY_TC, Some(self.devices.underlay)),
            Hook::PortXdp(place) => (program::PORT_XDP, Some(self.devices.ports[place])),
            Hook::Port(place) => (program::PORT_TC, Some(self.devices.ports[place])),
        };
        let context = ifindex.map(|ifindex| match stimulus.hook {
            Hook::PortXdp(_) => xdp_context(ifindex, &stimulus.frame),
            _ => context(ifindex, stimulus.errand.map_or(0, errand::mark), stimulus.gso),
        });
        let options = TestRunOptions {
            data_in: Some(&stimulus.frame),
            data_out: Some(&mut out),
            ctx_in: context.as_ref().map(|c| &c[..]),
            ..TestRunOptions::new()
        };
        let result = match self.datapath.program(name)? {
            Program::Xdp(p) => p.test_run(options),
            Program::SchedClassifier(p) => p.test_run(options),
            other => panic!("{name} is a program of type {:?}", other.prog_type()),
        }?;
        out.truncate(result.data_size_out as usize);
        let noted = self.split_note(stimulus, result.return_value, &mut out);
        let Frames { sent: copies, received } = self.capture.drain()?;
        let errands = received.into_iter().filter(|(by, _)| Some(*by) == ifindex).collect();
        let tally = difference(&before, &self.tally()?);
        Ok(KernelOutcome { action: result.return_value, bytes: out, noted, copies, errands, tally })
    }
}

impl Sandbox {
    /// Takes the note from the front of what XDP passes up: what passes as it came has none, and its length.
    fn split_note(&self, stimulus: &Stimulus, action: u32, out: &mut Vec<u8>) -> Option<(u16, u16)> {
        const XDP_PASS: u32 = 2;
        if stimulus.hook != Hook::UnderlayXdp || action != XDP_PASS || out.len() == stimulus.frame.len() {
            return None;
        }
        let note = Note::from_bytes(out.get(..Note::LEN)?)?;
        out.drain(..Note::LEN);
        note.read(self.datapath.cookie())
    }
}

/// True if a test-run takes the frame: XDP's wants an Ethernet header, TC's something behind it, and a whole IP header where the
/// ethertype says so.
pub fn is_testable(stimulus: &Stimulus) -> bool {
    let frame = &stimulus.frame;
    let least = match (stimulus.hook, frame.get(12..14)) {
        (Hook::UnderlayXdp | Hook::PortXdp(_), _) => 14,
        (_, Some([0x08, 0x00])) => 14 + 20,
        (_, Some([0x86, 0xdd])) => 14 + 40,
        _ => 15,
    };
    frame.len() >= least
}

/// `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
pub(super) fn xdp_context(ifindex: u32, frame: &[u8]) -> Vec<u8> {
    [0, frame.len() as u32, 0, ifindex, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect()
}

/// `struct __sk_buff` with the fields that a test-run takes from it.
pub(super) fn context(ifindex: u32, mark: u32, gso: (u32, u32)) -> Vec<u8> {
    const MARK: usize = 8;
    const IFINDEX: usize = 40;
    const GSO_SEGS: usize = 164;
    const GSO_SIZE: usize = 176;
    let mut skb = vec![0; 192];
    let (gso_size, gso_segs) = gso;
    for (offset, value) in [(MARK, mark), (IFINDEX, ifindex), (GSO_SIZE, gso_size), (GSO_SEGS, gso_segs)] {
        skb[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }
    skb
}

fn difference(before: &Tally, after: &Tally) -> Tally {
    fn sub<K: Ord + Copy>(before: &BTreeMap<K, u64>, after: &BTreeMap<K, u64>) -> BTreeMap<K, u64> {
        let since = |k: &K| before.get(k).copied().unwrap_or(0);
        after.iter().map(|(k, v)| (*k, v - since(k))).filter(|(_, v)| *v != 0).collect()
    }
    let traffic = after
        .traffic
        .iter()
        .map(|(k, v)| {
            let old = before.traffic.get(k).copied().unwrap_or_default();
            (*k, std::array::from_fn(|i| v[i] - old[i]))
        })
        .filter(|(_, v)| *v != [0; 4])
        .collect();
    Tally { drops: sub(&before.drops, &after.drops), counts: sub(&before.counts, &after.counts), traffic }
}

/// Veth pairs for the underlay, the ports and a stranger, in the calling thread's namespace.
fn make_devices() -> Result<Devices> {
    let names: Vec<String> =
        ["u", "hold"].map(str::to_owned).into_iter().chain((0..=Devices::PORTS).map(|i| format!("p{i}"))).collect();
    let found = make_veths(&names)?;
    let mut ports = [0; Devices::PORTS + 1];
    ports.copy_from_slice(&found[2..]);
    Ok(Devices { underlay: found[0], hold: found[1], ports })
}

/// Veth pairs with these names, both ends in the calling thread's namespace; their indices.
pub(super) fn make_veths(names: &[String]) -> Result<Vec<u32>> {
    for which in ["all", "default"] {
        // Kernels without IPv6 have no such file, and no chatter either.
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6"), "1");
    }
    let mut batch = String::new();
    for name in names {
        batch += &format!(
            "link add {name} mtu 9000 type veth peer name {name}x mtu 9000\nlink set {name} up\nlink set {name}x up\n"
        );
    }
    let mut ip = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("running ip (Debian package iproute2)")?;
    ip.stdin.take().context("ip has no standard input")?.write_all(batch.as_bytes())?;
    ensure!(ip.wait()?.success(), "ip could not make the interfaces");
    names.iter().map(|name| Ok(if_nametoindex(name.as_str())?)).collect()
}
