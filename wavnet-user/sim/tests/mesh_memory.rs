//! How much memory an agent takes for a thousand peers.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    collections::BTreeSet,
    time::Duration,
};

use wavnet_common::addr::Vni;
use wavnet_proto::mesh::PathKind;
use wavnet_sim::{Seed, SegmentId, nat::NatConfig};

#[path = "mesh/classified.rs"]
#[expect(dead_code, reason = "one of the scenarios' modules")]
mod classified;
#[path = "mesh/liar.rs"]
#[expect(dead_code, reason = "one of the scenarios' modules")]
mod liar;
#[path = "mesh/node.rs"]
#[expect(dead_code, reason = "one of the scenarios' modules")]
mod node;
#[path = "mesh/world.rs"]
#[expect(dead_code, reason = "one of the scenarios' modules")]
mod world;

use world::{World, cone};

/// The system's allocator, and what this thread has of it.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: all is the system allocator's; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get() + layout.size().cast_signed());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size().cast_signed());
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PEERS: usize = 1000;
const MOST: isize = 16 * 1024;

fn vnis(n: impl Iterator<Item = u32>) -> BTreeSet<Vni> {
    n.map(|n| Vni::new(n).expect("a VNI")).collect()
}

/// A set of up to eleven VNIs takes as much as one of one.
#[test]
fn a_thousand_peers_fit() {
    let mut world = World::new(Seed::from_env_or(1), Duration::from_millis(5));
    let router = world.add_router(NatConfig::port_restricted_cone());
    let lan = world.net.lan(router);
    let hub = world.add_agent_in(lan, "hub", cone(), vnis(1..=250));
    let mut spokes = Vec::new();
    for n in 0..PEERS as u32 {
        let of = vnis(std::iter::once(1 + n % 250));
        spokes.push(world.add_agent_in(
            SegmentId::INTERNET,
            &format!("hypervisor-{n}.example"),
            Default::default(),
            of,
        ));
        world.net.run_for(Duration::from_millis(2));
    }
    world.net.run_for(Duration::from_secs(20));
    let most = world.agent(hub).mesh.peers().map(|peer| peer.paths.len()).max();
    let direct = spokes.iter().filter(|spoke| world.path(hub, **spoke) == Some(PathKind::Direct)).count();
    assert_eq!(direct, PEERS);
    world.net.run_for(Duration::from_secs(100));
    let node = world.net.kill(hub.host).expect("it ran");
    let node::Host::Agent(agent) = node else { panic!("a server is no agent") };
    let mesh = agent.mesh;
    let before = HELD.get();
    drop(mesh);
    let each = (before - HELD.get()) / PEERS as isize;
    println!("{each} bytes for each of {PEERS} peers; {most:?} ways of one at the most");
    assert!(each <= MOST, "{each} bytes");
}
