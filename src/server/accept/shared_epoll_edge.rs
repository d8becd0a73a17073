//! `shared-epoll-edge`: every worker waits edge-triggered on one inherited listener, as mio itself would.

use std::net::{SocketAddr, TcpListener};

use super::{Acceptor, ListenError, Listeners, Strategy, epoll};

pub(super) struct SharedEpollEdge;

impl Strategy for SharedEpollEdge {
    fn open(&self, address: SocketAddr, backlog: i32, _workers: usize) -> Result<Listeners, ListenError> {
        Listeners::shared(address, backlog)
    }

    fn acceptor(&self, listener: TcpListener) -> Box<dyn Acceptor> {
        epoll::EpollAcceptor::boxed(listener, epoll::EDGE)
    }
}
