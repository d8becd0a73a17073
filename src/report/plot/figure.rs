//! A line chart as data: axes, lines, and the values a pointer finds. How it is drawn is decided elsewhere.

use crate::format;

/// A line chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Distinguishes it from its neighbours; may be empty.
    pub heading: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// In drawing order.
    pub lines: Vec<Line>,
    /// Shaded parts of the horizontal axis.
    pub spans: Vec<Span>,
    /// Where a pointer snaps to, from left to right.
    pub stops: Vec<Stop>,
}

/// An axis. Its scale turns the values of lines into positions.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// What it shows.
    pub label: String,
    /// How values become positions.
    pub scale: Scale,
    /// The value at its start.
    pub low: f64,
    /// The value at its end, above `low`.
    pub high: f64,
    /// Labelled values.
    pub ticks: Vec<(f64, String)>,
}

/// How values become positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Proportional.
    Linear,
    /// Logarithmic; values are positive.
    Log,
}

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Its colour and dashes, from 0: the same in all charts of a section.
    pub style: usize,
    /// Whether it shows upper bounds. It is dotted then, to set it apart from exact values.
    pub bound: bool,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
    /// The range of its repetitions: position, lowest, highest.
    pub band: Vec<(f64, f64, f64)>,
    /// Marked points.
    pub marks: Vec<(f64, f64, Mark)>,
}

/// How a point is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A disc.
    Dot,
    /// A cross.
    Cross,
}

/// A shaded part of the horizontal axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Its start.
    pub from: f64,
    /// Its end.
    pub to: f64,
    /// A letter or two, explained beside the chart; may be empty.
    pub label: String,
    /// Whether it is an event rather than unmeasured time.
    pub event: bool,
}

/// A place that a pointer snaps to.
#[derive(Debug, Clone, PartialEq)]
pub struct Stop {
    /// Its value on the horizontal axis.
    pub x: f64,
    /// Its name.
    pub label: String,
    /// The value of each line there as in the table; empty if a line has none.
    pub values: Vec<String>,
}

impl Axis {
    /// A logarithmic axis of times in ns that holds all values. Values below 1 ns count as 1 ns.
    pub fn log_ns(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .map(|value| value.max(1.0))
            .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = if low <= high { (low, high) } else { (1e3, 1e6) };
        let (low, high) = (low / 1.25, high * 1.25);
        Self { label: label.to_owned(), scale: Scale::Log, low, high, ticks: log_ticks(low, high, duration_tick) }
    }

    /// An axis of whole numbers from 0.
    pub fn counts(label: &str, high: f64) -> Self {
        Self::with_step(label, high, round_step(high.max(1.0) / 4.0).max(1.0), count_tick)
    }

    /// An axis from 0.
    pub fn from_zero(label: &str, high: f64, show: impl Fn(f64) -> String) -> Self {
        let high = if high > 0.0 { high } else { 1.0 };
        Self::with_step(label, high, round_step(high / 4.0), show)
    }

    fn with_step(label: &str, high: f64, step: f64, show: impl Fn(f64) -> String) -> Self {
        // Figures of a record may be so large that sums of them are infinite.
        let (high, step) = if high.is_finite() && step.is_finite() { (high.max(step), step) } else { (1.0, 1.0) };
        let count = (high / step).ceil() as u32;
        Self {
            label: label.to_owned(),
            scale: Scale::Linear,
            low: 0.0,
            high: step * f64::from(count),
            ticks: (0..=count).map(|i| (step * f64::from(i), show(step * f64::from(i)))).collect(),
        }
    }

    /// The position of a value between the axis' start, 0, and its end, 1.
    pub fn position(&self, value: f64) -> f64 {
        let place = |value: f64| match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
        };
        ((place(value) - place(self.low)) / (place(self.high) - place(self.low))).clamp(0.0, 1.0)
    }
}

/// Powers of ten between two positive numbers; if fewer than three, their doubles and fivefolds as well. Nobody reads a value off a single
/// tick: where that gives no two, they are multiples of a round step.
pub fn log_ticks(low: f64, high: f64, show: impl Fn(f64) -> String) -> Vec<(f64, String)> {
    let decades = || (low.log10().floor() as i32..=high.log10().ceil() as i32).map(|power| 10_f64.powi(power));
    let within = |tick: &f64| (low..=high).contains(tick);
    let whole: Vec<f64> = decades().filter(within).collect();
    let mut ticks = if whole.len() < 3 {
        decades().flat_map(|tick| [tick, 2.0 * tick, 5.0 * tick]).filter(within).collect()
    } else {
        whole
    };
    if ticks.len() < 2 && low < high {
        // At most half of the range, so that there are two of its multiples.
        let step = round_step((high - low) / 5.0);
        let multiples = (1_u32..).map(|number| ((low / step).floor() + f64::from(number)) * step);
        ticks = multiples.take_while(|tick| *tick <= high).collect();
    }
    ticks.into_iter().map(|tick| (tick, show(tick))).collect()
}

/// A round duration: `10 µs`, `1 ms`.
pub fn duration_tick(ns: f64) -> String {
    let text = format::duration(ns);
    let (number, unit) = text.split_once(' ').unwrap_or((&text, ""));
    let number = if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number };
    format!("{number} {unit}")
}

/// A round count: `20,000`, `150k`, `2M`.
pub fn count_tick(count: f64) -> String {
    match count {
        count if count >= 1e6 => format!("{}M", format::number(count / 1e6)),
        count if count >= 1e5 => format!("{}k", format::number(count / 1e3)),
        count => format::thousands(count),
    }
}

/// The smallest of 1, 2 or 5 times a power of ten that is not below a positive number.
pub fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= least * (1.0 - 1e-9))
        .unwrap_or(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: &[(f64, String)]) -> Vec<&str> {
        ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_of_times() {
        assert_eq!(labels(&log_ticks(8e3, 2e6, duration_tick)), ["10 µs", "100 µs", "1 ms"]);
        assert_eq!(labels(&log_ticks(8e3, 6e4, duration_tick)), ["10 µs", "20 µs", "50 µs"]);
        assert_eq!(labels(&log_ticks(2.1e3, 3.3e3, duration_tick)), ["2.5 µs", "3 µs"]);
        assert_eq!(labels(&log_ticks(8.1e4, 1.3e5, duration_tick)), ["90 µs", "100 µs", "110 µs", "120 µs", "130 µs"]);
        for low in 1..2_000 {
            let low = 1.01_f64.powi(low);
            assert!(log_ticks(low, 1.57 * low, duration_tick).len() >= 2, "{low}");
        }
        assert_eq!([2e4, 1.5e5, 2.5e6].map(count_tick), ["20,000", "150k", "2.5M"]);
        assert_eq!(labels(&Axis::log_ns("", [].into_iter()).ticks).len(), 4);
    }

    #[test]
    fn ticks_from_zero() {
        let axis = Axis::from_zero("", 54.0, |value| value.to_string());
        assert_eq!((axis.high, labels(&axis.ticks)), (60.0, vec!["0", "20", "40", "60"]));
        assert_eq!(labels(&Axis::counts("", 2.0).ticks), ["0", "1", "2"]);
        assert_eq!(Axis::from_zero("", 0.0, |value| value.to_string()).high, 1.0);
        assert_eq!([round_step(1.0), round_step(0.3), round_step(21.0)], [1.0, 0.5, 50.0]);
    }

    #[test]
    fn positions() {
        let axis = Axis { label: String::new(), scale: Scale::Log, low: 1.0, high: 100.0, ticks: Vec::new() };
        assert_eq!(
            [axis.position(1.0), axis.position(10.0), axis.position(1e9), axis.position(0.0)],
            [0.0, 0.5, 1.0, 0.0]
        );
    }
}
