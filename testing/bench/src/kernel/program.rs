//! The programs under measurement, loaded.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, MapData, ProgramArray, RingBuf};
use aya::programs::{ProgramInfo, SchedClassifier, Xdp};
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader, TestRun as _, TestRunOptions};
use go_metro_common::counters::{Counters, Everything, PerCpu};
use go_metro_common::names;
use go_metro_common::pressure::{NEVER, Pressure};
use go_metro_common::segment::Sides;
use go_metro_common::slot::{SLOTS_MIN, Slot};
use go_metro_common::target::{IFINDEX_BITS, TargetV4, TargetV6};
use nix::time::{ClockId, clock_gettime};

use super::frames::{LOCAL4, LOCAL6, REMOTE4, REMOTE6, Way};
use testing_support::workspace::{lab_object, object};

/// As large as the daemon's is by default.
pub(super) const RING_BYTES: u32 = 1 << 23;

/// The classifier as the daemon loads it, with the two hosts of [`super::frames`] as targets on some interfaces.
pub(super) struct Classifier {
    ebpf: Ebpf,
    /// The kernel's, if it is in use.
    ring: Option<RingBuf<MapData>>,
    /// Mapped rings, and what was counted; another build's may be elsewhere.
    cpus: Option<Array<MapData, PerCpu>>,
    /// Records that were in mapped rings so far.
    drained: u64,
    /// Whether one program handles all packets.
    has_one: bool,
    /// Where programs for the usual packet find those for any packet; held, as the kernel empties it else.
    _full: Option<ProgramArray<MapData>>,
}

/// Which records are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thinning {
    /// None ever.
    Off,
    /// None until the ring is half full: the default.
    Watermark,
    /// All but one round trip of a flow in so many nanoseconds.
    PerFlow(u64),
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Targets {
    /// The two hosts of [`super::frames`], and those of a lab.
    Hosts,
    /// One prefix of each family, the lab's.
    Prefix,
    /// 0.0.0.0/0 and ::/0.
    Everything,
}

impl Targets {
    /// Addresses, and how many of their bits count.
    fn v4(self) -> &'static [(Ipv4Addr, u32)] {
        match self {
            Self::Hosts => &[(LOCAL4, 32), (REMOTE4, 32), LAB4],
            Self::Prefix => &[LAB4],
            Self::Everything => &[(Ipv4Addr::UNSPECIFIED, 0)],
        }
    }

    fn v6(self) -> &'static [(Ipv6Addr, u32)] {
        match self {
            Self::Hosts => &[(LOCAL6, 128), (REMOTE6, 128), LAB6],
            Self::Prefix => &[LAB6],
            Self::Everything => &[(Ipv6Addr::UNSPECIFIED, 0)],
        }
    }
}

/// The hosts of a lab, with all of their networks.
const LAB4: (Ipv4Addr, u32) = (Ipv4Addr::new(10, 77, 0, 0), 16);
/// The same.
const LAB6: (Ipv6Addr, u32) = (Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0), 16);

impl Classifier {
    pub(super) fn load(interfaces: &[u32], ring_bytes: u32) -> Result<Self> {
        Self::load_with(interfaces, ring_bytes, Thinning::Watermark)
    }

    pub(super) fn load_with(interfaces: &[u32], ring_bytes: u32, thinning: Thinning) -> Result<Self> {
        Self::load_from(&object(), interfaces, ring_bytes, thinning, Targets::Hosts)
    }

    /// From another build's object, which may lack some settings, and mapped rings.
    pub(super) fn load_from(
        file: &Path,
        interfaces: &[u32],
        ring_bytes: u32,
        thinning: Thinning,
        targets: Targets,
    ) -> Result<Self> {
        // A name that this tree's classifier lacks is a mistake here.
        let must_exist = file == object();
        let cpus = u32::try_from(nr_cpus().map_err(|(_, error)| error)?)?;
        let is_mapped = must_exist || has_mapped_rings(file)?;
        let slots = (ring_bytes / size_of::<Slot>() as u32 / cpus).next_power_of_two().max(SLOTS_MIN);
        let half = if is_mapped { 128 } else { u64::from(ring_bytes / 2) };
        let watermark = if thinning == Thinning::Off { NEVER } else { half };
        let per_flow = if let Thinning::PerFlow(ns) = thinning { ns } else { u64::MAX };
        let is_split = must_exist && per_flow == u64::MAX;
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .map_max_entries(names::RECORDS, ring_bytes)
            .map_max_entries(names::CPUS, cpus)
            .map_max_entries(names::SLOTS, slots * cpus)
            .override_global(names::MAPPED, &1_u8, must_exist)
            .override_global(names::HAS_TSTAMP_TYPE, &1_u8, must_exist)
            // As the daemon has it for a ring of this size.
            .override_global(names::WAKE_MASK, &255_u32, must_exist)
            .override_global(names::SIDES, &Sides::REMOTE.0, must_exist)
            .override_global(names::SEED, &0x5eed_u64, must_exist)
            .override_global(names::REFRESH, &250_u64, must_exist)
            .override_global(names::WATERMARK, &watermark, must_exist)
            .override_global(names::PER_FLOW, &per_flow, must_exist)
            .load_file(file)
            .with_context(|| format!("the classifier in {} does not load", file.display()))?;
        for name in [names::INGRESS_ETHERNET, names::EGRESS_ETHERNET] {
            let name = if must_exist { names::full_program(name) } else { name };
            program(&mut ebpf, name)?.load().with_context(|| format!("{name} does not load"))?;
        }
        driver_program(&mut ebpf, names::INGRESS_XDP)?.load().context("the program for drivers does not load")?;
        let full = is_split.then(|| usual_programs(&mut ebpf)).transpose()?;
        let ring = RingBuf::try_from(ebpf.take_map(names::RECORDS).context("no ring")?)?;
        let ring = (!is_mapped).then_some(ring);
        let mut values: Option<Array<_, PerCpu>> = ebpf.take_map(names::CPUS).map(Array::try_from).transpose()?;
        if let Some(values) = &mut values {
            let everything = if targets == Targets::Everything { Everything::V4 | Everything::V6 } else { 0 };
            for cpu in 0..cpus {
                let value = PerCpu { base: cpu * slots, mask: slots - 1, everything, ..values.get(&cpu, 0)? };
                values.set(cpu, value, 0)?;
            }
        }
        for &ifindex in interfaces {
            let mut v4: LpmTrie<_, TargetV4, u8> = ebpf.map_mut(names::TARGETS_V4).context("no trie")?.try_into()?;
            for (address, bits) in targets.v4() {
                v4.insert(&Key::new(IFINDEX_BITS + bits, TargetV4 { ifindex, addr: address.octets() }), 0, 0)?;
            }
            let mut v6: LpmTrie<_, TargetV6, u8> = ebpf.map_mut(names::TARGETS_V6).context("no trie")?.try_into()?;
            for (address, bits) in targets.v6() {
                v6.insert(&Key::new(IFINDEX_BITS + bits, TargetV6 { ifindex, addr: address.octets() }), 0, 0)?;
            }
        }
        Ok(Self { ebpf, ring, cpus: values, drained: 0, has_one: must_exist && !is_split, _full: full })
    }

    /// The entry point for what goes this way through an Ethernet device.
    pub(super) fn program(&mut self, way: Way) -> Result<&mut SchedClassifier> {
        let name = if way == Way::Out { names::EGRESS_ETHERNET } else { names::INGRESS_ETHERNET };
        program(&mut self.ebpf, if self.has_one { names::full_program(name) } else { name })
    }

    /// The entry point in a driver.
    pub(super) fn xdp(&mut self) -> Result<&mut Xdp> {
        driver_program(&mut self.ebpf, names::INGRESS_XDP)
    }

    /// What the kernel says of the entry points, by their names.
    pub(super) fn infos(&self) -> Result<Vec<(String, ProgramInfo)>> {
        let infos = self.ebpf.programs().filter_map(|(name, program)| Some((name.to_owned(), program.info().ok()?)));
        let mut infos: Vec<_> = infos.collect();
        infos.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(infos)
    }

    /// Has all flows thinned as if the ring ran full, or return as if it did lately; the classifier looks again by
    /// itself.
    pub(super) fn press(&mut self, every_ns: u64) -> Result<()> {
        let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_nanos() as u64;
        let mut pressure: Array<_, Pressure> = self.ebpf.map_mut(names::PRESSURE).context("no map")?.try_into()?;
        Ok(pressure.set(0, Pressure { every_ns, stepped_ns: now, busy_ns: now }, 0)?)
    }

    /// Empties the ring; how many records there were.
    pub(super) fn drain(&mut self) -> u64 {
        let mut records = 0;
        match &mut self.ring {
            Some(ring) => {
                while ring.next().is_some() {
                    records += 1;
                }
            }
            None => {
                let Some(cpus) = &mut self.cpus else { return 0 };
                let mut all = 0;
                for cpu in 0..cpus.len() {
                    // Nothing runs now that would write to it.
                    let Ok(mut value) = cpus.get(&cpu, 0) else { continue };
                    all += value.counters.records;
                    value.tail.0 = value.head;
                    let _ = cpus.set(cpu, value, 0);
                }
                records = all - std::mem::replace(&mut self.drained, all);
            }
        }
        records
    }

    /// What was counted so far; zeros where another build's counts are elsewhere.
    pub(super) fn counters(&self) -> Result<Counters> {
        let mut all = Counters::default();
        for cpu in self.cpus.iter().flat_map(Array::iter) {
            all.add(&cpu?.counters);
        }
        Ok(all)
    }
}

/// Loads the programs for the usual packet, and has them find those for any packet, which are loaded already.
fn usual_programs(ebpf: &mut Ebpf) -> Result<ProgramArray<MapData>> {
    let mut array: ProgramArray<MapData> = ebpf.take_map(names::FULL).context("no array")?.try_into()?;
    for (entry, (usual, full)) in (0..).zip(names::ENTRY_POINTS.into_iter().zip(names::FULL_PROGRAMS)) {
        // Those for devices without link header are not measured.
        if let Ok(file) = program(ebpf, full)?.fd() {
            array.set(entry, file, 0)?;
            program(ebpf, usual)?.load().with_context(|| format!("{usual} does not load"))?;
        }
    }
    Ok(array)
}

/// Whether an object's classifier has a ring for each processor.
fn has_mapped_rings(file: &Path) -> Result<bool> {
    let object = aya_obj::Object::parse(&std::fs::read(file)?).with_context(|| file.display().to_string())?;
    Ok(object.maps.contains_key(names::CPUS))
}

/// Another tool's classifiers: an object with one for each way, told apart by their names.
pub(super) struct Peer {
    ebpf: Ebpf,
    names: [String; 2],
}

impl Peer {
    pub(super) fn load(object: &Path) -> Result<Self> {
        let mut ebpf =
            EbpfLoader::new().load_file(object).with_context(|| format!("{} does not load", object.display()))?;
        let mut names = [None, None];
        for (name, program) in ebpf.programs() {
            if matches!(program, aya::programs::Program::SchedClassifier(_)) {
                for (way, word) in [(Way::Out, "egress"), (Way::In, "ingress")] {
                    if name.contains(word) {
                        names[way as usize] = Some(name.to_owned());
                    }
                }
            }
        }
        let [Some(out), Some(inward)] = names else {
            bail!("{} has no TC program named `egress` and one named `ingress`", object.display());
        };
        for name in [&out, &inward] {
            program(&mut ebpf, name)?.load().with_context(|| format!("{name} does not load"))?;
        }
        Ok(Self { ebpf, names: [out, inward] })
    }

    pub(super) fn program(&mut self, way: Way) -> Result<&mut SchedClassifier> {
        program(&mut self.ebpf, &self.names[way as usize])
    }
}

/// The lab's programs: one that does nothing, and one for each thing that the classifier asks of the kernel.
pub(super) struct Lab {
    ebpf: Ebpf,
    ring: RingBuf<MapData>,
}

impl Lab {
    /// With everything on these interfaces in the trie.
    pub(super) fn load(interfaces: &[u32]) -> Result<Self> {
        let mut ebpf = EbpfLoader::new().btf(None).load_file(lab_object()).context("the lab's object does not load")?;
        for name in std::iter::once(EMPTY).chain(PARTS.map(|(name, _)| name)) {
            program(&mut ebpf, name)?.load()?;
        }
        driver_program(&mut ebpf, EMPTY_XDP)?.load()?;
        let ring = RingBuf::try_from(ebpf.take_map("LAB_RING").context("no ring")?)?;
        let mut trie: LpmTrie<_, TargetV4, u8> = ebpf.map_mut("LAB_TRIE").context("no trie")?.try_into()?;
        for ifindex in interfaces {
            trie.insert(&Key::new(IFINDEX_BITS, TargetV4 { ifindex: *ifindex, addr: [0; 4] }), 0, 0)?;
        }
        Ok(Self { ebpf, ring })
    }

    /// The program that does nothing.
    pub(super) fn empty(&mut self) -> Result<&mut SchedClassifier> {
        self.program(EMPTY)
    }

    /// The same in a driver.
    pub(super) fn empty_xdp(&mut self) -> Result<&mut Xdp> {
        driver_program(&mut self.ebpf, EMPTY_XDP)
    }

    /// One of [`PARTS`].
    pub(super) fn program(&mut self, name: &str) -> Result<&mut SchedClassifier> {
        program(&mut self.ebpf, name)
    }

    /// Empties its ring.
    pub(super) fn drain(&mut self) {
        while self.ring.next().is_some() {}
    }
}

const EMPTY: &str = "lab_empty";
const EMPTY_XDP: &str = "lab_empty_xdp";

/// Programs of the lab, and what each does.
pub(super) const PARTS: [(&str, &str); 4] = [
    ("lab_array", "a look into an array"),
    ("lab_trie", "an address looked up among the targets (one prefix)"),
    ("lab_clock", "the clock read"),
    ("lab_ring", "48 bytes put into the ring, nobody woken"),
];

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
    let program = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
    Ok(program.try_into()?)
}

fn driver_program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
    Ok(program.try_into()?)
}

/// The kernel's account of a program at one time.
#[derive(Clone, Copy)]
pub(super) struct Account {
    runs: u64,
    time: Duration,
}

impl Account {
    pub(super) fn of(program: &SchedClassifier) -> Result<Self> {
        Ok(Self::told_by(&program.info()?))
    }

    pub(super) fn told_by(info: &ProgramInfo) -> Self {
        Self { runs: info.run_count(), time: info.run_time() }
    }

    /// Runs since `before`.
    pub(super) fn runs_since(self, before: Self) -> u64 {
        self.runs.saturating_sub(before.runs)
    }

    /// Nanoseconds a run since `before`.
    pub(super) fn since(self, before: Self) -> Result<f64> {
        let runs = self.runs_since(before);
        anyhow::ensure!(runs > 0, "the kernel counted no run");
        Ok((self.time - before.time).as_nanos() as f64 / runs as f64)
    }
}

/// Runs `bytes` through a program `repeat` times; nanoseconds a run.
pub(super) fn run(program: &SchedClassifier, bytes: &[u8], repeat: u32) -> Result<f64> {
    let before = Account::of(program)?;
    program.test_run(TestRunOptions { data_in: Some(bytes), repeat, ..TestRunOptions::new() })?;
    Account::of(program)?.since(before)
}
