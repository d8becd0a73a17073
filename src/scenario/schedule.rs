//! When connections start and when a trial ends.

use std::time::Duration;

use strum::{EnumString, IntoStaticStr, VariantNames};

use super::{keys, replay, settings::Settings};
use crate::trace::Figures;

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
    /// None but the first: connections stay open, and send requests on a schedule.
    Kept {
        /// Connections, all loaders together.
        connections: usize,
        /// When each of them sends a request.
        asking: Asking,
        /// How a loader waits for the next request.
        pacer: Pacer,
    },
}

/// When a kept connection sends requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asking {
    /// Requests per second on each connection.
    pub rate: f64,
    /// How they are spread over time.
    pub spread: Spread,
}

/// How the requests of kept connections are spread over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// At equal intervals, over all connections as on each.
    Even,
    /// With exponentially distributed gaps on each connection.
    Random,
    /// On all connections at the same instants.
    Together,
}

/// The name of a mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum ModeName {
    /// [`Mode::Closed`].
    Closed,
    /// [`Mode::Open`].
    Open,
    /// [`Mode::Kept`].
    Kept,
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
    /// As in a trace, with what is known of it once it has been read.
    Trace(Figures),
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
    /// [`Arrivals::Trace`].
    Trace,
}

impl Arrivals {
    /// Mean starts per second.
    pub fn per_second(&self) -> f64 {
        match *self {
            Self::Constant { rate } | Self::Poisson { rate } => rate,
            Self::Burst { size, every } => size as f64 / every.as_secs_f64(),
            Self::Trace(figures) => figures.per_second,
        }
    }
}

impl Mode {
    /// Whether its starts are due at certain instants.
    pub fn has_schedule(&self) -> bool {
        !matches!(self, Self::Closed { .. })
    }

    /// Mean starts of connections per second, all loaders together, if a schedule decides.
    pub fn starts_per_second(&self) -> Option<f64> {
        match self {
            Self::Open { arrivals, .. } => Some(arrivals.per_second()),
            Self::Closed { .. } | Self::Kept { .. } => None,
        }
    }

    /// How a loader waits for what is due, if a schedule decides that.
    pub fn pacer(&self) -> Option<Pacer> {
        match self {
            Self::Open { pacer, .. } | Self::Kept { pacer, .. } => Some(*pacer),
            Self::Closed { .. } => None,
        }
    }

    /// Whether what is due comes many at once.
    pub fn bursts(&self) -> bool {
        match self {
            Self::Open { arrivals, .. } => matches!(arrivals, Arrivals::Burst { .. }),
            Self::Kept { asking, .. } => asking.spread == Spread::Together,
            Self::Closed { .. } => false,
        }
    }

    /// The connections at once that it is about, if their number is fixed.
    pub fn concurrency(&self) -> Option<usize> {
        match self {
            Self::Closed { concurrency: count } | Self::Kept { connections: count, .. } => Some(*count),
            Self::Open { .. } => None,
        }
    }

    pub(super) fn read(settings: &Settings<'_>) -> Self {
        match settings.get(keys::LOAD_MODE) {
            ModeName::Closed => return Self::Closed { concurrency: settings.get(keys::LOAD_CONCURRENCY) },
            ModeName::Open => {}
            ModeName::Kept => {
                let spread = match settings.get(keys::LOAD_ARRIVALS) {
                    ArrivalsName::Constant => Spread::Even,
                    ArrivalsName::Poisson => Spread::Random,
                    ArrivalsName::Burst => Spread::Together,
                    ArrivalsName::Trace => {
                        let problem = "\"trace\" says when connections start, and \"kept\" ones are opened once and send requests: set load.mode = \"open\"";
                        settings.conflict(keys::LOAD_ARRIVALS, &[keys::LOAD_MODE], problem);
                        Spread::Random
                    }
                };
                return Self::Kept {
                    connections: settings.get(keys::LOAD_CONCURRENCY),
                    asking: Asking { rate: settings.get(keys::LOAD_REQUEST_RATE), spread },
                    pacer: settings.get(keys::LOAD_PACER),
                };
            }
        }
        let arrivals = match settings.get(keys::LOAD_ARRIVALS) {
            ArrivalsName::Constant => Arrivals::Constant { rate: settings.get(keys::LOAD_RATE) },
            ArrivalsName::Poisson => Arrivals::Poisson { rate: settings.get(keys::LOAD_RATE) },
            ArrivalsName::Burst => Arrivals::Burst {
                size: settings.get(keys::LOAD_BURST_SIZE),
                every: settings.get(keys::LOAD_BURST_EVERY),
            },
            ArrivalsName::Trace => Arrivals::Trace(Figures::default()),
        };
        Self::Open { arrivals, pacer: settings.get(keys::LOAD_PACER) }
    }
}

/// When a trial's load is measured. All its populations share one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Load before the window.
    pub warmup: Duration,
    /// What ends the window.
    pub bound: Bound,
    /// Whether traces end it. How long they take is known once they have been read; until then, no time is measured.
    pub until_traces_end: bool,
}

impl Span {
    pub(super) fn read(settings: &Settings<'_>) -> Self {
        let warmup = settings.get(keys::LOAD_WARMUP);
        if replay::ends_load(settings) {
            return Self { warmup, bound: Bound::Duration(Duration::ZERO), until_traces_end: true };
        }
        Self { bound: Bound::read(settings), warmup, until_traces_end: false }
    }

    /// The measured time as far as the scenario fixes it.
    pub fn measured(&self) -> Duration {
        match self.bound {
            Bound::Duration(span) => span,
            Bound::Connections(_) => Duration::ZERO,
        }
    }

    /// How long the load lasts, if the scenario fixes it.
    pub fn fixed(&self) -> Option<Duration> {
        let is_fixed = matches!(self.bound, Bound::Duration(_)) && !self.until_traces_end;
        is_fixed.then_some(self.warmup + self.measured())
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
