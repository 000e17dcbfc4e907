//! What the kernel counts of protocols in a namespace, and of interfaces.

use anyhow::{Context, Result};

use super::netns::Netns;

/// A counter of `/proc/net/snmp` or `/proc/net/netstat`, such as `InCsumErrors` of `Udp`.
///
/// # Errors
/// There is none of that name.
pub fn protocol(ns: &Netns, group: &str, name: &str) -> Result<u64> {
    let text = ns.run("cat", &["/proc/net/snmp", "/proc/net/netstat"])?;
    let start = format!("{group}: ");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(&start));
    let (names, values) = (lines.next().context("names")?, lines.next().context("values")?);
    let found = names.split(' ').zip(values.split(' ')).find(|(n, _)| *n == name);
    Ok(found.with_context(|| format!("no {name} in {names}"))?.1.parse()?)
}

/// Packets that an interface has sent, of which a super-packet is one.
///
/// # Errors
/// No such interface.
pub fn sent(ns: &Netns, interface: &str) -> Result<u64> {
    let json = ns.ip(&format!("-s -j link show dev {interface}"))?;
    let links: serde_json::Value = serde_json::from_str(&json).context("output of ip -j")?;
    links[0]["stats64"]["tx"]["packets"].as_u64().with_context(|| format!("no packets in {json}"))
}
