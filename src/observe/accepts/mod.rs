//! Who accepts, for any server: every accept by thread, with the connection's exact wait, from the kernel's tracepoints alone.
//!
//! Programs (`src/bpf/observe.bpf.c`; `src/bpf/observe_plain.bpf.c` where the kernel does not describe its types) count in memory that
//! this process maps. Nothing is pinned: they vanish with the last process that holds their [`Accepts`]. They see the whole machine, and
//! count what a [`Filter`] lets through.

mod filter;
mod listeners;
mod programs;
mod tables;
mod try_out;

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
};

use anyhow::Result;
use strum::{Display, IntoStaticStr, VariantArray};

pub use self::{
    filter::{Filter, Ours},
    try_out::try_out,
};
use self::{
    listeners::{Listener, Listeners},
    programs::Programs,
    tables::Member,
};
use crate::{
    format,
    ipc::control::Window,
    observe::file,
    record::{Counts, WaitEnd},
    sys::clock,
};

/// How accepts are observed, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Level {
    /// Connections are told apart by their sockets: accept, accept4 and io_uring, with the wait of each. Requires BTF.
    Btf,
    /// Connections are told apart by the address that accept returns: accept and accept4, without a wait where the caller does not ask
    /// for the address.
    Tracepoints,
    /// accept and accept4, without waits.
    Counts,
}

/// The largest wait that is recorded as it is, in nanoseconds: a longer one counts as this one.
const LONGEST_NS: u64 = 60_000_000_000;
/// The programs' buckets are those of a histogram with two digits.
const SIGNIFICANT_DIGITS: u8 = 2;

/// Programs at work.
pub struct Accepts {
    programs: Programs,
    level: Level,
    filter: Filter,
    listeners: Listeners,
    /// Names of threads that the programs did not know.
    names: HashMap<i32, String>,
    /// What is added to the kernel's time to get this process's CLOCK_MONOTONIC.
    ahead_ns: i64,
    sees_rings: bool,
    missing: Option<String>,
}

/// What was counted up to an instant.
#[derive(Debug)]
pub struct Snapshot {
    /// CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// In order of first appearance.
    pub members: Vec<MemberSeen>,
    /// What was missed of the listeners that count: because a table was full, or because a connection was accepted in a way that shows
    /// nowhere.
    pub lost_events: u64,
    /// Runs of the programs that the kernel skipped, for any socket and any call of accept on the machine: see [`bpf::missed_runs`](crate::sys::bpf::missed_runs).
    pub missed_runs: u64,
    /// Starts of waits that were dropped because very many later connections died unaccepted.
    pub aged_out: u64,
    /// Connections that waited to be accepted when their listener was closed, and were reset with it, without foreign ones; `None` below
    /// [`Level::Btf`], and of Unix sockets.
    pub reset_in_queue: Option<u64>,
}

/// A thread that accepts, on one address.
#[derive(Debug)]
pub struct MemberSeen {
    pub pid: i32,
    pub tid: i32,
    /// Command name at its first accept.
    pub comm: String,
    /// The address of its listener. Of a ring that accepts for a listener on every address: the address of the connection, unless the
    /// filter names the listener. `None` if its process ended before anyone could look, which without BTF is the only way to know.
    pub listener: Option<SocketAddr>,
    pub accepted: u64,
    /// Of these, before the measured window or after it; 0 until [`Accepts::measure`] says when that is.
    pub outside: u64,
    /// Of those accepted, established by somebody else than us; 0 until [`Accepts::ours`] says who we are.
    pub foreign: u64,
    /// Of those accepted, without a known wait.
    pub unstamped: u64,
    /// Calls of accept that found nothing.
    pub eagain: u64,
    /// Calls of accept that failed for want of a descriptor; those of a ring are not seen.
    pub emfile: u64,
    /// Connections that it accepted with a known wait, at [`Level::Btf`] all, and that its server has not closed; of Unix sockets, none.
    pub open: u64,
    pub open_peak: u64,
    /// CLOCK_MONOTONIC; 0 if it never accepted.
    pub last_accept_ns: u64,
    /// Where its waits end: at a ring's completion if it accepted by ring only.
    pub ends: WaitEnd,
    /// From ESTABLISHED until then, in buckets of at most 0.8 % of their values: of connections that are not foreign, established since
    /// the programs came or, from [`Accepts::measure`] on, since the measured window began.
    pub waits: Counts,
}

impl Accepts {
    /// Starts counting at this level, or at the best that works here, with room for this many members. The error names the cause and
    /// the remedy.
    pub fn attach(level: Option<Level>, filter: &Filter, members: usize) -> Result<(Self, Level)> {
        let mut better = None;
        for level in level.map_or(Level::VARIANTS.to_vec(), |level| vec![level]) {
            match Programs::attach(level, filter, members) {
                Ok(programs) => {
                    let sees_rings = level == Level::Btf && programs.rings_error().is_none();
                    let missing = missing(level, better.as_ref(), (programs.rings_error(), programs.queued_error()));
                    let accepts = Self {
                        programs,
                        level,
                        filter: filter.clone(),
                        listeners: Listeners::default(),
                        names: HashMap::new(),
                        ahead_ns: clock::ahead_of_kernel_ns(),
                        sees_rings,
                        missing,
                    };
                    return Ok((accepts, level));
                }
                // What would make the best level work.
                Err(error) => better = better.or(Some(error)),
            }
        }
        Err(better.expect("there is a level"))
    }

    /// Says whose connections are ours. From the first call on, all others count as foreign.
    pub fn ours(&mut self, ours: Ours<'_>) -> Result<()> {
        self.programs.ours(ours)
    }

    /// Says when the measured window is. Every accept and every wait is then in it or not by its own time, however late anybody looks.
    pub fn measure(&self, window: Window) {
        self.programs.tables().measure(window.by_clock_ahead(-self.ahead_ns));
    }

    /// Says which listeners on Unix sockets count, by inode. One that accepts a connection of ours counts from then on.
    pub fn listen(&mut self, inodes: &BTreeSet<u32>) -> Result<()> {
        self.programs.listen(inodes)
    }

    /// Whether accepts by io_uring are seen.
    pub fn sees_rings(&self) -> bool {
        self.sees_rings
    }

    /// What cannot be known here, why, and what would help; `None` if nothing is missing.
    pub fn missing(&self) -> Option<&str> {
        self.missing.as_deref()
    }

    /// What has been counted so far.
    pub fn read(&mut self) -> Result<Snapshot> {
        let at_ns = clock::monotonic_ns();
        let Self { programs, level, filter, listeners, names, ahead_ns, .. } = self;
        let tables = programs.tables();
        let (lost_events, missed_runs) = (tables.lost(), programs.missed_runs()?);
        let mut members = Vec::new();
        for (number, member) in tables.members() {
            let listener = match listeners.of(&member, filter) {
                Listener::At(listener) if filter.admits(listener) => Some(listener),
                Listener::At(_) | Listener::Other => continue,
                // Most of these are other programs'. A missing member shows in the balance of connections.
                Listener::Gone if !filter.listeners.is_empty() => continue,
                Listener::Gone => None,
            };
            let comm = name(names, &member);
            // Finding the listener takes a while, in which the member goes on.
            let (member, waits) = tables.member(number, counts);
            enter(&mut members, seen(member, listener, comm, waits, *ahead_ns));
        }
        let reset_in_queue = (*level == Level::Btf && !filter.on_unix).then(|| tables.closed_on());
        Ok(Snapshot { at_ns, members, lost_events, missed_runs, aged_out: tables.aged_out(), reset_in_queue })
    }
}

fn counts() -> Counts {
    Counts::new(1, LONGEST_NS, SIGNIFICANT_DIGITS).expect("constant, valid bounds")
}

/// Adds a row. A thread that accepts through several descriptors of one address is one member.
fn enter(members: &mut Vec<MemberSeen>, seen: MemberSeen) {
    let key = |member: &MemberSeen| (member.pid, member.tid, member.listener);
    match members.iter_mut().find(|member| key(member) == key(&seen)) {
        Some(member) => member.join(seen),
        None => members.push(seen),
    }
}

impl MemberSeen {
    /// Adds what the same thread did through another descriptor.
    fn join(&mut self, other: Self) {
        // One that never accepted has no say in where waits end.
        if self.accepted == 0 {
            self.ends = other.ends;
        } else if other.accepted > 0 && self.ends != other.ends {
            self.ends = WaitEnd::Accept;
        }
        self.accepted += other.accepted;
        self.outside += other.outside;
        self.foreign += other.foreign;
        self.unstamped += other.unstamped;
        self.eagain += other.eagain;
        self.emfile += other.emfile;
        self.open += other.open;
        // Their peaks may have been at different times.
        self.open_peak = self.open_peak.max(other.open_peak).max(self.open);
        self.last_accept_ns = self.last_accept_ns.max(other.last_accept_ns);
        self.waits.add(&other.waits);
    }
}

fn seen(member: Member, listener: Option<SocketAddr>, comm: String, waits: Counts, ahead_ns: i64) -> MemberSeen {
    let Member { pid, tid, accepted, outside, foreign, unstamped, eagain, emfile, open, open_peak, .. } = member;
    MemberSeen {
        pid,
        tid,
        comm,
        listener,
        accepted,
        outside,
        foreign,
        unstamped,
        eagain,
        emfile,
        open,
        open_peak,
        last_accept_ns: match member.last_accept_ns {
            0 => 0,
            kernel_ns => kernel_ns.saturating_add_signed(ahead_ns),
        },
        ends: if accepted > 0 && member.completions == accepted { WaitEnd::Completion } else { WaitEnd::Accept },
        waits,
    }
}

/// A thread's name. The programs do not know it where a kernel thread accepts in its place.
fn name(names: &mut HashMap<i32, String>, member: &Member) -> String {
    if !member.comm.is_empty() {
        return member.comm.clone();
    }
    let Member { pid, tid, .. } = member;
    let read = || file::read(format!("/proc/{pid}/task/{tid}/comm")).unwrap_or_default().trim().to_owned();
    names.entry(*tid).or_insert_with(read).clone()
}

/// What cannot be known at a level, and why a better level, or the accepts of rings, are not available.
fn missing(
    level: Level,
    better: Option<&anyhow::Error>,
    (rings, queued): (Option<&anyhow::Error>, Option<&anyhow::Error>),
) -> Option<String> {
    let what = match level {
        Level::Btf => {
            let rings = rings.map(|error| format!("accepts by io_uring: {}", format::causes(error)));
            let queued = queued.map(|error| {
                format!(
                    "when connections were queued, so that waits begin with the client's connect call: {}",
                    format::causes(error)
                )
            });
            let lacks: Vec<String> = rings.into_iter().chain(queued).collect();
            return (!lacks.is_empty()).then(|| lacks.join("; "));
        }
        Level::Tracepoints => {
            "accepts by io_uring; the waits of accepts whose caller does not ask for the peer's address; and connections between the \
             same addresses in other network namespaces may be taken for these"
        }
        Level::Counts => "accept waits, open connections, whose connections they were, and accepts by io_uring",
    };
    Some(match better {
        Some(error) => format!("{what}: {}", format::causes(error)),
        None => format!("{what}: set `probe` to `btf` or `auto`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(tid: i32, accepted: u64, ends: WaitEnd) -> MemberSeen {
        let mut waits = counts();
        waits.extend((accepted > 0).then_some((1_000, accepted)).into_iter());
        let listener = "127.0.0.1:80".parse().ok();
        let (comm, open_peak, last_accept_ns) = (String::new(), accepted + 1, 10 * accepted);
        MemberSeen {
            pid: 1,
            tid,
            comm,
            listener,
            accepted,
            outside: 1,
            foreign: 1,
            unstamped: 2,
            eagain: 3,
            emfile: 4,
            open: accepted,
            open_peak,
            last_accept_ns,
            ends,
            waits,
        }
    }

    #[test]
    fn a_thread_is_one_member_however_many_descriptors_it_uses() {
        let mut members = Vec::new();
        for (tid, accepted) in [(7, 4), (8, 1), (7, 5)] {
            enter(&mut members, row(tid, accepted, WaitEnd::Accept));
        }
        let [first, second] = &members[..] else { panic!("{members:?}") };
        assert_eq!((first.tid, first.accepted, first.foreign, first.unstamped, first.eagain), (7, 9, 2, 4, 6));
        assert_eq!((first.emfile, first.outside), (8, 2));
        assert_eq!((first.open, first.open_peak, first.last_accept_ns, first.waits.len()), (9, 9, 50, 9));
        assert_eq!((second.tid, second.accepted, second.open_peak), (8, 1, 2));
    }

    #[test]
    fn waits_end_at_completion_only_if_all_do() {
        let (accept, completion) = (WaitEnd::Accept, WaitEnd::Completion);
        for (one, other, expected) in [
            ((1, accept), (1, completion), accept),
            ((1, completion), (1, completion), completion),
            ((0, accept), (1, completion), completion),
            ((1, completion), (0, accept), completion),
        ] {
            let mut member = row(7, one.0, one.1);
            member.join(row(7, other.0, other.1));
            assert_eq!(member.ends, expected, "{one:?} {other:?}");
        }
    }

    #[test]
    fn what_is_missing_comes_with_its_reason() {
        assert_eq!(missing(Level::Btf, None, (None, None)), None);
        let error = anyhow::anyhow!("no file").context("BTF");
        assert_eq!(missing(Level::Btf, None, (Some(&error), None)).unwrap(), "accepts by io_uring: BTF: no file");
        let queued = missing(Level::Btf, None, (None, Some(&error))).unwrap();
        assert!(queued.starts_with("when connections were queued") && queued.ends_with("BTF: no file"), "{queued}");
        assert!(missing(Level::Tracepoints, Some(&error), (None, None)).unwrap().ends_with("for these: BTF: no file"));
        assert!(
            missing(Level::Counts, None, (None, None)).unwrap().ends_with("io_uring: set `probe` to `btf` or `auto`")
        );
    }
}
