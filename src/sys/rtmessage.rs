//! Messages of rtnetlink(7): those that we send, and the answers that we expect.
//!
//! The library's own list has all kinds that there are, and would bring the parsers of all of them into the binary.

use netlink_packet_core::{
    DecodeError, Emitable, NetlinkDeserializable, NetlinkHeader, NetlinkPayload, NetlinkSerializable, Parseable,
};
use netlink_packet_route::{
    address::AddressMessage, link::LinkMessage, neighbour::NeighbourMessage, route::RouteMessage, rule::RuleMessage,
};

/// What we ask for.
pub enum Request {
    NewLink(LinkMessage),
    NewAddress(AddressMessage),
    NewNeighbour(NeighbourMessage),
    GetRoute(RouteMessage),
    GetRule(RuleMessage),
}

impl Request {
    /// The type in the message's header, and what follows that header.
    fn parts(&self) -> (u16, &dyn Emitable) {
        match self {
            Self::NewLink(link) => (libc::RTM_NEWLINK, link),
            Self::NewAddress(address) => (libc::RTM_NEWADDR, address),
            Self::NewNeighbour(neighbour) => (libc::RTM_NEWNEIGH, neighbour),
            Self::GetRoute(route) => (libc::RTM_GETROUTE, route),
            Self::GetRule(rule) => (libc::RTM_GETRULE, rule),
        }
    }
}

impl NetlinkSerializable for Request {
    fn message_type(&self) -> u16 {
        self.parts().0
    }

    fn buffer_len(&self) -> usize {
        self.parts().1.buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        self.parts().1.emit(buffer);
    }
}

impl From<Request> for NetlinkPayload<Request> {
    fn from(request: Request) -> Self {
        Self::InnerMessage(request)
    }
}

/// What the kernel says, unless it is an acknowledgement, an error, or the end of a list.
#[derive(Debug)]
pub enum Answer {
    NewRoute(RouteMessage),
    NewRule(RuleMessage),
    /// Any other, by the type in its header.
    Other(#[expect(dead_code, reason = "printed")] u16),
}

impl NetlinkDeserializable for Answer {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        match header.message_type {
            libc::RTM_NEWROUTE => RouteMessage::parse(payload).map(Self::NewRoute),
            libc::RTM_NEWRULE => RuleMessage::parse(payload).map(Self::NewRule),
            other => Ok(Self::Other(other)),
        }
    }
}
