//! Which queue of a group a connection goes to.

use std::time::Duration;

use strum::{EnumString, IntoStaticStr, VariantNames};

use super::super::{
    keys::{self, WordOrList},
    settings::Settings,
};

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
    /// The queue of the worker with the fewest connections, open or on the way (eBPF).
    Least,
    /// One of the queues left after excluding hung and overloaded workers (eBPF; Hermes, SIGCOMM 2025).
    Hermes {
        /// A worker whose loop has been stuck for this long gets nothing.
        hang: Duration,
        /// A worker with more than (1 + θ) times the mean gets nothing.
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
    /// Whether it makes sense for datagrams.
    pub datagrams: bool,
    /// Whether it requires root.
    pub root: bool,
    /// Whether it depends on each worker's load, and therefore steers by worker rather than by queue.
    pub by_worker: bool,
    /// The most workers it can distinguish, if fewer than a scenario may have.
    pub most_workers: Option<usize>,
}

impl Steering {
    pub(super) fn traits(&self) -> SteeringTraits {
        /// The program represents workers as bits of one word.
        const HERMES_WORKERS: usize = 64;
        let plain = SteeringTraits { datagrams: true, root: false, by_worker: false, most_workers: None };
        match self {
            Self::Hash | Self::ReceivingCpu | Self::IncomingCpu { .. } => plain,
            Self::RoundRobin | Self::Random => SteeringTraits { root: true, ..plain },
            // Flows of datagrams don't end, so open ones cannot be counted.
            Self::Least => SteeringTraits { datagrams: false, root: true, by_worker: true, ..plain },
            Self::Hermes { .. } => {
                SteeringTraits { root: true, by_worker: true, most_workers: Some(HERMES_WORKERS), ..plain }
            }
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
