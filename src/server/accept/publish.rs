//! Workers that publish their load for steering programs that use it. They write to memory that the program reads, so this takes no
//! system call.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use aya::maps::MapData;
use mio::Registry;
use socket2::Socket;

use super::{Accepted, Acceptor, Receiver, Source};
use crate::sys::{clock, shared::SharedSlice};

/// The words of a worker's state, as in `src/bpf/state.h`.
#[derive(Clone, Copy)]
enum Word {
    Closed = 1,
    Open = 2,
    LoopNs = 3,
    Pending = 4,
}

/// The states of all workers.
pub(super) struct States {
    /// `struct worker_state` of `src/bpf/state.h`: a cache line of words per worker.
    words: SharedSlice<[AtomicU64; 8]>,
    /// The longest a worker's loop may wait, if the program checks that the loop still turns.
    heartbeat: Option<Duration>,
}

impl States {
    /// Maps a program's memory.
    pub(super) fn of_bpf_array(map: &MapData, workers: usize) -> io::Result<Self> {
        Ok(Self { words: SharedSlice::of_bpf_array(map, workers)?, heartbeat: None })
    }

    pub(super) fn with_heartbeat(self, heartbeat: Duration) -> Self {
        Self { heartbeat: Some(heartbeat), ..self }
    }
}

/// One worker's access to its state.
pub(super) struct Publisher {
    states: States,
    worker: usize,
}

impl Publisher {
    pub(super) fn new(states: States, worker: usize) -> Self {
        Self { states, worker }
    }

    /// Publishes a turn of the loop, with this many events to handle.
    fn comes_round(&self, events: usize) {
        self.set(Word::Pending, events as u64);
        self.set(Word::LoopNs, clock::monotonic_ns());
    }

    // The worker is the only writer of these words.
    fn set(&self, word: Word, value: u64) {
        self.word(word).store(value, Relaxed);
    }

    fn change(&self, word: Word, by: i64) {
        self.set(word, self.word(word).load(Relaxed).wrapping_add_signed(by));
    }

    fn word(&self, word: Word) -> &AtomicU64 {
        &self.states.words[self.worker][word as usize]
    }
}

/// A source of connections or datagrams whose worker publishes.
pub(super) struct Publishing<S> {
    source: S,
    publisher: Publisher,
}

impl<S> Publishing<S> {
    pub(super) fn new(source: S, publisher: Publisher) -> Self {
        publisher.set(Word::LoopNs, clock::monotonic_ns());
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

    fn woke(&mut self, events: usize) {
        self.source.woke(events);
        self.publisher.comes_round(events);
    }

    fn left_some(&mut self) -> io::Result<()> {
        self.source.left_some()
    }
}

impl<A: Acceptor> Acceptor for Publishing<A> {
    fn accept(&mut self) -> io::Result<Accepted> {
        let accepted = self.source.accept()?;
        self.publisher.change(Word::Open, 1);
        Ok(accepted)
    }

    fn closed(&mut self) {
        self.source.closed();
        self.publisher.change(Word::Open, -1);
        self.publisher.change(Word::Closed, 1);
    }

    fn after_accepts(&mut self) -> io::Result<()> {
        self.source.after_accepts()
    }

    fn stop(&mut self) -> io::Result<Vec<Accepted>> {
        self.source.stop()
    }
}

impl<R: Receiver> Receiver for Publishing<R> {
    fn socket(&self) -> &Socket {
        self.source.socket()
    }
}
