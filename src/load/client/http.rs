//! `http`: GET requests, to listenbench's own server or any other.

use httparse::{EMPTY_HEADER, Status};

use super::{Client, Reply};
use crate::ipc::receipt::{RECEIPT_BYTES, Receipt};
use crate::record::Cause;

/// The longest reply accepted. Replies are buffered whole.
const REPLY_LIMIT_BYTES: usize = 16 << 20;
const HEADERS_LIMIT: usize = 64;
/// The header that carries the nonce, as eight hexadecimal digits.
const NONCE_HEADER: &str = "X-Nonce: ";

pub(super) struct Http {
    request: Vec<u8>,
    nonce_at: usize,
    /// Whether the last request asks the server to close.
    server_closes: bool,
}

impl Http {
    pub(super) fn new(path: &str, host: &str, server_closes: bool) -> Self {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: listenbench\r\n{NONCE_HEADER}");
        let nonce_at = head.len();
        Self { request: format!("{head}00000000\r\n").into_bytes(), nonce_at, server_closes }
    }
}

impl Client for Http {
    fn ask(&mut self, nonce: u32, last: bool, request: &mut Vec<u8>) {
        hex::encode_to_slice(nonce.to_be_bytes(), &mut self.request[self.nonce_at..self.nonce_at + 8])
            .expect("two digits per byte");
        request.extend_from_slice(&self.request);
        if last && self.server_closes {
            request.extend_from_slice(b"Connection: close\r\n");
        }
        request.extend_from_slice(b"\r\n");
    }

    fn take(&mut self, input: &[u8], ended: bool) -> Reply {
        let mut headers = [EMPTY_HEADER; HEADERS_LIMIT];
        let mut response = httparse::Response::new(&mut headers);
        let head_length = match response.parse(input) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) if ended => return Reply::Bad(Cause::EndOfFile),
            Ok(Status::Partial) => return Reply::Partial,
            Err(_) => return Reply::Bad(Cause::BadReply),
        };
        let status = response.code.unwrap_or(0);
        if status >= 400 {
            return Reply::Bad(Cause::Status(status));
        }
        let Some(head) = Head::read(&response) else { return Reply::Bad(Cause::BadReply) };
        let body = &input[head_length..];
        let body_length = match head.body {
            Body::Length(length) => (body.len() >= length).then_some(length),
            Body::UntilClose => ended.then_some(body.len()),
            Body::Chunked => match chunked(body) {
                Ok(length) => length,
                Err(cause) => return Reply::Bad(cause),
            },
        };
        match body_length {
            Some(length) => Reply::Whole { length: head_length + length, receipt: head.receipt },
            None if ended => Reply::Bad(Cause::EndOfFile),
            None if input.len() > REPLY_LIMIT_BYTES => Reply::Bad(Cause::BadReply),
            None => Reply::Partial,
        }
    }
}

enum Body {
    Length(usize),
    Chunked,
    UntilClose,
}

struct Head {
    body: Body,
    receipt: Option<Receipt>,
}

impl Head {
    fn read(response: &httparse::Response<'_, '_>) -> Option<Self> {
        let status = response.code.unwrap_or(0);
        let without_body = status == 204 || status == 304;
        let mut head = Self { body: if without_body { Body::Length(0) } else { Body::UntilClose }, receipt: None };
        for header in response.headers.iter() {
            let text = || std::str::from_utf8(header.value).ok().map(str::trim);
            if without_body {
                continue;
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                head.body = Body::Chunked;
            } else if header.name.eq_ignore_ascii_case("content-length") && !matches!(head.body, Body::Chunked) {
                head.body = Body::Length(text()?.parse().ok()?);
            } else if header.name.eq_ignore_ascii_case("x-receipt") {
                let mut receipt = [0; RECEIPT_BYTES];
                hex::decode_to_slice(header.value, &mut receipt).ok()?;
                head.receipt = Some(Receipt::read(&receipt)?);
            }
        }
        Some(head)
    }
}

/// The length of a whole chunked body with its empty trailer; `Ok(None)` while part of it is missing.
fn chunked(body: &[u8]) -> Result<Option<usize>, Cause> {
    let mut at = 0;
    loop {
        let (line, size) = match httparse::parse_chunk_size(&body[at..]) {
            Ok(Status::Complete(found)) => found,
            Ok(Status::Partial) => return Ok(None),
            Err(_) => return Err(Cause::BadReply),
        };
        let size = usize::try_from(size).ok().filter(|size| *size <= REPLY_LIMIT_BYTES).ok_or(Cause::BadReply)?;
        // The chunk, or the empty trailer, and its line break.
        at += line + size + 2;
        if at > body.len() {
            return Ok(None);
        }
        if size == 0 {
            return Ok(Some(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn take(input: &str, ended: bool) -> Reply {
        Http::new("/", "h", false).take(input.as_bytes(), ended)
    }

    fn whole(length: usize) -> Reply {
        Reply::Whole { length, receipt: None }
    }

    #[test]
    fn the_nonce_is_in_the_request_and_close_in_the_last() {
        let mut client = Http::new("/x", "127.0.0.1:80", true);
        let mut request = Vec::new();
        client.ask(0xdead_beef, false, &mut request);
        let text = String::from_utf8(request.clone()).unwrap();
        assert!(text.starts_with("GET /x HTTP/1.1\r\nHost: 127.0.0.1:80\r\n"), "{text}");
        assert!(text.ends_with("X-Nonce: deadbeef\r\n\r\n"), "{text}");
        request.clear();
        client.ask(1, true, &mut request);
        assert!(String::from_utf8(request).unwrap().ends_with("Connection: close\r\n\r\n"));
    }

    #[test]
    fn every_kind_of_body_is_recognised_whole() {
        let lengthy = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(take(lengthy, false), whole(lengthy.len()));
        assert_eq!(take(&lengthy[..lengthy.len() - 1], false), Reply::Partial);
        assert_eq!(take(&lengthy[..lengthy.len() - 1], true), Reply::Bad(Cause::EndOfFile));
        let pieces = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        assert_eq!(take(pieces, false), whole(pieces.len()));
        assert_eq!(take(&pieces[..pieces.len() - 3], false), Reply::Partial);
        let endless = "HTTP/1.0 200 OK\r\n\r\nabc";
        assert_eq!(take(endless, false), Reply::Partial);
        assert_eq!(take(endless, true), whole(endless.len()));
        let bodiless = "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n";
        assert_eq!(take(bodiless, false), whole(bodiless.len()));
    }

    #[test]
    fn refusals_and_malformed_replies_are_distinguished() {
        assert_eq!(take("HTTP/1.1 503 Busy\r\n\r\n", false), Reply::Bad(Cause::Status(503)));
        assert_eq!(take("SSH-2.0-x\r\n", false), Reply::Bad(Cause::BadReply));
        let receipt = "HTTP/1.1 200 OK\r\nX-Receipt: 00\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(take(receipt, false), Reply::Bad(Cause::BadReply));
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(input in prop::collection::vec(any::<u8>(), 0..200), ended: bool) {
            Http::new("/", "h", false).take(&input, ended);
            let mut reply = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            reply.extend(input);
            Http::new("/", "h", false).take(&reply, ended);
        }
    }
}
