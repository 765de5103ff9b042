//! One thread that measures or two, where more records come than one can take: the daemon itself, with its own
//! classifier and rings.
//!
//! No traffic that two processors can make overruns the daemon, so its programs in the kernel are run on frames
//! (`BPF_PROG_TEST_RUN`), over and over: only the network stack is missing. Generators and daemon share the machine's
//! processors.

use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io, mem};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{ProgramInfo, loaded_programs};
use aya_obj::generated::{bpf_attr, bpf_cmd};
use go_metro_common::names;

use super::{Args, Spread, Table, rounds};
use testing_lab::agent::Agent;
use testing_lab::{Over, Pair};
use testing_support::{build_ebpf, setup};

/// How long records are made.
const TIME: Duration = Duration::from_millis(1000);
/// Flows of each generator, and runs of one's frame before the next's.
const FLOWS: u16 = 512;
const REPEAT: u32 = 32;
/// How many threads measure; one first, as the baseline.
const WORKERS: [u32; 2] = [1, 2];

/// What one run showed, a second.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    made: f64,
    measured: f64,
    lost: f64,
}

pub(super) fn tables(args: &Args) -> Result<Vec<Table>> {
    setup::for_lab()?;
    build_ebpf::ensure()?;
    let binary = testing_support::daemon::release_binary()?;
    let pair = Pair::new()?;
    let head = ["records made by", "workers", "made, M a second", "measured, M a second", "times one worker's", "lost"];
    let mut table = Table::new("workers", &head);
    let number = args.rounds.min(9);
    for (generators, name) in [(1_u16, "one processor"), (2, "both processors")] {
        let mut seen: [Vec<Seen>; WORKERS.len()] = Default::default();
        let measured = rounds(number, WORKERS.len(), |case| {
            let this = run(&pair, &binary, WORKERS[case], generators)?;
            seen[case].push(this);
            Ok(this.measured)
        })?;
        for ((workers, seen), measured) in WORKERS.iter().zip(&seen).zip(&measured) {
            // Without what warmed up.
            let of = |what: fn(&Seen) -> f64| Spread::of(seen.iter().skip(1).map(what));
            table.row([
                name.to_owned(),
                workers.to_string(),
                format!("{:.2}", of(|seen| seen.made / 1e6)),
                format!("{:.2}", of(|seen| seen.measured / 1e6)),
                format!("{:.2}", measured.ratio()),
                format!("{:.0} %", of(|seen| 100.0 * seen.lost / seen.made)),
            ]);
        }
    }
    table.note(format!(
        "Median (quartiles) of {number} rounds of {} ms each; the daemon with its own classifier and rings (8 MiB \
         together), whose program is run on frames of \
         {FLOWS} flows a generator (`BPF_PROG_TEST_RUN`). Generators and daemon share two processors.",
        TIME.as_millis()
    ));
    Ok(vec![table])
}

/// Runs the daemon with so many workers while so many threads make records.
fn run(pair: &Pair, binary: &std::path::Path, workers: u32, generators: u16) -> Result<Seen> {
    let folder = tempfile::tempdir()?;
    let conf = folder.path().join("conf.yaml");
    let text = format!(
        "init_config: {{backend: ebpf, workers: {workers}, status_socket: off, reverse_dns: false}}\n\
         instances: [{{interface: lo, ips: [0.0.0.0/0]}}]\n"
    );
    fs::write(&conf, text)?;
    let there: Vec<u32> = ours().map(|program| program.id()).collect();
    let mut command = pair.a.namespace.command(binary);
    let mut agent = Agent::spawn_command(command.arg("run").arg("-c").arg(&conf).args(["--output", "json"]))?;
    agent.ready()?;
    let new = ours().filter(|program| !there.contains(&program.id()));
    // The one on the hook, where there are two.
    let program = new.max_by_key(|program| program.name_as_str() == Some(names::EGRESS_ETHERNET));
    let program = program.context("the daemon has no program")?;
    let program = program.fd()?;

    let (program, over) = (&program, &AtomicBool::new(false));
    let start = Instant::now();
    // A test run pretends the loopback device of the caller's namespace.
    pair.a.enter(|| {
        thread::scope(|scope| {
            let generators: Vec<_> =
                (0..generators).map(|number| scope.spawn(move || generate(program, number, over))).collect();
            let ended = Over(over);
            thread::sleep(TIME);
            drop(ended);
            generators
                .into_iter()
                .try_for_each(|made| made.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    })?;
    let elapsed = start.elapsed().as_secs_f64();
    let finished = agent.stop()?;
    ensure!(finished.status.success(), "the daemon ended with {}:\n{}", finished.status, finished.stderr.join("\n"));
    let health = finished.stdout.iter().rev().find(|line| line.contains("\"health\"")).context("no account")?;
    let health: serde_json::Value = serde_json::from_str(health)?;
    let count = |name: &str| health["health"][name].as_f64().with_context(|| format!("no {name} in {health}"));
    let (made, measured, lost) = (count("segments")?, count("records")?, count("lost")?);
    Ok(Seen { made: made / elapsed, measured: measured / elapsed, lost: lost / elapsed })
}

/// Those of our programs in the kernel that see what leaves a device with an Ethernet header.
fn ours() -> impl Iterator<Item = ProgramInfo> {
    const OURS: &str = names::EGRESS_ETHERNET;
    let is_ours = |name: &str| name == OURS || name == names::full_program(OURS);
    loaded_programs().filter_map(Result::ok).filter(move |program| program.name_as_str().is_some_and(is_ours))
}

/// Has the program make records of flows of its own until it is over.
fn generate(program: &impl AsFd, number: u16, over: &AtomicBool) -> Result<()> {
    let mut frames: Vec<Vec<u8>> = (0..FLOWS).map(|flow| frame(1024 + number * FLOWS + flow)).collect();
    for sequence in 1_u32.. {
        for frame in &mut frames {
            if over.load(Ordering::Relaxed) {
                return Ok(());
            }
            frame[SEQUENCE..SEQUENCE + 4].copy_from_slice(&sequence.wrapping_mul(100).to_be_bytes());
            test_run(program, frame).context("BPF_PROG_TEST_RUN")?;
        }
    }
    Ok(())
}

/// `BPF_PROG_TEST_RUN` of a program that another process loaded, which the library has no type for.
fn test_run(program: &impl AsFd, frame: &[u8]) -> io::Result<()> {
    // SAFETY: integers only, of which any may be zero.
    let mut attr: bpf_attr = unsafe { mem::zeroed() };
    // SAFETY: all zeros is a valid value of the union; this command reads this member.
    let test = unsafe { &mut attr.test };
    test.prog_fd = program.as_fd().as_raw_fd().cast_unsigned();
    test.data_in = frame.as_ptr() as u64;
    test.data_size_in = frame.len() as u32;
    test.repeat = REPEAT;
    let command = bpf_cmd::BPF_PROG_TEST_RUN as libc::c_long;
    // SAFETY: the attributes are as large as said, and the frame is borrowed for longer than the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attr, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

const SEQUENCE: usize = 14 + 20 + 4;

/// An Ethernet frame with 100 bytes of a connection from this port.
fn frame(port: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0, 0, 140, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 77, 0, 1, 10, 77, 0, 2]);
    frame.extend(port.to_be_bytes());
    frame.extend([1, 187, 0, 0, 0, 0, 0, 0, 0, 1, 0x50, 0x10, 1, 245, 0, 0, 0, 0]);
    frame.extend([0; 100]);
    frame
}
