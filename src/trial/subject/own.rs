//! listenbench's own server: forked workers that obtain connections by the scenario's strategy.

use std::{fs::File, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use nix::{sys::signal::Signal, unistd::gettid};

use super::{Aside, Beside, Ended, Finished, Listening, Passage, Subject, generations::Generations, pool};
use crate::{
    context::TrialContext,
    ipc::{
        control::{Control, Count, Kept, Phase, Window},
        family::{self, Account, Family, Patience, Sender},
    },
    load,
    observe::listeners::Place,
    record::{self, CountedBy, DescriptorRow, Exit, HelperRow},
    scenario::{
        Act, Transport,
        keys::{self, AnyKey},
    },
    server::{Descriptors, SocketFile, Worker, WorkerSetUp, accept::Helper},
    sys::{
        clock::{self, CpuUse},
        unix::UnixAddress,
    },
    trial::Histograms,
};

/// How long a worker may take to leave its loop: longer than any reasonable service time.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// How long a stopped worker may take to exit.
const EXIT_PATIENCE: Duration = Duration::from_secs(2);
/// The process whose threads are the workers.
const POOL: &str = "lb:threads";
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The workers of one server, in a trial or in `listenbench serve`.
pub struct OwnServer {
    /// The workers, followed by the strategy's helper if it has one. A process reports how its workers were set up.
    family: Family<Vec<WorkerSetUp>>,
    /// What its workers are called.
    name: &'static str,
    workers: usize,
    /// Whether they are threads of the only process, in which another thread is the helper.
    is_pool: bool,
    control: Arc<Control>,
    generations: Generations,
    /// Workers that this process has stopped with SIGSTOP.
    stalled: Vec<usize>,
    /// By worker.
    inodes: Vec<Vec<u32>>,
    datagram_inodes: Vec<Vec<u32>>,
    address: SocketAddr,
    places: Vec<Place>,
    /// The network device that they are bound to, if any.
    device: Option<String>,
    /// A probe that counts as well.
    beside: Option<Beside>,
    /// The Unix socket that it listens on, if it does, and its file.
    unix: Option<UnixAddress>,
    file: Option<SocketFile>,
}

impl OwnServer {
    /// Forks the workers, each with its own part of `listening`, under this name and a number. They wait at the control block's
    /// barrier.
    pub fn fork(context: &TrialContext, mut listening: Listening, name: &'static str) -> Result<Self> {
        let (inodes, datagram_inodes) = (listening.inodes(Transport::Tcp)?, listening.inodes(Transport::Udp)?);
        let places = listening.places()?;
        let mut family = Family::default();
        let crew = listening.crew().clone();
        let turns = crew.turns(&context.scenario.server, context.seed, context.repetition);
        let workers = crew.workers.iter().zip(turns).enumerate().map(|(number, (member, turn))| Worker {
            number,
            place: member.place,
            turn,
            waits: member.begins.is_some(),
            context: context.clone(),
        });
        let mut workers: Vec<Worker> = workers.collect();
        let file = listening.take_file();
        let is_pool = listening.is_pool();
        if is_pool {
            let workers = std::mem::take(&mut workers);
            family.fork(POOL, "the pool of threads", |sender| {
                let pool = listening.take_pool().context("the strategy has no pool")?;
                pool::run(context, pool, workers, |number| process_name(name, number), sender)
            })?;
        }
        for worker in workers {
            let number = worker.number;
            let run = |sender: &mut Sender<File>| {
                let intake = listening.intake(number, worker.context.completions.as_ref())?;
                Ok(vec![worker.run(intake, |set_up| sender.json(&[set_up]))?])
            };
            family.fork(&process_name(name, number), format!("{name} {number}"), run)?;
        }
        if let Some(helper) = listening.helper() {
            family.fork(helper, "the strategy's helper", |sender| {
                let helper = listening.take_helper().context("the strategy names a helper but does not provide it")?;
                Ok(vec![help(helper, context, |set_up| sender.json(&[set_up]))?])
            })?;
        }
        let (control, workers) = (Arc::clone(&context.control), crew.workers.len());
        let later = listening.into_later();
        Ok(Self {
            family,
            name,
            workers,
            is_pool,
            generations: Generations::new(&context.scenario, &control, crew, later, &inodes),
            control,
            stalled: Vec::new(),
            inodes,
            datagram_inodes,
            address: context.scenario.address,
            places,
            device: context.scenario.server.bind.device.clone(),
            beside: None,
            unix: context.scenario.unix.clone(),
            file,
        })
    }

    /// Lets a probe count as well, if there is one.
    pub fn with(self, beside: Option<Beside>) -> Self {
        Self { beside, ..self }
    }
}

impl Subject for OwnServer {
    fn describe(&self) -> record::Subject {
        let device = self.device.as_deref();
        let bound = self.places.iter().map(|place| record::Bound {
            address: self.unix.as_ref().map_or_else(|| place.address.to_string(), ToString::to_string),
            v6only: (place.address.is_ipv6() && place.address.ip().is_unspecified()).then_some(!place.dual_stack),
            device: device.map(str::to_owned),
        });
        record::Subject { bound: bound.collect(), ..record::Subject::own() }
    }

    fn places(&self) -> Vec<Place> {
        self.places.clone()
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn members(&self) -> usize {
        self.workers
    }

    fn pids(&self) -> Vec<i32> {
        self.family.pids().collect()
    }

    fn at_barrier(&self) -> usize {
        if self.is_pool { self.workers + 1 } else { self.family.len() }
    }

    fn check_running(&mut self) -> Result<()> {
        self.family.check_running()
    }

    fn begin(&mut self) -> Result<()> {
        Ok(())
    }

    /// Workers learn of the window by themselves.
    fn expect(&mut self, window: Window) {
        self.beside.iter().for_each(|beside| beside.expect(window));
    }

    fn next_look_ns(&self) -> Option<u64> {
        self.generations.next_look_ns()
    }

    fn look(&mut self, _now_ns: u64) -> Result<()> {
        if self.generations.next_look_ns().is_some() {
            let dead = self.family.ended().collect();
            self.generations.look(&dead)?;
        }
        Ok(())
    }

    fn count(&self, member: usize, count: Count) -> Option<u64> {
        Some(self.control.count(member, count))
    }

    fn last_accept_ns(&self) -> Option<u64> {
        Some(self.control.last_accept_ns())
    }

    fn held(&self, member: usize, transport: Transport) -> &[u32] {
        let inodes = match transport {
            Transport::Tcp => &self.inodes,
            Transport::Udp => &self.datagram_inodes,
        };
        inodes.get(member).map_or(&[], Vec::as_slice)
    }

    fn begin_event(&mut self, event: usize, act: &Act) -> Result<()> {
        match *act {
            Act::Stall { worker, .. } => {
                self.stalled.push(worker);
                self.family.signal(worker, Signal::SIGSTOP);
            }
            Act::Kill { worker } => self.family.signal(worker, Signal::SIGKILL),
            // The worker burns by itself.
            Act::Burn { .. } => {}
            Act::Join | Act::Leave { .. } | Act::Reload { .. } => self.generations.begin(event, act),
            Act::Signal { .. } | Act::Exec { .. } => unreachable!("scenarios have these for other servers alone"),
        }
        Ok(())
    }

    fn end_event(&mut self, act: &Act) {
        if let Act::Stall { worker, .. } = *act {
            self.stalled.retain(|stalled| *stalled != worker);
            self.family.signal(worker, Signal::SIGCONT);
        }
    }

    fn passage(&self, event: usize) -> Option<Passage> {
        self.generations.passage(event)
    }

    /// Waits up to ten seconds until the workers no longer accept. A worker that hangs keeps its queue, so what is stranded there can
    /// still be counted.
    fn stop(&mut self) -> Result<()> {
        self.beside.iter_mut().try_for_each(Beside::see)?;
        self.control.set_phase(Phase::Stop);
        for worker in std::mem::take(&mut self.stalled) {
            self.family.signal(worker, Signal::SIGCONT);
        }
        let (family, control, workers, is_pool) = (&mut self.family, &self.control, self.workers, self.is_pool);
        let mut running = || if is_pool { family.running(0..1) * workers } else { family.running(0..workers) };
        let all_stopped = || control.stopped() >= running() as u64;
        // Workers that hang are killed later.
        let nap = |at_most| control.nap_until_stopped(workers as u64, at_most);
        let _ = family::wait_by(nap, Patience::of(STOP_PATIENCE), all_stopped, || Ok(()));
        self.beside.iter_mut().try_for_each(Beside::end)
    }

    /// Lets the stopped workers close their listeners and exit. One that hangs is killed.
    fn finish(self: Box<Self>) -> Finished {
        let Self { family, name, workers, is_pool, generations, control, beside, file, .. } = *self;
        control.set_phase(Phase::Exit);
        let mut accounts = family.finish(Patience::of(EXIT_PATIENCE));
        drop(file);
        let (lives, helper) = if is_pool {
            let Account { pid, exit, report, .. } = accounts.remove(0);
            let set_ups = report.unwrap_or_default();
            // Nobody knows what each thread of a dead process has used since it last updated its counters.
            let life =
                |number: usize| Life { pid, exit: exit.clone(), cpu: None, set_up: set_ups.get(number).cloned() };
            ((0..workers).map(life).collect::<Vec<_>>(), Some((pid, exit.clone())))
        } else {
            let helper = accounts.split_off(workers).pop().map(|account| (account.pid, account.exit));
            let life = |account: Account<Vec<WorkerSetUp>>| Life {
                pid: account.pid,
                exit: account.exit,
                cpu: Some(account.cpu),
                set_up: account.report.and_then(|mut set_ups| set_ups.pop()),
            };
            (accounts.into_iter().map(life).collect(), helper)
        };
        let helper = helper.map(|(pid, exit)| {
            let (total, measured) = (control.since_start(workers), control.measured(workers));
            let (total, measured) = ((&total).into(), (&measured).into());
            let descriptors = descriptors(&control, workers);
            (HelperRow { pid, total, measured, descriptors, exit }, control.worker_errors(workers))
        });
        let members = lives.into_iter().enumerate().map(|(number, life)| Ended {
            generation: generations.generation(number),
            descriptors: descriptors(&control, if is_pool { workers } else { number }),
            ..ended(&control, name, number, life)
        });
        let members: Vec<Ended> = members.collect();
        // From outside, the accepts of a pool are those of its process.
        let pids: Vec<i32> = members.iter().map(|member| member.pid).filter(|_| !is_pool).collect();
        let probe = beside.map(|beside| beside.row(&pids, helper.as_ref().map(|(row, _)| row.pid)));
        Finished { members, helper, histograms: histograms(&control), probe, ..Finished::default() }
    }
}

/// The descriptors of the process in which a worker or helper is; `None` if it has not counted them.
fn descriptors(control: &Control, number: usize) -> Option<DescriptorRow> {
    let counts = control.since_start(number);
    let row = DescriptorRow { limit: counts.get(Count::DescriptorLimit), before: counts.get(Count::DescriptorsBefore) };
    (row.limit > 0).then_some(row)
}

/// A worker's name in process lists.
fn process_name(name: &str, number: usize) -> String {
    format!("lb:{name}{number}")
}

/// What became of a worker.
struct Life {
    pid: i32,
    exit: Exit,
    /// The CPU time that it used, if anybody but itself knows.
    cpu: Option<CpuUse>,
    /// `None` if it died before.
    set_up: Option<WorkerSetUp>,
}

fn ended(control: &Control, name: &str, number: usize, life: Life) -> Ended {
    if let (false, Some(cpu)) = (life.exit.is_ok(), life.cpu) {
        // A dead worker has not updated its own counters.
        control.died(number, cpu);
    }
    let WorkerSetUp { tid, scheduler, engine } =
        life.set_up.unwrap_or_else(|| WorkerSetUp { tid: life.pid, ..WorkerSetUp::default() });
    let (total, measured) = (control.since_start(number), control.measured(number));
    Ended {
        pid: life.pid,
        tid,
        comm: process_name(name, number),
        exit: Some(life.exit),
        by: CountedBy::Own,
        total: (&total).into(),
        measured: (&measured).into(),
        open_peak: Some(total.get(Count::OpenPeak)),
        aside: Aside {
            unstamped: total.get(Count::Unstamped),
            hand_over_unknown: total.get(Count::HandOverUnknown),
            datagrams_left: total.get(Count::DatagramsLeft),
            datagrams_foreign: total.get(Count::DatagramsForeign),
            datagrams_dropped: total.get(Count::DatagramsDropped),
            datagrams_lost: total.get(Count::DatagramsLost),
        },
        errors: control.worker_errors(number),
        scheduler,
        engine,
        ..Ended::default()
    }
}

/// The histograms that workers recorded in shared memory, by name; those of dead workers too.
fn histograms(control: &Control) -> Histograms {
    let mut histograms = Histograms::new();
    for worker in 0..control.workers() {
        let kept =
            [(Kept::AcceptWait, "accept_wait"), (Kept::HandOver, "hand_over"), (Kept::AcceptBatch, "accept_batch")];
        for (kept, name) in kept {
            let values = load::counts(control.kept(worker, kept));
            if !values.is_empty() {
                histograms.insert(format!("w{worker}.{name}"), values);
            }
        }
    }
    histograms
}

/// Runs the helper process or thread from its set-up, which it reports, to its end.
pub(super) fn help(
    mut helper: Box<dyn Helper>,
    context: &TrialContext,
    report: impl FnOnce(&WorkerSetUp) -> Result<()>,
) -> Result<WorkerSetUp> {
    let TrialContext { scenario, control, .. } = context;
    let scheduler = scenario.server.scheduler.enforce(keys::SERVER_SCHEDULER.path())?;
    let set_up = WorkerSetUp { tid: gettid().as_raw(), scheduler, engine: None };
    report(&set_up)?;
    let number = control.workers();
    let is_thread = scenario.server.strategy.is_pool();
    helper.take_spare();
    let limited = || {
        if is_thread {
            // The workers' descriptors are the same process's.
            control.wait_for_registration_turn(number);
        }
        Descriptors::limit(&scenario.server)?;
        Descriptors::count(scenario.address.port())
    };
    // Workers that begin later have descriptors to get first.
    let now = scenario.server.accept_delay.is_zero().then(limited).transpose()?;
    let window = control.wait_for_start();
    let mut meter = if is_thread { control.thread_meter(number, window) } else { control.meter(number, window) };
    let begin_ns = window.start_ns.saturating_add(clock::nanoseconds(scenario.server.accept_delay));
    while clock::monotonic_ns() < begin_ns && control.phase() == Phase::Running {
        std::thread::sleep(LOOK_AGAIN);
    }
    now.map_or_else(limited, Ok)?.enter(&meter);
    let listener = helper.run(control, &mut meter, context.ledger.as_deref())?;
    meter.stop();
    // What is left in its queue is counted until then.
    control.wait_for_exit();
    drop(listener);
    Ok(set_up)
}
