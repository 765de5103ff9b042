//! What a daemon is asked to record, as the query of a request: `pair=10.0.0.2:443&pair=[2001:db8::2]&for_ms=30000`,
//! with `&id=7` where it may be ended before its time.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use crate::config::host_and_port;

/// What a recording is called in HTTP (IANA's list of media types).
pub(crate) const RECORDING_TYPE: &str = "application/vnd.tcpdump.pcap";
/// Longest time.
const LONGEST: Duration = Duration::from_secs(600);
/// Most pairs.
const MOST: usize = 16;
/// Most bytes of a recording, at which it ends; what comes at once is in it still.
pub(crate) const LARGEST: u64 = 1 << 30;

/// What to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordOrder {
    /// Remote addresses, each perhaps with a port of either end.
    pub(crate) pairs: Vec<(IpAddr, Option<u16>)>,
    /// For how long.
    pub(crate) time: Duration,
    /// What it is called by who wants to end it earlier.
    pub(crate) id: Option<u64>,
}

/// Why there is no recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecordError {
    /// Nothing of what was asked for has passed.
    Nothing(String),
    /// It cannot be made now.
    Busy(String),
}

impl RecordOrder {
    /// Of these pairs, for this long.
    ///
    /// # Errors
    ///
    /// There are none, or too many, or it is too long.
    pub(crate) fn new(pairs: Vec<(IpAddr, Option<u16>)>, time: Duration) -> Result<Self, String> {
        match pairs.len() {
            0 => return Err("name a pair: its remote address, perhaps with a port".to_owned()),
            1..=MOST => {}
            count => return Err(format!("{count} addresses are too many; at most {MOST} are recorded at once")),
        }
        if time.is_zero() || time > LONGEST {
            let (seconds, most) = (time.as_secs_f64(), LONGEST.as_secs());
            return Err(format!("a recording takes more than 0 and at most {most} s, not {seconds} s"));
        }
        Ok(Self { pairs, time, id: None })
    }

    /// As a query.
    pub(crate) fn to_query(&self) -> String {
        let mut query = String::new();
        for (address, port) in &self.pairs {
            // Writing to a string cannot fail.
            let _ = match (address, port) {
                (IpAddr::V6(address), port) => write!(query, "pair=[{address}]{}&", colon(*port)),
                (IpAddr::V4(address), port) => write!(query, "pair={address}{}&", colon(*port)),
            };
        }
        let id = self.id.map(|id| format!("&id={id}")).unwrap_or_default();
        query + &format!("for_ms={}{id}", self.time.as_millis())
    }

    /// From a query.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn from_query(query: &str) -> Result<Self, String> {
        let (mut pairs, mut time, mut id) = (Vec::new(), None, None);
        for part in query.split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                // What some clients write for brackets and colons (RFC 3986 section 2.1).
                Some(("pair", text)) => {
                    let plain = ["%5B", "[", "%5D", "]", "%3A", ":"];
                    let text = plain.as_chunks().0.iter().fold(text.to_owned(), |text, [coded, plain]| {
                        text.replace(coded, plain).replace(&coded.to_lowercase(), plain)
                    });
                    pairs.push(parse_pair(&text)?);
                }
                Some(("for_ms", text)) => {
                    let ms = text.parse().map_err(|_| format!("for_ms: `{text}` is no number of milliseconds"))?;
                    time = Some(Duration::from_millis(ms));
                }
                Some(("id", text)) => id = Some(text.parse().map_err(|_| format!("id: `{text}` is no number"))?),
                _ => return Err(format!("`{part}` is neither pair=ADDRESS[:PORT], for_ms=NUMBER nor id=NUMBER")),
            }
        }
        Ok(Self { id, ..Self::new(pairs, time.ok_or("for_ms is missing")?)? })
    }
}

fn colon(port: Option<u16>) -> String {
    port.map(|port| format!(":{port}")).unwrap_or_default()
}

/// `ADDRESS` or `ADDRESS:PORT`, an IPv6 address with a port in brackets.
///
/// # Errors
///
/// It is neither, or no connection has this port.
fn parse_pair(text: &str) -> Result<(IpAddr, Option<u16>), String> {
    let no_address = "is no address, perhaps with a port, such as 10.0.0.2:443 or [2001:db8::2]:443";
    host_and_port(text, |host| host.parse().ok().map(|address: IpAddr| address.to_canonical()), no_address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_as_it_was_written() {
        let pairs = ["10.0.0.2", "10.0.0.2:443", "2001:db8::2", "[2001:db8::2]:443", "[2001:db8::3]"];
        let order = RecordOrder::new(pairs.map(|pair| parse_pair(pair).unwrap()).to_vec(), Duration::from_millis(1500))
            .unwrap();
        assert_eq!(RecordOrder::from_query(&order.to_query()), Ok(order.clone()));
        let named = RecordOrder { id: Some(7), ..order.clone() };
        assert_eq!(RecordOrder::from_query(&named.to_query()), Ok(named));
        let coded = order.to_query().replace('[', "%5B").replace(']', "%5d").replace(':', "%3A");
        assert_eq!(RecordOrder::from_query(&coded), Ok(order));
    }

    #[test]
    fn what_cannot_be_recorded_is_refused_with_a_reason() {
        for (query, why) in [
            ("", "for_ms is missing"),
            ("for_ms=5", "name a pair"),
            ("pair=10.0.0.2", "for_ms is missing"),
            ("pair=example.org&for_ms=5", "`example.org` is no address"),
            ("pair=10.0.0.2:x&for_ms=5", "`10.0.0.2:x` has `x` for a port; use 1 to 65535"),
            ("pair=10.0.0.2:443&pair=10.0.0.2:0&for_ms=5", "`10.0.0.2:0` has port 0, which is out of range"),
            ("pair=10.0.0.2:70000&for_ms=5", "`10.0.0.2:70000` has port 70000, which is out of range"),
            ("pair=[2001:db8::2]:70000&for_ms=5", "`[2001:db8::2]:70000` has port 70000, which is out of range"),
            ("pair=[2001:db8::2]443&for_ms=5", "`[2001:db8::2]443` is no address"),
            ("pair=10.0.0.2&for_ms=x", "no number of milliseconds"),
            ("pair=10.0.0.2&for_ms=0", "more than 0"),
            ("pair=10.0.0.2&for_ms=600001", "at most 600 s"),
            ("pair=10.0.0.2&for_ms=5&x=1", "`x=1` is neither"),
            ("pair=10.0.0.2&for_ms=5&id=x", "`x` is no number"),
        ] {
            let error = RecordOrder::from_query(query).unwrap_err();
            assert!(error.contains(why), "{query}: {error}");
        }
        let many = "pair=10.0.0.2&".repeat(17) + "for_ms=5";
        assert!(RecordOrder::from_query(&many).unwrap_err().contains("at most 16"));
    }
}
