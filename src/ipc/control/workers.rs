//! What workers count and record, both now and as it stood at the edges of the measured window.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crossbeam::utils::CachePadded;

use super::{Control, Window};
use crate::{
    ipc::{histogram, increase, tally::Tallies},
    record::{Cause, ErrorCount, Step, WorkerCounts},
    sys::{
        clock::{self, CpuUse},
        limits,
        shared::steadily,
    },
};

/// What a worker counts. `Cpu*` and `*Switches` are updated only at the edges of the measured window and at the end.
#[derive(Debug, Clone, Copy)]
pub enum Count {
    /// Connections that the worker got, by its own accept or handed over.
    Accepted,
    /// Wake-ups of the loop in which the listener was reported ready.
    Wakeups,
    /// Wake-ups among those in which there was nothing to accept: another worker was faster.
    EmptyWakeups,
    /// Calls of accept(2) that returned EAGAIN.
    AcceptEagain,
    /// Calls of accept(2), and other ways to get a connection, that failed for want of a descriptor: EMFILE and ENFILE.
    Emfile,
    /// Connections that were accepted with the spare descriptor, and closed.
    Shed,
    /// The process's limit of open files; 0 until it is known.
    DescriptorLimit,
    /// Descriptors below it that were in use before the first connection.
    DescriptorsBefore,
    /// Requests answered, over connections and by datagram.
    Requests,
    /// TLS handshakes completed, and those of them that resumed an earlier session.
    Handshakes,
    HandshakesResumed,
    /// Datagrams received.
    Datagrams,
    /// Wake-ups of the loop in which the datagram socket was reported ready.
    DatagramWakeups,
    /// Wake-ups among those in which there was nothing to receive.
    DatagramEmptyWakeups,
    /// Datagrams found in the socket after the load's end.
    DatagramsLeft,
    /// Datagrams that were in a socket when its worker closed it, in a change of workers.
    DatagramsDropped,
    /// Datagrams among those received, left and dropped that came from outside the job.
    DatagramsForeign,
    /// Datagrams that the socket had lost when it last delivered one (SO_RXQ_OVFL). Each worker sees all losses of a shared socket.
    DatagramsLost,
    /// Connections that a dispatcher has handed to the worker, counted by the dispatcher.
    Assigned,
    /// Connections that the worker or helper has accepted and handed over to another worker.
    HandedOver,
    /// Connections among those accepted that another worker or a helper had accepted.
    TakenOver,
    /// Connections among those accepted, or by a helper closed at once, that are plain TCP though the listener is MPTCP's.
    FellBack,
    /// Accepted connections whose exact accept wait is unknown.
    Unstamped,
    /// Connections among those accepted of which all is recorded that is known of their accept waits.
    Settled,
    /// Connections with an exact accept wait that came from a ring at an unknown time, although times are recorded.
    HandOverUnknown,
    /// Connections open now.
    Open,
    /// The most connections open at once.
    OpenPeak,
    /// CPU time in user mode since the process began, in nanoseconds.
    CpuUserNs,
    /// CPU time in the kernel since the process began, in nanoseconds.
    CpuSystemNs,
    /// Times the process went to sleep.
    VoluntarySwitches,
    /// Times another process took its processor.
    InvoluntarySwitches,
    /// 1 in the copy kept at an edge that the worker has passed.
    Marked,
}

/// When a worker last accepted.
pub(super) type LastAcceptCell = CachePadded<AtomicU64>;

const COUNTS: usize = Count::Marked as usize + 1;

type CountWords = [AtomicU64; COUNTS];

/// A worker's counters: now, and as they stood at the three edges.
const NOW: usize = 0;
const AT_START: usize = 1;
const AT_MEASURE_FROM: usize = 2;
const AT_MEASURE_TO: usize = 3;
pub(super) type WorkerCell = CachePadded<[CountWords; 4]>;

/// What a worker records in histograms.
#[derive(Debug, Clone, Copy)]
pub enum Kept {
    /// Exact accept waits, in nanoseconds, of connections established since the measured window began: after its end, only those come
    /// that were due in it.
    AcceptWait,
    /// Hand-overs, in nanoseconds, of the connections in `AcceptWait` that another thread or process, or the kernel for a ring,
    /// accepted; without exact waits, of those accepted in the measured window.
    HandOver,
    /// Connections accepted per wake-up that accepted any, in the measured window.
    AcceptBatch,
}

pub(super) type WorkerHistograms = [[AtomicU64; histogram::BUCKETS]; Kept::AcceptBatch as usize + 1];

impl Control {
    /// The counters of one worker, for that worker to write from the barrier on. CPU time used before then is not counted.
    pub fn meter(&self, worker: usize, window: Window) -> Meter<'_> {
        self.meter_of(worker, window, clock::cpu_use)
    }

    /// The counters of a worker that is a thread.
    pub fn thread_meter(&self, worker: usize, window: Window) -> Meter<'_> {
        self.meter_of(worker, window, clock::thread_cpu_use)
    }

    fn meter_of(&self, worker: usize, window: Window, cpu_use: fn() -> CpuUse) -> Meter<'_> {
        let cell = &self.workers[worker];
        let mut meter = Meter {
            cell,
            errors: (&self.errors, worker),
            last_accept: &self.last_accepts[worker],
            histograms: self.histograms.get(worker),
            window,
            cpu_use,
            next_mark: AT_MEASURE_FROM,
        };
        meter.mark(AT_START);
        meter.pass(window.start_ns);
        meter
    }

    /// The current value of a worker's counter.
    pub fn count(&self, worker: usize, count: Count) -> u64 {
        self.workers[worker][NOW][count as usize].load(Relaxed)
    }

    /// A worker's counters from the barrier to its end.
    pub fn since_start(&self, worker: usize) -> Counts {
        let cell = &self.workers[worker];
        Counts::between(&cell[AT_START], &cell[NOW])
    }

    /// A worker's counters over the measured window. A worker that died in the window counts until its death; one that died before it,
    /// not at all.
    pub fn measured(&self, worker: usize) -> Counts {
        let cell = &self.workers[worker];
        let marked = |at: usize| cell[at][Count::Marked as usize].load(Relaxed) != 0;
        if !marked(AT_MEASURE_FROM) {
            return Counts::default();
        }
        Counts::between(&cell[AT_MEASURE_FROM], &cell[if marked(AT_MEASURE_TO) { AT_MEASURE_TO } else { NOW }])
    }

    /// The errors of a worker while accepting and serving.
    pub fn worker_errors(&self, worker: usize) -> Vec<ErrorCount> {
        self.errors.counts(worker)
    }

    /// Records the total CPU use of a worker that has died.
    pub fn died(&self, worker: usize, cpu: CpuUse) {
        store_cpu(&self.workers[worker][NOW], cpu);
    }

    /// Records that the dispatcher has handed a connection to a worker.
    #[inline]
    pub fn assigned(&self, worker: usize) {
        increase(&self.workers[worker][NOW][Count::Assigned as usize], 1);
    }

    /// What a worker has recorded so far: values, each with its count.
    pub fn kept(&self, worker: usize, kept: Kept) -> impl Iterator<Item = (u64, u64)> {
        let histograms = self.histograms.get(worker).into_iter();
        histograms.flat_map(move |histograms| histogram::counts(&histograms[kept as usize]))
    }

    /// How many connections a worker has accepted so far, and the accept waits that it has recorded of them, as [`Self::kept`] has them.
    pub fn accepts_and_waits(&self, worker: usize) -> (u64, Vec<(u64, u64)>) {
        let counts = || [Count::Accepted, Count::Settled].map(|count| self.count(worker, count));
        let waits = || self.kept(worker, Kept::AcceptWait).collect::<Vec<_>>();
        let ([_, settled], waits) = steadily(counts, |[accepted, settled]| accepted == settled, waits);
        (settled, waits)
    }

    /// When any worker last accepted, or received a datagram, in nanoseconds of CLOCK_MONOTONIC; 0 if none ever did.
    pub fn last_accept_ns(&self) -> u64 {
        self.last_accepts[..self.workers()].iter().map(|at_ns| at_ns.load(Relaxed)).max().unwrap_or(0)
    }
}

fn store_cpu(words: &CountWords, cpu: CpuUse) {
    for (count, value) in [
        (Count::CpuUserNs, cpu.user_ns),
        (Count::CpuSystemNs, cpu.system_ns),
        (Count::VoluntarySwitches, cpu.voluntary_switches),
        (Count::InvoluntarySwitches, cpu.involuntary_switches),
    ] {
        words[count as usize].store(value, Relaxed);
    }
}

/// The growth of a worker's counters between two instants.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts([u64; COUNTS]);

impl Counts {
    fn between(from: &CountWords, to: &CountWords) -> Self {
        Self(std::array::from_fn(|i| to[i].load(Relaxed).saturating_sub(from[i].load(Relaxed))))
    }

    pub fn get(&self, count: Count) -> u64 {
        self.0[count as usize]
    }
}

impl From<&Counts> for WorkerCounts {
    fn from(counts: &Counts) -> Self {
        let known = |count| Some(counts.get(count));
        Self {
            accepted: known(Count::Accepted),
            handed_over: known(Count::HandedOver),
            taken_over: known(Count::TakenOver),
            wakeups: known(Count::Wakeups),
            empty_wakeups: known(Count::EmptyWakeups),
            accept_eagain: known(Count::AcceptEagain),
            emfile: known(Count::Emfile),
            shed: known(Count::Shed),
            fell_back: known(Count::FellBack),
            requests: known(Count::Requests),
            datagrams: known(Count::Datagrams),
            datagram_wakeups: known(Count::DatagramWakeups),
            datagram_empty_wakeups: known(Count::DatagramEmptyWakeups),
            cpu_user_ns: known(Count::CpuUserNs),
            cpu_system_ns: known(Count::CpuSystemNs),
            voluntary_switches: known(Count::VoluntarySwitches),
            involuntary_switches: known(Count::InvoluntarySwitches),
        }
    }
}

/// The writing side of a worker's counters.
#[derive(Debug)]
pub struct Meter<'a> {
    cell: &'a WorkerCell,
    errors: (&'a Tallies, usize),
    last_accept: &'a LastAcceptCell,
    /// `None` without recording.
    histograms: Option<&'a WorkerHistograms>,
    window: Window,
    cpu_use: fn() -> CpuUse,
    next_mark: usize,
}

impl Meter<'_> {
    /// Adds to a counter.
    #[inline]
    pub fn add(&self, count: Count, by: u64) {
        increase(&self.cell[NOW][count as usize], by);
    }

    /// Counts an error.
    pub fn add_error(&self, step: Step, cause: impl Into<Cause>) {
        let (errors, worker) = self.errors;
        errors.add(worker, step, cause);
    }

    /// Counts so many accepts that failed, and whether they did for want of a descriptor.
    pub fn accepts_failed(&self, error: &io::Error, times: u64) {
        if times > 0 {
            let (errors, worker) = self.errors;
            errors.add_many(worker, Step::Accept, error, times);
            self.add(Count::Emfile, if limits::is_out_of_files(error) { times } else { 0 });
        }
    }

    /// Counts a connection that the worker had at `accept_ns`.
    #[inline]
    pub fn accepted(&mut self, accept_ns: u64) {
        self.pass(accept_ns);
        self.add(Count::Accepted, 1);
        self.last_accept.store(accept_ns, Relaxed);
    }

    /// Counts a datagram received at `now_ns`.
    #[inline]
    pub fn received(&mut self, now_ns: u64) {
        self.pass(now_ns);
        self.add(Count::Datagrams, 1);
        self.last_accept.store(now_ns, Relaxed);
    }

    /// Records how many datagrams the socket has lost so far.
    #[inline]
    pub fn lost(&self, datagrams: u64) {
        self.cell[NOW][Count::DatagramsLost as usize].store(datagrams, Relaxed);
    }

    /// Records the accept wait of a connection that the kernel established at `established_ns` and the worker had at `accept_ns`.
    #[inline]
    pub fn waited(&self, established_ns: u64, accept_ns: u64) {
        if let (true, Some(histograms)) = (self.window.is_due(established_ns), self.histograms) {
            histogram::record(&histograms[Kept::AcceptWait as usize], accept_ns - established_ns);
        }
    }

    /// Records the hand-over of a connection that was established (or, if that is unknown, accepted) at `at_ns`.
    #[inline]
    pub fn handed_over(&self, at_ns: u64, hand_over_ns: u64) {
        if let (true, Some(histograms)) = (self.window.is_due(at_ns), self.histograms) {
            histogram::record(&histograms[Kept::HandOver as usize], hand_over_ns);
        }
    }

    /// Records how many connections a wake-up accepted.
    #[inline]
    pub fn batch(&self, accepts: u32) {
        if let (AT_MEASURE_TO, Some(histograms)) = (self.next_mark, self.histograms) {
            histogram::record(&histograms[Kept::AcceptBatch as usize], u64::from(accepts));
        }
    }

    /// Counts a connection that was opened.
    #[inline]
    pub fn opened(&self) {
        self.add(Count::Open, 1);
        let open = self.cell[NOW][Count::Open as usize].load(Relaxed);
        let peak = &self.cell[NOW][Count::OpenPeak as usize];
        if open > peak.load(Relaxed) {
            peak.store(open, Relaxed);
        }
    }

    /// Counts a connection that was closed.
    #[inline]
    pub fn closed(&self) {
        let word = &self.cell[NOW][Count::Open as usize];
        word.store(word.load(Relaxed).saturating_sub(1), Relaxed);
    }

    /// It is now `now_ns`: saves the counters if an edge of the measured window has been crossed.
    #[inline]
    pub fn pass(&mut self, now_ns: u64) {
        if self.next_mark == AT_MEASURE_FROM && now_ns >= self.window.measure_from_ns {
            self.mark(AT_MEASURE_FROM);
            self.next_mark = AT_MEASURE_TO;
        }
        if self.next_mark == AT_MEASURE_TO && now_ns >= self.window.measure_to_ns {
            self.mark(AT_MEASURE_TO);
            self.next_mark = NOW;
        }
    }

    /// The worker stops: updates its CPU time and closes a window that is still open.
    pub fn stop(&mut self) {
        self.pass(self.window.measure_from_ns);
        self.update_cpu();
        if self.next_mark == AT_MEASURE_TO {
            self.mark(AT_MEASURE_TO);
        }
    }

    fn update_cpu(&self) {
        store_cpu(&self.cell[NOW], (self.cpu_use)());
    }

    fn mark(&self, at: usize) {
        self.update_cpu();
        for (kept, now) in self.cell[at].iter().zip(&self.cell[NOW]) {
            kept.store(now.load(Relaxed), Relaxed);
        }
        self.cell[at][Count::Marked as usize].store(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_counts_lie_between_the_edges() {
        let control = Control::new(1, 1, 0).unwrap();
        let window = Window { start_ns: 10, measure_from_ns: 20, measure_to_ns: 30, deadline_ns: 99 };
        let mut meter = control.meter(0, window);
        for (now_ns, accepts) in [(15, 3), (20, 5), (29, 7), (30, 11), (40, 13)] {
            meter.pass(now_ns);
            meter.add(Count::Accepted, accepts);
        }
        meter.stop();
        assert_eq!(control.since_start(0).get(Count::Accepted), 39);
        assert_eq!(control.measured(0).get(Count::Accepted), 12);
    }

    #[test]
    fn the_stop_closes_an_open_ended_window() {
        let control = Control::new(1, 1, 0).unwrap();
        let window = Window { start_ns: 10, measure_from_ns: 10, measure_to_ns: u64::MAX, deadline_ns: 99 };
        let mut meter = control.meter(0, window);
        meter.add(Count::Accepted, 4);
        meter.stop();
        assert_eq!(control.measured(0).get(Count::Accepted), 4);
    }
}
