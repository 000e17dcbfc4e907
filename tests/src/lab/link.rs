//! Links between namespaces, and kernel devices.

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use wavnet_common::addr::Vni;

use super::{netns::Netns, poll_until};

/// Makes a veth pair, one end in each namespace, both up, with an MTU and so many queues.
///
/// # Errors
/// What `ip` says: a name is taken or longer than 15 bytes.
pub fn veth(a: (&Netns, &str), b: (&Netns, &str), mtu: u32, queues: u32) -> Result<()> {
    let ((a_ns, a_name), (b_ns, b_name)) = (a, b);
    let queues = format!("numtxqueues {queues} numrxqueues {queues}");
    a_ns.ip(&format!(
        "link add name {a_name} mtu {mtu} {queues} type veth peer name {b_name} mtu {mtu} {queues} netns {}",
        b_ns.name()
    ))?;
    for (ns, name) in [a, b] {
        ns.ip(&format!("link set dev {name} up"))?;
    }
    for (ns, name) in [a, b] {
        wait_active(ns, name)?;
    }
    Ok(())
}

/// Waits until frames can be sent on a link: the kernel gives the end that came up first its queue a moment after the other end
/// came up, and until then drops silently what is sent there.
fn wait_active(ns: &Netns, name: &str) -> Result<()> {
    poll_until(&format!("{name} of {} to be up", ns.short_name()), Duration::from_secs(10), || {
        let json = ns.ip(&format!("-j link show dev {name}"))?;
        let links: serde_json::Value = serde_json::from_str(&json).context("output of ip -j")?;
        let (state, queue) = (&links[0]["operstate"], &links[0]["qdisc"]);
        ensure!(state == "UP" && queue != "noop", "state {state}, qdisc {queue}");
        Ok(())
    })
}

/// Makes a veth end behave like a NIC: no super-packets leave it and checksums are complete, as on a wire, while GRO is on,
/// which also makes the driver poll (NAPI) so that XDP of the other end can redirect to it.
///
/// # Errors
/// What `ethtool` says.
pub fn like_a_nic(ns: &Netns, name: &str) -> Result<()> {
    offload(ns, name, "tso off gso off tx off tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off gro on")
}

/// Switches offloads of an interface, with words as `ethtool -K` takes them.
///
/// # Errors
/// What `ethtool` says.
pub fn offload(ns: &Netns, name: &str, words: &str) -> Result<()> {
    let words: Vec<&str> = ["-K", name].into_iter().chain(words.split(' ')).collect();
    ns.run("ethtool", &words)?;
    Ok(())
}

/// Switches GRO on, which makes a veth end poll, so that XDP can redirect to the other end.
///
/// # Errors
/// What `ethtool` says.
pub fn gro_on(ns: &Netns, name: &str) -> Result<()> {
    offload(ns, name, "gro on")
}

/// Sets an attribute of an interface, by its name in sysfs (`/sys/class/net/…/`).
///
/// # Errors
/// There is none of that name, or it does not take the value.
pub fn set_attribute(ns: &Netns, name: &str, attribute: &str, value: &str) -> Result<()> {
    // A new mount: the one there is shows the interfaces of the namespace that it was mounted in.
    let write = format!("mount -t sysfs sysfs /sys && echo {value} > /sys/class/net/{name}/{attribute}");
    ns.run("unshare", &["--mount", "sh", "-c", &write])?;
    Ok(())
}

/// Has a kernel's thread poll an interface of one queue (NAPI), which then does everything there is to do for a frame that comes in up
/// to a socket's buffer, XDP's programs among it. So its CPU can be chosen and its time told. Gives the thread's number.
///
/// # Errors
/// The interface does not poll, see [`like_a_nic`], or there are several threads.
pub fn poll_in_thread(ns: &Netns, name: &str) -> Result<u32> {
    let threads = || -> Result<BTreeSet<u32>> {
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir("/proc")? {
            let entry = entry?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // It may have ended meanwhile.
            let comm = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if comm.starts_with(&format!("napi/{name}-")) {
                found.insert(pid);
            }
        }
        Ok(found)
    };
    let before = threads()?;
    set_attribute(ns, name, "threaded", "1")?;
    let new: Vec<u32> = threads()?.difference(&before).copied().collect();
    match new[..] {
        [thread] => Ok(thread),
        _ => bail!("{name} of {} is polled by {} threads", ns.short_name(), new.len()),
    }
}

/// Makes a bridge that is up, without spanning tree or delay.
///
/// # Errors
/// What `ip` says.
pub fn bridge(ns: &Netns, name: &str, mtu: u32) -> Result<()> {
    ns.ip(&format!("link add name {name} mtu {mtu} type bridge forward_delay 0 stp_state 0 mcast_snooping 0"))?;
    ns.ip(&format!("link set dev {name} up"))?;
    Ok(())
}

/// Makes an interface a port of a bridge.
///
/// # Errors
/// What `ip` says.
pub fn enslave(ns: &Netns, name: &str, bridge: &str) -> Result<()> {
    ns.ip(&format!("link set dev {name} master {bridge}"))?;
    Ok(())
}

/// Makes the kernel's own VTEP: a bridge `br<VNI>` with a vxlan device `vx<VNI>` that learns and floods to `peers`.
///
/// # Errors
/// What `ip` or `bridge` says.
pub fn kernel_vtep(ns: &Netns, vni: Vni, local: Ipv4Addr, peers: &[Ipv4Addr], mtu: u32) -> Result<()> {
    bridge(ns, &format!("br{vni}"), mtu)?;
    kernel_vxlan(ns, vni, local, peers, mtu, "noudpcsum")
}

/// The vxlan device of [`kernel_vtep`] alone, for a bridge that is there; `more` are words for `ip link add`.
///
/// # Errors
/// What `ip` or `bridge` says.
pub fn kernel_vxlan(ns: &Netns, vni: Vni, local: Ipv4Addr, peers: &[Ipv4Addr], mtu: u32, more: &str) -> Result<()> {
    let vx = format!("vx{vni}");
    ns.ip(&format!("link add name {vx} mtu {mtu} type vxlan id {vni} local {local} dstport 4789 {more}"))?;
    enslave(ns, &vx, &format!("br{vni}"))?;
    ns.ip(&format!("link set dev {vx} up"))?;
    for peer in peers {
        ns.bridge(&format!("fdb append 00:00:00:00:00:00 dev {vx} dst {peer}"))?;
    }
    Ok(())
}
