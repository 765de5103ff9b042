//! Autonomous systems by address: a database in MaxMind's format, in memory.
//!
//! The file is read whole, not mapped: one that is replaced where it stands, as some updaters do, would otherwise end
//! the process. All that the daemon wants of it is read once, at the start or a reload, so that what is wrong is
//! said then; a look-up walks the tree and decodes nothing.

use std::collections::HashMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use maxminddb::{MaxMindDbError, Reader, WithinOptions};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

use super::GroupName;

/// Largest file that is read: the databases of autonomous systems that there are have 6 to 60 MiB.
const LARGEST: u64 = 256 << 20;

/// The database cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`group_by.as_database`: {}: {what}", path.display())]
pub struct AsDatabaseError {
    path: PathBuf,
    what: String,
}

/// What is read of a record, under the names that MaxMind and DB-IP give it.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(default, deserialize_with = "number")]
    autonomous_system_number: Option<u32>,
    #[serde(borrow)]
    autonomous_system_organization: Option<&'a str>,
}

/// The number of a system, in whatever type of unsigned integer a file has it; none for 0, which is no system's
/// (RFC 7607).
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    struct Unsigned;
    impl Visitor<'_> for Unsigned {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the number of an autonomous system")
        }

        fn visit_u16<E: de::Error>(self, number: u16) -> Result<u64, E> {
            Ok(number.into())
        }

        fn visit_u32<E: de::Error>(self, number: u32) -> Result<u64, E> {
            Ok(number.into())
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
            Ok(number)
        }
    }
    let number = from.deserialize_any(Unsigned)?;
    let number = u32::try_from(number)
        .map_err(|_| de::Error::custom(format!("{number} is not the number of an autonomous system")))?;
    Ok(Some(number).filter(|number| *number != 0))
}

/// An autonomous system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct System {
    number: u32,
    /// Who runs it; empty where that is not known.
    organization: Arc<str>,
}

impl System {
    pub(super) fn named(&self) -> GroupName {
        let Self { number, organization } = self;
        let organization = Some(format!("as_org:{organization}")).filter(|_| !organization.is_empty());
        GroupName {
            name: format!("AS{number}"),
            tags: [format!("as:{number}")].into_iter().chain(organization).collect(),
        }
    }
}

/// The systems that are known, and the file that is open, if one is.
#[derive(Clone, Debug, Default)]
pub(super) struct AsDatabase {
    /// Every system that there ever was, by its index.
    systems: Arc<Vec<System>>,
    open: Option<Arc<Open>>,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    reader: Reader<Vec<u8>>,
    /// The index of each record's system, by the record's place in the file.
    records: HashMap<usize, u32>,
    count: usize,
}

impl AsDatabase {
    /// Reads a file; what it says of a system takes precedence over what `before` knows, and has the same index.
    pub(super) fn open(path: &Path, before: &Self) -> Result<Self, AsDatabaseError> {
        let fail = |what: String| AsDatabaseError { path: path.to_owned(), what };
        let reader = Reader::from_source(read(path).map_err(fail)?).map_err(|error| fail(broken(&error)))?;
        let mut systems = before.systems.to_vec();
        let mut indices: HashMap<u32, u32> =
            (0..).zip(&systems).map(|(index, system)| (system.number, index)).collect();
        let mut records = HashMap::new();
        let mut seen = std::collections::HashSet::new();
        // A tree has one leaf more than nodes; one whose branches grow together again may have any number. Those
        // without a record are counted too.
        let mut leaves = u64::from(reader.metadata().node_count) + 1;
        let every = WithinOptions::default().include_networks_without_data();
        for network in reader.networks(every).map_err(|error| fail(broken(&error)))? {
            let network = network.map_err(|error| fail(broken(&error)))?;
            leaves = leaves.checked_sub(1).ok_or_else(|| fail("its search tree is not a tree".to_owned()))?;
            let Some(offset) = network.offset().filter(|offset| !records.contains_key(offset)) else { continue };
            let record: Option<Record<'_>> = network.decode().map_err(|error| fail(broken(&error)))?;
            let Some((number, record)) = record.and_then(|record| Some((record.autonomous_system_number?, record)))
            else {
                continue;
            };
            let organization = record.autonomous_system_organization.unwrap_or_default();
            let index = *indices.entry(number).or_insert_with(|| {
                systems.push(System { number, organization: organization.into() });
                u32::try_from(systems.len() - 1).unwrap_or(u32::MAX)
            });
            seen.insert(index);
            if let Some(system) = systems.get_mut(index as usize)
                && !organization.is_empty()
                && *system.organization != *organization
            {
                system.organization = organization.into();
            }
            records.insert(offset, index);
        }
        if records.is_empty() {
            let kind = &reader.metadata().database_type;
            return Err(fail(format!(
                "it is not a database of autonomous systems, but `{kind}`: no record has an \
                 `autonomous_system_number`; name one such as GeoLite2-ASN.mmdb"
            )));
        }
        let count = seen.len();
        let open = Open { path: path.to_owned(), reader, records, count };
        Ok(Self { systems: Arc::new(systems), open: Some(Arc::new(open)) })
    }

    /// No file, but what is known.
    pub(super) fn closed(&self) -> Self {
        Self { systems: self.systems.clone(), open: None }
    }

    /// The index of the system that an address is in.
    pub(super) fn index_of(&self, address: IpAddr) -> Option<u32> {
        let Open { reader, records, .. } = &**self.open.as_ref()?;
        // A file of IPv4 alone has no IPv6 to look up, and says so with an error.
        if address.is_ipv6() && reader.metadata().ip_version == 4 {
            return None;
        }
        records.get(&reader.lookup(address).ok()?.offset()?).copied()
    }

    /// The system of this index.
    pub(super) fn system(&self, index: u32) -> Option<&System> {
        self.systems.get(index as usize)
    }

    /// The file and what is in it, for people.
    pub(super) fn described(&self) -> Option<String> {
        let Open { path, count, .. } = &**self.open.as_ref()?;
        Some(format!("autonomous systems: {count} of {}", path.display()))
    }
}

/// The file's bytes.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("cannot read it: {error}");
    // A pipe would be waited for.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("it is larger than {} MiB", LARGEST >> 20));
    }
    Ok(bytes)
}

fn broken(error: &MaxMindDbError) -> String {
    format!("it is not a database in MaxMind's format, or it is damaged: {error}; download it again")
}

#[cfg(test)]
#[allow(unreachable_pub)]
#[path = "../../../testing/support/src/mmdb.rs"]
mod mmdb;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A database of these systems, by prefix; without an organization where that is empty.
    pub(in crate::groups) fn database(systems: &[(&str, u32, &str)]) -> Vec<u8> {
        mmdb::of_systems(systems)
    }

    fn opened(bytes: &[u8]) -> Result<AsDatabase, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("as.mmdb");
        std::fs::write(&path, bytes).unwrap();
        AsDatabase::open(&path, &AsDatabase::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_leads_to_its_system_and_that_to_its_tags() {
        let systems = [
            ("192.0.2.0/24", 64_500, "Example, Inc."),
            ("192.0.2.128/25", 64_501, "Other"),
            ("198.51.100.0/24", 64_500, "Example, Inc."),
            ("2001:db8::/32", 4_200_000_000, ""),
        ];
        let database = opened(&database(&systems)).unwrap();
        let of = |address: &str| {
            let index = database.index_of(address.parse().unwrap())?;
            let GroupName { name, tags } = database.system(index)?.named();
            Some([vec![name], tags].concat().join(" "))
        };
        assert_eq!(of("192.0.2.1").unwrap(), "AS64500 as:64500 as_org:Example, Inc.");
        assert_eq!(of("192.0.2.200").unwrap(), "AS64501 as:64501 as_org:Other");
        assert_eq!(of("198.51.100.1"), of("192.0.2.1"));
        assert_eq!(of("2001:db8::1").unwrap(), "AS4200000000 as:4200000000");
        assert_eq!((of("10.0.0.1"), of("2001:db9::1")), (None, None));
        assert!(database.described().unwrap().starts_with("autonomous systems: 3 of /"));
    }

    #[test]
    fn what_cannot_be_used_says_why_and_what_to_do() {
        let missing = AsDatabase::open(Path::new("/nonexistent/a.mmdb"), &AsDatabase::default()).err().unwrap();
        assert!(
            missing.to_string().starts_with("`group_by.as_database`: /nonexistent/a.mmdb: cannot read it: No such")
        );
        let folder = AsDatabase::open(Path::new("/"), &AsDatabase::default()).err().unwrap();
        assert!(folder.to_string().contains("it is not a regular file"), "{folder}");
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let waits = AsDatabase::open(&pipe, &AsDatabase::default()).err().unwrap();
        assert!(waits.to_string().contains("it is not a regular file"), "{waits}");
        assert!(opened(b"not a database").err().unwrap().contains("download it again"));
        let whole = database(&[("192.0.2.0/24", 64_500, "Example")]);
        assert!(opened(&whole[..whole.len() / 2]).err().unwrap().contains("damaged"));
        let other = opened(&mmdb::of_countries(&[("192.0.2.0/24", "NZ")])).err().unwrap();
        assert!(other.contains("not a database of autonomous systems, but `Test-Country`"), "{other}");
    }

    #[test]
    fn no_damage_does_more_than_to_be_refused_or_to_mislead() {
        let whole = database(&[("192.0.2.0/24", 64_500, "Example"), ("2001:db8::/32", 64_501, "Other")]);
        for at in 0..whole.len() {
            for with in [0, 0xff, whole[at] ^ 1] {
                let mut damaged = whole.clone();
                damaged[at] = with;
                if let Ok(database) = opened(&damaged) {
                    for address in ["192.0.2.1", "2001:db8::1", "10.0.0.1"] {
                        let index = database.index_of(address.parse().unwrap());
                        assert!(index.is_none_or(|index| database.system(index).is_some()));
                    }
                }
            }
        }
    }

    #[test]
    fn a_system_has_the_same_index_after_the_file_was_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("as.mmdb");
        std::fs::write(&path, database(&[("192.0.2.0/24", 1, "One"), ("198.51.100.0/24", 2, "Two")])).unwrap();
        let first = AsDatabase::open(&path, &AsDatabase::default()).unwrap();
        std::fs::write(&path, database(&[("192.0.2.0/24", 3, "Three"), ("198.51.100.0/24", 2, "Zwei")])).unwrap();
        let second = AsDatabase::open(&path, &first).unwrap();
        let two = first.index_of("198.51.100.1".parse().unwrap());
        assert_eq!(second.index_of("198.51.100.1".parse().unwrap()), two);
        assert_eq!(second.system(two.unwrap()).unwrap().named().tags, ["as:2", "as_org:Zwei"]);
        assert_eq!(second.system(first.index_of("192.0.2.1".parse().unwrap()).unwrap()).unwrap().number, 1);
    }
}
