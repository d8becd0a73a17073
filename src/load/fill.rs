//! Fills the ephemeral ports: opens connection after connection, holds them all, and records the cost of each connect().
//!
//! One process holds as many connections as its limit on files allows; then the next takes over. They take turns, so that the cost
//! of a connect() depends on the fill alone.

mod log;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};

use self::log::{BEYOND_THE_WALL, FillCount};
pub use self::log::{FillLog, FillReport};
use super::source::{self, Group, Share, Source};
use crate::{
    ipc::board::{Board, Phases, Words},
    observe::ports::Range,
    record::Step,
    scenario::{CloseHow, Scenario, Selection},
    sys::{clock, limits},
};

/// Descriptors that a process has open besides its connections, with room to spare.
pub const RESERVED_FILES: u64 = 64;
/// Pause between attempts while the ports recover.
const RECOVERY_PAUSE: Duration = Duration::from_millis(5);

/// The shared memory through which processes that fill ports coordinate.
#[derive(Debug)]
pub struct FillControl {
    board: Board<FillPhase, Word>,
}

/// Words of the board.
#[derive(Debug, Clone, Copy)]
enum Word {
    /// Number of the process whose turn it is.
    Turn,
    /// Connections open.
    Open,
    /// Whether the wall was reached.
    Wall,
    /// Ports of all groups; 0 until they are counted.
    Capacity,
    /// When the fill was told to end early; 0 until then.
    InterruptedNs,
    /// Whether one of the processes has died.
    Broken,
}

impl Words for Word {
    const COUNT: usize = Self::Broken as usize + 1;

    fn place(self) -> usize {
        self as usize
    }
}

/// The phases of a ports trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FillPhase {
    /// Nobody listens yet.
    SetUp,
    /// Connections are opened and held.
    Fill,
    /// The connections are closed.
    Close,
    /// Connections are opened again as ports become free.
    Recover,
    /// Processes report and exit.
    Exit,
}

impl Phases for FillPhase {
    const ALL: &'static [Self] = &[Self::SetUp, Self::Fill, Self::Close, Self::Recover, Self::Exit];
}

impl FillControl {
    /// Must be called before the fork.
    pub fn new() -> io::Result<Self> {
        Ok(Self { board: Board::new()? })
    }

    /// Connections open in all processes.
    pub fn open(&self) -> u64 {
        self.board.get(Word::Open)
    }

    /// Publishes the number of ports of all groups.
    pub fn set_capacity(&self, ports: u64) {
        self.board.set(Word::Capacity, ports);
    }

    /// Ports of all groups; 0 until they are counted.
    pub fn capacity(&self) -> u64 {
        self.board.get(Word::Capacity)
    }

    /// Whether the wall was reached: no port was left.
    pub fn at_the_wall(&self) -> bool {
        self.board.get(Word::Wall) != 0
    }

    /// The phase.
    pub fn phase(&self) -> FillPhase {
        self.board.phase()
    }

    /// Tells the processes to end early. The first time counts.
    pub fn interrupt(&self) {
        if self.interrupted_ns().is_none() {
            self.board.set(Word::InterruptedNs, clock::monotonic_ns());
        }
    }

    /// When the processes were told to end early, in nanoseconds of CLOCK_MONOTONIC.
    pub fn interrupted_ns(&self) -> Option<u64> {
        Some(self.board.get(Word::InterruptedNs)).filter(|at_ns| *at_ns != 0)
    }

    /// How many processes have had their turn in this phase.
    pub fn turns(&self) -> u64 {
        self.board.get(Word::Turn)
    }

    /// Whether the processes are to end early.
    fn is_cut_short(&self) -> bool {
        self.interrupted_ns().is_some() || self.board.get(Word::Broken) != 0
    }

    /// Notes that a process has died, which ends the fill. The kernel has closed its connections.
    pub fn died(&self, filler: usize, log: &FillLog) {
        if log.get(filler, FillCount::Closed) == 0 {
            log.set(filler, FillCount::Closed, 1);
            let open = log.get(filler, FillCount::Open);
            log.set(filler, FillCount::Open, 0);
            self.board.add(Word::Open, -(open as i64));
        }
        self.board.set(Word::Broken, 1);
        if self.turns() == filler as u64 {
            self.pass_turn();
        }
    }

    /// Advances to a phase, in which the first process has the first turn.
    pub fn set_phase(&self, phase: FillPhase) {
        self.board.set(Word::Turn, 0);
        self.board.set_phase(phase);
    }

    /// Waits for a phase, and in it for this process's turn.
    fn wait_for_turn(&self, phase: FillPhase, process: usize) {
        self.board.wait_for(phase);
        self.board.wait_until(Word::Turn, process as u64, None);
    }

    fn pass_turn(&self) {
        self.board.add(Word::Turn, 1);
    }
}

/// What a forked process needs to fill ports.
pub struct Filler {
    pub share: Share,
    /// The cell's scenario.
    pub scenario: Arc<Scenario>,
    pub control: Arc<FillControl>,
    pub log: Arc<FillLog>,
    /// The ephemeral range of its network.
    pub range: Range,
    /// Connections at which to stop; more than the capacity to reach the wall.
    pub until: u64,
    /// Connections to open again after the wall; 0 without recovery.
    pub recover: u64,
    /// When every process stops, in nanoseconds of CLOCK_MONOTONIC.
    pub deadline_ns: u64,
    /// How long to wait for recovery.
    pub recover_within: Duration,
    /// Seed of random orders.
    pub seed: u64,
}

impl Filler {
    /// Runs through all phases.
    pub fn run(self) -> Result<()> {
        limits::raise_open_files().context("raising the limit of open files")?;
        let files = limits::open_files().context("getrlimit(RLIMIT_NOFILE)")?.soft;
        let fill = self.scenario.fill.as_ref().context("the scenario is not of kind `ports`")?;
        let groups = source::groups(&self.scenario.loads[0].sources, &fill.destinations);
        let selection = self.scenario.loads[0].sources.selection;
        let mut work = Work {
            source: source::build(selection, &self.range, groups.len(), self.share, self.seed),
            full: vec![false; groups.len()],
            groups,
            next: 0,
            held: Vec::new(),
            most: files.saturating_sub(RESERVED_FILES) as usize,
            filler: self,
        };
        let control = Arc::clone(&work.filler.control);
        control.wait_for_turn(FillPhase::Fill, work.filler.share.process);
        work.fill();
        control.pass_turn();
        control.board.wait_for(FillPhase::Close);
        work.close();
        work.set(FillCount::Closed, 1);
        if work.filler.recover > 0 {
            control.wait_for_turn(FillPhase::Recover, work.filler.share.process);
            work.recover();
            control.pass_turn();
        }
        control.board.wait_for(FillPhase::Exit);
        Ok(())
    }
}

struct Work {
    filler: Filler,
    source: Box<dyn Source>,
    groups: Vec<Group>,
    /// Groups that have no port left.
    full: Vec<bool>,
    next: usize,
    held: Vec<(Socket, Group)>,
    most: usize,
}

/// An attempt that failed, and in which call.
struct Failed {
    step: Step,
    error: io::Error,
}

impl Failed {
    /// Whether there is no port left: EADDRNOTAVAIL, or EADDRINUSE from bind to port 0.
    fn is_exhaustion(&self) -> bool {
        matches!(self.error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EADDRINUSE))
    }
}

impl Work {
    /// The filler's number, from 0.
    fn number(&self) -> usize {
        self.filler.share.process
    }

    fn add(&self, count: FillCount) {
        self.filler.log.add(self.number(), count);
    }

    fn set(&self, count: FillCount, value: u64) {
        self.filler.log.set(self.number(), count, value);
    }

    fn hold(&mut self, socket: Socket, group: Group) {
        self.filler.control.board.add(Word::Open, 1);
        self.add(FillCount::Open);
        self.held.push((socket, group));
    }

    /// Opens connections until enough are open, or no port or file is left.
    fn fill(&mut self) {
        let control = Arc::clone(&self.filler.control);
        while control.open() < self.filler.until && self.held.len() < self.most && !control.at_the_wall() {
            if clock::monotonic_ns() > self.filler.deadline_ns {
                self.set(FillCount::GaveUp, 1);
                return;
            }
            if control.is_cut_short() {
                return;
            }
            let Some(group) = self.next_group() else { return self.out_of_ports() };
            self.add(FillCount::Attempted);
            let (before_ns, cpu_before_ns) = (clock::monotonic_ns(), clock::thread_cpu_ns());
            match self.connect(&group) {
                Ok(socket) => {
                    let connect_ns = clock::monotonic_ns() - before_ns;
                    self.filler.log.add_connect(connect_ns, clock::thread_cpu_ns() - cpu_before_ns);
                    self.add(FillCount::Established);
                    self.hold(socket, group);
                }
                Err(failed) => {
                    self.filler.log.add_error(self.number(), failed.step, &failed.error);
                    if !failed.is_exhaustion() {
                        // Out of files or memory; another process may have some left.
                        return;
                    }
                    self.set(FillCount::Exhausted, failed.error.raw_os_error().unwrap_or(0) as u64);
                    self.full[group.number] = true;
                }
            }
        }
    }

    /// The next group. Groups take turns, so that they fill evenly; `None` when all are full.
    fn next_group(&mut self) -> Option<Group> {
        let count = self.groups.len();
        let place = (self.next..self.next + count).map(|place| place % count).find(|place| !self.full[*place])?;
        self.next = (place + 1) % count;
        Some(self.groups[place])
    }

    fn connect(&mut self, group: &Group) -> Result<Socket, Failed> {
        loop {
            let failed = |step| move |error| Failed { step, error };
            let socket = Socket::new(Domain::for_address(group.destination), Type::STREAM.cloexec(), None)
                .map_err(failed(Step::Socket))?;
            self.source.prepare(&socket, group).map_err(failed(Step::Bind))?;
            match socket.connect(&group.destination.into()) {
                Ok(()) => return Ok(socket),
                Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) && self.source.try_elsewhere(group) => {
                }
                Err(error) => return Err(failed(Step::Connect)(error)),
            }
        }
    }

    /// No group has a port left for this process. That is the wall, unless other processes have ports of their own.
    fn out_of_ports(&mut self) {
        let Share { process, processes } = self.filler.share;
        let own =
            matches!(self.filler.scenario.loads[0].sources.selection, Selection::RangeWindow | Selection::Explicit);
        if !own || process + 1 == processes {
            self.beyond_the_wall();
        }
    }

    /// Measures the cost of finding out that no port is left.
    fn beyond_the_wall(&mut self) {
        self.filler.control.board.set(Word::Wall, 1);
        for attempt in 0..BEYOND_THE_WALL {
            let group = self.groups[attempt % self.groups.len()];
            self.add(FillCount::Attempted);
            let before_ns = clock::monotonic_ns();
            match self.connect(&group) {
                // Another program has freed a port in the meantime.
                Ok(socket) => {
                    self.add(FillCount::Established);
                    self.hold(socket, group);
                }
                Err(failed) => {
                    self.filler.log.add_failing(self.number(), clock::monotonic_ns() - before_ns);
                    self.filler.log.add_error(self.number(), failed.step, &failed.error);
                }
            }
        }
    }

    fn close(&mut self) {
        let reset = self.filler.scenario.loads[0].close_how == CloseHow::Rst;
        let Self { filler: Filler { share, control, log, .. }, held, source, .. } = self;
        for (socket, group) in held.drain(..) {
            let local = socket.local_addr().ok().and_then(|address| address.as_socket());
            if reset {
                // Fails only on a socket that is already closed.
                let _ = socket.set_linger(Some(Duration::ZERO));
            }
            drop(socket);
            control.board.add(Word::Open, -1);
            log.set(share.process, FillCount::Open, log.get(share.process, FillCount::Open) - 1);
            source.freed(&group, local.map_or(0, |local: SocketAddr| local.port()));
        }
    }

    /// Opens connections again until enough are open, retrying while ports are still taken.
    fn recover(&mut self) {
        let control = Arc::clone(&self.filler.control);
        self.full.fill(false);
        let patience_ns = clock::monotonic_ns() + clock::nanoseconds(self.filler.recover_within);
        while control.open() < self.filler.recover && self.held.len() < self.most {
            if control.is_cut_short() || clock::monotonic_ns() > patience_ns.min(self.filler.deadline_ns) {
                return;
            }
            let Some(group) = self.next_group() else {
                self.full.fill(false);
                std::thread::sleep(RECOVERY_PAUSE);
                continue;
            };
            match self.connect(&group) {
                Ok(socket) => {
                    self.hold(socket, group);
                }
                Err(_) => self.full[group.number] = true,
            }
        }
        if control.open() >= self.filler.recover {
            self.set(FillCount::RecoveredNs, clock::monotonic_ns());
        }
    }
}
