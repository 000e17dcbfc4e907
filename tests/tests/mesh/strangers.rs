//! Who does not belong to it gets nowhere, and the log says so once.

use std::{fs, net::SocketAddrV4, time::Duration};

use anyhow::{Context, Result, ensure};
use wavnet_common::{addr::Mac, reason::Reason};
use wavnet_tests::{
    lab::{
        self, Need,
        agent::sum_of,
        frame::{has_mark, marked},
        host::Vm,
        nat::NatKind,
        ping, poll_until,
        raw::RawSocket,
        udp::Udp,
    },
    mesh::{Site, SiteSpec, World, meet, mesh_of, row},
};

const SOON: Duration = Duration::from_secs(20);
/// A MAC that nobody has.
const FORGED: Mac = Mac([2, 0, 0, 0, 0, 66]);

/// Makes a key with `wavnet key`: what it prints.
fn key(world: &World, words: &[&str]) -> Result<String> {
    let args = [&["key"], words].concat();
    let out = world.server.wavnet(&args)?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8(out.stdout)?.trim().to_owned())
}

fn said(site: &Site, words: &str, times: usize) -> Result<()> {
    let log = site.agent.log();
    ensure!(log.matches(words).count() == times, "{words:?} is there {} times: {log}", log.matches(words).count());
    Ok(())
}

fn not_connected(site: &Site, other: &Site) -> Result<()> {
    let peers = mesh_of(&site.agent)?.peers;
    let peer = peers.iter().find(|peer| peer.key == other.key);
    ensure!(peer.is_none_or(|peer| !peer.connected && peer.paths.is_empty()), "{peer:?}");
    ping::unreachable(&site.vm.ns, other.addr)
}

#[test]
fn keys_lists_and_vnis_keep_out_who_does_not_belong() {
    lab::run("keys_lists_and_vnis_keep_out_who_does_not_belong", &[Need::Wavnet], |lab| {
        let mut world = World::new(lab, None)?;
        let cone = || SiteSpec::behind(Some(NatKind::PortRestrictedCone));
        let (file, list, stranger) = (lab.path("other.key"), lab.path("allow"), lab.path("stranger.key"));
        let shown = |path: &std::path::Path| path.display().to_string();
        key(&world, &["network", &shown(&file)])?;
        let listed = key(&world, &["generate", &shown(&stranger)])?;
        let listed = listed.split_whitespace().last().context("a public key")?;
        fs::write(&list, format!("{listed}\n"))?;

        let (a, b) = (world.site(lab, &cone())?, world.site(lab, &cone())?);
        let foreign = world.site(lab, &SiteSpec { network_key: Some(shown(&file)), ..cone() })?;
        let choosy = world.site(lab, &SiteSpec { mesh: format!("allow = \"{}\"\n", shown(&list)), ..cone() })?;
        let apart = world.site(lab, &cone().vni(200))?;
        meet("beside those that are kept out", (&a, &b), "direct", SOON)?;

        poll_until("the foreign agent to say it", SOON, || said(&foreign, "check its address", 1))?;
        let server = &mesh_of(&foreign.agent)?.servers[0];
        ensure!(!server.registered && server.error.is_some(), "{server:?}");
        let refused =
            sum_of(&world.server.metrics()?, "wavnet_rendezvous_drops_total", &["reason=\"unknown_network\""]);
        ensure!(refused.is_some_and(|n| n >= 4.0), "{refused:?}: {}", world.server.metrics()?);

        poll_until("the refusals", SOON, || said(&choosy, "refused: it is not on the list", 2))?;
        for (site, other) in [(&a, &foreign), (&foreign, &a), (&a, &choosy), (&choosy, &b), (&a, &apart), (&apart, &a)]
        {
            not_connected(site, other)?;
        }
        said(&choosy, "refused: it is not on the list", 2)?;
        said(&foreign, "check its address", 1)?;
        let hosts = mesh_of(&apart.agent)?.servers[0].hosts;
        ensure!(hosts == 0, "it sees {hosts} hosts, and shares no VNI with any");
        for (case, kind) in [("another network key", "none"), ("not on the list", "none"), ("no VNI in common", "none")]
        {
            row(case, kind, "–");
        }
        Ok(())
    });
}

#[test]
fn forged_frames_are_dropped_and_counted() {
    lab::run("forged_frames_are_dropped_and_counted", &[Need::Wavnet], |lab| {
        let mut world = World::new(lab, None)?;
        let a = world.site(lab, &SiteSpec::default())?;
        let b = world.site(lab, &SiteSpec::behind(Some(NatKind::PortRestrictedCone)))?;
        meet("one on the internet, one behind a NAT", (&a, &b), "direct", SOON)?;
        let forger = world.internet.host(lab, "forger", 1, None)?.host;
        let counts = [Reason::UnknownVtep, Reason::UnknownPath];
        let dropped = || counts.iter().map(|reason| a.agent.drops(*reason)).sum::<Result<u64>>();
        let before = dropped()?;
        let nic = RawSocket::open(&a.vm.ns, Vm::NIC)?;
        let header = [&[8, 0, 0, 0][..], &(World::vni().get() << 8).to_be_bytes()].concat();
        let payload = [header, marked(a.vm.mac, FORGED, "forged")].concat();
        // From an address that nobody has proved; and from a peer's address, but not the port that it has proved.
        let inside = b.router.as_ref().context("a router")?;
        let from = [Udp::bind(&forger.ns, forger.addr, 4789)?, Udp::bind(&inside.ns, inside.external(), 5000)?];
        from.iter().try_for_each(|socket| socket.send_bytes(SocketAddrV4::new(a.host.addr, 4789), &payload))?;
        poll_until("the drops to be counted", SOON, || {
            let now = dropped()?;
            ensure!(now == before + 2, "{before}, then {now}");
            Ok(())
        })?;
        let forged = nic.drain(|frame| has_mark(frame, "forged"))?;
        ensure!(forged.is_empty(), "{} forged frames came through", forged.len());
        ensure!(a.agent.fdb()?.iter().all(|entry| entry.mac != FORGED), "it was learned");
        row("forged frames from an address that nobody has proved", "direct", "–");
        Ok(())
    });
}
