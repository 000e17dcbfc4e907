//! Links that keep the order of frames, for tests that look at it.

use anyhow::Result;

use super::{Site, World};
use crate::lab::netns::Netns;

/// Has all veths in these namespaces hand on what they get in the order in which it was sent, whichever CPUs sent it: one that has several queues, or
/// no NAPI, delivers what each CPU has for itself, and a flow may be forwarded by another CPU from one moment to the next.
///
/// # Errors
/// What `ip` or `ethtool` says.
pub fn keep(namespaces: &[&Netns]) -> Result<()> {
    let mut links = Vec::new();
    for ns in namespaces {
        // 2: u0@if3: <BROADCAST, …
        let listed = ns.ip("-o link show type veth")?;
        let names = listed.lines().filter_map(|line| line.split(['@', ':']).nth(1));
        links.extend(names.map(|name| (*ns, name.trim().to_owned())));
    }
    // An end with XDP receives by as many queues as the other one sends by, at the least.
    for settings in [["-L", "tx", "1"], ["-L", "rx", "1"], ["-K", "gro", "on"]] {
        let [what, key, value] = settings;
        for (ns, name) in &links {
            ns.run("ethtool", &[what, name, key, value])?;
        }
    }
    Ok(())
}

/// The same of everything between two sites, the world's servers among it.
///
/// # Errors
/// As [`keep`].
pub fn keep_between(world: &World, sites: [&Site; 2]) -> Result<()> {
    let routers = sites.into_iter().filter_map(|site| site.router.as_ref()).map(|router| &router.ns);
    let hosts = sites.into_iter().map(|site| &site.host.ns);
    let servers = [&world.public].into_iter().chain(world.others.iter().map(|(on, _)| on)).map(|on| &on.host.ns);
    keep(&routers.chain(hosts).chain([&world.internet.ns]).chain(servers).collect::<Vec<_>>())
}
