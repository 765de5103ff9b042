//! `cargo xtask picture`: docs/top.svg, the screen of a real `go-metro top` on a real terminal, in the lab; with
//! `--web` docs/web.webp, the page in a real browser.

mod web;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use testing_lab::agent::BINARY_VARIABLE;
use testing_lab::drawing::svg;
use testing_lab::terminal::Terminal;
use testing_lab::traffic::talk;
use testing_lab::{INTERFACE, Impairment, Lab, Link, Over, Way};
use testing_support::{daemon, setup, workspace};

/// Size of the terminal.
const SIZE: (u16, u16) = (132, 30);
/// How long the traffic runs before the picture is taken.
const EXPOSURE: Duration = Duration::from_secs(45);
/// The far hosts: last byte of the address, round-trip time in milliseconds, pause between requests in milliseconds.
const FAR: [(u8, u64, u64); 5] = [(2, 1, 5), (3, 12, 10), (4, 28, 15), (5, 84, 20), (6, 172, 60)];

/// Arguments of `picture`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The page in a browser, instead of the screen of a terminal
    #[arg(long)]
    web: bool,
}

/// Takes the picture.
///
/// # Errors
///
/// No lab, no terminal or browser, no traffic.
pub fn main(args: &Args) -> Result<()> {
    setup::for_lab()?;
    if args.web {
        setup::for_browser()?;
    }
    let named = std::env::var_os(BINARY_VARIABLE).map(PathBuf::from);
    let binary = named.map_or_else(daemon::release_binary, Ok)?;
    let lab = Lab::new(Link::Veth)?;
    for (last, ..) in &FAR[1..] {
        lab.b.add_address(address(*last))?;
    }
    if args.web {
        return web::main(&lab, &binary);
    }
    let terminal = Terminal::start(
        &lab.a,
        SIZE,
        &format!("{} top --interface {INTERFACE}", workspace::quoted(binary.as_os_str())),
    )?;
    terminal.wait_for(Duration::from_secs(30), |screen| screen.contains("ebpf on") || screen.contains("pcap on"))?;
    let stop = AtomicBool::new(false);
    let picture = thread::scope(|scope| {
        for (last, _, pause) in FAR {
            let (lab, stop) = (&lab, &stop);
            scope.spawn(move || talk(lab, address(last).into(), Duration::from_millis(pause), stop));
        }
        let _over = Over(&stop);
        expose(&lab, |_| 0.0);
        let pressed = terminal.press(&["Down", "Down"]);
        thread::sleep(Duration::from_secs(2));
        pressed.and_then(|()| terminal.coloured_screen())
    })?;
    let path = workspace::root().join("docs/top.svg");
    std::fs::create_dir_all(path.parent().context("no folder")?)?;
    std::fs::write(&path, svg(&picture, SIZE, "go-metro top"))?;
    println!("{}", path.display());
    Ok(())
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, last)
}

/// Lets the traffic run. Queues come and go on a real path; here its delay does, and frames are lost as `loss` says of
/// each half second.
fn expose(lab: &Lab, loss: impl Fn(u64) -> f64) {
    let path = |extra: u64, loss: f64| {
        let each = FAR
            .iter()
            .map(|(last, rtt, _)| (address(*last).into(), Duration::from_micros(rtt * 500 + extra * rtt * 4)));
        Impairment { delay_of: each.collect(), loss, ..Impairment::default() }
    };
    for step in 0..EXPOSURE.as_millis() as u64 / 500 {
        let extra = [0, 2, 5, 9, 14, 8, 3, 1, 0, 0, 1, 4][(step / 2 % 12) as usize];
        Way::BOTH.into_iter().for_each(|way| lab.path().impair(way, path(extra, loss(step))));
        thread::sleep(Duration::from_millis(500));
    }
}
