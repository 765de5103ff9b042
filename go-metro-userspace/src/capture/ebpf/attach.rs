//! Interfaces, and the classifier's place on their hooks.
//!
//! TCX where the kernel has it (6.6 and later): such a link vanishes with the process, whatever ends it. Elsewhere
//! `clsact` and a netlink filter, which outlive a process that is killed; so filters of our names are taken off before
//! ours go on.

use std::io;

use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{LinkOrder, ProgramError, TcAttachType, tc};
use go_metro_common::names;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::os::fd::AsRawFd as _;
use tracing::{debug, info, warn};

use super::classifier::{Programs, is_refusal, kernel_is_at_least, missing_capability, os_error, with_sources};
use crate::capture::Way;
use crate::capture::error::CaptureError;
use crate::config::IngressHook;

/// What comes first in a packet on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkLayer {
    /// An Ethernet header.
    Ethernet,
    /// The IP header.
    Ip,
}

impl LinkLayer {
    /// From an interface's type: ARPHRD_* of include/uapi/linux/if_arp.h. `None` for headers that the classifier cannot
    /// read.
    pub const fn from_arphrd(link_type: u16) -> Option<Self> {
        match link_type {
            // ARPHRD_ETHER, ARPHRD_LOOPBACK.
            1 | 772 => Some(Self::Ethernet),
            // ARPHRD_PPP, ARPHRD_RAWIP, ARPHRD_TUNNEL, ARPHRD_TUNNEL6, ARPHRD_SIT, ARPHRD_IPGRE, ARPHRD_IP6GRE,
            // ARPHRD_NONE (tun, WireGuard).
            512 | 519 | 768 | 769 | 776 | 778 | 823 | 65534 => Some(Self::Ip),
            _ => None,
        }
    }

    /// What is for ingress and for egress, or the other way round.
    const fn programs(self, turned: bool) -> [&'static str; 2] {
        let [received, sent] = match self {
            Self::Ethernet => [names::INGRESS_ETHERNET, names::EGRESS_ETHERNET],
            Self::Ip => [names::INGRESS_IP, names::EGRESS_IP],
        };
        if turned { [sent, received] } else { [received, sent] }
    }
}

/// How the classifier is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookKind {
    /// A TCX link: Linux 6.6 and later.
    Tcx,
    /// A filter on the `clsact` qdisc: every kernel. The qdisc stays when the filter goes, as others may use it.
    Clsact,
}

/// The classifier on both hooks of one interface, for as long as this lives.
pub(super) struct Attachment {
    ifindex: u32,
    kind: HookKind,
    layer: LinkLayer,
    turned: bool,
    /// Whether it is the first on the way out.
    egress_first: bool,
    /// Detached when dropped, what comes in first: what is sent and never acknowledged is better than the reverse.
    ingress: Option<IngressLink>,
    egress: Option<SchedClassifierLink>,
}

/// The classifier's place on the way in.
enum IngressLink {
    Tc(SchedClassifierLink),
    Xdp(XdpLink),
}

impl Attachment {
    /// Attaches to an interface, in the best way that the kernel has unless told how. `turned`: what comes in on it was
    /// sent by the local end, so the programs change places. Where the driver cannot have the ingress one, the log says
    /// so, and TC's hook gets it.
    ///
    /// # Errors
    ///
    /// A link layer that the classifier cannot read, a missing capability, or whatever else the kernel has against it.
    pub(super) fn new(
        programs: &mut Programs,
        name: &str,
        ifindex: u32,
        (wanted, ingress): (Option<HookKind>, IngressHook),
        turned: bool,
    ) -> Result<Self, CaptureError> {
        let link_type = link_type(name)?;
        let layer = LinkLayer::from_arphrd(link_type)
            .ok_or_else(|| CaptureError::UnknownLink { name: name.to_owned(), link_type })?;
        let place = Place { name, ifindex, layer, ingress, turned };
        let best = if kernel_is_at_least(6, 6) { HookKind::Tcx } else { HookKind::Clsact };
        match Self::with(programs, place, wanted.unwrap_or(best)) {
            // A kernel that is new enough but was built without CONFIG_NET_XGRESS.
            Err(Failure { error, .. })
                if wanted.is_none() && best == HookKind::Tcx && os_error(&error) == Some(libc::EINVAL) =>
            {
                info!(interface = name, "no TCX in this kernel; using clsact");
                Self::with(programs, place, HookKind::Clsact)
            }
            other => other,
        }
        .map_err(|failure| failed(name, failure))
    }

    fn with(programs: &mut Programs, place: Place<'_>, kind: HookKind) -> Result<Self, Failure> {
        let Place { name, ifindex, layer, turned, .. } = place;
        if kind == HookKind::Clsact {
            prepare_clsact(name)?;
        }
        let [ingress, egress] = layer.programs(turned);
        let ingress = match in_driver(programs, place) {
            Some(link) => IngressLink::Xdp(link),
            None => IngressLink::Tc(hook(programs, name, ingress, (TcAttachType::Ingress, Order::Usual), kind)?),
        };
        let egress = hook(programs, name, egress, (TcAttachType::Egress, Order::Usual), kind)?;
        let (ingress, egress) = (Some(ingress), Some(egress));
        Ok(Self { ifindex, kind, layer, turned, egress_first: false, ingress, egress })
    }

    /// The same places, with these programs instead of those before: each hook passes from one to the other at one
    /// moment.
    ///
    /// # Errors
    ///
    /// The kernel refuses it, or what is wanted on the way in is another hook and cannot be had; then nothing is
    /// attached any more.
    pub(super) fn succeed(
        mut self,
        programs: &mut Programs,
        name: &str,
        wanted: IngressHook,
    ) -> Result<Self, CaptureError> {
        let place = Place { name, ifindex: self.ifindex, layer: self.layer, ingress: wanted, turned: self.turned };
        self.succeed_at(programs, place).map_err(|failure| failed(name, failure))?;
        Ok(self)
    }

    fn succeed_at(&mut self, programs: &mut Programs, place: Place<'_>) -> Result<(), Failure> {
        let [received, sent] = self.layer.programs(self.turned);
        if let Some(link) = self.egress.take() {
            self.egress = Some(replace(programs, sent, link).map_err(at(TcAttachType::Egress))?);
        }
        let ingress = match (self.ingress.take(), place.ingress) {
            (Some(IngressLink::Tc(link)), IngressHook::Tc) => {
                IngressLink::Tc(replace(programs, received, link).map_err(at(TcAttachType::Ingress))?)
            }
            (Some(IngressLink::Xdp(link)), IngressHook::Xdp) => IngressLink::Xdp(
                replace_xdp(programs, xdp_program(self.turned), link).map_err(at(TcAttachType::Ingress))?,
            ),
            (before, _) => {
                // One hook for another: what passes between them is not seen.
                drop(before);
                match in_driver(programs, place) {
                    Some(link) => IngressLink::Xdp(link),
                    None => {
                        let at = (TcAttachType::Ingress, Order::Usual);
                        IngressLink::Tc(hook(programs, place.name, received, at, self.kind)?)
                    }
                }
            }
        };
        self.ingress = Some(ingress);
        Ok(())
    }

    /// Moves to the head of the hook that tells `way`, or back to the driver if somebody detached it there.
    ///
    /// # Errors
    ///
    /// The kernel refuses it; then nothing is attached to that hook any more.
    pub(super) fn move_to_head(&mut self, programs: &mut Programs, name: &str, way: Way) -> Result<Move, CaptureError> {
        let [received, sent] = self.layer.programs(self.turned);
        let is_egress = (way == Way::Sent) != self.turned;
        if is_egress {
            self.egress = None;
            let link = hook(programs, name, sent, (TcAttachType::Egress, Order::First), self.kind);
            self.egress = Some(link.map_err(|failure| failed(name, failure))?);
            self.egress_first = true;
            return Ok(Move::ToHead);
        }
        let was_in_driver = match self.ingress.take() {
            Some(IngressLink::Xdp(link)) => {
                // The kernel updates a link unless it was detached: ENOLINK (bpf_xdp_link_update, net/core/dev.c).
                if let Ok(link) = replace_xdp(programs, xdp_program(self.turned), link) {
                    self.ingress = Some(IngressLink::Xdp(link));
                    // Before all others.
                    return Ok(Move::None);
                }
                let (ifindex, layer, turned) = (self.ifindex, self.layer, self.turned);
                let place = Place { name, ifindex, layer, ingress: IngressHook::Xdp, turned };
                if let Some(link) = in_driver(programs, place) {
                    self.ingress = Some(IngressLink::Xdp(link));
                    return Ok(Move::Back);
                }
                true
            }
            _ => false,
        };
        let link = hook(programs, name, received, (TcAttachType::Ingress, Order::First), self.kind);
        self.ingress = Some(IngressLink::Tc(link.map_err(|failure| failed(name, failure))?));
        Ok(if was_in_driver { Move::Back } else { Move::ToHead })
    }

    /// Index of the interface.
    pub(super) fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Whether the programs have changed places.
    pub(super) fn is_turned(&self) -> bool {
        self.turned
    }

    /// How it is attached, for messages.
    pub(super) fn kind(&self) -> String {
        let tc = match self.kind {
            HookKind::Tcx => "tcx",
            HookKind::Clsact => "clsact",
        };
        let driver = if matches!(self.ingress, Some(IngressLink::Xdp(_))) { "xdp and " } else { "" };
        let order = if self.egress_first { ", first on egress" } else { "" };
        format!("{driver}{tc}{order}")
    }
}

/// What became of a hook on which nothing was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// It was at the head.
    None,
    /// It is at the head now.
    ToHead,
    /// It had been detached from the driver, and is attached again, there or to TC's hook.
    Back,
}

/// Where among the programs of a hook.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// As close to the wire as can be: before the others on the way in, behind them on the way out.
    Usual,
    /// Before the others.
    First,
}

/// Puts a program in another's place, at one moment.
fn replace(
    programs: &mut Programs,
    program: &str,
    link: SchedClassifierLink,
) -> Result<SchedClassifierLink, ProgramError> {
    let program = programs.tc(program).map_err(|_| ProgramError::NotLoaded)?;
    let link = program.attach_to_link(link)?;
    program.take_link(link)
}

fn replace_xdp(programs: &mut Programs, program: &str, link: XdpLink) -> Result<XdpLink, ProgramError> {
    let program = programs.xdp(program).map_err(|_| ProgramError::NotLoaded)?;
    let link = program.attach_to_link(link)?;
    program.take_link(link)
}

/// The entry point in a driver.
const fn xdp_program(turned: bool) -> &'static str {
    if turned { names::EGRESS_XDP } else { names::INGRESS_XDP }
}

fn at(hook: TcAttachType) -> impl Fn(ProgramError) -> Failure {
    move |error| Failure { hook: hook_name(hook), error }
}

fn failed(name: &str, Failure { hook, error }: Failure) -> CaptureError {
    if is_refusal(&error) {
        missing_capability(&format!("attach to {hook} of {name}"))
    } else {
        CaptureError::Attach { name: name.to_owned(), hook, reason: with_sources(&error) }
    }
}

/// An interface, and which way round.
#[derive(Clone, Copy)]
struct Place<'a> {
    name: &'a str,
    ifindex: u32,
    layer: LinkLayer,
    ingress: IngressHook,
    turned: bool,
}

/// The ingress program in the interface's driver, if it is wanted there and can be. Only native XDP: the generic kind
/// runs where TC's hook is, after the packet was copied.
fn in_driver(programs: &mut Programs, place: Place<'_>) -> Option<XdpLink> {
    let Place { name, layer, ingress, turned, .. } = place;
    if ingress == IngressHook::Tc {
        return None;
    }
    let program = xdp_program(turned);
    let mut attached = || -> Result<XdpLink, String> {
        if layer != LinkLayer::Ethernet {
            return Err("the interface has no Ethernet header".to_owned());
        }
        let program = programs.xdp(program)?;
        let id = program.attach(name, XdpMode::Driver).map_err(|error| match os_error(&error) {
            Some(libc::EOPNOTSUPP) => "its driver has no native XDP".to_owned(),
            Some(libc::EBUSY | libc::EEXIST) => "another XDP program is on it".to_owned(),
            _ => with_sources(&error),
        })?;
        program.take_link(id).map_err(|error| with_sources(&error))
    };
    attached()
        .map_err(|why| {
            let why = why.lines().next().unwrap_or_default();
            warn!(interface = name, "XDP is not available (`ingress_hook: xdp`): {why}; using tc");
        })
        .ok()
}

/// What went wrong, and where.
struct Failure {
    hook: &'static str,
    error: ProgramError,
}

fn hook(
    programs: &mut Programs,
    name: &str,
    program: &str,
    (hook, order): (TcAttachType, Order),
    kind: HookKind,
) -> Result<SchedClassifierLink, Failure> {
    let failed = at(hook);
    let is_first = order == Order::First || hook == TcAttachType::Ingress;
    let options = match kind {
        HookKind::Tcx if is_first => TcAttachOptions::TcxOrder(LinkOrder::first()),
        HookKind::Tcx => TcAttachOptions::TcxOrder(LinkOrder::last()),
        // The lowest number comes first; without one the kernel takes one below those that it gave before.
        HookKind::Clsact if order == Order::First => {
            TcAttachOptions::Netlink(NlOptions { priority: 1, ..NlOptions::default() })
        }
        HookKind::Clsact => TcAttachOptions::Netlink(NlOptions::default()),
    };
    let program = programs.tc(program).map_err(|_| failed(ProgramError::NotLoaded))?;
    let link = program.attach_with_options(name, hook, options).map_err(&failed)?;
    program.take_link(link).map_err(&failed)
}

/// Adds the qdisc where it is missing, and removes what a killed predecessor left on it.
fn prepare_clsact(name: &str) -> Result<(), Failure> {
    match tc::qdisc_add_clsact(name) {
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
        Err(error) => return Err(Failure { hook: "clsact", error: error.into() }),
        Ok(()) => return Ok(()),
    }
    // It may have had them the other way round.
    for program in [names::ENTRY_POINTS, names::FULL_PROGRAMS].concat() {
        for hook in [TcAttachType::Ingress, TcAttachType::Egress] {
            match tc::qdisc_detach_program(name, hook, program) {
                Ok(()) => info!(interface = name, program, "removed a filter that an earlier go-metro left behind"),
                Err(TcError::IoError(error)) if error.kind() == io::ErrorKind::NotFound => {}
                // If it matters, attaching fails as well, and says why.
                Err(error) => debug!(interface = name, program, %error, "cannot check for filters left behind"),
            }
        }
    }
    Ok(())
}

const fn hook_name(hook: TcAttachType) -> &'static str {
    match hook {
        TcAttachType::Ingress => "ingress",
        TcAttachType::Egress => "egress",
        TcAttachType::Custom(_) => "another hook",
    }
}

/// ARPHRD_* of an interface. Asked of the kernel rather than read from /sys, which shows another network namespace's
/// interfaces to a process that entered this one without a mount of its own.
fn link_type(name: &str) -> Result<u16, CaptureError> {
    let failed =
        |source: Errno| CaptureError::System { call: "querying the type of an interface", source: source.into() };
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).map_err(failed)?;
    // SAFETY: plain bytes; all zeros is an empty request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(failed(Errno::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: the request is valid for reads and writes and its name ends in a NUL, as netdevice(7) asks.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFHWADDR as _, &raw mut request) };
    Errno::result(result).map_err(failed)?;
    // SAFETY: the kernel filled in this member of the union; any bits are a valid value.
    Ok(unsafe { request.ifr_ifru.ifru_hwaddr.sa_family })
}
