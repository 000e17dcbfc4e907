//! What ends while frames flow: a key's permission, the underlay's address, servers' families. The rest goes on, and it is said once.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use wavnet_tests::{
    lab::{self, Need, host::Host, nat::NatKind, ping, poll_until},
    mesh::{Site, SiteSpec, World},
};

const SOON: Duration = Duration::from_secs(30);

fn cone() -> SiteSpec {
    SiteSpec::behind(Some(NatKind::PortRestrictedCone))
}

/// Changes the configuration of a running agent.
fn reconfigure(site: &Site, change: impl FnOnce(String) -> String) -> Result<()> {
    let text = fs::read_to_string(site.agent.file()).context("reading the configuration")?;
    fs::write(site.agent.file(), change(text)).context("writing the configuration")?;
    site.agent.reload().map(drop)
}

/// How often the agent has said this.
fn said(site: &Site, words: &str) -> usize {
    site.agent.log().lines().filter(|line| line.contains(words)).count()
}

fn connect(sites: &[(&Site, &Site)]) -> Result<()> {
    for (one, other) in sites {
        one.wait_for_path(other, "direct", SOON)?;
        other.wait_for_path(one, "direct", SOON)?;
        ping::once(&one.vm.ns, other.addr, 56, SOON)?;
    }
    Ok(())
}

#[test]
fn who_is_taken_from_the_list_while_it_talks_is_out_and_the_others_go_on() {
    let name = "who_is_taken_from_the_list_while_it_talks_is_out_and_the_others_go_on";
    lab::run(name, &[Need::Wavnet], |lab| {
        let mut world = World::new(lab, None)?;
        let (a, b, c) = (world.site(lab, &cone())?, world.site(lab, &cone())?, world.site(lab, &cone())?);
        let [list, out] = ["allowed", "revoked"].map(|name| lab.path(name));
        let write = |file: &Path, keys: &[&str]| fs::write(file, keys.join("\n") + "\n").context("writing a list");
        let (allow, revoke) = (|keys: &[&str]| write(&list, keys), |keys: &[&str]| write(&out, keys));
        allow(&[&b.key, &c.key])?;
        revoke(&[])?;
        let lists = format!("[mesh]\nallow = \"{}\"\nrevoked = \"{}\"\n", list.display(), out.display());
        reconfigure(&a, |text| text.replace("[mesh]\n", &lists))?;
        connect(&[(&a, &b), (&a, &c)])?;
        allow(&[&c.key])?;
        a.agent.reload()?;
        poll_until("the peer to be gone", SOON, || {
            ensure!(a.peer(&b).is_err_and(|_| true) || a.peer(&b)?.selected().is_none(), "it has a path");
            Ok(())
        })?;
        ping::unreachable(&a.vm.ns, b.addr)?;
        ping::unreachable(&b.vm.ns, a.addr)?;
        connect(&[(&a, &c), (&b, &c)])?;
        for one in [&a, &b] {
            poll_until("it to be said", SOON, || {
                ensure!(said(one, "gone peer=") == 1, "{}", one.agent.log());
                Ok(())
            })?;
        }
        // Whoever begins asks again, in vain: that is no reason to say it again.
        ensure!(said(&a, "refused: it is not on the list") <= 1, "{}", a.agent.log());
        // It stands on both lists: it is out.
        allow(&[&b.key, &c.key])?;
        revoke(&[&b.key])?;
        a.agent.reload()?;
        ping::unreachable(&a.vm.ns, b.addr)?;
        // And may come back.
        revoke(&[])?;
        a.agent.reload()?;
        connect(&[(&a, &b), (&a, &c)])?;
        // It is revoked while it talks, with a VNI behind its key, which makes no difference.
        revoke(&[&format!("{} 100", b.key)])?;
        let done = a.agent.reload()?;
        ensure!(done.contains("1 of the peers may not be any more"), "{done}");
        ensure!(a.peer(&b).is_err(), "it is out when the reload is done");
        ping::unreachable(&b.vm.ns, a.addr)?;
        ensure!(said(&a, "gone peer=") == 2, "{}", a.agent.log());
        connect(&[(&a, &c)])
    });
}

#[test]
fn an_underlay_address_that_vanishes_and_comes_back_is_survived() {
    lab::run("an_underlay_address_that_vanishes_and_comes_back_is_survived", &[Need::Wavnet], |lab| {
        let mut world = World::new(lab, None)?;
        let (a, b, c) = (world.site(lab, &cone())?, world.site(lab, &cone())?, world.site(lab, &cone())?);
        connect(&[(&a, &b), (&a, &c), (&b, &c)])?;
        let (ns, nic) = (&a.host.ns, Host::NIC);
        let route = ns.ip("route show default")?;
        let address = format!("{}/24", a.host.addr);
        for words in ["no interface has the address", "has no IPv4 address: the overlay is cut off"] {
            ns.ip(&format!("address del {address} dev {nic}"))?;
            poll_until("the agent to say so", SOON, || {
                let warnings = a.agent.status()?.warnings;
                ensure!(warnings.iter().any(|w| w.contains(words)), "{warnings:?}");
                ensure!(said(&a, words) > 0, "it is in the status alone");
                Ok(())
            })?;
            poll_until("the paths to be gone", SOON, || {
                for peer in [a.peer(&b), a.peer(&c)] {
                    ensure!(peer.as_ref().is_ok_and(|p| p.selected().is_none()), "{peer:?}");
                }
                Ok(())
            })?;
            connect(&[(&b, &c)])?;
            ns.ip(&format!("address add {address} dev {nic}"))?;
            ns.ip(&format!("route replace {}", route.trim()))?;
            connect(&[(&a, &b), (&a, &c)])?;
            let log = a.agent.log();
            let came = log.lines().filter(|l| l.contains(words) && l.contains("WARN")).count();
            ensure!(came == 1, "{came} times in\n{log}");
            // In the second round the agent takes what address there is.
            reconfigure(&a, |text| text.replace(&format!("address = \"{}\"\n", a.host.addr), ""))?;
        }
        Ok(())
    });
}

#[test]
fn a_server_that_has_ipv6_alone_is_named_and_another_one_does() {
    lab::run("a_server_that_has_ipv6_alone_is_named_and_another_one_does", &[Need::Wavnet], |lab| {
        let mut world = World::new(lab, None)?;
        let (a, b) = (world.site(lab, &cone())?, world.site(lab, &cone())?);
        reconfigure(&a, |text| text.replace("servers = [", "servers = [\"[2001:db8::1]:4789\", "))?;
        connect(&[(&a, &b)])?;
        let words = "[2001:db8::1]:4789 has no IPv4 address";
        poll_until("the agent to say so", SOON, || {
            let warnings = a.agent.status()?.warnings;
            ensure!(warnings.iter().any(|w| w.contains(words)), "{warnings:?}");
            ensure!(said(&a, words) == 1, "{}", a.agent.log());
            Ok(())
        })
    });
}

#[test]
fn a_udp_port_that_is_taken_is_named_once_and_had_when_it_is_free() {
    lab::run("a_udp_port_that_is_taken_is_named_once_and_had_when_it_is_free", &[Need::Wavnet], |lab| {
        let mut world = World::new(lab, None)?;
        let (mut a, b) = (world.site(lab, &cone())?, world.site(lab, &cone())?);
        a.agent.terminate()?;
        let taken = a.host.ns.enter(|| Ok(std::net::UdpSocket::bind((a.host.addr, 4789))?))?;
        a.agent.launch()?;
        let words = "UDP port 4789 of";
        poll_until("the agent to say so", SOON, || {
            let warnings = a.agent.status()?.warnings;
            ensure!(warnings.iter().any(|w| w.contains(words)) && said(&a, words) == 1, "{warnings:?}");
            Ok(())
        })?;
        drop(taken);
        connect(&[(&a, &b)])?;
        ensure!(said(&a, words) <= 2, "{}", a.agent.log());
        // Another port, while frames flow.
        reconfigure(&a, |text| text.replace("[underlay]\n", "[underlay]\nport = 4790\n"))?;
        poll_until("frames to leave by the other port", SOON, || {
            let ports: Vec<u16> = a.peer(&b)?.paths.iter().filter(|p| p.selected).map(|p| p.local_port).collect();
            ensure!(ports == [4790], "{ports:?}");
            Ok(())
        })?;
        connect(&[(&a, &b)])
    });
}
