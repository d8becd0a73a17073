//! Stand-ins for the clock, the trial and the engine, for unit tests of sessions and driver.

use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
};

use anyhow::Result;

use super::{
    client,
    clock::Clock,
    dialler::Dialler,
    engine::{Close, Engine, Event, Kind, Opened, Taken},
    measures::{self, Measures},
    observer::Observer,
    session::{Ends, Policy, Shared},
    source::{self, Group},
};
use crate::{
    context::Waits,
    ipc::{
        control::{Account, Control, Loss},
        ledger::{Entry, Journey},
        receipt::{Receipt, Told, Tuple},
    },
    record::Step,
    scenario::{Plan, Scenario, Source, Transport},
};

pub const TARGET: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7_000);
/// The port of key 0; the others follow.
pub const FIRST_PORT: u16 = 40_000;
pub const REPLY_BYTES: usize = 64;

/// Parses a scenario.
pub fn scenario(text: &str) -> Scenario {
    Plan::read(&Source { name: "t", text }, &[]).unwrap().cells[0].scenario.clone()
}

/// The account of a scenario's only loader.
pub fn account(scenario: &Scenario) -> Account {
    let control = Control::new(scenario.all_workers(), 1, scenario.events.len()).unwrap();
    Arc::new(measures::make_room(control, scenario).unwrap()).account(0)
}

/// The shared state of a scenario's sessions, with everything recorded.
pub fn shared(scenario: &Scenario, observer: FakeObserver) -> Shared<FakeObserver> {
    let waits = Waits { exact: false, bound: true };
    let (groups, account) = (source::groups(&scenario.loads[0].sources, &[TARGET]), account(scenario));
    Shared::new(
        Policy::new(scenario, &scenario.loads[0]),
        Ends::new(TARGET, groups),
        client::build(scenario, &scenario.loads[0], &TARGET.to_string()),
        (account.clone(), Measures::new(scenario, waits, account, true)),
        observer,
        0,
    )
}

/// The number of values in a histogram, and the largest.
pub fn recorded(measures: &Measures, name: &str) -> (u64, u64) {
    let found = measures.named().find(|(found, _)| found == name);
    found.map_or((0, 0), |(_, histogram)| (histogram.len(), histogram.max()))
}

/// The address of a key's connection.
pub fn client_of(key: usize) -> SocketAddr {
    SocketAddr::new(TARGET.ip(), FIRST_PORT + key as u16)
}

/// The address of a key's flow once it goes on from another port.
pub fn rebound_of(key: usize) -> SocketAddr {
    SocketAddr::new(TARGET.ip(), FIRST_PORT + 1_000 + key as u16)
}

/// A worker's reply.
pub fn reply(worker: u16, nonce: u32, accept_ns: u64, client: SocketAddr) -> Vec<u8> {
    reply_told((worker, nonce, accept_ns), client, Told::Nothing)
}

/// The same of a worker that has read a PROXY protocol header, or not.
pub fn reply_told((worker, nonce, accept_ns): (u16, u32, u64), client: SocketAddr, told: Told) -> Vec<u8> {
    let mut bytes = vec![0; REPLY_BYTES];
    Receipt::new(worker, nonce, accept_ns, (&Tuple { client, server: TARGET }, told)).write(&mut bytes);
    bytes
}

/// A clock that stands still until it is set.
#[derive(Debug, Clone, Default)]
pub struct FakeClock(Rc<Cell<u64>>);

impl FakeClock {
    pub fn set(&self, now_ns: u64) {
        self.0.set(now_ns);
    }
}

impl Clock for FakeClock {
    fn now_ns(&self) -> u64 {
        self.0.get()
    }
}

/// A trial in which the test sets what the other processes have written.
#[derive(Debug, Clone, Default)]
pub struct FakeObserver(Rc<FakeTrial>);

#[derive(Debug, Default)]
pub struct FakeTrial {
    pub has_ledger: Cell<bool>,
    pub is_elsewhere: Cell<bool>,
    pub accept: Cell<Option<Entry>>,
    pub is_shed: Cell<bool>,
    pub journey: Cell<Option<Journey>>,
    pub stamp: Cell<Option<u64>>,
    pub reloads: Cell<u64>,
    pub event_over_ns: Cell<u64>,
    pub lost: RefCell<Vec<(Loss, u64, u64)>>,
    pub interrupted: Cell<bool>,
}

impl std::ops::Deref for FakeObserver {
    type Target = FakeTrial;

    fn deref(&self) -> &FakeTrial {
        &self.0
    }
}

impl Observer for FakeObserver {
    fn established(&self, _client: SocketAddr) {}

    fn given_up(&self, _client: SocketAddr) {}

    fn has_ledger(&self) -> bool {
        self.has_ledger.get()
    }

    fn is_beside(&self) -> bool {
        !self.is_elsewhere.get()
    }

    fn accept(&self, _client: SocketAddr, connect_ns: u64) -> Option<Entry> {
        self.accept.get().filter(|entry| entry.accept_ns >= connect_ns)
    }

    fn is_shed(&self, _client: SocketAddr, _connect_ns: u64) -> bool {
        self.is_shed.get()
    }

    fn flow_answered(&self, _client: SocketAddr, _worker: u16) {}

    fn journey(&self, _client: SocketAddr) -> Option<Journey> {
        self.journey.get()
    }

    fn reloads(&self) -> u64 {
        self.reloads.get()
    }

    fn stamp(&self, _client: SocketAddr) -> Option<u64> {
        self.stamp.get()
    }

    fn lost(&self, loss: Loss, connect_ns: u64, now_ns: u64) {
        self.lost.borrow_mut().push((loss, connect_ns, now_ns));
    }

    fn event_over_ns(&self, _event: usize) -> u64 {
        self.event_over_ns.get()
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.get()
    }
}

/// An engine without sockets, with a server that answers echo requests as the test specifies. Waiting advances the clock.
#[derive(Debug, Clone, Default)]
pub struct FakeEngine {
    pub world: Rc<RefCell<World>>,
    clock: FakeClock,
    received: Vec<u8>,
}

/// What the test sets and inspects.
#[derive(Debug, Default)]
pub struct World {
    /// Duration of every handshake; `None` if it completes at once.
    pub handshake_ns: Option<u64>,
    /// Duration of every reply; `None` if there is none.
    pub reply_ns: Option<u64>,
    /// Instead of replies: bytes without end on every connection, each as soon as the one before it has been read, which takes this long.
    pub flood_ns: Option<u64>,
    /// How long after connect(2) the server sends a byte that nobody asked for.
    pub unasked_ns: Option<u64>,
    /// How long it takes to create a socket.
    pub open_ns: u64,
    /// The errno of every connect.
    pub refuses: Option<i32>,
    /// SYNs of every connection that were sent again.
    pub syn_retries: u32,
    /// Whether connections are by MPTCP, if that is known.
    pub is_multipath: Option<bool>,
    /// Whether an abandoned handshake turns out to have completed.
    pub settles: bool,
    /// By key: whether there is a connection, and whether its handshake is over.
    pub keys: Vec<Option<bool>>,
    /// Replies to come, by time.
    pub pending: Vec<(u64, usize, Happening)>,
    pub sent: Vec<(u64, usize)>,
    pub closed: Vec<(usize, Close)>,
    /// Flows that went on from another port.
    pub rebound: Vec<usize>,
    pub transports: Vec<Transport>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Happening {
    Connected,
    Reply(Vec<u8>),
}

impl FakeEngine {
    pub fn new(clock: &FakeClock, world: World) -> Self {
        Self { world: Rc::new(RefCell::new(world)), clock: clock.clone(), received: Vec::new() }
    }
}

impl Engine for FakeEngine {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn open(&mut self, transport: Transport, _dialler: &Dialler) -> io::Result<Opened> {
        let world = &mut *self.world.borrow_mut();
        self.clock.set(self.clock.now_ns() + world.open_ns);
        world.transports.push(transport);
        let key = world.keys.iter().position(Option::is_none).unwrap_or(world.keys.len());
        if key == world.keys.len() {
            world.keys.push(None);
        }
        world.keys[key] = Some(transport == Transport::Udp);
        Ok(Opened { key, recycled: false })
    }

    fn connect(&mut self, key: usize, _dialler: &mut Dialler, _group: &Group) -> Result<SocketAddr, (Step, io::Error)> {
        let world = &mut *self.world.borrow_mut();
        if let Some(errno) = world.refuses {
            world.keys[key] = None;
            return Err((Step::Connect, io::Error::from_raw_os_error(errno)));
        }
        if let Some(handshake_ns) = world.handshake_ns {
            world.pending.push((self.clock.now_ns() + handshake_ns, key, Happening::Connected));
        } else {
            world.keys[key] = Some(true);
        }
        if let Some(unasked_ns) = world.unasked_ns {
            world.pending.push((self.clock.now_ns() + unasked_ns, key, Happening::Reply(vec![0])));
        }
        Ok(client_of(key))
    }

    fn send(&mut self, key: usize, bytes: &[u8]) -> io::Result<Taken> {
        let world = &mut *self.world.borrow_mut();
        let now_ns = self.clock.now_ns();
        world.sent.push((now_ns, key));
        let nonce = u32::from_le_bytes(bytes[..4].try_into().unwrap());
        if let Some(reply_ns) = world.reply_ns {
            let client = if world.rebound.contains(&key) { rebound_of(key) } else { client_of(key) };
            let bytes = reply(0, nonce, now_ns, client);
            world.pending.push((now_ns + world.handshake_ns.unwrap_or(0) + reply_ns, key, Happening::Reply(bytes)));
        }
        Ok(if world.keys[key] == Some(true) { Taken::All } else { Taken::Nothing })
    }

    fn rebind(&mut self, key: usize, _dialler: &mut Dialler, _group: &Group) -> Result<SocketAddr, (Step, io::Error)> {
        self.world.borrow_mut().rebound.push(key);
        Ok(rebound_of(key))
    }

    fn send_last(&mut self, _key: usize, _bytes: &[u8]) {}

    fn watch(&mut self, _key: usize) -> Result<()> {
        Ok(())
    }

    fn wait(&mut self, until_ns: Option<u64>) -> Result<()> {
        if let Some(until_ns) = until_ns {
            let next_ns = self.world.borrow().pending.iter().map(|(at_ns, ..)| *at_ns).min();
            self.clock.set(next_ns.unwrap_or(u64::MAX).clamp(self.clock.now_ns(), until_ns));
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Event<'_>>> {
        let world = &mut *self.world.borrow_mut();
        let now_ns = self.clock.now_ns();
        if let (Some(flood_ns), Some(key)) = (world.flood_ns, world.keys.iter().position(Option::is_some)) {
            self.clock.set(now_ns + flood_ns);
            return Ok(Some(Event { key, kind: Kind::Received(b""), now_ns }));
        }
        let first = (0..world.pending.len()).min_by_key(|place| world.pending[*place].0);
        let Some(place) = first.filter(|place| world.pending[*place].0 <= now_ns) else { return Ok(None) };
        let (_, key, happening) = world.pending.remove(place);
        let kind = match happening {
            Happening::Connected => {
                world.keys[key] = Some(true);
                Kind::Connected
            }
            Happening::Reply(bytes) => {
                self.received = bytes;
                Kind::Received(&self.received)
            }
        };
        Ok(Some(Event { key, kind, now_ns }))
    }

    fn settle(&mut self, _key: usize) -> bool {
        self.world.borrow().settles
    }

    fn has_connection(&self, _key: usize) -> bool {
        true
    }

    fn syn_retries(&self, _key: usize) -> u32 {
        self.world.borrow().syn_retries
    }

    fn is_multipath(&self, _key: usize) -> Option<bool> {
        self.world.borrow().is_multipath
    }

    fn close(&mut self, key: usize, how: Close) {
        let world = &mut *self.world.borrow_mut();
        world.keys[key] = None;
        world.pending.retain(|(_, pending, _)| *pending != key);
        world.closed.push((key, how));
    }
}
