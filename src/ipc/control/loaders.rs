//! What loaders count and record. Each loader alone writes its part, with plain stores, and the trial's process reads it once the
//! loader has ended, however it ended: each figure is a word of its own, so none can be half written.

use std::{
    io,
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

use crossbeam::utils::CachePadded;
use strum::EnumCount;

use super::Control;
use crate::{
    ipc::{histogram::SharedHistograms, increase, tally::Tallies},
    record::{Cause, ErrorCount, Step},
    sys::shared::SharedSlice,
};

/// A loader's figures: counts unless they say otherwise, and instants in nanoseconds of CLOCK_MONOTONIC, 0 if there was none.
#[derive(Debug, Clone, Copy, EnumCount)]
pub enum LoaderCount {
    /// Connections and flows begun.
    Attempted,
    /// Connections among those that reused the socket of an earlier one.
    Recycled,
    /// Connections among those attempted that continued the requests of one that the server had ended.
    Reconnected,
    /// Connections among those attempted that replaced one at the end of its lifetime.
    Replaced,
    /// Requests among theirs that the server had left unanswered as it ended the connection.
    Retried,
    /// Connections established.
    Established,
    /// Those of them that the kernel connected to themselves.
    SelfConnected,
    /// Those of them that asked for MPTCP and are plain TCP, and those that were reset before it could be seen what they are.
    FellBack,
    FallbackUnknown,
    /// Connections and flows that ran to their planned end, or to a server's close after a reply.
    Completed,
    /// Connections and flows that failed.
    Failed,
    /// Those of them that failed before they were established.
    Unconnected,
    /// Established connections that ended without a sign that a worker accepted them.
    Unserved,
    /// Replies that belong to another connection or request.
    Misdelivered,
    /// Replies received.
    Replies,
    /// Replies that are not as the scenario expects; with app `connect`, connections on which the server sent anything.
    Unexpected,
    /// HTTP replies by class of their status.
    Successful,
    Redirected,
    ClientErrors,
    ServerErrors,
    /// Replies checked by their receipt.
    Verified,
    /// Those of them that came through a proxy or translated addresses: the server saw another 4-tuple.
    Proxied,
    /// Those of them whose proxy had named this connection to the server in a PROXY protocol header.
    Named,
    /// TLS handshakes completed, those of them that resumed a session, and those with TLS 1.3 and with an application protocol agreed on.
    Handshakes,
    HandshakesResumed,
    HandshakesTls13,
    HandshakesAlpn,
    /// Sessions that began with the offer to resume an earlier one, and those that were to but had no ticket.
    TicketsOffered,
    TicketsMissing,
    /// SYNs that the kernel sent again.
    SynRetries,
    /// Connections that needed them, established or not.
    SynRetried,
    /// Stamps earlier than the connect call or later than accept's return. Must be 0.
    StampsImpossible,
    /// Datagram flows begun.
    Flows,
    /// Datagrams sent.
    Sent,
    /// Replies received over flows.
    FlowReplies,
    /// Replies to an earlier flow on the same port.
    Stale,
    /// Flows with several replies, all from one worker.
    Sticky,
    /// Flows with replies from more than one worker.
    Moved,
    /// Flows that went on from another port, and those of them that were then answered by the worker that had answered last, and by another.
    Rebound,
    ReboundStayed,
    ReboundMoved,
    /// The same of flows answered again after a reload.
    ReloadStayed,
    ReloadMoved,
    /// Starts intended within the measured window, and when the first and the last of them were due.
    Planned,
    FirstPlannedNs,
    LastPlannedNs,
    /// How many of those starts were still due after as many had been made as are made at once.
    Queued,
    /// How many of those starts came before the window's end.
    InTime,
    /// How many of those connections and flows completed.
    PlannedCompleted,
    /// Connections and flows that completed in a window whose end was known beforehand, and after it.
    CompletedInWindow,
    CompletedLater,
    /// The same of replies that belonged where they arrived.
    AnsweredInWindow,
    AnsweredLater,
    /// The same of TLS handshakes.
    SecuredInWindow,
    SecuredLater,
    /// When the last connection or flow completed, and when the last one ended.
    LastCompletedNs,
    EndedNs,
    /// What was due in the measured window and has no value.
    LostStarts,
    LostConnects,
    LostHandshakes,
    LostWaits,
    LostResponses,
    LostFlowResponses,
    LostFollowUps,
    /// When the source ports first ran out.
    FirstExhaustedNs,
    /// Latencies beyond the histograms' range.
    Overflows,
    /// Identifies the schedule, once all of it has been followed; 0 in a closed loop.
    Schedule,
    /// 1 if the deadline ended the load.
    GaveUp,
    /// What the loader used of the measured window: CPU time, time it was ready to run while others had its processor, and the length
    /// of that time; 0 until the window has ended.
    BusyCpuNs,
    BusyWaitedNs,
    BusySpanNs,
    /// What it had used of the processors when the load began.
    CpuUserNs,
    CpuSystemNs,
    VoluntarySwitches,
    InvoluntarySwitches,
}

/// What every loader records in histograms. Those by worker follow, in an order of the load generator's.
#[derive(Debug, Clone, Copy, EnumCount)]
pub enum LoaderKept {
    /// Accept waits from the client's connect call, in nanoseconds, of measured connections, whichever worker they went to: for those
    /// who watch.
    AcceptWait,
    /// Waits from a client's sending a datagram to a worker's receiving it, in nanoseconds, of measured flows.
    ReceiveWait,
    /// In a window whose end is not known beforehand: when connections and flows completed, in microseconds since its beginning.
    Completed,
    /// The same of replies.
    Answered,
    /// The same of TLS handshakes.
    Secured,
}

/// Words that hold the beginning of something unexpected.
const EXAMPLE_WORDS: usize = 11;

/// A line of cache holds so many of a histogram's shortest parts, and loaders share none.
const HISTOGRAMS_ALIGNED: usize = 32;

/// The part of the control block that loaders write.
#[derive(Debug)]
pub(super) struct LoaderCells {
    words: SharedSlice<CachePadded<[AtomicU64; LoaderCount::COUNT]>>,
    /// Failed connections and flows by step and cause.
    errors: Tallies,
    /// How the first of what was not expected began: its length, once all of it is there, and its bytes.
    examples: SharedSlice<[AtomicU64; 1 + EXAMPLE_WORDS]>,
    /// By loader and worker: datagram flows by the worker that answered first.
    flows: SharedSlice<AtomicU64>,
    /// Workers for which there is room.
    workers: usize,
    histograms: SharedHistograms,
    /// Histograms of each loader.
    kept: usize,
}

impl LoaderCells {
    /// Room for the figures of so many loaders on so many workers, and for their own histograms besides [`LoaderKept`].
    pub fn new(loaders: usize, workers: usize, histograms: usize) -> io::Result<Self> {
        let kept = (LoaderKept::COUNT + histograms).next_multiple_of(HISTOGRAMS_ALIGNED);
        Ok(Self {
            words: SharedSlice::new(loaders)?,
            errors: Tallies::new(loaders)?,
            examples: SharedSlice::new(loaders)?,
            flows: SharedSlice::new(loaders * workers)?,
            workers,
            histograms: SharedHistograms::new(loaders * kept)?,
            kept,
        })
    }
}

impl Control {
    pub fn loaders(&self) -> usize {
        self.loaders.words.len()
    }

    /// Makes room for loaders' figures by worker: so many workers, and so many histograms for each loader.
    pub fn with_room(self, workers: usize, histograms: usize) -> io::Result<Self> {
        let loaders = LoaderCells::new(self.loaders(), workers, histograms)?;
        Ok(Self { loaders, ..self })
    }

    /// Adds to a loader's count. The caller must be its only writer.
    #[inline]
    pub fn add_loader(&self, loader: usize, count: LoaderCount, by: u64) {
        increase(&self.loaders.words[loader][count as usize], by);
    }

    /// A loader's figure, summed over all loaders.
    pub fn loader_total(&self, count: LoaderCount) -> u64 {
        self.loaders.words.iter().map(|words| words[count as usize].load(Relaxed)).sum()
    }

    /// The failed connections and flows of all loaders.
    pub fn loader_errors(&self) -> Vec<ErrorCount> {
        let loaders = 0..self.loaders.words.len();
        ErrorCount::merged(loaders.flat_map(|loader| self.loaders.errors.counts(loader)))
    }

    /// The account of one loader.
    pub fn account(self: &Arc<Self>, loader: usize) -> Account {
        Account { control: Arc::clone(self), loader }
    }
}

/// One loader's figures. The loader alone writes them.
#[derive(Debug, Clone)]
pub struct Account {
    control: Arc<Control>,
    loader: usize,
}

impl Account {
    #[inline]
    fn word(&self, count: LoaderCount) -> &AtomicU64 {
        &self.control.loaders.words[self.loader][count as usize]
    }

    /// Adds to a count.
    #[inline]
    pub fn add(&self, count: LoaderCount, by: u64) {
        increase(self.word(count), by);
    }

    /// Sets a figure.
    #[inline]
    pub fn set(&self, count: LoaderCount, value: u64) {
        self.word(count).store(value, Relaxed);
    }

    #[inline]
    pub fn get(&self, count: LoaderCount) -> u64 {
        self.word(count).load(Relaxed)
    }

    /// All figures, in the order of [`LoaderCount`].
    pub fn words(&self) -> Vec<u64> {
        self.control.loaders.words[self.loader].iter().map(|word| word.load(Relaxed)).collect()
    }

    /// Takes over the figures and the errors of loaders elsewhere.
    pub fn take_over(&self, words: &[u64], errors: &[ErrorCount]) {
        for (word, value) in self.control.loaders.words[self.loader].iter().zip(words) {
            word.store(*value, Relaxed);
        }
        self.control.loaders.errors.take_over(self.loader, errors);
    }

    /// Counts an error.
    pub fn add_error(&self, step: Step, cause: Cause) {
        self.control.loaders.errors.add(self.loader, step, cause);
    }

    /// The errors, in the form used in records.
    pub fn errors(&self) -> Vec<ErrorCount> {
        self.control.loaders.errors.counts(self.loader)
    }

    /// Counts something that was not expected, and keeps how the first of it began.
    pub fn add_unexpected(&self, beginning: &[u8]) {
        let [length, words @ ..] = &self.control.loaders.examples[self.loader];
        if length.load(Relaxed) == 0 {
            let kept = &beginning[..beginning.len().min(8 * words.len())];
            for (word, bytes) in words.iter().zip(kept.chunks(8)) {
                let mut whole = [0; 8];
                whole[..bytes.len()].copy_from_slice(bytes);
                word.store(u64::from_le_bytes(whole), Relaxed);
            }
            length.store(kept.len() as u64, Release);
        }
        self.add(LoaderCount::Unexpected, 1);
    }

    /// How the first of what was not expected began; `None` if that is not known.
    pub fn unexpected(&self) -> Option<Vec<u8>> {
        let [length, words @ ..] = &self.control.loaders.examples[self.loader];
        let length = length.load(Acquire) as usize;
        let bytes = words.iter().flat_map(|word| word.load(Relaxed).to_le_bytes());
        (length > 0).then(|| bytes.take(length).collect())
    }

    /// Counts a datagram flow that this worker answered first. Ignores worker numbers beyond the table.
    pub fn add_flow(&self, worker: usize) {
        let cells = &self.control.loaders;
        if worker < cells.workers {
            increase(&cells.flows[self.loader * cells.workers + worker], 1);
        }
    }

    /// Datagram flows by the worker that answered first.
    pub fn flows(&self) -> Vec<u64> {
        let cells = &self.control.loaders;
        let own = &cells.flows[self.loader * cells.workers..][..cells.workers];
        own.iter().map(|count| count.load(Relaxed)).collect()
    }

    /// Counts a value in one of the histograms that every loader has.
    #[inline]
    pub fn keep(&self, kept: LoaderKept, value: u64) {
        self.record(kept as usize, value);
    }

    /// Counts a value in the loader's own histogram of this number.
    #[inline]
    pub fn keep_own(&self, number: usize, value: u64) {
        self.record(LoaderKept::COUNT + number, value);
    }

    #[inline]
    fn record(&self, number: usize, value: u64) {
        let cells = &self.control.loaders;
        cells.histograms.record(self.loader * cells.kept + number, value);
    }

    /// The values of one of the histograms that every loader has, each with its count. A value may come more than once.
    pub fn kept(&self, kept: LoaderKept) -> impl Iterator<Item = (u64, u64)> {
        self.values(kept as usize)
    }

    /// The values of the loader's own histogram of this number, likewise.
    pub fn own(&self, number: usize) -> impl Iterator<Item = (u64, u64)> {
        self.values(LoaderKept::COUNT + number)
    }

    fn values(&self, number: usize) -> impl Iterator<Item = (u64, u64)> {
        let cells = &self.control.loaders;
        cells.histograms.counts(self.loader * cells.kept + number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loaders_share_nothing() {
        let control = Arc::new(Control::new(0, 2, 0).unwrap().with_room(3, 1).unwrap());
        let [one, other] = [0, 1].map(|loader| control.account(loader));
        other.add(LoaderCount::Attempted, 5);
        other.add_error(Step::Connect, Cause::Errno(libc::ECONNREFUSED));
        other.add_error(Step::Receive, Cause::Deadline);
        other.add_error(Step::Receive, Cause::Deadline);
        other.add_flow(2);
        other.add_flow(3);
        other.add_unexpected(b"-ERR no\r\n");
        other.add_unexpected(b"-ERR another");
        other.keep(LoaderKept::Answered, 7);
        other.keep_own(0, 8);
        let values = |account: &Account| {
            (account.kept(LoaderKept::Answered).collect::<Vec<_>>(), account.own(0).collect::<Vec<_>>())
        };
        assert_eq!((one.get(LoaderCount::Attempted), one.errors(), one.flows()), (0, vec![], vec![0; 3]));
        assert_eq!((values(&one), values(&other)), ((vec![], vec![]), (vec![(7, 1)], vec![(8, 1)])));
        assert_eq!((control.loader_total(LoaderCount::Attempted), other.flows()), (5, vec![0, 0, 1]));
        assert_eq!((one.unexpected(), other.unexpected()), (None, Some(b"-ERR no\r\n".to_vec())));
        one.add_unexpected(&[b'x'; 1_000]);
        assert_eq!(one.unexpected(), Some(vec![b'x'; 8 * EXAMPLE_WORDS]));
        assert_eq!([&one, &other].map(|account| account.get(LoaderCount::Unexpected)), [1, 2]);
        let error = |phase, errno, count| ErrorCount { phase, errno, count };
        assert_eq!(
            other.errors(),
            [error(Step::Connect, Cause::Errno(libc::ECONNREFUSED), 1), error(Step::Receive, Cause::Deadline, 2)]
        );
        one.take_over(&other.words(), &other.errors());
        assert_eq!((one.words(), one.errors()), (other.words(), other.errors()));
        one.take_over(&[], &other.errors()[..1]);
        assert_eq!((one.get(LoaderCount::Attempted), &one.errors()[..1]), (5, &other.errors()[..1]));
    }
}
