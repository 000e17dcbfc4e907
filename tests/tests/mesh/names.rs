//! Rendezvous servers by name, where the resolver does not answer, or not yet.

use std::{fs, net::Ipv4Addr, time::Duration};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use wavnet_tests::{
    lab::{self, Lab, Need, binary, host::Host, poll_until, process::Process, udp::Udp},
    mesh::{Site, SiteSpec, World, mesh_of},
};

const SOON: Duration = Duration::from_secs(20);
const NAME: &str = "rendezvous.example.net";

/// Starts the site's agent where the resolver asks this host, and waits for its answer for longer than anybody should.
fn launch(lab: &Lab, site: &Site, resolver: Ipv4Addr) -> Result<Process> {
    let conf = lab.path("resolv.conf");
    fs::write(&conf, format!("nameserver {resolver}\noptions timeout:30 attempts:5\n"))?;
    let script = "mount --bind \"$2\" /etc/resolv.conf && exec \"$0\" agent --config \"$1\"";
    let files = [binary::usable()?, site.agent.file().to_owned(), conf].map(|file| file.display().to_string());
    let [bin, config, conf] = &files;
    site.host.ns.spawn("agent-by-name", "unshare", &["-m", "sh", "-c", script, bin, config, conf])
}

/// A DNS server that knows the rendezvous server's name.
fn dns(host: &Host, server: Ipv4Addr) -> Result<Process> {
    let address = format!("--address=/{NAME}/{server}");
    let flags = ["--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null", "--pid-file=", "--user=root"];
    let more = ["--no-resolv", "--no-hosts", "--bind-interfaces", "--interface=u0", &address];
    host.ns.spawn("dnsmasq", "dnsmasq", &[&flags[..], &more].concat())
}

#[test]
fn a_name_is_found_soon_after_it_can_be_and_a_silent_resolver_keeps_no_agent_from_ending() {
    let name = "a_name_is_found_soon_after_it_can_be_and_a_silent_resolver_keeps_no_agent_from_ending";
    let needs = [Need::Wavnet, Need::Tool("dnsmasq"), Need::Tool("unshare")];
    lab::run(name, &needs, |lab| {
        let mut world = World::new(lab, None)?;
        let resolver = world.internet.host(lab, "dns", 1, None)?.host;
        let mut site = world.site(lab, &SiteSpec::default())?;
        site.agent.terminate()?;
        let text = fs::read_to_string(site.agent.file())?;
        let by_name =
            text.replace(&format!("servers = [\"{}:", world.public.host.addr), &format!("servers = [\"{NAME}:"));
        ensure!(by_name != text, "{text}");
        fs::write(site.agent.file(), by_name)?;

        // As after a boot: nobody answers there yet.
        let mut agent = launch(lab, &site, resolver.addr)?;
        poll_until("the agent to say so", SOON, || {
            let warnings = site.agent.status()?.warnings;
            ensure!(warnings.iter().any(|w| w.contains(NAME) && w.contains("cannot be resolved")), "{warnings:?}");
            Ok(())
        })?;
        let mut process = dns(&resolver, world.public.host.addr)?;
        // A minute was the time between two questions once.
        poll_until("the server to be found", SOON, || {
            process.still_running()?;
            let servers = mesh_of(&site.agent)?.servers;
            ensure!(servers.first().is_some_and(|server| server.registered), "{servers:?}\n{}", agent.log());
            Ok(())
        })?;
        agent.signal(Signal::SIGTERM)?;
        ensure!(agent.wait(SOON)?.success(), "{}", agent.log());
        drop(process);

        let silent = Udp::open(&resolver, 53)?;
        let mut agent = launch(lab, &site, resolver.addr)?;
        silent.receive()?;
        agent.signal(Signal::SIGTERM)?;
        // The resolver would be asked for minutes.
        let status = agent.wait(Duration::from_secs(10))?;
        ensure!(status.success(), "{status}: {}", agent.log());
        Ok(())
    });
}
