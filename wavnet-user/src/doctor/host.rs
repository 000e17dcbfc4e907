//! Checks of kernel, privileges and file systems.

use std::{fs, path::Path};

use aya::programs::ProgramType;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::{Asked, Check, Verdict};
use crate::{
    api::{Client, ClientError},
    datapath::OLDEST_KERNEL,
};

/// CAP_SYS_ADMIN in linux/capability.h.
const SYS_ADMIN: u32 = 21;
/// tcx: TC programs as links, which replace atomically and survive the agent.
const TCX: (u32, u32) = (6, 6);

pub(super) fn checks(asked: &Asked) -> Vec<Check> {
    let release = read("/proc/sys/kernel/osrelease");
    let capabilities = capabilities(&read("/proc/self/status"));
    vec![
        kernel(&release),
        tcx(&release),
        privileges(capabilities, asked),
        bpf(),
        btf(Path::new("/sys/kernel/btf/vmlinux").exists()),
        jit(&read("/proc/sys/net/core/bpf_jit_enable")),
        bpffs(asked),
        open_files(&read("/proc/self/limits")),
        agent(asked),
    ]
}

pub(super) fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Major and minor version of a kernel release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn kernel(release: &str) -> Check {
    let (major, minor) = OLDEST_KERNEL;
    match version(release) {
        Some(v) if v >= OLDEST_KERNEL => Check::ok("kernel", release),
        Some(_) => Check::new("kernel", Verdict::Fail, release, format!("boot Linux {major}.{minor} or newer")),
        None => Check::new("kernel", Verdict::Unknown, format!("release {release:?}"), "mount /proc"),
    }
}

fn tcx(release: &str) -> Check {
    match version(release) {
        Some(v) if v >= TCX => Check::ok("tcx", "the kernel has it"),
        _ => Check::new(
            "tcx",
            Verdict::Warn,
            "not before Linux 6.6: clsact is used",
            "a newer kernel replaces programs atomically; with clsact other users of tc must leave ours alone",
        ),
    }
}

/// The effective capabilities of /proc/self/status.
fn capabilities(status: &str) -> Option<u64> {
    let hex = status.lines().find_map(|l| l.strip_prefix("CapEff:"))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

/// What every agent needs and is not among these capabilities.
fn missing_of(effective: u64) -> Vec<&'static str> {
    // Numbers of linux/capability.h; CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON.
    let has = |bit: u32| effective >> bit & 1 == 1;
    let admin = has(SYS_ADMIN);
    let wanted = [("CAP_BPF", admin || has(39)), ("CAP_NET_ADMIN", has(12)), ("CAP_PERFMON", admin || has(38))];
    wanted.iter().filter(|(_, has)| !has).map(|(name, _)| *name).collect()
}

/// True if it is known that this process has not the capabilities that an agent needs.
pub(crate) fn lacks_capabilities() -> bool {
    capabilities(&read("/proc/self/status")).is_some_and(|effective| !missing_of(effective).is_empty())
}

fn privileges(effective: Option<u64>, asked: &Asked) -> Check {
    const NAME: &str = "privileges";
    let mut missing = missing_of(effective.unwrap_or_default());
    if asked.program_run_time && effective.is_none_or(|e| e >> SYS_ADMIN & 1 == 0) {
        missing.push("CAP_SYS_ADMIN (for metrics.program_run_time)");
    }
    if effective.is_none() {
        Check::new(NAME, Verdict::Unknown, "/proc/self/status cannot be read", "mount /proc")
    } else if missing.is_empty() {
        Check::ok(NAME, "sufficient")
    } else {
        let found = format!("missing: {}", missing.join(", "));
        let mend = "run the agent (and this) as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; CAP_SYS_ADMIN is \
            needed, too, for metrics.program_run_time, to mount a bpffs where there is none, and to notice other agents on an interface";
        Check::new(NAME, Verdict::Fail, found, mend)
    }
}

fn bpf() -> Check {
    const NAME: &str = "bpf system call";
    let types = [("XDP", ProgramType::Xdp), ("TC", ProgramType::SchedClassifier)];
    for (name, kind) in types {
        match aya::sys::is_program_supported(kind) {
            Ok(true) => {}
            Ok(false) => {
                let found = format!("the kernel takes no {name} programs");
                let mend = "enable CONFIG_BPF_SYSCALL, CONFIG_NET_CLS_BPF and CONFIG_NET_CLS_ACT in the kernel";
                return Check::new(NAME, Verdict::Fail, found, mend);
            }
            Err(e) => {
                let found = format!("cannot be tried: {}", anyhow::Error::from(e).root_cause());
                return Check::new(
                    NAME,
                    Verdict::Unknown,
                    found,
                    "run this as root; in a container, allow the bpf system call",
                );
            }
        }
    }
    Check::ok(NAME, "loads XDP and TC programs")
}

fn btf(there: bool) -> Check {
    if there {
        Check::ok("BTF", "/sys/kernel/btf/vmlinux")
    } else {
        let mend =
            "mount /sys, or use a kernel with CONFIG_DEBUG_INFO_BTF; maps and programs lack names and types without it";
        Check::new("BTF", Verdict::Warn, "the kernel has none", mend)
    }
}

fn jit(enabled: &str) -> Check {
    match enabled {
        "1" => Check::ok("BPF JIT", "on"),
        "2" => Check::new("BPF JIT", Verdict::Warn, "on, and writes to the log", "sysctl net.core.bpf_jit_enable=1"),
        "0" => {
            let mend = "sysctl net.core.bpf_jit_enable=1";
            Check::new("BPF JIT", Verdict::Warn, "off: programs are interpreted, many times slower", mend)
        }
        // Kernels with CONFIG_BPF_JIT_ALWAYS_ON in a namespace other than the first do not show it.
        _ => {
            let mend = "nothing, or look at net.core.bpf_jit_enable in the host's first network namespace";
            Check::new("BPF JIT", Verdict::Unknown, "not shown in this network namespace", mend)
        }
    }
}

fn bpffs(asked: &Asked) -> Check {
    const NAME: &str = "bpffs";
    let there = asked.bpffs.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    match statfs(there) {
        Ok(fs) if fs.filesystem_type() == BPF_FS_MAGIC => {
            let dir = asked.bpffs.display();
            match asked.bpffs.join("maps").try_exists() {
                Ok(true) => Check::ok(NAME, format!("{dir}: has pins of wavnet")),
                Ok(false) => Check::ok(NAME, format!("{dir}: no pins yet")),
                Err(e) => Check::new(NAME, Verdict::Unknown, format!("{dir}: {e}"), "run this as root"),
            }
        }
        Ok(_) if asked.bpffs.starts_with("/sys/fs/bpf") && Path::new("/sys/fs/bpf").is_dir() => {
            let mend = "nothing if the agent has CAP_SYS_ADMIN; else, as root: mount -t bpf bpf /sys/fs/bpf";
            let found = "not mounted at /sys/fs/bpf; the agent mounts it, with CAP_SYS_ADMIN";
            Check::new(NAME, Verdict::Warn, found, mend)
        }
        Ok(_) => {
            let found = format!("{} is not on a BPF file system", asked.bpffs.display());
            Check::new(NAME, Verdict::Fail, found, "mount -t bpf bpf DIRECTORY, and put agent.bpffs below it")
        }
        Err(e) => Check::new(NAME, Verdict::Unknown, format!("{}: {e}", there.display()), "run this as root"),
    }
}

/// The soft limit of /proc/self/limits. (Locked memory is no matter: maps are charged to the memory cgroup since 5.11.)
fn open_files(limits: &str) -> Check {
    const NAME: &str = "open files";
    // A link or two per port, maps, clients.
    const ENOUGH: u64 = 4096;
    let soft = limits.lines().find_map(|l| l.strip_prefix("Max open files")?.split_whitespace().next());
    let mend = format!("ulimit -n {ENOUGH}, or LimitNOFILE={ENOUGH} in the service; some 1,000 ports need it");
    match soft.map(|s| (s, s.parse::<u64>())) {
        Some(("unlimited", _)) => Check::ok(NAME, "unlimited"),
        Some((_, Ok(n))) if n >= ENOUGH => Check::ok(NAME, n.to_string()),
        Some((_, Ok(n))) => Check::new(NAME, Verdict::Warn, format!("limited to {n}"), mend),
        _ => Check::new(NAME, Verdict::Unknown, "/proc/self/limits cannot be read", "mount /proc"),
    }
}

fn agent(asked: &Asked) -> Check {
    const NAME: &str = "agent";
    let socket = asked.socket.display();
    match Client::connect(&asked.socket) {
        // That of this host, as a rule. A second one is told what it needs when it starts.
        Ok(_) => Check::ok(NAME, format!("one is running on {socket}")),
        Err(ClientError::NotRunning(_)) => Check::ok(NAME, format!("none is running on {socket}")),
        Err(e) => Check::new(NAME, Verdict::Unknown, e.to_string(), "run this as root"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("6.18.44+"), Some((6, 18)));
        assert_eq!(version(""), None);
        assert_eq!(kernel("6.0.9").verdict, Verdict::Fail);
        assert_eq!(kernel("6.1.0").verdict, Verdict::Ok);
        assert_eq!(kernel("10.0.0").verdict, Verdict::Ok);
        assert_eq!(kernel("").verdict, Verdict::Unknown);
        assert_eq!(tcx("6.5.9").verdict, Verdict::Warn);
        assert_eq!(tcx("6.6.0").verdict, Verdict::Ok);
    }

    #[test]
    fn capabilities_are_read_and_judged() {
        assert_eq!(capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(capabilities("CapEff:\tzz\n"), None);
        let asked = Asked::default();
        let judged = |bits: &[u32]| privileges(Some(bits.iter().map(|b| 1 << b).sum()), &asked);
        assert_eq!(judged(&[12, 21]).verdict, Verdict::Ok);
        assert_eq!(judged(&[12, 38, 39]).verdict, Verdict::Ok);
        let none = judged(&[]);
        assert_eq!(none.verdict, Verdict::Fail);
        assert_eq!(none.found, "missing: CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON");
        assert_eq!(privileges(None, &asked).verdict, Verdict::Unknown);
        let measured = Asked { program_run_time: true, ..Asked::default() };
        assert_eq!(privileges(Some(1 << 12 | 1 << 38 | 1 << 39), &measured).verdict, Verdict::Fail);
        assert_eq!(privileges(Some(1 << 12 | 1 << 21), &measured).verdict, Verdict::Ok);
    }

    #[test]
    fn a_directory_elsewhere_is_no_bpffs() {
        let dir = tempfile::tempdir().unwrap();
        let asked = Asked { bpffs: dir.path().join("a/b"), ..Asked::default() };
        assert_eq!(bpffs(&asked).verdict, Verdict::Fail);
    }

    #[test]
    fn limits_are_read() {
        let limits =
            |n: &str| format!("Limit  Soft Limit  Hard Limit\nMax open files            {n}   524288   files\n");
        assert_eq!(open_files(&limits("1024")).verdict, Verdict::Warn);
        assert_eq!(open_files(&limits("4096")).verdict, Verdict::Ok);
        assert_eq!(open_files(&limits("unlimited")).verdict, Verdict::Ok);
        assert_eq!(open_files("").verdict, Verdict::Unknown);
    }

    #[test]
    fn an_interpreter_is_worth_a_warning() {
        assert_eq!(jit("0").verdict, Verdict::Warn);
        assert_eq!(jit("1").verdict, Verdict::Ok);
        assert_eq!(jit("").verdict, Verdict::Unknown);
    }
}
