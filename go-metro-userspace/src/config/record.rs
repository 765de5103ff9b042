//! `record`: which segment records are kept, and when they are written to a file.

use std::time::Duration;

use super::declaration::{Section as _, settings};
use super::kinds::{Bytes, Number, Optional, Path, Time};
use super::section::Reader;

/// Least memory: what a busy second leaves.
const LEAST: u32 = 1 << 20;

/// Least room for files: a hundred records.
const SMALLEST: u32 = 16 << 10;

settings! {
    /// What is recorded.
    pub struct Record {
        /// Memory for the last segment records: bytes, or a number with KiB or MiB, at least 1MiB. A record takes 56
        /// bytes (80 with IPv6), so 64MiB hold the last two minutes at ten thousand a second. If not set, no records
        /// are kept.
        pub memory: Optional<Bytes> = None, example "64MiB", on_reload Apply;

        /// A sample of at least this is an outlier, and the connections of its pair are written to a file. If neither
        /// this nor times_base is set, only what `go-metro record` asks for is written.
        pub threshold: Optional<Time<0>> = None, example "500ms", on_reload Apply;

        /// A sample of at least this many times its pair's lowest in the last ten minutes is an outlier too.
        pub times_base: Optional<Number<u32, 2, 10_000>> = None, example 10, on_reload Apply;

        /// With times_base: a sample below this is not an outlier, however low the pair's lowest is.
        pub at_least: Time<0> = Duration::from_millis(20), on_reload Apply;

        /// How much to write of the time before the outlier's acknowledgement.
        pub before: Time<0> = Duration::from_secs(30), on_reload Apply;

        /// How much to write of the time after it.
        pub after: Time<0> = Duration::from_secs(2), on_reload Apply;

        /// Shortest time between two files of the same pair.
        pub every: Time<0> = Duration::from_secs(300), on_reload Apply;

        /// Folder for the files, an absolute path. Under systemd with StateDirectory= (as in the packages) that folder
        /// is the default. A reload can change it only to a folder that was writable at the start.
        pub folder: Path = "/var/lib/go-metro".into(), environment ["STATE_DIRECTORY"], on_reload Apply;

        /// Most files to keep; the oldest makes room.
        pub files: Number<usize, 1, 10_000> = 20, on_reload Apply;

        /// Most bytes of all files together, and of a single one; the oldest make room. At least 16KiB.
        pub size: Bytes = 100 << 20, on_reload Apply;
    }
}

impl Record {
    fn check(&self, reader: &mut Reader<'_, '_>) {
        if self.memory.is_some_and(|bytes| bytes < LEAST) {
            reader.fault_in("memory", "too small; the smallest is 1MiB");
        }
        // Less has no room for an outlier, and earlier files would make room for empty ones.
        if self.size < SMALLEST {
            reader.fault_in("size", "too small; the smallest is 16KiB");
        }
        // A relative one would be wherever the daemon happens to be started.
        if !self.folder.is_absolute() {
            reader.fault_in("folder", "not an absolute path; write one such as /var/lib/go-metro");
        }
        for key in ["threshold", "times_base"] {
            if reader.has(key) && !reader.has("memory") {
                reader.fault_in(key, "records nothing, as no `memory` is set; add `memory: 64MiB` beside it");
            }
        }
    }

    /// Whether files are made.
    #[must_use]
    pub fn makes_files(&self) -> bool {
        self.memory.is_some() && self.has_outliers()
    }

    /// Whether a sample can be an outlier.
    #[must_use]
    pub fn has_outliers(&self) -> bool {
        self.threshold.is_some() || self.times_base.is_some()
    }
}

impl Default for Record {
    fn default() -> Self {
        Self::defaults()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn read(record: &str, env: &[(&str, &str)]) -> Result<Record, String> {
        let text = format!("init_config: {{record: {record}}}\ninstances: [{{interface: lo, ips: ['::1']}}]");
        let env = |name: &str| env.iter().find(|(its, _)| *its == name).map(|(_, value)| (*value).to_owned());
        let config = Config::parse(&text, std::path::Path::new("c"), &env);
        config.map(|config| config.record).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_recorded_unless_memory_is_given() {
        let none = read("{}", &[]).unwrap();
        assert_eq!((none.memory, none.has_outliers()), (None, false));
        let some = read("{memory: 64MiB, threshold: 0.5, times_base: 4}", &[]).unwrap();
        assert_eq!((some.memory, some.threshold), (Some(64 << 20), Some(Duration::from_millis(500))));
        assert_eq!((some.times_base, some.has_outliers()), (Some(4), true));
        assert!(!read("{memory: 1MiB}", &[]).unwrap().has_outliers());
    }

    #[test]
    fn files_are_made_where_the_service_manager_has_a_folder_unless_one_is_named() {
        let env = [("STATE_DIRECTORY", "/var/lib/a:/var/lib/b")];
        let folder = |record: &str, env: &[(&str, &str)]| read(record, env).unwrap().folder;
        assert_eq!(folder("{}", &[]), std::path::Path::new("/var/lib/go-metro"));
        assert_eq!(folder("{}", &env), std::path::Path::new("/var/lib/a"));
        assert_eq!(folder("{folder: /data}", &env), std::path::Path::new("/data"));
    }

    #[test]
    fn what_cannot_be_is_refused_at_its_place() {
        for (wrong, place) in [
            ("{memory: 4KiB}", "record.memory"),
            ("{threshold: 1}", "record.threshold"),
            ("{times_base: 4}", "add `memory: 64MiB`"),
            ("{memory: 1MiB, times_base: 1}", "record.times_base"),
            ("{memory: 1MiB, files: 0}", "record.files"),
            ("{memory: 1MiB, size: 2KiB}", "record.size: too small; the smallest is 16KiB"),
            ("{memory: 1MiB, folder: ../x}", "record.folder: not an absolute path"),
            ("{memery: 1MiB}", "did you mean `memory`"),
        ] {
            let error = read(wrong, &[]).unwrap_err();
            assert!(error.contains(place), "{wrong}: {error}");
        }
    }
}
