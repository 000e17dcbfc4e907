//! tinc 1.0 in switch mode, without cipher and digest: its fastest.

use std::fs;

use anyhow::{Context, Result};

use super::{
    kernel,
    tools::{directory, program, start, wait_interface},
};
use crate::{
    bench::rig::{VM_MTU, Wired},
    lab::{Lab, process::Process, tools::output},
};

/// What must be there.
pub(super) const PROGRAMS: [&str; 1] = ["tincd"];

const TAP: &str = "tinc0";

pub(super) fn run(lab: &Lab, wired: &Wired) -> Result<Vec<Process>> {
    let mut dirs = Vec::new();
    for (side, host) in wired.hosts.iter().enumerate() {
        let dir = directory(lab, host, "tinc")?;
        let connect = if side == 1 { "ConnectTo=h0\n" } else { "" };
        let main = format!("Name=h{side}\nMode=switch\nDeviceType=tap\nInterface={TAP}\nAddressFamily=ipv4\n{connect}");
        write(&format!("{dir}/tinc.conf"), &main)?;
        fs::create_dir_all(format!("{dir}/hosts")).context("making tinc's directory of hosts")?;
        // Discovery of the MTU begins over its TCP connection, encrypted whatever Cipher says.
        let settings = format!("Address={}\nCipher=none\nDigest=none\nPMTUDiscovery=no\n", host.addr);
        write(&format!("{dir}/hosts/h{side}"), &settings)?;
        output(host.ns.command(program("tincd")?).args(["-c", &dir, "-K2048"]).stdin(std::process::Stdio::null()))?;
        dirs.push(dir);
    }
    for side in 0..2 {
        let name = format!("hosts/h{side}");
        fs::copy(format!("{}/{name}", dirs[side]), format!("{}/{name}", dirs[1 - side]))
            .context("handing tinc's keys over")?;
    }
    let mut processes = Vec::new();
    for (side, (host, dir)) in wired.hosts.iter().zip(&dirs).enumerate() {
        let mut tincd = start(host, "tincd", &format!("-c {dir} -D --pidfile={dir}/pid"))?;
        wait_interface(host, &mut tincd, TAP, VM_MTU)?;
        kernel::join(wired, side, TAP)?;
        processes.push(tincd);
    }
    Ok(processes)
}

fn write(path: &str, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {path}"))
}
