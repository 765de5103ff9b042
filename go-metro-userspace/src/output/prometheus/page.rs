//! The page of metrics as it is kept: compressed, and what a scraper's headers ask for.
//!
//! The lines of many pairs with all their buckets differ little: compressed, a page is a fortieth of its text
//! (docs/outputs.md has figures). So the text is compressed as it is written, is nowhere whole, and is inflated piece
//! by piece for the few who do not take gzip.

use std::fmt;
use std::io::{self, Cursor, Read as _, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

/// Most bytes of a compressed page.
pub const MAX_BYTES: usize = 64 << 20;
/// How hard it is compressed: the highest level that is about as fast as those below.
const LEVEL: u32 = 3;
/// How much text is compressed, or inflated, at once.
const PIECE: usize = 16 << 10;

/// How a scraper wants to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format 0.0.4, for all that prefer none of the others.
    Classic,
    /// Protocol buffers, one message a metric: with native histograms.
    Protobuf,
}

/// The media type of protocol buffers, and the message that is meant.
const PROTOBUF: &str = "application/vnd.google.protobuf";
const FAMILY: &str = "io.prometheus.client.MetricFamily";

impl Format {
    /// How many there are.
    pub const COUNT: usize = 3;

    /// What suits an `Accept` header: protocol buffers or OpenMetrics where they are named and not less wanted than
    /// what comes behind them here, or text (RFC 9110, section 12.5.1).
    pub fn accepted(accept: &str) -> Self {
        let text = ["text/plain", "text/*", "*/*"].iter().find_map(|range| quality(accept, range)).unwrap_or(0.0);
        let open_metrics = quality(accept, "application/openmetrics-text").unwrap_or(0.0);
        // Other encodings of the same messages are for people.
        let is_ours = |key: &str, value: &str| match key {
            "proto" => value.eq_ignore_ascii_case(FAMILY),
            "encoding" => value.eq_ignore_ascii_case("delimited"),
            _ => true,
        };
        let protobuf = quality_of(accept, PROTOBUF, is_ours).unwrap_or(0.0);
        if protobuf > 0.0 && protobuf >= open_metrics.max(text) {
            Self::Protobuf
        } else if open_metrics > 0.0 && open_metrics >= text {
            Self::OpenMetrics
        } else {
            Self::Classic
        }
    }

    /// Its `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// Whether an `Accept-Encoding` header takes gzip (RFC 9110, section 12.5.3).
pub fn accepts_gzip(accept_encoding: &str) -> bool {
    ["gzip", "x-gzip", "*"].iter().find_map(|coding| quality(accept_encoding, coding)).is_some_and(|q| q > 0.0)
}

/// The weight of `name` in a list such as `a;q=0.5, b`: 0 to 1, 1 where none is given; `None` if it is not listed.
fn quality(list: &str, name: &str) -> Option<f32> {
    quality_of(list, name, |_, _| true)
}

/// The same of what has only parameters, in small letters with their values, that are taken.
fn quality_of(list: &str, name: &str, is_taken: impl Fn(&str, &str) -> bool) -> Option<f32> {
    let weight = |entry: &str| {
        let mut parts = entry.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case(name) {
            return None;
        }
        let mut q = 1.0;
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            let (key, value) = (key.trim().to_ascii_lowercase(), value.trim().trim_matches('"'));
            match &*key {
                "q" => q = value.parse().unwrap_or(0.0),
                key if !is_taken(key, value) => return None,
                _ => {}
            }
        }
        Some(q)
    };
    list.split(',').filter_map(weight).reduce(f32::max)
}

/// A page that all scrapers share.
#[derive(Debug)]
pub struct Page {
    gzip: Vec<u8>,
    /// Bytes before compression.
    length: u64,
}

/// What [`Page::gzip`] refers to.
struct Shared(Arc<Page>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0.gzip
    }
}

impl Page {
    /// As gzip, without a copy.
    pub fn gzip(self: &Arc<Self>) -> Bytes {
        Bytes::from_owner(Shared(self.clone()))
    }

    /// As it was written, piece by piece.
    pub fn plain(self: &Arc<Self>) -> Inflated {
        Inflated { decoder: GzDecoder::new(Cursor::new(self.gzip())), left: self.length }
    }
}

/// A page as it was written.
#[derive(Debug)]
pub struct Inflated {
    decoder: GzDecoder<Cursor<Bytes>>,
    left: u64,
}

impl Inflated {
    /// Bytes that are still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next piece; none at the end.
    ///
    /// # Errors
    ///
    /// The page is not what was written: never, unless memory fails.
    pub fn next_piece(&mut self) -> io::Result<Option<Bytes>> {
        let mut piece = Vec::with_capacity(PIECE);
        (&mut self.decoder).take(PIECE as u64).read_to_end(&mut piece)?;
        self.left = self.left.saturating_sub(piece.len() as u64);
        Ok((!piece.is_empty()).then(|| piece.into()))
    }
}

/// Why there is no page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// It is too large.
    #[error(
        "the page of metrics is larger than {} MiB compressed: lower `max_pairs`, or set `prometheus_buckets: coarse`",
        MAX_BYTES >> 20
    )]
    TooLarge,
    /// Something else.
    #[error("cannot write metrics: {0}")]
    Write(String),
}

/// Compresses a page as it is written.
pub struct Compressor {
    gzip: GzEncoder<Vec<u8>>,
    most: usize,
    length: u64,
    failed: Option<PageError>,
}

impl Compressor {
    /// An empty page, which may have `most` bytes when compressed.
    pub fn new(most: usize) -> Self {
        // The fastest level: what compresses well here is repetition.
        let gzip = GzEncoder::new(Vec::new(), Compression::new(LEVEL));
        Self { gzip, most, length: 0, failed: None }
    }

    /// Adds to the page.
    ///
    /// # Errors
    ///
    /// It is too large, or cannot be compressed: now, or some time before.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), PageError> {
        self.length += bytes.len() as u64;
        if let Err(error) = self.gzip.write_all(bytes) {
            self.failed.get_or_insert(PageError::Write(error.to_string()));
        }
        if self.gzip.get_ref().len() > self.most {
            self.failed.get_or_insert(PageError::TooLarge);
        }
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// The page.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub fn finish(self) -> Result<Page, PageError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut gzip = self.gzip.finish().map_err(|error| PageError::Write(error.to_string()))?;
        gzip.shrink_to_fit();
        Ok(Page { gzip, length: self.length })
    }
}

/// Takes OpenMetrics text, and compresses it in the format that is wanted.
pub struct PageWriter {
    format: Format,
    page: Compressor,
    /// What is not compressed yet.
    text: String,
    /// Where in it the line begins that is not complete yet.
    line: usize,
    /// A HELP line of the classic format, which depends on the TYPE line behind it.
    help: Option<String>,
}

impl PageWriter {
    /// An empty page, which may have `most` bytes when compressed.
    pub fn new(format: Format, most: usize) -> Self {
        Self { format, page: Compressor::new(most), text: String::new(), line: 0, help: None }
    }

    /// The page.
    ///
    /// # Errors
    ///
    /// It is too large, or writing to it failed.
    pub fn finish(mut self) -> Result<Page, PageError> {
        self.flush()?;
        self.page.finish()
    }

    fn flush(&mut self) -> Result<(), PageError> {
        let written = self.page.write(self.text.as_bytes());
        self.text.clear();
        self.line = 0;
        written
    }

    /// A line is complete.
    fn end_line(&mut self) {
        if self.format == Format::Classic && self.text[self.line..].starts_with("# ") {
            let line = self.text.split_off(self.line);
            self.text.push_str(&classic(line, &mut self.help));
        }
        self.line = self.text.len();
    }
}

impl fmt::Write for PageWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive('\n') {
            self.text.push_str(part);
            if part.ends_with('\n') {
                self.end_line();
                if self.text.len() >= PIECE {
                    self.flush().map_err(|_| fmt::Error)?;
                }
            }
        }
        Ok(())
    }
}

/// A comment of OpenMetrics in the older format: there the type and the help of a counter are under its full name, and
/// units and the end are not mentioned.
fn classic(line: String, help: &mut Option<String>) -> String {
    let words: Vec<&str> = line.trim_end().splitn(4, ' ').collect();
    match words[..] {
        ["#", "EOF"] | ["#", "UNIT", ..] => String::new(),
        ["#", "HELP", ..] => {
            *help = Some(line);
            String::new()
        }
        ["#", "TYPE", name, kind] => {
            let (suffix, shown) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                _ => ("", kind),
            };
            let help = help.take().unwrap_or_default();
            let help = help.strip_prefix("# HELP ").and_then(|help| help.strip_prefix(name)).unwrap_or_default();
            let help = if help.is_empty() { String::new() } else { format!("# HELP {name}{suffix}{help}") };
            format!("{help}# TYPE {name}{suffix} {shown}\n")
        }
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn a_scraper_gets_the_format_it_prefers() {
        // What Prometheus 2.53 sends with native histograms turned on.
        const NATIVE: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                              encoding=delimited;q=0.5,application/openmetrics-text;version=1.0.0;q=0.4,\
                              application/openmetrics-text;version=0.0.1;q=0.3,text/plain;version=0.0.4;q=0.2,\
                              */*;q=0.1";
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for (accept, format) in [
            (prometheus, Format::OpenMetrics),
            ("*/*", Format::Classic),
            ("", Format::Classic),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("Application/OpenMetrics-Text; Q=0.1", Format::OpenMetrics),
            ("application/openmetrics-text;q=0, text/plain", Format::Classic),
            ("application/openmetrics-text;q=0", Format::Classic),
            ("application/openmetrics-text;q=0.3, text/plain;q=0.9", Format::Classic),
            ("application/openmetrics-text;q=0.3, text/*;q=0.2", Format::OpenMetrics),
            (NATIVE, Format::Protobuf),
            ("application/vnd.google.protobuf", Format::Protobuf),
            ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text", Format::Classic),
            ("application/vnd.google.protobuf;proto=other;encoding=delimited", Format::Classic),
            ("application/vnd.google.protobuf;encoding=delimited;q=0, */*;q=0.1", Format::Classic),
            ("application/vnd.google.protobuf;encoding=delimited;q=0.4, text/plain;q=0.5", Format::Classic),
            ("text/plain;q=0.5, application/vnd.google.protobuf;q=0.7;encoding=\"delimited\"", Format::Protobuf),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }

    #[test]
    fn gzip_is_for_those_that_take_it() {
        for (header, takes) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("*", true),
            ("", false),
            ("identity", false),
            ("gzip;q=0, *", false),
            ("gzip;q=0.0", false),
        ] {
            assert_eq!(accepts_gzip(header), takes, "{header}");
        }
    }

    fn text(page: Page) -> String {
        let mut inflated = Arc::new(page).plain();
        let (mut all, length) = (Vec::new(), inflated.left());
        while let Some(piece) = inflated.next_piece().unwrap() {
            assert!(piece.len() <= PIECE);
            all.extend_from_slice(&piece);
        }
        assert_eq!((all.len() as u64, inflated.left()), (length, 0));
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn a_page_written_in_fragments_is_inflated_as_it_was_in_a_fraction_of_its_size() {
        let mut writer = PageWriter::new(Format::OpenMetrics, MAX_BYTES);
        let mut plain = String::new();
        for number in 0..20_000 {
            for part in ["a{src=\"10.0.0.1\",dst=\"", &number.to_string(), "\"} ", &(number * 7).to_string(), "\n"] {
                writer.write_str(part).unwrap();
                plain.push_str(part);
            }
        }
        let page = writer.finish().unwrap();
        assert!(page.gzip.len() * 5 < plain.len(), "{} of {}", page.gzip.len(), plain.len());
        assert_eq!(text(page), plain);
    }

    #[test]
    fn a_page_that_is_too_large_is_an_error_that_says_what_to_do() {
        let mut writer = PageWriter::new(Format::Classic, 100);
        let mut noise = 1_u64;
        let refused = (0..100_000).any(|_| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            writeln!(writer, "{noise}").is_err()
        });
        let error = writer.finish().unwrap_err();
        assert!(refused && error == PageError::TooLarge);
        assert!(error.to_string().contains("lower `max_pairs`"), "{error}");
    }
}
