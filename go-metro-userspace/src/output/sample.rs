//! What became of an acknowledgement, as a line of JSON or a row of comma-separated values:
//!
//! ```json
//! {"time_ns":1700000000050000000,"local":"10.0.0.1:40000","remote":"10.0.0.2:80","ack":1101,
//!  "rtt_ns":50000000,"kind":"data","class":"exact","side":"remote"}
//! ```
//!
//! `time_ns` is when the acknowledgement came, in nanoseconds since the epoch; `local` sent what it acknowledges,
//! unless `"side":"local"` says that `remote` did; `ack` is the raw acknowledgement number. Endpoints are `ip:port`, or
//! `[ip]:port` for IPv6.
//!
//! A sample that took as long as the receiver keeps acknowledgements back has `"delayed":true` before its side; a row
//! says `true` or `false`. An acknowledgement of something new that measured nothing has the reason instead of a time;
//! that of a reset, which proves nothing, has `"nothing_to_time":"reset"`:
//!
//! ```json
//! {"time_ns":1700000000090000000,"local":"10.0.0.1:40000","remote":"10.0.0.2:80","ack":1201,
//!  "rejected":"retransmitted","side":"remote"}
//! ```

use std::io::{self, Write};

use go_metro_common::segment::TcpFlags;
use go_metro_rtt::{Endpoint, Outcome, Quiet, Sample, Segment};
use serde::{Serialize, Serializer};

/// A sample. The order of the fields is that of the columns.
#[derive(Serialize)]
struct SampleRow {
    time_ns: u64,
    #[serde(serialize_with = "shown")]
    local: Endpoint,
    #[serde(serialize_with = "shown")]
    remote: Endpoint,
    ack: u32,
    rtt_ns: u64,
    kind: &'static str,
    class: &'static str,
    /// None is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    delayed: Option<bool>,
    side: &'static str,
}

/// An acknowledgement that was no sample.
#[derive(Serialize)]
struct NoSampleRow {
    time_ns: u64,
    #[serde(serialize_with = "shown")]
    local: Endpoint,
    #[serde(serialize_with = "shown")]
    remote: Endpoint,
    ack: u32,
    #[serde(flatten)]
    reason: NoSample,
    side: &'static str,
}

/// Why an acknowledgement was no sample, by the names that `read --explain` and the metrics have for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoSample {
    /// It acknowledges something new: a [`Rejection`](go_metro_rtt::Rejection).
    Rejected(&'static str),
    /// It is of a reset, which proves nothing: [`Quiet::Reset`].
    NothingToTime(&'static str),
}

impl NoSample {
    /// What `outcome` of this segment says about an acknowledgement that was no sample, if it is one to mention.
    pub fn of(segment: &Segment, outcome: &Outcome) -> Option<Self> {
        match outcome {
            Outcome::Rejected(reason) => Some(Self::Rejected(reason.name())),
            Outcome::Quiet(reason @ Quiet::Reset) if segment.has(TcpFlags::ACK) => {
                Some(Self::NothingToTime(reason.name()))
            }
            _ => None,
        }
    }
}

fn shown<S: Serializer>(endpoint: &Endpoint, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(endpoint)
}

impl SampleRow {
    fn new(sample: &Sample, epoch_offset_ns: i64, delayed: Option<bool>) -> Self {
        Self {
            time_ns: sample.acked_at.0.saturating_add_signed(epoch_offset_ns),
            local: sample.flow.local,
            remote: sample.flow.remote,
            ack: sample.ack.0,
            rtt_ns: sample.rtt.0,
            kind: sample.kind.name(),
            class: sample.class.name(),
            delayed,
            side: sample.flow.side.name(),
        }
    }
}

/// Writes samples in one of the forms.
pub enum SampleWriter<W: Write> {
    /// An object a line.
    Json(W),
    /// Rows below a header.
    Csv(Box<csv::Writer<W>>),
}

impl<W: Write> SampleWriter<W> {
    /// Rows of comma-separated values; the header is written at once, so that it is there without samples too.
    ///
    /// # Errors
    ///
    /// What writing fails with.
    pub fn csv(out: W) -> io::Result<Self> {
        let mut rows = csv::WriterBuilder::new().has_headers(false).from_writer(out);
        rows.write_record(["time_ns", "local", "remote", "ack", "rtt_ns", "kind", "class", "delayed", "side"])?;
        Ok(Self::Csv(Box::new(rows)))
    }

    /// Writes a sample. `epoch_offset_ns` is what makes the sample's time one since the epoch.
    ///
    /// # Errors
    ///
    /// What writing fails with.
    pub fn write(&mut self, sample: &Sample, epoch_offset_ns: i64) -> io::Result<()> {
        match self {
            Self::Json(out) => {
                write_line(out, &SampleRow::new(sample, epoch_offset_ns, Some(true).filter(|_| sample.delayed)))
            }
            Self::Csv(rows) => Ok(rows.serialize(SampleRow::new(sample, epoch_offset_ns, Some(sample.delayed)))?),
        }
    }

    /// Writes why an acknowledgement was no sample; its time is one since the epoch. Only JSON has a form for it.
    ///
    /// # Errors
    ///
    /// What writing fails with.
    pub fn write_no_sample(&mut self, ack: &Segment, reason: NoSample) -> io::Result<()> {
        let Self::Json(out) = self else { return Ok(()) };
        write_line(
            out,
            &NoSampleRow {
                time_ns: ack.header.time_ns,
                local: ack.flow.local,
                remote: ack.flow.remote,
                ack: ack.header.ack,
                reason,
                side: ack.flow.side.name(),
            },
        )
    }

    /// Writes what is still held back.
    ///
    /// # Errors
    ///
    /// What writing fails with.
    pub fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Json(out) => out.flush(),
            Self::Csv(rows) => rows.flush(),
        }
    }
}

fn write_line(out: &mut impl Write, row: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, row)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use go_metro_common::segment::SegmentHeader;
    use go_metro_rtt::{Addr, Class, FlowKey, Kind, Label, Nanos, Place, Rejection, Rtt, SeqNum, Side};

    use super::*;

    fn sample() -> Sample {
        let local = Endpoint { addr: Addr::v4([10, 0, 0, 1]), port: 40_000 };
        let remote = Endpoint { addr: Addr::from("2001:db8::1".parse::<std::net::IpAddr>().unwrap()), port: 80 };
        let flow = FlowKey { local, remote, ifindex: 1, side: Side::Remote };
        let (kind, class) = (Kind::Connect, Class::Timestamp);
        let (rtt, label, place) = (Rtt(50_000_000), Label::NONE, Place::default());
        Sample { flow, acked_at: Nanos(5), ack: SeqNum(1101), rtt, kind, class, delayed: false, label, place }
    }

    #[test]
    fn a_sample_is_the_documented_line() {
        let mut sample = sample();
        let line = |sample: &Sample| {
            let mut line = Vec::new();
            SampleWriter::Json(&mut line).write(sample, 1_700_000_000_000_000_000).unwrap();
            String::from_utf8(line).unwrap()
        };
        let expected = "{\"time_ns\":1700000000000000005,\"local\":\"10.0.0.1:40000\",\"remote\":\"[2001:db8::1]:80\",\
             \"ack\":1101,\
             \"rtt_ns\":50000000,\"kind\":\"connect\",\"class\":\"timestamp\",\"side\":\"remote\"}\n";
        assert_eq!(line(&sample), expected);
        sample.delayed = true;
        let delayed = expected.replace(",\"side", ",\"delayed\":true,\"side");
        assert_eq!(line(&sample), delayed);
        sample.flow.side = Side::Local;
        assert_eq!(line(&sample), delayed.replace("\"remote\"}", "\"local\"}"));
    }

    #[test]
    fn an_acknowledgement_that_is_no_sample_has_the_reason_or_that_it_is_of_a_reset() {
        let header = SegmentHeader { time_ns: 5, ack: 1101, ..SegmentHeader::default() };
        let of = |flags: u8, outcome: Outcome| {
            let segment = Segment { flow: sample().flow, header: SegmentHeader { flags: TcpFlags(flags), ..header } };
            let mut line = Vec::new();
            if let Some(reason) = NoSample::of(&segment, &outcome) {
                SampleWriter::Json(&mut line).write_no_sample(&segment, reason).unwrap();
            }
            String::from_utf8(line).unwrap()
        };
        let expected = "{\"time_ns\":5,\"local\":\"10.0.0.1:40000\",\"remote\":\"[2001:db8::1]:80\",\"ack\":1101,\
             \"rejected\":\"hole\",\"side\":\"remote\"}\n";
        assert_eq!(of(TcpFlags::ACK, Outcome::Rejected(Rejection::Hole)), expected);
        let reset = Outcome::Quiet(Quiet::Reset);
        let nothing_to_time = expected.replace("\"rejected\":\"hole\"", "\"nothing_to_time\":\"reset\"");
        assert_eq!(of(TcpFlags::RST | TcpFlags::ACK, reset), nothing_to_time);
        assert_eq!(of(TcpFlags::RST, reset), "", "without ACK its number means nothing");
        assert_eq!(of(TcpFlags::ACK, Outcome::Quiet(Quiet::Duplicate)), "");
    }

    #[test]
    fn a_row_has_a_value_below_each_name_of_the_header() {
        let mut out = Vec::new();
        let mut rows = SampleWriter::csv(&mut out).unwrap();
        rows.write(&sample(), 0).unwrap();
        rows.flush().unwrap();
        drop(rows);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "time_ns,local,remote,ack,rtt_ns,kind,class,delayed,side\n\
             5,10.0.0.1:40000,[2001:db8::1]:80,1101,50000000,connect,timestamp,false,remote\n"
        );
    }
}
