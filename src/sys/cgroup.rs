//! A cgroup (version 2) of one's own, for what is to be told from everything else by it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// A cgroup made by this process, removed when dropped.
///
/// A BPF program attached to it goes on running for the sockets that were created inside, also when it is removed: each
/// socket holds a reference (kernel, cgroup_bpf_get in cgroup_sk_alloc).
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    /// Where this process came from.
    home: PathBuf,
}

impl Cgroup {
    /// Makes a cgroup below the calling process's own. Fails, with the remedy, where there is no hierarchy of version 2, be
    /// it the only one or beside version 1, or where this user may not.
    pub fn create(name: &str) -> Result<Self> {
        let home = own_folder()?;
        let path = home.join(name);
        fs::create_dir(&path).with_context(|| {
            format!("mkdir {}: making a cgroup wants root, and /sys/fs/cgroup mounted for writing", path.display())
        })?;
        Ok(Self { path, home })
    }

    /// The folder, opened, as bpf(2) wants it.
    pub fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// Runs something with the calling process inside; sockets that it creates belong to the cgroup for good.
    pub fn inside<T>(&self, body: impl FnOnce() -> T) -> Result<T> {
        move_into(&self.path)?;
        let result = body();
        move_into(&self.home)?;
        Ok(result)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Only a process that is still inside stands in the way, and there is none.
        let _ = fs::remove_dir(&self.path);
    }
}

/// Removes a cgroup by name that a process in the calling one's cgroup has left behind, if it has.
pub fn remove_left(name: &str) {
    if let Ok(home) = own_folder() {
        let _ = fs::remove_dir(home.join(name));
    }
}

fn move_into(folder: &Path) -> Result<()> {
    let file = folder.join("cgroup.procs");
    fs::write(&file, "0").with_context(|| format!("moving into a cgroup: writing {}", file.display()))
}

/// The folder of the calling process's own cgroup.
fn own_folder() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    let groups = fs::read_to_string("/proc/self/cgroup").context("reading /proc/self/cgroup")?;
    let Some(mount) = mount_point(&mounts) else {
        bail!("no cgroup hierarchy of version 2 is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")
    };
    // The hierarchy of version 2 has number 0 and no controllers: cgroups(7).
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    // Of a process that came from outside its cgroup namespace, the path leads out of what is mounted.
    let own = if own.starts_with("..") { "" } else { own };
    Ok(mount.join(own))
}

/// Where a hierarchy of version 2 is mounted: fields of mountinfo are mount point (5th), and after a lone hyphen the type.
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
