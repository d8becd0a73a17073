//! Samples a running trial: the listeners' queues every few milliseconds, everything else every 100 ms.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};

use super::{
    foreign::ForeignWatch,
    growth::MemoryWatch,
    ramp::RampWatch,
    rows::{Rows, TICK_NS, Tick},
    subject::Subject,
    tracking::TrackingWatch,
};
use crate::{
    ipc::control::{Control, Count, ListenerSeen},
    observe::{
        counters::SocketReader,
        datagrams::{self, DatagramQueue},
        queues::{Queue, QueueReader, ServerQueues},
    },
    record::{DatagramSocketRow, ListenerRow, MemberRow, QueueRow, Sockets, TrialRecord},
    scenario::{CloseBy, Scenario, Transport},
    sys::clock,
};

/// Reads the queues of the subject's listeners.
pub(super) enum Queues {
    /// Our own server's, which listens where it is told to.
    Own(QueueReader),
    /// Another server's, which may listen at every address.
    Others(OthersQueues),
}

/// The queues of another server's listeners.
pub(super) struct OthersQueues {
    reader: ServerQueues,
    /// The inodes of its listeners as of the last reading.
    group: Vec<u32>,
    /// What listeners had dropped before the trial.
    dropped_before: HashMap<u32, u32>,
}

impl Queues {
    /// Reads the queues of another server that gets connections to an address. Its listeners' drops count from now on.
    pub fn of_others(scenario: &Scenario) -> Result<Self> {
        let mut reader = ServerQueues::of(scenario)?;
        let dropped_before = reader.read()?.into_iter().map(|(inode, queue)| (inode, queue.drops)).collect();
        Ok(Self::Others(OthersQueues { reader, group: Vec::new(), dropped_before }))
    }

    fn read(&mut self) -> Result<HashMap<u32, Queue>> {
        match self {
            Self::Own(reader) => reader.read(),
            Self::Others(OthersQueues { reader, group, dropped_before }) => {
                let mut queues = reader.read()?;
                *group = queues.keys().copied().collect();
                for (inode, queue) in &mut queues {
                    queue.drops = queue.drops.wrapping_sub(dropped_before.get(inode).copied().unwrap_or(0));
                }
                Ok(queues)
            }
        }
    }

    /// The inodes of all listeners that get connections to the server's address, as of the last reading.
    fn group(&self) -> &[u32] {
        match self {
            Self::Own(reader) => reader.group(),
            Self::Others(others) => &others.group,
        }
    }
}

pub(super) struct Sampler {
    control: Arc<Control>,
    /// `None` without connections.
    queues: Option<Queues>,
    accepted_before: Vec<u64>,
    datagrams_before: Vec<u64>,
    rows: Rows,
    /// By worker: samples of its listener's queue.
    seen: Vec<QueueSeen>,
    /// Of another server, by inode: samples of each listener's queue.
    listeners: BTreeMap<u32, QueueSeen>,
    /// By worker: the most bytes sampled, and the latest count of losses.
    datagram_queues: Vec<DatagramQueue>,
    clients: Clients,
    foreign: Option<ForeignWatch>,
    tracking: TrackingWatch,
    ports_peak: u64,
    sockets_peak: Sockets,
    memory: Option<MemoryWatch>,
    ramp: Option<RampWatch>,
    queue_interval_ns: u64,
    next_queues_ns: u64,
    next_tick_ns: u64,
}

/// Samples of one listener's queue.
#[derive(Debug, Clone, Copy, Default)]
struct QueueSeen {
    pub last: Queue,
    /// The queue at its longest.
    pub peak: Queue,
    pub samples: u64,
    /// Sum of all lengths.
    pub lengths: u64,
    /// Samples that found the queue full.
    pub full: u64,
    /// Longest queue since the last tick, and the drops at that tick.
    tick_peak: u32,
    tick_drops: u32,
}

impl QueueSeen {
    fn add(&mut self, queue: Queue) {
        self.last = queue;
        self.samples += 1;
        self.lengths += u64::from(queue.length);
        self.full += u64::from(queue.is_full());
        self.peak.length = self.peak.length.max(queue.length);
        self.peak.limit = self.peak.limit.max(queue.limit);
        self.peak.drops = self.peak.drops.max(queue.drops);
        self.tick_peak = self.tick_peak.max(queue.length);
    }

    fn samples(&self) -> QueueRow {
        QueueRow {
            samples: self.samples,
            mean: self.lengths as f64 / self.samples as f64,
            full_share: self.full as f64 / self.samples as f64,
            drops: u64::from(self.peak.drops),
        }
    }

    fn listener(&self, inode: u32) -> ListenerRow {
        let (queue_peak, queue_limit) = (u64::from(self.peak.length), u64::from(self.peak.limit));
        ListenerRow { inode, queue: self.samples(), queue_peak, queue_limit }
    }

    /// A member's row with only these samples in it; none if its listener is unknown.
    fn row(&self) -> MemberRow {
        if self.samples == 0 {
            return MemberRow::default();
        }
        MemberRow {
            queue: Some(self.samples()),
            queue_peak: Some(u64::from(self.peak.length)),
            queue_limit: Some(u64::from(self.peak.limit)),
            ..MemberRow::default()
        }
    }

    /// The longest queue since the last tick, and the drops.
    fn end_tick(&mut self) -> (u64, u64) {
        let drops = self.last.drops.saturating_sub(self.tick_drops);
        self.tick_drops = self.last.drops.max(self.tick_drops);
        (u64::from(std::mem::take(&mut self.tick_peak)), u64::from(drops))
    }
}

/// Counts the ports that clients use.
pub(super) struct Clients {
    /// Whether they are on this host: on others, nobody samples their ports.
    pub are_here: bool,
    /// The sockets of the loaders' network namespace.
    pub sockets: SocketReader,
    /// Whether the server is in the same namespace, so that its sockets are among them.
    pub with_server: bool,
    /// Which side closes first, and so has TIME_WAIT.
    pub close_by: CloseBy,
}

impl Clients {
    /// Ports taken by TCP or by UDP, whichever are more: their port spaces are separate. The server has this many listeners and
    /// datagram sockets.
    fn ports_taken(&self, sockets: Sockets, listeners: u64, datagram_sockets: u64) -> u64 {
        if !self.are_here {
            return 0;
        }
        if !self.with_server {
            return (sockets.in_use + sockets.time_wait).max(sockets.udp);
        }
        // On loopback, both ends count as in use, and so do listeners.
        let held = sockets.in_use.saturating_sub(listeners) / 2;
        // TIME_WAIT takes a port only on the clients' side.
        let tcp = held + if self.close_by == CloseBy::Client { sockets.time_wait } else { 0 };
        tcp.max(sockets.udp.saturating_sub(datagram_sockets))
    }
}

impl Sampler {
    pub(super) fn new(
        control: &Arc<Control>,
        (queues, foreign, tracking): (Option<Queues>, Option<ForeignWatch>, TrackingWatch),
        clients: Clients,
        (memory, ramp): (Option<MemoryWatch>, Option<RampWatch>),
        queue_interval: Duration,
    ) -> Result<Self> {
        Ok(Self {
            memory,
            ramp,
            control: Arc::clone(control),
            queues,
            accepted_before: Vec::new(),
            datagrams_before: Vec::new(),
            rows: Rows::new(),
            seen: Vec::new(),
            listeners: BTreeMap::new(),
            datagram_queues: Vec::new(),
            clients,
            foreign,
            tracking,
            ports_peak: 0,
            sockets_peak: Sockets::default(),
            queue_interval_ns: clock::nanoseconds(queue_interval),
            next_queues_ns: 0,
            next_tick_ns: 0,
        })
    }

    /// Sets when the trial starts. Without recording, only the last sample is taken.
    pub(super) fn start(&mut self, start_ns: u64) {
        if !self.control.records() {
            (self.next_queues_ns, self.next_tick_ns, self.ramp) = (u64::MAX, u64::MAX, None);
            return;
        }
        if let Some(ramp) = &mut self.ramp {
            ramp.start(start_ns);
        }
        self.next_queues_ns = start_ns;
        self.next_tick_ns = start_ns + TICK_NS;
    }

    /// When the next sample is due.
    pub(super) fn next_ns(&self) -> u64 {
        self.next_queues_ns.min(self.next_tick_ns)
    }

    /// Takes the samples that are due. Missed samples of queues are skipped; a late tick covers the ticks before it.
    pub(super) fn sample_due(&mut self, now_ns: u64, subject: &dyn Subject) -> Result<()> {
        let tick = now_ns >= self.next_tick_ns;
        if tick || now_ns >= self.next_queues_ns {
            self.sample_queues(subject)?;
            let late_ns = now_ns.saturating_sub(self.next_queues_ns) / self.queue_interval_ns * self.queue_interval_ns;
            if now_ns >= self.next_queues_ns {
                self.next_queues_ns += late_ns + self.queue_interval_ns;
            }
        }
        if tick {
            let ticks = 1 + (now_ns - self.next_tick_ns) / TICK_NS;
            self.next_tick_ns += ticks * TICK_NS;
            self.tick(ticks, subject)?;
        }
        Ok(())
    }

    /// Takes the last sample.
    pub(super) fn sample_last(&mut self, subject: &dyn Subject) -> Result<()> {
        self.sample_queues(subject)?;
        self.tick(1, subject)
    }

    /// Samples everything, for this many ticks: more than one if earlier ones were missed.
    fn tick(&mut self, ticks: u64, subject: &dyn Subject) -> Result<()> {
        let (ports_taken, time_wait) = self.sample_ports(subject)?;
        self.tracking.sample()?;
        let members = 0..subject.members();
        let open: Vec<u64> = members.map_while(|member| subject.count(member, Count::Open)).collect();
        if let Some(memory) = &mut self.memory {
            memory.look(open.iter().sum())?;
        }
        let receive_queue_bytes = self.sample_datagram_queues(subject)?;
        let accepted = growth(subject, Count::Accepted, &mut self.accepted_before);
        let datagrams = growth(subject, Count::Datagrams, &mut self.datagrams_before);
        let (queue_peak, queue_drops) = self.seen.iter_mut().map(QueueSeen::end_tick).unzip();
        let tick = Tick {
            accepted,
            queue_depth: self.seen.iter().map(|seen| u64::from(seen.last.length)).collect(),
            queue_peak,
            queue_drops,
            open,
            ports_taken,
            time_wait,
            datagrams: if self.datagram_queues.is_empty() { Vec::new() } else { datagrams },
            receive_queue_bytes,
        };
        self.rows.push_late(&tick, ticks);
        Ok(())
    }

    /// Samples ports taken and sockets in TIME_WAIT.
    fn sample_ports(&mut self, subject: &dyn Subject) -> Result<(u64, u64)> {
        let sockets = self.clients.sockets.read().context("reading /proc/self/net/sockstat")?;
        let listeners = |transport| subject.listeners(transport).len() as u64;
        let taken = self.clients.ports_taken(sockets, listeners(Transport::Tcp), listeners(Transport::Udp));
        self.ports_peak = self.ports_peak.max(taken);
        self.sockets_peak.peak(&sockets);
        Ok((taken, sockets.time_wait))
    }

    /// Samples the queues and the progress of a ramp.
    fn sample_queues(&mut self, subject: &dyn Subject) -> Result<()> {
        if let Some(ramp) = &mut self.ramp {
            ramp.look(subject, &self.control);
        }
        if let Some(foreign) = &mut self.foreign {
            foreign.look_at_datagrams(|| subject.listeners(Transport::Udp), || subject.pids())?;
        }
        self.seen.resize(subject.members(), QueueSeen::default());
        let Some(reader) = &mut self.queues else { return Ok(()) };
        let queues = reader.read()?;
        if let Some(foreign) = &mut self.foreign {
            foreign.look(reader.group(), || subject.listeners(Transport::Tcp), || subject.pids());
        }
        if matches!(reader, Queues::Others(_)) {
            queues.iter().for_each(|(inode, queue)| self.listeners.entry(*inode).or_default().add(*queue));
        }
        // The longest queue stands for those of several listeners: it is unknown which of them the member uses, or all but one are on
        // addresses that clients do not connect to. Of equals, that is the last.
        let longest_of = |held: &[u32]| {
            let found = held.iter().rev().filter_map(|inode| Some((*inode, *queues.get(inode)?)));
            found.max_by_key(|(_, queue)| queue.length)
        };
        let mut last: (&[u32], Option<(u32, Queue)>) = (&[], None);
        for (member, seen) in self.seen.iter_mut().enumerate() {
            let held = subject.held(member, Transport::Tcp);
            // Hundreds of members may hold the same hundreds of listeners: as a rule, those are the same slice.
            if !std::ptr::eq(last.0, held) {
                last = (held, longest_of(held));
            }
            let longest = last.1;
            // A dead member's listener is gone.
            let gone = || held.first().map(|inode| (*inode, Queue { length: 0, ..seen.last }));
            let Some((inode, queue)) = longest.or_else(gone) else { continue };
            seen.add(queue);
            if member < self.control.workers() {
                let listener = ListenerSeen {
                    inode: u64::from(inode),
                    length: u64::from(queue.length),
                    limit: u64::from(queue.limit),
                    drops: u64::from(queue.drops),
                };
                self.control.saw_listener(member, listener);
            }
        }
        Ok(())
    }

    /// The bytes in datagram sockets, by worker.
    fn sample_datagram_queues(&mut self, subject: &dyn Subject) -> Result<Vec<u64>> {
        let members = 0..subject.members();
        let inodes: Vec<&[u32]> =
            members.map(|member| subject.held(member, Transport::Udp)).filter(|held| !held.is_empty()).collect();
        if inodes.is_empty() {
            return Ok(Vec::new());
        }
        self.datagram_queues.resize(inodes.len(), DatagramQueue::default());
        let sockets = datagrams::read().context("reading /proc/self/net/udp")?;
        let rows = inodes.iter().zip(&mut self.datagram_queues).map(|(held, seen)| {
            let of_all = held.iter().filter_map(|inode| sockets.get(inode)).copied();
            let sum = of_all
                .reduce(|one, other| DatagramQueue { bytes: one.bytes + other.bytes, lost: one.lost + other.lost });
            // A dead member's sockets are gone, and their losses are already known.
            let now = sum.unwrap_or(DatagramQueue { bytes: 0, lost: seen.lost });
            *seen = DatagramQueue { bytes: seen.bytes.max(now.bytes), lost: now.lost };
            now.bytes
        });
        Ok(rows.collect())
    }

    /// Connections waiting in all queues together; members that share a listener share its queue.
    pub(super) fn waiting(&mut self, subject: &dyn Subject) -> Result<u64> {
        let listeners = subject.listeners(Transport::Tcp);
        let Some(reader) = self.queues.as_mut().filter(|_| !listeners.is_empty()) else { return Ok(0) };
        let queues = reader.read()?;
        let waiting = queues.iter().filter(|(inode, _)| listeners.contains(inode));
        Ok(waiting.map(|(_, queue)| u64::from(queue.length)).sum())
    }

    /// The current length of the queue of a member's listener, the first of several; 0 if the listener is gone.
    pub(super) fn queue_of(&mut self, member: usize, subject: &dyn Subject) -> Result<u64> {
        let Some(reader) = &mut self.queues else { return Ok(0) };
        let queues = reader.read()?;
        let queue = subject.held(member, Transport::Tcp).first().and_then(|inode| queues.get(inode));
        Ok(queue.map_or(0, |queue| u64::from(queue.length)))
    }

    /// The bytes now in a member's datagram socket; `None` without datagrams.
    pub(super) fn datagram_bytes_of(&mut self, member: usize, subject: &dyn Subject) -> Result<Option<u64>> {
        let now = self.sample_datagram_queues(subject)?;
        Ok(now.get(member).copied())
    }

    /// Enters the samples of the whole trial. Returns rows with the samples of each worker's queues, and what watches connection tracking, which
    /// ends once the server has.
    pub(super) fn end(self, record: &mut TrialRecord) -> (Vec<MemberRow>, TrackingWatch) {
        record.series = self.rows.finish();
        record.listeners = self.listeners.iter().map(|(inode, seen)| seen.listener(*inode)).collect();
        record.ports_peak = self.ports_peak;
        record.sockets_peak = self.sockets_peak;
        record.memory = self.memory.and_then(MemoryWatch::end);
        record.connections.foreign_members = self.foreign.map(ForeignWatch::members).unwrap_or_default();
        record.ramp = self.ramp.and_then(|ramp| ramp.end(&self.control));
        let mut rows: Vec<MemberRow> = self.seen.iter().map(QueueSeen::row).collect();
        for (row, seen) in rows.iter_mut().zip(&self.datagram_queues) {
            let socket =
                DatagramSocketRow { lost: seen.lost, queue_peak_bytes: seen.bytes, ..DatagramSocketRow::default() };
            row.datagram_socket = Some(socket);
        }
        (rows, self.tracking)
    }
}

/// Growth of each member's counter since the last sample; empty if nobody counts.
fn growth(subject: &dyn Subject, count: Count, before: &mut Vec<u64>) -> Vec<u64> {
    before.resize(subject.members(), 0);
    let grown = before.iter_mut().enumerate().map_while(|(member, before)| {
        let now = subject.count(member, count)?;
        Some(now - std::mem::replace(before, now))
    });
    grown.collect()
}
