//! Frames move from the relay to a direct path: none is lost, and none overtakes another.

use std::{
    fs,
    net::{SocketAddrV4, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use wavnet_tests::{
    lab::{
        self, Need,
        nat::{NatKind, RouterSpec},
        numbered, poll_until,
        wan::{Impairment, LinkSpec},
    },
    mesh::{Site, SiteSpec, World, mesh_of, wall::walls},
};

const SOON: Duration = Duration::from_secs(40);

/// Numbered datagrams, some thousand in a second; how many.
fn send(socket: &UdpSocket, to: SocketAddrV4, stop: &AtomicBool) -> Result<u64> {
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..8 {
            number += 1;
            socket.send_to(&number.to_be_bytes(), to)?;
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(number)
}

fn held(site: &Site) -> Result<f64> {
    site.agent.metric("wavnet_held_frames_total", &[])
}

/// While frames flow the sites meet; how many frames were sent, and how many of them were held back.
fn meet(a: &Site, b: &Site) -> Result<(u64, u64)> {
    let receiver = b.vm.ns.enter(|| Ok(UdpSocket::bind((b.addr, 7000))?))?;
    setsockopt(&receiver, sockopt::RcvBufForce, &(64 << 20))?;
    receiver.set_read_timeout(Some(Duration::from_millis(500)))?;
    let sender = a.vm.ns.enter(|| Ok(UdpSocket::bind((a.addr, 0))?))?;
    let (stop, before, to) = (AtomicBool::new(false), held(a)?, SocketAddrV4::new(b.addr, 7000));
    thread::scope(|scope| {
        let sending = scope.spawn(|| send(&sender, to, &stop));
        let receiving = scope.spawn(|| numbered::ascending(&receiver, &stop));
        let met = walls([a, b], false).and_then(|()| a.wait_for_path(b, "direct", SOON)).and_then(|()| {
            poll_until("nothing to be held back any more", SOON, || {
                let was = held(a)?;
                thread::sleep(Duration::from_millis(200));
                ensure!(held(a)? == was, "frames are held back");
                Ok(())
            })
        });
        stop.store(true, Ordering::Relaxed);
        let sent = sending.join().expect("the sender runs to its end")?;
        let got = receiving.join().expect("the receiver runs to its end")?;
        met?;
        let held = held(a)? - before;
        ensure!(got == sent, "{got} of {sent} arrived; {held} were held back, {:?}", mesh_of(&a.agent)?);
        Ok((sent, held as u64))
    })
}

#[test]
fn frames_move_from_the_relay_to_a_direct_path_in_order_and_none_is_lost() {
    for tap in [false, true] {
        let name = format!("frames_move_from_the_relay_to_a_direct_path_in_order_and_none_is_lost (tap: {tap})");
        lab::run(&name, &[Need::Wavnet], |lab| {
            let wan = |ms| LinkSpec::both(Impairment::delayed(Duration::from_millis(ms)));
            let mut world = World::new(lab, Some(&wan(25)))?;
            let router = RouterSpec::new(NatKind::PortRestrictedCone).link(wan(5));
            let spec = SiteSpec { router: Some(router), tap, ..SiteSpec::default() };
            let (a, b) = (world.site(lab, &spec)?, world.site(lab, &spec)?);
            // What is sent in an order arrives in it, whichever CPU sent it.
            for site in [&a, &b] {
                if let Some(router) = &site.router {
                    router.ns.run("ethtool", &["-K", "h1", "gro", "on"])?;
                    router.ns.run("ethtool", &["-L", "h1", "rx", "1", "tx", "1"])?;
                }
                site.host.ns.run("ethtool", &["-L", "u0", "rx", "1", "tx", "1"])?;
            }
            walls([&a, &b], true)?;
            for round in 0..3 {
                for (one, other) in [(&a, &b), (&b, &a)] {
                    one.wait_for_path(other, "relayed", SOON)?;
                }
                poll_until("frames to pass", SOON, || {
                    a.vm.ns.run("ping", &["-c", "1", "-W", "1", &b.addr.to_string()]).map(drop)
                })?;
                let (sent, held) = meet(&a, &b)?;
                println!("round {round}: {sent} sent, {held} held back");
                ensure!(held > 0, "there was nothing to see");
                walls([&a, &b], true)?;
            }
            let lost = a.agent.metric("wavnet_held_frames_lost_total", &[])?;
            ensure!(lost == 0.0, "{lost} frames were given up");
            Ok(())
        });
    }
}

#[test]
fn an_agent_that_dies_while_it_holds_frames_back_leaves_none_held_back() {
    let name = "an_agent_that_dies_while_it_holds_frames_back_leaves_none_held_back";
    lab::run(name, &[Need::Wavnet], |lab| {
        let wan = LinkSpec::both(Impairment::delayed(Duration::from_millis(100)));
        let mut world = World::new(lab, Some(&wan))?;
        let spec = SiteSpec::behind(Some(NatKind::PortRestrictedCone));
        let (mut a, b) = (world.site(lab, &spec)?, world.site(lab, &spec)?);
        walls([&a, &b], true)?;
        a.wait_for_path(&b, "relayed", SOON)?;
        b.wait_for_path(&a, "relayed", SOON)?;
        let pings = |a: &Site| a.vm.ns.run("ping", &["-c", "1", "-W", "1", &b.addr.to_string()]).map(drop);
        poll_until("frames to pass", SOON, || pings(&a))?;
        let sender = a.vm.ns.enter(|| Ok(UdpSocket::bind((a.addr, 0))?))?;
        let (stop, before, to) = (AtomicBool::new(false), held(&a)?, SocketAddrV4::new(b.addr, 7000));
        thread::scope(|scope| {
            let sending = scope.spawn(|| send(&sender, to, &stop));
            let outcome = walls([&a, &b], false)
                .and_then(|()| {
                    poll_until("frames to be held back", SOON, || {
                        ensure!(held(&a)? > before);
                        Ok(())
                    })
                })
                .and_then(|()| {
                    a.agent.kill();
                    a.agent.launch()?;
                    a.agent.wait_ready()?;
                    a.wait_for_path(&b, "direct", SOON)?;
                    poll_until("frames to pass again", SOON, || pings(&a))?;
                    poll_until("nothing to be held back any more", SOON, || {
                        let was = held(&a)?;
                        thread::sleep(Duration::from_millis(200));
                        ensure!(held(&a)? == was, "frames are held back");
                        Ok(())
                    })
                });
            stop.store(true, Ordering::Relaxed);
            sending.join().expect("the sender runs to its end")?;
            outcome
        })
    });
}

#[test]
fn the_tap_that_frames_wait_at_is_nobodys_port() {
    lab::run("the_tap_that_frames_wait_at_is_nobodys_port", &[Need::Wavnet], |lab| {
        let mut world = World::new(lab, None)?;
        let mut site = world.site(lab, &SiteSpec::default())?;
        let is_there = |site: &Site| Ok::<_, anyhow::Error>(site.host.ns.ip("-o link show")?.contains("wavhold0"));
        ensure!(is_there(&site)?, "there is none");
        let text = fs::read_to_string(site.agent.file())?;
        fs::write(site.agent.file(), text + "\n[[port]]\ninterface = \"wav*\"\nvni = 100\n")?;
        for _ in 0..2 {
            site.agent.reload()?;
            let names: Vec<String> = site.agent.ports()?.into_iter().map(|port| port.interface).collect();
            ensure!(!names.iter().any(|name| name.starts_with("wavhold")), "{names:?}");
            site.agent.terminate()?;
            ensure!(!is_there(&site)?, "it has outlived the agent");
            site.agent.launch()?;
        }
        Ok(())
    });
}
