//! `go-metro top`: a full screen of what is measured, as it is measured.
//!
//! The way of one second: a [`Live`] comes from a daemon in this process, or from a daemon's status socket; [`model`]
//! adds it up; [`app`] is what the user made of the view with the keys of the keyboard; [`screen`] draws both, in the
//! columns that [`columns`] has. The terminal is given back however it ends.

mod app;
mod columns;
mod model;
mod screen;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ratatui::buffer::Cell;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{self as window, EnterAlternateScreen};
use ratatui::layout::Rect;
use ratatui::{DefaultTerminal, TerminalOptions, Viewport};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::daemon::{self, DaemonOptions};
use crate::privileges::{self, Sandbox};
use crate::signals::Held;
use crate::status::Live;
use crate::status::client::{self, AskError};
use crate::terminal::{is_printable, printable};
use crate::threads;
use app::{App, Wish};
pub(crate) use columns::Columns;

/// Longest wait for a key before the rest is looked after.
const TICK: Duration = Duration::from_millis(50);
/// Longest wait for the daemon to take its hooks off.
const DETACH: Duration = Duration::from_secs(2);
/// What a shell reports of a program that SIGHUP ended: 128 and the signal's number.
const HUNG_UP: i32 = 128 + 1;
/// Most columns and lines that are drawn.
const MOST: (u16, u16) = (1000, 500);
/// Seconds that wait for the screen.
const BACKLOG: usize = 4;

/// Where what is shown comes from.
pub(crate) enum From {
    /// A capture of its own.
    Own(Box<DaemonOptions>),
    /// The daemon at this socket.
    Daemon(PathBuf),
}

/// Why it ended by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TopError {
    /// There is no daemon to follow.
    #[error("{0}")]
    Ask(#[from] AskError),
    /// The capture ended.
    #[error("{0}")]
    Agent(String),
    /// The terminal is none, or is gone.
    #[error("cannot draw on this terminal: {0}")]
    Terminal(#[from] io::Error),
}

/// What a thread that provides seconds came to.
type Ended = Result<(), TopError>;

/// Shows, with addresses instead of names if they are wanted and these columns first, until the user has seen enough, a
/// signal comes, or what is shown ends.
///
/// # Errors
///
/// It cannot start, or what is shown failed.
pub(crate) fn run(from: From, shows_addresses: bool, columns: Columns) -> Result<(), TopError> {
    let (sender, seconds) = mpsc::channel(BACKLOG);
    let stop = Arc::new(AtomicBool::new(false));
    // Before there is a thread.
    match &from {
        From::Own(options) => daemon::confine(options),
        From::Daemon(_) => privileges::confine(Sandbox {
            wanted: true,
            writable: &[],
            readable: None,
            may_use_bpf: false,
            may_use_sockets: true,
        }),
    }
    listen(&stop)?;
    let is_own = matches!(from, From::Own(_));
    let (source, label) = match from {
        From::Own(options) => (capture(*options, sender)?, "capturing".to_owned()),
        From::Daemon(socket) => {
            let label = format!("following the daemon at {}", printable(&socket.display().to_string()));
            (follow(&socket, sender)?, label)
        }
    };
    // The way to the daemon's socket may have needed some; a daemon has its own.
    privileges::give_up_all();
    let viewport = Viewport::Fixed(size()?);
    let mut terminal = ratatui::try_init_with_options(TerminalOptions { viewport })?;
    // With options it is not entered, but left all the same.
    execute!(terminal.backend_mut(), EnterAlternateScreen)?;
    let shown = show(&mut terminal, App::new(label, shows_addresses, columns), seconds, &source, &stop);
    // tmux, resized meanwhile, would leave a piece of what is drawn in the shell's lines.
    let _ = terminal.clear();
    // A terminal that is gone cannot be told of it.
    let _ = ratatui::try_restore();
    // What it would complain of when it is dropped, to a standard error that is gone with the terminal.
    std::mem::forget(terminal);
    // The receiver is gone by now: a daemon of ours takes its hooks off and ends. A daemon's next second is not waited
    // for.
    let deadline = Instant::now() + DETACH;
    while is_own && !source.is_finished() && Instant::now() < deadline {
        std::thread::sleep(TICK);
    }
    shown?;
    if source.is_finished() { source.join().unwrap_or(Ok(())) } else { Ok(()) }
}

/// How much of the terminal is drawn on: a size that no screen has is a mistake, and would need gigabytes.
fn size() -> io::Result<Rect> {
    let (columns, lines) = window::size()?;
    Ok(Rect::new(0, 0, columns.min(MOST.0), lines.min(MOST.1)))
}

/// Draws and listens.
fn show(
    terminal: &mut DefaultTerminal,
    mut app: App,
    mut seconds: mpsc::Receiver<Arc<Live>>,
    source: &JoinHandle<Ended>,
    stop: &AtomicBool,
) -> Result<(), TopError> {
    let is_utf8 = crate::terminal::is_utf8();
    let mut area = size()?;
    loop {
        while let Ok(live) = seconds.try_recv() {
            app.add(&live);
        }
        let now = size()?;
        if now != area {
            terminal.resize(now)?;
            area = now;
        }
        terminal.draw(|frame| {
            screen::draw(frame, &mut app);
            // Names are escaped where they come in, so that they can be read. This is for what was overlooked.
            let cells = frame.buffer_mut().content.iter_mut();
            cells.filter(|cell| !is_printable(cell.symbol())).for_each(Cell::reset);
            if !is_utf8 {
                screen::to_ascii(frame.buffer_mut());
            }
        })?;
        if source.is_finished() || stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        if !event::poll(TICK)? {
            continue;
        }
        // A resized terminal is redrawn either way.
        if let Event::Key(key) = event::read()?
            && key.kind != KeyEventKind::Release
            && app.key(key) == Some(Wish::Quit)
        {
            return Ok(());
        }
    }
}

/// A daemon of our own on a thread of its own.
fn capture(mut options: DaemonOptions, sender: mpsc::Sender<Arc<Live>>) -> io::Result<JoinHandle<Ended>> {
    options.watcher = Some(sender);
    let work = move || daemon::run(options, Held::new()).map_err(|error| TopError::Agent(error.to_string()));
    threads::spawn("agent", work)
}

/// A daemon's seconds.
fn follow(socket: &std::path::Path, sender: mpsc::Sender<Arc<Live>>) -> Result<JoinHandle<Ended>, TopError> {
    let seconds = client::watch(socket)?;
    let work = move || {
        for live in seconds {
            let live = live.map_err(|error| TopError::Agent(format!("lost the connection to the daemon: {error}")))?;
            if sender.blocking_send(Arc::new(live)).is_err() {
                return Ok(());
            }
        }
        Err(TopError::Agent("the daemon has ended".to_owned()))
    };
    Ok(threads::spawn("follow", work)?)
}

/// Starts a thread that hears the signals which ask to stop.
fn listen(stop: &Arc<AtomicBool>) -> io::Result<()> {
    let stop = stop.clone();
    threads::spawn("signals", move || hear(&stop))?;
    Ok(())
}

/// Raises the flag at the first signal that asks to stop.
///
/// A terminal that has hung up reads as an endless nothing, in which a wait for a key never ends, and neither does
/// leaving the screen. So nobody is relied upon then, nor where a stop takes longer than one does: a daemon of ours
/// hears of it as SIGTERM and takes its hooks off, and the process ends.
fn hear(stop: &AtomicBool) -> io::Result<()> {
    privileges::give_up_all();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let [mut terminate, mut interrupt, mut hangup] =
            [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?];
        let hung_up = tokio::select! {
            _ = terminate.recv() => false,
            _ = interrupt.recv() => false,
            _ = hangup.recv() => true,
        };
        stop.store(true, Ordering::Relaxed);
        if !hung_up {
            let _ = tokio::time::timeout(2 * DETACH, hangup.recv()).await;
        }
        Ok::<_, io::Error>(())
    })?;
    let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM);
    std::thread::sleep(DETACH);
    std::process::exit(HUNG_UP);
}
