//! What listenbench's own server listens with: opened before its workers are forked, or prepared for an event that opens it.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};

use crate::{
    observe::{completions::Completions, listeners::Place},
    scenario::{AtOpenFiles, Crew, CrewMember, ListenerSet, Scenario, Strategy, Transport},
    server::{
        Intake, Site, SocketFile,
        accept::{Helper, Mechanism, Pooled, Program},
    },
    sys::limits,
};

/// A strategy's mechanism, with its listeners, for each transport.
type Set = Vec<(Transport, Mechanism)>;

/// All sets of listeners of a trial.
pub struct Listening {
    crew: Crew,
    /// The first is open, the others wait for their events.
    sets: Vec<Set>,
    /// Workers whose UDP sockets are connected to a peer that never sends.
    connected: Vec<usize>,
    /// The address that clients connect to.
    clients_to: SocketAddr,
    at_open_files: AtOpenFiles,
    file: Option<SocketFile>,
}

/// The listeners that events will open.
pub(super) struct Later {
    /// By number, those that are open left out.
    sets: Vec<Option<Set>>,
    /// The programs that choose listeners.
    programs: Vec<(Transport, Program)>,
    connected: Vec<usize>,
}

impl Listening {
    /// Opens what a scenario's server listens on, and prepares what it listens on later.
    pub fn open(scenario: &Scenario) -> Result<Self> {
        // This process has those of all workers until each has taken its own.
        limits::raise_open_files().context("raising the limit of open files")?;
        let crew = scenario.crew();
        let connected = scenario.server.connected.clone();
        let server = &scenario.server;
        let site = |set: &ListenerSet, transport| Site {
            workers: set.workers,
            joinable: scenario.reopens(),
            ..Site::of(scenario, transport)
        };
        let mut sets: Vec<Set> = Vec::new();
        for (number, set) in crew.listeners.iter().enumerate() {
            let mechanisms = scenario.protocol.transports().enumerate().map(|(place, transport)| {
                let site = site(set, transport);
                let mechanism = match sets.first() {
                    None => Mechanism::open(&server.strategy, site)?,
                    Some(first) => {
                        let strategy = Strategy { queues: set.queues(server), ..server.strategy.clone() };
                        let opened = sets.iter().map(|set| set[place].1.listeners().queues()).sum();
                        Mechanism::prepare(&strategy, site, &first[place].1, opened)?
                    }
                };
                if number == 0 {
                    connect(&mechanism, transport, &connected)?;
                }
                Ok((transport, mechanism))
            });
            let mechanisms = mechanisms.collect::<Result<_>>()?;
            sets.push(mechanisms);
        }
        let file = SocketFile::of(scenario.unix.as_ref());
        Ok(Self { crew, sets, connected, clients_to: scenario.address, at_open_files: server.at_open_files, file })
    }

    /// The workers that use it.
    pub(super) fn crew(&self) -> &Crew {
        &self.crew
    }

    /// The server's Unix socket, if it has made a file: whoever takes it removes that.
    pub(super) fn take_file(&mut self) -> Option<SocketFile> {
        self.file.take()
    }

    /// The inodes of each worker's listeners, first the one that gets what clients send; empty if the scenario does not use the transport.
    pub(super) fn inodes(&self, transport: Transport) -> Result<Vec<Vec<u32>>> {
        let places = self.places()?;
        let fits = places.iter().enumerate().filter_map(|(number, place)| Some((place.fit(self.clients_to)?, number)));
        let first = fits.min().map_or(0, |(_, number)| number);
        let of_member = |member: &CrewMember| {
            let (_, mechanism) = self.sets[member.listeners].iter().find(|(of, _)| *of == transport)?;
            let inodes = mechanism.listeners().inodes_of(member.place).context("fstat of a listener");
            Some(inodes.map(|mut inodes| {
                inodes.swap(0, first);
                inodes
            }))
        };
        self.crew.workers.iter().filter_map(of_member).collect()
    }

    /// What the listeners are bound to.
    pub(super) fn places(&self) -> Result<Vec<Place>> {
        let any = self.sets.iter().flatten().map(|(_, mechanism)| mechanism.listeners()).next();
        any.map_or_else(|| Ok(Vec::new()), |listeners| listeners.places().context("getsockopt of a listener"))
    }

    /// Takes a worker's part, in that worker's process, and closes the rest there.
    pub(super) fn intake(&mut self, worker: usize, completions: Option<&Arc<Completions>>) -> Result<Intake> {
        let member = self.crew.workers[worker];
        let set = self.sets.swap_remove(member.listeners);
        self.sets.clear();
        let mut intake = Intake::default();
        for (transport, mechanism) in set {
            match transport {
                Transport::Tcp => {
                    let acceptor = mechanism.acceptor(worker, member.place, self.at_open_files, completions)?;
                    intake.acceptor = Some(acceptor);
                }
                Transport::Udp => {
                    let socket = mechanism.socket_number(member.place) as u16;
                    intake.receiver = Some((mechanism.receiver(member.place)?, socket));
                }
            }
        }
        Ok(intake)
    }

    /// The name of the strategy's helper process, if it needs one.
    pub(super) fn helper(&self) -> Option<&'static str> {
        self.sets[0].iter().find_map(|(_, mechanism)| mechanism.helper())
    }

    /// Whether the workers are threads of one process.
    pub(super) fn is_pool(&self) -> bool {
        self.sets[0].iter().any(|(_, mechanism)| mechanism.is_pool())
    }

    /// Takes what accepts for them, and what each of them takes connections from, in their process.
    pub(super) fn take_pool(&mut self) -> Option<(Box<dyn Helper>, Vec<Pooled>)> {
        let at_open_files = self.at_open_files;
        self.sets.drain(..).next()?.into_iter().find_map(|(_, mechanism)| mechanism.into_pool(at_open_files))
    }

    /// Takes the helper's part, in the helper's process.
    pub(super) fn take_helper(&mut self) -> Option<Box<dyn Helper>> {
        let at_open_files = self.at_open_files;
        self.sets.drain(..).next()?.into_iter().find_map(|(_, mechanism)| mechanism.into_helper(at_open_files))
    }

    /// Closes this process's copies of what is open, so that a worker's listener ends with the worker, and keeps what is not open yet.
    pub(super) fn into_later(self) -> Later {
        let Self { sets, connected, .. } = self;
        let mut sets = sets.into_iter();
        let first = sets.next().unwrap_or_default();
        // Without others, nothing is to be turned to them.
        let keeps = sets.len() > 0;
        let programs =
            first.into_iter().filter_map(|(transport, mechanism)| Some((transport, mechanism.into_program()?)));
        let programs = programs.filter(|_| keeps).collect();
        Later { sets: std::iter::once(None).chain(sets.map(Some)).collect(), programs, connected }
    }
}

impl Later {
    /// Makes programs send no more to a set of listeners that is open, by whatever its clients call it.
    pub(super) fn retire(&mut self, number: usize) -> Result<()> {
        self.programs.iter_mut().try_for_each(|(_, program)| program.forget(number))
    }

    /// Opens a set of listeners, and leaves it to its workers.
    pub(super) fn open(&mut self, number: usize) -> Result<()> {
        let Some(set) = self.sets[number].take() else { return Ok(()) };
        for (transport, mechanism) in &set {
            let program = self.programs.iter_mut().find(|(of, _)| of == transport).map(|(_, program)| program);
            mechanism.listen(program)?;
            connect(mechanism, *transport, &self.connected)?;
        }
        Ok(())
    }
}

/// Connects the UDP sockets that the scenario says to.
fn connect(mechanism: &Mechanism, transport: Transport, connected: &[usize]) -> Result<()> {
    if transport == Transport::Tcp {
        return Ok(());
    }
    mechanism.listeners().connect(connected).context("connecting a socket of `server.connected`")
}
