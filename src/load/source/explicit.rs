//! `explicit`: the program chooses the port itself and binds to it. Each process has its own ports, in random order, and knows
//! which are in use, so nothing needs searching, however full the range is.

use std::{collections::VecDeque, io};

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use socket2::Socket;

use super::{Group, Share, Source, bind_address};
use crate::observe::ports::Range;

pub(super) struct Explicit {
    /// By group: free ports, the next one first. A port goes to the end when its connection is over, so that a port in TIME_WAIT rests
    /// as long as possible; a socket bound to it may take it over anyway, once the server's timestamps have advanced (kernel,
    /// tcp_twsk_unique).
    free: Vec<VecDeque<u16>>,
    /// The port bound last, while its socket has yet to connect.
    last: Option<u16>,
}

impl Explicit {
    pub fn new(range: &Range, groups: usize, share: Share, seed: u64) -> Self {
        let mut ports: Vec<u16> = (range.low..=range.high).filter(|port| range.is_usable(*port)).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        ports.shuffle(&mut rng);
        let own = || ports.iter().copied().skip(share.process).step_by(share.processes).collect();
        Self { free: (0..groups).map(|_| own()).collect(), last: None }
    }
}

impl Source for Explicit {
    fn prepare(&mut self, socket: &Socket, group: &Group) -> io::Result<()> {
        // Ports of other groups, and those in TIME_WAIT, may be bound again.
        socket.set_reuse_address(true)?;
        self.last = None;
        for _ in 0..self.free[group.number].len() {
            let Some(port) = self.free[group.number].pop_front() else { break };
            match socket.bind(&bind_address(group, port)) {
                Ok(()) => {
                    self.last = Some(port);
                    return Ok(());
                }
                // Another program uses the port.
                Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL))
    }

    fn try_elsewhere(&mut self, group: &Group) -> bool {
        // This port's TIME_WAIT is too young; another's may be older.
        let free = &mut self.free[group.number];
        let others = !free.is_empty();
        free.extend(self.last.take());
        others
    }

    fn given_up(&mut self, group: &Group) {
        self.free[group.number].extend(self.last.take());
    }

    fn freed(&mut self, group: &Group, port: u16) {
        self.free[group.number].push_back(port);
    }
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Type};

    use super::*;

    #[test]
    fn a_port_that_did_not_connect_is_free_again() {
        let range = Range::parse("41000 41001", "").unwrap();
        let mut source = Explicit::new(&range, 1, Share { process: 0, processes: 1 }, 1);
        let group = Group { number: 0, source: Some([127, 0, 0, 1].into()), destination: ([127, 0, 0, 1], 1).into() };
        let prepared = |source: &mut Explicit| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            source.prepare(&socket, &group).ok().map(|()| socket.local_addr().unwrap().as_socket().unwrap().port())
        };
        let (first, second) = (prepared(&mut source).unwrap(), prepared(&mut source).unwrap());
        assert_ne!(first, second);
        assert_eq!(prepared(&mut source), None);
        source.given_up(&group);
        assert_eq!(prepared(&mut source), None);
        source.freed(&group, first);
        assert_eq!(prepared(&mut source), Some(first));
        source.given_up(&group);
        assert_eq!(prepared(&mut source), Some(first));
    }
}
