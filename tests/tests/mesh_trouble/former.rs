//! What an agent finds that the one before has left, where lists and keys have changed meanwhile: it ends at once.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use wavnet_tests::{
    lab::{self, nat::NatKind, ping},
    mesh::{NEEDS, Site, SiteSpec, World},
};

const SOON: Duration = Duration::from_secs(30);

/// They have a path; then nobody leads one to the other, and the other says nothing any more, while its kernel goes on forwarding. The
/// first one's agent ends.
fn leave(world: &mut World, a: &mut Site, b: &mut Site) -> Result<()> {
    a.wait_for_path(b, "direct", SOON)?;
    b.wait_for_path(a, "direct", SOON)?;
    ping::once(&b.vm.ns, a.addr, 56, SOON)?;
    world.server.process()?.kill();
    b.agent.kill();
    a.agent.kill();
    ping::once(&b.vm.ns, a.addr, 56, SOON)
}

fn launch(site: &mut Site) -> Result<()> {
    site.agent.launch()?;
    site.agent.wait_ready()
}

#[test]
fn who_was_left_by_an_earlier_agent_obeys_the_list_and_the_network_of_now() {
    lab::run("who_was_left_by_an_earlier_agent_obeys_the_list_and_the_network_of_now", NEEDS, |lab| {
        let mut world = World::new(lab, None)?;
        let [list, other] = ["allowed", "other.key"].map(|name| lab.path(name));
        let spec = SiteSpec { mesh: format!("allow = \"{}\"\n", list.display()), ..SiteSpec::default() };
        fs::write(&list, "")?;
        let [mut a, mut b] = world.sites(lab, [&spec, &SiteSpec::behind(Some(NatKind::PortRestrictedCone))])?;
        let allow = |words: &str| fs::write(&list, format!("{words}\n")).context("writing the list");
        let key = b.key.clone();

        // It is taken from the list while a new agent has not heard from it yet.
        allow(&key)?;
        a.agent.reload()?;
        leave(&mut world, &mut a, &mut b)?;
        launch(&mut a)?;
        ping::once(&b.vm.ns, a.addr, 56, SOON)?;
        allow("")?;
        a.agent.reload()?;
        ping::unreachable(&b.vm.ns, a.addr)?;

        // It may not join this VNI any more, while there is no agent.
        for again in [format!("{key} 200"), key.clone()] {
            allow(&key)?;
            a.agent.reload()?;
            world.server.launch()?;
            launch(&mut b)?;
            leave(&mut world, &mut a, &mut b)?;
            allow(&again)?;
            if again == key {
                // The network is another one.
                let made = world.server.wavnet(&["key", "network", &other.display().to_string()])?;
                ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
                let text = fs::read_to_string(a.agent.file())?;
                let is_key = |line: &&str| line.starts_with("network_key");
                let line = text.lines().find(is_key).context("a network's key")?;
                let text = text.replace(line, &format!("network_key = \"{}\"", other.display()));
                fs::write(a.agent.file(), text)?;
            }
            launch(&mut a)?;
            ping::unreachable(&b.vm.ns, a.addr)?;
        }
        Ok(())
    });
}
