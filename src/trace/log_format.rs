//! The layout of an access log's lines, in the notation of nginx's `log_format`: text, and variables such as `$remote_addr`.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    net::Ipv4Addr,
};

use super::{
    access_log::{Client, Logged},
    times::{self, Time},
};

/// The layouts that are recognised, of each what lines begin with. Those that say more come first.
const KNOWN: [&str; 15] = [
    "$remote_addr:$remote_port - $remote_user [$time_local] ",
    "$remote_addr:$remote_port - $remote_user [$time_iso8601] ",
    "$remote_addr:$remote_port - $remote_user [$msec] ",
    "$remote_addr:$remote_port [$time_local] ",
    "$remote_addr:$remote_port [$time_iso8601] ",
    "$remote_addr:$remote_port [$msec] ",
    // Apache's vhost_combined, and then common and combined, which are less particular, and nginx's combined.
    "$host:$server_port $remote_addr $ident $remote_user [$time_local] ",
    "$remote_addr $ident $remote_user [$time_local] ",
    "$remote_addr $ident $remote_user [$time_iso8601] ",
    "$remote_addr $ident $remote_user [$msec] ",
    "[$msec] ",
    "[$time_iso8601] ",
    "[$time_local] ",
    "$msec ",
    "$time_iso8601 ",
];

/// A layout of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFormat {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Variable(Variable),
}

/// What a variable stands for, as far as a trace needs it. The names are nginx's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variable {
    TimeLocal,
    TimeIso8601,
    Msec,
    RequestTime,
    RemoteAddr,
    RemotePort,
    ServerPort,
    Connection,
    ConnectionRequests,
    Other,
}

impl Variable {
    fn named(name: &str) -> Self {
        match name {
            "time_local" => Self::TimeLocal,
            "time_iso8601" => Self::TimeIso8601,
            "msec" => Self::Msec,
            "request_time" => Self::RequestTime,
            "remote_addr" | "realip_remote_addr" => Self::RemoteAddr,
            "remote_port" | "realip_remote_port" => Self::RemotePort,
            "server_port" => Self::ServerPort,
            "connection" => Self::Connection,
            "connection_requests" => Self::ConnectionRequests,
            _ => Self::Other,
        }
    }

    fn is_time(self) -> bool {
        matches!(self, Self::TimeLocal | Self::TimeIso8601 | Self::Msec)
    }
}

impl LogFormat {
    /// Reads a layout. The error completes the sentence that begins with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let Some(after) = rest.strip_prefix('$') else {
                let (literal, after) = rest.split_at(rest.find('$').unwrap_or(rest.len()));
                parts.push(Part::Text(literal.as_bytes().to_vec()));
                rest = after;
                continue;
            };
            let (name, after) = match after.strip_prefix('{') {
                Some(braced) => braced.split_once('}').ok_or("has a `${` without `}`")?,
                None => after
                    .split_at(after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len())),
            };
            if name.is_empty() {
                return Err("has a `$` without the name of a variable".to_owned());
            }
            if let Some(Part::Variable(_)) = parts.last() {
                return Err(format!(
                    "has nothing between `${name}` and the variable before it, so that their values cannot be told apart"
                ));
            }
            parts.push(Part::Variable(Variable::named(name)));
            rest = after;
        }
        let has_time = parts.iter().any(|part| matches!(part, Part::Variable(variable) if variable.is_time()));
        if !has_time {
            return Err("has no time: it must contain `$msec`, `$time_iso8601` or `$time_local`".to_owned());
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// The known layout that most of these lines have, if any has one.
    pub fn recognise<'a>(lines: impl Iterator<Item = &'a [u8]> + Clone) -> Option<Self> {
        let count = |layout: &Self| lines.clone().filter(|line| layout.parse(line).is_ok()).count();
        let known = KNOWN.iter().map(|text| Self::read(text).expect("known layouts can be read"));
        let counted = known.map(|layout| (count(&layout), layout)).filter(|(count, _)| *count > 0);
        // The first of those with the most lines.
        counted.reduce(|best, other| if other.0 > best.0 { other } else { best }).map(|(_, layout)| layout)
    }

    /// What a line says. It may go on after the layout's end. The error completes the sentence that begins with the line.
    pub fn parse(&self, line: &[u8]) -> Result<Logged, &'static str> {
        const DIFFERS: &str = "does not have the log's layout";
        let mut rest = line;
        let mut time: Option<Time> = None;
        let mut logged = Logged::default();
        let (mut address, mut port) = (None, None);
        let mut parts = self.parts.iter().peekable();
        while let Some(part) = parts.next() {
            let variable = match part {
                Part::Text(text) => {
                    rest = rest.strip_prefix(&text[..]).ok_or(DIFFERS)?;
                    continue;
                }
                Part::Variable(variable) => *variable,
            };
            let length = match parts.peek() {
                Some(Part::Text(next)) => find(rest, next).ok_or(DIFFERS)?,
                // The last one ends with its word, as its value is a number or a time, or of `10/Oct/2000:13:55:36 -0700` with its second.
                _ => {
                    let mut spaces = (0..rest.len()).filter(|at| rest[*at].is_ascii_whitespace());
                    let end = spaces.nth(usize::from(variable == Variable::TimeLocal));
                    end.unwrap_or(rest.len())
                }
            };
            let value;
            (value, rest) = rest.split_at(length);
            match variable {
                Variable::TimeLocal => {
                    time = Some(times::common_log(value).ok_or("has no time like 10/Oct/2000:13:55:36 -0700")?);
                }
                Variable::TimeIso8601 => {
                    time = Some(times::iso8601(value).ok_or("has no time like 2000-10-10T13:55:36-07:00")?);
                }
                // The finer of two times counts.
                Variable::Msec => time = Some(times::seconds(value).ok_or("has no time like 971211336.123")?),
                Variable::RequestTime => logged.took_ns = request_time(value)?,
                Variable::RemoteAddr => {
                    if value.is_empty() {
                        return Err("has no client's address");
                    }
                    address = Some(value);
                }
                // Of a client on a Unix socket.
                Variable::RemotePort if value == b"-" => {}
                Variable::RemotePort => {
                    port = Some(whole(value).filter(|port| *port <= 65_535).ok_or("has no client's port")?);
                }
                Variable::ServerPort => {
                    whole(value).filter(|port| *port <= 65_535).ok_or("has no server's port")?;
                }
                Variable::Connection => {
                    logged.client = Some(Client::Serial(whole(value).ok_or("has no number of a connection")?));
                }
                Variable::ConnectionRequests => {
                    logged.ordinal = Some(whole(value).ok_or("has no number of a request")?);
                }
                Variable::Other => {}
            }
        }
        if let (Some(address), Some(port), None) = (address, port, logged.client) {
            let bare = address.strip_prefix(b"[").and_then(|address| address.strip_suffix(b"]"));
            // An IPv6 address before `:` and a port is ambiguous without brackets.
            let is_joined = self.joins_address_and_port();
            let is_plain = str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv4Addr>().is_ok());
            if is_joined && bare.is_none() && !is_plain {
                return Err("has no client's address and port like 192.0.2.1:50000 or [2001:db8::1]:50000");
            }
            logged.client = Some(Client::of_end(address, port));
        }
        logged.end = time.ok_or("has no time")?;
        Ok(logged)
    }

    fn joins_address_and_port(&self) -> bool {
        self.parts.windows(3).any(|parts| {
            let [Part::Variable(Variable::RemoteAddr), Part::Text(text), Part::Variable(Variable::RemotePort)] = parts
            else {
                return false;
            };
            text == b":"
        })
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text.trim_end())
    }
}

impl Client {
    /// The connection of a client's address and port.
    pub fn of_end(address: &[u8], port: u64) -> Self {
        let mut hasher = DefaultHasher::new();
        (address, port).hash(&mut hasher);
        Self::End(hasher.finish())
    }
}

/// Where `wanted` begins in `text`. Before a colon and a port, an address in brackets may have colons of its own.
fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    let skipped = match text {
        [b'[', ..] if wanted.starts_with(b":") => text.iter().position(|byte| *byte == b']')?,
        _ => 0,
    };
    let found = text[skipped..].windows(wanted.len()).position(|window| window == wanted)?;
    Some(skipped + found)
}

/// Nanoseconds of a `$request_time`; `None` for `-`, which nginx writes where there is none, or nothing, as it writes in JSON.
pub(super) fn request_time(value: &[u8]) -> Result<Option<i64>, &'static str> {
    if matches!(value, b"-" | b"") {
        return Ok(None);
    }
    times::seconds(value).map(|time| Some(time.ns)).ok_or("has no request time like 0.004")
}

/// A whole number.
pub(super) fn whole(text: &[u8]) -> Option<u64> {
    let is_number = text.iter().all(u8::is_ascii_digit);
    str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::SECOND_NS;

    fn recognised(line: &str) -> (String, Logged) {
        let layout = LogFormat::recognise(std::iter::once(line.as_bytes())).unwrap_or_else(|| panic!("{line}"));
        let logged = layout.parse(line.as_bytes()).unwrap();
        (layout.to_string(), logged)
    }

    #[test]
    fn usual_logs_are_recognised() {
        let rest = "\"GET / HTTP/1.1\" 200 612 \"-\" \"curl/8.5.0\"";
        for (line, layout, whole) in [
            ("192.0.2.1 - - [14/Nov/2023:22:13:20 +0000] ", "$remote_addr $ident $remote_user [$time_local]", true),
            ("2001:db8::1 - a b [14/Nov/2023:22:13:20 +0000] ", "$remote_addr $ident $remote_user [$time_local]", true),
            (
                "client.example frank - [14/Nov/2023:22:13:20 +0000] ",
                "$remote_addr $ident $remote_user [$time_local]",
                true,
            ),
            (
                "www.example:80 192.0.2.1 - - [14/Nov/2023:22:13:20 +0000] ",
                "$host:$server_port $remote_addr $ident $remote_user [$time_local]",
                true,
            ),
            ("192.0.2.1 - - [1700000000.000] ", "$remote_addr $ident $remote_user [$msec]", false),
            (
                "192.0.2.1:5000 - - [2023-11-14T22:13:20+00:00] ",
                "$remote_addr:$remote_port - $remote_user [$time_iso8601]",
                true,
            ),
            ("[2001:db8::1]:5000 [1700000000.000] ", "$remote_addr:$remote_port [$msec]", false),
            ("1700000000.000 192.0.2.1 ", "$msec", false),
            ("[1700000000.000] 192.0.2.1 ", "[$msec]", false),
            ("2023-11-14T22:13:20+00:00 192.0.2.1 ", "$time_iso8601", true),
        ] {
            let (name, logged) = recognised(&format!("{line}{rest}"));
            assert_eq!(name, layout, "{line}");
            assert_eq!(logged.end, Time { ns: 1_700_000_000 * SECOND_NS, is_whole: whole }, "{line}");
            assert_eq!(logged.client.is_some(), line.contains(":5000"), "{line}");
        }
        assert_eq!(LogFormat::recognise([&b"no time here"[..], b""].into_iter()), None);
    }

    #[test]
    fn a_layout_of_the_users_own_gives_all_that_it_names() {
        let text = "${remote_addr} $remote_port|$request|$time_local|$msec|rt=$request_time c=$connection/$connection_requests";
        let layout = LogFormat::read(text).unwrap();
        let line = "2001:db8::1 5000|GET /a b|14/Nov/2023:22:13:20 +0000|1700000000.250|rt=0.250 c=17/3 and more";
        let logged = layout.parse(line.as_bytes()).unwrap();
        assert_eq!(logged.end, Time { ns: 1_700_000_000 * SECOND_NS + 250_000_000, is_whole: false });
        assert_eq!(
            (logged.took_ns, logged.client, logged.ordinal),
            (Some(250_000_000), Some(Client::Serial(17)), Some(3))
        );
        let port = LogFormat::read("$msec $remote_addr:$remote_port").unwrap();
        let of = |line: &str| port.parse(line.as_bytes()).map(|logged| logged.client.is_some());
        assert_eq!(of("1.5 192.0.2.1:5000"), Ok(true));
        assert_eq!(of("1.5 [::1]:5000"), Ok(true));
        assert!(of("1.5 ::1:5000").is_err() && of("1.5 192.0.2.1:70000").is_err());
    }

    #[test]
    fn a_layout_may_end_with_a_time_of_two_words() {
        let layout = LogFormat::read("$remote_addr:$remote_port $time_local").unwrap();
        let of = |line: &str| {
            layout.parse(line.as_bytes()).map(|logged| (logged.end.ns / SECOND_NS, logged.client.is_some()))
        };
        for rest in ["", " \"GET /\" 200"] {
            assert_eq!(of(&format!("192.0.2.1:5000 14/Nov/2023:22:13:20 +0000{rest}")), Ok((1_700_000_000, true)));
        }
        // A client on a Unix socket has no port.
        let apart = LogFormat::read("$remote_addr $remote_port $msec").unwrap();
        assert_eq!(apart.parse(b"unix: - 1.5").map(|logged| logged.client), Ok(None));
    }

    #[test]
    fn a_layout_without_a_time_is_refused() {
        for (text, problem) in [
            ("$remote_addr", "has no time"),
            ("$msec$status", "nothing between"),
            ("${msec", "without `}`"),
            ("$msec $", "without the name"),
        ] {
            assert!(LogFormat::read(text).unwrap_err().contains(problem), "{text}");
        }
    }
}
