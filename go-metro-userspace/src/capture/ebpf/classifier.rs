//! The classifier, loaded: its object, maps and programs, attached to nothing.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aya::maps::{Array, Map, MapData, MapError, ProgramArray};
use aya::programs::{ProgramError, SchedClassifier, Xdp};
use aya::util::{KernelVersion, nr_cpus};
use aya::{Ebpf, EbpfError, EbpfLoader};
use aya_log::EbpfLogger;
use caps::Capability;
use go_metro_common::counters::{Counters, PerCpu};
use go_metro_common::names;
use go_metro_common::pick::PICKS;
use go_metro_common::pressure::{NEVER, Pressure};
use go_metro_common::segment::{SegmentV6, Sides};
use go_metro_rtt::Segment;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_getres};
use tracing::debug;
use tracing::level_filters::LevelFilter;
use tracing_log::LogTracer;

use super::mapping::CpuValues;
use super::merge::{Merge, Place};
use super::places;
use super::ring::{self, Ring};
use super::tally::Tally;
use super::tries::Tries;
use crate::capture::error::CaptureError;
use crate::capture::{Continuity, SourceCounters};
use crate::config::{IngressHook, PerFlow, Thinning};
use crate::privileges::lacking;

/// The object, as `cargo xtask build-ebpf` made it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/go-metro.o"));

/// The entry points for drivers.
const XDP_PROGRAMS: [&str; 2] = [names::INGRESS_XDP, names::EGRESS_XDP];

/// Largest ring buffer: 1 GiB holds ten seconds of two million records each.
const RING_MAX: u32 = 1 << 30;
/// Most records that a CPU emits between two wake-ups.
const WAKE_MAX: u32 = 256;
/// Bytes that the larger record takes in the ring, with the kernel's header (kernel/bpf/ringbuf.c).
const RECORD_MAX: u32 = size_of::<SegmentV6>() as u32 + 8;
/// The logger's ring buffer, as aya-log names it.
const LOGS: &str = "AYA_LOGS";
/// Lines of the verifier's log that an error shows.
const LOG_TAIL: usize = 25;

/// What the classifier does with inbound segments that carry payload and repeat the flow's last acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// They are left in the kernel, but for one after each such time, so that a flow is known to live.
    Left(Duration),
    /// They are emitted like all others.
    Emitted,
}

/// What the classifier needs to know when it is loaded.
#[derive(Clone, Copy, Debug)]
pub struct ClassifierSettings {
    /// Least size of the ring buffers together in bytes; each becomes a power of two of at least a page.
    pub ring_bytes: u32,
    /// Which round trips are measured.
    pub sides: Sides,
    /// What becomes of repeated acknowledgements.
    pub repeats: Repeats,
    /// Whether the first segment with payload after an acknowledgement alone is emitted even if it repeats that.
    pub responses: bool,
    /// With [`IngressHook::Xdp`] the entry points for drivers are loaded too.
    pub ingress: IngressHook,
    /// Which samples are not taken; all are where both sides are measured.
    pub thinning: Thinning,
    /// Which rings records come in.
    pub rings: Rings,
    /// How long what is sent is held up before its record is in its ring, in readings of the clock. For tests alone.
    #[doc(hidden)]
    pub hold_up: u32,
}

/// Which rings records come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rings {
    /// One a processor, mapped; the kernel's where that is not possible.
    #[default]
    Best,
    /// The kernel's ring buffer.
    Kernel,
}

impl Default for ClassifierSettings {
    /// One ring of a page, the remote side, and a refresh that is short against any time after which a flow is
    /// forgotten.
    fn default() -> Self {
        Self {
            ring_bytes: 0,
            sides: Sides::REMOTE,
            repeats: Repeats::Left(Duration::from_millis(250)),
            responses: false,
            ingress: IngressHook::Tc,
            thinning: Thinning::default(),
            rings: Rings::Best,
            hold_up: 0,
        }
    }
}

/// The classifier in the kernel. Attached to nothing, it can still be run on bytes (`BPF_PROG_TEST_RUN`), as the tests
/// do.
pub struct Classifier {
    programs: Programs,
    reader: Reader,
    /// What it lets through.
    pub tries: Tries,
}

/// The classifier's entry points: what is put on hooks.
pub(super) struct Programs {
    ebpf: Ebpf,
    /// Whether the entry points for drivers are loaded; why not.
    xdp: Result<(), String>,
    /// Where programs for the usual packet find those for any packet; none if the latter are on the hooks. The kernel
    /// empties it once nobody holds it.
    full: Option<ProgramArray<MapData>>,
}

/// What the classifier hands out: records, counters, its log.
pub(super) struct Reader {
    ring: Ring,
    tally: Tally,
    pressure: Array<MapData, Pressure>,
    log: Option<EbpfLogger<LogTracer>>,
}

impl Classifier {
    /// Loads all entry points, to measure these sides, as [`Self::load_with`] does with all else at its default.
    ///
    /// # Errors
    ///
    /// As [`Self::load_with`].
    pub fn load(ring_bytes: u32, sides: Sides) -> Result<Self, CaptureError> {
        Self::load_with(ClassifierSettings { ring_bytes, sides, ..ClassifierSettings::default() })
    }

    /// Loads all entry points.
    ///
    /// # Errors
    ///
    /// A missing capability, a kernel without ring buffer, or a verifier that refuses.
    pub fn load_with(settings: ClassifierSettings) -> Result<Self, CaptureError> {
        let mapped = match settings.rings {
            Rings::Best => places::obstacle(),
            Rings::Kernel => Some("requested".to_owned()),
        };
        let obstacle = match mapped {
            None => match Self::load_on(settings, true) {
                Err(CaptureError::Map { map: names::SLOTS, reason }) => reason,
                loaded => return loaded,
            },
            Some(reason) => reason,
        };
        debug!(obstacle, "using the kernel's ring buffer");
        Self::load_on(settings, false)
    }

    fn load_on(settings: ClassifierSettings, is_mapped: bool) -> Result<Self, CaptureError> {
        let ClassifierSettings { ring_bytes, sides, repeats, responses, ingress, thinning, rings: _, hold_up } =
            settings;
        raise_memlock_limit();
        let cpus = nr_cpus().map_err(|(_, source)| CaptureError::NoSysfs(source))?;
        let places = if is_mapped { places::of(ring_bytes, cpus) } else { Vec::new() };
        let ring_bytes = ring_size(if is_mapped { 0 } else { ring_bytes });
        let wake_mask = wake_mask(ring_bytes, cpus);
        // In 5.18 and later; backports do without and fall back on plausibility.
        let has_tstamp_type = u8::from(kernel_is_at_least(5, 18));
        let level = log_level();
        // Of both sides, a segment is timed for one and acknowledges for the other.
        let thinning = if sides == Sides::BOTH { Thinning::OFF } else { thinning };
        // Of a mapped ring in 256ths.
        let share = |share: u8| (if is_mapped { 256 } else { u64::from(ring_bytes) }) * u64::from(share) / 100;
        let watermark = thinning.watermark.0.map_or(NEVER, share);
        let per_flow = match thinning.per_flow {
            PerFlow::Off => u64::MAX,
            PerFlow::Rtt => 0,
            PerFlow::Every(time) => u64::try_from(time.as_nanos()).unwrap_or(u64::MAX - 1).min(u64::MAX - 1),
        };
        let refresh = match repeats {
            Repeats::Left(refresh) => jiffies(refresh),
            Repeats::Emitted => 0,
        };

        // Otherwise one program does everything: where flows are always sampled; and on arm64, whose kernels before 6.0
        // have no tail calls beside functions.
        let is_split = is_mapped && per_flow == u64::MAX;

        let mut ebpf = EbpfLoader::new()
            // Nothing in the object is relocated against the kernel's own types; parsing them takes a while.
            .btf(None)
            .map_max_entries(names::RECORDS, ring_bytes)
            .map_max_entries(names::CPUS, u32::try_from(cpus).unwrap_or(u32::MAX))
            .map_max_entries(names::SLOTS, places::slots(&places).max(1))
            .override_global(names::HOLD_UP, &hold_up, true)
            .override_global(names::MAPPED, &u8::from(is_mapped), true)
            .override_global(names::HAS_TSTAMP_TYPE, &has_tstamp_type, true)
            .override_global(names::WAKE_MASK, &wake_mask, true)
            .override_global(names::SIDES, &sides.0, true)
            .override_global(names::SEED, &seed(), true)
            .override_global(names::REFRESH, &refresh, true)
            .override_global(names::RESPONSES, &u8::from(responses), true)
            .override_global(names::PER_FLOW, &per_flow, true)
            .override_global(names::WATERMARK, &watermark, true)
            // Its memory is taken at once.
            .map_max_entries(names::PICKS, if thinning == Thinning::OFF { 1 } else { PICKS })
            .override_global(aya_log::LEVEL, &level, true)
            .load(OBJECT)
            .map_err(|error| load_error(&error))?;

        let cpu_values = CpuValues::map(memory(&ebpf, names::CPUS)?.as_fd(), cpus).map(Arc::new);
        let mut values: Array<MapData, PerCpu> = map(&mut ebpf, names::CPUS)?;
        for (cpu, Place { base, mask }) in (0..).zip(&places) {
            let set =
                values.get(&cpu, 0).and_then(|value| values.set(cpu, PerCpu { base: *base, mask: *mask, ..value }, 0));
            set.map_err(|error| CaptureError::Map { map: names::CPUS, reason: error.to_string() })?;
        }
        // The logger's map stays open until the programs are loaded.
        let log = EbpfLogger::init_with_logger(&mut ebpf, LogTracer::new());
        for name in names::FULL_PROGRAMS {
            program(&mut ebpf, name)?.load().map_err(|error| program_error(name, error))?;
        }
        let full = is_split.then(|| usual_programs(&mut ebpf)).transpose()?;
        let xdp = match ingress {
            IngressHook::Tc => Err("not wanted".to_owned()),
            IngressHook::Xdp => XDP_PROGRAMS
                .iter()
                .try_for_each(|name| {
                    let loaded = xdp_program(&mut ebpf, name)?.load();
                    loaded.map_err(|error| program_error(name, error))
                })
                .map_err(|error| format!("the kernel refuses the program, which needs Linux 5.18 ({error})")),
        };
        let log = log.map_err(|error| debug!(%error, "no log from the classifier")).ok();
        debug!(ring_bytes, wake_mask, has_tstamp_type, "classifier loaded");
        let records = map(&mut ebpf, names::RECORDS)?;
        let ring = if is_mapped {
            let slots = memory(&ebpf, names::SLOTS)?;
            let merge = match &cpu_values {
                Ok(values) => Merge::new(values.clone(), slots, &places).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            let merge = merge.map_err(|reason| CaptureError::Map { map: names::SLOTS, reason })?;
            Ring::mapped(records, merge, sides)
        } else {
            Ring::new(records, ring_bytes, sides)
        };
        Ok(Self {
            reader: Reader {
                ring,
                tally: Tally::new(values),
                pressure: map(&mut ebpf, names::PRESSURE)?,
                log: log.filter(|_| level >= aya_log::Level::Debug as u8),
            },
            tries: Tries::new(map(&mut ebpf, names::TARGETS_V4)?, map(&mut ebpf, names::TARGETS_V6)?, cpu_values.ok()),
            programs: Programs { ebpf, xdp, full },
        })
    }

    /// Its parts, each for a thread of its own.
    pub(super) fn into_parts(self) -> (Programs, Tries, Reader) {
        (self.programs, self.tries, self.reader)
    }

    /// One of [`names::ENTRY_POINTS`]: what is put on hooks.
    ///
    /// # Errors
    ///
    /// The object has none of that name.
    pub fn program(&mut self, name: &str) -> Result<&mut SchedClassifier, CaptureError> {
        self.programs.tc(name)
    }

    /// One of the entry points for drivers.
    ///
    /// # Errors
    ///
    /// They were not wanted, or the kernel refused them, as those before 5.18 do; why.
    pub fn xdp(&mut self, name: &str) -> Result<&mut Xdp, String> {
        self.programs.xdp(name)
    }

    /// Hands the records that are in the ring to `sink`, oldest first; how many there were.
    pub fn drain(&mut self, sink: &mut impl FnMut(&Segment)) -> usize {
        self.reader.ring.drain_all(sink)
    }

    /// What the classifier hashes flows with. For tests that choose flows of one hash; nobody else may know it.
    #[doc(hidden)]
    pub fn seed(&self) -> u64 {
        seed()
    }

    /// What was counted since it was loaded, all CPUs together.
    ///
    /// # Errors
    ///
    /// The kernel does not let the map be read.
    pub fn counters(&self) -> Result<SourceCounters, CaptureError> {
        self.reader.counters()
    }

    /// How full the ring was when the classifier looked last, and what it does about that.
    ///
    /// # Errors
    ///
    /// The kernel does not let the map be read.
    pub fn pressure(&self) -> Result<Pressure, CaptureError> {
        self.reader.pressure()
    }

    /// Sets that, until the classifier looks again: for tests, whose rings do not run full when they want it.
    ///
    /// # Errors
    ///
    /// The kernel does not let the map be written.
    pub fn set_pressure(&mut self, pressure: Pressure) -> Result<(), CaptureError> {
        self.reader
            .pressure
            .set(0, pressure, 0)
            .map_err(|error| CaptureError::Map { map: names::PRESSURE, reason: error.to_string() })
    }

    /// Passes what the classifier has logged on to `tracing`. It logs nothing unless somebody listened at level `debug`
    /// when it was loaded.
    pub fn flush_log(&mut self) {
        self.reader.flush_log();
    }
}

impl Programs {
    /// As [`Classifier::program`].
    pub(super) fn tc(&mut self, name: &str) -> Result<&mut SchedClassifier, CaptureError> {
        program(&mut self.ebpf, if self.full.is_some() { name } else { names::full_program(name) })
    }

    /// As [`Classifier::xdp`].
    pub(super) fn xdp(&mut self, name: &str) -> Result<&mut Xdp, String> {
        self.xdp.clone()?;
        xdp_program(&mut self.ebpf, name).map_err(|error| error.to_string())
    }
}

impl Reader {
    /// Waits until the kernel wakes this thread for records, a signal arrives, or `timeout` passes.
    ///
    /// # Errors
    ///
    /// poll(2) itself fails.
    pub(super) fn wait(&mut self, timeout: Duration, also: Option<BorrowedFd<'_>>) -> Result<(), CaptureError> {
        ring::wait(&mut self.ring, timeout, also)
    }

    /// The ring, to be drained.
    pub(super) fn ring(&mut self) -> &mut Ring {
        &mut self.ring
    }

    /// As [`Ring::continuity`].
    pub(super) fn continuity(&mut self) -> Continuity {
        self.ring.continuity(&self.tally)
    }

    /// Whether the last read left something.
    pub(super) fn has_more(&self) -> bool {
        self.ring.has_more
    }

    /// As [`Ring::is_gap_near`].
    pub(super) fn is_gap_near(&mut self) -> bool {
        self.ring.is_gap_near(&self.tally)
    }

    /// As [`Classifier::counters`].
    pub(super) fn counters(&self) -> Result<SourceCounters, CaptureError> {
        let all = self.tally.sum()?;
        Ok(SourceCounters {
            passed_over: all.passed_over(),
            second_sides: self.ring.second_sides,
            late: self.ring.late(),
            // The engine has what was read of the ring.
            packets: Counters { records: self.ring.read, ..all },
            ..SourceCounters::default()
        })
    }

    /// As [`Classifier::pressure`].
    pub(super) fn pressure(&self) -> Result<Pressure, CaptureError> {
        self.pressure.get(&0, 0).map_err(|error| CaptureError::Map { map: names::PRESSURE, reason: error.to_string() })
    }

    /// As [`Classifier::flush_log`].
    pub(super) fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }
}

/// Whether the running kernel is at least this version; `false` if it does not say.
pub(super) fn kernel_is_at_least(major: u8, minor: u8) -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(major, minor, 0))
}

/// Kernels before 5.11 charge maps and programs to RLIMIT_MEMLOCK, later ones to the control group.
fn charges_to_memlock() -> bool {
    !kernel_is_at_least(5, 11)
}

/// That the limit cannot be raised need not mean that it is too low.
fn raise_memlock_limit() {
    if charges_to_memlock()
        && getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(soft, _)| soft != RLIM_INFINITY)
        && let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)
    {
        debug!(%error, "cannot raise RLIMIT_MEMLOCK");
    }
}

/// What the kernel demands of a ring buffer's size: a power of two and whole pages.
fn ring_size(wanted: u32) -> u32 {
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
    let page = u32::try_from(page).unwrap_or(4096);
    wanted.clamp(page, RING_MAX).next_power_of_two()
}

/// How often a CPU wakes the reader: at most a quarter of the ring may fill in between, however the CPUs share it.
fn wake_mask(ring_bytes: u32, cpus: usize) -> u32 {
    let cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
    let every = (ring_bytes / 4 / RECORD_MAX / cpus.max(1)).clamp(1, WAKE_MAX);
    // Down to a power of two.
    (1 << every.ilog2()) - 1
}

/// A time in the kernel's ticks, at least one. The coarse clocks advance once a tick.
fn jiffies(time: Duration) -> u64 {
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_or(4_000_000, |tick| tick.tv_nsec().max(1));
    (time.as_nanos() as u64 / tick as u64).max(1)
}

/// A number that nobody else knows, the same as long as this process lives.
fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| RandomState::new().build_hasher().finish())
}

/// The most detailed level that somebody listens to, as the classifier counts levels.
fn log_level() -> u8 {
    use aya_log::Level;
    let level = match LevelFilter::current().into_level() {
        None => return 0,
        Some(tracing::Level::ERROR) => Level::Error,
        Some(tracing::Level::WARN) => Level::Warn,
        Some(tracing::Level::INFO) => Level::Info,
        Some(tracing::Level::DEBUG) => Level::Debug,
        Some(tracing::Level::TRACE) => Level::Trace,
    };
    level as u8
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, CaptureError> {
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| CaptureError::Load(format!("the object has no classifier {name}")))
}

/// Loads the programs for the usual packet, and has them find those for any packet, which are loaded already.
fn usual_programs(ebpf: &mut Ebpf) -> Result<ProgramArray<MapData>, CaptureError> {
    let mut array: ProgramArray<MapData> = map(ebpf, names::FULL)?;
    for (entry, (usual, full)) in (0..).zip(names::ENTRY_POINTS.into_iter().zip(names::FULL_PROGRAMS)) {
        let file = program(ebpf, full)?.fd().map_err(|error| program_error(full, error))?;
        let set = array.set(entry, file, 0);
        set.map_err(|error| CaptureError::Map { map: names::FULL, reason: error.to_string() })?;
        program(ebpf, usual)?.load().map_err(|error| program_error(usual, error))?;
    }
    Ok(array)
}

fn xdp_program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, CaptureError> {
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| CaptureError::Load(format!("the object has no XDP program {name}")))
}

fn map<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, CaptureError>
where
    M: TryFrom<Map, Error = MapError>,
{
    let map = ebpf.take_map(name).ok_or_else(|| CaptureError::Load(format!("the object has no map {name}")))?;
    map.try_into().map_err(|error: MapError| CaptureError::Map { map: name, reason: error.to_string() })
}

/// An array, as a file that can be mapped.
fn memory(ebpf: &Ebpf, name: &'static str) -> Result<OwnedFd, CaptureError> {
    let Some(Map::Array(map)) = ebpf.map(name) else {
        return Err(CaptureError::Load(format!("the object has no array {name}")));
    };
    map.fd().as_fd().try_clone_to_owned().map_err(|error| CaptureError::Map { map: name, reason: error.to_string() })
}

fn load_error(error: &EbpfError) -> CaptureError {
    match error {
        EbpfError::MapError(MapError::CreateError { name, io_error }) => match io_error.raw_os_error() {
            Some(libc::EPERM) => missing_capability(&format!("create the eBPF map {name}")),
            // Whichever of the two is made first.
            Some(libc::EINVAL) if [names::RECORDS, LOGS].contains(&name.as_str()) => {
                CaptureError::Unsupported { feature: "BPF ring buffer", needs: "Linux 5.8 or later" }
            }
            Some(libc::ENOSYS) => {
                CaptureError::Unsupported { feature: "bpf(2) system call", needs: "CONFIG_BPF_SYSCALL" }
            }
            // Of all maps these alone may be large.
            Some(libc::ENOMEM) if [names::RECORDS, names::SLOTS].contains(&name.as_str()) => CaptureError::Load(
                format!("no memory for the ring ({io_error}): set a smaller `ring_size`, or raise the memory limit"),
            ),
            _ => CaptureError::Load(format!("map {name}: {io_error}")),
        },
        _ => CaptureError::Load(with_sources(error)),
    }
}

fn program_error(name: &str, error: ProgramError) -> CaptureError {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            // Without a word from the verifier it never got that far.
            if io_error.raw_os_error() == Some(libc::EPERM) && log.trim().is_empty() {
                return missing_capability("load an eBPF program");
            }
            // Without it the verifier lets no program compare or compute places in a packet (kernel/bpf/verifier.c,
            // `allow_ptr_leaks` and `bypass_spec_v1`); it says so in many words.
            if io_error.raw_os_error() == Some(libc::EACCES) && !lacking(&[Capability::CAP_PERFMON]).is_empty() {
                return missing_capability("load the classifier");
            }
            let lines: Vec<&str> = log.lines().collect();
            let log_tail = lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n");
            CaptureError::Rejected { program: name.to_owned(), source: io_error, log_tail }
        }
        other => CaptureError::Load(format!("{name}: {}", with_sources(&other))),
    }
}

/// EPERM, with what is missing.
pub(super) fn missing_capability(action: &str) -> CaptureError {
    let action = action.to_owned();
    let lacking = lacking(&[Capability::CAP_BPF, Capability::CAP_NET_ADMIN, Capability::CAP_PERFMON]);
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(RLIM_INFINITY, |(soft, _)| soft);
    if lacking.is_empty() && charges_to_memlock() && limit != RLIM_INFINITY {
        return CaptureError::LockedMemory { action, limit };
    }
    let lacking = match lacking.as_slice() {
        [] => "no capability is missing, so a container runtime or a security module refuses it".to_owned(),
        missing => format!("without {}", missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    };
    CaptureError::MissingCapability { action, lacking }
}

/// An error with what caused it, and that with what caused it.
pub(super) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

/// Whether an error comes down to EPERM.
pub(super) fn is_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    os_error(error) == Some(libc::EPERM)
}

/// The system's error number at the root of an error, if there is one.
pub(super) fn os_error(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut error = Some(error);
    while let Some(this) = error {
        if let Some(io) = this.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        error = this.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_a_power_of_two_of_at_least_a_page() {
        assert_eq!(ring_size(0), ring_size(1));
        assert!(ring_size(0) >= 4096);
        assert_eq!(ring_size(1_000_000), 1 << 20);
        assert_eq!(ring_size(1 << 20), 1 << 20);
        assert_eq!(ring_size(u32::MAX), RING_MAX);
    }

    #[test]
    fn wake_ups_come_before_the_ring_is_full() {
        for (ring, cpus) in [(4096, 1), (4096, 64), (1 << 20, 2), (1 << 20, 256), (1 << 30, 1)] {
            let mask = wake_mask(ring, cpus);
            assert!((mask + 1).is_power_of_two() && mask < WAKE_MAX);
            assert!(mask == 0 || (mask + 1) * RECORD_MAX * cpus as u32 <= ring / 4, "{ring} bytes, {cpus} CPUs");
        }
    }
}
