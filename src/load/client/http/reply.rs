//! A reply of any length, as RFC 9110 and 9112 define it: interim responses, the final one's head, its body and trailers. It reads each
//! byte once, as it arrives, and keeps a fixed state: bodies are counted, not stored.

use super::fields::{Following, Head, Malformed};
use crate::{
    load::client::{Reply, Whole},
    record::Cause,
};

/// The most bytes that heads, interim responses, trailers and chunk extensions of one reply may have together.
pub(super) const OVERHEAD_LIMIT_BYTES: usize = 64 << 10;
/// Digits of a chunk's size that do not count as overhead: those of the largest one.
const CHUNK_SIZE_DIGITS: u32 = u64::BITS / 4;

/// How far a reply has been read.
#[derive(Debug, Default)]
pub struct Progress {
    stage: Stage,
    head: Head,
    /// Bytes that count towards [`OVERHEAD_LIMIT_BYTES`].
    overhead_bytes: usize,
    /// Whether the last byte was a carriage return, which is part of a line break or stands for a space (RFC 9112, section 2.2).
    after_return: bool,
}

/// What comes next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    /// The status line up to the status, perhaps after empty lines.
    #[default]
    StatusLine,
    /// The rest of the status line.
    Reason,
    /// The first byte of a line of the head.
    Line,
    Name,
    /// The value of a header field that matters.
    Value,
    /// That of another.
    OtherValue,
    /// So many bytes of a body without chunks.
    Body(u64),
    UntilClose,
    /// A chunk's size: what it is so far, and its digits.
    ChunkSize(u64, u32),
    /// White space after the size. The chunk has so many bytes.
    AfterChunkSize(u64),
    /// What follows that on the line.
    Extension(u64),
    /// So many bytes of a chunk.
    Chunk(u64),
    /// The line break after a chunk.
    ChunkEnd,
    /// The first byte of a trailer field, or the end of them.
    Trailer,
    /// The rest of a trailer field.
    TrailerRest,
}

/// What a byte amounts to.
enum Step {
    GoOn,
    /// It was the reply's last.
    Whole,
}

impl From<Malformed> for Cause {
    fn from(Malformed: Malformed) -> Self {
        Self::BadReply
    }
}

impl Progress {
    /// Reads the next bytes of a reply, up to its end. `bodiless`: the reply has no body, whatever its head says. Once it has returned
    /// anything but [`Reply::Partial`], it is to be fed no more.
    pub fn feed(&mut self, bytes: &[u8], bodiless: bool) -> Reply {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let step = match &mut self.stage {
                Stage::UntilClose => return Reply::Partial,
                Stage::Body(left) | Stage::Chunk(left) => {
                    let used = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    at += used;
                    *left -= used as u64;
                    Ok(self.body_step())
                }
                Stage::Reason | Stage::OtherValue | Stage::Extension(_) | Stage::TrailerRest => {
                    let line = rest.iter().position(|byte| *byte == b'\n');
                    let used = line.map_or(rest.len(), |end| end + 1);
                    at += used;
                    self.overhead_bytes += used;
                    if line.is_some() { self.line_break(bodiless) } else { Ok(Step::GoOn) }
                }
                Stage::Name | Stage::Value if !self.after_return => {
                    let is_name = self.stage == Stage::Name;
                    let used = if is_name { self.head.name_bytes(rest) } else { self.head.value_bytes(rest) };
                    self.overhead_bytes += used;
                    at = bytes.len().min(at + used + 1);
                    rest.get(used).map_or(Ok(Step::GoOn), |byte| self.byte(*byte, bodiless))
                }
                _ => {
                    at += 1;
                    self.byte(rest[0], bodiless)
                }
            };
            match step {
                Err(cause) => return Reply::Bad(cause),
                Ok(Step::Whole) => return self.whole(at),
                Ok(Step::GoOn) if self.overhead_bytes > OVERHEAD_LIMIT_BYTES => return Reply::Bad(Cause::Overlong),
                Ok(Step::GoOn) => {}
            }
        }
        Reply::Partial
    }

    /// The server has closed, so no more bytes will come.
    pub fn end(&self) -> Reply {
        if self.stage == Stage::UntilClose { self.whole(0) } else { Reply::Bad(Cause::EndOfFile) }
    }

    /// Some bytes of a body have been read.
    fn body_step(&mut self) -> Step {
        match self.stage {
            Stage::Body(0) => return Step::Whole,
            Stage::Chunk(0) => self.stage = Stage::ChunkEnd,
            _ => {}
        }
        Step::GoOn
    }

    /// Reads a byte of a line.
    fn byte(&mut self, byte: u8, bodiless: bool) -> Result<Step, Cause> {
        let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
        let is_free = match self.stage {
            Stage::ChunkSize(_, digits) => {
                matches!(byte, b'\r' | b'\n') || (byte.is_ascii_hexdigit() && digits < CHUNK_SIZE_DIGITS)
            }
            Stage::ChunkEnd => true,
            _ => false,
        };
        self.overhead_bytes += usize::from(!is_free);
        match byte {
            b'\n' => self.line_break(bodiless),
            _ => {
                if after_return {
                    self.element(b' ')?;
                }
                if byte != b'\r' {
                    self.element(byte)?;
                }
                Ok(Step::GoOn)
            }
        }
    }

    /// Reads a byte of a line other than its end.
    fn element(&mut self, byte: u8) -> Result<(), Cause> {
        match self.stage {
            Stage::StatusLine => {
                if self.head.status_line(byte)? {
                    self.stage = Stage::Reason;
                }
            }
            Stage::Line => {
                if self.head.line(byte)? {
                    self.stage = Stage::Name;
                    self.head.name(byte)?;
                } else {
                    self.begin_value();
                }
            }
            Stage::Name => {
                if self.head.name(byte)? {
                    self.begin_value();
                }
            }
            Stage::Value => self.head.value(byte),
            Stage::ChunkSize(size, digits) => {
                self.stage = match char::from(byte).to_digit(16) {
                    Some(digit) => {
                        let size = size.checked_mul(16).ok_or(Cause::BadReply)? + u64::from(digit);
                        Stage::ChunkSize(size, digits.saturating_add(1))
                    }
                    None if digits == 0 => return Err(Cause::BadReply),
                    None => after_chunk_size(size, byte)?,
                };
            }
            Stage::AfterChunkSize(size) => self.stage = after_chunk_size(size, byte)?,
            Stage::Trailer => self.stage = Stage::TrailerRest,
            Stage::ChunkEnd => return Err(Cause::BadReply),
            Stage::Reason
            | Stage::OtherValue
            | Stage::Extension(_)
            | Stage::TrailerRest
            | Stage::Body(_)
            | Stage::Chunk(_)
            | Stage::UntilClose => {}
        }
        Ok(())
    }

    fn begin_value(&mut self) {
        self.stage = if self.head.value_matters() { Stage::Value } else { Stage::OtherValue };
    }

    /// A line ends.
    fn line_break(&mut self, bodiless: bool) -> Result<Step, Cause> {
        self.after_return = false;
        self.stage = match self.stage {
            // Empty lines before a response are ignored, as servers ignore them before a request (RFC 9112, section 2.2).
            Stage::StatusLine if self.head.is_empty() => Stage::StatusLine,
            Stage::StatusLine if self.head.has_status() => Stage::Line,
            Stage::Reason | Stage::Value | Stage::OtherValue => Stage::Line,
            Stage::Line => match self.head.end(bodiless) {
                Following::Nothing => return Ok(Step::Whole),
                Following::Response => {
                    self.head = Head::default();
                    Stage::StatusLine
                }
                Following::Upgrade => return Err(Cause::Upgraded),
                Following::Body(bytes) => Stage::Body(bytes),
                Following::Chunks => Stage::ChunkSize(0, 0),
                Following::UntilClose => Stage::UntilClose,
                Following::Unknown => return Err(Cause::BadReply),
            },
            Stage::ChunkSize(0, 1..) | Stage::AfterChunkSize(0) | Stage::Extension(0) => Stage::Trailer,
            Stage::ChunkSize(size, 1..) | Stage::AfterChunkSize(size) | Stage::Extension(size) => Stage::Chunk(size),
            Stage::ChunkEnd => Stage::ChunkSize(0, 0),
            // The reply's last line break.
            Stage::Trailer => return Ok(Step::Whole),
            Stage::TrailerRest => Stage::Trailer,
            _ => return Err(Cause::BadReply),
        };
        Ok(Step::GoOn)
    }

    fn whole(&self, used: usize) -> Reply {
        let closes = self.head.closes() || self.stage == Stage::UntilClose;
        Reply::Whole(Whole {
            used,
            receipt: self.head.receipt(),
            status: Some(self.head.status()),
            closes,
            ..Whole::default()
        })
    }
}

/// What a byte after a chunk's size makes of its line.
fn after_chunk_size(size: u64, byte: u8) -> Result<Stage, Cause> {
    match byte {
        b';' => Ok(Stage::Extension(size)),
        b' ' | b'\t' => Ok(Stage::AfterChunkSize(size)),
        _ => Err(Cause::BadReply),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ipc::receipt::Receipt;

    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

    /// Feeds the bytes in pieces of a length.
    fn fed(input: &[u8], piece: usize, ends: bool) -> Reply {
        fed_to(false, input, piece, ends)
    }

    fn fed_to(bodiless: bool, input: &[u8], piece: usize, ends: bool) -> Reply {
        let mut progress = Progress::default();
        for fresh in input.chunks(piece) {
            match progress.feed(fresh, bodiless) {
                Reply::Partial => {}
                reply => return reply,
            }
        }
        if ends { progress.end() } else { Reply::Partial }
    }

    /// What the bytes amount to, however they are split.
    fn take(input: &str, ends: bool) -> Reply {
        let whole = fed(input.as_bytes(), input.len(), ends);
        for piece in 1..input.len().min(64) {
            match (fed(input.as_bytes(), piece, ends), &whole) {
                (Reply::Whole(Whole { used: _, receipt, status, closes, id: _ }), Reply::Whole(all)) => {
                    assert_eq!((receipt, status, closes), (all.receipt, all.status, all.closes), "{piece}: {input}");
                }
                (pieces, whole) => assert_eq!(pieces, *whole, "{piece}: {input}"),
            }
        }
        whole
    }

    fn whole(used: usize, status: u16, closes: bool) -> Reply {
        Reply::Whole(Whole { used, status: Some(status), closes, ..Whole::default() })
    }

    #[test]
    fn a_reply_without_a_body_ends_with_its_head() {
        for (reply, status, closes) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, false),
            ("HTTP/1.1 200 OK\r\n\r\n", 200, false),
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", 404, true),
            ("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, false),
        ] {
            for piece in [1, 7, reply.len()] {
                let Reply::Whole(read) = fed_to(true, reply.as_bytes(), piece, false) else { panic!("{reply}") };
                assert_eq!((read.status, read.closes), (Some(status), closes), "{reply}");
            }
            // The next reply is left for the next request.
            let two = reply.repeat(2);
            assert_eq!(fed_to(true, two.as_bytes(), two.len(), false), whole(reply.len(), status, closes));
        }
    }

    #[test]
    fn a_receipt_is_read_from_its_header() {
        let receipt = hex::encode(b"0123456789abcdef");
        let reply = format!("HTTP/1.1 200 OK\r\nX-Receipt: {receipt}\r\nContent-Length: 0\r\n\r\n");
        let Reply::Whole(whole) = take(&reply, false) else { panic!("{reply}") };
        assert_eq!(whole.receipt, Some(Receipt::read_short(b"0123456789abcdef")));
    }

    #[test]
    fn every_kind_of_body_is_recognised_whole() {
        for (input, status, closes) in [
            (OK, 200, false),
            ("HTTP/1.1 200\nContent-Length: 2\n\nhi", 200, false),
            ("\r\nHTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\ncontent-length:2\r\n\r\nhi", 200, false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200, false),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n0a;x=\"y\"\r\n0123456789\r\n0 ;z\r\nX-A: b\r\nX-C: d\r\n\r\n",
                200,
                false,
            ),
            ("HTTP/1.1 204 No Content\r\n\r\n", 204, false),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, false),
            ("HTTP/1.1 301 Moved\r\nLocation: /\r\nContent-Length: 1\r\n\r\n.", 301, false),
            ("HTTP/1.1 503 Busy\r\nContent-Length: 1\r\n\r\n.", 503, false),
            ("HTTP/1.1 999 ?\r\nContent-Length: 1\r\n\r\n.", 999, false),
            ("HTTP/1.1 099 ?\r\nContent-Length: 1\r\n\r\n.", 99, false),
            // No reason, and no space before it.
            ("HTTP/1.1 200\r\nContent-Length: 1\r\n\r\n.", 200, false),
            ("HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\n.", 200, false),
            // Headers on several lines, even of white space only, and carriage returns that end none.
            ("HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 1\r\n\r\n.", 200, false),
            ("HTTP/1.1 200 OK\r\nContent-Length:\r\n\t1\r\n \r\n\r\n.", 200, false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip,\r\n chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", 200, false),
            ("HTTP/1.1 200 O\rK\r\nX: a\rb\r\nContent-Length:\r1\r\n\r\n.", 200, false),
            // Lengths with zeros before them, as members of lists, and where they don't matter.
            ("HTTP/1.1 200 OK\r\nContent-Length: 0000000000000000000000000000000000000000001\r\n\r\n.", 200, false),
            ("HTTP/1.1 200 OK\r\nContent-Length: ,1 ,, 01\t\r\n\r\n.", 200, false),
            ("HTTP/1.1 204 OK\r\nContent-Length: x\r\n\r\n", 204, false),
            // Codings, and what only looks like one.
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: x;y=\", \\\"\"\r\ntransfer-encoding: CHUNKED\r\n\r\n\
                 000000000000000000001\t;a\r\na\r\n00\r\n\r\n",
                200,
                false,
            ),
            ("HTTP/1.1 200 OK\r\nConnection: x\r\nX-Close: close\r\nContent-Length: 1\r\n\r\n.", 200, false),
            ("HTTP/1.1 200 OK\r\nX-Receipt: 00\r\nContent-Length: 0\r\n\r\n", 200, false),
            // The server will close.
            ("HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nhi", 200, true),
            ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, true),
            ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi", 200, false),
            // Two lengths: the encoding decides, and the connection is not used again.
            (
                "HTTP/1.1 200 OK\r\nContent-Length: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
                200,
                true,
            ),
            ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, true),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
                200,
                true,
            ),
            // Interim responses.
            (
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                200,
                false,
            ),
            (
                "HTTP/1.1 100 Continue\r\nConnection: close\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                200,
                false,
            ),
        ] {
            assert_eq!(take(input, false), whole(input.len(), status, closes), "{input}");
            let short = &input[..input.len() - 1];
            assert_eq!(take(short, false), Reply::Partial, "{short}");
            assert_eq!(take(short, true), Reply::Bad(Cause::EndOfFile), "{short}");
            // More than the reply is left over.
            assert_eq!(take(&format!("{input}HTTP"), false), whole(input.len(), status, closes), "{input}");
        }
        let headers: String = (0..1_000).map(|number| format!("X-H{number}: v\r\n")).collect();
        let many = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{headers}\r\nhi");
        assert_eq!(take(&many, false), whole(many.len(), 200, false));
    }

    #[test]
    fn a_body_without_a_length_ends_with_the_connection() {
        for head in [
            "HTTP/1.0 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: x=\"chunked, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n",
        ] {
            let endless = format!("{head}abc");
            assert_eq!(take(&endless, false), Reply::Partial);
            assert_eq!(take(&endless, true), whole(0, 200, true));
        }
    }

    #[test]
    fn malformed_replies_are_refused() {
        for input in [
            "SSH-2.0-x\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 200\tOK\r\n\r\n",
            "http/1.1 200 OK\r\n\r\n",
            " HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1\r\n",
            "220 ready\r\n",
            "HTTP/1.1 200 OK\r\n X: folded into nothing\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: no name\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX\r: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi.",
            "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nhi.",
            "HTTP/1.1 200 OK\r\nContent-Length: 0 2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: \"2\"\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n 3\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1 2\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n;x\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r1\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        ] {
            assert_eq!(take(input, false), Reply::Bad(Cause::BadReply), "{input}");
        }
        let upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n";
        assert_eq!(take(upgrade, false), Reply::Bad(Cause::Upgraded));
    }

    #[test]
    fn the_bytes_around_a_body_are_bounded_and_bodies_are_not() {
        const PIECE: usize = 1_000;
        let limit = OVERHEAD_LIMIT_BYTES;
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (start, piece) in [
            ("HTTP/1.1 200 OK\r\nA: ", "a"),
            ("HTTP/1.1 200 OK\r\n", "A: b\r\n"),
            ("", "HTTP/1.1 100 Continue\r\n\r\n"),
            ("", "\r\n"),
            (&format!("{chunked}1;"), "x"),
            (&format!("{chunked}1 "), " "),
            (chunked, "0"),
            (chunked, "1;x\r\na\r\n"),
            (&format!("{chunked}0\r\n"), "X-A: b\r\n"),
        ] {
            let endless = format!("{start}{}", piece.repeat(4 * limit / piece.len()));
            assert_eq!(fed(endless.as_bytes(), PIECE, false), Reply::Bad(Cause::Overlong), "{start}{piece}");
            assert_eq!(fed(&endless.as_bytes()[..limit / 2], PIECE, false), Reply::Partial, "{start}{piece}");
        }
        for (start, piece, end) in
            [(chunked, "1\r\na\r\n", "0\r\n\r\n"), ("HTTP/1.1 200 OK\r\nContent-Length: 600000\r\n\r\n", "abcdef", "")]
        {
            let long = format!("{start}{}{end}", piece.repeat(100_000));
            assert!(matches!(fed(long.as_bytes(), PIECE, false), Reply::Whole(_)), "{start}");
        }
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(input in prop::collection::vec(any::<u8>(), 1..200), piece in 1usize..50, ends: bool) {
            fed(&input, piece, ends);
            let mut reply = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            reply.extend(input);
            fed(&reply, piece, ends);
        }
    }
}
