//! UDP sockets: bytes waiting in each, and datagrams lost because its buffer was full.

use std::{collections::HashMap, io};

use anyhow::{Context, Result};
use netlink_packet_sock_diag::inet::StateFlags;

use super::{
    file,
    listeners::Place,
    sockets::{self, SockDiag},
};
use crate::scenario::Transport;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DatagramQueue {
    /// Memory used by waiting datagrams, in bytes, including the kernel's overhead.
    pub bytes: u64,
    /// Datagrams lost since the socket was created.
    pub lost: u64,
}

/// The UDP sockets of the current network namespace by inode, from /proc/self/net/udp and udp6.
pub fn read() -> io::Result<HashMap<u32, DatagramQueue>> {
    // A kernel without IPv6 has no udp6.
    let v6 = file::read("/proc/self/net/udp6").unwrap_or_default();
    Ok(parse(&(file::read("/proc/self/net/udp")? + &v6)))
}

/// Reads which sockets get the datagrams sent to places of one port, reusing its buffers.
pub struct GroupReader {
    /// One for each family.
    questions: Vec<SockDiag>,
    places: Vec<Place>,
}

impl GroupReader {
    /// A reader in the current network namespace.
    pub fn of(places: Vec<Place>) -> Result<Self> {
        // An unconnected UDP socket has the state CLOSE.
        let questions = sockets::one_of_each_family(&places)
            .map(|any| SockDiag::new(Transport::Udp, StateFlags::CLOSE, any))
            .collect::<Result<_>>()?;
        Ok(Self { questions, places })
    }

    /// The inodes of the unconnected sockets that are bound there.
    pub fn read(&mut self) -> Result<Vec<u32>> {
        let mut group = Vec::new();
        let Self { questions, places } = self;
        for question in questions {
            let visited = question.each(|response| {
                let id = &response.header.socket_id;
                let shares =
                    |place: &Place| place.address.port() == id.source_port && place.is_shared_by(id.source_address);
                if places.iter().any(shares) {
                    group.push(response.header.inode);
                }
            });
            visited.with_context(|| {
                let port = places.first().map_or(0, |place| place.address.port());
                format!("looking for other sockets on UDP port {port}: {}", sockets::REMEDY)
            })?;
        }
        Ok(group)
    }
}

/// Fields of a line: sl, local, remote, state, tx:rx queue (hexadecimal), timer, retransmits, uid, timeout, inode,
/// references, pointer, drops. The header lines have fewer numbers and are therefore skipped.
pub fn parse(text: &str) -> HashMap<u32, DatagramQueue> {
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, _, _, _, queues, _, _, _, _, inode, _, _, lost] = fields[..] else { return None };
        let (_, bytes) = queues.split_once(':')?;
        let queue = DatagramQueue { bytes: u64::from_str_radix(bytes, 16).ok()?, lost: lost.parse().ok()? };
        Some((inode.parse().ok()?, queue))
    };
    text.lines().filter_map(socket).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_losses_are_found_by_inode() {
        let text = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref \
                    pointer drops\n  417: 0100007F:1B58 00000000:0000 07 00000000:00000300 00:00000000 00000000     0        \
                    0 26071 2 000000001efcd5c4 17\n";
        assert_eq!(parse(text), HashMap::from([(26_071, DatagramQueue { bytes: 768, lost: 17 })]));
    }

    #[test]
    fn a_group_has_the_unconnected_sockets_of_one_address() {
        use std::net::UdpSocket;
        let bound = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = bound.local_addr().unwrap();
        let elsewhere = UdpSocket::bind(("127.0.0.2", address.port())).unwrap();
        let read = || GroupReader::of(vec![Place::at(address)]).unwrap().read().unwrap().len();
        assert_eq!(read(), 1);
        bound.connect(elsewhere.local_addr().unwrap()).unwrap();
        assert_eq!(read(), 0);
    }
}
