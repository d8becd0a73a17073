//! Connection ids in datagrams, from whoever sends them.

use crate::ipc::connection_id::ConnectionId;

/// A request: what a worker calls the flow names its socket, keeps what names the flow, and is read as it was put.
pub(super) fn requests(bytes: &[u8]) {
    let Some(theirs) = ConnectionId::in_request(bytes) else { return };
    let (socket, port) = (u16::from(bytes[0]) << 1, u16::from(bytes[1]) << 8 | 1);
    let ours = ConnectionId::of_server(socket, port, theirs);
    assert_eq!(ours.socket(), Some(socket));
    assert_eq!(ours.first_port(), Some(theirs.first_port().unwrap_or(port)));
    let mut copy = bytes.to_vec();
    theirs.put_into_request(&mut copy);
    assert_eq!(copy, bytes);
    ours.put_into_request(&mut copy);
    assert_eq!(ConnectionId::in_request(&copy), Some(ours));
    // What comes back in a reply is taken if it is a server's.
    let mut reply = bytes.to_vec();
    theirs.put_into_reply(&mut reply);
    let read = ConnectionId::in_reply(&reply);
    assert!(read.is_none_or(|read| read.socket().is_some() && read.first_port().is_some()));
}
