//! The times of traces: seconds with a fraction, ISO 8601, and that of the common log format.

use super::SECOND_NS;

/// An instant, in nanoseconds since 1970 or, in tables, since any instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    pub ns: i64,
    /// Whether it is written without a fraction of a second.
    pub is_whole: bool,
}

/// Seconds after which nanoseconds no longer fit: the year 2262.
const LATEST_S: i64 = i64::MAX / SECOND_NS;

/// Digits of a fraction that count.
const DIGITS: usize = 9;

impl Time {
    fn of(seconds: i64, fraction: Option<i64>) -> Option<Self> {
        let seconds = Some(seconds).filter(|seconds| (-LATEST_S..LATEST_S).contains(seconds))?;
        Some(Self { ns: seconds * SECOND_NS + fraction.unwrap_or(0), is_whole: fraction.is_none() })
    }
}

/// `1700000000.123`: nginx's `$msec` and `$request_time`, and the times of tables.
pub(super) fn seconds(text: &[u8]) -> Option<Time> {
    let (whole, fraction) = split_fraction(text)?;
    Time::of(number(whole)?, fraction)
}

/// `2023-11-14T22:13:20+00:00`, with a fraction of a second or without, in any zone.
pub(super) fn iso8601(text: &[u8]) -> Option<Time> {
    let (date, time) = text.split_at_checked(10)?;
    let [year, month, day] = split(date, b'-')?;
    let (b'T' | b't' | b' ', time) = time.split_first()? else { return None };
    let zone = time.iter().position(|byte| matches!(byte, b'Z' | b'z' | b'+' | b'-'))?;
    let (time, zone) = time.split_at(zone);
    let (time, fraction) = split_fraction(time)?;
    let days = days_from_civil(number(year)?, number(month)?, number(day)?)?;
    Time::of(days * 86_400 + clock(time)? - offset(zone)?, fraction)
}

/// `10/Oct/2000:13:55:36 -0700`: `%t` of Apache and `$time_local` of nginx, without their brackets.
pub(super) fn common_log(text: &[u8]) -> Option<Time> {
    const MONTHS: [&[u8]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let (date, rest) = text.split_at_checked(text.iter().position(|byte| *byte == b':')?)?;
    let [day, month, year] = split(date, b'/')?;
    let month = MONTHS.iter().position(|known| *known == month)? as i64 + 1;
    let rest = &rest[1..];
    let (time, zone) = rest.split_at_checked(rest.iter().position(|byte| *byte == b' ')?)?;
    let (time, fraction) = split_fraction(time)?;
    let days = days_from_civil(number(year)?, month, number(day)?)?;
    Time::of(days * 86_400 + clock(time)? - offset(&zone[1..])?, fraction)
}

/// The text before a fraction, and the fraction in nanoseconds if there is one.
fn split_fraction(text: &[u8]) -> Option<(&[u8], Option<i64>)> {
    let Some(point) = text.iter().position(|byte| matches!(byte, b'.' | b',')) else { return Some((text, None)) };
    let digits = &text[point + 1..];
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let counted = digits.iter().copied().chain(std::iter::repeat(b'0')).take(DIGITS);
    Some((&text[..point], Some(counted.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))))
}

/// Digits only, as many as an `i64` surely holds.
fn number(text: &[u8]) -> Option<i64> {
    let is_number = (1..=18).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| text.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
}

/// Three parts with a separator between them.
fn split(text: &[u8], separator: u8) -> Option<[&[u8]; 3]> {
    let mut parts = text.split(|byte| *byte == separator);
    let all = [parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(all)
}

/// Seconds of `13:55:36`. A leap second is the first of the next minute.
fn clock(text: &[u8]) -> Option<i64> {
    let [hours, minutes, seconds] = split(text, b':')?;
    let [hours, minutes, seconds] = [number(hours)?, number(minutes)?, number(seconds)?];
    (hours < 24 && minutes < 60 && seconds <= 60).then_some(hours * 3_600 + minutes * 60 + seconds)
}

/// Seconds of `Z`, `+02:00` or `-0700`, east of Greenwich.
fn offset(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        b"Z" | b"z" => return Some(0),
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match digits {
        [h @ .., b':', m0, m1] => (number(h)?, number(&[*m0, *m1])?),
        [h0, h1, m0, m1] => (number(&[*h0, *h1])?, number(&[*m0, *m1])?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// Days since 1970-01-01 in the Gregorian calendar: Howard Hinnant's `days_from_civil`.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    const DAYS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let in_month = DAYS.get(usize::try_from(month - 1).ok()?)? + i64::from(is_leap && month == 2);
    if !((0..=9_999).contains(&year) && (1..=in_month).contains(&day)) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_notations_name_one_instant() {
        // date -u -d @1700000000: 2023-11-14T22:13:20Z.
        let whole = Some(Time { ns: 1_700_000_000 * SECOND_NS, is_whole: true });
        assert_eq!(seconds(b"1700000000"), whole);
        for text in ["2023-11-14T22:13:20Z", "2023-11-14T22:13:20+00:00", "2023-11-15T03:43:20+05:30"] {
            assert_eq!(iso8601(text.as_bytes()), whole, "{text}");
        }
        for text in ["14/Nov/2023:22:13:20 +0000", "14/Nov/2023:15:13:20 -0700"] {
            assert_eq!(common_log(text.as_bytes()), whole, "{text}");
        }
        let fraction = Some(Time { ns: 1_700_000_000 * SECOND_NS + 123_000_000, is_whole: false });
        assert_eq!(seconds(b"1700000000.123"), fraction);
        assert_eq!(iso8601(b"2023-11-14T22:13:20.123Z"), fraction);
        assert_eq!(common_log(b"14/Nov/2023:22:13:20.123 +0000"), fraction);
        assert_eq!(seconds(b"0.0000000019").unwrap().ns, 1, "digits beyond nanoseconds are cut");
        assert_eq!(iso8601(b"2024-02-29T00:00:00Z").unwrap().ns, 1_709_164_800 * SECOND_NS, "a leap year");
        for day in ["2023-02-29", "1900-02-29", "2023-04-31", "2023-00-10", "2023-13-01", "2023-01-00"] {
            assert!(iso8601(format!("{day}T00:00:00Z").as_bytes()).is_none(), "{day}");
        }
        assert_eq!(iso8601(b"1969-12-31T23:59:59Z").unwrap().ns, -SECOND_NS);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "x", "-1", "1.", ".5", "1.2.3", "1e9", "99999999999999999999", "9999999999999"] {
            assert_eq!(seconds(text.as_bytes()), None, "{text}");
        }
        for text in ["2023-13-14T22:13:20Z", "2023-11-14T22:13:20", "2023-11-14T25:13:20Z", "2023-11-14", "2023-1-4T1Z"]
        {
            assert_eq!(iso8601(text.as_bytes()), None, "{text}");
        }
        for text in ["14/Nov/2023:22:13:20", "14/Foo/2023:22:13:20 +0000", "14/Nov/2023 22:13:20 +0000", ":"] {
            assert_eq!(common_log(text.as_bytes()), None, "{text}");
        }
    }
}
