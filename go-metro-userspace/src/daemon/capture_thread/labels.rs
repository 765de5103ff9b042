//! Flows on their way to who knows whose sockets they have ([`crate::daemon::owners`]), and the answers on theirs back
//! to a meter's engine and summaries. Nothing waits for them while segments come.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use go_metro_rtt::{Engine, Label, Summaries, Unlabelled};

use crate::daemon::owners::{Asker, Question};

/// Longest wait for records and answers: a connection may be over soon, and whose it was is not known any more then.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Flows in one question.
const TOGETHER: usize = 1024;
/// Longest time that the last interval waits for what was asked for.
const LAST_ANSWERS: Duration = Duration::from_millis(50);

/// Where a meter asks, and hears.
pub(super) struct Labelling {
    asker: Asker,
    reply: Sender<Vec<Unlabelled>>,
    answers: Receiver<Vec<Unlabelled>>,
    /// Questions that are not answered.
    open: usize,
    /// To be filled again.
    spare: Vec<Vec<Unlabelled>>,
}

impl Labelling {
    /// Asks this one.
    pub(super) fn new(asker: Asker) -> Self {
        let (reply, answers) = channel();
        Self { asker, reply, answers, open: 0, spare: Vec::new() }
    }

    /// Takes the answers that came, and asks for the flows that have begun.
    pub(super) fn look(&mut self, engine: &mut Engine, summaries: &mut Summaries) {
        while let Ok(answered) = self.answers.try_recv() {
            self.open = self.open.saturating_sub(1);
            self.label(engine, summaries, answered);
        }
        let mut flows = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(TOGETHER));
        engine.take_unlabelled(&mut flows);
        if flows.is_empty() {
            self.spare.push(flows);
            return;
        }
        match self.asker.ask(Question { flows, reply: self.reply.clone() }) {
            Ok(()) => self.open += 1,
            Err(mut unasked) => {
                unasked.iter_mut().for_each(|flow| flow.label = Label::UNKNOWN);
                self.label(engine, summaries, unasked);
            }
        }
    }

    fn label(&mut self, engine: &mut Engine, summaries: &mut Summaries, mut answered: Vec<Unlabelled>) {
        for Unlabelled { flow, label, .. } in answered.drain(..) {
            engine.label(&flow, label);
            summaries.label(&flow, label);
        }
        self.spare.push(answered);
    }

    /// Before the last interval: waits a moment for what was asked for. What is not answered then is unknown.
    pub(super) fn end(mut self, engine: &mut Engine, summaries: &mut Summaries) {
        self.look(engine, summaries);
        let deadline = Instant::now() + LAST_ANSWERS;
        while self.open > 0
            && let Ok(answered) = self.answers.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            self.open -= 1;
            self.label(engine, summaries, answered);
        }
        engine.label_pending(Label::UNKNOWN);
        summaries.label_pending(Label::UNKNOWN);
    }
}
