//! How a worker learns of a connection.

use std::time::Duration;

use strum::{EnumString, IntoStaticStr, VariantNames};

use super::{
    super::{keys, settings::Settings},
    Waiting,
};

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
    /// The workers are threads of one process, and take connections from a channel that another of its threads feeds.
    Pool,
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

/// How the workers of a queue learn of its connections, in scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum WakeName {
    /// [`Trigger::Level`].
    Level,
    /// [`Trigger::Edge`].
    Edge,
    /// [`Trigger::Exclusive`].
    Exclusive,
    /// [`Wake::Thread`].
    Blocking,
    /// [`Wake::Uring`].
    Uring,
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
    /// Whether every worker accepts by itself.
    pub each_accepts: bool,
    /// Whether workers can come and go during a trial.
    pub generations: bool,
    /// Where connections can wait for one worker outside its queue, if anywhere.
    pub waiting: Option<Waiting>,
}

impl Wake {
    pub(super) fn traits(self) -> WakeTraits {
        let plain = WakeTraits {
            datagrams: false,
            calls_accept: true,
            each_accepts: true,
            generations: true,
            waiting: Some(Waiting::Unseen),
        };
        match self {
            Self::Epoll(_) => WakeTraits { datagrams: true, waiting: None, ..plain },
            // Connections wait for the lock's holder, which only that worker knows.
            Self::Lock { .. } => plain,
            // Connections wait between the thread and the loop.
            Self::Thread => plain,
            // Connections wait in the ring.
            Self::Uring => WakeTraits { calls_accept: false, ..plain },
            // What is in the channel waits for no worker in particular.
            Self::Pool => {
                WakeTraits { each_accepts: false, generations: false, waiting: Some(Waiting::Never), ..plain }
            }
            // It hands over to the workers that it began with.
            Self::Dispatcher { .. } => {
                WakeTraits { each_accepts: false, generations: false, waiting: Some(Waiting::HandedOver), ..plain }
            }
        }
    }

    /// As the scenario says for the listeners of a group.
    pub(super) fn shared_as(settings: &Settings<'_>) -> Self {
        match settings.get(keys::SERVER_WAKE) {
            WakeName::Level => Self::Epoll(Trigger::Level),
            WakeName::Edge => Self::Epoll(Trigger::Edge),
            WakeName::Exclusive => Self::Epoll(Trigger::Exclusive),
            WakeName::Blocking => Self::Thread,
            WakeName::Uring => Self::Uring,
        }
    }

    pub(super) fn lock(settings: &Settings<'_>) -> Self {
        Self::Lock { delay: settings.get(keys::SERVER_ACCEPT_MUTEX_DELAY) }
    }

    pub(super) fn dispatcher(settings: &Settings<'_>) -> Self {
        Self::Dispatcher { dispatch: settings.get(keys::SERVER_DISPATCH) }
    }
}
