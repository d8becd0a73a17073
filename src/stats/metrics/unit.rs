//! What a metric's value counts, and which direction is better.

use crate::format;

/// What a metric's value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds.
    Nanoseconds,
    /// Seconds.
    Seconds,
    /// Events per second.
    PerSecond,
    /// A number of things.
    Count,
    /// A part, 0 to 1.
    Share,
    /// One number divided by another.
    Ratio,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// Its name in `cells.csv`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Seconds => "s",
            Self::PerSecond => "1/s",
            Self::Count => "count",
            Self::Share => "share",
            Self::Ratio => "ratio",
            Self::Bytes => "bytes",
        }
    }

    /// A value in a column whose head names what is counted.
    pub fn in_column(self, value: f64) -> String {
        match self {
            Self::Nanoseconds => format::duration(value),
            Self::PerSecond | Self::Count | Self::Bytes => format::thousands(value),
            Self::Share => format::percent(value),
            Self::Seconds | Self::Ratio => format::ratio(value),
        }
    }

    /// A value on its own.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Nanoseconds => format::duration(value),
            Self::Seconds => format::duration(1e9 * value),
            Self::PerSecond => format!("{}/s", format::thousands(value)),
            Self::Count => format::thousands(value),
            Self::Share => format::percent(value),
            Self::Ratio => format::ratio(value),
            Self::Bytes => format!("{} B", format::thousands(value)),
        }
    }
}

/// Which direction is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Lower is better.
    Lower,
    /// Higher is better.
    Higher,
    /// Neither: a condition for reading the other metrics.
    Neither,
}

impl Better {
    /// Its name in `cells.csv`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lower => "lower",
            Self::Higher => "higher",
            Self::Neither => "neither",
        }
    }
}
