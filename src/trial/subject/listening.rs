//! What listenbench's own server listens with, opened before its workers are forked.

use anyhow::{Context, Result};

use crate::{
    scenario::{Scenario, Transport},
    server::{
        Intake, Site,
        accept::{Helper, Mechanism},
    },
};

/// A strategy's mechanism, with its listeners, for each transport.
pub struct Listening {
    mechanisms: Vec<(Transport, Mechanism)>,
}

impl Listening {
    /// Opens what a scenario's server listens on.
    pub fn open(scenario: &Scenario) -> Result<Self> {
        let mechanisms = scenario.protocol.transports().map(|transport| Ok((transport, open(scenario, transport)?)));
        Ok(Self { mechanisms: mechanisms.collect::<Result<_>>()? })
    }

    /// The inode of each worker's listener; empty if the scenario does not use the transport.
    pub(super) fn inodes(&self, transport: Transport) -> Result<Vec<u32>> {
        let mechanism = self.mechanisms.iter().find(|(of, _)| *of == transport);
        mechanism
            .map_or(Ok(Vec::new()), |(_, mechanism)| mechanism.listeners().inodes().context("fstat of the listeners"))
    }

    /// Takes a worker's part, in that worker's process, and closes the rest there.
    pub(super) fn intake(&mut self, worker: usize) -> Result<Intake> {
        let mut intake = Intake::default();
        for (transport, mechanism) in self.mechanisms.drain(..) {
            match transport {
                Transport::Tcp => intake.acceptor = Some(mechanism.acceptor(worker)?),
                Transport::Udp => intake.receiver = Some(mechanism.receiver(worker)?),
            }
        }
        Ok(intake)
    }

    /// The name of the strategy's helper process, if it needs one.
    pub(super) fn helper(&self) -> Option<&'static str> {
        self.mechanisms.iter().find_map(|(_, mechanism)| mechanism.helper())
    }

    /// Takes the helper's part, in the helper's process.
    pub(super) fn take_helper(&mut self) -> Option<Box<dyn Helper>> {
        self.mechanisms.drain(..).find_map(|(_, mechanism)| mechanism.into_helper())
    }
}

fn open(scenario: &Scenario, transport: Transport) -> Result<Mechanism> {
    let server = &scenario.server;
    let mechanism = Mechanism::open(&server.strategy, Site::of(server, scenario.address, transport))?;
    if transport == Transport::Udp {
        mechanism.listeners().connect(&server.connected).context("connecting a socket of `server.connected`")?;
    }
    Ok(mechanism)
}
