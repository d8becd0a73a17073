//! Which queue of a group a connection goes to.

use std::time::Duration;

use strum::{EnumString, IntoStaticStr, VariantNames};

use super::super::{
    keys::{self, WordOrList},
    settings::Settings,
};
use crate::record::Draws;

/// Which queue of a group a connection goes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Steering {
    /// The queue chosen by the kernel's hash of the 4-tuple, or the only queue.
    Hash,
    /// Queue (receiving processor mod queues), chosen by a classic BPF program.
    ReceivingCpu,
    /// The queue marked with the receiving processor (SO_INCOMING_CPU).
    IncomingCpu {
        /// The processors; queue k is marked with the k-th, starting over at the end. `None` for the allowed ones.
        cpus: Option<Vec<usize>>,
    },
    /// Each queue in turn (eBPF).
    RoundRobin,
    /// A random queue (eBPF).
    Random,
    /// The queue that the datagram's connection id names; without such an id, that of the hash (eBPF).
    ConnectionId,
    /// The queue whose workers have the fewest connections each, open or on the way (eBPF).
    Least,
    /// One of the queues left after excluding hung and overloaded workers (eBPF; Hermes, SIGCOMM 2025).
    Hermes {
        /// A queue all of whose workers' loops have been stuck for this long gets nothing.
        hang: Duration,
        /// A queue whose workers have more than (1 + θ) times the mean each gets nothing.
        theta: f64,
    },
}

/// The queues' processors if the scenario lists none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum IncomingPlaces {
    /// The allowed ones.
    Spread,
}

/// What follows from a steering.
pub(super) struct SteeringTraits {
    /// Whether it makes sense for connections.
    pub connections: bool,
    /// Whether it makes sense for datagrams.
    pub datagrams: bool,
    /// Whether it requires root.
    pub root: bool,
    /// Whether a BPF program chooses, which the kernel does not let sockets of MPTCP have.
    pub program: bool,
    /// What falls on a random queue each time, if chance decides. What a hash decides only now and then, among the queues that a rule
    /// has left or for want of a better one, is not chance alone.
    pub draws: Option<Draws>,
    /// The most queues it can distinguish, if fewer than a scenario may have workers.
    pub most_queues: Option<usize>,
}

impl Steering {
    pub(super) fn traits(&self) -> SteeringTraits {
        /// The program represents queues as bits of one word.
        const HERMES_QUEUES: usize = 64;
        let plain = SteeringTraits {
            connections: true,
            datagrams: true,
            root: false,
            program: false,
            draws: None,
            most_queues: None,
        };
        let steered = SteeringTraits { root: true, program: true, ..plain };
        match self {
            Self::Hash => SteeringTraits { draws: Some(Draws::Tuples), ..plain },
            Self::ReceivingCpu => SteeringTraits { program: true, ..plain },
            Self::IncomingCpu { .. } => plain,
            Self::RoundRobin => steered,
            Self::Random => SteeringTraits { draws: Some(Draws::Connections), ..steered },
            // The first datagram of a flow has no id of a worker's yet.
            Self::ConnectionId => SteeringTraits { connections: false, draws: Some(Draws::Tuples), ..steered },
            // Flows of datagrams don't end, so open ones cannot be counted.
            Self::Least => SteeringTraits { datagrams: false, ..steered },
            Self::Hermes { .. } => SteeringTraits { most_queues: Some(HERMES_QUEUES), ..steered },
        }
    }

    /// Processors that the scenario lists for queues.
    pub fn incoming_cpus(&self) -> &[usize] {
        match self {
            Self::IncomingCpu { cpus: Some(cpus) } => cpus,
            _ => &[],
        }
    }

    pub(super) fn incoming_cpu(settings: &Settings<'_>) -> Self {
        let cpus = match settings.get(keys::SERVER_INCOMING_CPU) {
            WordOrList::Word(IncomingPlaces::Spread) => None,
            WordOrList::List(cpus) => Some(cpus),
        };
        Self::IncomingCpu { cpus }
    }

    pub(super) fn hermes(settings: &Settings<'_>) -> Self {
        Self::Hermes { hang: settings.get(keys::SERVER_HERMES_HANG), theta: settings.get(keys::SERVER_HERMES_THETA) }
    }
}
