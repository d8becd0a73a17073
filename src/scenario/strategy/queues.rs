//! How many queues of connections there are.

/// Queues of connections: listeners, or UDP sockets. Worker w takes from queue w mod their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queues {
    /// This many, each shared by a part of the workers. A single queue is an ordinary listener; several form an
    /// SO_REUSEPORT group.
    Shared(usize),
    /// One per worker, in an SO_REUSEPORT group.
    PerWorker,
}

impl Queues {
    /// One that all workers share.
    pub const ONE: Self = Self::Shared(1);

    /// The number of queues for this many workers.
    pub fn count(self, workers: usize) -> usize {
        match self {
            Self::Shared(count) => count,
            Self::PerWorker => workers,
        }
    }

    /// Whether they form an SO_REUSEPORT group.
    pub fn form_group(self) -> bool {
        self != Self::ONE
    }

    /// How many workers take from the same queue as this one, itself included.
    pub fn sharers(self, worker: usize, workers: usize) -> usize {
        let count = self.count(workers);
        (worker % count..workers).step_by(count).count()
    }
}
