//! How often an idle path is used: as often as a NAT's memory wants it, which the agent measures by itself.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use anyhow::{Context, ensure};
use wavnet_tests::{
    lab::{
        self,
        nat::{NatKind, RouterSpec, Timeouts, conntrack},
        poll_until,
        udp::Udp,
    },
    mesh::{NEEDS, SiteSpec, World, flow::Flow, meet, mesh_of, row},
};

const SOON: Duration = Duration::from_secs(20);
/// The router forgets what is idle for longer than this.
const MEMORY: Duration = Duration::from_secs(4);
/// What else there is about the NAT takes five seconds; then mappings are left idle, 8 s first and 4.5 s in a second round, and silence takes four
/// more to be recognised each time.
const MEASURED: Duration = Duration::from_secs(90);
/// So many times its memory the router is watched.
const LIVES: usize = 3;

#[test]
fn pulses_are_as_frequent_as_the_measured_lifetime_of_mappings_wants_them() {
    lab::run("pulses_are_as_frequent_as_the_measured_lifetime_of_mappings_wants_them", NEEDS, |lab| {
        let mut world = World::new(lab, None)?;
        let timeouts = Timeouts { unreplied: MEMORY, replied: MEMORY };
        let router = RouterSpec::new(NatKind::PortRestrictedCone).timeouts(timeouts);
        let forgetful = SiteSpec { router: Some(router), ..SiteSpec::default() };
        // At least once in ten seconds nothing but the first side's own pulses, five seconds apart, would use the mapping.
        let seldom = SiteSpec { mesh: "pulse = \"10s\"\n".into(), ..SiteSpec::default() };
        let [a, b] = world.sites(lab, [&forgetful, &seldom])?;
        meet("a NAT that forgets within four seconds", (&a, &b), "direct", SOON)?;
        // Else they ask for each other's link address in their own time.
        a.knows_where(&b)?;
        b.knows_where(&a)?;
        let found = poll_until("the lifetime to be measured", MEASURED, || {
            let nat = mesh_of(&a.agent)?.nat.context("nothing is known of the NAT")?;
            nat.lifetime.with_context(|| format!("{nat:?}"))
        })?;
        ensure!((1000..=4000).contains(&found.alive_ms) && found.dead_ms.is_some(), "{found:?}");
        // Until it was known, the NAT may have shut out the other side's pulses.
        a.wait_for_path(&b, "direct", SOON)?;
        b.wait_for_path(&a, "direct", SOON)?;
        let state = || Ok::<_, anyhow::Error>((a.path_changes(), b.path_changes(), a.peer(&b)?.traffic.tx_frames));
        let before = state()?;
        let router = a.router.as_ref().context("a router")?;
        let (peer, server) = (b.host.addr, world.public.host.addr);
        let has = |entries: &[String], to: Ipv4Addr| {
            entries.iter().any(|entry| entry.contains(&format!(" dst={to} sport=4789 dport=4789 ")))
        };
        // A mapping that nothing more is sent by, to tell when the router has forgotten all that were left alone since then.
        let idle = Udp::open(&a.host, 5000)?;
        let mut missing = None;
        for _ in 0..LIVES {
            idle.send(SocketAddrV4::new(server, 9), "once")?;
            for there in [true, false] {
                poll_until("the idle mapping to come and to go", SOON, || {
                    let entries = conntrack::list(&router.ns, "udp")?;
                    let is_there = entries.iter().any(|entry| entry.contains(" sport=5000 "));
                    if !has(&entries, peer) || !has(&entries, server) {
                        missing.get_or_insert_with(|| entries.clone());
                    }
                    ensure!(is_there == there, "{entries:#?}");
                    Ok(())
                })?;
            }
        }
        ensure!(missing.is_none(), "to {peer} or {server} there was no mapping: {missing:#?}");
        ensure!(state()? == before, "it was not idle, or took other paths: {before:?}, then {:?}", state()?);
        // The NAT lets in what the other side begins.
        let flow = Flow::start(&b, &a, SOON)?;
        let lost = flow.lost();
        ensure!(lost <= 1, "{lost} were lost at first");
        row("idle for three times as long, once it has measured that", "direct", 0);
        Ok(())
    });
}
