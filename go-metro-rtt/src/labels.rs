//! Labels of flows: what only somebody else can find out about a flow, such as whose socket it is, and what its results
//! are to be told apart by.
//!
//! Finding it out takes time. Until a flow's label is known its results are kept for themselves ([`Label::PENDING`]);
//! then they join those of the label, so that nothing that came meanwhile is reported under another one.

use serde::{Deserialize, Serialize};

use crate::FlowKey;

/// What the results of a flow are told apart by: a number that has its meaning outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Label(u32);

impl Label {
    /// There is nothing to tell apart.
    pub const NONE: Self = Self(0);
    /// It could not be found out.
    pub const UNKNOWN: Self = Self(u32::MAX);
    /// It is being found out.
    pub const PENDING: Self = Self(u32::MAX - 1);
    /// It is to be asked for once there is room for the question; until then it is unknown.
    const POSTPONED: Self = Self(u32::MAX - 2);

    /// The label of this number; none of 0 and the three highest, which have meanings of their own.
    pub const fn new(number: u32) -> Option<Self> {
        if number == 0 || number >= Self::POSTPONED.0 { None } else { Some(Self(number)) }
    }

    pub(crate) const fn number(self) -> u32 {
        self.0
    }
}

/// A flow whose label is to be found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlabelled {
    /// Which.
    pub flow: FlowKey,
    /// Whether the local end has opened it: the first that was seen of it is a SYN from there.
    pub is_opened_here: bool,
    /// The answer; until there is one, [`Label::PENDING`].
    pub label: Label,
}

/// Most questions that are handed out together.
pub(crate) const TOGETHER: usize = 1024;
/// Most flows that wait for their answers.
const WAITING: usize = 4096;

/// The labels of all flows.
pub(crate) struct Labels {
    /// By the flow's number.
    of: Vec<Label>,
    /// Questions that were not handed out yet.
    new: Vec<Unlabelled>,
    /// Questions without an answer.
    waiting: usize,
}

impl Labels {
    /// None known yet; room for so many flows.
    pub(crate) fn new(max_flows: usize) -> Self {
        Self { of: Vec::with_capacity(max_flows), new: Vec::with_capacity(TOGETHER), waiting: 0 }
    }

    /// There are no flows any more, and may be so many. What was asked for is still answered.
    pub(crate) fn resize(&mut self, max_flows: usize) {
        self.of = Vec::with_capacity(max_flows);
    }

    /// A flow begins under this number; whether there is room to ask for it now.
    pub(crate) fn begin(&mut self, index: u32, flow: FlowKey, is_opened_here: bool) -> bool {
        let is_asked = self.ask(flow, is_opened_here);
        self.set(index, if is_asked { Label::PENDING } else { Label::POSTPONED });
        is_asked
    }

    /// A flow that was there before is asked for with its next record.
    pub(crate) fn postpone(&mut self, index: u32) {
        self.set(index, Label::POSTPONED);
    }

    /// The label of a flow's results.
    #[inline]
    pub(crate) fn of(&self, index: u32) -> Label {
        match self.of.get(index as usize).copied() {
            Some(Label::POSTPONED) | None => Label::UNKNOWN,
            Some(label) => label,
        }
    }

    /// The same when a record of it comes: what was postponed is asked for now, if there is room.
    #[inline]
    pub(crate) fn of_record(&mut self, index: u32, flow: &FlowKey) -> Label {
        // How it was opened is not known any more.
        if self.of.get(index as usize) == Some(&Label::POSTPONED) && self.ask(*flow, false) {
            self.set(index, Label::PENDING);
        }
        self.of(index)
    }

    /// A flow's label was found out, if it was asked for; `index` is its number, unless it was forgotten meanwhile.
    pub(crate) fn answer(&mut self, index: Option<u32>, label: Label) {
        self.waiting = self.waiting.saturating_sub(1);
        let of = index.and_then(|index| self.of.get_mut(index as usize));
        // Another flow of the same ends may have had its answer.
        if let Some(of) = of.filter(|of| **of == Label::PENDING) {
            *of = label;
        }
    }

    /// What is asked for has this label: nobody waits for the answers any more.
    pub(crate) fn answer_all(&mut self, label: Label) {
        self.waiting = 0;
        self.of.iter_mut().filter(|of| **of == Label::PENDING).for_each(|of| *of = label);
    }

    /// Hands out what is to be asked, in exchange for an empty vector with room for as much.
    pub(crate) fn take(&mut self, empty: &mut Vec<Unlabelled>) {
        debug_assert!(empty.is_empty());
        std::mem::swap(&mut self.new, empty);
    }

    fn ask(&mut self, flow: FlowKey, is_opened_here: bool) -> bool {
        let has_room = self.new.len() < TOGETHER.min(self.new.capacity()) && self.waiting < WAITING;
        if has_room {
            self.new.push(Unlabelled { flow, is_opened_here, label: Label::PENDING });
            self.waiting += 1;
        }
        has_room
    }

    fn set(&mut self, index: u32, label: Label) {
        let index = index as usize;
        if index >= self.of.len() {
            self.of.resize(index + 1, Label::POSTPONED);
        }
        self.of[index] = label;
    }
}
