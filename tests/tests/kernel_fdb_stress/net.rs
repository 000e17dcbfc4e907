//! A tenant of one port and a few VTEPs in the test world, and the frames in it.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use wavnet_common::{
    abi::{Endpoint, Member, MemberKey, Vtep},
    addr::Mac,
    datapath::OUTER_LEN,
    fdb::{Entry, Place},
    testing::{
        Hook, Rng,
        frames::{Outer, udp4},
        world::{UDP_PORT, flood_set, vni, vtep_addr},
    },
};
use wavnet_proto::command::{Command, PeerKey};
use wavnet_tests::kernel::{Runner, Sandbox};

/// The world's third VNI: nobody else is in it.
pub(crate) const VNI_INDEX: u16 = 2;
/// Its only port.
pub(crate) const PORT: u16 = 6;
/// Behind which VTEPs MACs are.
pub(crate) const VTEPS: Range<u16> = 8..11;
/// Floods go here alone, where no MAC is: who is sent there was not found.
const FLOODED_TO: u16 = 0;

/// Learners.
pub(crate) const CPUS: usize = 2;
/// Of each learner alone: nobody else sends from these.
const OWNED: u16 = 12;
/// Everybody sends from them; more than the table holds.
pub(crate) const SHARED: Range<u16> = 1000..1320;
/// The VM behind the port, and one behind the first VTEP: static.
pub(crate) const HERE: u16 = 2000;
pub(crate) const THERE: u16 = 2001;
/// Static, too, and claimed by frames from elsewhere: behind the port, and wherever the agent moves it, from VTEP to VTEP.
pub(crate) const FIXED: u16 = 2002;
pub(crate) const ROVER: u16 = 2003;

pub(crate) fn owned(cpu: usize) -> Range<u16> {
    let first = cpu as u16 * OWNED;
    first..first + OWNED
}

pub(crate) fn mac(n: u16) -> Mac {
    let [hi, lo] = n.to_be_bytes();
    Mac([0x52, 0x54, 0, 0x77, hi, lo])
}

/// A MAC of everybody; often one of a few, over which CPUs meet while the agent removes them.
pub(crate) fn pick_shared(rng: &mut Rng) -> u16 {
    const HOT: usize = 4;
    let among = rng.pick(&[HOT, SHARED.len()]);
    SHARED.start + rng.below(among) as u16
}

/// The places at which MACs are learned.
pub(crate) fn places() -> Vec<Place> {
    VTEPS.map(Place::Vtep).chain([Place::Port(PORT)]).collect()
}

/// Fails if no frame and no operator can have brought such an entry about.
pub(crate) fn check(n: u16, entry: &Entry) {
    let (is_static, at) = match n {
        HERE | FIXED => (true, entry.place == Place::Port(PORT)),
        THERE => (true, entry.place == Place::Vtep(VTEPS.start)),
        ROVER => (true, matches!(entry.place, Place::Vtep(i) if VTEPS.contains(&i))),
        _ => (false, places().contains(&entry.place)),
    };
    assert!(at && entry.is_static == is_static && entry.epoch == 0, "MAC {n}: {entry:?}");
}

/// Writes the tables.
pub(crate) fn install(sandbox: &mut Sandbox) -> Result<()> {
    let (_, vtep) = sandbox.world.vteps.first().copied().context("a VTEP")?;
    for index in VTEPS {
        let addr = vtep_addr(index as u8);
        let vtep = Vtep::new(vtep.half, &Endpoint::plain(addr, UDP_PORT), &vtep.next_hop());
        sandbox.datapath.apply(&Command::SetVtep { index, vtep, peer: PeerKey::Static(addr.into()) })?;
        let key = MemberKey { vni: vni(VNI_INDEX), addr };
        let member =
            Member { vni: vni(VNI_INDEX), vni_index: VNI_INDEX, vtep_index: index, learns: true, shares: false };
        sandbox.datapath.apply(&Command::SetMember { key, member: Some(member) })?;
    }
    let set = Box::new(flood_set(&[PORT], &[FLOODED_TO]));
    sandbox.datapath.apply(&Command::SetFlood { vni_index: VNI_INDEX, set })?;
    let (here, there) = (Place::Port(PORT), Place::Vtep(VTEPS.start));
    for (n, place) in [(HERE, here), (FIXED, here), (THERE, there), (ROVER, there)] {
        sandbox.datapath.apply(&Command::SetStatic { vni_index: VNI_INDEX, mac: mac(n), place })?;
    }
    sandbox.datapath.heartbeat()?;
    Ok(())
}

/// Frames that were sent, by what the programs are to count of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) by_port: u64,
    pub(crate) by_vtep: [u64; 3],
    /// To a MAC that is not known.
    pub(crate) flooded: u64,
    /// To a MAC behind the sender's own port.
    pub(crate) hairpin: u64,
}

/// Sends frames through the programs.
pub(crate) struct Net {
    xdp: Runner,
    tc: Runner,
    port: Runner,
    /// From each VTEP, with MACs to be filled in.
    from_vtep: Vec<Vec<u8>>,
    from_port: Vec<u8>,
    pub(crate) sent: Sent,
}

const TC_SHOT: u32 = 2;
const TC_REDIRECT: u32 = 7;
const XDP_REDIRECT: u32 = 4;
/// The outer destination.
const OUTER_DST: Range<usize> = 30..34;

impl Net {
    pub(crate) fn new(sandbox: &mut Sandbox) -> Result<Net> {
        let inner = udp4([0; 6], [0; 6], 64);
        let outer = |index| Outer { src: vtep_addr(index as u8), vni: vni(VNI_INDEX), ..Outer::default() };
        Ok(Net {
            xdp: sandbox.runner(Hook::UnderlayXdp)?,
            tc: sandbox.runner(Hook::UnderlayTc)?,
            port: sandbox.runner(Hook::Port(PORT.into()))?,
            from_vtep: VTEPS.map(|index| outer(index).build(&inner)).collect(),
            from_port: inner,
            sent: Sent::default(),
        })
    }

    /// A frame of a MAC from a place, to a MAC that is known, by XDP where there is a choice.
    pub(crate) fn send_from(&mut self, n: u16, place: Place, by_xdp: bool) -> Result<()> {
        match place {
            Place::Port(_) => {
                let (verdict, to) = self.send_by_port(n, THERE)?;
                ensure!(
                    (verdict, to) == (TC_REDIRECT, Some(VTEPS.start)),
                    "a frame from {n} to {THERE}: {verdict}, {to:?}"
                );
            }
            Place::Vtep(index) => {
                let i = usize::from(index - VTEPS.start);
                address(&mut self.from_vtep[i][OUTER_LEN..], n, HERE);
                let (program, redirect) =
                    if by_xdp { (&mut self.xdp, XDP_REDIRECT) } else { (&mut self.tc, TC_REDIRECT) };
                let (verdict, left) = program.run(&self.from_vtep[i])?;
                ensure!(verdict == redirect, "a frame from {n} to {HERE}: {verdict}");
                ensure!(left == &self.from_vtep[i][OUTER_LEN..], "a frame from {n} to {HERE} is damaged: {left:02x?}");
                self.sent.by_vtep[i] += 1;
            }
        }
        Ok(())
    }

    /// A frame from the VM to a MAC: where it went says where the MAC is; `None`: it was flooded.
    pub(crate) fn look_up(&mut self, n: u16) -> Result<Option<Place>> {
        match self.send_by_port(HERE, n)? {
            (TC_REDIRECT, Some(FLOODED_TO)) => {
                self.sent.flooded += 1;
                Ok(None)
            }
            (TC_REDIRECT, Some(index)) if VTEPS.contains(&index) => Ok(Some(Place::Vtep(index))),
            (TC_SHOT, None) => {
                self.sent.hairpin += 1;
                Ok(Some(Place::Port(PORT)))
            }
            other => bail!("a frame to {n}: {other:?}"),
        }
    }

    /// What became of a frame, and the VTEP that it was encapsulated for.
    fn send_by_port(&mut self, from: u16, to: u16) -> Result<(u32, Option<u16>)> {
        address(&mut self.from_port, from, to);
        self.sent.by_port += 1;
        let (verdict, left) = self.port.run(&self.from_port)?;
        if left.len() != self.from_port.len() + OUTER_LEN {
            return Ok((verdict, None));
        }
        let index = (FLOODED_TO..VTEPS.end).find(|index| left[OUTER_DST] == vtep_addr(*index as u8));
        Ok((verdict, Some(index.context("a VTEP that is not there")?)))
    }
}

fn address(frame: &mut [u8], from: u16, to: u16) {
    frame[..6].copy_from_slice(&mac(to).0);
    frame[6..12].copy_from_slice(&mac(from).0);
}
