//! How a client socket gets its source address and port: one way a file, behind one trait.
//!
//! A source prepares a socket before connect(2). What it hands out belongs to a *tuple group* (source address, destination
//! address, destination port), which one ephemeral range serves.

mod bind_no_port;
mod bind_zero;
mod explicit;
mod kernel;
mod range_window;

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use socket2::Socket;

use crate::{
    observe::ports::Range,
    scenario::{Selection, Sources},
};

/// A way of getting a source port.
pub trait Source {
    /// Prepares a socket that is to connect from an address to a destination. Fails with `EADDRNOTAVAIL`, or with
    /// `EADDRINUSE` from bind(2), when there is no port left.
    fn prepare(&mut self, socket: &Socket, group: &Group) -> io::Result<()>;

    /// connect(2) had no port for the socket that was prepared last; true when another try may find one.
    fn try_elsewhere(&mut self, _group: &Group) -> bool {
        false
    }

    /// The socket that was prepared last is not going to connect: its port, if it has one, may be had again.
    fn given_up(&mut self, _group: &Group) {}

    /// A connection of a group from this port is over.
    fn freed(&mut self, _group: &Group, _port: u16) {}
}

/// What one ephemeral range serves, with its number among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Number, from 0.
    pub number: usize,
    /// Source address; `None` where the kernel picks it.
    pub source: Option<IpAddr>,
    /// Destination.
    pub destination: SocketAddr,
}

/// All tuple groups of a load: every source address with every destination.
pub fn groups(sources: &Sources, destinations: &[SocketAddr]) -> Vec<Group> {
    let addresses: Vec<Option<IpAddr>> = match &sources.addresses[..] {
        [] => vec![None],
        addresses => addresses.iter().copied().map(Some).collect(),
    };
    let pairs = addresses.iter().flat_map(|source| destinations.iter().map(move |destination| (*source, *destination)));
    pairs.enumerate().map(|(number, (source, destination))| Group { number, source, destination }).collect()
}

/// One of several processes that share the ports.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// Number of this process, from 0.
    pub process: usize,
    /// All of them.
    pub processes: usize,
}

/// Builds a scenario's source for one process. Its random order is fixed by `seed`.
pub fn build(selection: Selection, range: &Range, groups: usize, share: Share, seed: u64) -> Box<dyn Source> {
    match selection {
        Selection::Kernel => Box::new(kernel::Kernel),
        Selection::BindZero => Box::new(bind_zero::BindZero),
        Selection::BindNoPort => Box::new(bind_no_port::BindNoPort),
        Selection::RangeWindow => Box::new(range_window::RangeWindow::new(range, groups, share)),
        Selection::Explicit => Box::new(explicit::Explicit::new(range, groups, share, seed)),
    }
}

/// The address to bind to: the group's, or the unspecified one of its destination's family.
fn bind_address(group: &Group, port: u16) -> socket2::SockAddr {
    let unspecified: IpAddr = match group.destination {
        SocketAddr::V4(_) => [0; 4].into(),
        SocketAddr::V6(_) => [0_u16; 8].into(),
    };
    SocketAddr::new(group.source.unwrap_or(unspecified), port).into()
}
