//! `reuseport`: a listener per worker; the kernel's hash of the 4-tuple picks one for each connection.

use std::net::{SocketAddr, TcpListener};

use super::{Acceptor, ListenError, Listeners, Strategy, epoll};

pub(super) struct Reuseport;

impl Strategy for Reuseport {
    fn open(&self, address: SocketAddr, backlog: i32, workers: usize) -> Result<Listeners, ListenError> {
        Listeners::group(address, backlog, workers)
    }

    fn acceptor(&self, listener: TcpListener) -> Box<dyn Acceptor> {
        epoll::EpollAcceptor::boxed(listener, epoll::LEVEL)
    }
}
