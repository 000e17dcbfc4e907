//! Many hosts that register, and what they cost the server.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::{Context, Result};

use super::{Host, Server};

/// Registers so many hosts, one after the other, each from a loopback address of a prefix of its own and in a VNI with 99 others.
/// Their sockets stay open.
///
/// # Errors
/// One cannot register.
pub fn register(server: &Server, at: SocketAddr, hosts: u32) -> Result<Vec<UdpSocket>> {
    // A descriptor for each, and some beside them.
    let (_, most) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, most, most)?;
    let access = server.access()?;
    server.ns().enter(move || {
        (0..hosts)
            .map(|n| {
                let ip = Ipv4Addr::new(127, 1 + (n / 250) as u8, (n % 250) as u8, 1);
                let socket = UdpSocket::bind((ip, 4789)).with_context(|| format!("binding {ip}"))?;
                let kept = socket.try_clone()?;
                let mut host = Host::with(socket, at, access.clone(), n.into())?;
                host.connect()?;
                host.register(&format!("hypervisor-{n}"), &[1 + n / 100])?;
                Ok(kept)
            })
            .collect()
    })
}

/// Bytes of memory that a process has (resident, `VmRSS`).
///
/// # Errors
/// There is no such process.
pub fn resident(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}
