//! `bind-zero`: bind(2) to port 0 before connect(2), as many programs do to set a source address. bind does not know the
//! destination, so it only takes ports that no other socket has, wherever that socket is connected.

use std::io;

use socket2::Socket;

use super::{Group, Source, bind_address};

pub(super) struct BindZero;

impl Source for BindZero {
    fn prepare(&mut self, socket: &Socket, group: &Group) -> io::Result<()> {
        socket.bind(&bind_address(group, 0))
    }
}
