//! Through which connections and datagrams come in: a server's strategies and listeners, opened before its workers are forked.

use anyhow::{Context, Result};

use crate::{
    scenario::{Scenario, Transport},
    server::{
        Intake, Listener, Listeners, Site,
        accept::{self, Helper, Strategy},
    },
};

/// The doors of a server, one for each transport.
pub struct Doors {
    doors: Vec<Door>,
}

struct Door {
    transport: Transport,
    strategy: Box<dyn Strategy>,
    /// `None` in a child that has taken its own and closed the rest.
    listeners: Option<Listeners>,
}

impl Doors {
    /// Opens what a scenario's server listens on.
    pub fn open(scenario: &Scenario) -> Result<Self> {
        let doors = scenario.protocol.transports().map(|transport| Door::open(scenario, transport));
        Ok(Self { doors: doors.collect::<Result<_>>()? })
    }

    /// The inode of each worker's listener; none where the scenario has no such transport.
    pub(super) fn inodes(&self, transport: Transport) -> Result<Vec<u32>> {
        let Some(door) = self.doors.iter().find(|door| door.transport == transport) else { return Ok(Vec::new()) };
        let listeners = door.listeners.as_ref().context("the listeners have been taken")?;
        listeners.inodes().context("fstat of the listeners")
    }

    /// What a worker takes, in that worker's process.
    pub(super) fn intake(&mut self, worker: usize) -> Result<Intake> {
        let mut intake = Intake::default();
        for door in &mut self.doors {
            let listener = door.take(worker)?;
            match door.transport {
                Transport::Tcp => intake.acceptor = Some(door.strategy.acceptor(worker, listener)?),
                Transport::Udp => intake.receiver = Some(door.strategy.receiver(worker, listener)?),
            }
        }
        Ok(intake)
    }

    /// The name of the process that a strategy needs besides the workers.
    pub(super) fn helper(&self) -> Option<&'static str> {
        self.doors.iter().find_map(|door| door.strategy.helper())
    }

    /// What that process does, in that process.
    pub(super) fn take_helper(&mut self) -> Option<Box<dyn Helper>> {
        self.doors.iter_mut().find_map(|door| {
            let listener = door.take(0).ok()?;
            door.strategy.take_helper(listener)
        })
    }
}

impl Door {
    fn open(scenario: &Scenario, transport: Transport) -> Result<Self> {
        let server = &scenario.server;
        let mut strategy = accept::build(server.strategy.clone());
        let listeners = strategy.open(Site::of(server, scenario.address, transport))?;
        if transport == Transport::Udp {
            listeners.connect(&server.connected).context("connecting a socket of `server.connected`")?;
        }
        Ok(Self { transport, strategy, listeners: Some(listeners) })
    }

    /// One worker's listener, in that worker's process: the others are closed there.
    fn take(&mut self, worker: usize) -> Result<Listener> {
        Ok(self.listeners.take().context("the listeners have been taken")?.take(worker))
    }
}
