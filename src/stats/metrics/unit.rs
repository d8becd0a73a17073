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
            _ if value.is_infinite() => NOT_REACHED.to_owned(),
            Self::Nanoseconds => format::duration(value),
            Self::PerSecond => format::rate(value),
            Self::Count => count(value),
            Self::Bytes => format::thousands(value),
            Self::Share => format::share(value),
            Self::Seconds if value == 0.0 => "0".to_owned(),
            Self::Seconds if value < LEAST_SECONDS => format!("< {LEAST_SECONDS}"),
            Self::Seconds | Self::Ratio => format::ratio(value),
        }
    }

    /// A value on its own.
    pub fn show(self, value: f64) -> String {
        match self {
            _ if value.is_infinite() => NOT_REACHED.to_owned(),
            Self::Nanoseconds => format::duration(value),
            Self::Seconds => format::duration(1e9 * value),
            Self::PerSecond => format!("{}/s", format::rate(value)),
            Self::Count => count(value),
            Self::Share => format::share(value),
            Self::Ratio => format::ratio(value),
            Self::Bytes => format!("{} B", format::thousands(value)),
        }
    }
}

/// A count. The median of an even number of counts may lie halfway between two.
fn count(value: f64) -> String {
    if value.fract() == 0.5 { format!("{}.5", format::thousands(value.floor())) } else { format::thousands(value) }
}

/// The least that columns of seconds show.
const LEAST_SECONDS: f64 = 0.001;

/// A percentile that falls among attempts that failed.
const NOT_REACHED: &str = "not reached";

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_counts_are_not_rounded() {
        for (value, expected) in
            [(8.0, "8"), (8.5, "8.5"), (13.5, "13.5"), (1_204.5, "1,204.5"), (8.3, "8"), (0.0, "0")]
        {
            assert_eq!([Unit::Count.show(value), Unit::Count.in_column(value)], [expected, expected]);
        }
    }
}
