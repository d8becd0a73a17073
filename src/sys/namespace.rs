//! Network namespaces with their loopback device up, and moving between them.

use std::{
    fs::{self, File},
    io, mem,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
};

use anyhow::{Context, Result, anyhow};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    sched::{CloneFlags, setns, unshare},
    sys::{prctl, stat::Mode},
    unistd::{getgid, getppid, getuid, write},
};
use socket2::{Domain, Socket, Type};

use super::process;

/// How permission to create a network namespace was obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// With CAP_SYS_ADMIN.
    Direct,
    /// As an ordinary user, in a user namespace where this process is root.
    UserNamespace,
}

/// A network namespace, kept alive by an open file.
#[derive(Debug)]
pub struct Namespace {
    file: File,
}

impl Namespace {
    /// The calling process's network namespace.
    pub fn current() -> Result<Self> {
        let file = "/proc/self/ns/net";
        Ok(Self { file: File::open(file).with_context(|| format!("opening {file}"))? })
    }

    /// The network namespace of a process.
    pub fn of_process(pid: i32) -> Result<Self> {
        let file = format!("/proc/{pid}/ns/net");
        let file = File::open(&file).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => anyhow!("no process has the id {pid}; it may have ended"),
            _ => anyhow!("opening {file}: {error}: only root may look into this process's network namespace"),
        })?;
        Ok(Self { file })
    }

    /// Its number, by which the kernel tells network namespaces apart.
    pub fn inode(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.ino())
    }

    /// Moves the calling process, which must be single-threaded, into this namespace. Requires CAP_SYS_ADMIN in the
    /// user namespace that owns it, which a process that used [`enter_network`] has.
    pub fn enter(&self) -> Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).context("setns(CLONE_NEWNET)")
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Moves the calling process into a new network namespace and brings its loopback device up.
///
/// A process without CAP_SYS_ADMIN first enters a user namespace that maps its own user and group to root. Further network namespaces
/// are then created directly, in the same user namespace.
pub fn enter_network() -> Result<Privilege> {
    let privilege = match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => Privilege::Direct,
        Err(Errno::EPERM) => {
            enter_user_and_network()?;
            Privilege::UserNamespace
        }
        Err(error) => {
            return Err(error).context(
                "unshare(CLONE_NEWNET) failed: this kernel cannot create network namespaces; use network = \"host\"",
            );
        }
    };
    bring_up("lo").context("bringing up `lo` in the new network namespace")?;
    Ok(privilege)
}

fn enter_user_and_network() -> Result<()> {
    // Read before unshare: afterwards both are the overflow ids until the maps are written.
    let (uid, gid) = (getuid(), getgid());
    let (parent, dies_with_it) = (getppid(), prctl::get_pdeathsig().context("prctl(PR_GET_PDEATHSIG)")?.is_some());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).context(
        "unshare(CLONE_NEWUSER | CLONE_NEWNET) failed: this user may not create a network namespace; run as root \
         (in a container with CAP_SYS_ADMIN), leave the chroot if there is one, allow user namespaces \
         (sysctl user.max_user_namespaces > 0, and on Debian and Ubuntu kernel.unprivileged_userns_clone = 1 or kernel.apparmor_restrict_unprivileged_userns = 0), \
         or use network = \"host\"",
    )?;
    for (file, text) in [
        // An ordinary user may write gid_map only after giving up setgroups(2): user_namespaces(7).
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ] {
        fs::write(file, text).with_context(|| {
            format!(
                "writing {file} of the new user namespace: root requires CAP_SETFCAP for it, or CAP_SYS_ADMIN to do without; run as \
                 root with its capabilities or as an ordinary user, or use network = \"host\""
            )
        })?;
    }
    if dies_with_it {
        // The change of credentials has cleared the signal.
        process::die_with(parent).context("prctl(PR_SET_PDEATHSIG)")?;
    }
    Ok(())
}

/// The ids that an ordinary user's process has outside of the user namespace that makes it root.
#[derive(Debug)]
pub struct OuterIds {
    /// Lines for the maps of another user namespace inside, in which it has these ids again.
    uid_map: String,
    gid_map: String,
}

impl OuterIds {
    /// The ids of the calling process outside of a user namespace such as [`enter_network`] makes, in which its own user is root and
    /// no other exists; `None` elsewhere.
    pub fn read() -> io::Result<Option<Self>> {
        let (uid_map, gid_map) = (fs::read_to_string("/proc/self/uid_map")?, fs::read_to_string("/proc/self/gid_map")?);
        Ok(single(&uid_map)
            .zip(single(&gid_map))
            .map(|(uid, gid)| Self { uid_map: format!("{uid} 0 1"), gid_map: format!("{gid} 0 1") }))
    }

    /// Gives the calling process, which must be single-threaded, these ids again: a program that finds itself root would try to become
    /// a user that does not exist here. Makes system calls only. Clears the parent-death signal.
    pub fn resume(&self) -> io::Result<()> {
        unshare(CloneFlags::CLONE_NEWUSER)?;
        // setgroups(2) was given up in the namespace around this one.
        for (file, text) in [(c"/proc/self/uid_map", &self.uid_map), (c"/proc/self/gid_map", &self.gid_map)] {
            let file = nix::fcntl::open(file, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
            write(&file, text.as_bytes())?;
        }
        Ok(())
    }
}

/// The id outside, of a map of nobody but root: `0 1000 1`.
fn single(map: &str) -> Option<u32> {
    let fields: Vec<u32> = map.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    match fields[..] {
        [0, outside, 1] if outside != 0 => Some(outside),
        _ => None,
    }
}

/// Brings up a device of the calling process's network namespace. Its name must be shorter than 16 bytes.
pub(super) fn bring_up(device: &str) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // SAFETY: ifreq is plain C data for which all-zero is a valid value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *slot = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as libc::Ioctl, &request) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_alone_in_its_namespace_has_an_id_outside() {
        for (map, outside) in [
            ("         0       1000          1\n", Some(1_000)),
            // The initial namespace, a container's, and root's own.
            ("         0          0 4294967295\n", None),
            ("0 1000 1\n1 100000 65536\n", None),
            ("0 0 1", None),
            ("1000 0 1", None),
            ("", None),
        ] {
            assert_eq!(single(map), outside, "{map}");
        }
    }
}
