//! Requirements of the running kernel.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use nix::sys::{statfs, utsname};
use wavnet_ebpf_builder::Version;

use super::{Area, Check, Verdict, missing};
use crate::process;

/// A kernel that people still run with long-term support, and that has what the programs use: `bpf_redirect_neigh`
/// (5.10), atomics that return a value (5.12), XDP frags (5.18).
const OLDEST: Version = Version { major: 6, minor: 1 };

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS: statfs::FsType = statfs::FsType(0xcafe_4a11);

/// Configuration options and what each is for.
const OPTIONS: [(&str, &str); 19] = [
    ("CONFIG_BPF_SYSCALL", "kernel programs"),
    ("CONFIG_BPF_JIT", "kernel programs at full speed"),
    ("CONFIG_NET_CLS_ACT", "programs on ports"),
    ("CONFIG_NET_SCH_INGRESS", "programs on ports"),
    ("CONFIG_NET_NS", "hypervisors of the lab"),
    ("CONFIG_VETH", "ports and links of the lab"),
    ("CONFIG_TUN", "tap ports"),
    ("CONFIG_VXLAN", "the lab's kernel peer"),
    ("CONFIG_BRIDGE", "the lab's kernel peer"),
    ("CONFIG_IP_MULTIPLE_TABLES", "the lab's routed underlay"),
    ("CONFIG_PACKET", "raw frames and the WAN emulator of the lab"),
    ("CONFIG_NF_CONNTRACK", "NAT routers of the lab"),
    ("CONFIG_NF_CT_NETLINK", "NAT routers of the lab"),
    ("CONFIG_NF_TABLES", "NAT routers of the lab"),
    ("CONFIG_NFT_CT", "NAT routers of the lab"),
    ("CONFIG_NFT_NAT", "NAT routers of the lab"),
    ("CONFIG_NFT_MASQ", "NAT routers of the lab"),
    ("CONFIG_UNIX", "the agent's socket"),
    ("CONFIG_INET", "the underlay"),
];

pub(super) fn checks() -> Vec<Check> {
    let area = Area::Kernel;
    let release = utsname::uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    let mut checks = vec![
        Check::new(area, "version", version(&release)),
        Check::new(area, "BTF", btf(Path::new("/sys/kernel/btf/vmlinux").exists())),
        Check::new(area, "bpffs", bpffs(statfs::statfs("/sys/fs/bpf").is_ok_and(|fs| fs.filesystem_type() == BPF_FS))),
        Check::new(area, "/dev/net/tun", tun(Path::new("/dev/net/tun").exists())),
    ];
    let text = configuration(&release);
    checks.push(Check::new(area, "configuration", options(text.as_deref().map(parse).as_ref())));
    checks
}

fn version(release: &str) -> Verdict {
    match Version::parse(release) {
        Some(version) if version >= OLDEST => Verdict::Found(release.to_owned()),
        Some(_) => missing(format!("Linux {release} is older than {OLDEST}"), "boot a newer kernel"),
        None => Verdict::Note(format!("`{release}` is no version this understands")),
    }
}

fn btf(present: bool) -> Verdict {
    if present {
        Verdict::Found("/sys/kernel/btf/vmlinux".into())
    } else {
        missing("no /sys/kernel/btf/vmlinux", "boot a kernel with CONFIG_DEBUG_INFO_BTF=y, such as Debian's own")
    }
}

fn bpffs(mounted: bool) -> Verdict {
    if mounted {
        Verdict::Found("/sys/fs/bpf".into())
    } else {
        Verdict::Note("not mounted on /sys/fs/bpf; the agent and the lab mount it".into())
    }
}

fn tun(present: bool) -> Verdict {
    if present {
        Verdict::Found("there".into())
    } else {
        missing("not there", "modprobe tun; in a container, pass the device in")
    }
}

/// The kernel's configuration as text, from itself or from /boot.
fn configuration(release: &str) -> Option<String> {
    if Path::new("/proc/config.gz").exists()
        && let Ok(text) = process::read(Command::new("gzip").args(["-dc", "/proc/config.gz"]))
    {
        return Some(text);
    }
    fs::read_to_string(format!("/boot/config-{release}")).ok()
}

fn parse(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter(|line| line.starts_with("CONFIG_")).filter_map(|line| line.split_once('=')).collect()
}

fn options(configuration: Option<&BTreeMap<&str, &str>>) -> Verdict {
    let Some(configuration) = configuration else {
        return Verdict::Note("neither /proc/config.gz nor /boot tells".into());
    };
    let lacking: Vec<String> = OPTIONS
        .iter()
        .filter(|(option, _)| !matches!(configuration.get(option), Some(&("y" | "m"))))
        .map(|(option, purpose)| format!("{option} ({purpose})"))
        .collect();
    if lacking.is_empty() {
        Verdict::Found(format!("all {} options that are needed", OPTIONS.len()))
    } else {
        missing(format!("without {}", lacking.join(", ")), "boot a kernel that has them, such as Debian's own")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_count_and_unset_options_do_not() {
        let mut text: String = OPTIONS.iter().map(|(option, _)| format!("{option}=m\n")).collect();
        assert!(matches!(options(Some(&parse(&text))), Verdict::Found(_)));
        text = text.replace("CONFIG_VXLAN=m", "# CONFIG_VXLAN is not set");
        assert!(
            matches!(options(Some(&parse(&text))), Verdict::Missing { found, .. } if found.contains("CONFIG_VXLAN")),
            "{text}"
        );
        assert!(matches!(options(None), Verdict::Note(_)), "what cannot be told is not missing");
    }

    #[test]
    fn kernel_versions_compare_by_number() {
        assert!(matches!(version("6.18.0-1-amd64"), Verdict::Found(_)));
        assert!(matches!(version("5.4.0"), Verdict::Missing { .. }));
        assert!(matches!(version("unknown"), Verdict::Note(_)));
    }
}
