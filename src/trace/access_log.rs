//! Access logs: a line for each request, written when it ends.
//!
//! nginx and Apache log a request once it is done (ngx_http_log_module: "in the context of a location where processing ends"). A log that
//! has `$request_time`, the time since its first bytes, says when it began; in others, requests start when they are logged.

use std::io::BufRead;

use anyhow::Result;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    Arrival, Findings, SECOND_NS,
    keep_alive::KeepAlive,
    lines::{Lines, TooLong},
    times::Time,
};

/// What a line of a log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logged {
    /// When the request ended.
    pub end: Time,
    /// How long it took.
    pub took_ns: Option<i64>,
    /// The connection that it came over.
    pub client: Option<Client>,
    /// Its number on that connection, from 1.
    pub ordinal: Option<u64>,
}

impl Default for Logged {
    fn default() -> Self {
        Self { end: Time { ns: 0, is_whole: true }, took_ns: None, client: None, ordinal: None }
    }
}

/// A connection, as a log identifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Client {
    /// By nginx's serial number.
    Serial(u64),
    /// By a hash of the client's address and port, which another connection may have later.
    End(u64),
}

/// Reads a log whose lines `parse` understands. Connections are emitted in no particular order.
pub(super) fn read(
    input: &mut dyn BufRead,
    findings: &mut Findings,
    emit: &mut dyn FnMut(Arrival) -> Result<()>,
    parse: &dyn Fn(&[u8]) -> Result<Logged, &'static str>,
) -> Result<()> {
    let mut lines = Lines::new(input);
    let mut connections = KeepAlive::default();
    // Always the same, so that a log is the same trace whenever it is read.
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut requests = 0;
    while let Some((number, line)) = lines.next()? {
        findings.lines += 1;
        let logged = match line.map_err(|TooLong| TooLong::PROBLEM).and_then(parse) {
            Ok(logged) => logged,
            Err(problem) => {
                findings.wrong(number, problem);
                findings.is_cut_off = lines.is_cut_off();
                continue;
            }
        };
        requests += 1;
        let mut end_ns = logged.end.ns;
        if logged.end.is_whole {
            findings.spread += 1;
            end_ns = end_ns.saturating_add(rng.random_range(0..SECOND_NS));
        }
        let start_ns = end_ns.saturating_sub(logged.took_ns.unwrap_or(0));
        match logged.client {
            Some(client) => {
                findings.has_connections = true;
                connections.request(client, (start_ns, end_ns), logged.ordinal, emit)?;
            }
            None => emit(Arrival { at_ns: start_ns, requests: Some(1), hold_ns: None })?,
        }
    }
    findings.requests = Some(requests);
    connections.end(emit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::log_format::LogFormat;

    fn read_log(layout: &str, text: &str) -> (Vec<Arrival>, Findings) {
        let layout = LogFormat::read(layout).unwrap();
        let (mut all, mut findings) = (Vec::new(), Findings::default());
        let mut emit = |arrival| {
            all.push(arrival);
            Ok(())
        };
        read(&mut text.as_bytes(), &mut findings, &mut emit, &|line| layout.parse(line)).unwrap();
        all.sort_by_key(|arrival| arrival.at_ns);
        (all, findings)
    }

    #[test]
    fn whole_seconds_are_spread_within_the_second_and_alike_each_time() {
        let text = "5 a\n5 b\n5 c\nwrong\n6 d\n";
        let (all, findings) = read_log("$msec $x", text);
        assert_eq!((all.len(), findings.lines, findings.malformed, findings.spread), (4, 5, 1, 4));
        assert_eq!((findings.shown[0].line, findings.requests), (4, Some(4)));
        assert_eq!(all.iter().filter(|one| one.at_ns / SECOND_NS == 5).count(), 3);
        assert_eq!(all.iter().filter(|one| one.at_ns / SECOND_NS == 6).count(), 1);
        assert!(all.windows(2).all(|pair| pair[0].at_ns < pair[1].at_ns));
        assert_eq!(read_log("$msec $x", text).0, all);
    }

    #[test]
    fn a_last_line_that_is_cut_off_does_not_count_against_the_log() {
        for (text, malformed, is_cut_off) in
            [("5 a\nwr", 1, true), ("5 a\nwrong\n", 1, false), ("wrong\n5 a", 1, false)]
        {
            let (_, findings) = read_log("$msec $x", text);
            assert_eq!((findings.malformed, findings.is_cut_off), (malformed, is_cut_off), "{text:?}");
        }
    }

    #[test]
    fn a_request_starts_its_time_before_it_is_logged() {
        let (all, findings) = read_log("$msec $request_time", "10.500 0.250\n10.600 -\n");
        assert_eq!(all.iter().map(|one| one.at_ns).collect::<Vec<_>>(), [10_250_000_000, 10_600_000_000]);
        assert_eq!((findings.spread, findings.has_connections), (0, false));
    }
}
