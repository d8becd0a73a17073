//! eBPF programs that pick a member of a SO_REUSEPORT group, and the memory through which workers direct them.
//!
//! The programs are C in `src/bpf`, their objects committed; `scripts/build-bpf` rebuilds them.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, ReusePortSockArray},
    programs::SkReuseport,
};
use mio::Registry;
use socket2::Socket;

use super::{Accepted, Acceptor, Receiver, Source, epoll::EpollListener};
use crate::{
    server::{Listener, Listeners, Site},
    sys::{bpf, clock, shared::SharedSlice},
};

const WANTED: &str = "one from 4.19 on is wanted, with BPF_PROG_TYPE_SK_REUSEPORT and BPF_MAP_TYPE_REUSEPORT_SOCKARRAY";

/// The words of a worker's state, as in `src/bpf/state.h`.
#[derive(Clone, Copy)]
pub(super) enum Word {
    Closed = 1,
    Open = 2,
    LoopNs = 3,
    Pending = 4,
}

/// `struct worker_state` of `src/bpf/state.h`: a cache line of words per worker.
pub(super) type States = SharedSlice<[AtomicU64; 8]>;

/// Opens a group and lets a program pick its members.
pub(super) fn open(
    name: &str,
    object: &[u8],
    site: Site,
    globals: &[(&str, u64)],
) -> Result<(Listeners, Option<Arc<States>>)> {
    let listeners = Listeners::group(site)?;
    let states = attach(object, &listeners, site, globals).map_err(|error| {
        let remedy = bpf::remedy(&error, WANTED);
        error.context(format!("BPF program {name}: {remedy}"))
    })?;
    Ok((listeners, states))
}

fn attach(object: &[u8], listeners: &Listeners, site: Site, globals: &[(&str, u64)]) -> Result<Option<Arc<States>>> {
    let workers = u32::try_from(site.workers)?;
    let mut loader = EbpfLoader::new();
    loader.override_global("workers", &workers, true);
    for (name, value) in globals {
        loader.override_global(name, value, true);
    }
    let mut bpf: Ebpf = loader.load(object).context("loading its object")?;
    let members = bpf.map_mut("members").context("the object has no map `members`")?;
    let mut members = ReusePortSockArray::try_from(members).context("map `members`")?;
    for (number, socket) in listeners.each().enumerate() {
        members
            .set(number as u32, &*socket, 0)
            .with_context(|| format!("adding listener {number} to map `members`"))?;
    }
    let program = bpf.program_mut("pick").context("the object has no program `pick`")?;
    let program: &mut SkReuseport = program.try_into().context("program `pick`")?;
    program.load().context("verifying program `pick`")?;
    program.attach(listeners.any()).context("attaching program `pick` to the listeners")?;
    // From here on the group keeps the program, the program its maps, and closing the last listener frees them all.
    match bpf.map("state") {
        Some(Map::Array(data)) => {
            let states = States::of_file(data.fd(), site.workers).context("mapping map `state`")?;
            Ok(Some(Arc::new(states)))
        }
        _ => Ok(None),
    }
}

/// A member of a group that publishes its worker's state.
pub(super) struct PublishingListener {
    listener: EpollListener,
    states: Arc<States>,
    worker: usize,
    /// The loop comes round at least so often, if the program wants to know that it does.
    heartbeat: Option<Duration>,
}

impl PublishingListener {
    pub(super) fn new(
        listener: Listener,
        states: Option<&Arc<States>>,
        worker: usize,
        heartbeat: Option<Duration>,
    ) -> Result<Self> {
        let states = Arc::clone(states.context("the strategy has not been opened")?);
        let listener = EpollListener::new(listener, super::epoll::LEVEL);
        let acceptor = Self { listener, states, worker, heartbeat };
        acceptor.set(Word::LoopNs, clock::monotonic_ns());
        Ok(acceptor)
    }

    fn word(&self, word: Word) -> &AtomicU64 {
        &self.states[self.worker][word as usize]
    }

    // The worker is the only writer of these words.
    fn set(&self, word: Word, value: u64) {
        self.word(word).store(value, Relaxed);
    }

    fn change(&self, word: Word, by: i64) {
        self.set(word, self.word(word).load(Relaxed).wrapping_add_signed(by));
    }
}

impl Source for PublishingListener {
    fn register(&mut self, registry: &Registry) -> io::Result<()> {
        self.listener.register(registry)
    }

    fn deregister(&mut self) -> io::Result<()> {
        self.listener.deregister()
    }

    fn before_wait(&mut self) -> io::Result<Option<Duration>> {
        self.woke(0);
        Ok(self.heartbeat)
    }

    fn woke(&mut self, events: usize) {
        self.set(Word::Pending, events as u64);
        self.set(Word::LoopNs, clock::monotonic_ns());
    }

    fn left_some(&mut self) -> io::Result<()> {
        self.listener.left_some()
    }
}

impl Acceptor for PublishingListener {
    fn accept(&mut self) -> io::Result<Accepted> {
        let accepted = self.listener.accept()?;
        self.change(Word::Open, 1);
        Ok(accepted)
    }

    fn closed(&mut self) {
        self.change(Word::Open, -1);
        self.change(Word::Closed, 1);
    }
}

impl Receiver for PublishingListener {
    fn socket(&self) -> &Socket {
        self.listener.socket()
    }
}
