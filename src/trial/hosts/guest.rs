//! A load host's side of a trial: its loaders, and what the conductor hears of them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{Figures, Hosts, Order, Rehearsed, Task, Word, progress_every, tagged, watched::Watcher};
use crate::{
    context::{Role, Side},
    format,
    hosts::{Broken, Frame, Link},
    ipc::{
        control::{Control, Recording, Window},
        family::{Cut, Family, Patience},
    },
    observe::{
        mptcp,
        ports::Range,
        reach::{Reach, Routes},
    },
    scenario::{
        Cell, Plan, Scenario, Trial,
        keys::{self, AnyKey},
    },
    sys::clock,
    trial::{
        self, GRACE, INTERRUPTED_GRACE, Job,
        ceiling::Ceiling,
        loaders::{Loaders, fork_loaders, loader_accounts},
        networks::{Confinement, Networks, Stray},
        process::{self, END_PATIENCE, INTERRUPT_PATIENCE, SETUP_PATIENCE},
    },
};

/// How long this host's part of a trial may take to end once the conductor is gone.
const ORPHANED_GRACE: Duration = Duration::from_secs(5);
/// How often to look for what the conductor says while the load runs.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long the conductor may take beyond the deadline to ask for results.
const REPORT_PATIENCE: Duration = Duration::from_secs(120);
/// How many ports go into a message, at up to 18 bytes each.
const PORTS_AT_ONCE: usize = 16_384;

/// What has become of a load host's part of a trial.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Parted {
    /// Whether the conductor has heard all of it, so that the link can be used for the next.
    pub in_step: bool,
}

impl Task {
    /// The task of one of the load hosts, by its number among them and its rank.
    pub fn of(job: Job<'_>, records: bool, (host, rank): (usize, usize)) -> Self {
        Self {
            source: job.plan.source().to_owned(),
            scenario: job.plan.effective.clone(),
            cell: job.trial.cell,
            number: job.trial.number,
            repetition: job.trial.repetition,
            searched: job.searched,
            sizing: job.sizing.clone(),
            host,
            rank,
            records,
            allow_remote: job.allow_remote,
            job: job.role.job.to_vec(),
            address: job.cell().scenario.address,
            stamps_allowed: job.stamps_allowed,
            guests: Vec::new(),
            clients: job.role.clients.to_vec(),
        }
    }

    /// The trial of which this is a part, on this host.
    pub fn job<'a>(&'a self, plan: &'a Plan, role: Role<'a>, hosts: Option<&'a Hosts>) -> Job<'a> {
        Job {
            plan,
            trial: Trial { number: self.number, repetition: self.repetition, cell: self.cell },
            sizing: &self.sizing,
            searched: self.searched,
            stamps_allowed: self.stamps_allowed,
            recording: if self.records { Recording::On } else { Recording::Off },
            seen: None,
            allow_remote: self.allow_remote,
            place: None,
            role,
            hosts,
        }
    }

    /// The cell, with what of it concerns this host: of the source addresses, its own.
    pub fn cell_here(&self, plan: &Plan) -> Result<Cell> {
        let mut cell = plan.cells.get(self.cell).context("the scenario has no such cell")?.clone();
        cell.scenario.address = self.address;
        let routes = Routes::open()?;
        for load in &mut cell.scenario.loads {
            let all = std::mem::take(&mut load.sources.addresses);
            for address in &all {
                let there = |transport| routes.reach(transport, None, SocketAddr::new(*address, 0));
                let reaches = cell.scenario.protocol.transports().map(there).collect::<Result<Vec<_>>>()?;
                if reaches.iter().all(|reach| *reach == Reach::Local) {
                    load.sources.addresses.push(*address);
                }
            }
            if load.sources.addresses.is_empty() && !all.is_empty() {
                bail!(Stray {
                    path: load.path(keys::LOAD_SOURCE_ADDRESSES).into_owned(),
                    problem: "none of them is an address of this host: give each load host one of its own".to_owned(),
                });
            }
        }
        Ok(cell)
    }
}

/// The addresses that loaders on this host connect from.
fn clients(scenario: &Scenario) -> Result<Vec<IpAddr>> {
    let mut own = scenario.sources().addresses;
    if scenario.loads.iter().any(|load| load.sources.addresses.is_empty()) {
        let target = scenario.address;
        let any: SocketAddr = if target.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(any).context("bind")?;
        // The kernel chooses the address as it does for a connection. Nothing is sent.
        socket.connect(target).with_context(|| format!("looking for a route to {target}"))?;
        let chosen = socket.local_addr().context("getsockname")?.ip();
        if !own.contains(&chosen) {
            own.push(chosen);
        }
    }
    Ok(own)
}

/// Tries what this host's part of a cell's trials needs. Returns what it found, or the path of the key that rules it out, and why.
pub fn rehearse(
    plan: &Plan,
    task: &Task,
    patience: Patience<'_>,
) -> Result<std::result::Result<Rehearsed, (String, String)>> {
    match found(plan, task, patience) {
        Ok(found) => Ok(Ok(found)),
        Err(error) => {
            let Stray { path, problem } = error.downcast()?;
            Ok(Err((path, problem)))
        }
    }
}

fn found(plan: &Plan, task: &Task, patience: Patience<'_>) -> Result<Rehearsed> {
    let cell = task.cell_here(plan)?;
    let clients = clients(&cell.scenario)?;
    let role = Role { side: Side::Load, job: &task.job, clients: &clients };
    trial::confine(&cell.scenario, task.allow_remote, role)?;
    if cell.scenario.protocol.is_multipath()
        && let Some(problem) = mptcp::lack()
    {
        return Err(Stray { path: keys::PROTOCOL.path().to_owned(), problem }.into());
    }
    let refused = trial::refusals(&cell.scenario, &task.sizing, patience)?;
    let ports = Range::read().context("reading ip_local_port_range")?;
    Ok(Rehearsed { clients, ports, refused, lack: None })
}

/// Does this host's part of a trial in a process of its own. Once `interrupted` is set, its load ends early.
pub fn lend(plan: &Plan, task: &Task, link: &mut Link, interrupted: &AtomicBool) -> Result<Parted> {
    let mut plan = plan.clone();
    let cell = task.cell_here(&plan);
    let clients = cell.as_ref().map_or_else(|_| Ok(Vec::new()), |cell| clients(&cell.scenario));
    let (cell, clients) = match cell.and_then(|cell| Ok((cell, clients?))) {
        Ok(both) => both,
        Err(error) => {
            let told = link.send(&Word::Failed(format::causes(&error)));
            return Ok(Parted { in_step: told.is_ok() });
        }
    };
    plan.cells[task.cell] = cell;
    let role = Role { side: Side::Load, job: &task.job, clients: &clients };
    let job = Job { stamps_allowed: false, ..task.job(&plan, role, None) };
    let scenario = &job.cell().scenario;
    let control = trial::control_of(job)?;
    let mut family: Family<Parted> = Family::default();
    family.fork_leader("lb:trial", "the trial's process", |_| Ok(run(job, task, &control, link)))?;
    let patience = Patience::of(2 * SETUP_PATIENCE + scenario.deadline + GRACE + REPORT_PATIENCE);
    let cut = AtomicBool::new(false);
    let mut waited = family.wait(patience.unless(&cut), || {
        cut.store(interrupted.load(Relaxed) || link.has_ended(), Relaxed);
    });
    if waited == Err(Cut::Interrupted) {
        control.interrupt();
        let grace = if link.has_ended() { ORPHANED_GRACE } else { INTERRUPTED_GRACE };
        waited = family.wait(Patience::of(grace), || ());
    }
    if waited.is_err() {
        family.kill();
    }
    family.finish_one().into_report()
}

/// The body of the trial's process.
fn run(job: Job<'_>, task: &Task, control: &Arc<Control>, link: &mut Link) -> Parted {
    let in_step = match play(job, task, control, link) {
        Ok(()) => true,
        Err(error) if error.is::<Broken>() => false,
        Err(error) => link.send(&Word::Failed(format::causes(&error))).is_ok(),
    };
    Parted { in_step }
}

fn play(job: Job<'_>, task: &Task, control: &Arc<Control>, link: &mut Link) -> Result<()> {
    let networks = Networks::enter(&job.cell().scenario, job.allow_remote, job.role)?;
    let context = process::context(job, control, &job.cell().scenario)?;
    let scenario = &context.scenario;
    let mut loaders = fork_loaders(&context, job.sizing, task.host)?;
    trial::wait_until_ready(control, loaders.len(), Patience::of(SETUP_PATIENCE), || {
        loaders.check_running()?;
        nothing_said(link)
    })?;
    let mut confinement = Confinement::begin(&networks, scenario, job.allow_remote, job.role)?;
    link.send(&Word::Ready(loaders.pids().collect(), Ceiling::of(scenario)))?;
    let (window, ahead_ns) = match link.receive(Patience::of(2 * SETUP_PATIENCE))? {
        Frame::Value(Order::Start { window, ahead_ns }) => (window.by_clock_ahead(ahead_ns), ahead_ns),
        other => bail!("the conductor said {other:?} instead of when to start"),
    };
    control.open(window);
    let mut watcher = Watcher::begin(&networks, window)?;
    let early = supervise((control, window), task, &mut confinement, &mut loaders, &mut watcher, link)?;
    link.send(&progress(control))?;
    link.send(&Word::Ended { early })?;
    let patience = clock::nanoseconds(REPORT_PATIENCE) + window.deadline_ns.saturating_sub(clock::monotonic_ns());
    loop {
        match link.receive(Patience::of(Duration::from_nanos(patience)))? {
            Frame::Value(Order::Report) => break,
            Frame::Value(Order::EndEarly) => {}
            other => bail!("the conductor said {other:?} instead of asking for results"),
        }
    }
    let left = loader_accounts(&context, (job.sizing, task.host, Some(task.rank)), window, loaders)?;
    link.send(&Word::Watched(Box::new(watcher.end(&left.accounts)?)))?;
    for mut account in left.accounts {
        account.report = account.report.by_clock_behind(ahead_ns);
        link.send(&Word::Account(Box::new(account)))?;
    }
    for (load, histograms) in left.of_loads.iter().enumerate() {
        for (name, histogram) in histograms {
            link.send_histogram(&tagged(load, name), histogram)?;
        }
    }
    let mut by_address: BTreeMap<IpAddr, Vec<(u16, u32)>> = BTreeMap::new();
    for (client, word) in context.ledger.iter().flat_map(|ledger| ledger.established_words()) {
        by_address.entry(client.ip()).or_default().push((client.port(), word));
    }
    for (address, ports) in by_address {
        for ports in ports.chunks(PORTS_AT_ONCE) {
            link.send(&Word::Ports(address, ports.to_vec()))?;
        }
    }
    link.send(&Word::Done)
}

/// Fails if the conductor is gone, or says something when it should not.
fn nothing_said(link: &mut Link) -> Result<()> {
    match link.try_receive::<Order>()? {
        None => Ok(()),
        Some(order) => bail!("the conductor said {order:?} before anything was ready"),
    }
}

/// Waits until the last loader has ended; meanwhile tells the conductor what they count. Returns why the load ended early, unless the
/// conductor asked for that.
fn supervise(
    (control, window): (&Arc<Control>, Window),
    task: &Task,
    confinement: &mut Confinement<'_>,
    loaders: &mut Loaders,
    watcher: &mut Watcher,
    link: &mut Link,
) -> Result<Option<String>> {
    let every_ns = clock::nanoseconds(progress_every(task.sizing.hosts));
    let deadline_ns = window.deadline_ns + clock::nanoseconds(END_PATIENCE);
    let (mut next_ns, mut asked, mut strayed) = (window.start_ns, false, false);
    loop {
        let now_ns = clock::monotonic_ns();
        let interrupted_ns = control.interrupted_ns().map(|at_ns| at_ns + clock::nanoseconds(INTERRUPT_PATIENCE));
        if now_ns > interrupted_ns.unwrap_or(u64::MAX).min(deadline_ns) {
            loaders.kill_hung();
        }
        match link.try_receive::<Order>()? {
            None => {}
            Some(Frame::Value(Order::EndEarly)) => {
                asked |= control.interrupted_ns().is_none();
                control.interrupt();
            }
            Some(other) => bail!("the conductor said {other:?} while the load ran"),
        }
        if control.interrupted_ns().is_none() && !confinement.hold()? {
            strayed = true;
            control.interrupt();
        }
        watcher.pass(now_ns)?;
        if now_ns >= next_ns {
            watcher.sample()?;
            link.send(&progress(control))?;
            next_ns = now_ns + every_ns;
        }
        if loaders.drain(LOOK_AGAIN.min(Duration::from_nanos(next_ns.saturating_sub(clock::monotonic_ns())))) {
            break;
        }
    }
    Ok(match (control.interrupted_ns(), asked, strayed) {
        (None, ..) | (_, true, _) => None,
        (Some(_), false, true) => Some("its packets would have left their networks".to_owned()),
        (Some(_), false, false) => Some("it was interrupted".to_owned()),
    })
}

/// What each loader has counted so far.
fn progress(control: &Arc<Control>) -> Word {
    let figures = |loader| {
        let account = control.account(loader);
        Figures { words: account.words(), errors: account.errors() }
    };
    Word::Progress((0..control.loaders()).map(figures).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{load::Sizing, scenario::Source};

    fn of(text: &str) -> (Plan, Task) {
        let text = format!("network = \"host\"\n{text}");
        let plan = Plan::read(&Source { name: "test.toml", text: &text }, &[]).unwrap();
        let task = Task {
            source: "test.toml".to_owned(),
            scenario: plan.effective.clone(),
            cell: 0,
            number: 0,
            repetition: 0,
            searched: None,
            sizing: Sizing { hosts: 2, of_loads: vec![1], connections: 1, files_each: 1, files_limit: 1 },
            host: 0,
            rank: 1,
            records: true,
            allow_remote: false,
            job: Vec::new(),
            address: "127.0.0.9:7001".parse().unwrap(),
            stamps_allowed: false,
            guests: Vec::new(),
            clients: Vec::new(),
        };
        (plan, task)
    }

    #[test]
    fn a_host_takes_its_own_of_the_source_addresses() {
        let sources = |addresses: &str| {
            let (plan, task) =
                of(&format!("[load]\nsource_ports = \"bind-no-port\"\nsource_addresses = \"{addresses}\""));
            task.cell_here(&plan).map(|cell| cell.scenario)
        };
        let here = sources("127.0.0.2,203.0.113.1,127.0.0.3").unwrap();
        let own: [IpAddr; 2] = [[127, 0, 0, 2].into(), [127, 0, 0, 3].into()];
        assert_eq!((here.loads[0].sources.addresses.clone(), clients(&here).unwrap()), (own.to_vec(), own.to_vec()));
        let error = sources("203.0.113.1,203.0.113.2").unwrap_err().downcast::<Stray>().unwrap();
        assert_eq!(error.path, "load.source_addresses");
        assert!(error.problem.starts_with("none of them is an address of this host"), "{error}");
    }

    #[test]
    fn without_any_the_kernel_chooses_as_it_does_for_the_task_s_server() {
        let (plan, task) = of("");
        let here = task.cell_here(&plan).unwrap().scenario;
        assert_eq!(here.address, task.address);
        assert_eq!(clients(&here).unwrap(), [IpAddr::from([127, 0, 0, 1])]);
    }
}
