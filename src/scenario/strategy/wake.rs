//! How a worker learns of a connection.

use std::time::Duration;

use strum::{EnumString, IntoStaticStr, VariantNames};

use super::{
    super::{keys, settings::Settings},
    Waiting,
};
use crate::record::WaitEnd;

/// How a worker learns of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// The queue is in the worker's epoll instance.
    Epoll(Trigger),
    /// The same, level-triggered, while the worker holds a lock shared by the queue's workers.
    Lock {
        /// How long a worker that failed to get the lock waits before retrying.
        delay: Duration,
    },
    /// A thread of the worker blocks in accept(2) and hands connections over to the worker's loop.
    Thread,
    /// An io_uring multishot accept of the worker.
    Uring,
    /// A separate process accepts and hands each connection to a worker (SCM_RIGHTS).
    Dispatcher { dispatch: Dispatch },
}

/// When epoll reports a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// As long as it holds a connection.
    Level,
    /// When a connection arrives.
    Edge,
    /// As long as it holds a connection, but an arrival wakes one waiting worker instead of all (EPOLLEXCLUSIVE).
    Exclusive,
}

/// Which worker a dispatcher hands a connection to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum Dispatch {
    /// Each worker in turn.
    RoundRobin,
    /// The worker with the fewest connections.
    LeastConnections,
}

/// What follows from a wake-up.
pub(super) struct WakeTraits {
    /// Whether it makes sense for datagrams.
    pub datagrams: bool,
    /// Whether accept4(2) is called.
    pub calls_accept: bool,
    /// Whether a process besides the workers accepts.
    pub helper: bool,
    /// Where connections can wait for one worker outside its queue, if anywhere.
    pub waiting: Option<Waiting>,
    /// What ends the accept wait.
    pub wait_end: WaitEnd,
}

impl Wake {
    pub(super) fn traits(self) -> WakeTraits {
        let plain = WakeTraits {
            datagrams: false,
            calls_accept: true,
            helper: false,
            waiting: Some(Waiting::Unseen),
            wait_end: WaitEnd::Serving,
        };
        match self {
            Self::Epoll(_) => WakeTraits { datagrams: true, waiting: None, ..plain },
            // Connections wait for the lock's holder, which only that worker knows.
            Self::Lock { .. } => plain,
            // Connections wait between the thread and the loop.
            Self::Thread => WakeTraits { wait_end: WaitEnd::Accept, ..plain },
            // Connections wait in the ring. The accept is stamped when the worker takes it from there.
            Self::Uring => WakeTraits { calls_accept: false, ..plain },
            Self::Dispatcher { .. } => {
                WakeTraits { helper: true, waiting: Some(Waiting::HandedOver), wait_end: WaitEnd::Accept, ..plain }
            }
        }
    }

    pub(super) fn lock(settings: &Settings<'_>) -> Self {
        Self::Lock { delay: settings.get(keys::SERVER_ACCEPT_MUTEX_DELAY) }
    }

    pub(super) fn dispatcher(settings: &Settings<'_>) -> Self {
        Self::Dispatcher { dispatch: settings.get(keys::SERVER_DISPATCH) }
    }
}
