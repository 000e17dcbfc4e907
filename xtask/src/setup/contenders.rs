//! What else carries VMs' frames, for the benchmark to compare with.

use anyhow::Result;

use super::{cargo, unpacked::Package};
use crate::workspace::Workspace;

pub(super) const PACKAGES: &[Package] = &[
    Package {
        name: "openvswitch-switch",
        with: &["openvswitch-common"],
        programs: &[
            "usr/sbin/ovsdb-server",
            "usr/lib/openvswitch-switch/ovs-vswitchd",
            "usr/bin/ovsdb-tool",
            "usr/bin/ovs-vsctl",
            "usr/bin/ovs-appctl",
        ],
    },
    Package { name: "n2n", with: &[], programs: &["usr/sbin/edge", "usr/bin/supernode"] },
    Package { name: "tinc", with: &[], programs: &["usr/sbin/tincd"] },
];

const VPNCLOUD: &str = "vpncloud";

/// Gets those that are missing. The benchmark looks for them in the same places.
pub(super) fn ensure(workspace: &Workspace) -> Result<()> {
    let home = workspace.toolchain().join("contenders");
    let bin = home.join("bin");
    for package in PACKAGES {
        package.ensure(workspace, &home, &bin)?;
    }
    if !bin.join(VPNCLOUD).is_file() {
        cargo::install(workspace, VPNCLOUD, &home, |cargo| cargo)?;
    }
    println!("Contenders of the benchmark: {}", bin.display());
    Ok(())
}
