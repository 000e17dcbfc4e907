//! Open vSwitch with its datapath in user space: a bridge with the underlay NIC, and one with the VM's port and a tunnel.

use std::{net::Ipv4Addr, process::Command};

use anyhow::{Context, Result, ensure};
use wavnet_common::addr::Mac;

use super::{
    Running,
    tools::{SOON, directory, file, program},
};
use crate::{
    bench::rig::{VM_MTU, VNI, Wired},
    lab::{
        Lab,
        host::{Host, Vm},
        link,
        pins::PinDir,
        poll_until,
        process::Process,
        tools::output,
        topology::UNDERLAY_MTU,
    },
};

/// What must be there.
pub(super) const PROGRAMS: [&str; 5] = ["ovsdb-server", "ovs-vswitchd", "ovsdb-tool", "ovs-vsctl", "ovs-appctl"];

/// The bridge with the underlay NIC, which has the VTEP's address.
pub(super) const UNDERLAY: &str = "br-phy";
const OVERLAY: &str = "br-int";
/// Its database of settings, by the path in the package.
const SCHEMA: &str = "usr/share/openvswitch/vswitch.ovsschema";
/// Programs for AF_XDP of the library that it uses.
const XDP_OBJECTS: &str = "usr/lib/x86_64-linux-gnu/bpf";

/// One hypervisor's database and switch.
pub(super) struct Switch {
    host: Host,
    dir: String,
    // In the order of their end.
    _switch: Process,
    _database: Process,
    _pins: PinDir,
}

impl Running for Vec<Switch> {}

pub(super) fn run(lab: &Lab, wired: &Wired) -> Result<Vec<Switch>> {
    for vm in &wired.vms {
        // It completes no checksums.
        link::offload(&vm.ns, Vm::NIC, "tx off")?;
    }
    let switches = wired.hosts.iter().map(|host| Switch::start(lab, host)).collect::<Result<Vec<_>>>()?;
    for (side, switch) in switches.iter().enumerate() {
        switch.underlay(mac(side))?;
        switch.overlay(&wired.vms[side].port, wired.hosts[1 - side].addr)?;
    }
    for (side, switch) in switches.iter().enumerate() {
        switch.wait_route()?;
        switch.control(&[
            "tnl/arp/set",
            UNDERLAY,
            &wired.hosts[1 - side].addr.to_string(),
            &mac(1 - side).to_string(),
        ])?;
    }
    Ok(switches)
}

/// The underlay bridge's address, which must not be the NIC's.
fn mac(side: usize) -> Mac {
    Mac([2, 0, 0, 0, 1, side as u8 + 1])
}

impl Switch {
    fn start(lab: &Lab, host: &Host) -> Result<Switch> {
        let dir = directory(lab, host, "ovs")?;
        output(command(host, &dir, "ovsdb-tool")?.arg("create").arg(format!("{dir}/conf.db")).arg(file(SCHEMA)?))?;
        let mut database = command(host, &dir, "ovsdb-server")?;
        database.arg(format!("{dir}/conf.db")).arg(format!("--remote=punix:{dir}/db.sock")).args(LOGS);
        let mut database = host.ns.start("ovsdb-server", database)?;
        poll_until(&format!("the database of Open vSwitch on {}", host.ns.short_name()), SOON, || {
            database.still_running()?;
            let mut vsctl = command(host, &dir, "ovs-vsctl")?;
            output(vsctl.args([&format!("--db=unix:{dir}/db.sock"), "--timeout=5", "--no-wait", "init"]))
        })?;
        let pins = lab.pin_dir(&format!("{}-ovs", host.ns.short_name()))?;
        let mut switch = command(host, &dir, "ovs-vswitchd")?;
        switch.arg(format!("unix:{dir}/db.sock")).arg("--disable-system").args(LOGS);
        switch.arg(format!("--unixctl={dir}/control"));
        // Its programs are the only ones on their interfaces: one that calls others would cost time.
        switch.env("LIBXDP_SKIP_DISPATCHER", "1").env("LIBXDP_BPFFS", pins.path());
        if let Ok(objects) = file(XDP_OBJECTS) {
            switch.env("LIBXDP_OBJECT_PATH", objects);
        }
        let switch = host.ns.start("ovs-vswitchd", switch)?;
        Ok(Switch { host: host.clone(), dir, _switch: switch, _database: database, _pins: pins })
    }

    fn underlay(&self, mac: Mac) -> Result<()> {
        let (nic, addr) = (Host::NIC, self.host.addr);
        self.configure(&format!(
            "add-br {UNDERLAY} -- set bridge {UNDERLAY} datapath_type=netdev other_config:hwaddr={mac} \
             -- add-port {UNDERLAY} {nic} -- set interface {nic} {AF_XDP} options:n_rxq=2"
        ))?;
        self.host.ns.ip(&format!("address del {addr}/24 dev {nic}"))?;
        self.host.ns.ip(&format!("link set dev {UNDERLAY} mtu {UNDERLAY_MTU} up"))?;
        self.host.ns.ip(&format!("address add {addr}/24 dev {UNDERLAY}"))?;
        Ok(())
    }

    fn overlay(&self, port: &str, remote: Ipv4Addr) -> Result<()> {
        let local = self.host.addr;
        self.configure(&format!(
            "add-br {OVERLAY} -- set bridge {OVERLAY} datapath_type=netdev \
             -- add-port {OVERLAY} {port} -- set interface {port} {AF_XDP} mtu_request={VM_MTU} \
             -- add-port {OVERLAY} vx0 -- set interface vx0 type=vxlan options:local_ip={local} options:remote_ip={remote} \
             options:key={VNI}"
        ))
    }

    fn configure(&self, words: &str) -> Result<()> {
        let mut vsctl = command(&self.host, &self.dir, "ovs-vsctl")?;
        vsctl.arg(format!("--db=unix:{}/db.sock", self.dir)).arg("--timeout=20").args(words.split_whitespace());
        let said = output(&mut vsctl)?;
        ensure!(said.trim().is_empty(), "ovs-vsctl said: {said}");
        Ok(())
    }

    /// Waits until it knows by which bridge tunnels leave.
    fn wait_route(&self) -> Result<()> {
        poll_until(&format!("the route of Open vSwitch on {}", self.host.ns.short_name()), SOON, || {
            let routes = self.control(&["ovs/route/show"])?;
            ensure!(routes.contains(UNDERLAY), "{routes}");
            Ok(())
        })
    }

    fn control(&self, words: &[&str]) -> Result<String> {
        let mut appctl = command(&self.host, &self.dir, "ovs-appctl")?;
        output(appctl.arg("-t").arg(format!("{}/control", self.dir)).args(words)).context("asking Open vSwitch")
    }
}

/// Sockets of AF_XDP in the driver, polled by the switch's main thread: faster than packet sockets, and unlike with threads of its
/// own for polling there are CPUs left for VMs.
const AF_XDP: &str = "type=afxdp-nonpmd options:xdp-mode=native";
const LOGS: [&str; 3] = ["-vconsole:warn", "-vsyslog:off", "-vfile:off"];

/// One of its programs, in its directory.
fn command(host: &Host, dir: &str, name: &str) -> Result<Command> {
    let mut command = host.ns.command(program(name)?);
    for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
        command.env(variable, dir);
    }
    Ok(command)
}
