//! Who does not belong to it gets nowhere, and the log says so once.

use std::{fs, net::SocketAddrV4, thread, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use wavnet_common::{addr::Mac, reason::Reason};
use wavnet_tests::{
    lab::{
        self, Lab,
        agent::sum_of,
        frame::{has_mark, marked},
        host::Vm,
        nat::NatKind,
        ping, poll_until,
        raw::RawSocket,
        udp::Udp,
    },
    mesh::{Member, NEEDS, Site, SiteSpec, World, meet, mesh_of, row, server_of},
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
    Ok(())
}

#[test]
fn keys_lists_and_vnis_keep_out_who_does_not_belong() {
    lab::run("keys_lists_and_vnis_keep_out_who_does_not_belong", NEEDS, |lab| {
        let mut world = World::new(lab, None)?;
        let cone = || SiteSpec::behind(Some(NatKind::PortRestrictedCone));
        let path = |name| lab.path(name).display().to_string();
        let (file, list, stranger) = (path("other.key"), path("allow"), path("stranger.key"));
        key(&world, &["network", &file])?;
        let listed = key(&world, &["generate", &stranger])?;
        let listed = listed.split_whitespace().last().context("a public key")?;
        fs::write(&list, format!("{listed}\n"))?;

        let of_other_network = SiteSpec { member: Member::OtherKey(file), ..cone() };
        let with_list = SiteSpec { mesh: format!("allow = \"{list}\"\n"), ..cone() };
        let specs = [&SiteSpec::default(), &cone(), &of_other_network, &with_list, &cone().vni(200)];
        let [a, b, foreign, choosy, apart] = world.sites(lab, specs)?;
        meet("beside those that are kept out", (&a, &b), "direct", SOON)?;
        forged_frames_are_dropped(lab, &mut world, &a, &b)?;

        poll_until("the foreign agent to say it", SOON, || said(&foreign, "check its address", 1))?;
        let server = server_of(&foreign.agent, 0)?;
        ensure!(!server.registered && server.error.is_some(), "{server:?}");
        let page = world.server.metrics()?;
        let refused = sum_of(&page, "wavnet_rendezvous_drops_total", &["reason=\"unknown_network\""]);
        ensure!(refused.is_some_and(|n| n >= 4.0), "{refused:?}: {page}");

        poll_until("the refusals", SOON, || said(&choosy, "refused: it is not on the list", 2))?;
        let strangers = [(&a, &foreign), (&choosy, &b), (&apart, &a)];
        for (site, other) in strangers {
            not_connected(site, other)?;
            not_connected(other, site)?;
        }
        // Side by side: each waits for an answer that does not come.
        thread::scope(|scope| {
            let pings = strangers.map(|(from, to)| scope.spawn(|| ping::unreachable(&from.vm.ns, to.addr)));
            pings.into_iter().try_for_each(|ping| ping.join().map_err(|_| anyhow!("a ping panicked"))?)
        })?;
        said(&choosy, "refused: it is not on the list", 2)?;
        said(&foreign, "check its address", 1)?;
        let hosts = server_of(&apart.agent, 0)?.hosts;
        ensure!(hosts == 0, "it sees {hosts} hosts, and shares no VNI with any");
        for case in ["another network key", "not on the list", "no VNI in common"] {
            row(case, "none", "–");
        }
        Ok(())
    });
}

#[test]
fn lists_do_without_a_key() {
    lab::run("lists_do_without_a_key", NEEDS, |lab| {
        let mut world = World::new(lab, None)?;
        let (list, config) = (lab.path("allow"), world.server.path("rendezvous.toml"));
        let allow = format!("allow = \"{}\"\n", list.display());
        fs::write(&list, "")?;
        fs::write(&config, format!("{}\n[[network]]\n{allow}", fs::read_to_string(&config)?))?;
        world.server.reload()?;
        let cone = SiteSpec::behind(Some(NatKind::PortRestrictedCone));
        let listed = SiteSpec { member: Member::NoKey, mesh: allow, ..cone.clone() };
        let [mut a, mut b, other, with_key] = world.sites(lab, [&listed, &listed, &listed, &cone])?;
        poll_until("the server to refuse who is not listed", SOON, || {
            let server = server_of(&a.agent, 0)?;
            ensure!(server.error.as_ref().is_some_and(|e| e.contains("not on the server's list")), "{server:?}");
            Ok(())
        })?;
        fs::write(&list, format!("{}\n{} 100 # in one VNI\n", a.key, b.key))?;
        world.server.reload()?;
        // A reload would do, but who was refused asks ever more seldom.
        for site in [&mut a, &mut b] {
            site.agent.kill();
            site.agent.launch()?;
        }
        meet("lists, and no key", (&a, &b), "direct", SOON)?;
        for (site, stranger) in [(&a, &other), (&b, &other), (&a, &with_key), (&b, &with_key)] {
            not_connected(site, stranger)?;
            not_connected(stranger, site)?;
        }
        Ok(())
    });
}

/// Frames from an address that nobody has proved; and from a peer's address, but not the port that it has proved.
fn forged_frames_are_dropped(lab: &Lab, world: &mut World, a: &Site, b: &Site) -> Result<()> {
    let forger = world.internet.host(lab, "forger", 1, None)?.host;
    let counts = [Reason::UnknownVtep, Reason::UnknownPath];
    let dropped = || counts.iter().map(|reason| a.agent.drops(*reason)).sum::<Result<u64>>();
    let before = dropped()?;
    let nic = RawSocket::open(&a.vm.ns, Vm::NIC)?;
    let header = [&[8, 0, 0, 0][..], &(World::vni().get() << 8).to_be_bytes()].concat();
    let payload = [header, marked(a.vm.mac, FORGED, "forged")].concat();
    let inside = b.router.as_ref().context("a router")?;
    let from = [Udp::bind(&forger.ns, forger.addr, 4789)?, Udp::bind(&inside.ns, inside.external(), 5000)?];
    from.iter().try_for_each(|socket| socket.send_bytes(SocketAddrV4::new(a.host.addr, 4789), &payload))?;
    poll_until("the drops to be counted", SOON, || {
        let now = dropped()?;
        ensure!(now == before + 2, "{before}, then {now}");
        Ok(())
    })?;
    // The log says so of each reason, and says it once.
    for _ in 0..2 {
        from.iter().try_for_each(|socket| socket.send_bytes(SocketAddrV4::new(a.host.addr, 4789), &payload))?;
        poll_until("the log to say it", SOON, || said(a, Reason::UnknownPath.help(), 1))?;
    }
    let forged = nic.drain(|frame| has_mark(frame, "forged"))?;
    ensure!(forged.is_empty(), "{} forged frames came through", forged.len());
    ensure!(a.agent.fdb()?.iter().all(|entry| entry.mac != FORGED), "it was learned");
    row("forged frames from an address or port that nobody has proved", "dropped", "–");
    Ok(())
}
