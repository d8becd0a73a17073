//! `shared-epoll-exclusive`: one inherited listener, and the kernel wakes one waiting worker per arrival.

use std::net::{SocketAddr, TcpListener};

use super::{Acceptor, ListenError, Listeners, Strategy, epoll};

pub(super) struct SharedEpollExclusive;

impl Strategy for SharedEpollExclusive {
    fn open(&self, address: SocketAddr, backlog: i32, _workers: usize) -> Result<Listeners, ListenError> {
        Listeners::shared(address, backlog)
    }

    fn acceptor(&self, listener: TcpListener) -> Box<dyn Acceptor> {
        epoll::EpollAcceptor::boxed(listener, epoll::EXCLUSIVE)
    }
}
