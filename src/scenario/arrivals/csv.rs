//! A table of rates as a CSV file has it, read when the scenario is read: its record repeats the run without the file.

use std::{fs::File, io::Read, path::Path};

use toml::Value;

use super::rates::{ROWS_LIMIT, Row, objection};

/// More bytes are a mistake.
const BYTES_LIMIT: u64 = 1 << 20;

/// The first line that may name the columns.
const HEADER: &str = "time,rate";

/// What is wrong with a file of no rows.
const EMPTY: &str = "has no rows: write `time,rate` rows, such as `0,100`";

/// The rows of a file, as a scenario writes them: a list of lists of a time and a rate. The error completes the sentence that begins
/// with the key, and names the file and the line.
pub(in crate::scenario) fn table(path: &Path, highest_rate: f64) -> Result<Value, String> {
    let shown = path.display();
    let text = read(path).map_err(|problem| format!("{shown}: {problem}"))?;
    let rows = rows(&text, highest_rate).map_err(|(line, problem)| match line {
        0 => format!("{shown} {problem}"),
        line => format!("{shown}:{line}: {problem}"),
    })?;
    let row = |(time_s, rate): Row| Value::Array(vec![Value::Float(time_s), Value::Float(rate)]);
    Ok(Value::Array(rows.into_iter().map(row).collect()))
}

fn read(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| error.to_string();
    // Opening a pipe would wait for whoever writes to it.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err("is not a file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(BYTES_LIMIT + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > BYTES_LIMIT {
        return Err(format!("holds more than {BYTES_LIMIT} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is not a text file (UTF-8)".to_owned())
}

/// The rows of a text. An error has the number of the line, from 1, or 0 if it is about the whole.
fn rows(text: &str, highest_rate: f64) -> Result<Vec<Row>, (usize, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().zip(1..).map(|(line, number)| (line.trim(), number));
    let lines = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    let mut rows: Vec<Row> = Vec::new();
    let mut begun = false;
    for (line, number) in lines {
        if !std::mem::replace(&mut begun, true) && is_header(line) {
            continue;
        }
        let row = row(line).map_err(|problem| (number, problem))?;
        if let Some(problem) = objection(rows.last().copied(), row, highest_rate) {
            return Err((number, problem));
        }
        if rows.len() == ROWS_LIMIT {
            return Err((number, format!("a table has at most {ROWS_LIMIT} rows")));
        }
        rows.push(row);
    }
    if rows.is_empty() { Err((0, EMPTY.to_owned())) } else { Ok(rows) }
}

fn is_header(line: &str) -> bool {
    line.split(',').map(|field| field.trim().to_ascii_lowercase()).eq(HEADER.split(','))
}

fn row(line: &str) -> Result<Row, String> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [time, rate] = fields[..] else {
        let shown = Value::String(shortened(line));
        return Err(format!("expected a time and a rate, such as `3600,250`, not {shown}"));
    };
    let time_s = seconds(time).ok_or_else(|| {
        let shown = Value::String(shortened(time));
        format!("expected a time in seconds, such as `3600`, or of a day, such as `01:00` or `01:00:00`, not {shown}")
    })?;
    let rate = number(rate).ok_or_else(|| {
        let shown = Value::String(shortened(rate));
        format!("expected a rate in starts per second, such as `250` or `0.5`, not {shown}")
    })?;
    Ok((time_s, rate))
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Seconds, or hours and minutes, with seconds or without.
fn seconds(text: &str) -> Option<f64> {
    let parts: Vec<&str> = text.split(':').collect();
    let (hours, minutes, seconds) = match parts[..] {
        [seconds] => return number(seconds),
        [hours, minutes] => (hours, minutes, 0.0),
        [hours, minutes, seconds] => (hours, minutes, number(seconds)?),
        _ => return None,
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let whole = |text: &str| text.parse::<u32>().ok().filter(|_| digits(text));
    let (hours, minutes) = (whole(hours)?, whole(minutes)?);
    (minutes < 60 && (0.0..60.0).contains(&seconds))
        .then(|| f64::from(hours) * 3_600.0 + f64::from(minutes) * 60.0 + seconds)
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixListener};

    use super::*;

    const HIGHEST: f64 = 1e7;

    #[test]
    fn rows_may_have_a_header_comments_and_times_of_day() {
        for (text, expected) in [
            ("0,5", &[(0.0, 5.0)][..]),
            ("time,rate\n0,5\n", &[(0.0, 5.0)]),
            ("\u{feff}# a day\r\n\r\n Time , Rate\r\n0 , 5\r\n60.5,0\r\n", &[(0.0, 5.0), (60.5, 0.0)]),
            ("00:00,1\n01:30,2.5\n23:59:59.5,3e2", &[(0.0, 1.0), (5_400.0, 2.5), (86_399.5, 300.0)]),
        ] {
            assert_eq!(rows(text, HIGHEST).as_deref(), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn an_error_names_the_line_and_what_was_expected() {
        for (text, line, problem) in [
            ("", 0, "has no rows"),
            ("time,rate\n# none\n", 0, "has no rows"),
            ("time,requests\n0,5", 1, "expected a time in seconds"),
            ("0,5\ntime,rate", 2, "expected a time in seconds"),
            ("0,5\n\n60;7", 3, "expected a time and a rate, such as `3600,250`, not \"60;7\""),
            ("0,5,6", 1, "expected a time and a rate"),
            ("0,", 1, "expected a rate in starts per second, such as `250` or `0.5`, not \"\""),
            ("0,fast", 1, "not \"fast\""),
            ("0,inf", 1, "not \"inf\""),
            ("24:60,5", 1, "not \"24:60\""),
            ("+1:00,5", 1, "not \"+1:00\""),
            ("0,-1", 1, "the rate must be a number of starts per second from 0 to 10000000, not -1"),
            ("-5,1", 1, "the time must be a number of seconds from 0 on, not -5"),
            ("0,1\n5,1\n5,2", 3, "times must ascend, and 5 s follows 5 s"),
        ] {
            let (at, found) = rows(text, HIGHEST).unwrap_err();
            assert!(at == line && found.contains(problem), "{text:?}: {at}: {found}");
        }
        let many = |count: usize| (0..count).map(|row| format!("{row},1\n")).collect::<String>();
        assert_eq!(rows(&many(ROWS_LIMIT), HIGHEST).unwrap().len(), ROWS_LIMIT);
        assert_eq!(rows(&many(ROWS_LIMIT + 1), HIGHEST).unwrap_err().0, ROWS_LIMIT + 1);
    }

    #[test]
    fn only_a_text_file_of_a_sensible_size_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("day.csv"), "0,5\n1,6").unwrap();
        assert_eq!(table(&path("day.csv"), HIGHEST).unwrap().to_string(), "[[0.0, 5.0], [1.0, 6.0]]");
        fs::write(path("binary"), [0xff, 0xfe]).unwrap();
        fs::write(path("large"), "#".repeat(BYTES_LIMIT as usize + 1)).unwrap();
        fs::write(path("wrong"), "0,5\n1,x").unwrap();
        drop(UnixListener::bind(path("socket")).unwrap());
        for (name, problem) in [
            ("absent", "absent: No such file"),
            ("binary", "binary: is not a text file"),
            ("large", "large: holds more than 1048576 bytes"),
            ("socket", "socket: is not a file"),
            ("wrong", "wrong:2: expected a rate"),
        ] {
            let error = table(&path(name), HIGHEST).unwrap_err();
            assert!(error.contains(problem), "{name}: {error}");
        }
    }
}
