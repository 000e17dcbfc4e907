//! A test world in the kernel's tables.

use anyhow::Result;
use wavnet_common::{
    abi::{At, Source, VtepFlags},
    addr::{PeerId, Vni},
    testing::World,
};
use wavnet_proto::command::{Command, PeerKey};
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
        let peer = if vtep.has(VtepFlags::DYNAMIC) {
            PeerKey::Dynamic(PeerId([*index as u8; 32]))
        } else {
            PeerKey::Static(vtep.endpoint().addr.into())
        };
        commands.push(Command::SetVtep { index: *index, vtep: *vtep, peer });
    }
    commands.extend(world.paths.iter().map(|(index, path)| Command::SetPath { index: *index, path: Some(*path) }));
    for (source, at) in &world.path_of {
        // Others are of a path that is there, or no agent would make them.
        if let (Source::Endpoint(from), At::Relay(number)) = (source, at) {
            commands.push(Command::SetRelay { number: *number, at: *from, used: true });
        }
    }
    commands.extend(world.holds.iter().map(|(index, hold)| Command::SetHold { index: *index, hold: *hold }));
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
