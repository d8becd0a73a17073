//! Tables of times: CSV with the columns `time`, `requests` and `hold`, of which the last two may be left out.

use std::io::BufRead;

use anyhow::{Result, bail};

use super::{
    Arrival, Findings, SECOND_NS,
    lines::{Lines, TooLong},
    log_format::whole,
    times::{self, Time},
};

/// The places of the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Columns {
    time: usize,
    requests: Option<usize>,
    hold: Option<usize>,
}

/// The columns of a table without a header.
const USUAL: Columns = Columns { time: 0, requests: Some(1), hold: Some(2) };

/// The longest hold, which is that of `load.hold`.
const LONGEST_HOLD_NS: i64 = 30 * 86_400 * SECOND_NS;

/// The mark with which some programs begin a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads a table.
pub(super) fn read(
    input: &mut dyn BufRead,
    findings: &mut Findings,
    emit: &mut dyn FnMut(Arrival) -> Result<()>,
) -> Result<()> {
    let mut lines = Lines::new(input);
    let mut columns = None;
    while let Some((number, line)) = lines.next()? {
        let row = match (line, columns) {
            (Err(TooLong), _) => Err(TooLong::PROBLEM),
            (Ok(line), None) if names_columns(line) => {
                columns = Some(header(line)?);
                continue;
            }
            (Ok(line), _) => parse(line, *columns.get_or_insert(USUAL)),
        };
        findings.lines += 1;
        match row {
            Ok(arrival) => {
                if let Some(requests) = arrival.requests {
                    findings.has_connections = true;
                    *findings.requests.get_or_insert(0) += u64::from(requests);
                }
                findings.has_holds |= arrival.hold_ns.is_some();
                emit(arrival)?;
            }
            Err(problem) => {
                findings.wrong(number, problem);
                findings.is_cut_off = lines.is_cut_off();
            }
        }
    }
    Ok(())
}

/// Whether a first line names columns.
pub(super) fn is_header(line: &[u8]) -> bool {
    cells(line).next().is_some_and(|first| first.first().is_some_and(u8::is_ascii_alphabetic))
        && cells(line).any(|name| name.eq_ignore_ascii_case(b"time"))
}

/// Whether a line is a row of a table without a header.
pub(super) fn is_row(line: &[u8]) -> bool {
    cells(line).count() <= 3 && parse(line, USUAL).is_ok()
}

/// Whether a first line is a header, if a misspelt one: no value begins with a letter.
fn names_columns(line: &[u8]) -> bool {
    cells(line).any(|cell| cell.first().is_some_and(u8::is_ascii_alphabetic))
}

fn header(line: &[u8]) -> Result<Columns> {
    let (mut time, mut requests, mut hold) = (None, None, None);
    for (place, name) in cells(line).enumerate() {
        match &name.to_ascii_lowercase()[..] {
            b"time" => time = Some(place),
            b"requests" => requests = Some(place),
            b"hold" => hold = Some(place),
            _ => bail!(
                "line 1: the columns of a table are `time`, `requests` and `hold`, and not `{}`: rename or remove it",
                String::from_utf8_lossy(name)
            ),
        }
    }
    let Some(time) = time else { bail!("line 1: the table has no column `time`") };
    Ok(Columns { time, requests, hold })
}

fn cells(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let bare = |cell: &'_ [u8]| cell.len() >= 2 && cell.starts_with(b"\"") && cell.ends_with(b"\"");
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
    line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).map(move |cell| match cell {
        [_, inner @ .., _] if bare(cell) => inner,
        cell => cell,
    })
}

fn parse(line: &[u8], columns: Columns) -> Result<Arrival, &'static str> {
    let mut arrival = Arrival { at_ns: 0, requests: None, hold_ns: None };
    let mut has_time = false;
    for (place, cell) in cells(line).enumerate() {
        if place == columns.time {
            let time: Option<Time> = times::seconds(cell).or_else(|| times::iso8601(cell));
            arrival.at_ns = time.ok_or("has no time like 12.345 (seconds) or 2000-10-10T13:55:36.123Z")?.ns;
            has_time = true;
        } else if Some(place) == columns.requests {
            let requests =
                if cell.is_empty() { None } else { Some(whole(cell).and_then(|one| u32::try_from(one).ok())) };
            arrival.requests =
                requests.map(|one| one.filter(|one| *one > 0).ok_or("has no number of requests from 1")).transpose()?;
        } else if Some(place) == columns.hold {
            let hold = if cell.is_empty() {
                None
            } else {
                Some(times::seconds(cell).ok_or("has no hold like 1.5 (seconds)")?)
            };
            if hold.is_some_and(|hold| hold.ns > LONGEST_HOLD_NS) {
                return Err("has a hold of more than 30 days");
            }
            arrival.hold_ns = hold.map(|hold| hold.ns.unsigned_abs());
        } else {
            return Err("has more values than the table has columns");
        }
    }
    if has_time { Ok(arrival) } else { Err("has no time") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When, how many requests, and how long held, as the columns are.
    type Row = (i64, Option<u32>, Option<u64>);

    fn table(text: &str) -> (Result<Vec<Row>>, Findings) {
        let (mut all, mut findings) = (Vec::new(), Findings::default());
        let mut emit = |one: Arrival| {
            all.push((one.at_ns, one.requests, one.hold_ns));
            Ok(())
        };
        let read = read(&mut text.as_bytes(), &mut findings, &mut emit);
        (read.map(|()| all), findings)
    }

    #[test]
    fn columns_have_their_usual_order_or_that_of_the_header() {
        let (all, findings) = table("0.5\n1,3\n2,,0.25\n\n\"3\",1,2\n");
        let at = |ms: i64| ms * SECOND_NS / 1_000;
        assert_eq!(
            all.unwrap(),
            [
                (at(500), None, None),
                (at(1_000), Some(3), None),
                (at(2_000), None, Some(250_000_000)),
                (at(3_000), Some(1), Some(2_000_000_000))
            ]
        );
        assert_eq!((findings.lines, findings.malformed, findings.requests, findings.spread), (4, 0, Some(4), 0));
        assert!(findings.has_holds);
        let (all, findings) = table("hold, Time\n1,5\n,2023-11-14T22:13:20Z\n");
        assert_eq!(all.unwrap(), [(at(5_000), None, Some(1_000_000_000)), (1_700_000_000 * SECOND_NS, None, None)]);
        assert_eq!((findings.lines, findings.requests), (2, None));
    }

    #[test]
    fn what_is_wrong_is_counted_by_line() {
        let (all, findings) = table("time,requests\nx\n1,0\n2,1,3\n3,-1\n4,4294967296\n5,1\n");
        assert_eq!((all.unwrap().len(), findings.lines, findings.malformed), (1, 6, 5));
        let shown: Vec<String> = findings.shown.iter().map(ToString::to_string).collect();
        assert_eq!(shown[0], "2: has no time like 12.345 (seconds) or 2000-10-10T13:55:36.123Z");
        assert_eq!(shown[1], "3: has no number of requests from 1");
        assert_eq!(shown[2], "4: has more values than the table has columns");
        let (all, findings) = table("0,1,2592000\n1,1,2592001\n");
        assert_eq!((all.unwrap().len(), findings.malformed), (1, 1));
        // A misspelt header is refused rather than read as a row, which would assign its columns wrongly.
        for text in ["start,hold\n1,2\n", "\u{feff}hold,start\n2,1\n"] {
            assert!(table(text).0.unwrap_err().to_string().contains("`start`"), "{text}");
        }
        assert_eq!(table("\u{feff}time,hold\n1,2\n").0.unwrap(), [(SECOND_NS, None, Some(2_000_000_000))]);
        assert!(table("time,bytes\n1,2\n").0.unwrap_err().to_string().contains("`bytes`"));
    }
}
