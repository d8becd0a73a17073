//! Through which connections and datagrams come in: a server's strategies and listeners, opened before its workers are forked.

use anyhow::{Context, Result};

use crate::{
    scenario::{Scenario, Transport},
    server::{
        Intake, Site,
        accept::{Helper, Mechanism},
    },
};

/// The doors of a server, one for each transport.
pub struct Doors {
    doors: Vec<Door>,
}

struct Door {
    transport: Transport,
    mechanism: Mechanism,
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
        door.mechanism.listeners().inodes().context("fstat of the listeners")
    }

    /// What a worker takes, in that worker's process: the rest is closed there.
    pub(super) fn intake(&mut self, worker: usize) -> Result<Intake> {
        let mut intake = Intake::default();
        for door in self.doors.drain(..) {
            match door.transport {
                Transport::Tcp => intake.acceptor = Some(door.mechanism.acceptor(worker)?),
                Transport::Udp => intake.receiver = Some(door.mechanism.receiver(worker)?),
            }
        }
        Ok(intake)
    }

    /// The name of the process that a strategy needs besides the workers.
    pub(super) fn helper(&self) -> Option<&'static str> {
        self.doors.iter().find_map(|door| door.mechanism.helper())
    }

    /// What that process does, in that process.
    pub(super) fn take_helper(&mut self) -> Option<Box<dyn Helper>> {
        self.doors.drain(..).find_map(|door| door.mechanism.into_helper())
    }
}

impl Door {
    fn open(scenario: &Scenario, transport: Transport) -> Result<Self> {
        let server = &scenario.server;
        let mechanism = Mechanism::open(&server.strategy, Site::of(server, scenario.address, transport))?;
        if transport == Transport::Udp {
            mechanism.listeners().connect(&server.connected).context("connecting a socket of `server.connected`")?;
        }
        Ok(Self { transport, mechanism })
    }
}
