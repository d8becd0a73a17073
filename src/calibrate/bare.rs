//! The bare loop: the machine's own ceiling. Forked processes make a scenario's exchange with blocking system calls and
//! nothing else.
//!
//! There is no event loop, no clock and no check of replies. One side accepts, reads, writes and closes; the other
//! connects, writes, reads and closes. Sizes, order, socket options and the way of closing follow the scenario. The
//! listeners form an SO_REUSEPORT group, and the kernel chooses the ports. Each client counts in a word of shared
//! memory, as loaders do.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::SocketAddr,
    os::fd::OwnedFd,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    context::Role,
    ipc::{
        control::{Control, LoaderCount, Phase, Window},
        family::{self, Family, Patience},
        proxy_header::Template,
        receipt::{Told, Tuple},
    },
    load,
    observe::counters::{self, CounterReader},
    record::BareProcesses,
    scenario::{Cell, CloseBy, CloseHow, ListenOptions, Load, Queues, Scenario, Transport},
    server::{
        Listeners, Site,
        app::{Application, Caller},
    },
    sys::clock,
    trial::{Networks, SETUP_PATIENCE, set_sysctls, wait_until_ready},
};

/// How long processes may take to finish what they have started.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// A client's pause when there is no port left.
const NO_PORT_PAUSE: Duration = Duration::from_millis(10);

/// The result of one run of the bare loop.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Score {
    pub connections_per_s: f64,
    pub connections: u64,
    pub active_opens: u64,
    pub cpu_ns_per_connection: f64,
}

/// Runs the bare loop in the calling process, which must be single-threaded and forked for this: it enters new network
/// namespaces.
pub(super) fn run(cell: &Cell, processes: BareProcesses, warmup: Duration, span: Duration) -> Result<Score> {
    let scenario = &cell.scenario;
    let networks = Networks::enter(scenario, false, Role::default())?;
    networks.in_each(|| set_sysctls(cell))?;
    let mut counters = CounterReader::default();
    networks.for_loaders(|| counters.add_namespace().context("opening /proc/self/net"))?;
    let before = counters.read().context("reading /proc/self/net")?;

    let exchange = Exchange::of(scenario)?;
    let control = Control::new(0, processes.clients, 0).context("mapping shared memory")?;
    // Clients first, so that they don't inherit descriptors opened later.
    let mut clients = Family::default();
    networks.for_loaders(|| {
        (0..processes.clients).try_for_each(|number| {
            clients.fork(&format!("lb:bareclient{number}"), format!("client {number} of the bare loop"), |_| {
                Ok(exchange.ask_all(&control, number)?)
            })
        })
    })?;
    let mut servers = servers(scenario, &exchange, processes.servers)?;

    wait_until_ready(&control, processes.clients, Patience::of(SETUP_PATIENCE), || {
        clients.check_running().and_then(|()| servers.check_running())
    })?;
    networks.confine(scenario, false, Role::default())?;
    let start_ns = clock::monotonic_ns();
    control.open(Window { start_ns, measure_from_ns: start_ns, measure_to_ns: u64::MAX, deadline_ns: u64::MAX });
    let made = || control.loader_total(LoaderCount::Completed);
    std::thread::sleep(warmup);
    let (from_ns, from) = (clock::monotonic_ns(), made());
    std::thread::sleep(span);
    let (to_ns, to) = (clock::monotonic_ns(), made());
    control.set_phase(Phase::Stop);
    family::wait_until(Patience::of(END_PATIENCE), || clients.drain(Duration::ZERO), || servers.check_running())
        .context("the bare loop's clients are still waiting for replies")?;
    servers.kill();
    let mut cpu_ns = 0;
    for client in clients.finish(Patience::of(END_PATIENCE)) {
        cpu_ns += client.cpu.user_ns + client.cpu.system_ns;
        client.into_report()?;
    }
    let servers = servers.finish(Patience::of(END_PATIENCE));
    cpu_ns += servers.iter().map(|server| server.cpu.user_ns + server.cpu.system_ns).sum::<u64>();
    let connections = made();
    if connections == 0 {
        bail!("the bare loop completed no connection within {:?}", warmup + span);
    }
    let after = counters.read().context("reading /proc/self/net")?;
    let active_opens = counters::difference(&before, &after).get("ActiveOpens").copied().unwrap_or(0);
    Ok(Score {
        connections_per_s: (to - from) as f64 / ((to_ns - from_ns) as f64 / 1e9),
        connections,
        active_opens,
        cpu_ns_per_connection: cpu_ns as f64 / connections as f64,
    })
}

/// Forks the servers, each with its own listener where the clients connect to, whatever else the scenario's is bound to.
fn servers(scenario: &Scenario, exchange: &Exchange, count: usize) -> Result<Family<()>> {
    let site = Site { options: scenario.server.listen, ..Site::at(scenario.address, Transport::Tcp, count) };
    let mut listeners = Some(Listeners::open(site, Queues::PerWorker)?);
    let mut servers = Family::default();
    for number in 0..count {
        servers.fork(&format!("lb:bareserver{number}"), format!("server {number} of the bare loop"), |_| {
            let own = listeners.take().context("the listeners have been taken")?;
            Ok(exchange.serve_all(&own.take(number).sockets()[0])?)
        })?;
    }
    Ok(servers)
}

struct Exchange {
    address: SocketAddr,
    request: Vec<u8>,
    /// What a connection begins with: its first request, after a header if there is one.
    first: Vec<u8>,
    reply: Vec<u8>,
    requests: u64,
    nodelay: bool,
    multipath: bool,
    close_by: CloseBy,
    close_how: CloseHow,
}

impl Exchange {
    /// Exchanges the same bytes as the harness's own client and app.
    fn of(scenario: &Scenario) -> Result<Self> {
        let load = &scenario.loads[0];
        let request = load::first_request(scenario, load, &scenario.address.to_string());
        let tuple = Tuple { client: scenario.address, server: scenario.address };
        let caller = Caller { worker: 0, accept_ns: 0, tuple, told: Told::Nothing, id: None };
        let mut app = Application::new(scenario, 0, None, 0, 0);
        let reply = if request.is_empty() {
            // App `close`: the close is the reply.
            Vec::new()
        } else {
            app.answer(&request, &caller).context("the app did not answer its own client's request")?.to_vec()
        };
        let Load { requests, close_by, close_how, proxy_protocol, .. } = *load;
        let mut first = Vec::new();
        if let Some(version) = proxy_protocol {
            // As long as those that name a client's port.
            Template::new(version, scenario.address.ip(), scenario.address).write(u16::MAX, &mut first);
        }
        first.extend_from_slice(&request);
        let ListenOptions { nodelay, multipath, .. } = scenario.server.listen;
        Ok(Self {
            address: scenario.address,
            request,
            first,
            reply,
            requests: requests.into(),
            nodelay,
            multipath,
            close_by,
            close_how,
        })
    }

    /// Runs a client: repeats the exchange until the phase changes.
    fn ask_all(&self, control: &Control, number: usize) -> io::Result<()> {
        let mut scratch = vec![0; self.reply.len()];
        control.wait_for_start();
        while control.phase() == Phase::Running {
            match self.ask(&mut scratch) {
                Ok(()) => control.add_loader(number, LoaderCount::Completed, 1),
                Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => std::thread::sleep(NO_PORT_PAUSE),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn ask(&self, scratch: &mut [u8]) -> io::Result<()> {
        let protocol = self.multipath.then_some(Protocol::MPTCP);
        let mut socket = Socket::new(Domain::for_address(self.address), Type::STREAM.cloexec(), protocol)?;
        if self.nodelay {
            socket.set_tcp_nodelay(true)?;
        }
        socket.connect(&self.address.into())?;
        if self.requests == 0 {
            socket.write_all(&self.first)?;
        }
        for number in 0..self.requests {
            socket.write_all(self.asked(number))?;
            socket.read_exact(scratch)?;
        }
        match self.close_by {
            CloseBy::Client => close(socket, self.close_how),
            CloseBy::Server => read_end(&mut socket),
        }
    }

    /// Runs a server: serves one connection after another until it is killed.
    fn serve_all(&self, listener: &Socket) -> io::Result<()> {
        listener.set_nonblocking(false)?;
        let mut scratch = vec![0; self.first.len()];
        loop {
            let (socket, _) = listener.accept()?;
            self.serve(socket, &mut scratch)?;
        }
    }

    /// The bytes of a connection's request of this number.
    fn asked(&self, number: u64) -> &[u8] {
        if number == 0 { &self.first } else { &self.request }
    }

    fn serve(&self, mut socket: Socket, scratch: &mut [u8]) -> io::Result<()> {
        if self.nodelay {
            socket.set_tcp_nodelay(true)?;
        }
        if self.requests == 0 {
            socket.read_exact(scratch)?;
        }
        for number in 0..self.requests {
            socket.read_exact(&mut scratch[..self.asked(number).len()])?;
            socket.write_all(&self.reply)?;
        }
        match self.close_by {
            CloseBy::Client => read_end(&mut socket),
            CloseBy::Server => close(socket, self.close_how),
        }
    }
}

/// Closes a connection that the other side has not closed yet.
fn close(socket: Socket, how: CloseHow) -> io::Result<()> {
    if how == CloseHow::Rst {
        socket.set_linger(Some(Duration::ZERO))?;
    }
    drop(OwnedFd::from(socket));
    Ok(())
}

/// Waits for the other side's close.
fn read_end(socket: &mut Socket) -> io::Result<()> {
    loop {
        match socket.read(&mut [0; 64]) {
            Ok(0) => return Ok(()),
            Ok(_) => return Err(io::Error::new(ErrorKind::InvalidData, "received more bytes than expected")),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
