//! `http`: enough HTTP/1.1 for any load generator. Every request is answered with 200 and a fixed body.
//!
//! `X-Worker` names the worker. A request with `X-Nonce: <8 hex digits>` (listenbench's loader sends it) also gets
//! `X-Receipt: <32 hex digits>`, the receipt of [`crate::ipc::receipt`] in its short form.

use std::io::Write;

use httparse::{EMPTY_HEADER, Status};

use super::{Caller, Protocol, Take};
use crate::ipc::receipt::{RECEIPT_BYTES, Receipt};

/// A request with a longer head is refused with 431.
const HEAD_LIMIT_BYTES: usize = 16_384;
/// A request with a longer body is refused with 413.
const BODY_LIMIT_BYTES: usize = 1 << 20;
const HEADERS_LIMIT: usize = 64;

pub(super) struct Http {
    body: Vec<u8>,
}

/// What matters in a request's head.
#[derive(Default)]
struct Head {
    keep_alive: bool,
    version_1_0: bool,
    without_body: bool,
    content_length: Option<usize>,
    chunked: bool,
    nonce: Option<u32>,
}

impl Http {
    pub(super) fn new(body_bytes: usize) -> Self {
        // Visible text that ends in a line break, so that curl shows it well.
        let mut body = vec![b'.'; body_bytes];
        if let Some(last) = body.last_mut() {
            *last = b'\n';
        }
        Self { body }
    }
}

impl Protocol for Http {
    fn take(&mut self, input: &[u8], caller: &Caller, last: bool, reply: &mut Vec<u8>) -> Take {
        let mut headers = [EMPTY_HEADER; HEADERS_LIMIT];
        let mut request = httparse::Request::new(&mut headers);
        let length = match request.parse(input) {
            Ok(Status::Complete(length)) if length <= HEAD_LIMIT_BYTES => length,
            Ok(Status::Partial) if input.len() < HEAD_LIMIT_BYTES => return Take::Partial,
            Ok(_) | Err(httparse::Error::TooManyHeaders) => {
                return refuse(reply, "431 Request Header Fields Too Large");
            }
            Err(_) => return refuse(reply, "400 Bad Request"),
        };
        let Some(mut head) = Head::read(&request) else { return refuse(reply, "400 Bad Request") };
        head.keep_alive &= !last;
        if head.chunked {
            return refuse(reply, "411 Length Required");
        }
        let body_bytes = head.content_length.unwrap_or(0);
        if body_bytes > BODY_LIMIT_BYTES {
            return refuse(reply, "413 Content Too Large");
        }
        let length = length + body_bytes;
        if input.len() < length {
            return Take::Partial;
        }
        self.answer(&head, caller, reply);
        Take::Request { length, close: !head.keep_alive }
    }
}

impl Http {
    fn answer(&self, head: &Head, caller: &Caller, reply: &mut Vec<u8>) {
        // Writing to a Vec cannot fail, and this one already has the capacity.
        let _ = write!(
            reply,
            "HTTP/1.1 200 OK\r\nServer: listenbench\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nX-Worker: {}\r\n",
            self.body.len(),
            caller.worker
        );
        if let Some(nonce) = head.nonce {
            reply.extend_from_slice(b"X-Receipt: ");
            let receipt = Receipt::new(caller.worker, nonce, caller.accept_ns, caller.ends()).short();
            let mut digits = [0; 2 * RECEIPT_BYTES];
            hex::encode_to_slice(receipt, &mut digits).expect("two digits per byte");
            reply.extend_from_slice(&digits);
            reply.extend_from_slice(b"\r\n");
        }
        // HTTP/1.1 keeps connections alive by default; an HTTP/1.0 client relies on the header.
        if !head.keep_alive {
            reply.extend_from_slice(b"Connection: close\r\n");
        } else if head.version_1_0 {
            reply.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        reply.extend_from_slice(b"\r\n");
        if !head.without_body {
            reply.extend_from_slice(&self.body);
        }
    }
}

impl Head {
    /// `None` if a header that matters is malformed.
    fn read(request: &httparse::Request<'_, '_>) -> Option<Self> {
        let version_1_0 = request.version == Some(0);
        let mut head = Self {
            keep_alive: !version_1_0,
            version_1_0,
            without_body: request.method == Some("HEAD"),
            ..Self::default()
        };
        for header in request.headers.iter() {
            let text = std::str::from_utf8(header.value).ok().map(str::trim);
            if header.name.eq_ignore_ascii_case("connection") {
                for option in text?.split(',').map(str::trim) {
                    if option.eq_ignore_ascii_case("close") {
                        head.keep_alive = false;
                    } else if option.eq_ignore_ascii_case("keep-alive") {
                        head.keep_alive = true;
                    }
                }
            } else if header.name.eq_ignore_ascii_case("content-length") {
                // RFC 9112, section 6.3: lengths that differ, or are none, leave it open where the next request begins.
                let length = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()?;
                if head.content_length.is_some_and(|other| other != length) {
                    return None;
                }
                head.content_length = Some(length);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                head.chunked = true;
            } else if header.name.eq_ignore_ascii_case("x-nonce") {
                let digits = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
                head.nonce = Some(u32::from_str_radix(digits, 16).ok()?);
            }
        }
        Some(head)
    }
}

fn refuse(reply: &mut Vec<u8>, status: &str) -> Take {
    let _ = write!(reply, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    Take::Bad
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ipc::receipt::{Told, Tuple};

    fn take(input: &str) -> (Take, String) {
        answered(input, false)
    }

    fn answered(input: &str, last: bool) -> (Take, String) {
        let end = ([127, 0, 0, 1], 80).into();
        let caller = Caller {
            worker: 3,
            accept_ns: 5,
            tuple: Tuple { client: end, server: end },
            told: Told::Nothing,
            id: None,
        };
        let mut reply = Vec::new();
        let take = Http::new(2).take(input.as_bytes(), &caller, last, &mut reply);
        (take, String::from_utf8(reply).unwrap())
    }

    #[test]
    fn keep_alive_follows_version_and_header() {
        for (request, keeps, says) in [
            ("GET / HTTP/1.1\r\n\r\n", true, None),
            ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", false, Some("Connection: close")),
            ("GET / HTTP/1.0\r\n\r\n", false, Some("Connection: close")),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true, Some("Connection: keep-alive")),
        ] {
            let (take, reply) = take(request);
            assert!(matches!(take, Take::Request { length, close } if length == request.len() && close != keeps));
            assert!(reply.starts_with("HTTP/1.1 200 OK\r\n") && reply.contains("X-Worker: 3\r\n"), "{reply}");
            assert_eq!(reply.lines().find(|line| line.starts_with("Connection")), says, "{request}");
            assert!(reply.ends_with("\r\n\r\n.\n"));
        }
    }

    #[test]
    fn the_last_reply_announces_the_close() {
        for version in ["1.1", "1.0\r\nConnection: keep-alive"] {
            let (_, reply) = answered(&format!("GET / HTTP/{version}\r\n\r\n"), true);
            assert!(reply.contains("Connection: close\r\n") && !reply.contains("keep-alive"), "{reply}");
        }
    }

    #[test]
    fn a_body_is_awaited_and_head_gets_none() {
        let (partial, _) = take("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab");
        assert!(matches!(partial, Take::Partial));
        let (whole, _) = take("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET");
        assert!(matches!(whole, Take::Request { length: 41, close: false }));
        let (_, reply) = take("HEAD / HTTP/1.1\r\n\r\n");
        assert!(reply.contains("Content-Length: 2\r\n") && reply.ends_with("\r\n\r\n"));
    }

    #[test]
    fn malformed_requests_are_refused() {
        for (request, status) in [
            ("nonsense\r\n\r\n".to_owned(), "400"),
            ("GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n".to_owned(), "400"),
            ("GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n".to_owned(), "400"),
            ("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(), "400"),
            ("GET / HTTP/1.1\r\nX-Nonce: +1\r\n\r\n".to_owned(), "400"),
            (format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(HEAD_LIMIT_BYTES)), "431"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), "411"),
            ("POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n".to_owned(), "413"),
            (format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(HEAD_LIMIT_BYTES)), "431"),
        ] {
            let (take, reply) = take(&request);
            assert!(matches!(take, Take::Bad) && reply.contains(status), "{reply}");
        }
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(input in "\\PC{0,200}") {
            take(&input);
        }
    }
}
