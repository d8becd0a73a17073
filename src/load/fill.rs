//! Fills the ephemeral ports: opens connection after connection, holds them all, and notes what each connect cost.
//!
//! One process holds as many as it may have files; then the next goes on. They take turns, so that a connect's cost is that
//! of the fill alone.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use super::source::{self, Group, Share, Source};
use crate::{
    ipc::{
        board::{Board, Phases, Words},
        tally::Tally,
    },
    observe::ports::Range,
    record::{ErrorCount, Step},
    scenario::{CloseHow, Scenario, Selection},
    sys::{clock, limits},
};

/// Descriptors that a process has open besides its connections, with room to spare.
pub const RESERVED_FILES: u64 = 64;
/// Attempts beyond the wall, to see what a failing connect costs.
const BEYOND_THE_WALL: usize = 20;
/// Pause between attempts while the ports recover.
const RECOVERY_PAUSE: Duration = Duration::from_millis(5);

/// What processes that fill ports tell each other, in shared memory.
#[derive(Debug)]
pub struct FillControl {
    board: Board<FillPhase, Word>,
}

/// Words of the board.
#[derive(Debug, Clone, Copy)]
enum Word {
    /// Whose turn it is.
    Turn,
    /// Connections open.
    Open,
    /// Whether the wall was met.
    Wall,
    /// Processes that have closed theirs.
    Closed,
    /// Ports of all groups; 0 while nobody has counted them.
    Capacity,
}

impl Words for Word {
    const COUNT: usize = Self::Capacity as usize + 1;

    fn place(self) -> usize {
        self as usize
    }
}

/// Where a ports trial is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FillPhase {
    /// Nobody listens yet.
    SetUp,
    /// Connections are opened and held.
    Fill,
    /// They are closed.
    Close,
    /// They are opened again, as ports come free.
    Recover,
    /// Processes report and exit.
    Exit,
}

impl Phases for FillPhase {
    const ALL: &'static [Self] = &[Self::SetUp, Self::Fill, Self::Close, Self::Recover, Self::Exit];
}

impl FillControl {
    /// To be made before the fork.
    pub fn new() -> io::Result<Self> {
        Ok(Self { board: Board::new()? })
    }

    /// Connections open in all processes.
    pub fn open(&self) -> u64 {
        self.board.get(Word::Open)
    }

    /// The ports of all groups have been counted.
    pub fn set_capacity(&self, ports: u64) {
        self.board.set(Word::Capacity, ports);
    }

    /// Ports of all groups; 0 while nobody has counted them.
    pub fn capacity(&self) -> u64 {
        self.board.get(Word::Capacity)
    }

    /// Whether there was no port left.
    pub fn at_the_wall(&self) -> bool {
        self.board.get(Word::Wall) != 0
    }

    /// The phase.
    pub fn phase(&self) -> FillPhase {
        self.board.phase()
    }

    /// How many processes have had their turn in this phase.
    pub fn turns(&self) -> u64 {
        self.board.get(Word::Turn)
    }

    /// How many processes have closed their connections.
    pub fn closed(&self) -> u64 {
        self.board.get(Word::Closed)
    }

    /// Moves on to a phase, in which the first process has the first turn.
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
    /// Which of the processes.
    pub share: Share,
    /// The cell's scenario.
    pub scenario: Arc<Scenario>,
    /// What it shares with the others.
    pub control: Arc<FillControl>,
    /// The ports of its network.
    pub range: Range,
    /// Connections at which to stop; more than the capacity for the wall.
    pub until: u64,
    /// Connections that must be had again after the wall; 0 without recovery.
    pub recover: u64,
    /// Nobody goes on after this instant of CLOCK_MONOTONIC, in nanoseconds.
    pub deadline_ns: u64,
    /// Longest time to wait for that.
    pub recover_within: Duration,
    /// Seed of random orders.
    pub seed: u64,
}

/// What it did.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct FillReport {
    /// Attempts, of the fill and beyond the wall.
    pub attempted: u64,
    /// Of those, established.
    pub established: u64,
    /// The rest, by phase and errno.
    pub errors: Vec<ErrorCount>,
    /// Connections of all processes before its first.
    pub first: u64,
    /// What each connect took, bind included, in order, ns.
    pub connect_ns: Vec<u64>,
    /// CPU time of the same, ns.
    pub cpu_ns: Vec<u64>,
    /// The errno at the wall, if this process met it.
    pub exhausted: Option<String>,
    /// What attempts beyond the wall took, ns.
    pub failing_ns: Vec<u64>,
    /// When the connections wanted back were had, in nanoseconds of CLOCK_MONOTONIC.
    pub recovered_at_ns: Option<u64>,
    /// Whether the deadline ended the fill.
    pub gave_up: bool,
}

impl Filler {
    /// Runs through all phases.
    pub fn run(self) -> Result<FillReport> {
        limits::raise_open_files().context("raising the limit of open files")?;
        let files = limits::open_files().context("getrlimit(RLIMIT_NOFILE)")?.soft;
        let fill = self.scenario.fill.as_ref().context("the scenario is not of kind `ports`")?;
        let groups = source::groups(&self.scenario.sources, &fill.destinations);
        let selection = self.scenario.sources.selection;
        let mut work = Work {
            source: source::build(selection, &self.range, groups.len(), self.share, self.seed),
            full: vec![false; groups.len()],
            groups,
            next: 0,
            held: Vec::new(),
            most: files.saturating_sub(RESERVED_FILES) as usize,
            errors: Tally::default(),
            report: FillReport::default(),
            filler: self,
        };
        let control = Arc::clone(&work.filler.control);
        control.wait_for_turn(FillPhase::Fill, work.filler.share.process);
        work.fill();
        control.pass_turn();
        control.board.wait_for(FillPhase::Close);
        work.close();
        control.board.add(Word::Closed, 1);
        if work.filler.recover > 0 {
            control.wait_for_turn(FillPhase::Recover, work.filler.share.process);
            work.recover();
            control.pass_turn();
        }
        control.board.wait_for(FillPhase::Exit);
        Ok(FillReport { errors: work.errors.counts(), ..work.report })
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
    errors: Tally,
    report: FillReport,
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
    /// Opens connections until there is no port, or no file, left, or enough are open.
    fn fill(&mut self) {
        let control = Arc::clone(&self.filler.control);
        self.report.first = control.open();
        while control.open() < self.filler.until && self.held.len() < self.most && !control.at_the_wall() {
            if clock::monotonic_ns() > self.filler.deadline_ns {
                self.report.gave_up = true;
                return;
            }
            let Some(group) = self.next_group() else { return self.out_of_ports() };
            self.report.attempted += 1;
            let (before_ns, cpu_before_ns) = (clock::monotonic_ns(), clock::thread_cpu_ns());
            match self.connect(&group) {
                Ok(socket) => {
                    self.report.connect_ns.push(clock::monotonic_ns() - before_ns);
                    self.report.cpu_ns.push(clock::thread_cpu_ns() - cpu_before_ns);
                    self.report.established += 1;
                    control.board.add(Word::Open, 1);
                    self.held.push((socket, group));
                }
                Err(failed) => {
                    self.errors.add(failed.step, &failed.error);
                    if !failed.is_exhaustion() {
                        // Out of files or memory: another process may have some.
                        return;
                    }
                    let errno = nix::errno::Errno::from_raw(failed.error.raw_os_error().unwrap_or(0));
                    self.report.exhausted = Some(format!("{errno:?}"));
                    self.full[group.number] = true;
                }
            }
        }
    }

    /// Groups take turns, so that they fill alike; `None` when all are full.
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

    /// No group has a port left for this process. That is the wall, unless others have ports of their own.
    fn out_of_ports(&mut self) {
        let Share { process, processes } = self.filler.share;
        let own = matches!(self.filler.scenario.sources.selection, Selection::RangeWindow | Selection::Explicit);
        if !own || process + 1 == processes {
            self.beyond_the_wall();
        }
    }

    /// What does it cost to find out that there is no port?
    fn beyond_the_wall(&mut self) {
        self.filler.control.board.set(Word::Wall, 1);
        for attempt in 0..BEYOND_THE_WALL {
            let group = self.groups[attempt % self.groups.len()];
            self.report.attempted += 1;
            let before_ns = clock::monotonic_ns();
            match self.connect(&group) {
                // Somebody else has freed one meanwhile.
                Ok(socket) => {
                    self.report.established += 1;
                    self.filler.control.board.add(Word::Open, 1);
                    self.held.push((socket, group));
                }
                Err(failed) => {
                    self.report.failing_ns.push(clock::monotonic_ns() - before_ns);
                    self.errors.add(failed.step, &failed.error);
                }
            }
        }
    }

    fn close(&mut self) {
        let reset = self.filler.scenario.load.close_how == CloseHow::Rst;
        for (socket, group) in self.held.drain(..) {
            let local = socket.local_addr().ok().and_then(|address| address.as_socket());
            if reset {
                // Fails on a socket that is closed already, which is as well.
                let _ = socket.set_linger(Some(Duration::ZERO));
            }
            drop(socket);
            self.filler.control.board.add(Word::Open, -1);
            self.source.freed(&group, local.map_or(0, |local: SocketAddr| local.port()));
        }
    }

    /// Opens connections again until enough are open, however long the ports take to be had.
    fn recover(&mut self) {
        let control = Arc::clone(&self.filler.control);
        self.full.fill(false);
        let patience_ns = clock::monotonic_ns() + clock::nanoseconds(self.filler.recover_within);
        while control.open() < self.filler.recover && self.held.len() < self.most {
            if clock::monotonic_ns() > patience_ns.min(self.filler.deadline_ns) {
                return;
            }
            let Some(group) = self.next_group() else {
                self.full.fill(false);
                std::thread::sleep(RECOVERY_PAUSE);
                continue;
            };
            match self.connect(&group) {
                Ok(socket) => {
                    control.board.add(Word::Open, 1);
                    self.held.push((socket, group));
                }
                Err(_) => self.full[group.number] = true,
            }
        }
        if control.open() >= self.filler.recover {
            self.report.recovered_at_ns = Some(clock::monotonic_ns());
        }
    }
}
