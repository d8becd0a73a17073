//! Numbers as people read them.

use std::{borrow::Cow, time::Duration};

/// A formatted number with a minus sign instead of a hyphen, and none before nothing: `−0.5`, `0.0`.
fn signed(text: String) -> String {
    match text.strip_prefix('-') {
        Some(number) if number.contains(|c: char| ('1'..='9').contains(&c) || c == 'i') => format!("−{number}"),
        Some(nothing) => nothing.to_owned(),
        None => text,
    }
}

/// Nanoseconds with three significant digits: `1.23 µs`, `45.6 ms`, `7.00 s`.
pub fn duration(value_ns: f64) -> String {
    if value_ns < 0.0 {
        return signed(format!("-{}", duration(-value_ns)));
    }
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

/// A length of time to the millisecond, or from a minute on to the second: `6s 700ms`, `2m 5s`.
pub fn exact(length: Duration) -> String {
    let unit_ns: u128 = if length < Duration::from_secs(60) { 1_000_000 } else { 1_000_000_000 };
    let units = (length.as_nanos() + unit_ns / 2) / unit_ns;
    humantime::format_duration(Duration::from_nanos(u64::try_from(units * unit_ns).unwrap_or(u64::MAX))).to_string()
}

/// A whole number with its thousands apart: `17,890`.
pub fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut grouped = if value < 0.0 { "-".to_owned() } else { String::new() };
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    signed(grouped)
}

/// A rate, with a decimal where it is small: `66.7`, `17,890`.
pub fn rate(value: f64) -> String {
    if value != 0.0 && value.abs() < 99.95 { number((10.0 * value).round() / 10.0) } else { thousands(value) }
}

/// A number without digits that say nothing: `0.5`, `2`.
pub fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    signed(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}

/// A count with its noun, or a longer phrase, in the right number: `1 reply`, `3 replies`.
pub fn counted(count: u64, one: &str, several: &str) -> String {
    format!("{} {}", thousands(count as f64), if count == 1 { one } else { several })
}

/// A large number of bytes: `23.5 GiB`.
pub fn gibibytes(bytes: f64) -> String {
    format!("{:.1} GiB", bytes / f64::from(1 << 30))
}

/// A share of 1 in percent: `99.8 %`.
pub fn percent(value: f64) -> String {
    signed(format!("{:.1} %", 100.0 * value))
}

/// A relative change with its sign: `+8.1 %`, `−0.4 %`; without one where it rounds to 0.
pub fn change(value: f64) -> String {
    let text = percent(value);
    if value > 0.0 && text != percent(0.0) && text.starts_with(|c: char| c.is_ascii_digit()) {
        format!("+{text}")
    } else {
        text
    }
}

/// A share of 1 in percent, with two digits where it is small but not nothing: `99.8 %`, `0.039 %`, `< 0.001 %`.
pub fn share(value: f64) -> String {
    match 100.0 * value {
        small if !(small > 0.0 && small < 0.095) => percent(value),
        small if small >= 0.009_5 => format!("{small:.3} %"),
        small if small >= 0.000_95 => format!("{small:.4} %"),
        _ => "< 0.001 %".to_owned(),
    }
}

/// A probability as an equation: `p = 0.0079`, `p < 0.0001`.
pub fn p_equals(p: f64) -> String {
    let value = p_value(p);
    if value.starts_with('<') { format!("p {value}") } else { format!("p = {value}") }
}

/// A probability with two digits: `0.0079`, `< 0.0001`.
pub fn p_value(p: f64) -> String {
    match p {
        p if p < 0.000_1 => "< 0.0001".to_owned(),
        p if p < 0.01 => format!("{p:.4}"),
        p => format!("{p:.3}"),
    }
}

/// A ratio with two decimals, or three where it is small but not nothing.
pub fn ratio(value: f64) -> String {
    signed(if value != 0.0 && value.abs() < 0.1 { format!("{value:.3}") } else { format!("{value:.2}") })
}

/// An error with its causes, from the outside in, each said once: some errors repeat their cause in their own words.
pub fn causes(error: &anyhow::Error) -> String {
    said_once(error.chain().map(ToString::to_string))
}

/// The parts, without those that the one before ends with.
pub fn said_once(parts: impl IntoIterator<Item = String>) -> String {
    let mut text = String::new();
    for part in parts {
        if text.is_empty() {
            text = part;
        } else if !text.ends_with(&part) {
            text = format!("{text}: {part}");
        }
    }
    text
}

/// A text as a label's value in OpenMetrics.
pub fn label_value(text: &str) -> String {
    harmless(text).replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// All of a count of at least two: `both`, `all 3`.
pub fn all_of(count: usize) -> String {
    if count == 2 { "both".to_owned() } else { format!("all {count}") }
}

/// A count with a regular noun: `1 trial`, `2 trials`.
pub fn plural(count: impl TryInto<u64>, what: &str) -> String {
    counted(count.try_into().unwrap_or(u64::MAX), what, &format!("{what}s"))
}

/// Whether a character makes a terminal or a reader see something other than the text: control characters (which begin escape
/// sequences), marks that reverse the order of what follows, letters without width, and what XML forbids. Line breaks and tabs are left to the format.
pub fn is_harmful(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        '\u{61c}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}'..='\u{ffff}' | '\u{e0000}'..='\u{e007f}' => true,
        c => c.is_control(),
    }
}

/// A text from outside, with a visible sign in place of each harmful character. Everything that is printed goes through here.
pub fn harmless(text: &str) -> Cow<'_, str> {
    // Nearly all texts have nothing but these, and bytes are looked at sooner than characters.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t')) {
        return text.into();
    }
    if text.contains(is_harmful) { text.replace(is_harmful, "\u{fffd}").into() } else { text.into() }
}

/// Bytes on one line: visible text as it is, and `\r`, `\n`, `\t`, `\0`, `\\` or `\xHH` in place of all others.
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\r' => text.push_str("\\r"),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                '\0' => text.push_str("\\0"),
                '\\' => text.push_str("\\\\"),
                c if is_harmful(c) => {
                    c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| text += &format!("\\x{byte:02x}"));
                }
                c => text.push(c),
            }
        }
        chunk.invalid().iter().for_each(|byte| text += &format!("\\x{byte:02x}"));
    }
    text
}

/// JSON in which harmful characters are escaped, so that it means the same and can be printed.
pub fn harmless_json(json: &str) -> Cow<'_, str> {
    if !json.contains(is_harmful) {
        return json.into();
    }
    let mut text = String::with_capacity(json.len());
    let mut units = [0; 2];
    for c in json.chars() {
        if is_harmful(c) {
            text.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            text.push(c);
        }
    }
    text.into()
}

/// A name from outside, such as a process's, on one line: it may hold anything.
pub fn one_line(name: &str) -> String {
    harmless(name).replace(['\n', '\t'], "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_visible_text_are_escaped() {
        assert_eq!(escaped(b"-ERR a\\b\r\n"), "-ERR a\\\\b\\r\\n");
        assert_eq!(escaped("ü\t\0\u{1b}\u{202e}".as_bytes()), "ü\\t\\0\\x1b\\xe2\\x80\\xae");
        assert_eq!(escaped(b"\xd2\x16\xffa"), "\\xd2\\x16\\xffa");
        assert_eq!(escaped(b""), "");
    }

    #[test]
    fn errors_do_not_repeat_their_causes() {
        let error = |parts: &[&'static str]| {
            let (root, outer) = parts.split_last().unwrap();
            causes(&outer.iter().rev().fold(anyhow::anyhow!(*root), |error, part| error.context(*part)))
        };
        assert_eq!(error(&["failed to create map", "failed to create map"]), "failed to create map");
        assert_eq!(error(&["loading: no map", "no map", "no map"]), "loading: no map");
        assert_eq!(error(&["loading", "no map", "EPERM"]), "loading: no map: EPERM");
    }

    #[test]
    fn small_rates_keep_a_decimal() {
        assert_eq!([0.0, 66.666, 99.94, 99.96, 17_889.6].map(rate), ["0", "66.7", "99.9", "100", "17,890"]);
    }

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
    fn a_small_share_is_not_nothing() {
        for (value, text) in [
            (0.0, "0.0 %"),
            (0.5, "50.0 %"),
            (0.001, "0.1 %"),
            (0.000_39, "0.039 %"),
            (0.000_043, "0.0043 %"),
            (0.000_000_1, "< 0.001 %"),
            (-0.5, "−50.0 %"),
        ] {
            assert_eq!(share(value), text);
        }
    }

    #[test]
    fn groups_of_three() {
        assert_eq!(
            (thousands(7.0), thousands(1_234.4), thousands(-123_456.0)),
            ("7".into(), "1,234".into(), "−123,456".into())
        );
        assert_eq!((number(0.5), number(2.0), number(100.0)), ("0.5".into(), "2".into(), "100".into()));
        assert_eq!(
            (thousands(-0.2), number(-0.000_1), percent(-0.000_1), ratio(-0.0)),
            ("0".into(), "0".into(), "0.0 %".into(), "0.00".into())
        );
        assert_eq!(
            (ratio(-0.5), percent(-0.021), duration(-2e6), duration(-0.1)),
            ("−0.50".into(), "−2.1 %".into(), "−2.00 ms".into(), "0 ns".into())
        );
        assert_eq!((ratio(0.0), ratio(0.034), ratio(1.5)), ("0.00".into(), "0.034".into(), "1.50".into()));
    }

    #[test]
    fn what_would_mislead_is_replaced() {
        assert_eq!(harmless("a\tb\nc: é µ − 漢"), "a\tb\nc: é µ − 漢");
        for c in "\0\u{7}\u{8}\r\u{1b}\u{7f}\u{85}\u{9b}\u{200b}\u{202e}\u{2066}\u{feff}\u{e0041}".chars() {
            assert_eq!(harmless(&format!("a{c}b")), "a\u{fffd}b", "{c:?}");
        }
        let json = serde_json::to_string("\u{1b}[31m\u{9b}\u{e0041}é").unwrap();
        let printed = harmless_json(&json);
        assert_eq!(printed, "\"\\u001b[31m\\u009b\\udb40\\udc41é\"");
        assert_eq!(serde_json::from_str::<String>(&printed).unwrap(), "\u{1b}[31m\u{9b}\u{e0041}é");
    }

    #[test]
    fn a_name_is_one_line() {
        assert_eq!(one_line("a\nb\u{1b}[31m"), "a\u{fffd}b\u{fffd}[31m");
        assert_eq!(one_line("nginx: é"), "nginx: é");
    }
}
