//! Many hosts behind NATs of several types, each with tunnels to all others: which pairs find which paths, how soon, what that
//! costs while nobody talks, and whether a pair that does is slowed down by it.
//!
//! `docs/benchmarks.md` says how each figure comes about and what it is worth.

mod cost;
mod meter;
mod mix;
mod n2n;
mod pairs;
mod report;

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use self::{cost::Member, n2n::N2n};
use super::{
    case::tcp::{self, Ends, carry},
    contender::tools::all_there,
    machine::Watch,
};
use crate::{
    lab::{
        Lab,
        host::{Host, Vm},
        nat::{Router, RouterSpec},
        wan::{Impairment, LinkSpec},
    },
    mesh::{Site, SiteSpec, World},
};

pub use report::{Cost, Formation, Found, Percentiles, Row, Throughput};

/// Our name in the results.
const OURS: &str = "wavnet";
/// MTU of the internet.
const MTU: u32 = 1500;
/// The first pair is this far from each other, both ways.
const DELAY: Duration = Duration::from_millis(15);
/// What its link carries.
const RATE: u64 = 100_000_000;
/// Before a stream is counted.
const WARM_UP: Duration = Duration::from_millis(700);
/// Hosts that are compared: the first four.
const COMPARED: usize = 4;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Hosts.
    pub hosts: usize,
    /// Hosts that the throughput of a pair is compared with.
    pub few: usize,
    /// How often throughput is measured each time.
    pub runs: usize,
    /// How long a stream is counted.
    pub time: Duration,
    /// How long VMs are silent before costs are watched: pulses come faster while frames flow, and for two seconds after.
    pub calm: Duration,
    /// How long costs are watched.
    pub idle: Duration,
    /// How long all may take to find each other.
    pub patience: Duration,
    /// n2n is measured, too, if it is there: how long its hosts may take.
    pub n2n: Option<Duration>,
}

impl Plan {
    /// 64 hosts.
    pub const FULL: Plan = Plan {
        hosts: 64,
        few: 8,
        runs: 3,
        time: Duration::from_millis(1500),
        calm: Duration::from_secs(5),
        idle: Duration::from_secs(20),
        patience: Duration::from_secs(40),
        n2n: Some(Duration::from_secs(40)),
    };

    /// 16 hosts, and less of everything: a first look.
    pub const QUICK: Plan = Plan {
        hosts: 16,
        runs: 2,
        time: Duration::from_millis(1000),
        idle: Duration::from_secs(10),
        patience: Duration::from_secs(30),
        n2n: Some(Duration::from_secs(20)),
        ..Plan::FULL
    };
}

/// A host without an agent (any more).
struct Place {
    /// The internet's interface that it is behind.
    interface: String,
    host: Host,
    _vm: Vm,
    _router: Router,
}

/// Carries out a plan; `say` is told what is going on.
///
/// # Errors
/// The lab cannot be made, or a pair that should carry TCP does not.
pub fn run(lab: &Lab, plan: &Plan, mut say: impl FnMut(&str)) -> Result<Found> {
    ensure!((COMPARED..=plan.hosts).contains(&plan.few), "{} of {} hosts", plan.few, plan.hosts);
    ensure!(plan.hosts <= 200, "the lab's internet has room for 200 hosts");
    let watch = Watch::start()?;
    let mut found = Found { notes: tcp::note().into_iter().collect(), ..Found::default() };
    let mut world = World::with_mtu(lab, MTU, None)?;
    let mut sites = Vec::new();
    let (row, places) = ours(lab, plan, &mut world, &mut sites, &mut say)?;
    found.rows.push(row);
    match plan.n2n {
        Some(patience) if all_there(&n2n::PROGRAMS) => {
            say("n2n");
            found.rows.push(theirs(plan, patience, &world, &places).context("n2n")?);
        }
        Some(_) => found.notes.push("n2n is not installed; `cargo xtask setup --contenders` gets it".into()),
        None => {}
    }
    say("taking all of it away");
    let disturbance = watch.end()?;
    let others = (disturbance.steal + disturbance.others) * 100.0;
    if others >= 2.0 {
        found.notes.push(format!("others took {others:.0} % of the CPUs meanwhile"));
    }
    Ok(found)
}

fn ours(
    lab: &Lab,
    plan: &Plan,
    world: &mut World,
    sites: &mut Vec<Site>,
    say: &mut impl FnMut(&str),
) -> Result<(Row, Vec<Place>)> {
    say(&format!("{} hosts", plan.few));
    grow(lab, world, sites, plan.few)?;
    pairs::wait(sites, Instant::now(), plan.patience)?;
    let mut before = streams(plan, &vm_pairs(sites))?;
    say(&format!("{} hosts", plan.hosts));
    grow(lab, world, sites, plan.hosts)?;
    let formation = pairs::wait(sites, Instant::now(), plan.patience)?;
    say("what a pair carries among them");
    let many = streams(plan, &vm_pairs(sites))?;
    say("what they cost");
    let members = sites.iter().map(|site| {
        let interface = interface(site.router.as_ref().context("a site without a router")?);
        Ok(Member { pid: site.agent.status()?.pid, interface })
    });
    let members = members.collect::<Result<Vec<_>>>()?;
    thread::sleep(plan.calm);
    let cost = cost::watch(&world.internet.ns, &members, plan.idle)?;
    // Searches go on meanwhile: the last word on who has which path.
    let last = pairs::now(sites)?;
    let formation = Formation { all_up_s: formation.all_up_s, all_direct_s: formation.all_direct_s, ..last };
    say(&format!("{} hosts again", plan.few));
    let others: Vec<_> = sites.drain(plan.few..).map(place).collect::<Result<_>>()?;
    for (before, after) in before.iter_mut().zip(streams(plan, &vm_pairs(sites))?) {
        before.extend(after);
    }
    let throughput = PAIRS.iter().zip(before).zip(many);
    let throughput: Option<Vec<_>> = throughput.map(|((name, few), many)| Throughput::of(name, few, many)).collect();
    let mut places: Vec<_> = sites.drain(..).map(place).collect::<Result<_>>()?;
    places.extend(others);
    let throughput = throughput.context("no runs")?;
    let row = Row { system: OURS.to_owned(), hosts: plan.hosts, few: plan.few, formation, cost, throughput };
    Ok((row, places))
}

fn theirs(plan: &Plan, patience: Duration, world: &World, places: &[Place]) -> Result<Row> {
    let internet = &world.internet.ns;
    let supernode = interface_of(world.public.host.addr);
    let mut n2n = N2n::new(&world.public.host)?;
    n2n.grow(&places[..plan.few])?;
    let before = streams(plan, &edge_pairs(places))?;
    n2n.grow(places)?;
    let formation = n2n.form(internet, places, &supernode, patience)?;
    let many = streams(plan, &edge_pairs(places))?;
    thread::sleep(plan.calm);
    let cost = cost::watch(internet, &n2n.members(places), plan.idle)?;
    let throughput = PAIRS.iter().zip(before).zip(many);
    let throughput: Option<Vec<_>> = throughput.map(|((name, few), many)| Throughput::of(name, few, many)).collect();
    let throughput = throughput.context("no runs")?;
    Ok(Row { system: n2n::NAME.to_owned(), hosts: plan.hosts, few: plan.few, formation, cost, throughput })
}

/// Adds hosts until there are so many.
fn grow(lab: &Lab, world: &mut World, sites: &mut Vec<Site>, hosts: usize) -> Result<()> {
    for n in sites.len()..hosts {
        let mut router = RouterSpec::new(mix::kind(n));
        if n == 0 {
            router = router.link(LinkSpec::both(Impairment::delayed(DELAY).rate(RATE)));
        }
        let spec = SiteSpec { router: Some(router), log_level: Some(String::new()), ..SiteSpec::default() };
        sites.push(world.site(lab, &spec).with_context(|| format!("host {n}"))?);
    }
    Ok(())
}

/// Ends a site's agent, and keeps the rest.
fn place(site: Site) -> Result<Place> {
    let Site { router, host, agent, vm, .. } = site;
    drop(agent);
    let router = router.context("a site without a router")?;
    Ok(Place { interface: interface(&router), host, _vm: vm, _router: router })
}

/// The internet's interface to a router.
fn interface(router: &Router) -> String {
    interface_of(router.external())
}

/// That to an address: site `i` has 198.18.`i`.0/24 at `s<i>`.
fn interface_of(address: std::net::Ipv4Addr) -> String {
    format!("s{}", address.octets()[2])
}

/// The pairs that [`streams`] are between.
const PAIRS: [&str; 2] = ["100 Mbit/s at 30 ms", "as fast as the machine"];

fn vm_pairs(sites: &[Site]) -> Vec<Ends<'_>> {
    let pairs = sites.chunks_exact(2).take(PAIRS.len());
    pairs
        .map(|pair| Ends {
            from: &pair[0].vm.ns,
            to: &pair[1].vm.ns,
            listen: pair[1].addr,
            at: pair[1].addr,
            nic: None,
        })
        .collect()
}

fn edge_pairs(places: &[Place]) -> Vec<Ends<'_>> {
    let pairs = places.chunks_exact(2).take(PAIRS.len()).enumerate();
    pairs
        .map(|(n, pair)| {
            let at = n2n::address(2 * n + 1);
            Ends { from: &pair[0].host.ns, to: &pair[1].host.ns, listen: at, at, nic: None }
        })
        .collect()
}

/// TCP of each pair by turns: Mbit/s of each run.
fn streams(plan: &Plan, pairs: &[Ends<'_>]) -> Result<Vec<Vec<f64>>> {
    let mut all = vec![Vec::new(); pairs.len()];
    for _ in 0..plan.runs {
        for ((ends, runs), name) in pairs.iter().zip(&mut all).zip(PAIRS) {
            let rate = carry(*ends, 1, WARM_UP, plan.time).with_context(|| format!("TCP, {name}"))?;
            runs.push((rate / 1e4).round() / 100.0);
        }
    }
    Ok(all)
}
