//! Small databases in MaxMind's format (<https://maxmind.github.io/MaxMind-DB/>), for tests.

use std::net::IpAddr;

/// A record of the search tree while it is built: nothing, another node, or data at this place of its section.
#[derive(Clone, Copy)]
enum Record {
    Nothing,
    Node(usize),
    Data(usize),
}

/// A database of autonomous systems, as GeoLite2-ASN: a number for each prefix, and an organization unless that is
/// empty. A later prefix overrides part of an earlier one.
///
/// # Panics
///
/// What is no prefix.
pub fn of_systems(systems: &[(&str, u32, &str)]) -> Vec<u8> {
    let record = |(_, number, organization): &(&str, u32, &str)| {
        // Writers differ in the type: MaxMind's has 32 bits, others the fewest.
        let bits = if *number <= u32::from(u16::MAX) { 5 } else { 6 };
        let mut pairs = vec![("autonomous_system_number", unsigned(bits, u64::from(*number)))];
        if !organization.is_empty() {
            pairs.push(("autonomous_system_organization", text(organization)));
        }
        map(&pairs)
    };
    let records: Vec<_> = systems.iter().map(|system| (system.0, record(system))).collect();
    database("Test-ASN", &records)
}

/// A database of something else: a country for each prefix.
///
/// # Panics
///
/// What is no prefix.
pub fn of_countries(countries: &[(&str, &str)]) -> Vec<u8> {
    let record = |code: &str| map(&[("country", map(&[("iso_code", text(code))]))]);
    let records: Vec<_> = countries.iter().map(|(prefix, code)| (*prefix, record(code))).collect();
    database("Test-Country", &records)
}

fn database(kind: &str, records: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut tree = vec![[Record::Nothing; 2]];
    let mut data: Vec<u8> = Vec::new();
    for (prefix, record) in records {
        let (bits, len) = bits_of(prefix);
        insert(&mut tree, bits, len, data.len());
        data.extend(record);
    }
    let count = tree.len();
    let mut file = Vec::new();
    for record in tree.iter().flatten() {
        let number = match record {
            Record::Nothing => count,
            Record::Node(node) => *node,
            // Behind the nodes and the sixteen bytes that part them from the data.
            Record::Data(at) => count + 16 + at,
        };
        file.extend(&(number as u32).to_be_bytes()[1..]);
    }
    file.extend([0; 16]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    file.extend(map(&[
        ("binary_format_major_version", unsigned(5, 2)),
        ("binary_format_minor_version", unsigned(5, 0)),
        ("build_epoch", unsigned(9, 1_700_000_000)),
        ("database_type", text(kind)),
        ("description", map(&[("en", text("for tests"))])),
        ("ip_version", unsigned(5, 6)),
        ("languages", control(11, 0)),
        ("node_count", unsigned(6, count as u64)),
        ("record_size", unsigned(5, 24)),
    ]));
    file
}

/// The bits of a prefix, the first highest, and how many; IPv4 is below `::/96`.
fn bits_of(prefix: &str) -> (u128, usize) {
    let (address, len) = prefix.split_once('/').unwrap_or_else(|| panic!("{prefix} is no prefix"));
    let (address, len): (IpAddr, usize) = match (address.parse(), len.parse()) {
        (Ok(address), Ok(len)) => (address, len),
        _ => panic!("{prefix} is no prefix"),
    };
    match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), len + 96),
        IpAddr::V6(v6) => (u128::from(v6), len),
    }
}

fn insert(tree: &mut Vec<[Record; 2]>, bits: u128, len: usize, at: usize) {
    let side = |depth: usize| (bits >> (127 - depth) & 1) as usize;
    let mut node = 0;
    for depth in 0..len - 1 {
        node = match tree[node][side(depth)] {
            Record::Node(next) => next,
            // What a shorter prefix says holds for both halves, until one is overridden.
            above => {
                tree.push([above; 2]);
                tree[node][side(depth)] = Record::Node(tree.len() - 1);
                tree.len() - 1
            }
        };
    }
    tree[node][side(len - 1)] = Record::Data(at);
}

/// A control byte and what belongs to it: the type in three bits or in a byte behind, the size in five or a byte more.
fn control(kind: u8, size: usize) -> Vec<u8> {
    let (short, more) = if size < 29 { (size as u8, None) } else { (29, u8::try_from(size - 29).ok()) };
    assert!(size < 29 || more.is_some(), "{size} bytes are too many");
    let first = if kind < 8 { vec![kind << 5 | short] } else { vec![short, kind - 7] };
    first.into_iter().chain(more).collect()
}

fn text(text: &str) -> Vec<u8> {
    [control(2, text.len()), text.as_bytes().to_vec()].concat()
}

/// A number of this type, without the zeros in front.
fn unsigned(kind: u8, number: u64) -> Vec<u8> {
    let bytes: Vec<u8> = number.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    [control(kind, bytes.len()), bytes].concat()
}

fn map(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let pairs_bytes = pairs.iter().flat_map(|(key, value)| [text(key), value.clone()].concat());
    control(7, pairs.len()).into_iter().chain(pairs_bytes).collect()
}
