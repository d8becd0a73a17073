//! `http`: requests to listenbench's own server or any other, and replies as RFC 9110 and 9112 define them.

mod fields;
mod reply;

pub use self::reply::Progress;
use super::{Client, Reading, Reply};
use crate::scenario::HttpRequest;

/// The header that carries the nonce, as eight hexadecimal digits.
const NONCE_HEADER: &str = "X-Nonce: ";
/// Methods whose requests say how long their body is even if they have none (RFC 9110, section 8.6).
const METHODS_WITH_BODY: [&str; 3] = ["POST", "PUT", "PATCH"];

pub(super) struct Http {
    /// The request up to the empty line that ends its head.
    head: Vec<u8>,
    nonce_at: usize,
    /// What the last request has in addition; empty if the client closes.
    last: &'static [u8],
    /// The empty line and the body.
    rest: Vec<u8>,
    /// Whether replies have no body, whatever their head says (RFC 9112, section 6.3).
    bodiless: bool,
}

impl Http {
    /// A client of `host`, unless the request names another. `server_closes`: the last request on a connection asks for it.
    pub(super) fn new(request: &HttpRequest, host: &str, server_closes: bool) -> Self {
        let HttpRequest { method, path, headers, body, .. } = request;
        let host = request.host.as_deref().unwrap_or(host);
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
        let mut add = |name: &str, value: &str| head.extend([name, ": ", value, "\r\n"]);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("user-agent")) {
            add("User-Agent", "listenbench");
        }
        for (name, value) in headers {
            add(name, value);
        }
        if !body.is_empty() || METHODS_WITH_BODY.contains(&method.as_str()) {
            add("Content-Length", &body.len().to_string());
        }
        head.push_str(NONCE_HEADER);
        let nonce_at = head.len();
        Self {
            head: (head + "00000000\r\n").into_bytes(),
            nonce_at,
            last: if server_closes { b"Connection: close\r\n" } else { b"" },
            rest: [b"\r\n", body.as_bytes()].concat(),
            bodiless: method == "HEAD",
        }
    }
}

impl Client for Http {
    fn ask(&mut self, nonce: u32, last: bool, request: &mut Vec<u8>) {
        hex::encode_to_slice(nonce.to_be_bytes(), &mut self.head[self.nonce_at..self.nonce_at + 8])
            .expect("two digits per byte");
        request.extend_from_slice(&self.head);
        if last {
            request.extend_from_slice(self.last);
        }
        request.extend_from_slice(&self.rest);
    }

    fn take(&self, reading: &mut Reading, fresh: &[u8]) -> Reply {
        reading.http.feed(fresh, self.bodiless)
    }

    fn end(&self, reading: &Reading) -> Reply {
        reading.http.end()
    }

    fn may_ignore(&self, unasked: &[u8]) -> bool {
        // RFC 9112, section 9.2.
        unasked.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str) -> HttpRequest {
        HttpRequest {
            method: method.to_owned(),
            path: "/x".to_owned(),
            host: None,
            headers: Vec::new(),
            body: String::new(),
        }
    }

    fn client(method: &str) -> Http {
        Http::new(&request(method), "h", false)
    }

    fn asked(client: &mut Http, nonce: u32, last: bool) -> String {
        let mut bytes = Vec::new();
        client.ask(nonce, last, &mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_nonce_is_in_the_request_and_close_in_the_last() {
        let mut client = Http::new(&request("GET"), "127.0.0.1:80", true);
        let plain = "GET /x HTTP/1.1\r\nHost: 127.0.0.1:80\r\nUser-Agent: listenbench\r\nX-Nonce: ";
        assert_eq!(asked(&mut client, 0xdead_beef, false), format!("{plain}deadbeef\r\n\r\n"));
        assert_eq!(asked(&mut client, 1, true), format!("{plain}00000001\r\nConnection: close\r\n\r\n"));
    }

    #[test]
    fn a_request_is_what_the_scenario_says() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let custom = HttpRequest {
            host: Some("www.example".to_owned()),
            headers: vec![header("user-agent", "mine"), header("X-Empty", "")],
            body: "a=1\n".to_owned(),
            ..request("POST")
        };
        assert_eq!(
            asked(&mut Http::new(&custom, "h", true), 2, true),
            "POST /x HTTP/1.1\r\nHost: www.example\r\nuser-agent: mine\r\nX-Empty: \r\nContent-Length: 4\r\n\
             X-Nonce: 00000002\r\nConnection: close\r\n\r\na=1\n"
        );
        for (method, body, length) in [
            ("GET", "", None),
            ("HEAD", "", None),
            ("DELETE", "", None),
            ("POST", "", Some("Content-Length: 0\r\n")),
            ("PUT", "", Some("Content-Length: 0\r\n")),
            ("PATCH", "", Some("Content-Length: 0\r\n")),
            ("PUT", "hi", Some("Content-Length: 2\r\n")),
            // Bytes, not characters.
            ("GET", "ü", Some("Content-Length: 2\r\n")),
        ] {
            let text =
                asked(&mut Http::new(&HttpRequest { body: body.to_owned(), ..request(method) }, "h", false), 0, true);
            assert_eq!(length.is_some_and(|length| text.contains(length)), length.is_some(), "{text}");
            assert_eq!(text.contains("Content-Length"), length.is_some(), "{text}");
            assert!(text.ends_with(&format!("\r\n\r\n{body}")), "{text}");
        }
    }

    #[test]
    fn a_reply_to_head_ends_with_its_head() {
        let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert!(matches!(client("HEAD").take(&mut Reading::default(), reply), Reply::Whole(_)));
        assert_eq!(client("GET").take(&mut Reading::default(), reply), Reply::Partial);
    }

    #[test]
    fn only_line_breaks_are_ignored_where_nothing_was_asked() {
        let client = client("GET");
        assert!(client.may_ignore(b"\r\n\r\n") && !client.may_ignore(b"\r\nH"));
    }
}
