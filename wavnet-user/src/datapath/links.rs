//! Attaching programs to interfaces, by links that are pinned and survive the agent.
//!
//! A pin's name says what it is: `{kind}-{interface index}`.

use std::path::Path;

use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode,
    links::{FdLink, LinkError, PinnedLink},
    tc::{SchedClassifierLink, TcAttachOptions},
    xdp::XdpLink,
};
use wavnet_common::abi::program;
use wavnet_proto::command::HookWish;

use super::{
    Datapath, Error, clsact, owner,
    pins::{list, remove},
    sys,
};

/// Which hook there is on the underlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookMode {
    /// XDP in the driver.
    Driver,
    /// XDP in the stack.
    Generic,
    /// TC alone.
    Tc,
}

/// How TC programs are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TcWish {
    /// tcx where the kernel has it (6.6), else clsact.
    #[default]
    Auto,
    /// clsact, as on older kernels.
    Clsact,
}

/// How a port's program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortHook {
    /// By a tcx link.
    Tcx,
    /// By a filter of the clsact qdisc.
    Clsact,
}

/// How a port's programs are attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortHooks {
    /// The one for TC.
    pub tc: PortHook,
    /// The one for XDP.
    pub xdp: PortXdp,
}

/// Whether a port has XDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortXdp {
    /// Nobody asked for it.
    Off,
    /// It has.
    On,
    /// The kernel refused, for this reason. TC carries all.
    Refused(String),
}

const XDP_PORT: &str = "xdp-port";
const XDP_DRIVER: &str = "xdp-driver";
const XDP_GENERIC: &str = "xdp-generic";
const TCX_UNDERLAY: &str = "tcx-underlay";
const TCX_PORT: &str = "tcx-port";
const CLSACT_UNDERLAY: &str = "clsact-underlay";
const CLSACT_PORT: &str = "clsact-port";

/// Which TC program, and the names of its pins.
#[derive(Clone, Copy)]
pub(super) struct Tc {
    pub(super) program: &'static str,
    pub(super) tcx: &'static str,
    pub(super) clsact: &'static str,
}

impl Tc {
    pub(super) const ALL: [Tc; 2] = [UNDERLAY, PORT];
}

const UNDERLAY: Tc = Tc { program: program::UNDERLAY_TC, tcx: TCX_UNDERLAY, clsact: CLSACT_UNDERLAY };
const PORT: Tc = Tc { program: program::PORT_TC, tcx: TCX_PORT, clsact: CLSACT_PORT };

impl Datapath {
    /// Attaches the underlay programs to an interface, or replaces the ones that are there.
    ///
    /// # Errors
    /// With [`HookWish::Auto`] only if not even TC attaches. If a hook that was demanded is refused, TC carries on alone.
    pub fn attach_underlay(&mut self, ifindex: u32, name: &str, wish: HookWish) -> Result<HookMode, Error> {
        // TC first: what XDP passes up must find it.
        self.attach_tc(UNDERLAY, ifindex, name)?;
        let modes: &[(XdpMode, HookMode)] = match wish {
            HookWish::Auto => &[(XdpMode::Driver, HookMode::Driver), (XdpMode::Skb, HookMode::Generic)],
            HookWish::Driver => &[(XdpMode::Driver, HookMode::Driver)],
            HookWish::Generic => &[(XdpMode::Skb, HookMode::Generic)],
            HookWish::Tc => &[],
        };
        for (kind, mode) in [(XDP_DRIVER, HookMode::Driver), (XDP_GENERIC, HookMode::Generic)] {
            if !modes.iter().any(|(_, wanted)| *wanted == mode) {
                self.detach_link(kind, ifindex)?;
            }
        }
        self.refusals.clear();
        for (xdp, mode) in modes {
            let (kind, program) = match mode {
                HookMode::Driver => (XDP_DRIVER, program::UNDERLAY_XDP),
                _ => (XDP_GENERIC, program::UNDERLAY_XDP_GENERIC),
            };
            match self.attach_xdp(kind, program, ifindex, *xdp) {
                Ok(()) => return Ok(*mode),
                Err(e) if matches!(wish, HookWish::Driver | HookWish::Generic) => {
                    return Err(Error::kernel(format!("attaching XDP to {name} as `underlay.hook` demands"), e));
                }
                Err(e) => {
                    tracing::debug!(interface = name, ?mode, error = %e, "XDP does not attach in this mode");
                    self.refusals.push((*mode, format!("{:#}", anyhow::Error::from(e))));
                }
            }
        }
        Ok(HookMode::Tc)
    }

    /// The hooks of the underlay that should have been taken and were refused, with the kernel's reasons.
    pub fn underlay_refusals(&self) -> &[(HookMode, String)] {
        &self.refusals
    }

    /// How the programs of an underlay interface are attached, if they are: after [`Datapath::attach_underlay`] has failed.
    pub fn underlay_mode(&self, ifindex: u32) -> Option<HookMode> {
        let kinds = [
            (XDP_DRIVER, HookMode::Driver),
            (XDP_GENERIC, HookMode::Generic),
            (TCX_UNDERLAY, HookMode::Tc),
            (CLSACT_UNDERLAY, HookMode::Tc),
        ];
        kinds.into_iter().find(|(kind, _)| self.pins.link(&pin(kind, ifindex)).exists()).map(|(_, mode)| mode)
    }

    /// Detaches the underlay programs; the interface may be gone.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn detach_underlay(&mut self, ifindex: u32) -> Result<(), Error> {
        self.refusals.clear();
        for kind in [XDP_DRIVER, XDP_GENERIC] {
            self.detach_link(kind, ifindex)?;
        }
        self.detach_tc(UNDERLAY, ifindex)
    }

    /// Attaches the port programs to an interface, or replaces the ones that are there; XDP where it is asked for and the driver
    /// takes it.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn attach_port(&mut self, ifindex: u32, name: &str, xdp: bool) -> Result<PortHooks, Error> {
        // TC first: what XDP passes up must find it.
        let tc = self.attach_tc(PORT, ifindex, name)?;
        if !xdp {
            self.detach_link(XDP_PORT, ifindex)?;
            return Ok(PortHooks { tc, xdp: PortXdp::Off });
        }
        let xdp = match self.attach_xdp(XDP_PORT, program::PORT_XDP, ifindex, XdpMode::Driver) {
            Ok(()) => PortXdp::On,
            Err(e) => PortXdp::Refused(format!("{:#}", anyhow::Error::from(e))),
        };
        Ok(PortHooks { tc, xdp })
    }

    /// Detaches the port programs; the interface may be gone.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn detach_port(&mut self, ifindex: u32) -> Result<(), Error> {
        self.detach_link(XDP_PORT, ifindex)?;
        self.detach_tc(PORT, ifindex)
    }

    /// Interfaces that underlay programs are attached to. Pins of links whose interfaces are gone are removed.
    pub(super) fn live_underlays(&self) -> Result<Vec<u32>, Error> {
        let mut live = Vec::new();
        for name in self.pins.link_names()? {
            let Some(ifindex) = ifindex_of(&name) else { continue };
            if interface_name(ifindex).is_none() {
                remove(&self.pins.link(&name))?;
            } else if name.starts_with(TCX_UNDERLAY) || name.starts_with(CLSACT_UNDERLAY) {
                live.push(ifindex);
            }
        }
        Ok(live)
    }

    fn attach_xdp(&mut self, kind: &str, name: &'static str, ifindex: u32, xdp: XdpMode) -> Result<(), Error> {
        let path = self.pins.link(&pin(kind, ifindex));
        let fail = |e: ProgramError| Error::kernel(format!("attaching {name}"), e);
        let program: &mut Xdp = self.programs.typed(name)?;
        if let Some(old) = adopt(&path)? {
            let link = XdpLink::try_from(old).map_err(|e| Error::kernel(format!("adopting {}", path.display()), e))?;
            match program.attach_to_link(link).and_then(|id| program.take_link(id)) {
                Ok(_) => return Ok(()),
                // The link's interface is gone, and another one got its index.
                Err(_) => remove(&path)?,
            }
        }
        let id = program.attach_to_if_index(ifindex, xdp).map_err(fail)?;
        keep(program.take_link(id).map_err(fail)?, &path)
    }

    fn attach_tc(&mut self, tc: Tc, ifindex: u32, name: &str) -> Result<PortHook, Error> {
        still_named(ifindex, name)?;
        let links = self.pins.links();
        if let Some(program) = owner::intruder(&links, tc, ifindex, name) {
            return Err(Error::taken(name, owner::home(&links, &program)));
        }
        if self.tc == TcWish::Auto {
            match self.attach_tcx(tc, ifindex, name) {
                Ok(()) => {
                    // What a run with clsact left. tcx goes first, so that until here no frame was seen twice. The qdisc stays
                    // until the port or everything goes: the kernel drops frames while it changes one.
                    detach(&links, &pin(tc.clsact, ifindex))?;
                    return Ok(PortHook::Tcx);
                }
                // Kernels before 6.6 do not know the link type.
                Err(Error::Kernel { source, .. })
                    if super::error::errno(source.as_ref()) == Some(nix::libc::EINVAL) => {}
                Err(e) => return Err(e),
            }
        }
        clsact::attach(&links, self.programs.typed(tc.program)?, tc, ifindex, name)?;
        // And the other way round: until here the tcx program took every frame.
        detach(&links, &pin(tc.tcx, ifindex))?;
        Ok(PortHook::Clsact)
    }

    fn attach_tcx(&mut self, tc: Tc, ifindex: u32, name: &str) -> Result<(), Error> {
        let path = self.pins.link(&pin(tc.tcx, ifindex));
        let fail = |e: ProgramError| Error::kernel(format!("attaching {} to {name}", tc.program), e);
        let program: &mut SchedClassifier = self.programs.typed(tc.program)?;
        if let Some(old) = adopt(&path)? {
            let link = SchedClassifierLink::try_from(old)
                .map_err(|e| Error::kernel(format!("adopting {}", path.display()), e))?;
            match program.attach_to_link(link).and_then(|id| program.take_link(id)) {
                Ok(_) => return Ok(()),
                Err(_) => remove(&path)?,
            }
        }
        let options = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = program.attach_with_options(name, TcAttachType::Ingress, options).map_err(fail)?;
        keep(program.take_link(id).map_err(fail)?, &path)
    }

    fn detach_tc(&mut self, tc: Tc, ifindex: u32) -> Result<(), Error> {
        self.detach_link(tc.tcx, ifindex)?;
        self.detach_link(tc.clsact, ifindex)?;
        clsact::release_qdisc(&self.pins.links(), ifindex)
    }

    fn detach_link(&self, kind: &str, ifindex: u32) -> Result<(), Error> {
        detach(&self.pins.links(), &pin(kind, ifindex))
    }
}

/// Detaches what is pinned under a name, at once, and removes the pin. Gone already is as good.
fn detach(dir: &Path, name: &str) -> Result<(), Error> {
    let path = dir.join(name);
    if !path.exists() {
        return Ok(());
    }
    let filter = Tc::ALL.into_iter().find(|tc| name.starts_with(tc.clsact)).zip(ifindex_of(name));
    if let Some((tc, ifindex)) = filter {
        clsact::detach(dir, tc, ifindex);
    } else if let Err(e) = sys::detach_pinned_link(&path) {
        // Its interface went first.
        tracing::debug!(link = name, error = %e, "nothing to detach");
    }
    remove(&path)
}

/// Detaches everything that is pinned. Returns how many programs that were.
pub(super) fn detach_all(dir: &Path) -> Result<usize, Error> {
    // What says who made a qdisc is no attachment, and goes last.
    let (qdiscs, mut links): (Vec<String>, Vec<String>) =
        list(dir)?.into_iter().partition(|name| name.starts_with(clsact::QDISC));
    // XDP before TC: what it strips must find somebody to deliver it.
    links.sort_by_key(|name| !name.starts_with("xdp-"));
    links.iter().try_for_each(|name| detach(dir, name))?;
    qdiscs.iter().filter_map(|name| ifindex_of(name)).try_for_each(|ifindex| clsact::release_qdisc(dir, ifindex))?;
    Ok(links.len())
}

/// The same name may belong to another interface by now.
fn still_named(ifindex: u32, name: &str) -> Result<(), Error> {
    if interface_name(ifindex).as_deref() == Some(name) {
        Ok(())
    } else {
        Err(Error::kernel(format!("attaching to {name}"), "the interface was renamed or recreated meanwhile"))
    }
}

pub(super) fn pin(kind: &str, ifindex: u32) -> String {
    format!("{kind}-{ifindex}")
}

fn ifindex_of(pin_name: &str) -> Option<u32> {
    pin_name.rsplit_once('-')?.1.parse().ok()
}

pub(super) fn interface_name(ifindex: u32) -> Option<String> {
    nix::net::if_::if_indextoname(ifindex).ok()?.into_string().ok()
}

fn adopt(path: &Path) -> Result<Option<FdLink>, Error> {
    if !path.exists() {
        return Ok(None);
    }
    match PinnedLink::from_pin(path) {
        Ok(link) => Ok(Some(link.into())),
        Err(e) => Err(Error::kernel(format!("opening {}", path.display()), e)),
    }
}

/// Pins a link. One that is none (the old netlink way) cannot be pinned; dropping it detaches.
fn keep(link: impl TryInto<FdLink, Error = LinkError>, path: &Path) -> Result<(), Error> {
    let link = link.try_into().map_err(|e| Error::kernel("making the attachment last", e))?;
    link.pin(path).map_err(|e| Error::kernel(format!("pinning {}", path.display()), e))?;
    Ok(())
}
