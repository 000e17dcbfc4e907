//! Which peer sent a frame.

use super::{
    Tables,
    outer::{Came, PAYLOAD, VxlanFrame, came},
    path,
};
use crate::{
    abi::{Config, ConfigFlags, LocalPort, Member, MemberKey},
    packet::Packet,
    reason::Reason,
    wire::VxlanHdr,
};

/// The membership of whoever sent a frame: a static peer, by its address, or a dynamic one, by its path.
///
/// # Errors
/// It is nobody's. [`Reason::UnknownPath`]: nor is the path that it came by, if that is an extra port's.
#[inline(always)]
pub(super) fn sender<P: Packet, T: Tables>(
    pkt: &P,
    tables: &T,
    config: &Config,
    frame: &VxlanFrame,
) -> Result<Member, Reason> {
    if frame.main
        && let Some(member) = member(tables, MemberKey { vni: frame.vni, addr: frame.src })
        && !member.shares
    {
        return Ok(member);
    }
    let label = pkt.at::<VxlanHdr>(PAYLOAD).map(VxlanHdr::label).unwrap_or_default();
    let came = came(pkt, config, label).ok_or(Reason::OuterTruncated)?;
    by_path(tables, config, &came, frame.vni).read()
}

/// A member or a reason in one word: of functions that stay such in the kernel, its type information takes no enum.
#[derive(Clone, Copy)]
struct Sender(u64);

impl Sender {
    const NONE: u64 = 1 << 63;

    #[inline(always)]
    fn new(found: Result<Member, Reason>) -> Sender {
        match found {
            Ok(member) => Sender(member.to_word()),
            Err(reason) => Sender(Sender::NONE | reason as u64),
        }
    }

    #[inline(always)]
    fn read(self) -> Result<Member, Reason> {
        use Reason::{NotMember, UnknownPath, UnknownVni, UnknownVtep};
        if self.0 & Sender::NONE == 0 {
            return Ok(Member::from_word(self.0));
        }
        let is = |reason: Reason| self.0 == Sender::NONE | reason as u64;
        Err(match () {
            () if is(UnknownVni) => UnknownVni,
            () if is(NotMember) => NotMember,
            () if is(UnknownPath) => UnknownPath,
            () => UnknownVtep,
        })
    }
}

/// The sender where its address alone does not say who it is.
///
/// A function of its own in the kernel, too: the way of static peers stays as short as it is.
#[inline(never)]
fn by_path<T: Tables>(tables: &T, config: &Config, came: &Came, vni: u32) -> Sender {
    Sender::new(find(tables, config, came, vni))
}

#[inline(always)]
fn find<T: Tables>(tables: &T, config: &Config, came: &Came, vni: u32) -> Result<Member, Reason> {
    let mut reason = Reason::UnknownVtep;
    if config.has(ConfigFlags::DYNAMIC) {
        match path::find(tables, came) {
            Ok(found) => {
                if let Some(index) = found.about.vtep_index() {
                    // The path is a peer's, whoever else is at the address.
                    let unknown = if tables.knows_vni(vni) { Reason::NotMember } else { Reason::UnknownVni };
                    return member(tables, MemberKey::dynamic(vni, index)).ok_or(unknown);
                }
                reason = Reason::UnknownPath;
            }
            Err(other) => reason = other,
        }
    }
    let main = came.at.to == LocalPort::MAIN;
    // A static peer that shares its address.
    if main && let Some(member) = member(tables, MemberKey { vni, addr: came.at.addr }) {
        return Ok(member);
    }
    Err(if !main {
        Reason::UnknownPath
    } else if !tables.knows_vni(vni) {
        Reason::UnknownVni
    } else if tables.knows_vtep(came.at.addr) {
        Reason::NotMember
    } else {
        reason
    })
}

/// Compared with the key again: the CPU may have read the value of an entry that has taken the place of the one asked for.
#[inline(always)]
fn member<T: Tables>(tables: &T, key: MemberKey) -> Option<Member> {
    tables.member(&key).filter(|member| member.vni == key.vni)
}
