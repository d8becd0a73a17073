//! Numbers as people read them.

use std::time::Duration;

/// Nanoseconds with three significant digits: `1.23 µs`, `45.6 ms`, `7.00 s`.
pub fn duration(value_ns: f64) -> String {
    let (value, unit) = match value_ns {
        ns if ns < 999.5 => (ns, "ns"),
        ns if ns < 999.5e3 => (ns / 1e3, "µs"),
        ns if ns < 999.5e6 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let digits = if unit == "ns" || value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}

/// Whole seconds, rounded up, in units: `1m 5s`.
pub fn seconds(length: Duration) -> String {
    humantime::format_duration(Duration::from_secs(length.as_secs_f64().ceil() as u64)).to_string()
}

/// A whole number with its thousands apart: `17,890`.
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) && grouped != "-" {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number without digits that say nothing: `0.5`, `2`.
pub fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A count with its noun, or a longer phrase, in the right number: `1 reply`, `3 replies`.
pub fn counted(count: u64, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

/// A share of 1 in percent: `99.8 %`.
pub fn percent(value: f64) -> String {
    format!("{:.1} %", 100.0 * value)
}

/// A ratio with two decimals, or three where it is small but not nothing.
pub fn ratio(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.1 { format!("{value:.3}") } else { format!("{value:.2}") }
}

/// A count with a regular noun: `1 trial`, `2 trials`.
pub fn plural(count: usize, what: &str) -> String {
    counted(count as u64, what, &format!("{what}s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        for (ns, text) in [
            (0.0, "0 ns"),
            (999.0, "999 ns"),
            (999.9, "1.00 µs"),
            (12_345.0, "12.3 µs"),
            (99_960.0, "100 µs"),
            (1_000_000.0, "1.00 ms"),
            (2.5e9, "2.50 s"),
            (60e9, "60.0 s"),
        ] {
            assert_eq!(duration(ns), text);
        }
    }

    #[test]
    fn groups_of_three() {
        assert_eq!(
            (thousands(7.0), thousands(1_234.4), thousands(-123_456.0)),
            ("7".into(), "1,234".into(), "-123,456".into())
        );
        assert_eq!((number(0.5), number(2.0), number(100.0)), ("0.5".into(), "2".into(), "100".into()));
        assert_eq!((ratio(0.0), ratio(0.034), ratio(1.5)), ("0.00".into(), "0.034".into(), "1.50".into()));
    }
}
