//! Addresses by DHCP: Debian's dnsmasq and udhcpc, unmodified.

use std::{fs, net::Ipv4Addr, os::unix::fs::PermissionsExt, time::Duration};

use anyhow::{Context, Result};

use super::{netns::Netns, poll_until, process::Process};

/// A running dnsmasq that only serves DHCP.
#[derive(Debug)]
pub struct Server(Process);

impl Server {
    /// Serves `first` to `last` (in one /24) on an interface of a namespace that has an address of that network.
    ///
    /// # Errors
    /// dnsmasq does not start: what it says.
    pub fn start(netns: &Netns, interface: &str, first: Ipv4Addr, last: Ipv4Addr) -> Result<Server> {
        let leases = netns.log_path("dnsmasq").with_extension("leases");
        let mut process = netns.spawn(
            "dnsmasq",
            "dnsmasq",
            &[
                "--keep-in-foreground",
                "--log-facility=-",
                "--conf-file=/dev/null",
                "--pid-file=",
                "--user=root",
                "--port=0",
                "--no-ping",
                "--log-dhcp",
                "--dhcp-authoritative",
                "--bind-interfaces",
                &format!("--interface={interface}"),
                &format!("--dhcp-range={first},{last},255.255.255.0,1h"),
                &format!("--dhcp-leasefile={}", leases.display()),
            ],
        )?;
        poll_until("dnsmasq to start", Duration::from_secs(10), || {
            process.still_running()?;
            process.log().contains("DHCP, IP range").then_some(()).context("it has not said so")
        })?;
        Ok(Server(process))
    }

    /// What it logged: requests and leases.
    pub fn log(&self) -> String {
        self.0.log()
    }
}

/// Asks for an address with udhcpc and sets it; gives the address. The client ends once it has one.
///
/// # Errors
/// No lease within some fifteen seconds.
pub fn request(netns: &Netns, interface: &str) -> Result<Ipv4Addr> {
    // udhcpc's own script would rewrite this machine's resolv.conf.
    let script = netns.log_path("udhcpc").with_extension("sh");
    let text = "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\n\
        exec ip address replace \"$ip/$mask\" dev \"$interface\"\n";
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let script = script.display().to_string();
    let flags = ["-i", interface, "-f", "-n", "-q", "-t", "15", "-T", "1", "-s", &script];
    netns.run("udhcpc", &flags).context("DHCP")?;
    address(netns, interface)
}

/// The first IPv4 address of an interface.
///
/// # Errors
/// It has none.
pub fn address(netns: &Netns, interface: &str) -> Result<Ipv4Addr> {
    let json = netns.ip(&format!("-4 -j address show dev {interface}"))?;
    let links: serde_json::Value = serde_json::from_str(&json).context("output of ip -j")?;
    let text = links[0]["addr_info"][0]["local"].as_str();
    let text = text.with_context(|| format!("{interface} of {} has no address", netns.short_name()))?;
    Ok(text.parse()?)
}
