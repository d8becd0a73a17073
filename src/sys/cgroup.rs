//! Temporary cgroups (version 2), which set the sockets of a trial apart from all others.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// A cgroup created by this process and removed when dropped.
///
/// An attached BPF program keeps running for sockets created inside, even after the cgroup is removed: each socket
/// holds a reference (kernel: cgroup_bpf_get in cgroup_sk_alloc).
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    /// The cgroup this process came from.
    home: PathBuf,
}

impl Cgroup {
    /// Creates a cgroup below the calling process's own. Fails, naming the remedy, if no version 2 hierarchy is mounted
    /// (alone or next to version 1) or this user lacks permission.
    pub fn create(name: &str) -> Result<Self> {
        let home = own_folder()?;
        let path = home.join(name);
        fs::create_dir(&path).with_context(|| {
            format!("mkdir {}: creating a cgroup requires root and a writable /sys/fs/cgroup", path.display())
        })?;
        Ok(Self { path, home })
    }

    /// Opens the folder, as bpf(2) expects it.
    pub fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// Runs `body` with the calling process inside; sockets it creates stay in the cgroup for good.
    pub fn inside<T>(&self, body: impl FnOnce() -> T) -> Result<T> {
        move_into(&self.path)?;
        let result = body();
        move_into(&self.home)?;
        Ok(result)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Fails only while a process is inside, and none is.
        let _ = fs::remove_dir(&self.path);
    }
}

/// Removes a cgroup of this name below the calling process's own, if an earlier process left one.
pub fn remove_left(name: &str) {
    if let Ok(home) = own_folder() {
        let _ = fs::remove_dir(home.join(name));
    }
}

fn move_into(folder: &Path) -> Result<()> {
    let file = folder.join("cgroup.procs");
    fs::write(&file, "0").with_context(|| format!("moving into a cgroup: writing {}", file.display()))
}

/// The folder of the calling process's cgroup.
fn own_folder() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    let groups = fs::read_to_string("/proc/self/cgroup").context("reading /proc/self/cgroup")?;
    let Some(mount) = mount_point(&mounts) else {
        bail!("no cgroup version 2 hierarchy is mounted: run `mount -t cgroup2 none /sys/fs/cgroup/unified`")
    };
    // The version 2 hierarchy has number 0 and no controllers: cgroups(7).
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    // For a process from outside its cgroup namespace, the path points outside the mount.
    let own = if own.starts_with("..") { "" } else { own };
    Ok(mount.join(own))
}

/// Finds the mount point of a version 2 hierarchy: the 5th field of mountinfo, with the type after a lone hyphen.
fn mount_point(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (head, tail) = line.split_once(" - ")?;
        let point = head.split(' ').nth(4)?;
        tail.starts_with("cgroup2 ").then(|| PathBuf::from(point))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_version_is_found_alone_and_beside_the_first() {
        let hybrid = "31 25 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                      40 25 0:36 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(mount_point(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        let pure = "34 24 0:29 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(mount_point(pure), Some(PathBuf::from("/sys/fs/cgroup")));
        assert_eq!(mount_point("31 25 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu"), None);
    }
}
