//! Limits of this process: open files, and what stands behind a system call that a limit refuses.

use std::{
    fs, io,
    os::fd::{AsFd, RawFd},
};

use nix::{
    errno::Errno,
    sys::{
        resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit},
        socket::{SockaddrStorage, UnixAddr, getpeername, getsockname},
    },
};

/// The error of a system call, with the limit that may be behind it and what to do about it.
pub fn explained(call: &str, error: Errno) -> io::Error {
    let soft = |resource| match getrlimit(resource) {
        Ok((RLIM_INFINITY, _)) => "unlimited".to_owned(),
        Ok((soft, _)) => soft.to_string(),
        Err(_) => "unknown".to_owned(),
    };
    let why = match error {
        Errno::EAGAIN => format!(
            "the limit of the user's processes (`ulimit -u`, here {}), of a cgroup's (pids.max) or of the machine's (kernel.pid_max) is \
             reached: raise it, or use fewer workers and loaders",
            soft(Resource::RLIMIT_NPROC)
        ),
        Errno::EMFILE => format!(
            "this process has as many files open as it may: raise the limit (`ulimit -n`, here {})",
            soft(Resource::RLIMIT_NOFILE)
        ),
        Errno::ENFILE => {
            "the machine has as many files open as it may: raise the limit (`sysctl fs.file-max`)".to_owned()
        }
        Errno::ENOMEM => format!(
            "there is not enough memory, or the limit of address space is reached: raise it (`ulimit -v`, here {} bytes), or use fewer \
             workers and loaders",
            soft(Resource::RLIMIT_AS)
        ),
        _ => return io::Error::other(format!("{call}: {}", io::Error::from(error))),
    };
    io::Error::other(format!("{call}: {}: {why}", io::Error::from(error)))
}

/// This process's limit of open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// The limit in force.
    pub soft: u64,
    /// How far an unprivileged process may raise the soft limit.
    pub hard: u64,
}

/// Reads RLIMIT_NOFILE.
pub fn open_files() -> io::Result<OpenFiles> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(OpenFiles { soft, hard })
}

/// The most connections a process reserves room for before the start.
const ROOM: usize = 1 << 17;

/// How many connections a process with this limit should reserve room for. Reserved memory costs nothing until used,
/// whereas a list that grows leaves its outgrown memory in the heap.
pub fn room(files: OpenFiles) -> usize {
    usize::try_from(files.soft).map_or(ROOM, |files| files.min(ROOM))
}

/// Sets this process's limits back to those that it had; what is open stays open.
pub fn restore_open_files(before: OpenFiles) -> io::Result<()> {
    Ok(setrlimit(Resource::RLIMIT_NOFILE, before.soft, before.hard)?)
}

/// Whether a system call failed because there is no descriptor left: not in this process, or on the whole machine.
pub fn is_out_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Lowers this process's soft limit of open files; what is open stays open.
pub fn lower_open_files(soft: u64) -> io::Result<()> {
    Ok(setrlimit(Resource::RLIMIT_NOFILE, soft, open_files()?.hard)?)
}

/// Sets both limits of open files of this process. To be called between fork and exec, it makes one system call and no more.
pub fn set_open_files(limit: u64) -> io::Result<()> {
    Ok(setrlimit(Resource::RLIMIT_NOFILE, limit, limit)?)
}

/// Whether this process can have one descriptor more, which it sees by copying one.
pub fn has_room(descriptor: impl AsFd) -> bool {
    descriptor.as_fd().try_clone_to_owned().is_ok()
}

/// How many of this process's descriptors below `limit` are in use, other than by connections to a port. A limit is one on the numbers of
/// descriptors, of which each call gets the lowest that is free.
pub fn in_use_below(limit: u64, but_to_port: u16) -> io::Result<u64> {
    Ok(in_use(but_to_port)?.into_iter().filter(|number| *number < limit).count() as u64)
}

/// The lowest limit that leaves this process so many descriptors, if connections to a port took none.
pub fn lowest_limit(free: u64, but_to_port: u16) -> io::Result<u64> {
    Ok(lowest(&in_use(but_to_port)?, free))
}

fn lowest(in_use: &[u64], free: u64) -> u64 {
    let mut limit = free;
    loop {
        let needed = free + in_use.iter().filter(|number| **number < limit).count() as u64;
        if needed <= limit {
            return limit;
        }
        limit = needed;
    }
}

/// The numbers of this process's descriptors other than connections to a port.
fn in_use(but_to_port: u16) -> io::Result<Vec<u64>> {
    let numbers = fs::read_dir("/proc/self/fd")?;
    // The folder's own descriptor is there only while it is read.
    let all: Vec<RawFd> = numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    let is_open = |number: &RawFd| fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok();
    let others = all.into_iter().filter(|number| is_open(number) && !is_connection_to(*number, but_to_port));
    Ok(others.map(|number| number as u64).collect())
}

/// Whether a descriptor is the server's end of a connection to a port, or to a Unix socket, which has port 0 here.
fn is_connection_to(descriptor: RawFd, port: u16) -> bool {
    let port_of = |name: SockaddrStorage| {
        let v4 = name.as_sockaddr_in().map(|name| name.port());
        let of_ip = v4.or_else(|| name.as_sockaddr_in6().map(|name| name.port()));
        // What has been accepted on a Unix socket has its name; both ends of a socketpair have none.
        let is_named = |name: &&UnixAddr| name.path().is_some() || name.as_abstract().is_some();
        of_ip.or_else(|| name.as_unix_addr().filter(is_named).map(|_| 0))
    };
    getpeername::<SockaddrStorage>(descriptor).is_ok()
        && getsockname::<SockaddrStorage>(descriptor).is_ok_and(|name| port_of(name) == Some(port))
}

/// Raises this process's soft limit of open files to the hard limit; children inherit it.
pub fn raise_open_files() -> io::Result<OpenFiles> {
    let limit = open_files()?;
    setrlimit(Resource::RLIMIT_NOFILE, limit.hard, limit.hard)?;
    open_files()
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        net::{TcpListener, TcpStream},
        os::{
            fd::AsRawFd,
            unix::net::{UnixListener, UnixStream},
        },
    };

    use super::*;

    #[test]
    fn the_lowest_limit_counts_what_is_open_below_it() {
        assert_eq!(lowest(&[], 4), 4);
        assert_eq!(lowest(&[0, 1, 2], 4), 7);
        // What is above a limit takes nothing from it.
        assert_eq!(lowest(&[0, 1, 2, 900], 4), 7);
        assert_eq!(lowest(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 4), 14);
    }

    #[test]
    fn only_the_servers_end_is_a_connection_to_its_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert!(is_connection_to(server.as_raw_fd(), port));
        assert!(!is_connection_to(server.as_raw_fd(), port ^ 1));
        for other in [client.as_raw_fd(), listener.as_raw_fd(), File::open("/").unwrap().as_raw_fd()] {
            assert!(!is_connection_to(other, port));
        }
        assert!(has_room(&listener));
    }

    #[test]
    fn a_connection_to_a_unix_socket_has_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("a")).unwrap();
        let client = UnixStream::connect(folder.path().join("a")).unwrap();
        let (server, _) = listener.accept().unwrap();
        let (one, other) = UnixStream::pair().unwrap();
        let all = [server.as_raw_fd(), client.as_raw_fd(), listener.as_raw_fd(), one.as_raw_fd(), other.as_raw_fd()];
        assert_eq!(all.map(|one| is_connection_to(one, 0)), [true, false, false, false, false]);
        assert!(!is_connection_to(server.as_raw_fd(), 80));
    }
}
