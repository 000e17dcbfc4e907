//! What must hold, and whether it does.

use std::{net::SocketAddrV4, time::Duration};

use anyhow::{Context, Result, ensure};
use wavnet_common::addr::Mac;

use super::network::{Network, Tenant};
use crate::{
    lab::{
        dhcp,
        frame::{has_mark, marked},
        host::Vm,
        http, ping, poll_until,
        raw::RawSocket,
        stream,
    },
    mesh::mesh_of,
};

const SOON: Duration = Duration::from_secs(15);
const TCP_BYTES: u64 = 4_000_000;
const HTTP_BYTES: usize = 200_000;

/// One thing that must hold.
#[derive(Debug)]
pub struct Check {
    /// What.
    pub what: &'static str,
    /// Of whom.
    pub whose: String,
    /// Whether it does.
    pub outcome: Outcome,
}

/// What came of a check: what was seen, or what is wrong.
pub type Outcome = Result<String>;

impl Check {
    /// True if it holds.
    pub fn holds(&self) -> bool {
        self.outcome.is_ok()
    }
}

/// Does all checks in order, telling each as it is done. What depends on one that failed fails too.
pub fn run_checks(network: &Network, mut done: impl FnMut(&Check)) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut record = |what, whose: &str, outcome| {
        let check = Check { what, whose: whose.to_owned(), outcome };
        done(&check);
        checks.push(check);
    };
    record("NAT", "both agents", nats(network));
    record("path", "both agents", paths(network));
    for tenant in &network.tenants {
        let whose = format!("{} (VNI {})", tenant.name, tenant.vni);
        record("DHCP", &whose, leases(tenant));
        record("ping", &whose, pings(tenant));
        record("TCP", &whose, bulk(tenant));
        record("HTTP", &whose, pages(tenant));
    }
    record("same addresses", "both tenants", same_addresses(network));
    record("isolation", "both tenants", isolation(network));
    record("peers", "both agents", peers(network));
    record("metrics", "both agents", metrics(network));
    checks
}

/// What the agents found in front of them is what is there.
fn nats(network: &Network) -> Outcome {
    let mut seen = Vec::new();
    for (agent, router) in network.agents.iter().zip(&network.routers) {
        let name = agent.ns().short_name();
        let nat = poll_until(&format!("the NAT of {name} to be known"), SOON, || {
            mesh_of(agent)?.nat.filter(|nat| nat.kind != "unknown").context("not yet")
        })?;
        let mapped = nat.mapped.map(|at| at.ip());
        let kind = router.kind().name();
        ensure!(nat.kind == kind && mapped == Some(router.external().into()), "{name} is behind {kind}: {nat:?}");
        seen.push(format!("{name} behind {kind} {}", router.external()));
    }
    let status = network.world.server.status()?;
    let hosts: u64 = status.networks.iter().map(|n| n.connected).sum();
    ensure!(hosts == 2, "the rendezvous server has {hosts} hosts: {status:?}");
    Ok(seen.join(", "))
}

/// The agents have found each other, and no relay is between them.
fn paths(network: &Network) -> Outcome {
    let mut seen = Vec::new();
    for agent in &network.agents {
        let name = agent.ns().short_name();
        let found = poll_until(&format!("a direct path of {name}"), SOON, || {
            let peer = mesh_of(agent)?.peers.pop().context("it knows no peer")?;
            let path = peer.selected().cloned().context("no path")?;
            ensure!(path.kind == "direct" && path.rtt_ms.is_some(), "{path:?}");
            Ok((peer, path))
        });
        let (peer, path) = found.with_context(|| agent.log())?;
        let (rtt, ms) = (path.rtt_ms.unwrap_or_default(), peer.direct_path_ms.unwrap_or_default());
        let to = peer.name.unwrap_or(peer.key);
        seen.push(format!("{name} to {to} {} by {}, RTT {rtt:.2} ms, found within {ms} ms", path.kind, path.remote));
    }
    Ok(seen.join("; "))
}

fn leases(tenant: &Tenant) -> Outcome {
    let mut seen = Vec::new();
    for vm in tenant.clients() {
        let address = dhcp::request(&vm.ns, Vm::NIC).with_context(|| vm.ns.short_name().to_owned())?;
        let log = tenant.dnsmasq.log();
        ensure!(log.contains(&format!("{address} {}", vm.mac)), "the tenant's own server did not give {address}");
        seen.push(format!("{} {address}", vm.ns.short_name()));
    }
    Ok(seen.join(", "))
}

/// The address of a machine's NIC.
fn address(vm: &Vm) -> Result<std::net::Ipv4Addr> {
    dhcp::address(&vm.ns, Vm::NIC)
}

fn pings(tenant: &Tenant) -> Outcome {
    let mut count = 0;
    for (from, to) in tenant.pairs() {
        let target = address(to)?;
        for size in [56, 1472] {
            ping::once(&from.ns, target, size, SOON)?;
            count += 1;
        }
    }
    Ok(format!("{count} of {count}, of up to 1500 B, between all pairs"))
}

fn bulk(tenant: &Tenant) -> Outcome {
    let mut pairs = 0;
    for (from, to) in tenant.pairs() {
        stream::bulk(&to.ns, address(to)?, &from.ns, TCP_BYTES)?;
        pairs += 1;
    }
    Ok(format!("{pairs} × {} MB, each octet checked", TCP_BYTES / 1_000_000))
}

fn pages(tenant: &Tenant) -> Outcome {
    let mut pairs = 0;
    for (from, to) in tenant.pairs() {
        let at = SocketAddrV4::new(address(to)?, 80);
        let body: Vec<u8> = format!("{} of {}\n", to.ns.short_name(), tenant.name).into_bytes().repeat(HTTP_BYTES / 16);
        let _server = http::Server::start(&to.ns, *at.ip(), at.port(), body.clone())?;
        let got = http::get(&from.ns, at, "/")?;
        ensure!(got == body, "{} got another page from {at} than it serves", from.ns.short_name());
        pairs += 1;
    }
    Ok(format!("{pairs} pages of {} kB", HTTP_BYTES / 1000))
}

fn same_addresses(network: &Network) -> Outcome {
    let macs = |t: &Tenant| t.vms.iter().map(|vm| vm.mac).collect::<Vec<_>>();
    let [red, blue] = &network.tenants[..] else { anyhow::bail!("there are not two tenants") };
    ensure!(macs(red) == macs(blue), "the tenants' MACs differ");
    Ok(format!("MACs {} to {} and 10.0.0.0/24 in both", red.vms[0].mac, red.vms[red.vms.len() - 1].mac))
}

/// Every machine broadcasts, and sends to every MAC, a frame that names its tenant; no machine of another tenant may see it.
fn isolation(network: &Network) -> Outcome {
    let nics = |t: &Tenant| t.vms.iter().map(|vm| RawSocket::open(&vm.ns, Vm::NIC)).collect::<Result<Vec<_>>>();
    let sockets = network.tenants.iter().map(nics).collect::<Result<Vec<_>>>()?;
    let mut sent = 0;
    for (tenant, nics) in network.tenants.iter().zip(&sockets) {
        let mark = format!("frame of {}", tenant.name);
        for (vm, nic) in tenant.vms.iter().zip(nics) {
            for dst in [Mac::BROADCAST, Mac([2, 0, 0, 0, 0, 0x99])].into_iter().chain(tenant.vms.iter().map(|v| v.mac))
            {
                if dst != vm.mac {
                    nic.send(&marked(dst, vm.mac, &mark))?;
                    sent += 1;
                }
            }
        }
    }
    let mut received = 0;
    for (tenant, nics) in network.tenants.iter().zip(&sockets) {
        let mine = format!("frame of {}", tenant.name);
        for (vm, nic) in tenant.vms.iter().zip(nics) {
            // Two broadcasts and two unicasts to it, and two of unknown destination.
            let want = (tenant.vms.len() - 1) * 3;
            let mut frames = Vec::new();
            poll_until(&format!("frames at {}", vm.ns.short_name()), SOON, || {
                frames.extend(nic.drain(|f| has_mark(f, "frame of "))?);
                let own = frames.iter().filter(|f| has_mark(f, &mine)).count();
                ensure!(own >= want, "{own} of {want} came");
                Ok(())
            })?;
            let strange = frames.iter().filter(|f| !has_mark(f, &mine)).count();
            ensure!(strange == 0, "{} saw {strange} frames of another tenant", vm.ns.short_name());
            received += frames.len();
        }
    }
    Ok(format!("{sent} frames sent, {received} received, none by the other tenant"))
}

fn peers(network: &Network) -> Outcome {
    let mut count = 0;
    for agent in &network.agents {
        let configured = agent.peers()?.into_iter().map(|p| (p.address.to_string(), p.traffic));
        let found = mesh_of(agent)?.peers.into_iter().map(|p| (p.key, p.traffic));
        for (peer, t) in configured.chain(found) {
            ensure!(t.rx_frames > 0 && t.tx_frames > 0, "no traffic with {peer}: {t:?}");
            count += 1;
        }
    }
    let modes: Vec<String> = network
        .agents
        .iter()
        .map(|a| Ok(a.status()?.underlay.hook_mode.map_or("none", |m| m.as_str()).to_owned()))
        .collect::<Result<_>>()?;
    Ok(format!("frames to and from {count}, the kernel's VTEP among them; hooks: {}", modes.join(", ")))
}

fn metrics(network: &Network) -> Outcome {
    let mut series = 0;
    for agent in &network.agents {
        for tenant in &network.tenants {
            let label = format!("vni=\"{}\"", tenant.vni);
            let frames = agent.metric("wavnet_vni_frames_total", &[&label])?;
            ensure!(frames > 0.0, "no frames counted in VNI {}", tenant.vni);
        }
        series += agent.metrics()?.lines().filter(|l| !l.starts_with('#')).count();
    }
    Ok(format!("{series} series scraped"))
}
