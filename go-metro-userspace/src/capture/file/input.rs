//! The bytes of a capture file, decompressed if need be.
//!
//! Compressed streams and plain captures may be appended to one another in any order. Where a plain one ends is known
//! to who reads it alone, who gives back what it read of the next ([`Input::take_back`]). What a compressed stream gave
//! before it broke is used; the error comes after it.

use std::fs::File;
use std::io::{self, BufRead, Error, ErrorKind, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};

use flate2::bufread::GzDecoder;
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

use super::{pcap, reader};
use crate::threads;

/// What is read of a compressed file at once.
const CHUNK: usize = 1 << 16;

/// First bytes of gzip (RFC 1952 section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// First bytes of a Zstandard frame (RFC 8878 section 3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Skippable frames of Zstandard and LZ4 begin with one of sixteen numbers (RFC 8878 section 3.1.2).
const SKIPPABLE: ([u8; 3], u8) = ([0x2a, 0x4d, 0x18], 0x50);
/// First bytes of an LZ4 frame, and of one in the legacy format (LZ4 Frame Format Description, sections "General
/// structure" and "Legacy frame").
const LZ4: [[u8; 4]; 2] = [[0x04, 0x22, 0x4d, 0x18], [0x02, 0x21, 0x4c, 0x18]];
/// Compressed in a way that is not read, and what decompresses it.
const OTHERS: [(&[u8], &str); 2] = [(&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz"), (b"BZh", "bzip2")];

/// How a file is compressed, by its first bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
    Lz4,
}

impl Compression {
    fn of(head: &[u8]) -> Self {
        let skippable = head.len() >= 4 && head[1..4] == SKIPPABLE.0 && head[0] & 0xf0 == SKIPPABLE.1;
        if head.starts_with(&GZIP) {
            Self::Gzip
        } else if head.starts_with(&ZSTD) || skippable {
            Self::Zstd
        } else if LZ4.iter().any(|magic| head.starts_with(magic)) {
            Self::Lz4
        } else {
            Self::None
        }
    }
}

/// Whether a compressed stream begins here, of a kind that is read or not.
pub(super) fn is_compressed(bytes: &[u8]) -> bool {
    Compression::of(bytes) != Compression::None || OTHERS.iter().any(|(magic, _)| bytes.starts_with(magic))
}

/// Opens a file, or standard input for `-`, through what `through` makes of it.
///
/// # Errors
///
/// What the system returns, or that the file is compressed in a way that is not read.
pub(super) fn open(path: &Path, through: impl FnOnce(File) -> Box<dyn Read + Send>) -> io::Result<Input> {
    let inner: Box<dyn Read + Send> = match path.to_str() {
        Some("-") => Box::new(io::stdin()),
        _ => through(File::open(path)?),
    };
    let raw = Raw { inner, buffer: Vec::new(), at: 0 };
    let name = path.display().to_string();
    let mut input = Input { part: Part::Next(raw), before: None, plain: 0, decompresses_beside: false, name };
    input.go_on()?;
    Ok(input)
}

/// The bytes of a file as they are stored.
struct Raw {
    inner: Box<dyn Read + Send>,
    /// What was read and not used yet is `buffer[at..]`.
    buffer: Vec<u8>,
    at: usize,
}

impl Raw {
    /// The next `count` bytes, or as many as there are.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.buffer.len() - self.at < count {
            let kept = self.buffer.len();
            self.buffer.resize(kept + CHUNK, 0);
            let read = self.inner.read(&mut self.buffer[kept..]);
            self.buffer.truncate(kept + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => break,
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
        let rest = &self.buffer[self.at..];
        Ok(&rest[..rest.len().min(count)])
    }

    /// Puts bytes back, which come next.
    fn unread(&mut self, bytes: &[u8]) {
        self.buffer.splice(..self.at, bytes.iter().copied());
        self.at = 0;
    }
}

impl Read for Raw {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.buffer.len() {
            return self.inner.read(into);
        }
        let count = (&self.buffer[self.at..]).read(into)?;
        self.at += count;
        Ok(count)
    }
}

impl BufRead for Raw {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.buffer.len() {
            (self.at, self.buffer) = (0, std::mem::take(&mut self.buffer));
            self.buffer.clear();
            self.peek(1)?;
        }
        Ok(&self.buffer[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

/// A file's bytes, decompressed if need be: streams of any kind and plain captures, one after the other.
pub(super) struct Input {
    part: Part,
    /// How the part before was compressed; None where it was not, or this is the first.
    before: Option<&'static str>,
    /// Bytes that came out since the last part that is not compressed began.
    plain: usize,
    /// Whether a thread of its own decompresses, if there can be one.
    decompresses_beside: bool,
    /// What the file is called.
    name: String,
}

/// What is read now.
enum Part {
    /// What comes next has not been looked at.
    Next(Raw),
    Plain(Raw),
    Gzip(Box<GzDecoder<Raw>>),
    Zstd(Box<Zstd>),
    Lz4(Box<Lz4>),
    /// One of these three, decompressed on a thread of its own.
    Beside(Beside),
    /// Nothing: an error ended it.
    Broken,
}

impl Part {
    /// What comes out of a compressed stream; nothing of what is none.
    fn decompress(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.read(into).map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => cut_short("gzip"),
                _ => damaged("gzip", &error),
            }),
            Self::Zstd(zstd) => zstd.read(into),
            Self::Lz4(lz4) => lz4.read(into),
            Self::Next(_) | Self::Plain(_) | Self::Beside(_) | Self::Broken => Ok(0),
        }
    }

    /// The same on a thread of its own, if it is compressed and there can be one.
    fn beside(self) -> Self {
        if matches!(self, Self::Gzip(_) | Self::Zstd(_) | Self::Lz4(_)) { Beside::start(self) } else { self }
    }
}

impl Input {
    /// Decompresses on a thread of its own from now on; whether there is anything to decompress now.
    pub(super) fn decompress_beside(&mut self) -> bool {
        self.decompresses_beside = true;
        self.part = std::mem::replace(&mut self.part, Part::Broken).beside();
        matches!(self.part, Part::Beside(_))
    }

    /// Goes on with what comes next in the file; whether anything does.
    fn go_on(&mut self) -> io::Result<bool> {
        let mut raw = match std::mem::replace(&mut self.part, Part::Broken) {
            Part::Next(raw) | Part::Plain(raw) => raw,
            Part::Gzip(decoder) => decoder.into_inner(),
            Part::Zstd(zstd) => zstd.raw,
            Part::Lz4(lz4) => lz4.decoder.into_inner().raw,
            Part::Beside(_) | Part::Broken => return Ok(false),
        };
        // A tape's block is filled up with zeros.
        while self.before.is_some() && raw.peek(1)? == [0] {
            let zeros = raw.fill_buf()?.iter().take_while(|byte| **byte == 0).count();
            raw.consume(zeros);
        }
        let head = raw.peek(6)?;
        if let Some((_, tool)) = OTHERS.iter().find(|(magic, _)| head.starts_with(magic)) {
            let name = &self.name;
            return Err(Error::other(format!("compressed with {tool}; use `{tool} -dc {name} | go-metro read -`")));
        }
        let (compression, legacy) = (Compression::of(head), head.starts_with(&LZ4[1]));
        if let Some(format) = self.before
            && compression == Compression::None
        {
            let head = raw.peek(pcap::HEADER)?;
            if !head.is_empty() && !reader::is_capture(head) {
                let said = format!("what follows the {format} stream is not a capture");
                return Err(Error::new(ErrorKind::InvalidData, said));
            }
        }
        let is_some = !raw.peek(1)?.is_empty();
        let (part, format) = match compression {
            Compression::None => (Part::Plain(raw), None),
            Compression::Gzip => (Part::Gzip(Box::new(GzDecoder::new(raw))), Some("gzip")),
            Compression::Zstd => {
                (Part::Zstd(Box::new(Zstd { raw, decoder: FrameDecoder::new(), in_frame: false })), Some("zstd"))
            }
            Compression::Lz4 => {
                let watched = Watched { raw, ran_out: false, legacy, has_begun: false };
                (Part::Lz4(Box::new(Lz4 { decoder: lz4_flex::frame::FrameDecoder::new(watched) })), Some("lz4"))
            }
        };
        self.part = if self.decompresses_beside { part.beside() } else { part };
        (self.before, self.plain) = (format, 0);
        Ok(is_some)
    }

    /// Takes back the last bytes that came out, which a compressed stream begins with. Whether they were stored so: a
    /// stream within a compressed one is not decompressed.
    pub(super) fn take_back(&mut self, rest: &[u8]) -> bool {
        match &mut self.part {
            Part::Plain(raw) if rest.len() <= self.plain => raw.unread(rest),
            _ => return false,
        }
        let Part::Plain(raw) = std::mem::replace(&mut self.part, Part::Broken) else { return false };
        self.part = Part::Next(raw);
        true
    }
}

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = match &mut self.part {
                Part::Plain(raw) => {
                    let count = raw.read(into)?;
                    self.plain += count;
                    return Ok(count);
                }
                Part::Beside(beside) => match beside.read(into) {
                    Ok(count) => count,
                    Err(Over { part, why }) => {
                        self.part = part;
                        why.map_or(Ok(()), Err)?;
                        0
                    }
                },
                Part::Broken => return Ok(0),
                part => part.decompress(into)?,
            };
            if count > 0 || into.is_empty() {
                return Ok(count);
            }
            if !self.go_on()? {
                return Ok(0);
            }
        }
    }
}

/// A compressed stream that a thread of its own decompresses.
struct Beside {
    chunks: Receiver<Result<Vec<u8>, Over>>,
    /// Where chunks go that were read.
    empty: Sender<Vec<u8>>,
    /// What has not been read yet is `chunk[at..]`.
    chunk: Vec<u8>,
    at: usize,
}

/// A stream that is over, or broke.
struct Over {
    part: Part,
    why: Option<Error>,
}

/// What is decompressed at once.
const DECOMPRESSED: usize = 256 << 10;
/// Chunks that wait to be read.
const WAITING: usize = 4;

impl Beside {
    /// Decompresses it on a thread of its own, if there can be one.
    fn start(part: Part) -> Part {
        let ((give, chunks), (empty, emptied)) = (sync_channel(WAITING), channel::<Vec<u8>>());
        let work = move |mut part: Part| {
            loop {
                let mut chunk = emptied.try_recv().unwrap_or_default();
                chunk.resize(DECOMPRESSED, 0);
                let given = match part.decompress(&mut chunk) {
                    Ok(0) => give.send(Err(Over { part, why: None })),
                    Ok(count) => {
                        chunk.truncate(count);
                        if give.send(Ok(chunk)).is_ok() {
                            continue;
                        }
                        return;
                    }
                    Err(why) => give.send(Err(Over { part, why: Some(why) })),
                };
                // Nobody reads any more, or the stream is over.
                return drop(given);
            }
        };
        match threads::spawn_with("decompression", part, work) {
            Ok(()) => Part::Beside(Self { chunks, empty, chunk: Vec::new(), at: 0 }),
            Err((_, part)) => part,
        }
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, Over> {
        if self.at == self.chunk.len() {
            let over = || Over { part: Part::Broken, why: Some(Error::other("the decompression thread ended")) };
            let chunk = self.chunks.recv().unwrap_or_else(|_| Err(over()))?;
            let _ = self.empty.send(std::mem::replace(&mut self.chunk, chunk));
            self.at = 0;
        }
        let count = into.len().min(self.chunk.len() - self.at);
        into[..count].copy_from_slice(&self.chunk[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// The stream ends before what it announced.
fn cut_short(format: &str) -> Error {
    Error::new(ErrorKind::UnexpectedEof, format!("the {format} stream is cut short"))
}

fn damaged(format: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidData, format!("the {format} stream is damaged: {error}"))
}

/// Frames of Zstandard, one after the other, skippable ones between them.
struct Zstd {
    raw: Raw,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl Zstd {
    /// Begins with a frame, or goes behind a skippable one.
    fn begin(&mut self) -> io::Result<()> {
        match self.decoder.reset(&mut self.raw) {
            Ok(()) => self.in_frame = true,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                io::copy(&mut self.raw.by_ref().take(u64::from(length)), &mut io::sink())?;
            }
            Err(error) => return Err(self.why(&error)),
        }
        Ok(())
    }

    /// The decoder has many errors for an input that ends.
    fn why(&mut self, error: &dyn std::fmt::Display) -> Error {
        match self.raw.fill_buf() {
            Ok([]) => cut_short("zstd"),
            Ok(_) => damaged("zstd", error),
            Err(error) => error,
        }
    }
}

impl Read for Zstd {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.in_frame {
                if Compression::of(self.raw.peek(4)?) != Compression::Zstd {
                    return Ok(0);
                }
                self.begin()?;
                continue;
            }
            let count = self.decoder.read(into)?;
            if count > 0 || into.is_empty() {
                return Ok(count);
            }
            if self.decoder.is_finished() {
                self.in_frame = false;
                let stored = self.decoder.get_checksum_from_data();
                if stored.is_some() && stored != self.decoder.get_calculated_checksum() {
                    return Err(damaged("zstd", &"its checksum is wrong"));
                }
                continue;
            }
            let one = ruzstd::decoding::BlockDecodingStrategy::UptoBlocks(1);
            if let Err(error) = self.decoder.decode_blocks(&mut self.raw, one) {
                return Err(self.why(&error));
            }
        }
    }
}

/// A frame of LZ4.
struct Lz4 {
    decoder: lz4_flex::frame::FrameDecoder<Watched>,
}

impl Read for Lz4 {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let done = self.decoder.read(into);
        let Watched { ran_out, legacy, .. } = *self.decoder.get_ref();
        match done {
            // Whether a frame ended or the file did, the decoder says the same.
            Ok(0) if ran_out && !legacy => Err(cut_short("lz4")),
            Ok(count) => Ok(count),
            Err(_) if ran_out => Err(cut_short("lz4")),
            Err(error) => Err(damaged("lz4", &error)),
        }
    }
}

/// A reader of which it is known whether more was wanted than there is.
struct Watched {
    raw: Raw,
    ran_out: bool,
    /// A frame of the legacy format has no end of its own: it ends where something else begins.
    legacy: bool,
    has_begun: bool,
}

impl Watched {
    /// Whether another stream or a capture begins where a block's length is expected.
    fn is_over(&mut self) -> io::Result<bool> {
        let head = self.raw.peek(pcap::HEADER)?;
        Ok(is_compressed(head) || reader::is_capture(head))
    }
}

impl Read for Watched {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.legacy && into.len() == 4 && self.has_begun && self.is_over()? {
            return Ok(0);
        }
        let count = self.raw.read(into)?;
        self.ran_out |= count == 0 && !into.is_empty();
        self.has_begun = true;
        Ok(count)
    }
}
