//! The control groups of version 2 as directories: from a group's number, which is that of its directory's inode, to
//! its path. open_by_handle_at(2) would need CAP_DAC_READ_SEARCH for that; to list directories nothing is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// The number of the outermost group (`cgroup_root` of include/linux/cgroup-defs.h: the first that is given).
const OUTERMOST: u64 = 1;
/// Most groups that are looked at for one answer: more than a host has.
const MOST_GROUPS: usize = 1 << 17;

/// Where the groups can be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Where it is mounted.
    pub root: PathBuf,
    /// Whether it is all groups, not those of a container alone.
    pub is_whole: bool,
}

impl Hierarchy {
    /// Where it is mounted now: all of it, if that is to be had. None where it is not mounted.
    ///
    /// # Errors
    ///
    /// /proc/self/mountinfo cannot be read.
    pub(crate) fn mounted() -> io::Result<Option<Self>> {
        let mounts = mount_points(&fs::read_to_string("/proc/self/mountinfo")?);
        let is_outermost = |root: &Path| fs::metadata(root).is_ok_and(|root| root.ino() == OUTERMOST);
        let whole = mounts.iter().find(|root| is_outermost(root)).cloned();
        let is_whole = whole.is_some();
        Ok(whole.or_else(|| mounts.into_iter().next()).map(|root| Self { root, is_whole }))
    }

    /// The paths of the groups with these numbers, as far as they are there: from `/` on, as in `/proc/PID/cgroup`.
    pub(crate) fn paths(&self, wanted: &BTreeSet<u64>) -> BTreeMap<u64, String> {
        let mut found = BTreeMap::new();
        let root = fs::metadata(&self.root).map(|root| root.ino()).ok();
        found.extend(root.filter(|number| wanted.contains(number)).map(|number| (number, "/".to_owned())));
        let (mut folders, mut seen) = (vec![(self.root.clone(), String::new())], 0);
        while let Some((folder, path)) = folders.pop()
            && found.len() < wanted.len()
        {
            // One that went meanwhile has nothing below it.
            let Ok(entries) = fs::read_dir(folder) else { continue };
            let groups = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            for group in groups {
                seen += 1;
                if seen > MOST_GROUPS {
                    return found;
                }
                let path = format!("{path}/{}", group.file_name().to_string_lossy());
                if wanted.contains(&group.ino()) {
                    found.insert(group.ino(), path.clone());
                }
                folders.push((group.path(), path));
            }
        }
        found
    }
}

/// Where version 2 is mounted, by proc_pid_mountinfo(5).
fn mount_points(mountinfo: &str) -> Vec<PathBuf> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (mount, of) = line.split_once(" - ")?;
        of.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4).map(unescaped))?
    });
    mounts.collect()
}

/// A space is `\040` there, and so are tab, newline and the backslash by their numbers.
fn unescaped(path: &str) -> PathBuf {
    let named = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    named.iter().fold(path.to_owned(), |path, (number, is)| path.replace(number, is)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_is_found_among_the_mounts_also_beside_version_1() {
        let mounts = "\
            24 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            31 24 0:27 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory\n\
            32 24 0:28 / /sys/fs/cgroup/unified rw,nosuid shared:10 master:3 - cgroup2 cgroup2 rw,nsdelegate\n\
            33 24 0:28 /../.. /host/own\\040groups ro - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_points(mounts), ["/sys/fs/cgroup/unified", "/host/own groups"].map(PathBuf::from));
        assert!(mount_points("").is_empty());
    }

    #[test]
    fn groups_are_found_by_their_numbers_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("system.slice/nginx.service");
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir_all(folder.path().join("user.slice")).unwrap();
        fs::write(folder.path().join("cgroup.procs"), "").unwrap();
        let number = |path: &Path| fs::metadata(path).unwrap().ino();
        let (root, slice) = (number(folder.path()), number(&folder.path().join("system.slice")));
        let file = number(&folder.path().join("cgroup.procs"));
        let hierarchy = Hierarchy { root: folder.path().to_owned(), is_whole: true };
        let wanted = BTreeSet::from([root, slice, number(&deep), file, 7]);
        let expected = [(root, "/"), (slice, "/system.slice"), (number(&deep), "/system.slice/nginx.service")];
        assert_eq!(
            hierarchy.paths(&wanted),
            expected.map(|(number, path)| (number, path.to_owned())).into_iter().collect()
        );
    }
}
