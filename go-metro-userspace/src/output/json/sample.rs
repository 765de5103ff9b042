//! What became of an acknowledgement, as a line of JSON:
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
//! A sample that took as long as the receiver keeps acknowledgements back has `"delayed":true` before its side. An
//! acknowledgement of something new that measured nothing has the reason instead of a time:
//!
//! ```json
//! {"time_ns":1700000000090000000,"local":"10.0.0.1:40000","remote":"10.0.0.2:80","ack":1201,
//!  "rejected":"retransmitted","side":"remote"}
//! ```

use std::io::{self, Write};

use go_metro_rtt::{Rejection, Sample, Segment};

/// Writes a sample and a newline. `epoch_offset_ns` is what makes the sample's time one since the epoch.
///
/// # Errors
///
/// What writing fails with.
pub fn write_sample(out: &mut impl Write, sample: &Sample, epoch_offset_ns: i64) -> io::Result<()> {
    let time_ns = sample.acked_at.0.saturating_add_signed(epoch_offset_ns);
    // Nothing in these fields needs escaping.
    writeln!(
        out,
        "{{\"time_ns\":{time_ns},\"local\":\"{}\",\"remote\":\"{}\",\"ack\":{},\"rtt_ns\":{},\"kind\":\"{}\",\
         \"class\":\"{}\"{},\"side\":\"{}\"}}",
        sample.flow.local,
        sample.flow.remote,
        sample.ack.0,
        sample.rtt.0,
        sample.kind.name(),
        sample.class.name(),
        if sample.delayed { r#","delayed":true"# } else { "" },
        sample.flow.side.name(),
    )
}

/// Writes why an acknowledgement was no sample, and a newline; times are since the epoch.
///
/// # Errors
///
/// What writing fails with.
pub fn write_rejection(out: &mut impl Write, ack: &Segment, reason: Rejection) -> io::Result<()> {
    writeln!(
        out,
        r#"{{"time_ns":{},"local":"{}","remote":"{}","ack":{},"rejected":"{}","side":"{}"}}"#,
        ack.header.time_ns,
        ack.flow.local,
        ack.flow.remote,
        ack.header.ack,
        reason.name(),
        ack.flow.side.name(),
    )
}

#[cfg(test)]
mod tests {
    use go_metro_rtt::{Addr, Class, Endpoint, FlowKey, Kind, Nanos, Rtt, SeqNum, Side};

    use super::*;

    #[test]
    fn a_sample_is_the_documented_line() {
        let local = Endpoint { addr: Addr::v4([10, 0, 0, 1]), port: 40_000 };
        let remote = Endpoint { addr: Addr::from("2001:db8::1".parse::<std::net::IpAddr>().unwrap()), port: 80 };
        let flow = FlowKey { local, remote, ifindex: 1, side: Side::Remote };
        let (kind, class) = (Kind::Connect, Class::Timestamp);
        let rtt = Rtt(50_000_000);
        let mut sample = Sample { flow, acked_at: Nanos(5), ack: SeqNum(1101), rtt, kind, class, delayed: false };
        let line = |sample: &Sample| {
            let mut line = Vec::new();
            write_sample(&mut line, sample, 1_700_000_000_000_000_000).unwrap();
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
}
