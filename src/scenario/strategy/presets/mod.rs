//! The named strategies: one file and one line each.

use super::{Balance, Queues, Steering, Strategy, Trigger, Wake};
use crate::scenario::{
    file::File,
    settings::{Log, Settings},
};

/// Declares the file of each preset, and lists them. rustfmt does not follow modules declared by a macro; `.ci/run` checks
/// these files by name.
macro_rules! presets {
    ($($file:ident)*) => {
        $(mod $file;)*

        /// All named strategies, in the order of the documentation.
        pub const PRESETS: &[&Preset] = &[$(&$file::PRESET),*];
    };
}

presets! {
    shared_blocking
    shared_epoll
    shared_epoll_edge
    shared_epoll_exclusive
    shared_accept_mutex
    shared_uring
    shared_threads
    dispatcher
    reuseport
    reuseport_uring
    reuseport_cpu
    reuseport_incoming_cpu
    reuseport_round_robin
    reuseport_random
    reuseport_least
    reuseport_hermes
    reuseport_cid
}

/// The default strategy.
pub const DEFAULT: &Preset = &reuseport::PRESET;

type Axes = (Queues, Steering, Wake);

/// A strategy with a name.
#[derive(Debug)]
pub struct Preset {
    /// The name in scenarios and records.
    pub name: &'static str,
    /// How workers obtain connections, for the documentation.
    pub meaning: &'static str,
    /// Its value on each axis; parameters come from the scenario.
    axes: fn(&Settings<'_>) -> Axes,
}

impl Preset {
    pub(super) fn read(&self, settings: &Settings<'_>) -> Strategy {
        let (queues, steering, wake) = (self.axes)(settings);
        Strategy { name: self.name, queues, steering, wake, balance: Balance::Off }
    }

    /// The strategy with every parameter at its default.
    pub fn with_defaults(&self) -> Strategy {
        self.read(&Settings::new(&File::default(), Vec::new(), &Log::default()))
    }
}
