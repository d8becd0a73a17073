//! `shared-epoll`: every worker waits level-triggered on one inherited listener; an arrival wakes them all.

use std::net::{SocketAddr, TcpListener};

use super::{Acceptor, ListenError, Listeners, Strategy, epoll};

pub(super) struct SharedEpoll;

impl Strategy for SharedEpoll {
    fn open(&self, address: SocketAddr, backlog: i32, _workers: usize) -> Result<Listeners, ListenError> {
        Listeners::shared(address, backlog)
    }

    fn acceptor(&self, listener: TcpListener) -> Box<dyn Acceptor> {
        epoll::EpollAcceptor::boxed(listener, epoll::LEVEL)
    }
}
