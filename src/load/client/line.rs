//! `line`: the scenario's bytes go out, and a reply is to begin as the scenario says.

use super::{Client, Reading, Reply, Whole};
use crate::{
    record::Cause,
    scenario::{LineExchange, ReplyEnd},
};

/// A reply that has not ended by then is too long.
const REPLY_LIMIT_BYTES: usize = 65_536;
/// How much is kept of a reply that is not as expected, to be shown: one byte more than is shown, so that it is known whether there are more.
pub const EXAMPLE_BYTES: usize = 81;

pub(super) struct Line(pub LineExchange);

/// How far a reply has been read.
#[derive(Debug)]
pub(super) struct Progress {
    /// Its beginning.
    start: [u8; EXAMPLE_BYTES],
    received_bytes: usize,
    /// How much of the current line has been read; `None` once it differs from the beginning of a last line.
    of_last_line: Option<usize>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { start: [0; EXAMPLE_BYTES], received_bytes: 0, of_last_line: Some(0) }
    }
}

impl Progress {
    /// The beginning of what has been read, for showing.
    pub fn beginning(&self) -> &[u8] {
        &self.start[..self.received_bytes.min(EXAMPLE_BYTES)]
    }

    fn add(&mut self, bytes: &[u8]) {
        if let Some(room) = self.start.get_mut(self.received_bytes..) {
            let length = room.len().min(bytes.len());
            room[..length].copy_from_slice(&bytes[..length]);
        }
        self.received_bytes += bytes.len();
    }

    /// Where the reply ends among the next bytes, if it does there.
    fn end_in(&mut self, end: &ReplyEnd, fresh: &[u8]) -> Option<usize> {
        let last = match end {
            ReplyEnd::Bytes(bytes) => return Some(bytes - self.received_bytes).filter(|left| *left <= fresh.len()),
            ReplyEnd::LastLine(last) => last,
        };
        let mut at = 0;
        loop {
            let rest = &fresh[at..];
            let line = rest.iter().position(|byte| *byte == b'\n').map_or(rest, |end| &rest[..=end]);
            if let Some(known) = self.of_last_line.filter(|known| *known < last.len()) {
                let length = line.len().min(last.len() - known);
                let agrees = line[..length] == last[known..known + length];
                self.of_last_line = agrees.then_some(known + length);
            }
            if line.last() != Some(&b'\n') {
                return None;
            }
            at += line.len();
            if self.of_last_line == Some(last.len()) {
                return Some(at);
            }
            self.of_last_line = Some(0);
        }
    }
}

impl Client for Line {
    fn ask(&mut self, _nonce: u32, _last: bool, request: &mut Vec<u8>) {
        request.extend_from_slice(&self.0.send);
    }

    fn take(&self, reading: &mut Reading, fresh: &[u8]) -> Reply {
        let LineExchange { expect, end, .. } = &self.0;
        let progress = &mut reading.line;
        let before = progress.received_bytes;
        let ends = progress.end_in(end, fresh);
        let used = ends.unwrap_or(fresh.len());
        progress.add(&fresh[..used]);
        let expected = expect.get(before..).unwrap_or_default();
        let length = expected.len().min(used);
        let is_short = ends.is_some() && length < expected.len();
        if is_short || fresh[..length] != expected[..length] {
            return Reply::Bad(Cause::Mismatch);
        }
        match ends {
            Some(used) => Reply::Whole(Whole { used, ..Whole::default() }),
            None if progress.received_bytes > REPLY_LIMIT_BYTES => Reply::Bad(Cause::Overlong),
            None => Reply::Partial,
        }
    }

    fn end(&self, _reading: &Reading) -> Reply {
        Reply::Bad(Cause::EndOfFile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(expect: &str, end: ReplyEnd) -> Line {
        Line(LineExchange { send: b"PING\r\n".to_vec(), expect: expect.into(), end })
    }

    fn last_line(begins: &str) -> ReplyEnd {
        ReplyEnd::LastLine(begins.into())
    }

    fn whole(used: usize) -> Reply {
        Reply::Whole(Whole { used, ..Whole::default() })
    }

    /// What the bytes amount to, in one piece and in pieces of one byte each, and how many of them belong to it.
    fn read(client: &Line, bytes: &[u8]) -> (Result<Option<usize>, Cause>, String) {
        let of = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let (mut reading, mut before) = (Reading::default(), 0);
            for piece in pieces {
                match client.take(&mut reading, piece) {
                    Reply::Partial => before += piece.len(),
                    Reply::Whole(whole) => return (Ok(Some(before + whole.used)), reading),
                    Reply::Bad(cause) => return (Err(cause), reading),
                }
            }
            (Ok(None), reading)
        };
        let (together, reading) = of(&mut std::iter::once(bytes));
        let (apart, _) = of(&mut bytes.chunks(1));
        assert_eq!(together, apart, "{bytes:?}");
        (together, String::from_utf8_lossy(reading.line.beginning()).into_owned())
    }

    #[test]
    fn a_reply_is_a_line_that_begins_as_expected() {
        let ping = client("+PONG", ReplyEnd::default());
        for (bytes, expected) in [
            (&b""[..], Ok(None)),
            (b"+PO", Ok(None)),
            (b"+PONG", Ok(None)),
            (b"+PONG\r\n", Ok(Some(7))),
            (b"+PONG and more\n", Ok(Some(15))),
            (b"+PONG\r\n+PONG\r\n", Ok(Some(7))),
            (b"-ERR\r\n", Err(Cause::Mismatch)),
            (b"+PING\r\n", Err(Cause::Mismatch)),
            (b"+PO\n", Err(Cause::Mismatch)),
            (b"\n", Err(Cause::Mismatch)),
        ] {
            assert_eq!(read(&ping, bytes).0, expected, "{bytes:?}");
        }
        assert_eq!(read(&client("", ReplyEnd::default()), b"\n").0, Ok(Some(1)));
        // With its end, it is all of the reply.
        let all = client("+PONG\r\n", ReplyEnd::default());
        assert_eq!(read(&all, b"+PONG\r\n").0, Ok(Some(7)));
        assert_eq!(read(&all, b"+PONG!\r\n").0, Err(Cause::Mismatch));
        let mut request = Vec::new();
        client("", ReplyEnd::default()).ask(1, true, &mut request);
        assert_eq!(request, b"PING\r\n");
    }

    #[test]
    fn a_reply_of_several_lines_ends_with_the_last() {
        let smtp = client("250", last_line("250 "));
        assert_eq!(read(&smtp, b"250-a\r\n250-250 b\r\n250 c\r\n221 d\r\n").0, Ok(Some(25)));
        assert_eq!(read(&smtp, b"250-a\r\n25").0, Ok(None));
        assert_eq!(read(&smtp, b"250 a\r\n").0, Ok(Some(7)));
        let stats = client("STAT ", last_line("END\r"));
        assert_eq!(read(&stats, b"STAT pid 1\r\nENDS\r\nEND\r\n").0, Ok(Some(23)));
        // A reply that began differently can no longer match: do not wait for the rest.
        assert_eq!(read(&stats, b"ERROR\r\n").0, Err(Cause::Mismatch));
    }

    #[test]
    fn a_reply_may_have_an_exact_size() {
        let bulk = client("$5\r\nhello\r\n", ReplyEnd::Bytes(11));
        assert_eq!(read(&bulk, b"$5\r\nhello\r\n").0, Ok(Some(11)));
        assert_eq!(read(&bulk, b"$5\r\nhello\r").0, Ok(None));
        assert_eq!(read(&bulk, b"$-1\r\n").0, Err(Cause::Mismatch));
        assert_eq!(read(&client("", ReplyEnd::Bytes(1)), b"SS").0, Ok(Some(1)));
    }

    #[test]
    fn the_beginning_of_another_reply_is_kept() {
        let ping = client("+PONG", ReplyEnd::default());
        assert_eq!(read(&ping, b"-ERR unknown command\r\nmore").1, "-ERR unknown command\r\n");
        let long = [b'x'; 200];
        assert_eq!(read(&ping, &long), (Err(Cause::Mismatch), "x".repeat(EXAMPLE_BYTES)));
        // What it shares with the expected one belongs to it.
        let mut reading = Reading::default();
        assert_eq!(ping.take(&mut reading, b"+PO"), Reply::Partial);
        assert_eq!(ping.take(&mut reading, b"ST\r\n"), Reply::Bad(Cause::Mismatch));
        assert_eq!(reading.line.beginning(), b"+POST\r\n");
    }

    #[test]
    fn a_reply_without_end_is_too_long() {
        let any = client("", ReplyEnd::default());
        let mut reading = Reading::default();
        assert_eq!(any.take(&mut reading, &[b'x'; REPLY_LIMIT_BYTES]), Reply::Partial);
        assert_eq!(any.take(&mut reading, b"x"), Reply::Bad(Cause::Overlong));
        let most = client("", ReplyEnd::Bytes(REPLY_LIMIT_BYTES));
        assert_eq!(most.take(&mut Reading::default(), &[b'x'; REPLY_LIMIT_BYTES]), whole(REPLY_LIMIT_BYTES));
    }
}
