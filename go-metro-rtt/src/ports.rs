//! The ports of a service.

use crate::FlowKey;

/// Ports and ranges of them that are chosen; none chosen means all are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    ranges: [(u16, u16); Self::MOST],
    count: usize,
}

impl Ports {
    /// All ports.
    pub const ALL: Self = Self { ranges: [(0, 0); Self::MOST], count: 0 };
    /// Most ports or ranges.
    pub const MOST: usize = 16;

    /// These ranges, each with its first and last port; none if there are more than [`Self::MOST`].
    pub fn new(ranges: &[(u16, u16)]) -> Option<Self> {
        let mut ports = Self { count: ranges.len(), ..Self::default() };
        ports.ranges.get_mut(..ranges.len())?.copy_from_slice(ranges);
        Some(ports)
    }

    /// The ports and ranges that are chosen, as they are written.
    pub fn names(&self) -> impl Iterator<Item = String> + '_ {
        let name =
            |(first, last): &(u16, u16)| if first == last { first.to_string() } else { format!("{first}-{last}") };
        self.ranges[..self.count].iter().map(name)
    }

    /// Whether none are chosen, which means all.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether either end of a flow is at one of them.
    #[inline]
    pub fn choose(&self, flow: &FlowKey) -> bool {
        let is_in = |port: u16| self.ranges[..self.count].iter().any(|(first, last)| (*first..=*last).contains(&port));
        self.count == 0 || is_in(flow.local.port) || is_in(flow.remote.port)
    }
}

/// A port, or a range such as 8000-8010.
///
/// # Errors
///
/// What is neither, for people.
pub fn parse_ports(text: &str) -> Result<(u16, u16), String> {
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    let is_number = |text: &str| !text.trim().is_empty() && text.trim().bytes().all(|c| c.is_ascii_digit());
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        (Some(first), Some(last)) => Err(format!("`{text}` ends before it begins; write {last}-{first}")),
        _ if [first, last].iter().all(|text| is_number(text)) => {
            Err(format!("`{text}` is out of range; a port is 1 to 65535"))
        }
        _ => Err(format!("`{text}` is neither a port such as 443 nor a range such as 8000-8010")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Addr, Endpoint, Side};

    #[test]
    fn a_flow_is_chosen_by_either_port() {
        let end = |port| Endpoint { addr: Addr::v4([10, 0, 0, 1]), port };
        let flow = |local, remote| FlowKey { local: end(local), remote: end(remote), ifindex: 1, side: Side::Remote };
        let ports = Ports::new(&["443", "8000-8010"].map(|text| parse_ports(text).unwrap())).unwrap();
        assert!(ports.choose(&flow(40_000, 443)) && ports.choose(&flow(8010, 50_000)));
        assert!(!ports.choose(&flow(40_000, 8011)));
        assert!(Ports::default().choose(&flow(1, 2)));
        assert_eq!(Ports::new(&[(1, 1); 17]), None);
        for wrong in ["http", "", "80-", "-80"] {
            assert!(parse_ports(wrong).unwrap_err().contains("neither a port such as 443"), "{wrong}");
        }
        for wrong in ["0", "65536", "80-99999", "70000-80000"] {
            assert_eq!(parse_ports(wrong).unwrap_err(), format!("`{wrong}` is out of range; a port is 1 to 65535"));
        }
        assert_eq!(parse_ports("8010-8000").unwrap_err(), "`8010-8000` ends before it begins; write 8000-8010");
    }
}
