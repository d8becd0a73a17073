//! Behind a proxy: our own server as its upstream, and the source ports that the proxy's connections to it take.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context, Result};

use super::{
    Job, SETUP_PATIENCE, merged,
    process::stamping,
    subject::{Finished, Listening, OwnServer, Subject},
    wait_until_ready,
};
use crate::{
    context::{Side, TrialContext, Waits},
    ipc::{
        control::{Control, Window},
        family::Patience,
    },
    observe::{
        ports::Range,
        queues::QueueReader,
        sockets::{self, Socket},
        stamps::{Room, Stamps},
        tuples::Usage,
    },
    record::{self, ErrorCount, Exit, LatencySummary, UpstreamPorts, WaitMethod},
    scenario::{self, Headers, Network, Scenario, Transport},
    sys::{clock, limits},
};

/// Client addresses whose stamps have slots of their own: those of a proxy are not known beforehand.
const STAMPED_ADDRESSES: usize = 16;
/// How often its connections are read.
const LOOK_NS: u64 = 100_000_000;
/// Reading tens of thousands of connections takes milliseconds. It may take a twentieth of the time.
const LOOK_SHARE: u64 = 20;

/// Our own server behind the server under test.
pub(super) struct Backend {
    address: SocketAddr,
    headers: Headers,
    control: Arc<Control>,
    server: Box<OwnServer>,
    waits: Waits,
    stamps: Option<Arc<Stamps>>,
    ports: PortsWatch,
}

impl Backend {
    /// Forks the workers of our own server behind the cell's proxy, and waits until they are set up. Returns `None` for a cell without a proxy.
    pub fn start(job: Job<'_>) -> Result<Option<Self>> {
        let Some(scenario) = job.cell().scenario.backend() else { return Ok(None) };
        let control = Control::new(scenario.server.workers, 0, 0).and_then(|control| control.with(job.recording));
        let control = Arc::new(control.context("mapping shared memory")?);
        let exact = scenario.stamps == scenario::Stamps::SockOps || job.stamps_allowed;
        let waits = Waits { exact: exact && control.records(), bound: false };
        let stamping = stamping(&scenario, waits, Room::Any(STAMPED_ADDRESSES))?;
        let context = TrialContext {
            target: scenario.address,
            control: Arc::clone(&control),
            side: Side::Whole,
            clients: Arc::default(),
            ledger: None,
            stamps: stamping.stamps,
            completions: stamping.completions,
            tls: None,
            waits,
            seed: job.plan.whole.seed,
            repetition: job.trial.repetition,
            scenario: Arc::new(scenario),
        };
        let scenario: &Scenario = &context.scenario;
        // The proxy has the limit that this program was started with.
        let files = limits::open_files().context("getrlimit(RLIMIT_NOFILE)")?;
        let listening = Listening::open(scenario)?;
        let mut server = Box::new(OwnServer::fork(&context, listening, "backend")?);
        limits::restore_open_files(files).context("setting the limit of open files back")?;
        wait_until_ready(&control, server.at_barrier(), Patience::of(SETUP_PATIENCE), || server.check_running())?;
        let loaders =
            (scenario.network != Network::Veth && job.role.side == Side::Whole).then_some(job.cell().scenario.address);
        let ports = PortsWatch::new(scenario.address, loaders)?;
        let stamps = context.stamps.clone();
        let headers = scenario.headers;
        Ok(Some(Self { address: scenario.address, headers, control, server, waits, stamps, ports }))
    }

    /// Opens the barrier of its workers.
    pub fn open(&mut self, window: Window) {
        self.control.open(window);
        self.ports.start_ns = window.start_ns;
        self.ports.next_ns = window.start_ns;
    }

    /// When its connections are to be read next.
    pub fn next_look_ns(&self) -> u64 {
        self.ports.next_ns
    }

    /// Reads its connections, if that is due.
    pub fn look(&mut self, now_ns: u64) -> Result<()> {
        if now_ns < self.ports.next_ns {
            return Ok(());
        }
        self.ports.look()
    }

    /// Reads its connections once more, now that the load has ended: what rests in TIME_WAIT has become most.
    pub fn look_last(&mut self) -> Result<()> {
        self.ports.look()
    }

    /// Ends it, once the proxy has ended, and returns its part of the record; adds those of its processes that ended early. What loaders took of the same ports is set right: nobody
    /// else can tell their sockets from the proxy's.
    pub fn finish(mut self, ports_peak: &mut u64, dead: &mut Vec<(String, Exit)>) -> Result<record::Upstream> {
        let mut queues = QueueReader::of(self.server.places())?;
        self.server.stop()?;
        let queues = queues.read()?;
        let listeners = self.server.listeners(Transport::Tcp);
        let waiting = queues.iter().filter(|(inode, _)| listeners.contains(inode));
        let left_in_queue = waiting.map(|(_, queue)| u64::from(queue.length)).sum();
        let Finished { members, helper, histograms, .. } = self.server.finish();
        let exits = members.iter().enumerate().filter_map(|(number, member)| {
            let exit = member.exit.clone().filter(|exit| !exit.is_ok())?;
            Some((format!("backend {number} (pid {})", member.pid), exit))
        });
        dead.extend(exits);
        let waits = merged::of_metric(&histograms, "accept_wait");
        let sum = |count: fn(&record::WorkerCounts) -> Option<u64>, measured: bool| -> u64 {
            members.iter().filter_map(|member| count(if measured { &member.measured } else { &member.total })).sum()
        };
        // What the helper accepts and closes at once, no worker gets.
        let shed_by_helper = helper.as_ref().and_then(|(row, _)| row.total.shed).unwrap_or(0);
        let connections = sum(|counts| counts.accepted, false) + shed_by_helper;
        let requests = sum(|counts| counts.requests, false);
        if let Some(peak) = self.ports.loaders_peak {
            *ports_peak = peak;
        }
        // Samples miss connections that come and go between them.
        if let Some(stamps) = self.stamps.as_ref().filter(|_| self.address.is_ipv4()) {
            self.ports.sources.extend(stamps.clients().into_iter().map(IpAddr::V4));
        }
        let helper_errors = helper.into_iter().flat_map(|(_, errors)| errors);
        let errors = members.iter().flat_map(|member| member.errors.iter().copied()).chain(helper_errors);
        Ok(record::Upstream {
            address: self.address.to_string(),
            workers: members.len() as u64,
            proxy_protocol: self.headers == Headers::All,
            connections,
            left_in_queue,
            requests,
            requests_per_connection: (connections > 0).then(|| requests as f64 / connections as f64),
            measured_connections: sum(|counts| counts.accepted, true),
            measured_requests: sum(|counts| counts.requests, true),
            accept_wait: if self.waits.exact {
                LatencySummary::of_waits(&waits, 0, WaitMethod::SockOps)
            } else {
                LatencySummary::default()
            },
            unstamped: members.iter().map(|member| member.aside.unstamped).sum(),
            cpu_user_ns: sum(|counts| counts.cpu_user_ns, false),
            cpu_system_ns: sum(|counts| counts.cpu_system_ns, false),
            errors: ErrorCount::merged(errors),
            ports: self.ports.finish(),
        })
    }
}

/// Samples the source ports of connections to an address.
struct PortsWatch {
    to: SocketAddr,
    /// Where loaders connect to, if their sockets are in the same network.
    loaders_to: Option<SocketAddr>,
    /// The most ports that loaders had at once.
    loaders_peak: Option<u64>,
    range: Range,
    /// Sockets that bar their port to all connections: listeners, and those that are only bound.
    barring: Vec<Socket>,
    sources: BTreeSet<IpAddr>,
    seen: UpstreamPorts,
    start_ns: u64,
    next_ns: u64,
}

impl PortsWatch {
    fn new(to: SocketAddr, loaders_to: Option<SocketAddr>) -> Result<Self> {
        let range = Range::read().context("reading ip_local_port_range")?;
        let (usable, knee) = (range.usable(), range.first_pass());
        Ok(Self {
            to,
            loaders_to,
            loaders_peak: None,
            range,
            barring: Vec::new(),
            sources: BTreeSet::new(),
            seen: UpstreamPorts { usable, knee, ..UpstreamPorts::default() },
            start_ns: u64::MAX,
            next_ns: u64::MAX,
        })
    }

    fn look(&mut self) -> Result<()> {
        let begun_ns = clock::monotonic_ns();
        if self.seen.samples == 0 {
            // Servers open their listeners before the load begins.
            self.barring = sockets::read(Transport::Tcp, None)?;
            self.barring.retain(Socket::is_bound_only);
        }
        let time_wait =
            |sockets: &[Socket]| sockets.iter().filter(|one| one.state == sockets::State::TIME_WAIT).count() as u64;
        if let Some(address) = self.loaders_to {
            let ports = sockets::read_to(Transport::Tcp, address)?.len() as u64;
            self.loaders_peak = self.loaders_peak.max(Some(ports));
        }
        let upstream = time_wait(&sockets::read(Transport::Tcp, Some(self.to.port()))?);
        self.seen.upstream_time_wait_peak = self.seen.upstream_time_wait_peak.max(upstream);
        let mut all = sockets::read_to(Transport::Tcp, self.to)?;
        let open = all.len() as u64 - time_wait(&all);
        all.extend_from_slice(&self.barring);
        let usage = Usage::of(&self.range, &all, Some(self.to));
        self.add(&usage, open, begun_ns);
        let cost_ns = clock::monotonic_ns() - begun_ns;
        self.next_ns = begun_ns + LOOK_NS.max(LOOK_SHARE * cost_ns);
        Ok(())
    }

    fn add(&mut self, usage: &Usage, open: u64, at_ns: u64) {
        let seen = &mut self.seen;
        seen.samples += 1;
        seen.usable = usage.fill.usable - usage.barred.min(usage.fill.usable);
        seen.open_peak = seen.open_peak.max(open);
        seen.time_wait_peak = seen.time_wait_peak.max(usage.time_wait());
        self.sources.extend(usage.groups.iter().map(|group| group.source));
        let Some(fullest) = usage.groups.first() else { return };
        seen.taken_peak = seen.taken_peak.max(fullest.connections);
        seen.past_knee |= fullest.fill.to_knee == 0;
        // In a range of odd size, the last port is out of reach now and then.
        let out_of_reach = self.range.usable() % 2;
        let by_source: HashMap<IpAddr, u64> =
            usage.groups.iter().map(|group| (group.source, group.fill.to_wall)).collect();
        let full = |source: &IpAddr| by_source.get(source).is_some_and(|free| *free <= out_of_reach);
        if seen.exhausted_after_s.is_none() && self.sources.iter().all(full) {
            seen.exhausted_after_s = Some(at_ns.saturating_sub(self.start_ns) as f64 / 1e9);
        }
    }

    fn finish(self) -> Option<UpstreamPorts> {
        let mut seen = self.seen;
        if seen.samples == 0 {
            return None;
        }
        seen.fill_peak = if seen.usable == 0 { 1.0 } else { seen.taken_peak as f64 / seen.usable as f64 };
        seen.capacity = seen.usable * self.sources.len() as u64;
        seen.sources = self.sources.iter().map(IpAddr::to_string).collect();
        Some(seen)
    }
}
