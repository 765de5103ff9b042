//! The system's resolver, off everything else: it blocks its caller for as long as a dead name server lets it, half a
//! minute with three of them (resolv.conf(5): five seconds each, twice).
//!
//! Two small pools of threads, so that questions for the names of addresses, of which peers can cause any number, never
//! keep a configured name waiting. Each question is in flight once; how many wait is bounded. Those that no server
//! answered the last time wait for all others. The threads have no capability.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::{privileges, threads};

/// Threads for configured names: as many dead ones as this do not delay a living one.
const FORWARD: usize = 8;
/// Threads for the names of addresses.
const REVERSE: usize = 4;
/// Questions that wait in a pool.
const QUEUE: usize = 1024;

/// What the resolver says of a name: its addresses, or why it has none.
pub type Addresses = Result<BTreeSet<IpAddr>, String>;

/// What the resolver says of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// Its name, as it came.
    Known(Arc<str>),
    /// It has none.
    None,
    /// No server answered.
    Unanswered,
}

/// Which questions a question waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// For those that were asked before it.
    Next,
    /// For all others: it had no answer the last time, and will most likely take as long again.
    Last,
}

static NAMES: Pool<String, Addresses> = Pool::new("names", FORWARD, |name| addresses_of(name));
static ADDRESSES: Pool<IpAddr, Name> = Pool::new("reverse-names", REVERSE, name_of);

/// Asks for the addresses of a name. None if too many questions wait.
pub fn addresses(name: &str) -> Option<oneshot::Receiver<Addresses>> {
    NAMES.ask(name.to_owned(), Turn::Next)
}

/// Asks for the name of an address. None if too many questions wait.
pub fn name(address: IpAddr, turn: Turn) -> Option<oneshot::Receiver<Name>> {
    ADDRESSES.ask(address, turn)
}

fn addresses_of(name: &str) -> Addresses {
    match (name, 0).to_socket_addrs() {
        Ok(found) => Ok(found.map(|address| address.ip()).collect()),
        Err(error) => Err(error.to_string()),
    }
}

fn name_of(address: &IpAddr) -> Name {
    match dns_lookup::getnameinfo(&SocketAddr::new(*address, 0), libc::NI_NAMEREQD) {
        Ok((name, _)) => Name::Known(name.into()),
        Err(error) if matches!(error.kind(), dns_lookup::LookupErrorKind::Again) => Name::Unanswered,
        Err(_) => Name::None,
    }
}

/// Looks a server's name up, on a thread of its own, without capabilities, which ends with the answer: if that is late,
/// nobody waits for it.
///
/// # Errors
///
/// No thread can be started.
pub fn server(name: &str, port: u16) -> io::Result<mpsc::Receiver<io::Result<Vec<SocketAddr>>>> {
    let (answer, pending) = mpsc::channel();
    let asked = (name.to_owned(), port);
    threads::spawn("statsd-name", move || {
        privileges::give_up_all();
        let addresses = asked.to_socket_addrs().map(|found| found.collect::<BTreeSet<_>>().into_iter().collect());
        let _ = answer.send(addresses);
    })?;
    Ok(pending)
}

/// Threads that answer questions, started as they are needed.
struct Pool<Q: 'static, A: 'static> {
    name: &'static str,
    threads: usize,
    answer: fn(&Q) -> A,
    state: Mutex<Option<State<Q, A>>>,
    asked: Condvar,
}

struct State<Q, A> {
    queue: VecDeque<Q>,
    /// Those that wait for all others.
    last: VecDeque<Q>,
    /// Who waits for the answer to a question that is queued or in flight.
    waiting: HashMap<Q, Vec<oneshot::Sender<A>>>,
    threads: usize,
    idle: usize,
}

impl<Q: Clone + Eq + Hash, A> State<Q, A> {
    fn new() -> Self {
        Self { queue: VecDeque::new(), last: VecDeque::new(), waiting: HashMap::new(), threads: 0, idle: 0 }
    }

    fn queued(&self) -> usize {
        self.queue.len() + self.last.len()
    }

    /// Whether there is room for one more question. One that waits for all others makes room for one that does not; who
    /// asked it hears that it was not asked.
    fn has_room(&mut self, turn: Turn) -> bool {
        if self.queued() < QUEUE {
            return true;
        }
        let dropped = if turn == Turn::Next { self.last.pop_back() } else { None };
        dropped.is_some_and(|question| self.waiting.remove(&question).is_some())
    }

    fn push(&mut self, question: Q, turn: Turn) {
        match turn {
            Turn::Next => self.queue.push_back(question),
            Turn::Last => self.last.push_back(question),
        }
    }

    fn pop(&mut self) -> Option<Q> {
        self.queue.pop_front().or_else(|| self.last.pop_front())
    }
}

impl<Q: Clone + Eq + Hash + Send, A: Clone + Send> Pool<Q, A> {
    const fn new(name: &'static str, threads: usize, answer: fn(&Q) -> A) -> Self {
        Self { name, threads, answer, state: Mutex::new(None), asked: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<State<Q, A>>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&'static self, question: Q, turn: Turn) -> Option<oneshot::Receiver<A>> {
        let mut state = self.lock();
        let state = state.get_or_insert_with(State::new);
        let (sender, receiver) = oneshot::channel();
        if let Some(waiting) = state.waiting.get_mut(&question) {
            waiting.retain(|waiting| !waiting.is_closed());
            waiting.push(sender);
            return Some(receiver);
        }
        if !state.has_room(turn) {
            return None;
        }
        if state.queued() >= state.idle && state.threads < self.threads {
            let started = threads::spawn(self.name, move || self.work());
            state.threads += usize::from(started.is_ok());
            if state.threads > 0 {
                // Those that there are answer as well, if later.
                threads::forgo(self.name);
            }
        }
        if state.threads == 0 {
            return None;
        }
        state.waiting.insert(question.clone(), vec![sender]);
        state.push(question, turn);
        self.asked.notify_one();
        Some(receiver)
    }

    fn work(&self) {
        privileges::give_up_all();
        loop {
            let mut guard = self.lock();
            let question = loop {
                let Some(state) = guard.as_mut() else { return };
                if let Some(question) = state.pop() {
                    break question;
                }
                state.idle += 1;
                guard = self.asked.wait(guard).unwrap_or_else(PoisonError::into_inner);
                if let Some(state) = guard.as_mut() {
                    state.idle -= 1;
                }
            };
            drop(guard);
            let answer = (self.answer)(&question);
            let waiting = self.lock().as_mut().and_then(|state| state.waiting.remove(&question));
            for waiting in waiting.into_iter().flatten() {
                // Who asked may have gone.
                let _ = waiting.send(answer.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_question_is_in_flight_once_and_threads_are_bounded() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        static SLOW: Pool<u32, u32> = Pool::new("slow", 3, |question| {
            ASKED.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(200));
            *question * 2
        });
        let answers: Vec<_> = (0..10).map(|k| SLOW.ask(k % 2, Turn::Next).unwrap()).collect();
        for (k, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.await.unwrap(), (k as u32 % 2) * 2);
        }
        assert_eq!(ASKED.load(Ordering::Relaxed), 2);
        let more: Vec<_> = (0..QUEUE as u32 + 10).map(|k| SLOW.ask(k, Turn::Next)).collect();
        assert_eq!(SLOW.lock().as_ref().unwrap().threads, 3);
        assert!(more.last().unwrap().is_none(), "the queue is full");
    }

    #[test]
    fn a_question_without_an_answer_the_last_time_waits_for_all_others_and_makes_room_for_them() {
        let mut state: State<usize, ()> = State::new();
        for question in 0..QUEUE {
            let turn = if question % 2 == 0 { Turn::Last } else { Turn::Next };
            assert!(state.has_room(turn));
            state.waiting.insert(question, Vec::new());
            state.push(question, turn);
        }
        assert!(!state.has_room(Turn::Last));
        assert!(state.has_room(Turn::Next) && !state.waiting.contains_key(&(QUEUE - 2)), "the last one is dropped");
        state.push(QUEUE + 1, Turn::Next);
        let order: Vec<usize> = std::iter::from_fn(|| state.pop()).collect();
        let expected = (1..QUEUE + 2).step_by(2).chain((0..QUEUE - 2).step_by(2));
        assert_eq!(order, expected.collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn the_system_resolver_answers() {
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        assert!(addresses("localhost").unwrap().await.unwrap().unwrap().contains(&loopback));
        assert_eq!(name(loopback, Turn::Next).unwrap().await.unwrap(), Name::Known("localhost".into()));
        assert!(addresses("no-such-host.invalid").unwrap().await.unwrap().is_err());
    }
}
