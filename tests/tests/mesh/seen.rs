//! What an operator sees of a mesh that something is wrong with: in `status`, in the log, by the metrics and by the doctor.

use std::{fs, net::SocketAddrV4, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wavnet_proto::mesh::Dropped;
use wavnet_tests::{
    lab::{self, agent::sum_of, host::Host, nat::NatKind, poll_until, raw::RawSocket, udp::Udp},
    mesh::{NEEDS, Site, SiteSpec, World, flow::Flow, meet, server_of},
};

const SOON: Duration = Duration::from_secs(20);
/// Two hosts with one key take turns: each is out for a minute, and asks again within half a minute then.
const TURN: Duration = Duration::from_secs(150);
/// Datagrams of each kind that are injected.
const MANY: u64 = 50;
/// In front of a UDP payload: Ethernet, IPv4 without options, UDP.
const HEADERS: usize = 14 + 20 + 8;

fn cone() -> SiteSpec {
    SiteSpec::behind(Some(NatKind::PortRestrictedCone))
}

/// Waits until `status` says this of a server.
fn warned(site: &Site, server: SocketAddrV4, words: &str, most: Duration) -> Result<()> {
    poll_until(words, most, || {
        let warnings = site.agent.status()?.warnings;
        let named = format!("rendezvous server {server}: ");
        ensure!(warnings.iter().any(|w| w.starts_with(&named) && w.contains(words)), "{warnings:?}");
        Ok(())
    })
}

/// How often the log has a line with these words.
fn said(site: &Site, words: &str) -> usize {
    site.agent.log().lines().filter(|line| line.contains(words)).count()
}

/// Waits until the log has it, once.
fn said_once(site: &Site, words: &str) -> Result<()> {
    poll_until("the log to say so", SOON, || {
        ensure!(said(site, words) == 1, "{words}: {} times in {}", said(site, words), site.agent.log());
        Ok(())
    })
}

fn address_of_server(world: &World) -> SocketAddrV4 {
    SocketAddrV4::new(world.public.host.addr, 4789)
}

#[test]
fn a_host_that_a_server_has_no_room_for_says_so() {
    lab::run("a_host_that_a_server_has_no_room_for_says_so", NEEDS, |lab| {
        let mut world = World::new(lab, None)?;
        let file = world.server.path("rendezvous.toml");
        fs::write(&file, fs::read_to_string(&file)? + "[limits]\nhosts = 1\n")?;
        world.server.reload()?;
        let first = world.site(lab, &SiteSpec::default())?;
        poll_until("the first host to be in", SOON, || {
            let server = server_of(&first.agent, 0)?;
            ensure!(server.registered, "{server:?}");
            Ok(())
        })?;
        let second = world.site(lab, &SiteSpec::default())?;
        let words = "it has no room for another host";
        warned(&second, address_of_server(&world), words, SOON)?;
        said_once(&second, words)?;
        ensure!(first.agent.status()?.warnings.iter().all(|w| !w.contains("rendezvous")), "{:?}", first.agent.status());
        Ok(())
    });
}

#[test]
fn two_hosts_with_one_key_say_so_once_and_others_are_not_disturbed() {
    lab::run("two_hosts_with_one_key_say_so_once_and_others_are_not_disturbed", NEEDS, |lab| {
        let mut world = World::new(lab, None)?;
        let [c, d] = world.sites(lab, [&cone(), &cone()])?;
        meet("before two others have one key", (&c, &d), "direct", SOON)?;
        let [one, mut twin] = world.sites(lab, [&SiteSpec::default(), &SiteSpec::default()])?;
        twin.agent.terminate()?;
        let key = |site: &Site| lab.path(&format!("{}.key", site.host.ns.short_name()));
        fs::copy(key(&one), key(&twin)).context("copying a key")?;
        let flow = Flow::start(&c, &d, SOON)?;
        twin.agent.launch()?;
        let words = "another host has registered with this host's identity";
        warned(&one, address_of_server(&world), words, SOON)?;
        // The first one comes back and drives out the other one; then that one does the same once more.
        poll_until("the two to take turns", TURN, || {
            let page = world.server.metrics()?;
            let turns = sum_of(&page, "wavnet_rendezvous_done_total", &["what=\"replaced\""]);
            ensure!(turns >= Some(3.0), "{turns:?}");
            Ok(())
        })?;
        // The twin had a key of its own before, and may have been registered with that.
        for (site, most) in [(&one, 1), (&twin, 2)] {
            warned(site, address_of_server(&world), words, SOON)?;
            said_once(site, words)?;
            let times = said(site, "registered with a rendezvous server");
            ensure!((1..=most).contains(&times), "{times} times in {}", site.agent.log());
        }
        flow.steady(SOON)?;
        let lost = flow.lost();
        ensure!(lost <= 1, "{lost} frames of others were lost");
        c.wait_for_path(&d, "direct", SOON)
    });
}

/// A datagram of control that came to a host, its UDP payload.
fn last_data(wire: &RawSocket) -> Result<Vec<u8>> {
    let is_data = |frame: &[u8]| frame.get(HEADERS) == Some(&b'W') && frame.get(HEADERS + 5) == Some(&5);
    let last = wire.drain(is_data)?.pop().context("no DATA came")?;
    Ok(last[HEADERS..].to_vec())
}

/// How a check of `wavnet doctor` ends on a site, the worst if there are several of that name.
fn doctor(site: &Site, name: &str) -> Result<String> {
    let out = site.agent.try_cli(&format!("doctor --json --config {}", site.agent.file().display()))?;
    let report: Value = serde_json::from_slice(&out.stdout)?;
    let checks = report["checks"].as_array().context("checks")?;
    let check = checks.iter().find(|check| check["name"] == name).with_context(|| format!("{report}"))?;
    Ok(check["verdict"].as_str().context("a verdict")?.to_owned())
}

#[test]
fn what_comes_in_and_is_of_no_use_is_counted_by_reason_and_the_mesh_goes_on() {
    lab::run("what_comes_in_and_is_of_no_use_is_counted_by_reason_and_the_mesh_goes_on", NEEDS, |lab| {
        let mut world = World::new(lab, None)?;
        let a = world.site(lab, &SiteSpec::default())?;
        let wire = RawSocket::open(&a.host.ns, Host::NIC)?;
        let b = world.site(lab, &cone())?;
        meet("before junk is sent", (&b, &a), "direct", SOON)?;
        ensure!(
            doctor(&a, "rendezvous server")? == "ok" && doctor(&a, "mesh port")? == "ok",
            "the doctor finds something"
        );
        let flow = Flow::start(&b, &a, SOON)?;

        let stranger = world.internet.host(lab, "stranger", 1, None)?.host;
        let socket = Udp::bind(&stranger.ns, stranger.addr, 4789)?;
        let stun = [&[1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
        let control =
            |version: u8, kind: u8, len: usize| [&[b'W', 0, 0, 0, version, kind, 0, 0][..], &vec![7; len]].concat();
        let kinds = [
            (Dropped::Foreign, stun),
            (Dropped::Version, control(2, 5, 40)),
            (Dropped::Malformed, control(1, 5, 3)),
            (Dropped::Unwanted, control(1, 1, 112)),
            (Dropped::Handshake, control(1, 3, 300)),
            (Dropped::Session, control(1, 5, 60)),
            (Dropped::Replayed, last_data(&wire)?),
        ];
        let count = |reason: &Dropped| {
            let label = format!("reason=\"{}\"", reason.label());
            a.agent.metric("wavnet_mesh_drops_total", &[&label])
        };
        for (reason, payload) in &kinds {
            let before = count(reason)?;
            for _ in 0..MANY {
                socket.send_bytes(SocketAddrV4::new(a.host.addr, 4789), payload)?;
            }
            poll_until(reason.label(), SOON, || {
                let now = count(reason)?;
                ensure!(now >= before + MANY as f64, "{before}, then {now}");
                Ok(())
            })?;
            said_once(&a, reason.help())?;
        }
        flow.steady(SOON)?;
        let lost = flow.lost();
        ensure!(lost <= 1, "{lost} frames were lost");
        a.wait_for_path(&b, "direct", SOON)?;
        ensure!(server_of(&a.agent, 0)?.registered, "the server has lost it");
        ensure!(a.agent.cli("mesh")?.contains("dropped"), "{}", a.agent.cli("mesh")?);

        world.server.process()?.kill();
        ensure!(doctor(&a, "rendezvous server")? == "fail", "the doctor finds a server that is dead");
        Ok(())
    });
}
