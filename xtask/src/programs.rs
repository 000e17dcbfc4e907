//! The programs that the lab runs, and where they come from.

use std::{
    env,
    path::{Path, PathBuf},
};

/// A program that tests, the demonstration or the bench start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// What is started.
    pub(crate) name: &'static str,
    /// The Debian package that has it.
    pub(crate) package: &'static str,
    /// What it is for.
    pub(crate) purpose: &'static str,
}

const fn program(name: &'static str, package: &'static str, purpose: &'static str) -> Program {
    Program { name, package, purpose }
}

/// Everything installed as Debian packages.
pub(crate) const LAB: &[Program] = &[
    program("ip", "iproute2", "namespaces and links"),
    program("bridge", "iproute2", "the kernel's vxlan FDB"),
    program("tc", "iproute2", "queueing disciplines"),
    program("ethtool", "ethtool", "offloads of links"),
    program("ping", "iputils-ping", "reachability"),
    program("nft", "nftables", "filters between hypervisors, NAT routers"),
    program("conntrack", "conntrack", "what NAT routers remember"),
    program("stun", "stun-client", "classification of NATs"),
    program("tcpdump", "tcpdump", "captures"),
    program("tshark", "tshark", "dissection of outer packets"),
    program("iperf3", "iperf3", "TCP streams"),
    program("dnsmasq", "dnsmasq-base", "DHCP server"),
    program("udhcpc", "udhcpc", "DHCP client"),
    program("busybox", "busybox-static", "HTTP server and client"),
    program("curl", "curl", "scrapes of the metrics"),
    program("tmux", "tmux", "the demonstration's terminal in tests"),
];

/// Checks the metrics. Its package brings a daemon, so only the program is taken out of it.
pub(crate) const PROMTOOL: Program = program("promtool", "prometheus", "checks of the metrics' format");

/// An independent STUN server and client. Their package brings a daemon, too.
pub(crate) const STUN: &[Program] = &[
    program("turnserver", "coturn", "STUN server in front of NATs"),
    program("turnutils_natdiscovery", "coturn", "classification of NATs"),
];

/// Where a program is: in `path`, or in the directories that only root has in its `PATH`.
pub(crate) fn find(name: &str, path: &std::ffi::OsStr) -> Option<PathBuf> {
    env::split_paths(path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// The programs of `wanted` that are not there.
pub(crate) fn missing<'a>(wanted: &'a [Program], path: &std::ffi::OsStr) -> Vec<&'a Program> {
    wanted.iter().filter(|program| find(program.name, path).is_none()).collect()
}

/// The packages of some programs, each once.
pub(crate) fn packages(programs: &[&Program]) -> Vec<&'static str> {
    let mut packages: Vec<_> = programs.iter().map(|program| program.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_asked_for_and_each_package_once() {
        let wanted = [
            program("sh", "dash", ""),
            program("no-such-a", "iproute2", ""),
            program("no-such-b", "iproute2", ""),
            program("no-such-c", "curl", ""),
        ];
        let missing = missing(&wanted, "/usr/bin:/bin".as_ref());
        assert_eq!(
            missing.iter().map(|program| program.name).collect::<Vec<_>>(),
            ["no-such-a", "no-such-b", "no-such-c"]
        );
        assert_eq!(packages(&missing), ["curl", "iproute2"]);
    }
}
