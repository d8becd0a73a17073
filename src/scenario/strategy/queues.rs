//! How many queues of connections there are.

use super::super::{keys, settings::Settings};

/// Queues of connections: listeners, or UDP sockets. Worker w takes from queue w mod their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queues {
    /// An ordinary listener that all workers share.
    One,
    /// An SO_REUSEPORT group of this many, each shared by a part of the workers.
    Group(usize),
    /// An SO_REUSEPORT group with one per worker.
    PerWorker,
}

impl Queues {
    /// A group of as many as the scenario says.
    pub(super) fn group(settings: &Settings<'_>) -> Self {
        settings.get(keys::SERVER_LISTENERS).map_or(Self::PerWorker, Self::Group)
    }

    /// The number of queues for this many workers.
    pub fn count(self, workers: usize) -> usize {
        match self {
            Self::One => 1,
            Self::Group(count) => count,
            Self::PerWorker => workers,
        }
    }

    /// Whether they form an SO_REUSEPORT group.
    pub fn form_group(self) -> bool {
        self != Self::One
    }

    /// How many workers take from the same queue as this one, itself included.
    pub fn sharers(self, worker: usize, workers: usize) -> usize {
        sharers(worker % self.count(workers), self.count(workers), workers)
    }
}

/// How many of the workers take from one of so many queues.
pub fn sharers(queue: usize, queues: usize, workers: usize) -> usize {
    (queue..workers).step_by(queues).count()
}
