//! Workers that publish their load for steering programs that use it. They write to memory that the program reads, so this takes no
//! system call. What the workers of a shared queue publish is added up: the program chooses among queues.

use std::{
    io,
    os::fd::BorrowedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use aya::maps::MapData;
use mio::{Events, Registry};

use super::{Acceptor, Receiver, Refused, Source, Taken};
use crate::{
    server::Listener,
    sys::{clock, shared::SharedSlice},
};

/// The words of a queue's state, as in `src/bpf/state.h`.
#[derive(Clone, Copy)]
enum Word {
    Closed = 1,
    Open = 2,
    LoopNs = 3,
    Pending = 4,
    Workers = 5,
}

/// The states of all queues.
pub(super) struct States {
    /// `struct queue_state` of `src/bpf/state.h`: a cache line of words per queue.
    words: SharedSlice<[AtomicU64; 8]>,
    /// The longest a worker's loop may wait, if the program checks that the loop still turns.
    heartbeat: Option<Duration>,
}

impl States {
    /// Maps a program's memory. `workers`: how many accept from each queue.
    pub(super) fn of_bpf_array(map: &MapData, workers: impl ExactSizeIterator<Item = usize>) -> io::Result<Self> {
        let words: SharedSlice<[AtomicU64; 8]> = SharedSlice::of_bpf_array(map, workers.len())?;
        for (state, workers) in words.iter().zip(workers) {
            state[Word::Workers as usize].store(workers as u64, Relaxed);
        }
        Ok(Self { words, heartbeat: None })
    }

    pub(super) fn with_heartbeat(self, heartbeat: Duration) -> Self {
        Self { heartbeat: Some(heartbeat), ..self }
    }
}

/// One worker's access to the state of its queue.
pub(super) struct Publisher {
    states: Arc<States>,
    queue: usize,
    /// Its part of the queue's pending events.
    pending: u64,
    /// Its part of the queue's open connections.
    open: u64,
}

impl Publisher {
    pub(super) fn new(states: Arc<States>, queue: usize) -> Self {
        Self { states, queue, pending: 0, open: 0 }
    }

    /// Publishes a turn of the loop, with this many events to handle.
    fn comes_round(&mut self, events: usize) {
        let before = std::mem::replace(&mut self.pending, events as u64);
        self.change(Word::Pending, (events as u64).wrapping_sub(before));
        self.turns();
    }

    /// Publishes that the loop turns. The last of the queue's workers to do so is the one that counts.
    fn turns(&self) {
        self.word(Word::LoopNs).store(clock::monotonic_ns(), Relaxed);
    }

    /// Adds to a word, modulo 2^64.
    fn change(&self, word: Word, by: u64) {
        self.word(word).fetch_add(by, Relaxed);
    }

    /// Publishes that the worker has one connection more.
    fn opened(&mut self) {
        self.open += 1;
        self.change(Word::Open, 1);
    }

    fn word(&self, word: Word) -> &AtomicU64 {
        &self.states.words[self.queue][word as usize]
    }
}

/// A worker that gives up its queue takes along what it has open.
impl Drop for Publisher {
    fn drop(&mut self) {
        self.change(Word::Pending, self.pending.wrapping_neg());
        self.change(Word::Open, self.open.wrapping_neg());
        self.change(Word::Closed, self.open);
    }
}

/// A source of connections or datagrams whose worker publishes.
pub(super) struct Publishing<S> {
    source: S,
    publisher: Publisher,
}

impl<S> Publishing<S> {
    pub(super) fn new(source: S, publisher: Publisher) -> Self {
        publisher.turns();
        Self { source, publisher }
    }
}

impl<S: Source> Source for Publishing<S> {
    fn register(&mut self, registry: &Registry) -> io::Result<()> {
        self.source.register(registry)
    }

    fn deregister(&mut self) -> io::Result<()> {
        self.source.deregister()
    }

    fn before_wait(&mut self) -> io::Result<Option<Duration>> {
        self.publisher.comes_round(0);
        let patience = self.source.before_wait()?;
        Ok([patience, self.publisher.states.heartbeat].into_iter().flatten().min())
    }

    fn woke(&mut self, events: &Events, pending: usize) {
        self.source.woke(events, pending);
        self.publisher.comes_round(pending);
    }

    fn left_some(&mut self) -> io::Result<()> {
        self.source.left_some()
    }
}

impl<A: Acceptor> Acceptor for Publishing<A> {
    fn accept(&mut self) -> io::Result<Option<Taken>> {
        let taken = self.source.accept()?;
        self.publish(&taken);
        Ok(taken)
    }

    fn has_another(&self) -> bool {
        self.source.has_another()
    }

    fn accept_spared(&mut self) -> io::Result<Option<Taken>> {
        let taken = self.source.accept_spared()?;
        self.publish(&taken);
        Ok(taken)
    }

    fn start(&mut self) -> io::Result<()> {
        self.source.start()
    }

    fn receives(&self) -> bool {
        self.source.receives()
    }

    fn refused(&mut self) -> Refused {
        self.source.refused()
    }

    fn closed(&mut self) {
        self.source.closed();
        self.publisher.open = self.publisher.open.saturating_sub(1);
        self.publisher.change(Word::Open, 1_u64.wrapping_neg());
        self.publisher.change(Word::Closed, 1);
    }

    fn after_accepts(&mut self) -> io::Result<()> {
        self.source.after_accepts()
    }

    fn stop(&mut self) -> io::Result<Vec<Taken>> {
        self.source.stop()
    }

    fn listeners(&self) -> Vec<BorrowedFd<'_>> {
        self.source.listeners()
    }
}

impl<A: Acceptor> Publishing<A> {
    fn publish(&mut self, taken: &Option<Taken>) {
        match taken {
            Some(Taken::Own(_) | Taken::Shed(_)) => self.publisher.opened(),
            // The program picked another queue for it.
            Some(Taken::Over(_)) => {
                self.publisher.opened();
                self.publisher.change(Word::Closed, 1_u64.wrapping_neg());
            }
            Some(Taken::HandedOver) => self.publisher.change(Word::Closed, 1),
            None => {}
        }
    }
}

impl<R: Receiver> Receiver for Publishing<R> {
    fn listener(&mut self) -> &mut Listener {
        self.source.listener()
    }
}
