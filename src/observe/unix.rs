//! The accept queues of Unix sockets, read through sock_diag (include/uapi/linux/unix_diag.h).

use std::{collections::HashMap, fs, os::unix::fs::MetadataExt};

use anyhow::{Context, Result};
use netlink_packet_core::Emitable;
use netlink_packet_sock_diag::unix::{
    UnixResponse,
    nlas::{Nla, UnixDiagName},
};

use super::{
    queues::Queue,
    sockets::{REMEDY, SockDiag},
};
use crate::sys::unix::UnixAddress;

/// Reads the queue of what listens on a Unix socket in the network namespace in which it was made.
pub(super) struct UnixQueues {
    question: SockDiag,
    address: UnixAddress,
}

/// The inode and the device of a socket's file, as the kernel tells them of sockets.
type FileId = (u32, u32);

impl UnixQueues {
    pub fn new(address: &UnixAddress) -> Result<Self> {
        Ok(Self { question: SockDiag::of_unix()?, address: address.clone() })
    }

    /// The queues by their listener's inode.
    pub fn read(&mut self) -> Result<HashMap<u32, Queue>> {
        let Self { question, address } = self;
        // A server may have been started in its folder, and know the socket by another path.
        let file = address.path().and_then(file_id);
        // Names of sockets of different kinds are different, and only one of the address's kind can be connected to.
        let kind = if address.has_messages() { libc::SOCK_SEQPACKET } else { libc::SOCK_STREAM } as u8;
        let mut queues = HashMap::new();
        let read = question.each_unix(|socket| {
            let queue = socket.nlas.iter().find_map(|nla| match nla {
                Nla::ReceiveQueueLength(length, limit) => Some(Queue { length: *length, limit: *limit, drops: 0 }),
                _ => None,
            });
            if let Some(queue) = queue.filter(|_| socket.header.kind == kind && is_at(socket, address, file)) {
                queues.insert(socket.header.inode, queue);
            }
        });
        read.with_context(|| format!("reading the queues of Unix sockets: {REMEDY}"))?;
        Ok(queues)
    }
}

fn file_id(path: &str) -> Option<FileId> {
    let found = fs::metadata(path).ok()?;
    let (major, minor) = (libc::major(found.dev()), libc::minor(found.dev()));
    // MKDEV of the kernel's include/linux/kdev_t.h.
    Some((found.ino() as u32, major << 20 | minor))
}

/// Whether a socket is at an address, whose file has this identity, if it exists.
fn is_at(socket: &UnixResponse, address: &UnixAddress, file: Option<FileId>) -> bool {
    let is_file = |nla: &Nla| {
        let Nla::Vfs(vfs) = nla else { return false };
        let mut bytes = [0; 8];
        vfs.emit(&mut bytes);
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        file == Some((word(0), word(4)))
    };
    match socket.name() {
        Some(UnixDiagName::Abstract(name)) => address.name().is_some_and(|own| own.as_bytes() == &name[..]),
        Some(UnixDiagName::Pathname(path)) => {
            let Some(own) = address.path() else { return false };
            // Where a file was removed and made anew, the path is that of two sockets, and the file is one's.
            if file.is_some() && socket.nlas.iter().any(|nla| matches!(nla, Nla::Vfs(_))) {
                return socket.nlas.iter().any(is_file);
            }
            path.to_str() == Some(own)
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    };

    use super::*;

    #[test]
    fn a_queue_is_found_by_path_and_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let name = format!("listenbench-test-{}", std::process::id());
        let on = |address: &str| {
            let address: UnixAddress = format!("unix:{address}").parse().unwrap();
            let queues = UnixQueues::new(&address).unwrap().read().unwrap();
            queues.into_values().map(|queue| queue.length).collect::<Vec<_>>()
        };
        let (by_path, by_name) = (path.to_str().unwrap(), format!("@{name}"));
        assert_eq!((on(by_path), on(&by_name)), (vec![], vec![]));
        let _listener = UnixListener::bind(&path).unwrap();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let _named = UnixListener::bind_addr(&address).unwrap();
        let _clients = [UnixStream::connect(&path).unwrap(), UnixStream::connect(&path).unwrap()];
        let _client = UnixStream::connect_addr(&address).unwrap();
        assert_eq!((on(by_path), on(&by_name)), (vec![2], vec![1]));
        let packets: UnixAddress = format!("unixpacket:{by_path}").parse().unwrap();
        assert!(UnixQueues::new(&packets).unwrap().read().unwrap().is_empty(), "it is a stream's");
        // By another way to the same file.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(on(link.to_str().unwrap()), [2]);
        // A file that took the place of another is only the later socket's.
        fs::remove_file(&path).unwrap();
        let _later = UnixListener::bind(&path).unwrap();
        assert_eq!(on(by_path), [0]);
    }
}
