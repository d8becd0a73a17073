//! When connections start and when a trial ends.

use std::time::Duration;

use strum::{EnumString, IntoStaticStr, VariantNames};

use super::{
    arrivals::{self, Mmpp, Ramp, Rates},
    keys, replay,
    settings::Settings,
    times::Times,
};
use crate::trace::Figures;

/// What starts a connection.
#[derive(Debug, Clone, PartialEq)]
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
    /// None but the first: connections stay open, or are replaced in time, and send requests.
    Kept {
        /// Connections, all loaders together.
        connections: usize,
        /// When each of them sends a request.
        asking: Asking,
        /// How long a connection is kept before another takes its place; `None` for until the load's end.
        lifetime: Option<Times>,
        /// How a loader waits for the next request.
        pacer: Pacer,
    },
}

/// When a kept connection sends requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Asking {
    /// On a schedule, whatever the server does.
    Scheduled {
        /// Requests per second on each connection.
        rate: f64,
        /// How they are spread over time.
        spread: Spread,
    },
    /// This long after the reply to its previous one.
    Thinking(Times),
}

impl Asking {
    /// The most requests per second on each connection, on average: those of a server that answers at once.
    pub fn per_second(&self) -> f64 {
        match self {
            Self::Scheduled { rate, .. } => *rate,
            Self::Thinking(times) => 1.0 / times.mean.as_secs_f64(),
        }
    }
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
#[derive(Debug, Clone, PartialEq)]
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
    /// With exponentially distributed gaps whose mean changes linearly.
    Ramp(Ramp),
    /// With exponentially distributed gaps and two alternating rates.
    Mmpp(Mmpp),
    /// With exponentially distributed gaps and rates from a table.
    Rates(Rates),
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
    /// [`Arrivals::Ramp`].
    Ramp,
    /// [`Arrivals::Mmpp`].
    Mmpp,
    /// [`Arrivals::Rates`].
    Rates,
    /// [`Arrivals::Trace`].
    Trace,
}

impl Arrivals {
    fn read(settings: &Settings<'_>, span: Span) -> Self {
        match settings.get(keys::LOAD_ARRIVALS) {
            ArrivalsName::Constant => Self::Constant { rate: settings.get(keys::LOAD_RATE) },
            ArrivalsName::Poisson => Self::Poisson { rate: settings.get(keys::LOAD_RATE) },
            ArrivalsName::Burst => {
                Self::Burst { size: settings.get(keys::LOAD_BURST_SIZE), every: settings.get(keys::LOAD_BURST_EVERY) }
            }
            ArrivalsName::Ramp => Self::Ramp(Ramp::read(settings, span)),
            ArrivalsName::Mmpp => Self::Mmpp(Mmpp::read(settings)),
            ArrivalsName::Rates => Self::Rates(Rates::read(settings, span)),
            ArrivalsName::Trace => Self::Trace(Figures::default()),
        }
    }

    /// Mean starts per second over the load's time.
    pub fn per_second(&self) -> f64 {
        match self {
            Self::Constant { rate } | Self::Poisson { rate } => *rate,
            Self::Burst { size, every } => *size as f64 / every.as_secs_f64(),
            Self::Ramp(ramp) => ramp.mean(),
            Self::Mmpp(mmpp) => mmpp.mean(),
            Self::Rates(rates) => rates.mean(),
            Self::Trace(figures) => figures.per_second,
        }
    }

    /// The highest of the rates at which it starts connections, per second; of bursts, their mean.
    pub fn peak_per_second(&self) -> f64 {
        match self {
            Self::Constant { .. } | Self::Poisson { .. } | Self::Burst { .. } => self.per_second(),
            Self::Ramp(ramp) => ramp.peak(),
            Self::Mmpp(mmpp) => mmpp.high,
            Self::Rates(rates) => rates.peak(),
            // A second may be cut in two by those that are counted, and a replay of less than a second has no more than all of its starts.
            Self::Trace(figures) => figures.per_second.min(figures.starts as f64).max(figures.most_in_a_second as f64),
        }
    }

    /// Whether its rate is the same at all times.
    pub fn is_steady(&self) -> bool {
        matches!(self, Self::Constant { .. } | Self::Poisson { .. })
    }

    /// Starts expected between two instants, counted from the population's start; of two rates that alternate at random, and of a trace, at the mean rate.
    pub fn expected_between(&self, from: Duration, to: Duration) -> f64 {
        let (from_s, to_s) = (from.as_secs_f64(), to.as_secs_f64());
        match self {
            Self::Constant { .. } | Self::Poisson { .. } | Self::Burst { .. } | Self::Mmpp(_) | Self::Trace(_) => {
                self.per_second() * to.saturating_sub(from).as_secs_f64()
            }
            Self::Ramp(ramp) => ramp.expected_by(to_s) - ramp.expected_by(from_s),
            Self::Rates(rates) => rates.expected_by(to_s) - rates.expected_by(from_s),
        }
    }

    /// When its rate changes, counted from the population's start, as far as that is known beforehand: the most starts in any time of
    /// some length come in one that begins or ends then, or at the load's end.
    pub fn changes(&self) -> Vec<Duration> {
        match self {
            Self::Constant { .. } | Self::Poisson { .. } | Self::Burst { .. } | Self::Mmpp(_) | Self::Trace(_) => {
                Vec::new()
            }
            Self::Ramp(ramp) => vec![Duration::ZERO, ramp.over],
            Self::Rates(rates) => rates.changes_s().map(Duration::from_secs_f64).collect(),
        }
    }

    /// The most starts that are expected in any time of this length; of two rates that alternate, all of it at the higher.
    pub fn most_within(&self, length: Duration) -> f64 {
        let between = |change: Duration| {
            let after = self.expected_between(change, change.saturating_add(length));
            after.max(self.expected_between(change.saturating_sub(length), change))
        };
        let of_changes = self.changes().into_iter().map(between).reduce(f64::max);
        of_changes.unwrap_or_else(|| self.peak_per_second() * length.as_secs_f64())
    }
}

impl Mode {
    /// Whether its starts are due at certain instants.
    pub fn has_schedule(&self) -> bool {
        match self {
            Self::Open { .. } => true,
            Self::Kept { asking, .. } => matches!(asking, Asking::Scheduled { .. }),
            Self::Closed { .. } => false,
        }
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

    /// Whether what is due comes at the same rate at all times, and not many at once.
    pub fn is_steady(&self) -> bool {
        match self {
            Self::Open { arrivals, .. } => arrivals.is_steady(),
            Self::Kept { asking, .. } => !matches!(asking, Asking::Scheduled { spread: Spread::Together, .. }),
            Self::Closed { .. } => true,
        }
    }

    /// The connections at once that it is about, if their number is fixed.
    pub fn concurrency(&self) -> Option<usize> {
        match self {
            Self::Closed { concurrency: count } | Self::Kept { connections: count, .. } => Some(*count),
            Self::Open { .. } => None,
        }
    }

    pub(super) fn read(settings: &Settings<'_>, span: Span) -> Self {
        let pacer = || settings.get(keys::LOAD_PACER);
        match settings.get(keys::LOAD_MODE) {
            ModeName::Closed => Self::Closed { concurrency: settings.get(keys::LOAD_CONCURRENCY) },
            ModeName::Open => Self::Open { arrivals: Arrivals::read(settings, span), pacer: pacer() },
            ModeName::Kept => Self::Kept {
                connections: settings.get(keys::LOAD_CONCURRENCY),
                asking: Asking::read(settings),
                lifetime: Times::of_lives(settings),
                pacer: pacer(),
            },
        }
    }
}

impl Asking {
    fn read(settings: &Settings<'_>) -> Self {
        if let Some(times) = Times::of_thinking(settings) {
            return Self::Thinking(times);
        }
        let spread = match settings.get(keys::LOAD_ARRIVALS) {
            ArrivalsName::Constant => Spread::Even,
            ArrivalsName::Poisson => Spread::Random,
            ArrivalsName::Burst => Spread::Together,
            other => {
                arrivals::refuse_kept(settings, other);
                Spread::Random
            }
        };
        Self::Scheduled { rate: settings.get(keys::LOAD_REQUEST_RATE), spread }
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
