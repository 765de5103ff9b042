//! The bytes of a capture file, decompressed if need be.
//!
//! What a compressed stream gave before it broke is used; the error comes after it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Error, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

/// What is read of a compressed file at once.
const CHUNK: usize = 1 << 16;

/// First bytes of gzip (RFC 1952 section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// First bytes of a Zstandard frame (RFC 8878 section 3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Skippable frames of Zstandard and LZ4 begin with one of sixteen numbers (RFC 8878 section 3.1.2).
const SKIPPABLE: ([u8; 3], u8) = ([0x2a, 0x4d, 0x18], 0x50);
/// First bytes of an LZ4 frame, and of one in the legacy format (LZ4 Frame Format Description, sections "General structure" and
/// "Legacy frame").
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

/// Opens a file, or standard input for `-`, through what `through` makes of it.
///
/// # Errors
///
/// What the system returns, or that the file is compressed in a way that is not read.
pub(super) fn open(
    path: &Path,
    through: impl FnOnce(File) -> Box<dyn Read + Send>,
) -> io::Result<Box<dyn Read + Send>> {
    let mut input: Box<dyn Read + Send> = match path.to_str() {
        Some("-") => Box::new(io::stdin()),
        _ => through(File::open(path)?),
    };
    let mut head = Vec::new();
    input.by_ref().take(6).read_to_end(&mut head)?;
    if let Some((_, tool)) = OTHERS.iter().find(|(magic, _)| head.starts_with(magic)) {
        let name = path.display();
        return Err(Error::other(format!("compressed with {tool}; use `{tool} -dc {name} | go-metro read -`")));
    }
    let (compression, legacy) = (Compression::of(&head), head.starts_with(&LZ4[1]));
    let input = Cursor::new(head).chain(input);
    if compression == Compression::None {
        return Ok(Box::new(input));
    }
    let input = BufReader::with_capacity(CHUNK, input);
    Ok(match compression {
        Compression::Gzip => Box::new(Gzip { decoder: MultiGzDecoder::new(input), some: false }),
        Compression::Zstd => Box::new(Zstd { input, decoder: FrameDecoder::new(), in_frame: false }),
        Compression::Lz4 => {
            let decoder = lz4_flex::frame::FrameDecoder::new(Watched { input, ran_out: false });
            Box::new(Lz4 { decoder, legacy })
        }
        Compression::None => Box::new(input),
    })
}

/// The stream ends before what it announced.
fn cut_short(format: &str) -> Error {
    Error::new(ErrorKind::UnexpectedEof, format!("the {format} stream is cut short"))
}

fn damaged(format: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidData, format!("the {format} stream is damaged: {error}"))
}

/// Members of gzip, one after the other.
struct Gzip<R> {
    decoder: MultiGzDecoder<R>,
    /// Whether anything came out.
    some: bool,
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.decoder.read(into) {
            Ok(count) => {
                self.some |= count > 0;
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(cut_short("gzip")),
            // gzip itself ignores what stands behind the last member, as the zeros of a tape's block do.
            Err(error) if self.some && error.kind() == ErrorKind::InvalidInput && self.decoder.header().is_none() => {
                Ok(0)
            }
            Err(error) => Err(damaged("gzip", &error)),
        }
    }
}

/// Frames of Zstandard, one after the other, skippable ones between them.
struct Zstd<R> {
    input: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> Zstd<R> {
    /// Goes to the next frame; whether there is one.
    fn next_frame(&mut self) -> io::Result<bool> {
        loop {
            if self.input.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.input) {
                Ok(()) => {
                    self.in_frame = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    io::copy(&mut self.input.by_ref().take(u64::from(length)), &mut io::sink())?;
                }
                Err(error) => return Err(self.why(&error)),
            }
        }
    }

    /// The decoder has many errors for an input that ends.
    fn why(&mut self, error: &dyn std::fmt::Display) -> Error {
        match self.input.fill_buf() {
            Ok([]) => cut_short("zstd"),
            Ok(_) => damaged("zstd", error),
            Err(error) => error,
        }
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.in_frame && !self.next_frame()? {
                return Ok(0);
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
            if let Err(error) = self.decoder.decode_blocks(&mut self.input, one) {
                return Err(self.why(&error));
            }
        }
    }
}

/// Frames of LZ4, one after the other.
struct Lz4<R: BufRead> {
    decoder: lz4_flex::frame::FrameDecoder<Watched<R>>,
    /// The legacy format ends where the file does.
    legacy: bool,
}

impl<R: BufRead> Read for Lz4<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let done = self.decoder.read(into);
            let Watched { input, ran_out } = self.decoder.get_mut();
            match done {
                // Whether a frame ended or the file did, the decoder says the same.
                Ok(0) if *ran_out && !self.legacy => return Err(cut_short("lz4")),
                Ok(0) if !into.is_empty() && !input.fill_buf()?.is_empty() => {}
                Ok(count) => return Ok(count),
                Err(_) if *ran_out => return Err(cut_short("lz4")),
                Err(error) => return Err(damaged("lz4", &error)),
            }
        }
    }
}

/// A reader of which it is known whether more was wanted than there is.
struct Watched<R> {
    input: R,
    ran_out: bool,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(into)?;
        self.ran_out |= count == 0 && !into.is_empty();
        Ok(count)
    }
}
