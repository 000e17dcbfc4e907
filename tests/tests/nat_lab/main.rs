//! The lab's NATs are what they are called: independent STUN clients say so, of two hosts at once, and datagrams show it. Our own client
//! and server say the same as the independent ones.

mod behaviour;
mod hairpin;
mod mappings;
mod ours;

use anyhow::Result;
use wavnet_tests::lab::{
    Lab, Need,
    nat::{Router, RouterSpec},
    topology::UNDERLAY_MTU,
    udp::Udp,
    wan::{Internet, PublicHost},
};

/// What routers need.
const ROUTERS: [Need; 2] = [Need::Tool("nft"), Need::Tool("conntrack")];

/// An internet with a host that has two addresses, and sockets on both.
struct World {
    internet: Internet,
    public: PublicHost,
    /// On the first address.
    first: Udp,
    /// On the second one.
    second: Udp,
}

impl World {
    fn new(lab: &Lab) -> Result<World> {
        let mut internet = Internet::new(lab, UNDERLAY_MTU)?;
        let public = internet.host(lab, "public", 2, None)?;
        let [first, second] = [0, 1].map(|n| Udp::bind(&public.host.ns, public.addresses[n], 9000));
        Ok(World { internet, first: first?, second: second?, public })
    }

    fn router(&mut self, lab: &Lab, name: &str, spec: &RouterSpec) -> Result<Router> {
        Router::new(lab, name, &mut self.internet, spec)
    }

    /// Another socket of the public host, on its first address.
    fn stranger(&self) -> Result<Udp> {
        Udp::open(&self.public.host, 0)
    }
}
