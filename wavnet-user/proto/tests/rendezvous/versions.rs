//! Versions to come (docs/wire.md section 2): agents that speak a newer one as well find a server that speaks version 1.

use base64ct::{Base64, Encoding as _};
use blake2::{
    Blake2sMac, Blake2sMac256,
    digest::{Mac as _, consts::U16},
};
use wavnet_proto::{
    rendezvous::{
        Done, Dropped,
        testing::{access, settings},
    },
    transmit::Socket,
};

use crate::world::{World, addr};

/// Where HELLO has the version of its header, the highest that its sender speaks, reserved bytes, and its MAC.
const VERSION: usize = 4;
const HIGHEST: usize = 12;
const RESERVED: [std::ops::Range<usize>; 2] = [13..16, 24..104];
const MAC: usize = 104;

/// HELLO of network 1 with a right MAC, whatever was changed in it: docs/wire.md section 3 has how that comes from the access key.
fn authentic(mut hello: Vec<u8>) -> Vec<u8> {
    let text = access(1).to_text();
    let key = Base64::decode_vec(text.strip_prefix("wavnet-access:").unwrap()).unwrap().split_off(8);
    let mac_key = Blake2sMac256::new(key.as_slice().into()).chain_update("wavnet 1 mac");
    let mac_key = mac_key.finalize().into_bytes();
    hello.truncate(MAC);
    let mac = Blake2sMac::<U16>::new(&mac_key).chain_update(&hello[4..]).finalize().into_bytes();
    hello.extend(mac);
    hello
}

#[test]
fn an_agent_that_speaks_more_than_version_1_is_answered_in_version_1() {
    for highest in [1, 2, 255] {
        let mut world = World::new(settings([1]));
        let agent = world.agent(1);
        let sent = world.agents[agent].client.hello();
        assert_eq!((sent[HIGHEST], &authentic(sent.clone())), (1, &sent), "this is what an agent of version 1 says");
        let mut hello = sent;
        hello[HIGHEST] = highest;
        // What a newer one may say there is nothing to version 1.
        RESERVED.into_iter().for_each(|place| hello[place].fill(highest));
        let hello = authentic(hello);
        world.server.handle_input(world.now, Socket::Main, addr(agent), &hello);
        let cookie = world.server.poll_transmit().expect("an answer").payload;
        assert_eq!((cookie.len(), cookie[VERSION], cookie[5]), (76, 1, 2), "COOKIE of version 1");
        // And so it goes on.
        let init = world.agents[agent].client.hear(world.now, &cookie).replies.remove(0);
        world.send(agent, &init);
        assert_eq!(world.agents[agent].connected, 1, "{highest}");
        assert!(world.register(agent, "a", &[7]).is_some(), "{highest}");
    }
}

/// HELLO is sent in the lowest version that its sender speaks: who has given up version 1 finds nobody here, and is counted.
#[test]
fn what_is_of_another_version_is_dropped() {
    let mut world = World::new(settings([1]));
    let agent = world.agent(1);
    for version in [0, 2, 255] {
        let mut hello = world.agents[agent].client.hello();
        (hello[VERSION], hello[HIGHEST]) = (version, version.max(2));
        world.send(agent, &authentic(hello));
    }
    assert_eq!((world.dropped(Dropped::Version), world.done(Done::Hello), world.sent.len()), (3, 0, 0));
}
