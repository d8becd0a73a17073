//! Times that differ from one to the next: how long a client thinks, and how long it keeps a connection.

use std::time::Duration;

use strum::{EnumString, IntoStaticStr, VariantNames};

use super::{
    keys::{self, Key, Optional},
    settings::Settings,
};

/// Positive times with a mean, however they are distributed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Times {
    /// Their mean; not zero.
    pub mean: Duration,
    /// How they are distributed.
    pub distribution: Distribution,
}

/// How times are distributed around their mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Distribution {
    /// All are the mean.
    Fixed,
    /// Exponentially.
    Exponential,
    /// Their logarithm is normally distributed, with this standard deviation.
    Lognormal {
        /// More than 0.
        sigma: f64,
    },
    /// By a power law (Pareto, type I): the share of those longer than t falls as t^−alpha.
    Pareto {
        /// Above 1, so that the mean is finite.
        alpha: f64,
    },
}

/// The name of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum DistributionName {
    /// [`Distribution::Fixed`].
    Fixed,
    /// [`Distribution::Exponential`].
    Exponential,
    /// [`Distribution::Lognormal`].
    Lognormal,
    /// [`Distribution::Pareto`].
    Pareto,
}

/// The most extreme shapes. Of a thousand times, those that come up less than once on average make up a share of the mean that is
/// P(Z > 3.09 − σ) = 28 % of lognormal times with σ = 2.5, and 1,000^(1/α − 1) = 32 % of Pareto times with α = 1.2; beyond, a trial seldom has
/// the mean that was asked for.
const LARGEST_SIGMA: f64 = 2.5;
const LEAST_ALPHA: f64 = 1.2;

/// Why others are refused.
const MISSES_MEAN: &str = "most of the mean would be in times so long that a trial seldom has one";

/// The keys of one kind of times: mean, distribution and shape.
type Keys =
    (&'static Key<Optional<keys::Span>>, &'static Key<keys::Choice<DistributionName>>, &'static Key<keys::Number>);

const THINK: Keys = (keys::LOAD_THINK_TIME, keys::LOAD_THINK_DISTRIBUTION, keys::LOAD_THINK_SHAPE);
const LIFETIME: Keys = (keys::LOAD_LIFETIME, keys::LOAD_LIFETIME_DISTRIBUTION, keys::LOAD_LIFETIME_SHAPE);

impl Times {
    /// How long clients think, if they do.
    pub(super) fn of_thinking(settings: &Settings<'_>) -> Option<Self> {
        Self::read(settings, THINK)
    }

    /// How long connections are kept, if not until the load's end.
    pub(super) fn of_lives(settings: &Settings<'_>) -> Option<Self> {
        Self::read(settings, LIFETIME)
    }

    fn read(settings: &Settings<'_>, (mean, distribution, shape): Keys) -> Option<Self> {
        let mean = settings.get(mean)?;
        let distribution = match settings.get(distribution) {
            DistributionName::Fixed => Distribution::Fixed,
            DistributionName::Exponential => Distribution::Exponential,
            DistributionName::Lognormal => {
                let sigma = settings.get(shape);
                if sigma > LARGEST_SIGMA {
                    let problem =
                        format!("must be at most {LARGEST_SIGMA} for \"lognormal\", not {sigma}: {MISSES_MEAN}");
                    settings.conflict(shape, &[distribution], problem);
                }
                Distribution::Lognormal { sigma }
            }
            DistributionName::Pareto => {
                let alpha = settings.get(shape);
                if alpha < LEAST_ALPHA {
                    let problem = format!("must be at least {LEAST_ALPHA} for \"pareto\", not {alpha}: {MISSES_MEAN}");
                    settings.conflict(shape, &[distribution], problem);
                }
                Distribution::Pareto { alpha }
            }
        };
        Some(Self { mean, distribution })
    }
}
