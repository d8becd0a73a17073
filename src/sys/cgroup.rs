//! The control group (version 2) of this process, to which BPF programs are attached.

use std::{
    ffi::OsString,
    fs::{self, File},
    os::unix::ffi::OsStringExt,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// Opens the folder of the calling process's cgroup, as bpf(2) expects it. Fails, naming the remedy, if it is in no version 2 hierarchy
/// that is mounted (alone or next to version 1).
pub fn open_own() -> Result<File> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    let groups = fs::read_to_string("/proc/self/cgroup").context("reading /proc/self/cgroup")?;
    let folder = own_folder(&mounts, &groups)?;
    File::open(&folder).with_context(|| format!("opening this process's cgroup, {}", folder.display()))
}

/// Finds the folder of a process's cgroup, from its `mountinfo` and `cgroup` in /proc.
pub fn own_folder(mounts: &str, groups: &str) -> Result<PathBuf> {
    let mut mounts = mounts.lines().filter_map(mount).peekable();
    if mounts.peek().is_none() {
        bail!(
            "no cgroup version 2 hierarchy is mounted: run `mkdir -p /run/cgroup2 && mount -t cgroup2 none /run/cgroup2`"
        )
    }
    // The version 2 hierarchy has number 0 and no controllers: cgroups(7).
    let Some(own) = groups.lines().find_map(|line| line.strip_prefix("0::")) else {
        bail!("this kernel has no cgroup version 2 hierarchy (/proc/self/cgroup has no line that begins with 0::)")
    };
    // Both paths begin at the root of this process's cgroup namespace.
    let found = mounts.find_map(|(root, point)| {
        let below = Path::new(own).strip_prefix(root).ok()?;
        let inside = below.components().all(|part| matches!(part, Component::Normal(_)));
        inside.then(|| point.join(below))
    });
    found.with_context(|| {
        format!(
            "no mounted cgroup version 2 hierarchy contains this process's cgroup, {own}: mount one in this namespace"
        )
    })
}

/// The root and the mount point of a version 2 hierarchy: the 4th and 5th field of a line of mountinfo, with the type after a lone hyphen.
fn mount(line: &str) -> Option<(PathBuf, PathBuf)> {
    let (head, tail) = line.split_once(" - ")?;
    let mut fields = head.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    tail.starts_with("cgroup2 ").then(|| (unescaped(root), unescaped(point)))
}

/// A path as mountinfo has it: a space, a tab, a line break and a backslash are a backslash and three octal digits.
fn unescaped(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let byte;
        (byte, rest) = match *rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ref after @ ..] => {
                (((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'), after)
            }
            _ => (first, after),
        };
        bytes.push(byte);
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(mounts: &str, own: &str) -> Option<PathBuf> {
        own_folder(mounts, &format!("4:memory:/x\n0::{own}\n")).ok()
    }

    #[test]
    fn the_second_version_is_found_alone_and_beside_the_first() {
        let hybrid = "31 25 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                      40 25 0:36 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(found(hybrid, "/"), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        let pure = "34 24 0:29 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(found(pure, "/user.slice/a"), Some(PathBuf::from("/sys/fs/cgroup/user.slice/a")));
        assert_eq!(found("31 25 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu", "/"), None);
        assert!(own_folder(pure, "4:memory:/x\n").is_err());
    }

    #[test]
    fn a_mount_point_may_have_spaces() {
        let mount = r"34 24 0:29 /a\040b /c\011d\134040\0 rw - cgroup2 cgroup2 rw";
        assert_eq!(found(mount, "/a b/x"), Some(PathBuf::from("/c\td\\040\\0/x")));
    }

    #[test]
    fn a_cgroup_outside_of_the_mounted_hierarchy_is_not_mistaken_for_its_root() {
        let mount = |root: &str| format!("34 24 0:29 {root} /cg rw - cgroup2 cgroup2 rw");
        for (root, own, folder) in [
            ("/", "/../other", None),
            ("/pod/a", "/pod/b", None),
            ("/pod", "/pod/b", Some("/cg/b")),
            // Seen from a namespace of its own, whose hierarchy was mounted before.
            ("/..", "/", None),
            ("/..", "/../other", Some("/cg/other")),
        ] {
            assert_eq!(found(&mount(root), own), folder.map(PathBuf::from), "{root} {own}");
        }
        let several = format!("{}\n35 24 0:29 / /all rw - cgroup2 cgroup2 rw", mount("/pod"));
        assert_eq!(found(&several, "/other"), Some(PathBuf::from("/all/other")));
    }
}
