//! The header of the PROXY protocol, versions 1 and 2, as HAProxy's `doc/proxy-protocol.txt` defines it: bytes before everything else
//! on a connection that name its ends, so that a server behind a proxy learns its clients' addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::receipt::Tuple;

/// Longest header of version 1, its end of line included.
pub const TEXT_LIMIT_BYTES: usize = 107;
/// Longest header of version 2 that is read: longer ones would be possible (65,551 bytes), and nginx draws the line here, too.
pub const BINARY_LIMIT_BYTES: usize = 4_096;
/// An `echo` request of this length or longer, which is a nonce and zeros, does not begin like a header, whatever its nonce.
pub const DISTINCT_BYTES: usize = 6;
/// What version 1 begins with.
const WORD: &[u8] = b"PROXY ";
/// What version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, and the length of what follows.
const FIXED_BYTES: usize = 16;

/// A version of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Version {
    /// A line of text.
    Text = 1,
    /// Binary.
    Binary = 2,
}

impl Version {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Text, Self::Binary];

    /// The version of this number, if there is one.
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.number() == number)
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// The header of all connections from one address to a server: only the client's port differs.
#[derive(Debug)]
pub struct Template {
    version: Version,
    before_port: Vec<u8>,
    after_port: Vec<u8>,
}

impl Template {
    /// The header of connections from this address to that server.
    pub fn new(version: Version, client: IpAddr, server: SocketAddr) -> Self {
        let (mut client, mut address, port) = (client.to_canonical(), server.ip().to_canonical(), server.port());
        // A header has one family.
        if client.is_ipv4() != address.is_ipv4() {
            (client, address) = (v6(client).into(), v6(address).into());
        }
        let (before_port, after_port) = match version {
            Version::Text => {
                let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
                (format!("PROXY {family} {client} {address} ").into_bytes(), format!(" {port}\r\n").into_bytes())
            }
            Version::Binary => {
                let (family, ends) = match (client, address) {
                    (IpAddr::V4(client), IpAddr::V4(address)) => (0x11, [client.octets(), address.octets()].concat()),
                    (client, address) => (0x21, [v6(client).octets(), v6(address).octets()].concat()),
                };
                let length = (ends.len() + 4) as u16;
                let fixed = [&[0x21, family][..], &length.to_be_bytes()].concat();
                ([SIGNATURE, &fixed, &ends].concat(), port.to_be_bytes().to_vec())
            }
        };
        Self { version, before_port, after_port }
    }

    /// Appends the header of the connection from a port. Neither allocates, if there is room, nor formats.
    #[inline]
    pub fn write(&self, port: u16, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.before_port);
        match self.version {
            Version::Text => {
                let mut digits = [0; 5];
                let (mut rest, mut first) = (port, digits.len());
                while rest > 0 || first == digits.len() {
                    first -= 1;
                    digits[first] = b'0' + (rest % 10) as u8;
                    rest /= 10;
                }
                out.extend_from_slice(&digits[first..]);
            }
            Version::Binary => out.extend_from_slice(&port.to_be_bytes()),
        }
        out.extend_from_slice(&self.after_port);
    }
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// A header that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Its version.
    pub version: Version,
    /// Its length in bytes.
    pub length: usize,
    /// The ends that it names; `None` if it names none (`UNKNOWN`, `LOCAL`) or not those of a TCP connection: the socket's are meant.
    pub ends: Option<Tuple>,
}

/// What a connection's first bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// They may become a header.
    Partial,
    /// They begin with a header.
    Whole(Header),
    /// They are something else.
    Absent,
    /// They begin like a header, and are none.
    Bad,
}

/// Reads the header at the head of a connection's first bytes. More bytes change nothing but `Partial`.
pub fn read(input: &[u8]) -> Read {
    let agrees = |beginning: &[u8]| input.iter().zip(beginning).all(|(byte, expected)| byte == expected);
    for (beginning, read) in [(WORD, read_text as fn(&[u8]) -> Read), (SIGNATURE, read_binary)] {
        if agrees(beginning) {
            return if input.len() < beginning.len() { Read::Partial } else { read(input) };
        }
    }
    Read::Absent
}

fn read_text(input: &[u8]) -> Read {
    let window = &input[..input.len().min(TEXT_LIMIT_BYTES)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if input.len() < TEXT_LIMIT_BYTES { Read::Partial } else { Read::Bad };
    };
    let whole = |ends| Read::Whole(Header { version: Version::Text, length: end + 2, ends });
    let line = &window[WORD.len()..end];
    // Whatever follows is to be ignored.
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return whole(None);
    }
    str::from_utf8(line).ok().and_then(ends_in_text).map_or(Read::Bad, |ends| whole(Some(ends)))
}

/// `TCP4 192.0.2.1 192.0.2.2 40000 80`.
fn ends_in_text(line: &str) -> Option<Tuple> {
    let mut words = line.split(' ');
    let family = words.next()?;
    let mut address = || -> Option<IpAddr> {
        let word = words.next()?;
        match family {
            "TCP4" => word.parse().ok().map(IpAddr::V4),
            "TCP6" => word.parse().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (client, server) = (address()?, address()?);
    let mut port = || -> Option<u16> {
        let word = words.next()?;
        let plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
        word.parse().ok().filter(|_| plain)
    };
    let (client, server) = (SocketAddr::new(client, port()?), SocketAddr::new(server, port()?));
    words.next().is_none().then_some(Tuple { client, server })
}

fn read_binary(input: &[u8]) -> Read {
    let Some(command) = input.get(SIGNATURE.len()) else { return Read::Partial };
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Read::Bad,
    };
    let Some(family) = input.get(13) else { return Read::Partial };
    // The length of the addresses: of IPv4, IPv6 and Unix sockets, by connection or datagram.
    let least = match family {
        _ if is_local => 0,
        0x00 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        _ => return Read::Bad,
    };
    let Some(length) = input.get(14..FIXED_BYTES) else { return Read::Partial };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if length < least || FIXED_BYTES + length > BINARY_LIMIT_BYTES {
        return Read::Bad;
    }
    // After the addresses come type-length-value fields, which nothing here needs.
    let Some(rest) = input.get(FIXED_BYTES..FIXED_BYTES + length) else { return Read::Partial };
    let ends = match family {
        _ if is_local => None,
        0x11 => ends_in_binary::<4>(rest, |octets| IpAddr::V4(Ipv4Addr::from(octets))),
        0x21 => ends_in_binary::<16>(rest, |octets| IpAddr::V6(Ipv6Addr::from(octets))),
        _ => None,
    };
    Read::Whole(Header { version: Version::Binary, length: FIXED_BYTES + length, ends })
}

fn ends_in_binary<const OCTETS: usize>(rest: &[u8], address: fn([u8; OCTETS]) -> IpAddr) -> Option<Tuple> {
    let (client, rest) = rest.split_first_chunk::<OCTETS>()?;
    let (server, rest) = rest.split_first_chunk::<OCTETS>()?;
    let (client_port, rest) = rest.split_first_chunk()?;
    let (server_port, _) = rest.split_first_chunk()?;
    let end = |octets: &[u8; OCTETS], port: &[u8; 2]| SocketAddr::new(address(*octets), u16::from_be_bytes(*port));
    Some(Tuple { client: end(client, client_port), server: end(server, server_port) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(client: &str, server: &str) -> Tuple {
        Tuple { client: client.parse().unwrap(), server: server.parse().unwrap() }
    }

    fn written(version: Version, ends: &Tuple) -> Vec<u8> {
        let mut out = Vec::new();
        Template::new(version, ends.client.ip(), ends.server).write(ends.client.port(), &mut out);
        out
    }

    fn whole(version: Version, length: usize, ends: Option<Tuple>) -> Read {
        Read::Whole(Header { version, length, ends })
    }

    #[test]
    fn headers_are_those_of_the_specification() {
        let v4 = tuple("192.0.2.1:56324", "192.0.2.2:443");
        assert_eq!(written(Version::Text, &v4), b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n");
        let expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\xdc\x04\x01\xbb";
        assert_eq!(written(Version::Binary, &v4), expected);
        let v6 = tuple("[2001:db8::1]:9", "[::1]:65535");
        assert_eq!(written(Version::Text, &v6), b"PROXY TCP6 2001:db8::1 ::1 9 65535\r\n");
        let binary = written(Version::Binary, &v6);
        assert_eq!((binary.len(), &binary[12..16]), (52, &b"\x21\x21\0\x24"[..]));
        let mixed = tuple("[::ffff:192.0.2.1]:5", "[::1]:443");
        assert_eq!(written(Version::Text, &mixed), b"PROXY TCP6 ::ffff:192.0.2.1 ::1 5 443\r\n");
        // An IPv4 connection of an IPv6 socket.
        let mapped = tuple("[::ffff:192.0.2.1]:56324", "[::ffff:192.0.2.2]:443");
        for version in Version::ALL {
            assert_eq!(written(version, &mapped), written(version, &v4));
        }
    }

    #[test]
    fn what_is_written_is_read_from_its_last_byte_on() {
        for ends in [
            tuple("127.0.0.1:1", "127.0.0.1:7000"),
            tuple("255.255.255.255:65535", "255.255.255.255:65535"),
            tuple("[::1]:40000", "[::1]:80"),
            tuple("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
            tuple("0.0.0.0:0", "0.0.0.0:0"),
        ] {
            for version in Version::ALL {
                let mut bytes = written(version, &ends);
                let length = bytes.len();
                assert!(version == Version::Binary || length <= TEXT_LIMIT_BYTES);
                for cut in 0..length {
                    assert_eq!(read(&bytes[..cut]), Read::Partial, "{cut} bytes of {ends:?}");
                }
                bytes.extend_from_slice(b"GET / HTTP/1.1\r\n");
                assert_eq!(read(&bytes), whole(version, length, Some(ends)));
            }
        }
    }

    #[test]
    fn a_header_without_ends_means_those_of_the_socket() {
        assert_eq!(read(b"PROXY UNKNOWN\r\nx"), whole(Version::Text, 15, None));
        let longest = b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n";
        assert_eq!(read(longest), whole(Version::Text, longest.len(), None));
        let binary = |command: u8, family: u8, rest: &[u8]| {
            [SIGNATURE, &[command, family], &(rest.len() as u16).to_be_bytes(), rest].concat()
        };
        let none = |bytes: &[u8]| whole(Version::Binary, bytes.len(), None);
        // LOCAL ignores its family; UNSPEC, datagrams and Unix sockets are not ours.
        for bytes in [
            binary(0x20, 0x00, b""),
            binary(0x20, 0xff, b"abc"),
            binary(0x21, 0x00, b"abc"),
            binary(0x21, 0x12, &[1; 12]),
            binary(0x21, 0x31, &[1; 216]),
        ] {
            assert_eq!(read(&bytes), none(&bytes), "{bytes:?}");
        }
        // Fields after the addresses are skipped.
        let fields = binary(0x21, 0x11, b"\x7f\0\0\x01\x7f\0\0\x02\0\x01\0\x02\x04\0\x01x");
        let ends = tuple("127.0.0.1:1", "127.0.0.2:2");
        assert_eq!(read(&fields), whole(Version::Binary, 32, Some(ends)));
        assert_eq!(read(&fields[..31]), Read::Partial);
        let most = binary(0x21, 0x00, &vec![0; BINARY_LIMIT_BYTES - FIXED_BYTES]);
        assert_eq!(read(&most), none(&most));
        assert_eq!(read(&binary(0x21, 0x00, &vec![0; BINARY_LIMIT_BYTES - FIXED_BYTES + 1])), Read::Bad);
    }

    #[test]
    fn a_request_of_zeros_is_distinct_whatever_its_nonce() {
        for (nonce, partial) in [(b"PROX", 4), (b"\r\n\r\n", 5)] {
            let request = [&nonce[..], &[0; DISTINCT_BYTES - 4]].concat();
            assert_eq!(read(&request[..partial]), Read::Partial);
            assert_eq!(read(&request), Read::Absent);
        }
    }

    #[test]
    fn what_is_not_a_header_is_recognised_at_once() {
        for (input, expected) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], Read::Absent),
            (b"\0\0\0\0", Read::Absent),
            (b"PROXIES", Read::Absent),
            (b"\r\n\r\nGET", Read::Absent),
            (b"proxy tcp4", Read::Absent),
            (b"", Read::Partial),
            (b"PROXY", Read::Partial),
            (b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r", Read::Partial),
            (b"PROXY \r\n", Read::Bad),
            (b"PROXY TCP5 127.0.0.1 127.0.0.1 1 2\r\n", Read::Bad),
            (b"PROXY TCP4 127.0.0.1 127.0.0.1 1\r\n", Read::Bad),
            (b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2 3\r\n", Read::Bad),
            (b"PROXY TCP4  127.0.0.1 127.0.0.1 1 2\r\n", Read::Bad),
            (b"PROXY TCP4 127.0.0.1 127.0.0.1 01 2\r\n", Read::Bad),
            (b"PROXY TCP4 127.0.0.1 127.0.0.1 +1 2\r\n", Read::Bad),
            (b"PROXY TCP4 127.0.0.1 127.0.0.1 1 65536\r\n", Read::Bad),
            (b"PROXY TCP4 127.0.0.01 127.0.0.1 1 2\r\n", Read::Bad),
            (b"PROXY TCP4 ::1 ::1 1 2\r\n", Read::Bad),
            (b"PROXY TCP6 127.0.0.1 127.0.0.1 1 2\r\n", Read::Bad),
            (b"PROXY UNKNOWNS\r\n", Read::Bad),
            (b"\r\n\r\n\0\r\nQUIT\n\x11", Read::Bad),
            (b"\r\n\r\n\0\r\nQUIT\n\x22", Read::Bad),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x41", Read::Bad),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0b", Read::Bad),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x0c", Read::Bad),
        ] {
            assert_eq!(read(input), expected, "{}", input.escape_ascii());
        }
        let long = [b"PROXY UNKNOWN ", &[b'x'; TEXT_LIMIT_BYTES][..]].concat();
        assert_eq!(read(&long[..TEXT_LIMIT_BYTES - 1]), Read::Partial);
        assert_eq!(read(&long[..TEXT_LIMIT_BYTES]), Read::Bad);
    }
}
