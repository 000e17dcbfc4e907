//! n2n 1.x: a supernode beside the first edge, an edge on each hypervisor.

use anyhow::Result;

use super::{
    Running,
    tools::{start, wait_interface},
};
use crate::{
    bench::rig::{VM_MTU, Wired},
    lab::{process::Process, programs::Programs},
};

/// What must be there.
pub(super) const PROGRAMS: [&str; 2] = ["supernode", "edge"];

const TAP: &str = "n2n0";
const SUPERNODE_PORT: u16 = 7654;
const EDGE_PORT: u16 = 7655;

/// Processes, and the programs that join taps and ports.
pub(super) struct N2n {
    _processes: Vec<Process>,
    _programs: Vec<Programs>,
}

impl Running for N2n {}

pub(super) fn run(wired: &Wired) -> Result<N2n> {
    let mut processes = vec![start(&wired.hosts[0], "supernode", &format!("-l {SUPERNODE_PORT}"))?];
    let mut programs = Vec::new();
    for (side, (host, vm)) in wired.hosts.iter().zip(&wired.vms).enumerate() {
        let supernode = wired.hosts[0].addr;
        // It has no setting without a cipher. It carries its own address only, which therefore is the VM's.
        let words = format!(
            "-d {TAP} -a 10.99.0.{} -c bench -k secret -m {} -M {VM_MTU} -r -p {EDGE_PORT} -l {supernode}:{SUPERNODE_PORT}",
            side + 1,
            vm.mac
        );
        let mut edge = start(host, "edge", &words)?;
        wait_interface(host, &mut edge, TAP, VM_MTU)?;
        processes.push(edge);
        let mut join = Programs::load()?;
        join.redirect_tc(&host.ns, [TAP, &vm.port])?;
        programs.push(join);
    }
    Ok(N2n { _processes: processes, _programs: programs })
}
