//! Control groups of version 2 that are named as systemd and a container runtime name them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount, umount};
use tempfile::TempDir;

/// The identifier of the container that [`Groups::container`] makes the group of, and of the pod that it is in.
pub const CONTAINER_ID: &str = "3f4d1c7a9e0b2d5f8a6c4e1b7d9f0a2c5e8b1d4f7a0c3e6b9d2f5a8c1e4b7d0f";
/// The pod's.
pub const POD_UID: &str = "0e5c7b9a-1d2f-4a3b-8c6d-5e4f3a2b1c0d";

/// Groups below one of their own; removed when dropped, once their processes have ended.
#[derive(Debug)]
pub struct Groups {
    own: PathBuf,
    made: Vec<PathBuf>,
    /// Where they were mounted for this, if they were not.
    _mounted: Option<Mounted>,
}

#[derive(Debug)]
struct Mounted(TempDir);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount(self.0.path());
    }
}

impl Groups {
    /// Makes a group for others to be made in.
    ///
    /// # Errors
    ///
    /// No root, or no control groups of version 2.
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let mounted = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let (root, mounted) = match mounted.and_then(|line| line.split(' ').nth(1)) {
            Some(root) => (PathBuf::from(root), None),
            None => {
                let root = tempfile::tempdir()?;
                mount(Some("cgroup2"), root.path(), Some("cgroup2"), MsFlags::empty(), None::<&str>)?;
                (root.path().to_owned(), Some(Mounted(root)))
            }
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let own = root.join(format!("go_metro_test_{}_{number}.slice", std::process::id()));
        let mut groups = Self { own: own.clone(), made: Vec::new(), _mounted: mounted };
        groups.make(&own)?;
        Ok(groups)
    }

    fn make(&mut self, path: &Path) -> Result<()> {
        fs::create_dir(path).with_context(|| format!("cannot make {}", path.display()))?;
        self.made.push(path.to_owned());
        Ok(())
    }

    /// The group of a unit of this name.
    ///
    /// # Errors
    ///
    /// It is there already, or cannot be made.
    pub fn unit(&mut self, name: &str) -> Result<PathBuf> {
        let group = self.own.join(name);
        self.make(&group)?;
        Ok(group)
    }

    /// The group of a pod's container, as kubelet and containerd name it with the driver `systemd`.
    ///
    /// # Errors
    ///
    /// It is there already, or cannot be made.
    pub fn container(&mut self) -> Result<PathBuf> {
        let pod = self.own.join(format!("kubepods-besteffort-pod{}.slice", POD_UID.replace('-', "_")));
        self.make(&pod)?;
        let group = pod.join(format!("cri-containerd-{CONTAINER_ID}.scope"));
        self.make(&group)?;
        Ok(group)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for group in self.made.iter().rev() {
            // A process that has just ended may be in it for a moment.
            while fs::remove_dir(group).is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY)) {
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}
