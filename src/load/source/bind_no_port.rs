//! `bind-no-port`: as `bind-zero`, but with IP_BIND_ADDRESS_NO_PORT (Linux 4.2): bind sets only the address, and connect, which
//! knows the destination, chooses the port.

use std::io;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::Socket;

use super::{Group, Source, bind_address};

pub(super) struct BindNoPort;

impl Source for BindNoPort {
    fn prepare(&mut self, socket: &Socket, group: &Group) -> io::Result<()> {
        setsockopt(socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&bind_address(group, 0))
    }
}
