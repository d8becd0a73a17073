//! Network namespaces with their loopback device up, and moving between them.

use std::{
    fs::{self, File},
    io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns, unshare},
    unistd::{getgid, getuid},
};
use socket2::{Domain, Socket, Type};

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
/// A process without CAP_SYS_ADMIN first enters a user namespace that maps its own user and group to root. This change
/// of credentials clears the parent death signal: set it again afterwards. Further network namespaces are then created
/// directly, in the same user namespace.
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
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).context(
        "unshare(CLONE_NEWUSER | CLONE_NEWNET) failed: this user may not create a network namespace; run as root, \
         allow user namespaces (sysctl user.max_user_namespaces > 0, and on Debian and Ubuntu \
         kernel.unprivileged_userns_clone = 1 or kernel.apparmor_restrict_unprivileged_userns = 0), \
         or use network = \"host\"",
    )?;
    for (file, text) in [
        // An ordinary user may write gid_map only after giving up setgroups(2): user_namespaces(7).
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ] {
        fs::write(file, text).with_context(|| format!("writing {file} of the new user namespace"))?;
    }
    Ok(())
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
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
