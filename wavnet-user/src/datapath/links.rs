//! Attaching programs to interfaces, by links that are pinned and survive the agent.
//!
//! A pin's name says what it is: `{kind}-{interface index}`. With the clsact fallback there is no link to pin; the program itself
//! is pinned under that name, as the mark that the interface has our filter.

use std::path::Path;

use aya::{
    Ebpf,
    programs::{
        LinkOrder, Program, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode,
        links::{FdLink, PinnedLink},
        tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact, qdisc_detach_program},
        xdp::XdpLink,
    },
};
use wavnet_common::abi::program;
use wavnet_proto::command::HookWish;

use super::{Datapath, Error, pins::remove, sys};

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

const XDP_DRIVER: &str = "xdp-driver";
const XDP_GENERIC: &str = "xdp-generic";
const TCX_UNDERLAY: &str = "tcx-underlay";
const TCX_PORT: &str = "tcx-port";
const CLSACT_UNDERLAY: &str = "clsact-underlay";
const CLSACT_PORT: &str = "clsact-port";

/// Ours among the filters of a clsact qdisc: of the first priority, with a handle that nobody gets by chance.
const PRIORITY: u16 = 1;
const HANDLE: TcHandle = TcHandle::new(0, 0x7761);

/// Which TC program, and the names of its pins.
#[derive(Clone, Copy)]
struct Tc {
    program: &'static str,
    tcx: &'static str,
    clsact: &'static str,
}

const UNDERLAY: Tc = Tc { program: program::UNDERLAY_TC, tcx: TCX_UNDERLAY, clsact: CLSACT_UNDERLAY };
const PORT: Tc = Tc { program: program::PORT_TC, tcx: TCX_PORT, clsact: CLSACT_PORT };

/// Loads every program into the kernel.
pub(super) fn load_programs(ebpf: &mut Ebpf) -> Result<(), Error> {
    for (name, program) in ebpf.programs_mut() {
        match program {
            Program::Xdp(p) => p.load(),
            Program::SchedClassifier(p) => p.load(),
            _ => Ok(()),
        }
        .map_err(|e| Error::program(name, e))?;
    }
    Ok(())
}

impl Datapath {
    /// Attaches the underlay programs to an interface, or replaces the ones that are there.
    ///
    /// # Errors
    /// With [`HookWish::Auto`] only if not even TC attaches.
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
        let mut refusal: Option<Error> = None;
        for (xdp, mode) in modes {
            match self.attach_xdp(ifindex, *xdp, *mode) {
                Ok(()) => {
                    self.refusal = refusal.map(|e| in_words(&e));
                    return Ok(*mode);
                }
                Err(e) => {
                    tracing::debug!(interface = name, ?mode, error = %e, "XDP does not attach in this mode");
                    refusal = Some(e);
                }
            }
        }
        match (wish, refusal) {
            (HookWish::Driver | HookWish::Generic, Some(e)) => {
                Err(Error::kernel(format!("attaching XDP to {name} as `underlay.hook` demands"), e))
            }
            (_, refusal) => {
                self.refusal = refusal.map(|e| in_words(&e));
                Ok(HookMode::Tc)
            }
        }
    }

    /// Why the underlay does not run by the fastest hook, if it does not although it should.
    pub fn underlay_refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Detaches the underlay programs; the interface may be gone.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn detach_underlay(&mut self, ifindex: u32) -> Result<(), Error> {
        for kind in [XDP_DRIVER, XDP_GENERIC] {
            self.detach_link(kind, ifindex)?;
        }
        self.detach_tc(UNDERLAY, ifindex)
    }

    /// Attaches the port program to an interface, or replaces the one that is there.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn attach_port(&mut self, ifindex: u32, name: &str) -> Result<PortHook, Error> {
        self.attach_tc(PORT, ifindex, name)
    }

    /// Detaches the port program; the interface may be gone.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn detach_port(&mut self, ifindex: u32) -> Result<(), Error> {
        self.detach_tc(PORT, ifindex)
    }

    /// Interfaces that underlay programs are attached to. Pins of links whose interfaces are gone are removed.
    pub(super) fn live_underlays(&self) -> Result<Vec<u32>, Error> {
        let mut live = Vec::new();
        for name in self.pins.links()? {
            let Some(ifindex) = ifindex_of(&name) else { continue };
            if interface_name(ifindex).is_none() {
                remove(&self.pins.link(&name))?;
            } else if name.starts_with(TCX_UNDERLAY) || name.starts_with(CLSACT_UNDERLAY) {
                live.push(ifindex);
            }
        }
        Ok(live)
    }

    fn attach_xdp(&mut self, ifindex: u32, xdp: XdpMode, mode: HookMode) -> Result<(), Error> {
        let (kind, name) = match mode {
            HookMode::Driver => (XDP_DRIVER, program::UNDERLAY_XDP),
            _ => (XDP_GENERIC, program::UNDERLAY_XDP_GENERIC),
        };
        let path = self.pins.link(&pin(kind, ifindex));
        let fail = |e: ProgramError| Error::kernel(format!("attaching {name}"), e);
        let program: &mut Xdp = find(&mut self.ebpf, name)?;
        if let Some(old) = adopt(&path)? {
            let link = XdpLink::try_from(old).map_err(|e| Error::kernel(format!("adopting {}", path.display()), e))?;
            match program.attach_to_link(link).and_then(|id| program.take_link(id)) {
                Ok(_) => return Ok(()),
                // The link's interface is gone, and another one got its index.
                Err(_) => remove(&path)?,
            }
        }
        let id = program.attach_to_if_index(ifindex, xdp).map_err(fail)?;
        let link = program.take_link(id).map_err(fail)?;
        // A link that is none (the old netlink way) cannot be pinned; dropping it detaches.
        let link = FdLink::try_from(link).map_err(|e| Error::kernel("making the attachment last", e))?;
        link.pin(&path).map_err(|e| Error::kernel(format!("pinning {}", path.display()), e))?;
        Ok(())
    }

    fn attach_tc(&mut self, tc: Tc, ifindex: u32, name: &str) -> Result<PortHook, Error> {
        still_named(ifindex, name)?;
        if self.tc == TcWish::Clsact {
            self.detach_link(tc.tcx, ifindex)?;
            return self.attach_clsact(tc, ifindex, name).map(|()| PortHook::Clsact);
        }
        match self.attach_tcx(tc, ifindex, name) {
            Ok(()) => Ok(PortHook::Tcx),
            // Kernels before 6.6 do not know the link type.
            Err(Error::Kernel { source, .. }) if super::error::errno(source.as_ref()) == Some(nix::libc::EINVAL) => {
                self.attach_clsact(tc, ifindex, name).map(|()| PortHook::Clsact)
            }
            Err(e) => Err(e),
        }
    }

    fn attach_tcx(&mut self, tc: Tc, ifindex: u32, name: &str) -> Result<(), Error> {
        let path = self.pins.link(&pin(tc.tcx, ifindex));
        let fail = |e: ProgramError| Error::kernel(format!("attaching {} to {name}", tc.program), e);
        let program: &mut SchedClassifier = find(&mut self.ebpf, tc.program)?;
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
        let link = FdLink::try_from(program.take_link(id).map_err(fail)?)
            .map_err(|e| Error::kernel("making the attachment last", e))?;
        link.pin(&path).map_err(|e| Error::kernel(format!("pinning {}", path.display()), e))?;
        Ok(())
    }

    fn attach_clsact(&mut self, tc: Tc, ifindex: u32, name: &str) -> Result<(), Error> {
        let mark = self.pins.link(&pin(tc.clsact, ifindex));
        let fail = |e: ProgramError| Error::kernel(format!("attaching {} to {name}", tc.program), e);
        let program: &mut SchedClassifier = find(&mut self.ebpf, tc.program)?;
        // Somebody else's clsact serves as well.
        if let Err(e) = qdisc_add_clsact(name) {
            tracing::debug!(interface = name, error = %e, "no clsact qdisc added");
        }
        // The mark may be missing though the filter is there (killed in between), or there though the filter is not.
        let link = SchedClassifierLink::attached(name, TcAttachType::Ingress, PRIORITY, HANDLE, None)
            .map_err(|e| Error::kernel(format!("finding the filter of {name}"), e))?;
        let id = program.attach_to_link(link).or_else(|_| {
            let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
            program.attach_with_options(name, TcAttachType::Ingress, TcAttachOptions::Netlink(options))
        });
        let id = id.map_err(fail)?;
        // Dropping this kind of link would detach it; it is to outlive us.
        std::mem::forget(program.take_link(id).map_err(fail)?);
        remove(&mark)?;
        program.pin(&mark).map_err(|e| Error::kernel(format!("pinning {}", mark.display()), e))
    }

    fn detach_tc(&mut self, tc: Tc, ifindex: u32) -> Result<(), Error> {
        self.detach_link(tc.tcx, ifindex)?;
        self.detach_link(tc.clsact, ifindex)
    }

    fn detach_link(&self, kind: &str, ifindex: u32) -> Result<(), Error> {
        detach(&self.pins.link(""), &pin(kind, ifindex))
    }
}

/// Detaches what is pinned under a name, at once, and removes the pin. Gone already is as good.
pub(super) fn detach(dir: &Path, name: &str) -> Result<(), Error> {
    let path = dir.join(name);
    if let Some(tc) = [UNDERLAY, PORT].into_iter().find(|tc| name.starts_with(tc.clsact)) {
        if let (true, Some(ifindex)) = (path.exists(), ifindex_of(name)) {
            detach_clsact(tc.program, ifindex);
        }
    } else if let Err(e) = sys::detach_pinned_link(&path) {
        // No such pin, or its interface went first.
        tracing::debug!(link = name, error = %e, "nothing to detach");
    }
    remove(&path)
}

fn detach_clsact(program: &str, ifindex: u32) {
    if let Some(name) = interface_name(ifindex)
        && let Err(e) = qdisc_detach_program(&name, TcAttachType::Ingress, program)
    {
        tracing::debug!(interface = name, error = %e, "no filter to detach");
    }
}

/// An error with its causes, in one line.
fn in_words(error: &Error) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(e) = cause {
        words = format!("{words}: {e}");
        cause = e.source();
    }
    words
}

/// The same name may belong to another interface by now.
fn still_named(ifindex: u32, name: &str) -> Result<(), Error> {
    if interface_name(ifindex).as_deref() == Some(name) {
        Ok(())
    } else {
        Err(Error::kernel(format!("attaching to {name}"), "the interface was renamed or recreated meanwhile"))
    }
}

fn pin(kind: &str, ifindex: u32) -> String {
    format!("{kind}-{ifindex}")
}

fn ifindex_of(pin_name: &str) -> Option<u32> {
    pin_name.rsplit_once('-')?.1.parse().ok()
}

fn interface_name(ifindex: u32) -> Option<String> {
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

fn find<'a, T>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut T, Error>
where
    &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
{
    ebpf.program_mut(name)
        .ok_or_else(|| Error::kernel(format!("finding program {name}"), "the object has no such program"))?
        .try_into()
        .map_err(|e| Error::program(name, e))
}
