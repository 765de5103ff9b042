//! `go-metro read` on a large capture from the page cache, against tcpdump with the same filter, and tshark.

mod capture;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;

use super::{Args, Table, rounds};
use testing_support::workspace::{run, shown};
use testing_support::{build_ebpf, setup};

/// Packets in the capture.
const PACKETS: u64 = 5_000_000;
/// Packets for tshark, whose time and memory grow faster than the file.
const SLICE: u64 = 200_000;
/// Changes with what [`capture`] writes.
const VERSION: u32 = 2;

/// One thing to measure.
struct Case {
    name: &'static str,
    command: Command,
    packets: u64,
    bytes: u64,
    /// Resident memory at most, in bytes.
    memory: u64,
}

impl Case {
    fn new(name: &'static str, program: &Path, arguments: &[&str], file: &Path, packets: u64) -> Result<Self> {
        let mut command = Command::new(program);
        let file_name = file.to_string_lossy();
        command.args(arguments.iter().map(|argument| if *argument == "FILE" { &*file_name } else { argument }));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { name, command, packets, bytes: fs::metadata(file)?.len(), memory: 0 })
    }

    /// Runs it once; nanoseconds a packet.
    fn run(&mut self) -> Result<f64> {
        let start = Instant::now();
        let child = self.command.spawn().with_context(|| format!("cannot run `{}`", shown(&self.command)))?;
        let memory = wait(child.id())?;
        let nanoseconds = start.elapsed().as_secs_f64() * 1e9;
        let memory = memory.with_context(|| format!("`{}` failed", shown(&self.command)))?;
        self.memory = self.memory.max(memory);
        Ok(nanoseconds / self.packets as f64)
    }
}

pub(super) fn tables(args: &Args) -> Result<Vec<Table>> {
    setup::for_test()?;
    build_ebpf::ensure()?;
    let ours = testing_support::daemon::release_binary()?;
    let (file, slice) = (capture_of(PACKETS)?, capture_of(SLICE)?);
    let next = made_once(&file.with_extension("pcapng"), |to| {
        run(Command::new("editcap").args(["-F", "pcapng"]).arg(&file).arg(to))
    })?;
    let zipped = made_once(&file.with_extension("pcap.gz"), |to| {
        run(Command::new("gzip").arg("-c").arg(&file).stdout(fs::File::create(to)?))
    })?;

    let (tcpdump, tshark) = (Path::new("tcpdump"), Path::new("tshark"));
    let mut cases = [
        Case::new(
            "`tcpdump -r FILE -w /dev/null tcp`",
            tcpdump,
            &["-r", "FILE", "-w", "/dev/null", "tcp"],
            &file,
            PACKETS,
        )?,
        Case::new("`go-metro read --threads 1 FILE`", &ours, &["read", "--threads", "1", "FILE"], &file, PACKETS)?,
        Case::new("`go-metro read FILE`, on all processors", &ours, &["read", "FILE"], &file, PACKETS)?,
        Case::new("the same, `--local 10.0.0.0/8`", &ours, &["read", "FILE", "--local", "10.0.0.0/8"], &file, PACKETS)?,
        Case::new("the same, as pcapng", &ours, &["read", "FILE", "--local", "10.0.0.0/8"], &next, PACKETS)?,
        Case::new("the same, gzipped", &ours, &["read", "FILE", "--local", "10.0.0.0/8"], &zipped, PACKETS)?,
        Case::new(
            "the same, its first 200,000 packets",
            &ours,
            &["read", "FILE", "--local", "10.0.0.0/8"],
            &slice,
            SLICE,
        )?,
        Case::new(
            "`tshark -r FILE -Y tcp.analysis.ack_rtt`, those",
            tshark,
            &["-r", "FILE", "-Y", "tcp.analysis.ack_rtt"],
            &slice,
            SLICE,
        )?,
    ];
    let measured = rounds(args.rounds.min(5), cases.len(), |case| cases[case].run())?;

    let mut table = Table::new("files", &["", "M packets/s", "MB/s", "times tcpdump's time", "MiB resident"]);
    for (case, measured) in cases.iter().zip(&measured) {
        let nanoseconds = measured.value().median;
        table.row([
            case.name.to_owned(),
            format!("{:.2}", 1e3 / nanoseconds),
            format!("{:.0}", case.bytes as f64 / case.packets as f64 / nanoseconds * 1e3),
            format!("{:.2}", measured.ratio()),
            format!("{:.0}", case.memory as f64 / f64::from(1 << 20)),
        ]);
    }
    table.note(format!(
        "Wall-clock time of whole processes, median (quartiles) of {} rounds; {PACKETS} packets, at most 96 bytes of \
         each kept, {} MB, from the page \
         cache; about 20,000 connections at a time, requests and answers, downloads, uploads.",
        args.rounds.min(5),
        fs::metadata(&file)?.len() / 1_000_000,
    ));
    Ok(vec![table])
}

/// The capture of so many packets; made where it is not there.
fn capture_of(packets: u64) -> Result<PathBuf> {
    let folder = testing_support::workspace::target().join("bench");
    fs::create_dir_all(&folder)?;
    made_once(&folder.join(format!("{packets}-v{VERSION}.pcap")), |to| Ok(capture::write(to, packets)?))
}

/// A file, made by `make` under another name so that half a file is never taken for one; read once, so that it is in
/// the page cache.
fn made_once(path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    if !path.exists() {
        eprintln!("making {}", path.display());
        let unfinished = path.with_extension("unfinished");
        make(&unfinished)?;
        fs::rename(&unfinished, path)?;
    }
    let read = std::io::copy(&mut fs::File::open(path)?, &mut std::io::sink())?;
    ensure!(read > 0, "{} is empty", path.display());
    Ok(path.to_owned())
}

/// Waits for a child and says how much memory it had at most, in bytes; `None` if it failed.
fn wait(pid: u32) -> Result<Option<u64>> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    let pid = libc::pid_t::try_from(pid)?;
    // SAFETY: a child of ours that nobody else waits for; both pointers are to places of the right type.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) };
    Errno::result(waited).context("wait4(2)")?;
    // SAFETY: zeroes are a valid value, and wait4 has written one.
    let kibibytes = unsafe { usage.assume_init() }.ru_maxrss;
    Ok((status == 0).then_some(u64::try_from(kibibytes)? * 1024))
}
