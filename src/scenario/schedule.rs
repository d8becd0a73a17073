//! When connections start and when a trial ends.

use std::time::Duration;

use strum::{EnumString, IntoStaticStr, VariantNames};

use super::{keys, settings::Settings};

/// What starts a connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// The end of another connection.
    Closed {
        /// Simultaneous connections, all loaders together.
        concurrency: usize,
    },
    /// A schedule.
    Open {
        /// How starts are spread over time.
        arrivals: Arrivals,
        /// How a loader waits for the next start.
        pacer: Pacer,
    },
}

/// The name of a mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum ModeName {
    /// [`Mode::Closed`].
    Closed,
    /// [`Mode::Open`].
    Open,
}

/// How a loader waits for the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum Pacer {
    /// A timer wakes it.
    Sleep,
    /// It sleeps until shortly before, then polls the clock and its connections.
    Spin,
}

/// An open loop's schedule, all loaders together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arrivals {
    /// At equal intervals.
    Constant {
        /// Starts per second.
        rate: f64,
    },
    /// With exponentially distributed gaps.
    Poisson {
        /// Mean starts per second.
        rate: f64,
    },
    /// Many at once, then none.
    Burst {
        /// Starts at one instant.
        size: u64,
        /// Time between the instants.
        every: Duration,
    },
}

/// The name of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum ArrivalsName {
    /// [`Arrivals::Constant`].
    Constant,
    /// [`Arrivals::Poisson`].
    Poisson,
    /// [`Arrivals::Burst`].
    Burst,
}

impl Arrivals {
    /// Mean starts per second.
    pub fn per_second(&self) -> f64 {
        match *self {
            Self::Constant { rate } | Self::Poisson { rate } => rate,
            Self::Burst { size, every } => size as f64 / every.as_secs_f64(),
        }
    }
}

impl Mode {
    pub(super) fn read(settings: &Settings<'_>) -> Self {
        if settings.get(keys::LOAD_MODE) == ModeName::Closed {
            return Self::Closed { concurrency: settings.get(keys::LOAD_CONCURRENCY) };
        }
        let arrivals = match settings.get(keys::LOAD_ARRIVALS) {
            ArrivalsName::Constant => Arrivals::Constant { rate: settings.get(keys::LOAD_RATE) },
            ArrivalsName::Poisson => Arrivals::Poisson { rate: settings.get(keys::LOAD_RATE) },
            ArrivalsName::Burst => Arrivals::Burst {
                size: settings.get(keys::LOAD_BURST_SIZE),
                every: settings.get(keys::LOAD_BURST_EVERY),
            },
        };
        Self::Open { arrivals, pacer: settings.get(keys::LOAD_PACER) }
    }
}

/// What ends a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// This many measured connections.
    Connections(u64),
    /// The end of the measured span.
    Duration(Duration),
}

impl Bound {
    pub(super) fn read(settings: &Settings<'_>) -> Self {
        let Some(connections) = settings.get(keys::LOAD_CONNECTIONS) else {
            return Self::Duration(settings.get(keys::LOAD_DURATION));
        };
        if settings.is_set(keys::LOAD_DURATION) {
            // Marks the key as used, so that it isn't also reported as having no effect.
            settings.get(keys::LOAD_DURATION);
            let problem = "excludes `load.duration`: keep one of the two";
            settings.conflict(keys::LOAD_CONNECTIONS, &[keys::LOAD_DURATION], problem);
        }
        Self::Connections(connections)
    }
}
