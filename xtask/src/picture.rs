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
use testing_lab::terminal::Terminal;
use testing_lab::traffic::talk;
use testing_lab::{INTERFACE, Impairment, Lab, Link, Over, Way};
use testing_support::svg::{element, picture};
use testing_support::{daemon, setup, workspace};

/// Size of the terminal.
const SIZE: (u16, u16) = (132, 30);
/// How long the traffic runs before the picture is taken.
const EXPOSURE: Duration = Duration::from_secs(45);
/// The far hosts: last byte of the address, round-trip time in milliseconds, pause between requests in milliseconds.
const FAR: [(u8, u64, u64); 5] = [(2, 1, 5), (3, 12, 10), (4, 28, 15), (5, 84, 20), (6, 172, 60)];
/// Size of a cell of the picture.
const CELL: (f64, f64) = (8.4, 17.0);

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
    std::fs::write(&path, svg(&picture, "go-metro top"))?;
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

/// How a run of characters looks (ECMA-48 section 8.3.117).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Look {
    bold: bool,
    dim: bool,
    reversed: bool,
    colour: Option<u8>,
}

impl Look {
    fn obey(&mut self, parameters: &str) {
        let mut parameters = parameters.split(';').map(|parameter| parameter.parse::<u8>().unwrap_or(0));
        while let Some(parameter) = parameters.next() {
            match parameter {
                // One of 256 colours: `38;5;N`.
                38 => self.colour = parameters.nth(1),
                0 => *self = Self::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                7 => self.reversed = true,
                22 => (self.bold, self.dim) = (false, false),
                27 => self.reversed = false,
                colour @ 30..=37 => self.colour = Some(colour - 30),
                39 => self.colour = None,
                _ => {}
            }
        }
    }

    fn ink(self) -> &'static str {
        match (self.reversed, self.colour, self.dim) {
            (true, ..) => "#1b1f27",
            (_, Some(1 | 9), _) => "#ff6b6b",
            (_, Some(6 | 14), _) => "#56c8d8",
            (_, _, true) => "#8b93a3",
            _ => "#d8dee9",
        }
    }
}

/// A screen with escape sequences as a drawing that needs nothing else.
fn svg(screen: &str, title: &str) -> String {
    let (cell_width, cell_height) = CELL;
    let (width, height) = (f64::from(SIZE.0) * cell_width + 24.0, f64::from(SIZE.1) * cell_height + 52.0);
    let size = (format!("{width:.0}"), format!("{height:.0}"));
    let mut drawing = picture(size.0, size.1).set("role", "img").set("aria-label", title);
    drawing.push(element("rect").set("width", "100%").set("height", "100%").set("rx", 8).set("fill", "#1b1f27"));
    let button = |x: u32, colour| element("circle").set("cx", x).set("cy", 16).set("r", 5).set("fill", colour);
    let buttons = [(18, "#ff6b6b"), (36, "#ffd166"), (54, "#66d19e")].map(|(x, colour)| button(x, colour).to_string());
    drawing.push(buttons.concat());
    let font = "DejaVu Sans Mono, Menlo, Consolas, monospace";
    let mut text = element("g").set("font-family", font).set("font-size", 13.5);
    let heading = element("text").set("x", "50%").set("y", 21).set("fill", "#8b93a3");
    text.push(heading.set("text-anchor", "middle").text(title));
    let mut look = Look::default();
    for (number, line) in screen.lines().enumerate() {
        let top = 32.0 + number as f64 * cell_height;
        let mut column = 0;
        let mut pieces = line.split("\x1b[");
        let mut draw = |run: &str, look: Look| {
            let count = run.chars().count();
            let left = 12.0 + column as f64 * cell_width;
            let wide = count as f64 * cell_width;
            column += count;
            let [x, y, length] = [left, top, wide].map(|number| format!("{number:.1}"));
            if look.reversed {
                let ground = element("rect").set("x", &x).set("y", y).set("width", &length);
                text.push(ground.set("height", cell_height).set("fill", "#d8dee9"));
            }
            if run.trim().is_empty() {
                return;
            }
            let word = element("text").set("x", x).set("y", format_args!("{:.1}", top + 13.0));
            let word = word.set("textLength", length).set("lengthAdjust", "spacingAndGlyphs").set("fill", look.ink());
            let word = if look.bold { word.set("font-weight", "bold") } else { word };
            // Blanks that no viewer folds.
            text.push(word.text(run.replace(' ', "\u{a0}")));
        };
        draw(pieces.next().unwrap_or_default(), look);
        for piece in pieces {
            let (parameters, text) = piece.split_once('m').unwrap_or((piece, ""));
            look.obey(parameters);
            draw(text, look);
        }
    }
    drawing.push(text);
    format!("{drawing}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_weights_are_drawn_and_text_is_escaped() {
        let drawing =
            svg("plain \x1b[1mbold\x1b[0m\x1b[36m<&\x1b[39m\x1b[38;5;6mcyan\x1b[0m\n\x1b[7mchosen\x1b[0m\n", "t");
        for part in [
            "fill=\"#d8dee9\">plain\u{a0}</text>",
            "fill=\"#d8dee9\" font-weight=\"bold\">bold</text>",
            "fill=\"#56c8d8\">&lt;&amp;</text>",
            "fill=\"#56c8d8\">cyan</text>",
            "fill=\"#1b1f27\">chosen</text>",
        ] {
            assert!(drawing.contains(part), "{part} is not in {drawing}");
        }
    }
}
