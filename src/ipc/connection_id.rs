//! The connection id of a flow of datagrams, by which a worker knows the flow when its client's port changes, and a program finds its worker.
//!
//! It is used as QUIC uses it (RFC 9000, section 5.1): the client's first datagram has a random id of the client's own, the worker that
//! receives it answers with one that names its socket, and the client puts that into its further datagrams. Its form is that of the draft
//! "QUIC-LB: Generating Routable QUIC Connection IDs" (draft-ietf-quic-load-balancers) in plain text. 8 bytes: three bits that name a
//! configuration, where 7 means that the id is not routable, and five bits with the number of bytes that follow; the socket's number `u16`, big
//! endian; a nonce of 5 bytes. Of a server's id, the nonce begins with the port of the flow's first datagram, big endian: what names the flow
//! for as long as its client keeps that port.
//!
//! A request has it after the client's nonce, and a reply after a receipt with its 4-tuple. src/bpf/cid.bpf.c reads it too.

use super::receipt::FULL_RECEIPT_BYTES;

/// Length of an id.
const BYTES: usize = 8;
/// Where it begins in a request.
const REQUEST_AT: usize = 4;
/// Length of a request that has room for an id.
pub const REQUEST_BYTES: usize = REQUEST_AT + BYTES;
/// Length of a reply that has room for an id.
pub const REPLY_BYTES: usize = FULL_RECEIPT_BYTES + BYTES;
/// The first bytes of ids: configuration 0, and 7; and seven more bytes.
const OF_SERVER: u8 = 7;
const OF_CLIENT: u8 = 7 << 5 | 7;

/// A connection id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionId([u8; BYTES]);

impl ConnectionId {
    /// What a client calls its flow in the first datagram.
    pub fn of_client(random: u64) -> Self {
        let mut bytes = random.to_be_bytes();
        bytes[0] = OF_CLIENT;
        Self(bytes)
    }

    /// What a worker that receives on the socket of this number calls a flow from then on, whose datagram from this port had another id.
    pub fn of_server(socket: u16, port: u16, before: Self) -> Self {
        let Self(mut bytes) = before;
        bytes[0] = OF_SERVER;
        bytes[1..3].copy_from_slice(&socket.to_be_bytes());
        bytes[3..5].copy_from_slice(&before.first_port().unwrap_or(port).to_be_bytes());
        Self(bytes)
    }

    /// The number of the socket that a server's id names.
    pub fn socket(self) -> Option<u16> {
        let [form, high, low, ..] = self.0;
        (form == OF_SERVER).then(|| u16::from_be_bytes([high, low]))
    }

    /// The port of the flow's first datagram, which a server's id names.
    pub fn first_port(self) -> Option<u16> {
        let [form, _, _, high, low, ..] = self.0;
        (form == OF_SERVER).then(|| u16::from_be_bytes([high, low]))
    }

    /// The id in a request; `None` if it has none.
    pub fn in_request(request: &[u8]) -> Option<Self> {
        Self::at(REQUEST_AT, request)
    }

    /// The id in a reply of a worker; `None` if it has none.
    pub fn in_reply(reply: &[u8]) -> Option<Self> {
        Self::at(FULL_RECEIPT_BYTES, reply).filter(|id| id.socket().is_some())
    }

    fn at(place: usize, datagram: &[u8]) -> Option<Self> {
        let bytes = *datagram.get(place..)?.first_chunk()?;
        [OF_SERVER, OF_CLIENT].contains(&bytes[0]).then_some(Self(bytes))
    }

    /// Puts it into a request, if that has room.
    pub fn put_into_request(self, request: &mut [u8]) {
        self.put(REQUEST_AT, request);
    }

    /// Puts it into a reply, if that has room.
    pub fn put_into_reply(self, reply: &mut [u8]) {
        self.put(FULL_RECEIPT_BYTES, reply);
    }

    fn put(self, place: usize, datagram: &mut [u8]) {
        if let Some(room) = datagram.get_mut(place..place + BYTES) {
            room.copy_from_slice(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workers_id_names_its_socket_and_keeps_the_flows_first_port() {
        let own = ConnectionId::of_client(u64::MAX);
        assert_eq!((own.socket(), own.first_port()), (None, None));
        let first = ConnectionId::of_server(513, 40_000, own);
        assert_eq!((first.socket(), first.first_port()), (Some(513), Some(40_000)));
        // The flow goes on from another port, to another worker.
        let second = ConnectionId::of_server(2, 40_001, first);
        assert_eq!((second.socket(), second.first_port()), (Some(2), Some(40_000)));
        assert_eq!(second.0, [7, 0, 2, 0x9c, 0x40, 255, 255, 255]);
    }

    #[test]
    fn it_is_read_where_it_was_put_and_nowhere_else() {
        let id = ConnectionId::of_server(1, 2, ConnectionId::of_client(3));
        let (mut request, mut reply) = ([0; REQUEST_BYTES], [0; REPLY_BYTES]);
        assert_eq!((ConnectionId::in_request(&request), ConnectionId::in_reply(&reply)), (None, None));
        id.put_into_request(&mut request);
        id.put_into_reply(&mut reply);
        assert_eq!((ConnectionId::in_request(&request), ConnectionId::in_reply(&reply)), (Some(id), Some(id)));
        let short = (ConnectionId::in_request(&request[1..]), ConnectionId::in_reply(&reply[..REPLY_BYTES - 1]));
        assert_eq!(short, (None, None));
        // A server that returns the request has not named anything.
        ConnectionId::of_client(3).put_into_reply(&mut reply);
        assert_eq!(ConnectionId::in_reply(&reply), None);
        let mut short = [0; REQUEST_BYTES - 1];
        id.put_into_request(&mut short);
        assert_eq!(short, [0; REQUEST_BYTES - 1]);
    }
}
