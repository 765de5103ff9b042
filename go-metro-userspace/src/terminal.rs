//! Standard output and standard error, and text that others chose. Everything this program prints goes through here:
//! the macros that panic when a write fails are denied by lint in this crate, and so are the standard library's own two
//! streams outside of this file and of the log, which escapes each of its lines itself. What is given out is a
//! [`Printable`], which escapes all that passes.

#![allow(clippy::disallowed_methods)]

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use unicode_width::UnicodeWidthChar;

/// Longest wait for a reader of standard error before a message to it is given up.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest time of one poll(2), which counts milliseconds in 32 bits.
const LONGEST_POLL: Duration = Duration::from_secs(3600);
/// A pipe that polls as writable takes this much without blocking (PIPE_BUF, pipe(7)).
const PIPE_BUF: usize = 4096;

/// How a character is spelled that would do something to a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// As [`printable_lines`] has it.
    Text,
    /// As [`printable_json`] has it.
    Json,
}

/// A writer that lets nothing pass that does something to a terminal, wherever that text came from. Bytes that are not
/// UTF-8 become U+FFFD.
#[derive(Debug)]
pub struct Printable<W> {
    to: W,
    spelling: Spelling,
    /// The first bytes of a character whose others have not been written yet.
    begun: Vec<u8>,
}

impl<W: Write> Printable<W> {
    /// Writes to `to`.
    pub fn new(to: W, spelling: Spelling) -> Self {
        Self { to, spelling, begun: Vec::new() }
    }

    /// Draws these lines over what was drawn last, from the top left corner of a terminal.
    ///
    /// # Errors
    ///
    /// What writing fails with.
    pub fn redraw<'a>(&mut self, lines: impl Iterator<Item = &'a str>) -> io::Result<()> {
        let lines: String = lines.map(|line| format!("{}\x1b[K\n", printable(line))).collect();
        self.to.write_all(format!("\x1b[H{lines}\x1b[J").as_bytes())
    }
}

impl<W: Write> Write for Printable<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.begun.is_empty() && bytes.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n')) {
            return self.to.write(bytes);
        }
        let mut all = std::mem::take(&mut self.begun);
        all.extend_from_slice(bytes);
        self.begun = all.split_off(all.len() - unfinished(&all));
        let text = String::from_utf8_lossy(&all);
        let safe = match self.spelling {
            Spelling::Text => printable_lines(&text),
            Spelling::Json => printable_json(&text),
        };
        self.to.write_all(safe.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// How many bytes at the end are the beginning of a character (RFC 3629 section 3).
fn unfinished(bytes: &[u8]) -> usize {
    for (count, byte) in (1..).zip(bytes.iter().rev().take(3)) {
        let len = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        return if len > count { count } else { 0 };
    }
    0
}

/// Whether standard output is a terminal.
pub fn is_stdout() -> bool {
    io::stdout().is_terminal()
}

/// Columns of the terminal that standard output is, if it is one.
pub fn stdout_columns() -> Option<usize> {
    terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0))
}

/// Whether standard error is a terminal.
pub fn is_stderr() -> bool {
    io::stderr().is_terminal()
}

/// Whether the user of a terminal wants colours on it (<https://no-color.org>), and it can show them.
pub fn wants_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && !is_dumb()
}

/// Prints to standard output, now.
///
/// # Errors
///
/// What writing fails with: a full disk, a closed pipe, a terminal that hung up.
pub fn print(text: &str, spelling: Spelling) -> io::Result<()> {
    let mut out = stdout(spelling);
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Standard output for a verb that has nothing else to do than wait for its reader.
pub fn stdout(spelling: Spelling) -> Printable<io::StdoutLock<'static>> {
    Printable::new(io::stdout().lock(), spelling)
}

/// Standard output of a daemon's threads, which may wait for its reader.
pub fn shared_stdout(spelling: Spelling) -> Printable<Box<dyn Write + Send>> {
    Printable::new(Box::new(Out), spelling)
}

/// Each write is whole, and one that fails within a line leaves an end of that line before the next.
#[derive(Clone, Copy, Debug)]
struct Out;

/// Whether the last write ended within a line.
static TORN: AtomicBool = AtomicBool::new(false);

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // One at a time.
        let stdout = io::stdout().lock();
        let forever = Instant::now() + Duration::from_secs(u64::from(u32::MAX));
        if TORN.swap(false, Ordering::Relaxed) {
            write_until(stdout.as_fd(), &mut &b"\n"[..], forever)
                .inspect_err(|_| TORN.store(true, Ordering::Relaxed))?;
        }
        let mut left = bytes;
        let written = write_until(stdout.as_fd(), &mut left, forever);
        let begun = &bytes[..bytes.len() - left.len()];
        TORN.store(!left.is_empty() && begun.last().is_some_and(|last| *last != b'\n'), Ordering::Relaxed);
        written.map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard output for what is drawn on a terminal: as [`shared_stdout`], and in ASCII where the locale does not write
/// UTF-8.
pub fn screen() -> Printable<Box<dyn Write + Send>> {
    let to: Box<dyn Write + Send> = if is_utf8() { Box::new(Out) } else { Box::new(Ascii(Out)) };
    Printable::new(to, Spelling::Text)
}

/// Writes stand-ins for what is not ASCII; each write is whole characters.
struct Ascii<W>(W);

impl<W: Write> Write for Ascii<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(ascii(&String::from_utf8_lossy(bytes)).as_bytes()).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Whether standard output is a terminal that can be drawn on.
pub fn is_screen() -> bool {
    is_stdout() && !is_dumb()
}

/// Whether terminals here obey no escape sequences, as `TERM=dumb` says.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Whether the locale writes UTF-8. Without one it is POSIX's, which does not.
#[must_use]
pub fn is_utf8() -> bool {
    writes_utf8(&|name| std::env::var(name).ok())
}

fn writes_utf8(environment: &dyn Fn(&str) -> Option<String>) -> bool {
    // In the order of locale(7); an empty one is as none.
    let set = |name: &&str| environment(name).filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(set).unwrap_or_default().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// The text in ASCII, as wide as it was: what is drawn has a stand-in, a letter of a name is `?`.
#[must_use]
pub fn ascii(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return text.into();
    }
    let stand_in = |c: char| match c {
        c if c.is_ascii() => c,
        '…' => '~',
        '▲' | '↑' => '^',
        '▼' | '↓' => 'v',
        '←' => '<',
        '→' => '>',
        '–' | '─' => '-',
        '│' => '|',
        '┌' | '┐' | '└' | '┘' => '+',
        // A bar is rounded to a whole cell; one within a line has a height.
        '▏' | '▎' | '▍' => ' ',
        '▌' | '▋' | '▊' | '▉' | '█' => '#',
        '▁' => '_',
        '▂' => '.',
        '▃' => ':',
        '▄' => '-',
        '▅' => '=',
        '▆' => '+',
        '▇' => '*',
        _ => '?',
    };
    let wide = |c: char| UnicodeWidthChar::width(c).unwrap_or(0);
    text.chars().flat_map(|c| std::iter::repeat_n(stand_in(c), wide(c).max(usize::from(c.is_ascii())))).collect()
}

/// Prints a message to standard error. What cannot be written within a second is dropped: there is nobody to say so to.
pub fn complain(message: &str) {
    let _ = write_within(io::stderr().as_fd(), printable_lines(message).as_bytes(), PATIENCE);
}

/// As [`print()`], of text that has colours where they are wanted; without them where it has anything in it that does
/// more to a terminal.
///
/// # Errors
///
/// As [`print()`].
pub fn print_coloured(plain: &str, coloured: &str) -> io::Result<()> {
    if !(is_stdout() && wants_colours() && is_printable(plain)) {
        return print(plain, Spelling::Text);
    }
    let mut out = io::stdout().lock();
    out.write_all(coloured.as_bytes())?;
    out.flush()
}

/// As [`complain`], of text that has colours where they are wanted.
pub fn complain_coloured(plain: &str, coloured: &str) {
    if is_stderr() && wants_colours() && is_printable(plain) {
        let _ = write_within(io::stderr().as_fd(), coloured.as_bytes(), PATIENCE);
    } else {
        complain(plain);
    }
}

/// Writes all bytes, waiting for the reader at most so long altogether.
///
/// # Errors
///
/// What writing fails with; [`io::ErrorKind::TimedOut`] if the reader does not read.
pub fn write_within(to: impl AsFd, mut bytes: &[u8], patience: Duration) -> io::Result<()> {
    write_until(to.as_fd(), &mut bytes, Instant::now() + patience)
}

/// Writes until the deadline; what is left is left in `bytes`.
fn write_until(to: BorrowedFd<'_>, bytes: &mut &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left.min(LONGEST_POLL)).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(to, PollFlags::POLLOUT)], timeout) {
            Ok(0) if left <= LONGEST_POLL => return Err(io::ErrorKind::TimedOut.into()),
            Ok(0) => continue,
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        match nix::unistd::write(to, &bytes[..bytes.len().min(PIPE_BUF)]) {
            Ok(written) => *bytes = &bytes[written..],
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Text from outside (names, tags, paths, documents, server answers) as a terminal may show it: what moves the cursor,
/// starts a control sequence, reverses or hides what stands beside it is written as its escape, `\u{1b}`.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |c, into| into.extend(c.escape_default()))
}

/// As [`printable`], but keeps the ends of lines and tabs: for messages that have several lines.
#[must_use]
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    if is_printable(text) {
        return text.into();
    }
    let parts = text.split_inclusive(['\n', '\t']).flat_map(|part| {
        let end = part.len() - usize::from(part.ends_with(['\n', '\t']));
        [printable(&part[..end]), part[end..].into()]
    });
    parts.collect::<String>().into()
}

/// Whether [`printable_lines`] would change nothing.
#[must_use]
pub fn is_printable(text: &str) -> bool {
    !text.chars().any(|c| !matches!(c, '\n' | '\t') && is_active(c))
}

/// JSON in which what [`printable`] would escape is escaped as JSON has it: another spelling of the same document.
#[must_use]
pub fn printable_json(json: &str) -> Cow<'_, str> {
    if is_printable(json) {
        return json.into();
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if c == '\r' {
            // It can only be between the tokens (RFC 8259 section 2).
            escaped.push(' ');
        } else if !matches!(c, '\n' | '\t') && is_active(c) {
            // A surrogate pair beyond the first plane (RFC 8259 section 7).
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| escaped.push_str(&format!("\\u{unit:04x}")));
        } else {
            escaped.push(c);
        }
    }
    escaped.into()
}

/// One line of text: ends of lines become spaces, the rest is as in [`printable`].
#[must_use]
pub fn one_line(text: &str) -> String {
    let parts = text.split(['\n', '\r']).map(str::trim_end).filter(|part| !part.is_empty());
    parts.map(printable).collect::<Vec<_>>().join(" ")
}

fn escaped(text: &str, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.chars().any(is_active) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_active(c) {
            escape(c, &mut shown);
        } else {
            shown.push(c);
        }
    }
    shown.into()
}

/// Whether a character does something to a terminal or to the text around it instead of being seen: control characters,
/// ends of lines, bidirectional controls (Unicode Standard Annex 9, section 2) and characters without width or shape.
fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_active_is_escaped_and_the_rest_is_left_alone() {
        assert!(matches!(printable("eth0 zürich 東京"), Cow::Borrowed(_)));
        for (foreign, shown) in [
            ("\x1b[2Jx", "\\u{1b}[2Jx"),
            ("\x1b]0;title\x07", "\\u{1b}]0;title\\u{7}"),
            ("a\rb\nc\td", "a\\rb\\nc\\td"),
            ("\u{202e}gpj.exe", "\\u{202e}gpj.exe"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\u{200b}b\u{2066}", "a\\u{200b}b\\u{2066}"),
        ] {
            assert_eq!(printable(foreign), shown);
        }
        assert_eq!(printable_lines("one\n\x1btwo\n\tthree\r\n"), "one\n\\u{1b}two\n\tthree\\r\n");
        assert_eq!(one_line("one\r\ntwo\x1b[m\n"), "one two\\u{1b}[m");
    }

    #[test]
    fn however_text_is_cut_into_writes_the_same_comes_out_and_nothing_active() {
        let text = "eth0 zürich 東京 \u{1f600}\n\x1b[2J\r\u{202e}\u{9b}\u{e0041}\tend\n".as_bytes();
        let text = [text, b"\xff\xe6\x9d cut \xf0\x9f\n"].concat();
        let written = |parts: &mut dyn Iterator<Item = &[u8]>| {
            let mut out = Printable::new(Vec::new(), Spelling::Text);
            parts.for_each(|part| out.write_all(part).unwrap());
            String::from_utf8(out.to).unwrap()
        };
        let whole = written(&mut std::iter::once(&text[..]));
        assert_eq!(
            whole,
            "eth0 zürich 東京 \u{1f600}\n\\u{1b}[2J\\r\\u{202e}\\u{9b}\\u{e0041}\tend\n\u{fffd}\u{fffd} cut \u{fffd}\n"
        );
        for size in 1..=text.len() {
            assert_eq!(written(&mut text.chunks(size)), whole, "{size} bytes at a time");
        }
        let mut screen = Printable::new(Vec::new(), Spelling::Text);
        screen.redraw(["a\nb", "\x1b[2J"].into_iter()).unwrap();
        assert_eq!(String::from_utf8(screen.to).unwrap(), "\x1b[Ha\\nb\x1b[K\n\\u{1b}[2J\x1b[K\n\x1b[J");
    }

    #[test]
    fn a_locale_that_does_not_write_utf_8_gets_stand_ins_of_the_same_width() {
        let of = |set: &[(&str, &str)]| {
            let set: Vec<(String, String)> = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            writes_utf8(&|name| set.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()))
        };
        assert!(of(&[("LANG", "de_CH.UTF-8")]) && of(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8")]));
        assert!(!of(&[]) && !of(&[("LANG", "C")]) && !of(&[("LANG", "C.UTF-8"), ("LC_ALL", "POSIX")]));
        assert_eq!(ascii("2001:…c:1 ▼p95 ██▌ 東x\n\x1b[H"), "2001:~c:1 vp95 ### ??x\n\x1b[H");
        let mut out = Vec::new();
        Ascii(&mut out).write_all("a…b".as_bytes()).unwrap();
        assert_eq!(out, b"a~b");
    }

    #[test]
    fn json_stays_the_same_document() {
        let document = serde_json::json!({"name": "\u{202e}a\u{9b}b\u{e0041}", "n": 1});
        let text = serde_json::to_string_pretty(&document).unwrap().replace('\n', "\r\n");
        let shown = printable_json(&text);
        assert!(shown.is_ascii(), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), document);
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_given_up_in_time_and_a_closed_one_at_once() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let before = Instant::now();
        let error = write_within(&writer, &[b'x'; 1 << 20], Duration::from_millis(100)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(before.elapsed() < Duration::from_secs(5));
        drop(reader);
        let error = write_within(&writer, b"x", Duration::from_secs(60)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
