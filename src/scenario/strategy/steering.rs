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
    /// The one that the kernel's hash of the 4-tuple picks. With a single queue there is nothing to pick.
    Hash,
    /// Queue (receiving processor mod queues), by a classic BPF program.
    ReceivingCpu,
    /// A queue marked with the receiving processor (SO_INCOMING_CPU).
    IncomingCpu {
        /// The processors; queue k is marked with the k-th, counted round. `None` for those that may be used.
        cpus: Option<Vec<usize>>,
    },
    /// One after the other (eBPF).
    RoundRobin,
    /// Any (eBPF).
    Random,
    /// The one of the worker with the fewest connections, open or on their way (eBPF).
    Least,
    /// One of those left when hung and overloaded workers are sieved out (eBPF; Hermes, SIGCOMM 2025).
    Hermes {
        /// A worker whose loop has not come round for this long gets nothing.
        hang: Duration,
        /// A worker with more than (1 + θ) times the mean gets nothing.
        theta: f64,
    },
}

/// The queues' processors where a scenario names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum IncomingPlaces {
    /// Those that may be used.
    Spread,
}

/// What follows from a steering.
pub(super) struct SteeringTraits {
    /// Whether it makes sense for datagrams.
    pub datagrams: bool,
    /// Whether only root may use it.
    pub root: bool,
    /// Whether it goes by what each worker has to do, and so by worker rather than by queue.
    pub by_worker: bool,
    /// The most workers it can tell apart, if fewer than a scenario may have.
    pub most_workers: Option<usize>,
}

impl Steering {
    pub(super) fn traits(&self) -> SteeringTraits {
        /// The program keeps its workers in the bits of one word.
        const HERMES_WORKERS: usize = 64;
        let plain = SteeringTraits { datagrams: true, root: false, by_worker: false, most_workers: None };
        match self {
            Self::Hash | Self::ReceivingCpu | Self::IncomingCpu { .. } => plain,
            Self::RoundRobin | Self::Random => SteeringTraits { root: true, ..plain },
            // Flows of datagrams do not end, so there is no count of open ones.
            Self::Least => SteeringTraits { datagrams: false, root: true, by_worker: true, ..plain },
            Self::Hermes { .. } => {
                SteeringTraits { root: true, by_worker: true, most_workers: Some(HERMES_WORKERS), ..plain }
            }
        }
    }

    /// Processors that the scenario names for queues.
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
