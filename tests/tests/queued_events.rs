//! Events that were written while no agent was running, and slots that are others' when they are read.

use anyhow::ensure;
use wavnet_common::addr::Mac;
use wavnet_tests::lab::{
    self, Need,
    config::AgentConfig,
    frame::marked,
    host::{Vm, VmSpec},
    overlay::{Lone, SOON, blue, ip, mac, until, vni},
    raw::RawSocket,
    wait_until,
};
use wavnet_user::api::model::AttachState;

const NEEDS: &[Need] = &[Need::Wavnet];
/// So that every newcomer gets the slot of the one before.
const ONE_OF_EACH: &str = "[limits]\nports = 1\nvnis = 1\npeers = 1\n";

#[test]
fn old_events_are_not_told_in_the_names_of_new_owners() {
    lab::run("old_events_are_not_told_in_the_names_of_new_owners", NEEDS, |lab| {
        let mut net = Lone::start(lab, &[], |c| c.table(ONE_OF_EACH))?;
        let c = net.host.vm(lab, &VmSpec::new("c", mac(3), ip(3)))?;
        let c_nic = RawSocket::open(&c.ns, Vm::NIC)?;
        let learned = |log: &str, mac: Mac| -> Vec<String> {
            log.lines().filter(|l| l.contains("learned") && l.contains(&mac.to_string())).map(str::to_owned).collect()
        };
        let (first, second, third) = (mac(0x51), mac(0x52), mac(0x53));

        // Written for a port whose slot another port of the same VNI gets.
        net.agent.kill();
        net.vm_nic.send(&marked(Mac::BROADCAST, first, "first"))?;
        until(&net.wire, "first")?;
        let config = |vni| AgentConfig::new(&[vni]).port("p-c", vni).peer(net.far.addr, &[vni]).table(ONE_OF_EACH);
        net.agent.write_config(&config(blue()))?;
        net.agent.launch()?;
        net.agent.wait_port("p-c", AttachState::Attached)?;
        wait_until("the event to be told", SOON, || Ok(!learned(&net.agent.log(), first).is_empty()))?;
        let told = learned(&net.agent.log(), first);
        ensure!(told.iter().all(|l| l.contains("vni=100") && !l.contains("p-c")), "told of another port: {told:?}");

        // Written for a VNI whose slot another VNI gets.
        net.agent.kill();
        c_nic.send(&marked(Mac::BROADCAST, second, "second"))?;
        until(&net.wire, "second")?;
        net.agent.write_config(&config(vni(200)))?;
        net.agent.launch()?;
        net.agent.wait_port("p-c", AttachState::Attached)?;
        c_nic.send(&marked(Mac::BROADCAST, third, "third"))?;
        wait_until("the later event to be told", SOON, || Ok(!learned(&net.agent.log(), third).is_empty()))?;
        let told = learned(&net.agent.log(), third);
        ensure!(told.iter().all(|l| l.contains("vni=200") && l.contains("p-c")), "{told:?}");
        let told = learned(&net.agent.log(), second);
        ensure!(told.is_empty(), "told of another VNI: {told:?}");
        Ok(())
    });
}
