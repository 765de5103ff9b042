//! Comma-separated values (RFC 4180), for spreadsheets and data frames. Names are as [`printable`] has them.

use std::io::{self, Write};

use go_metro_rtt::Side;

use super::{NamedPair, columns, number};
use crate::terminal::printable;

/// Writes a header, and a row for each pair and kind of sample. Times are milliseconds. A last column, `port`, is
/// there where connections are told apart by it.
///
/// # Errors
///
/// What writing fails with.
pub fn write_pairs(out: impl Write, pairs: &[NamedPair]) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    let names = ["src", "dst", "iface", "side", "kind", "samples"];
    let times = ["last_ms", "avg_ms", "min_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms", "jitter_ms"];
    let tells_port = pairs.iter().any(|pair| pair.port.is_some());
    let last: &[&str] = if tells_port { &["port"] } else { &[] };
    csv.write_record(names.iter().chain(&times).chain(last))?;
    for pair in pairs {
        let kinds = [("data", &pair.summary.data), ("connect", &pair.summary.connect)];
        for (kind, stats) in kinds.iter().filter_map(|(kind, stats)| Some((kind, stats.as_ref()?))) {
            let side = pair.side.unwrap_or(Side::Remote).name();
            let named = [&*pair.src, &pair.dst, &pair.iface, side, kind].map(|name| printable(name).into_owned());
            let times = columns(stats, stats.mean_ms());
            // Nanoseconds where they are known; an estimate has no digits that it does not know. What there is none of
            // is empty.
            let times = times.map(|time| time.map_or_else(String::new, |time| number::precise(time, 6)));
            let port = tells_port.then(|| pair.port.map_or_else(String::new, |port| port.to_string()));
            csv.write_record(named.iter().cloned().chain([stats.count().to_string()]).chain(times).chain(port))?;
        }
    }
    csv.flush()
}

#[cfg(test)]
mod tests {
    use super::super::examples::pair;
    use super::*;

    #[test]
    fn where_ports_are_told_apart_they_have_a_column() {
        let mut out = Vec::new();
        let ported = NamedPair { port: Some(443), ..pair("db", &[20_000], &[]) };
        write_pairs(&mut out, &[ported, pair("other", &[20_000], &[])]).unwrap();
        let text = String::from_utf8(out).unwrap();
        let last: Vec<_> = text.lines().map(|line| line.rsplit(',').next().unwrap()).collect();
        assert_eq!(last, ["port", "443", ""]);
    }

    #[test]
    fn a_row_for_each_pair_and_kind_and_quotes_where_they_are_needed() {
        let mut out = Vec::new();
        write_pairs(&mut out, &[pair("db, \"the one\"", &[20_000, 23_500], &[19_000])]).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "src,dst,iface,side,kind,samples,last_ms,avg_ms,min_ms,p50_ms,p95_ms,p99_ms,max_ms,jitter_ms\n\
             10.42.31.222,\"db, \"\"the one\"\"\",va,remote,data,2,23.500000,21.750000,20.000000,20.000000,\
             23.500000,23.500000,23.500000,3.500000\n\
             10.42.31.222,\"db, \"\"the one\"\"\",va,remote,connect,1,19.000000,19.000000,19.000000,19.000000,\
             19.000000,19.000000,19.000000,\n"
        );
    }
}
