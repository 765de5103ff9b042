//! The classifier on the hooks of interfaces, as these come and go, and the targets there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ipnet::IpNet;
use tracing::{debug, info, warn};

use super::attach::{Attachment, HookKind, Move};
use super::classifier::Programs;
use super::release;
use super::tries::Tries;
use crate::capture::error::CaptureError;
use crate::capture::interfaces::{self, Wanted};
use crate::capture::trouble::Trouble;
use crate::capture::turns::Turns;
use crate::capture::{Attached, InterfaceEvent, SourceSettings, WatchList, Way};
use crate::config::IngressHook;
use crate::netlink::deletions::Deletions;

/// An interface with the classifier on it, and what is watched there.
struct Watched {
    attachment: Attachment,
    nets: Vec<IpNet>,
}

/// What others are shown.
pub(super) type Shown = Arc<Mutex<Show>>;

/// Of interfaces.
#[derive(Default)]
pub(super) struct Show {
    /// Those that the classifier is on.
    pub(super) attached: Vec<Attached>,
    /// Those that it ought to be on, and why it is not.
    pub(super) trouble: Vec<(String, String)>,
}

/// Programs, targets, and the interfaces that they are on.
pub(super) struct Hooks {
    // Dropped first: the hooks are left before the programs are unloaded.
    attached: BTreeMap<String, Watched>,
    programs: Programs,
    tries: Tries,
    watch: WatchList,
    /// Where to attach, if not where it is best.
    hook: Option<HookKind>,
    ingress: IngressHook,
    /// Which interfaces are a host's end, where that is configured.
    host_ends: BTreeMap<String, bool>,
    turns: Turns,
    trouble: Trouble,
    /// Notices interfaces that are deleted and recreated before the next look.
    deletions: Option<Deletions>,
    shown: Shown,
}

/// Who follows what is done to interfaces.
pub(super) trait Follower {
    /// Something happened.
    fn tell(&mut self, event: InterfaceEvent);
    /// Returns once what was told so far was acted on: nothing from before may meet what comes now.
    fn settle(&mut self);
    /// Whether something else is more urgent than the next interface.
    fn is_urgent(&mut self) -> bool;
}

/// Collects what happened, for who acts on it before anything is read.
impl Follower for Vec<InterfaceEvent> {
    fn tell(&mut self, event: InterfaceEvent) {
        self.push(event);
    }

    fn settle(&mut self) {}

    fn is_urgent(&mut self) -> bool {
        false
    }
}

impl Hooks {
    /// Attached to nothing yet.
    pub(super) fn new((programs, tries): (Programs, Tries), settings: &SourceSettings, hook: Option<HookKind>) -> Self {
        Self {
            attached: BTreeMap::new(),
            programs,
            tries,
            watch: settings.watch.clone(),
            hook,
            ingress: settings.ingress,
            host_ends: settings.host_ends.clone(),
            turns: Turns::default(),
            trouble: Trouble::default(),
            deletions: Deletions::open().ok(),
            shown: Shown::default(),
        }
    }

    /// Where others are shown what it is attached to.
    pub(super) fn shown(&self) -> Shown {
        self.shown.clone()
    }

    /// Checks that what is to be watched is there, or may come.
    ///
    /// # Errors
    ///
    /// Nothing that is watched is there, and all of it was named.
    pub(super) fn must_be_there(&self) -> Result<(), CaptureError> {
        let wanted = interfaces::look(&self.watch, &self.host_ends)?;
        let missing = interfaces::missing(&self.watch, &wanted);
        interfaces::must_be_there(&self.watch, &missing)
    }

    /// Attaches to the interfaces that exist: to those that were named until `deadline`, and to those that patterns
    /// mean if there is none.
    ///
    /// # Errors
    ///
    /// One that was named cannot be attached to.
    pub(super) fn attach_all(&mut self, deadline: Option<Instant>) -> Result<(), CaptureError> {
        let mut wanted = interfaces::look(&self.watch, &self.host_ends)?;
        self.turns.settle(&mut wanted, Instant::now());
        let is_due = |now: &&Wanted| deadline.is_none_or(|deadline| now.is_named && Instant::now() < deadline);
        for now in wanted.iter().filter(is_due) {
            match self.attach(now) {
                // A pattern may mean what cannot be watched; a name means what must be.
                Err(error) if !now.is_named => self.trouble.note(now, &error),
                done => done?,
            }
        }
        Ok(())
    }

    /// Goes on where `before` was: each hook that stays passes from its program to ours at one moment, so that a packet
    /// is seen by one of both.
    pub(super) fn take_over(&mut self, before: Self) {
        let Self { attached, turns, .. } = before;
        self.turns = turns;
        let mut wanted = interfaces::look(&self.watch, &self.host_ends).unwrap_or_default();
        self.turns.settle(&mut wanted, Instant::now());
        // Before the first packet comes.
        let all = wanted.iter().flat_map(|now| keys(now.ifindex, &now.nets)).collect();
        if let Err(error) = self.tries.extend(&all) {
            warn!(%error, "cannot update all targets in the kernel");
        }
        for (name, Watched { attachment, .. }) in attached {
            let stays = wanted.iter().find(|now| now.name == name && now.ifindex == attachment.ifindex());
            let Some(now) = stays.filter(|now| now.host_end == attachment.is_turned()) else { continue };
            match attachment.succeed(&mut self.programs, &name, self.ingress) {
                Ok(attachment) => {
                    self.attached.insert(name, Watched { attachment, nets: now.nets.clone() });
                }
                // The next look attaches.
                Err(error) => self.trouble.note(now, &error),
            }
        }
        self.tries.shorten();
        self.show();
    }

    /// As [`super::EbpfSource::set_targets`].
    pub(super) fn set_targets(&mut self, watch: &WatchList) -> Result<(), CaptureError> {
        let wanted = interfaces::look(watch, &self.host_ends)?;
        let nets_of = |name: &str| wanted.iter().find(|now| now.name == name).map(|now| now.nets.clone());
        let before: Vec<Vec<IpNet>> = self.attached.values().map(|attached| attached.nets.clone()).collect();
        for (name, attached) in &mut self.attached {
            attached.nets = nets_of(name).unwrap_or_default();
        }
        if let Err(error) = self.tries.set(&self.keys()) {
            self.attached.values_mut().zip(before).for_each(|(attached, nets)| attached.nets = nets);
            return Err(error);
        }
        self.watch.clone_from(watch);
        // Interfaces that are new are attached by the next `maintain`.
        self.attached.retain(|name, _| nets_of(name).is_some());
        self.tries.shorten();
        self.show();
        Ok(())
    }

    /// Attaches to interfaces that came and forgets those that went; false if something more urgent came between.
    pub(super) fn maintain(&mut self, follower: &mut impl Follower) -> bool {
        // While they cannot be asked about, interfaces are taken to be as they were.
        let Ok(mut wanted) = interfaces::look(&self.watch, &self.host_ends) else { return true };
        self.turns.settle(&mut wanted, Instant::now());
        self.trouble.keep(&wanted);
        let deleted = self.deletions.as_ref().map(Deletions::take).unwrap_or_default();
        let mut left = BTreeSet::new();
        self.attached.retain(|name, attached| {
            let ifindex = attached.attachment.ifindex();
            let now = wanted.iter().find(|now| now.name == *name && now.ifindex == ifindex);
            let now = now.filter(|_| !deleted.may_have(ifindex));
            let stays = now.is_some_and(|now| now.host_end == attached.attachment.is_turned());
            if now.is_none() {
                follower.tell(InterfaceEvent::Lost { name: name.clone(), ifindex });
            } else if !stays {
                follower.tell(InterfaceEvent::Turned { name: name.clone(), ifindex });
            }
            if !stays {
                left.insert(ifindex);
            }
            stays
        });
        let mut complete = true;
        for now in wanted {
            if let Some(attached) = self.attached.get_mut(&now.name) {
                // Another pattern may mean it now.
                attached.nets = now.nets;
                continue;
            }
            if follower.is_urgent() {
                complete = false;
                break;
            }
            if left.contains(&now.ifindex) {
                follower.settle();
            }
            match self.attach(&now) {
                Ok(()) => {
                    self.trouble.is_over(&now.name);
                    follower.tell(InterfaceEvent::Attached { name: now.name, ifindex: now.ifindex });
                }
                // It may be half made, or gone again; the next call sees.
                Err(error) => self.trouble.note(&now, &error),
            }
        }
        if let Err(error) = self.tries.set(&self.keys()) {
            warn!(%error, "cannot update all targets in the kernel");
        }
        self.tries.shorten();
        self.show();
        complete
    }

    /// Moves to the head of the hook that sees `way` on this interface, as a program before ours may end the chain.
    pub(super) fn move_to_head(&mut self, ifindex: u32, way: Way, follower: &mut impl Follower) {
        let found = self.attached.iter().find(|(_, watched)| watched.attachment.ifindex() == ifindex);
        let Some((name, mut watched)) =
            found.map(|(name, _)| name.clone()).and_then(|name| self.attached.remove_entry(&name))
        else {
            return;
        };
        // What passes meanwhile is seen by neither place.
        follower.tell(InterfaceEvent::Turned { name: name.clone(), ifindex });
        follower.settle();
        match watched.attachment.move_to_head(&mut self.programs, &name, way) {
            Ok(Move::ToHead) => warn!(
                interface = name,
                hook = watched.attachment.kind(),
                "no {} segments are seen although there are some: a program before the classifier ends the chain; \
                 moved the classifier to its head",
                way.name()
            ),
            Ok(Move::Back) => warn!(
                interface = name,
                hook = watched.attachment.kind(),
                "no {} segments are seen: the XDP program was detached; attached it again",
                way.name()
            ),
            Ok(Move::None) => {}
            Err(error) => {
                // The next look attaches again, in the usual order.
                warn!(interface = name, %error, "cannot move to the head of the hook");
                self.show();
                return;
            }
        }
        self.attached.insert(name, watched);
        self.show();
    }

    /// Leaves the hooks until then, and what is left after that without waiting for it.
    pub(super) fn leave(&mut self, deadline: Instant) {
        while Instant::now() < deadline && self.attached.pop_first().is_some() {}
        if !self.attached.is_empty() {
            let held = release::hold_links();
            if let Err(error) = &held {
                debug!(%error, "the process ends once all hooks are left");
            }
            self.attached.clear();
        }
        self.show();
    }

    fn attach(&mut self, wanted: &Wanted) -> Result<(), CaptureError> {
        wanted.has_usable_name()?;
        let Wanted { name, ifindex, host_end, nets, .. } = wanted;
        // Its first packets come before its targets are known.
        self.tries.lengthen();
        let attachment = Attachment::new(&mut self.programs, name, *ifindex, (self.hook, self.ingress), *host_end)?;
        info!(interface = name, ifindex, hook = attachment.kind(), host_end, "classifier attached");
        self.tries.extend(&keys(*ifindex, nets))?;
        self.attached.insert(name.clone(), Watched { attachment, nets: nets.clone() });
        self.tries.shorten();
        self.show();
        Ok(())
    }

    /// The keys that the tries should hold: those of attached interfaces.
    fn keys(&self) -> BTreeSet<(u32, IpNet)> {
        self.attached.values().flat_map(|Watched { attachment, nets }| keys(attachment.ifindex(), nets)).collect()
    }

    fn show(&self) {
        let each = |(name, Watched { attachment, .. }): (&String, &Watched)| Attached {
            name: name.clone(),
            ifindex: attachment.ifindex(),
            hook: attachment.kind(),
            host_end: attachment.is_turned(),
        };
        let show = Show { attached: self.attached.iter().map(each).collect(), trouble: self.trouble.list() };
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = show;
    }
}

fn keys(ifindex: u32, nets: &[IpNet]) -> BTreeSet<(u32, IpNet)> {
    nets.iter().map(|net| (ifindex, net.trunc())).collect()
}
