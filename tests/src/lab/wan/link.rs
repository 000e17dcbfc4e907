//! A link between two namespaces with a WAN emulator in its middle.

use std::ops::Deref;

use anyhow::Result;
use aya::programs::links::FdLink;

use super::{emulator::Emulator, impairment::Impairment, packet::Port};
use crate::lab::{Lab, link, netns::Netns, programs};

/// What a link's two directions do, and where its chance begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkSpec {
    /// From the site to the internet.
    pub up: Impairment,
    /// From the internet to the site.
    pub down: Impairment,
    /// The same seed loses the same frames, by their number.
    pub seed: u64,
}

impl LinkSpec {
    /// Both directions the same.
    pub fn both(impairment: Impairment) -> LinkSpec {
        LinkSpec { up: impairment, down: impairment, seed: 1 }
    }

    /// The same with another seed.
    #[must_use]
    pub fn seed(self, seed: u64) -> LinkSpec {
        LinkSpec { seed, ..self }
    }
}

/// Two interfaces with a WAN between them; what it does can be seen and changed ([`Emulator`]). It lasts as long as this.
#[derive(Debug)]
pub struct WanLink {
    emulator: Emulator,
    _polling: Vec<FdLink>,
    _ns: Netns,
}

impl Deref for WanLink {
    type Target = Emulator;

    fn deref(&self) -> &Emulator {
        &self.emulator
    }
}

impl WanLink {
    /// The emulator's ends of the two pairs.
    const ENDS: [&str; 2] = ["a", "b"];

    /// Makes an interface in each of two namespaces, both like NICs (see [`link::like_a_nic`]), and a WAN between them, in a
    /// namespace called `name`. Offloads are off that make frames longer than the MTU, or leave their checksums to the hardware, which
    /// frames on a real wire have neither.
    ///
    /// # Errors
    /// What `ip` or `ethtool` says, or [`Impairment::check`].
    pub fn between(lab: &Lab, name: &str, ends: [(&Netns, &str); 2], mtu: u32, spec: &LinkSpec) -> Result<WanLink> {
        let ns = lab.netns(name)?;
        let mut polling = Vec::new();
        for ((end_ns, end), inner) in ends.into_iter().zip(WanLink::ENDS) {
            link::veth((end_ns, end), (&ns, inner), mtu, 1)?;
            link::like_a_nic(end_ns, end)?;
            // Without kernel programs there is no XDP at the ends either that would redirect to it.
            if cfg!(wavnet_lab) {
                polling.push(programs::keep_polling(&ns, inner)?);
            }
            // What GRO merged would be longer than a frame.
            link::offload(&ns, inner, "tso off gso off gro off tx off rx off")?;
        }
        let [a, b] = WanLink::ENDS.map(|end| Port::open(&ns, end));
        let emulator = Emulator::start([a?, b?], mtu, [spec.up, spec.down], spec.seed)?;
        Ok(WanLink { emulator, _polling: polling, _ns: ns })
    }
}
