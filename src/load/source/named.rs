//! Clients of a Unix socket bind to names with a number each, which our own server then sees. Each process has its own numbers.

use std::{collections::VecDeque, io};

use socket2::Socket;

use super::{Group, Share, Source};
use crate::sys::unix;

/// Hands out names.
pub(super) struct Named {
    /// Free numbers, the one freed longest ago first.
    free: VecDeque<u16>,
    /// The number of the socket prepared last, until it has connected.
    last: Option<u16>,
    /// The process that the names are of, so that those of several are different.
    process: u32,
}

impl Named {
    pub fn new(share: Share) -> Self {
        let own = (1..=u16::MAX).skip(share.process).step_by(share.processes);
        Self { free: own.collect(), last: None, process: std::process::id() }
    }
}

impl Source for Named {
    fn prepare(&mut self, socket: &Socket, _: &Group) -> io::Result<()> {
        self.last = None;
        for _ in 0..self.free.len() {
            let Some(number) = self.free.pop_front() else { break };
            match socket.bind(&unix::client_name(self.process, number)?) {
                Ok(()) => {
                    self.last = Some(number);
                    return Ok(());
                }
                // The kernel still has operations on the socket that had it.
                Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => self.free.push_back(number),
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL))
    }

    fn given_up(&mut self, _: &Group) {
        self.free.extend(self.last.take());
    }

    fn freed(&mut self, _: &Group, port: u16) {
        self.free.push_back(port);
    }
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Type};

    use super::*;
    use crate::sys::unix::SERVER_END;

    #[test]
    fn each_process_has_its_own_numbers_and_uses_them_again() {
        let group = Group { number: 0, source: None, destination: SERVER_END };
        let mut sources = [0, 1].map(|process| Named::new(Share { process, processes: 2 }));
        assert_eq!(sources.iter().map(|source| source.free.len()).sum::<usize>() as u64, unix::MOST_CLIENTS);
        let mut prepared = |source: usize| {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            sources[source].prepare(&socket, &group).unwrap();
            let end = unix::end(&socket.local_addr().unwrap()).unwrap();
            (socket, end.port())
        };
        let all = [prepared(0), prepared(1), prepared(0), prepared(1)];
        assert_eq!(all.each_ref().map(|(_, number)| *number), [1, 2, 3, 4]);
        let [source, _] = &mut sources;
        source.free = VecDeque::from([1, 3]);
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        let error = source.prepare(&socket, &group).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL), "both are taken");
        drop(all);
        source.prepare(&socket, &group).unwrap();
        source.given_up(&group);
        source.freed(&group, 5);
        assert_eq!(source.free, [3, 1, 5]);
    }
}
