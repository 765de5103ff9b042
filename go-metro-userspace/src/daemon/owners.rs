//! Whose the sockets of this host's connections are: which systemd unit, container or pod (`process_tags`).
//!
//! The engine hands out a flow when it begins. A thread beside asks the kernel for that one connection (sock_diag(7)),
//! finds the path of the control group that the answer names, and gives the engine a label that stands for it. What a
//! label stands for is kept here, for the report.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use go_metro_rtt::{Endpoint, Label, Unlabelled};

use crate::cgroup::Group;
use crate::cgroup::hierarchy::Hierarchy;
use crate::config::ProcessTags;
use crate::metrics::Lookup;
use crate::netlink::sockets::{self, Owned};
use crate::output::naming::Owner;
use crate::targets::local_addresses;
use crate::{privileges, threads};

/// Questions that wait for the thread; what comes beyond is unknown. Each is of up to a thousand flows.
const QUESTIONS: usize = 64;
/// Groups whose owners are remembered; beyond them all are looked up again.
const MOST_GROUPS: usize = 16_384;
/// Labels that are remembered; beyond them those go that no report or question had for longest.
const MOST_LABELS: usize = 16_384;
/// Between two looks at all groups: this long at least, and so many times as long as a look takes.
const WALK_EVERY: (Duration, u32) = (Duration::from_millis(20), 20);
/// How old this host's addresses may be where one is not among them, and where it is.
const ADDRESSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

/// What is to be found out of some flows.
pub(super) struct Question {
    /// Which flows; they come back with their labels.
    pub(super) flows: Vec<Unlabelled>,
    /// Where to.
    pub(super) reply: Sender<Vec<Unlabelled>>,
}

/// Whom meters ask.
#[derive(Clone)]
pub(super) struct Asker {
    questions: SyncSender<Question>,
    shared: Arc<Shared>,
}

impl Asker {
    /// Asks, or gives back what there is no room for: of those it is not known.
    pub(super) fn ask(&self, question: Question) -> Result<(), Vec<Unlabelled>> {
        self.questions.try_send(question).map_err(|refused| {
            let (TrySendError::Full(question) | TrySendError::Disconnected(question)) = refused;
            self.shared.count(Lookup::Unknown, question.flows.len());
            question.flows
        })
    }
}

/// What the thread and the daemon both have.
#[derive(Default)]
struct Shared {
    labels: Mutex<Labels>,
    counts: [AtomicU64; Lookup::COUNT],
    problem: Mutex<Option<String>>,
}

impl Shared {
    fn count(&self, result: Lookup, flows: usize) {
        self.counts[result as usize].fetch_add(flows as u64, Ordering::Relaxed);
    }

    fn labels(&self) -> MutexGuard<'_, Labels> {
        self.labels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what is in the way, once for each that is.
    fn set_problem(&self, problem: Option<String>) {
        let mut known = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(problem) = problem.as_ref().filter(|problem| known.as_ref() != Some(problem)) {
            tracing::warn!("process_tags: {problem}");
        }
        *known = problem;
    }
}

/// What labels stand for.
#[derive(Default)]
struct Labels {
    owners: HashMap<Label, (Arc<Owner>, Instant)>,
    labels: HashMap<Arc<Owner>, Label>,
}

impl Labels {
    fn of(&mut self, owner: &Arc<Owner>, now: Instant) -> Label {
        // Of one process: none has two meanings, whatever was forgotten or configured meanwhile.
        static NEXT: AtomicU32 = AtomicU32::new(1);
        if let Some(label) = self.labels.get(owner) {
            if let Some((_, used)) = self.owners.get_mut(label) {
                *used = now;
            }
            return *label;
        }
        if self.owners.len() >= MOST_LABELS {
            self.forget();
        }
        let label = Label::new(NEXT.fetch_add(1, Ordering::Relaxed)).unwrap_or(Label::UNKNOWN);
        self.owners.insert(label, (owner.clone(), now));
        self.labels.insert(owner.clone(), label);
        label
    }

    /// Forgets the older half.
    fn forget(&mut self) {
        let mut used: Vec<Instant> = self.owners.values().map(|(_, used)| *used).collect();
        used.sort_unstable();
        let median = used[used.len() / 2];
        self.owners.retain(|_, (_, used)| *used > median);
        self.labels.retain(|_, label| self.owners.contains_key(label));
    }

    fn owner(&mut self, label: Label, now: Instant) -> Option<Arc<Owner>> {
        let (owner, used) = self.owners.get_mut(&label)?;
        *used = now;
        Some(owner.clone())
    }
}

/// The daemon's handle.
pub(super) struct Owners {
    shared: Arc<Shared>,
    wanted: ProcessTags,
    questions: Option<SyncSender<Question>>,
    /// What the thread hears, as long as there is no thread.
    unheard: Option<Receiver<Question>>,
}

impl Owners {
    /// Starts the thread, if anything is wanted.
    pub(super) fn start(wanted: ProcessTags) -> Self {
        let mut owners = Self { shared: Arc::default(), wanted: ProcessTags::Off, questions: None, unheard: None };
        owners.set(wanted);
        owners
    }

    /// Tells other things apart from now on; whether that is so.
    pub(super) fn set(&mut self, wanted: ProcessTags) -> bool {
        if wanted == self.wanted {
            return false;
        }
        self.wanted = wanted;
        self.shared.set_problem(None);
        (self.questions, self.unheard) = match wanted {
            ProcessTags::Off => (None, None),
            ProcessTags::Unit | ProcessTags::Container => {
                let (questions, asked) = sync_channel(QUESTIONS);
                (Some(questions), Some(asked))
            }
        };
        self.retry();
        true
    }

    /// Starts the thread, if that was not possible before.
    pub(super) fn retry(&mut self) {
        let Some(asked) = self.unheard.take() else { return };
        let (shared, wanted) = (self.shared.clone(), self.wanted);
        let thread = threads::spawn_with("owners", asked, move |asked| {
            privileges::give_up_all();
            LookUp::new(shared, wanted).run(&asked);
        });
        if let Err((_, asked)) = thread {
            self.unheard = Some(asked);
        }
    }

    /// For meters; none if nothing is wanted.
    pub(super) fn asker(&self) -> Option<Asker> {
        let questions = self.questions.clone()?;
        Some(Asker { questions, shared: self.shared.clone() })
    }

    /// What these labels stand for.
    pub(super) fn named(&self, labels: impl Iterator<Item = Label>) -> HashMap<Label, Arc<Owner>> {
        let mut known = self.shared.labels();
        let (mut named, now) = (HashMap::new(), Instant::now());
        for label in labels.filter(|label| *label != Label::NONE) {
            named.entry(label).or_insert_with(|| known.owner(label, now).unwrap_or_else(|| Arc::new(Owner::unknown())));
        }
        named
    }

    /// Look-ups so far, by what came of them.
    pub(super) fn counts(&self) -> [u64; Lookup::COUNT] {
        self.shared.counts.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Why nothing can be found out.
    pub(super) fn problem(&self) -> Option<String> {
        let problem = self.shared.problem.lock().unwrap_or_else(PoisonError::into_inner);
        problem.as_ref().map(|problem| format!("process_tags: {problem}"))
    }
}

/// What the kernel says of a flow.
enum Found {
    /// A socket of this group.
    Group(u64),
    Not(Lookup),
}

/// A question whose groups are not all known.
struct Held {
    question: Question,
    found: Vec<Found>,
}

/// The thread.
struct LookUp {
    shared: Arc<Shared>,
    wanted: ProcessTags,
    sockets: Option<sockets::Owners>,
    /// The kernel did not answer the last time.
    is_refused: bool,
    addresses: Addresses,
    /// By number; none of groups that are gone.
    groups: HashMap<u64, Option<Arc<Owner>>>,
    walk_at: Instant,
    held: Vec<Held>,
}

impl LookUp {
    fn new(shared: Arc<Shared>, wanted: ProcessTags) -> Self {
        Self {
            shared,
            wanted,
            sockets: None,
            is_refused: false,
            addresses: Addresses::default(),
            groups: HashMap::new(),
            walk_at: Instant::now(),
            held: Vec::new(),
        }
    }

    fn run(mut self, asked: &Receiver<Question>) {
        loop {
            let next = if self.held.is_empty() {
                asked.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                asked.recv_timeout(self.walk_at.saturating_duration_since(Instant::now()))
            };
            match next {
                // First all connections, which may be over soon; then their groups.
                Ok(question) => std::iter::once(question).chain(asked.try_iter()).for_each(|next| self.ask(next)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.answer();
            if !self.held.is_empty() && self.walk_at <= Instant::now() {
                self.walk();
                self.answer();
            }
        }
    }

    fn ask(&mut self, question: Question) {
        let found = question.flows.iter().map(|flow| self.find(flow)).collect();
        self.held.push(Held { question, found });
    }

    fn find(&mut self, asked: &Unlabelled) -> Found {
        match self.try_find(asked) {
            Ok(found) => {
                if std::mem::take(&mut self.is_refused) {
                    self.shared.set_problem(None);
                }
                found
            }
            Err(error) => {
                (self.sockets, self.is_refused) = (None, true);
                let why = format!("cannot list the kernel's sockets (sock_diag(7)): {error}");
                self.shared.set_problem(Some(why));
                Found::Not(Lookup::Unknown)
            }
        }
    }

    fn try_find(&mut self, Unlabelled { flow, is_opened_here, .. }: &Unlabelled) -> io::Result<Found> {
        let sockets = match &mut self.sockets {
            Some(sockets) => sockets,
            none => none.insert(sockets::Owners::open()?),
        };
        let listener = match sockets.of(flow.local, flow.remote, flow.ifindex)? {
            Owned::Open(group) => return Ok(self.told(group)),
            // It is or was here, so what it was accepted by is its listener.
            Owned::Handshake => sockets.of_listener(flow.local, flow.ifindex)?,
            Owned::TimeWait if !is_opened_here => sockets.of_listener(flow.local, flow.ifindex)?,
            Owned::TimeWait => return Ok(Found::Not(Lookup::Unknown)),
            // A listener is no proof: another host's connection may be led through this one, as to a container that has
            // the same port.
            Owned::Listener(_) | Owned::Absent => {
                let is_own = self.addresses.has(flow.local);
                return Ok(Found::Not(if is_own { Lookup::Unknown } else { Lookup::Forwarded }));
            }
        };
        Ok(match listener {
            Owned::Listener(group) => self.told(group),
            _ => Found::Not(Lookup::Unknown),
        })
    }

    fn told(&self, group: Option<u64>) -> Found {
        let Some(group) = group else {
            let why = "the kernel does not report the control groups of sockets; this needs Linux 5.9";
            self.shared.set_problem(Some(why.to_owned()));
            return Found::Not(Lookup::Unknown);
        };
        Found::Group(group)
    }

    /// Answers the questions of whose flows all groups are known.
    fn answer(&mut self) {
        let Self { shared, groups, held, .. } = self;
        let is_known = |held: &mut Held| {
            held.found.iter().all(|found| !matches!(found, Found::Group(of) if !groups.contains_key(of)))
        };
        let now = Instant::now();
        for Held { question: Question { mut flows, reply }, found } in held.extract_if(.., is_known) {
            let mut labels = shared.labels();
            for (flow, found) in flows.iter_mut().zip(&found) {
                let (result, label) = match found {
                    Found::Not(Lookup::Forwarded) => (Lookup::Forwarded, Label::NONE),
                    Found::Not(result) => (*result, Label::UNKNOWN),
                    Found::Group(group) => match groups.get(group).and_then(Option::as_ref) {
                        Some(owner) if owner.tags.is_empty() => (Lookup::Found, Label::NONE),
                        Some(owner) => (Lookup::Found, labels.of(owner, now)),
                        None => (Lookup::Unknown, Label::UNKNOWN),
                    },
                };
                shared.count(result, 1);
                flow.label = label;
            }
            drop(labels);
            // A meter that has ended asks no more.
            let _ = reply.send(flows);
        }
    }

    /// Looks for the paths of the groups that are not known.
    fn walk(&mut self) {
        let began = Instant::now();
        if self.groups.len() >= MOST_GROUPS {
            self.groups.clear();
        }
        let found = self.held.iter().flat_map(|held| &held.found);
        let groups = found.filter_map(|found| if let Found::Group(group) = found { Some(*group) } else { None });
        let missing: BTreeSet<u64> = groups.filter(|group| !self.groups.contains_key(group)).collect();
        let (paths, problem) = match Hierarchy::mounted() {
            Ok(Some(hierarchy)) => {
                let paths = hierarchy.paths(&missing);
                let is_part = !hierarchy.is_whole && paths.len() < missing.len();
                let root = hierarchy.root.display();
                let part = || format!("{root} shows only the control groups of this container; mount the host's there");
                (paths, is_part.then(part))
            }
            Ok(None) => (BTreeMap::new(), Some("control groups of version 2 are not mounted".to_owned())),
            Err(error) => (BTreeMap::new(), Some(format!("/proc/self/mountinfo: {error}"))),
        };
        if !paths.is_empty() || problem.is_some() {
            self.shared.set_problem(problem);
        }
        for group in missing {
            let owner = paths.get(&group).map(|path| Arc::new(owner(Group(path), self.wanted)));
            self.groups.insert(group, owner);
        }
        self.walk_at = Instant::now() + WALK_EVERY.0.max(began.elapsed() * WALK_EVERY.1);
    }
}

/// How much of a container's identifier is shown where there is little room, as by container runtimes.
const SHORT_ID: usize = 12;

/// What is reported of a control group.
fn owner(group: Group<'_>, wanted: ProcessTags) -> Owner {
    let container = group.container_id().filter(|_| wanted == ProcessTags::Container);
    let pod = group.pod_uid().filter(|_| wanted == ProcessTags::Container);
    let unit = group.unit().filter(|_| container.is_none() && pod.is_none());
    let tag = |key: &str, value: Option<&str>| value.map(|value| format!("{key}:{value}"));
    let tags = [tag("unit", unit), tag("container_id", container), tag("pod_uid", pod.as_deref())];
    let short = container.map(|id| id.get(..SHORT_ID).unwrap_or(id));
    let shown = unit.or(short).or(pod.as_deref()).unwrap_or_default().to_owned();
    Owner { tags: tags.into_iter().flatten().collect(), shown }
}

/// This host's addresses.
#[derive(Default)]
struct Addresses {
    known: BTreeSet<IpAddr>,
    as_of: Option<Instant>,
}

impl Addresses {
    fn has(&mut self, end: Endpoint) -> bool {
        let address = end.addr.ip();
        if address.is_loopback() {
            return true;
        }
        let most = ADDRESSES[usize::from(self.known.contains(&address))];
        if self.as_of.is_none_or(|as_of| as_of.elapsed() >= most) {
            self.known = local_addresses();
            self.as_of = Some(Instant::now());
        }
        self.known.contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::mpsc;

    use go_metro_rtt::{Addr, FlowKey, Side};

    use super::*;

    const ID: &str = "3f4d1c7a9e0b2d5f8a6c4e1b7d9f0a2c5e8b1d4f7a0c3e6b9d2f5a8c1e4b7d0f";
    const UID: &str = "0e5c7b9a-1d2f-4a3b-8c6d-5e4f3a2b1c0d";

    #[test]
    fn a_group_has_the_tags_that_are_wanted() {
        let tags = |path: &str, wanted| {
            let Owner { tags, shown } = owner(Group(path), wanted);
            (tags.join(" "), shown)
        };
        let scope = format!("cri-containerd-{ID}.scope");
        let pod = format!("/kubepods.slice/kubepods-pod{}.slice/{scope}", UID.replace('-', "_"));
        assert_eq!(tags(&pod, ProcessTags::Unit), (format!("unit:{scope}"), scope));
        let both = format!("container_id:{ID} pod_uid:{UID}");
        assert_eq!(tags(&pod, ProcessTags::Container), (both, ID[..12].to_owned()));
        // Nobody's container: the one that holds a pod's network, before it has a group of its own.
        let sandbox = format!("/kubepods/pod{UID}");
        assert_eq!(tags(&sandbox, ProcessTags::Container), (format!("pod_uid:{UID}"), UID.to_owned()));
        for wanted in [ProcessTags::Unit, ProcessTags::Container] {
            let nginx = ("unit:nginx.service".to_owned(), "nginx.service".to_owned());
            assert_eq!(tags("/system.slice/nginx.service", wanted), nginx);
            assert_eq!(tags("/", wanted), Default::default());
        }
        assert_eq!(tags(&format!("/docker/{ID}"), ProcessTags::Unit), Default::default());
    }

    #[test]
    fn labels_are_the_same_for_the_same_and_those_out_of_use_are_forgotten() {
        let owner = |name: usize| Arc::new(Owner { tags: vec![format!("unit:{name}.service")], shown: String::new() });
        let (mut labels, start) = (Labels::default(), Instant::now());
        let first = labels.of(&owner(0), start);
        assert_eq!(labels.of(&owner(0), start), first);
        assert_ne!(labels.of(&owner(1), start), first);
        for name in 2..MOST_LABELS {
            labels.of(&owner(name), start + Duration::from_secs(name as u64));
        }
        // In use by what is reported.
        assert!(labels.owner(first, start + Duration::from_secs(1 << 20)).is_some());
        let new = labels.of(&owner(MOST_LABELS), start + Duration::from_secs(1 << 20));
        assert!(labels.owners.len() <= MOST_LABELS / 2 + 1, "{}", labels.owners.len());
        assert_eq!(labels.owners.len(), labels.labels.len());
        assert!(labels.owner(first, start).is_some() && labels.owner(new, start).is_some());
        let again = labels.of(&owner(1), start);
        assert!(again != first && again != new, "a number is not given twice");
    }

    fn end(address: SocketAddr) -> Endpoint {
        Endpoint { addr: Addr::from(address.ip()), port: address.port() }
    }

    fn unlabelled(local: SocketAddr, remote: SocketAddr, is_opened_here: bool) -> Unlabelled {
        let flow = FlowKey { local: end(local), remote: end(remote), ifindex: 0, side: Side::Remote };
        Unlabelled { flow, is_opened_here, label: Label::PENDING }
    }

    /// Asks a thread of its own; the answers, and how many were of which result.
    fn answers(flows: Vec<Unlabelled>) -> (Vec<Label>, [u64; Lookup::COUNT]) {
        let owners = Owners::start(ProcessTags::Unit);
        let (reply, hear) = mpsc::channel();
        let question = Question { flows, reply };
        assert!(owners.asker().unwrap().ask(question).is_ok());
        let answered = hear.recv_timeout(Duration::from_secs(60)).unwrap();
        (answered.into_iter().map(|flow| flow.label).collect(), owners.counts())
    }

    #[test]
    fn connections_that_are_here_are_found_and_those_that_were_or_never_will_be_are_told_apart() {
        if !sockets::Owners::open().unwrap().tells_groups().unwrap() {
            println!("skipped: this kernel does not tell the control groups of sockets");
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let here = unlabelled(open.local_addr().unwrap(), open.peer_addr().unwrap(), true);
        let over = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (local, remote) = (over.local_addr().unwrap(), over.peer_addr().unwrap());
        let (mut accepted, _) = listener.accept().unwrap();
        while accepted.peer_addr().unwrap() != local {
            accepted = listener.accept().unwrap().0;
        }
        // The server closes first, and keeps what is left of it.
        drop(accepted);
        drop(over);
        let (gone, server) = (unlabelled(local, remote, true), unlabelled(remote, local, false));
        let elsewhere = unlabelled("192.0.2.1:4000".parse().unwrap(), "198.51.100.1:80".parse().unwrap(), true);
        let (labels, counts) = answers(vec![here, gone, server, elsewhere]);
        assert_eq!(labels[1], Label::UNKNOWN);
        assert_eq!(labels[3], Label::NONE);
        assert!([labels[0], labels[2]].iter().all(|label| *label != Label::PENDING));
        if Hierarchy::mounted().unwrap().is_some_and(|hierarchy| hierarchy.is_whole) {
            assert!([labels[0], labels[2]].iter().all(|label| *label != Label::UNKNOWN), "{labels:?}");
            assert_eq!(counts[Lookup::Found as usize], 2);
        }
        assert_eq!(counts[Lookup::Forwarded as usize], 1);
        assert_eq!(counts.iter().sum::<u64>(), 4);
    }

    #[test]
    fn what_there_is_no_room_to_ask_comes_back_and_is_counted() {
        let (questions, _asked) = sync_channel(1);
        let asker = Asker { questions, shared: Arc::default() };
        let (reply, _hear) = mpsc::channel();
        let flow = unlabelled("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap(), true);
        let question = || Question { flows: vec![flow; 3], reply: reply.clone() };
        assert!(asker.ask(question()).is_ok());
        assert_eq!(asker.ask(question()).unwrap_err().len(), 3);
        assert_eq!(asker.shared.counts[Lookup::Unknown as usize].load(Ordering::Relaxed), 3);
    }
}
