//! What the running kernel's verifier says of the classifier: its verdict, and how many instructions it followed for
//! it.
//!
//! `bpf_prog_info` has told that number only since 5.16, and the library that the agent loads with keeps the verifier's
//! log to itself where it has no objection. So maps and programs are loaded here by bpf(2) itself.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use anyhow::{Context as _, Result, bail};
use aya::util::KernelVersion;
use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_prog_type};
use aya_obj::{EbpfSectionKind, Map, Object, ProgramSection};

/// `BPF_LOG_STATS` of include/linux/bpf_verifier.h: only the totals.
const LOG_STATS: u32 = 4;
/// `BPF_LOG_LEVEL1`: what the verifier was at, for a program that it refuses.
const LOG_STEPS: u32 = 1;
/// Room for the steps of a program that is refused.
const LOG_BYTES: usize = 16 << 20;
/// Lines of the log that a refusal shows.
const LOG_TAIL: usize = 30;

/// Settings that shape the program, as the agent gives them in read-only globals.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// `go_metro_common::segment::Sides`: 1 remote, 3 both.
    pub(super) sides: u8,
    /// Log level as `aya_log::Level` counts: 3 info, 4 debug.
    pub(super) log_level: u8,
    /// Nanoseconds between two samples of a flow; `u64::MAX` for all of them.
    pub(super) per_flow: u64,
}

/// Loads every TC program of the object; name and instructions that the verifier processed.
///
/// # Errors
///
/// The kernel refuses a map or a program; with the end of the verifier's log.
pub(super) fn instructions(object: &[u8], settings: Settings) -> Result<Vec<(String, u64)>> {
    let mut object = Object::parse(object).context("the object does not parse")?;
    let has_tstamp_type =
        u8::from(KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(5, 18, 0)));
    object.patch_map_data(HashMap::from([
        ("HAS_TSTAMP_TYPE", (&[has_tstamp_type][..], true)),
        ("SIDES", (&[settings.sides][..], true)),
        // Any but those that mean never: the verifier leaves out what these switch off.
        ("REFRESH", (&250_u64.to_ne_bytes()[..], true)),
        ("RESPONSES", (&[1][..], true)),
        ("WATERMARK", (&(1_u64 << 22).to_ne_bytes()[..], true)),
        ("PER_FLOW", (&settings.per_flow.to_ne_bytes()[..], true)),
        ("AYA_LOG_LEVEL", (&[settings.log_level][..], false)),
    ]))?;
    let maps: Vec<(String, Map, OwnedFd)> = mem::take(&mut object.maps)
        .into_iter()
        .map(|(name, mut map)| {
            let fd = create(&mut map).with_context(|| format!("map {name}"))?;
            Ok((name, map, fd))
        })
        .collect::<Result<_>>()?;
    let text = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_maps(maps.iter().map(|(name, map, fd)| (name.as_str(), fd.as_raw_fd(), map)), &text)?;
    object.relocate_calls(&text)?;

    let mut counts = Vec::new();
    for (name, program) in &object.programs {
        // Programs for drivers are a choice, and an older kernel lacks what they call.
        if !matches!(program.section, ProgramSection::SchedClassifier) {
            continue;
        }
        let function = object.functions.get(&program.function_key()).context("a program without instructions")?;
        let count = load(&function.instructions, &object.license).with_context(|| name.clone())?;
        counts.push((name.clone(), count));
    }
    counts.sort();
    Ok(counts)
}

/// Creates a map; fills and freezes one that stands for a section of constants.
fn create(map: &mut Map) -> io::Result<OwnedFd> {
    let fd = call(bpf_cmd::BPF_MAP_CREATE, |attr| {
        // SAFETY: all zeros is a valid value of the union; this command reads this member.
        let fields = unsafe { &mut attr.__bindgen_anon_1 };
        fields.map_type = map.map_type();
        fields.key_size = map.key_size();
        fields.value_size = map.value_size();
        fields.max_entries = map.max_entries();
        fields.map_flags = map.map_flags();
    })?;
    // SAFETY: the kernel just made it for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    if !map.data().is_empty() {
        let key = 0_u32;
        call(bpf_cmd::BPF_MAP_UPDATE_ELEM, |attr| {
            // SAFETY: as above.
            let fields = unsafe { &mut attr.__bindgen_anon_2 };
            fields.map_fd = fd.as_raw_fd().cast_unsigned();
            fields.key = (&raw const key) as u64;
            fields.__bindgen_anon_1.value = map.data().as_ptr() as u64;
        })?;
    }
    if map.section_kind() == EbpfSectionKind::Rodata {
        call(bpf_cmd::BPF_MAP_FREEZE, |attr| {
            // SAFETY: as above.
            unsafe { &mut attr.__bindgen_anon_2 }.map_fd = fd.as_raw_fd().cast_unsigned();
        })?;
    }
    Ok(fd)
}

/// Loads a program and lets it go again; the instructions that the verifier processed.
fn load(instructions: &[aya_obj::generated::bpf_insn], license: &CStr) -> Result<u64> {
    let mut log = vec![0_u8; LOG_BYTES];
    let mut attempt = |level| {
        log[0] = 0;
        let result = call(bpf_cmd::BPF_PROG_LOAD, |attr| {
            // SAFETY: all zeros is a valid value of the union; this command reads this member.
            let fields = unsafe { &mut attr.__bindgen_anon_3 };
            fields.prog_type = bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS as u32;
            fields.insns = instructions.as_ptr() as u64;
            fields.insn_cnt = instructions.len() as u32;
            fields.license = license.as_ptr() as u64;
            fields.log_level = level;
            fields.log_buf = log.as_mut_ptr() as u64;
            fields.log_size = log.len() as u32;
        });
        let text = log.split(|byte| *byte == 0).next().unwrap_or_default();
        (result, String::from_utf8_lossy(text).into_owned())
    };
    let (result, said) = attempt(LOG_STATS);
    if let Err(error) = result {
        let (_, steps) = attempt(LOG_STEPS);
        let lines: Vec<&str> = steps.lines().collect();
        bail!("{error}\n{}", lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n"));
    }
    // SAFETY: the kernel just made it for us.
    drop(result.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
    // "processed 1234 insns (limit 1000000) max_states_per_insn ..."
    said.lines()
        .find_map(|line| line.strip_prefix("processed ")?.split(' ').next()?.parse().ok())
        .with_context(|| format!("the verifier does not say how many instructions it processed: {said}"))
}

/// bpf(2).
fn call(command: bpf_cmd, fill: impl FnOnce(&mut bpf_attr)) -> io::Result<RawFd> {
    // SAFETY: integers only, of which any may be zero.
    let mut attr: bpf_attr = unsafe { mem::zeroed() };
    fill(&mut attr);
    // SAFETY: the attributes are as large as said, and whatever they point to is borrowed by the caller for longer than
    // the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_long, &raw mut attr, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}
