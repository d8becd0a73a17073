//! What workers count and record, both now and as it stood at the edges of the measured window.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam::utils::CachePadded;
use hdrhistogram::Histogram;

use super::{Control, Window, increase};
use crate::{
    ipc::histogram,
    record::WorkerCounts,
    sys::clock::{self, CpuUse},
};

/// What a worker counts. `Cpu*` and `*Switches` are updated only at the edges of the measured window and at the end.
#[derive(Debug, Clone, Copy)]
pub enum Count {
    /// Connections that accept returned.
    Accepted,
    /// Wake-ups of the loop in which the listener was reported ready.
    Wakeups,
    /// Wake-ups among those in which there was nothing to accept: another worker was faster.
    EmptyWakeups,
    /// Calls to accept that returned EAGAIN.
    AcceptEagain,
    /// Datagrams received.
    Datagrams,
    /// Wake-ups of the loop in which the datagram socket was reported ready.
    DatagramWakeups,
    /// Wake-ups among those in which there was nothing to receive.
    DatagramEmptyWakeups,
    /// Datagrams found in the socket after the load's end.
    DatagramsLeft,
    /// Datagrams that the socket had lost when it last delivered one (SO_RXQ_OVFL). Each worker sees all losses of a shared socket.
    DatagramsLost,
    /// Connections that a dispatcher has handed to the worker, counted by the dispatcher.
    HandedOver,
    /// Accepted connections whose exact accept wait is unknown.
    Unstamped,
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
    /// Exact accept waits, in nanoseconds, of connections established in the measured window.
    AcceptWait,
    /// Connections accepted per wake-up that accepted any, in the measured window.
    AcceptBatch,
}

pub(super) type WorkerHistograms = [[AtomicU64; histogram::BUCKETS]; Kept::AcceptBatch as usize + 1];

impl Control {
    /// The counters of one worker, for that worker to write from the barrier on. CPU time used before then is not counted.
    pub fn meter(&self, worker: usize, window: Window) -> Meter<'_> {
        let cell = &self.workers[worker];
        let mut meter = Meter {
            cell,
            last_accept: &self.last_accepts[worker],
            histograms: self.histograms.get(worker),
            window,
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

    /// Records the total CPU use of a worker that has died.
    pub fn died(&self, worker: usize, cpu: CpuUse) {
        store_cpu(&self.workers[worker][NOW], cpu);
    }

    /// Records that the dispatcher has handed a connection to a worker.
    #[inline]
    pub fn handed_over(&self, worker: usize) {
        increase(&self.workers[worker][NOW][Count::HandedOver as usize], 1);
    }

    /// Adds what a worker has recorded so far to a histogram.
    pub fn add_to(&self, worker: usize, kept: Kept, histogram: &mut Histogram<u64>) {
        if let Some(histograms) = self.histograms.get(worker) {
            histogram::add_to(&histograms[kept as usize], histogram);
        }
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
        Self {
            accepted: counts.get(Count::Accepted),
            wakeups: counts.get(Count::Wakeups),
            empty_wakeups: counts.get(Count::EmptyWakeups),
            accept_eagain: counts.get(Count::AcceptEagain),
            datagrams: counts.get(Count::Datagrams),
            datagram_wakeups: counts.get(Count::DatagramWakeups),
            datagram_empty_wakeups: counts.get(Count::DatagramEmptyWakeups),
            cpu_user_ns: counts.get(Count::CpuUserNs),
            cpu_system_ns: counts.get(Count::CpuSystemNs),
            voluntary_switches: counts.get(Count::VoluntarySwitches),
            involuntary_switches: counts.get(Count::InvoluntarySwitches),
        }
    }
}

/// The writing side of a worker's counters.
#[derive(Debug)]
pub struct Meter<'a> {
    cell: &'a WorkerCell,
    last_accept: &'a LastAcceptCell,
    /// `None` without recording.
    histograms: Option<&'a WorkerHistograms>,
    window: Window,
    next_mark: usize,
}

impl Meter<'_> {
    /// Adds to a counter.
    #[inline]
    pub fn add(&self, count: Count, by: u64) {
        increase(&self.cell[NOW][count as usize], by);
    }

    /// Counts a connection that accept returned at `accept_ns`.
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

    /// Records the accept wait of a connection that the kernel established at `established_ns`.
    #[inline]
    pub fn waited(&self, established_ns: u64, accept_ns: u64) {
        if let (true, Some(histograms)) = (self.window.measures(established_ns), self.histograms) {
            histogram::record(&histograms[Kept::AcceptWait as usize], accept_ns - established_ns);
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
        store_cpu(&self.cell[NOW], clock::cpu_use());
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
