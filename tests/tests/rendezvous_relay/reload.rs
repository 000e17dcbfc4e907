//! What a reload does to the relay in the kernel, and what it says that it cannot do.

use anyhow::ensure;
use wavnet_tests::{
    lab::{self, topology::UNDERLAY_MTU, wait_until},
    rendezvous::Server,
};

use super::{NEEDS, SOON, check, shape};

/// The kernel's tables keep the size that they had at the start.
#[test]
fn a_reload_to_more_pairs_than_the_kernel_has_room_for_says_so() {
    lab::run("a_reload_to_more_pairs_than_the_kernel_has_room_for_says_so", NEEDS, |lab| {
        let net = lab.routed(3, UNDERLAY_MTU)?;
        let limits = |pairs: u32| shape(&net.hosts, "", &format!("[limits]\nrelays = {pairs}\n"));
        let mut server = Server::start(lab, &net.hosts[2].ns, &limits(2))?;
        for (pairs, is_told) in [(2, false), (3, true), (3, true), (1, false)] {
            server.configure(&limits(pairs))?;
            let said = server.reload()?;
            ensure!(said.contains("beyond 2 pairs until it is started again") == is_told, "{pairs}: {said}");
        }
        server.configure(&limits(3))?;
        server.stop()?;
        server.launch()?;
        let said = server.reload()?;
        ensure!(!said.contains("beyond"), "{said}");
        Ok(())
    });
}

/// The programs are loaded at the start, and only by a server that relays then.
#[test]
fn a_reload_that_switches_the_relay_on_says_that_the_server_relays_until_it_starts_again() {
    let name = "a_reload_that_switches_the_relay_on_says_that_the_server_relays_until_it_starts_again";
    lab::run(name, NEEDS, |lab| {
        let net = lab.routed(3, UNDERLAY_MTU)?;
        let machines = &net.hosts;
        let mut server = Server::start(lab, &machines[2].ns, &shape(machines, "relay = false\n", ""))?;
        let told = |server: &mut Server| {
            let log = server.process()?.log();
            let words = "the server relays, not the kernel, until it is started again";
            Ok::<_, anyhow::Error>(log.lines().filter(|line| line.contains(words)).count())
        };
        server.reload()?;
        ensure!(told(&mut server)? == 0, "nothing has changed");
        server.configure(&shape(machines, "", ""))?;
        server.reload()?;
        wait_until("the log to say so", SOON, || Ok(told(&mut server)? == 1))?;
        server = check(server, machines, "user-space", None)?;
        server.reload()?;
        ensure!(told(&mut server)? == 1, "it was told already");
        server.stop()?;
        server.launch()?;
        check(server, machines, "xdp-driver", Some("relayed_by_xdp"))?.stop()
    });
}
