//! A test world in the kernel's tables.

use anyhow::Result;
use wavnet_common::{addr::Vni, testing::World};
use wavnet_proto::command::Command;
use wavnet_user::datapath::Datapath;

/// Writes everything but the FDB, as the agent would.
///
/// # Errors
/// Those of the kernel.
pub fn install(world: &World, datapath: &mut Datapath) -> Result<()> {
    let mut commands = vec![Command::SetConfig(world.config)];
    for (index, vni) in &world.vnis {
        commands.push(Command::SetVni { index: *index, vni: Vni::new(*vni)?, used: true });
    }
    commands.extend(world.ports.iter().map(|(index, port)| Command::SetPort { index: *index, port: *port }));
    for (index, vtep) in &world.vteps {
        commands.push(Command::SetVtep { index: *index, vtep: *vtep, addr: vtep.addr.into() });
    }
    for (key, member) in &world.members {
        commands.push(Command::SetMember { key: *key, member: Some(*member) });
    }
    for (vni_index, set) in &world.floods {
        commands.push(Command::SetFlood { vni_index: *vni_index, set: Box::new(*set) });
    }
    for command in &commands {
        datapath.apply(command)?;
    }
    Ok(())
}
