//! `range-window`: IP_LOCAL_PORT_RANGE (Linux 6.3) narrows each socket's range to a window, which bounds the kernel's search for
//! a free port. Each process moves through the windows of its own part of the range.

use std::io;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::Socket;

use super::{Group, Share, Source, bind_address};
use crate::{observe::ports::Range, sys::socket};

/// Ports in a window: searching that many takes a few microseconds.
const WINDOW: usize = 256;

pub(super) struct RangeWindow {
    windows: Vec<(u16, u16)>,
    /// By group: the current window, and how many windows in a row were full.
    at: Vec<(usize, usize)>,
}

impl RangeWindow {
    pub fn new(range: &Range, groups: usize, share: Share) -> Self {
        let ports: Vec<u16> = (range.low..=range.high).collect();
        let own = ports.chunks(ports.len().div_ceil(share.processes)).nth(share.process).unwrap_or_default();
        let windows = own.chunks(WINDOW).map(|window| (window[0], window[window.len() - 1])).collect();
        Self { windows, at: vec![(0, 0); groups] }
    }
}

impl Source for RangeWindow {
    fn prepare(&mut self, socket: &Socket, group: &Group) -> io::Result<()> {
        let window = self.windows.get(self.at[group.number].0);
        let Some((low, high)) = window else { return Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL)) };
        socket::set_local_port_range(socket, *low, *high)?;
        if group.source.is_some() {
            setsockopt(socket, sockopt::IpBindAddressNoPort, &true)?;
            socket.bind(&bind_address(group, 0))?;
        }
        Ok(())
    }

    fn try_elsewhere(&mut self, group: &Group) -> bool {
        let (window, full) = &mut self.at[group.number];
        *window = (*window + 1) % self.windows.len().max(1);
        *full += 1;
        if *full < self.windows.len() {
            return true;
        }
        *full = 0;
        false
    }

    fn freed(&mut self, group: &Group, _port: u16) {
        self.at[group.number].1 = 0;
    }
}
