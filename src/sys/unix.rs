//! Addresses of Unix sockets, and numbers in place of the ports that their clients do not have.
//!
//! A client of our own server binds to an abstract name that ends with a number, which accept(2) and getsockname(2) then show. Where both
//! ends of a connection are asked for, a client has that number as its port, and the server has [`SERVER_END`].

use std::{
    ffi::OsStr,
    fmt, io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::unix::ffi::OsStrExt,
    str::FromStr,
};

use socket2::SockAddr;

use super::socket::unmapped;

/// What a Unix address begins with where scenarios and command lines name one: a stream's, and that of a socket that keeps the bounds of
/// messages (SOCK_SEQPACKET).
pub const SCHEME: &str = "unix:";
pub const PACKET_SCHEME: &str = "unixpacket:";
/// The server's end of every connection.
pub const SERVER_END: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), 0));
/// The most clients that have names at once.
pub const MOST_CLIENTS: u64 = u16::MAX as u64;

/// The most bytes of a path, without the NUL byte that ends it, or of a name, without the one that it begins with (unix(7)).
const LONGEST: usize = 107;
/// What the names of our own clients begin with; the number of a process and that of the client follow, in hexadecimal digits.
const PREFIX: &[u8; 12] = b"listenbench.";
const NAME_BYTES: usize = PREFIX.len() + 8 + 1 + 4;

/// Where a server listens: a path in the file system, or a name of the network's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UnixAddress {
    has_messages: bool,
    is_name: bool,
    text: String,
    /// The text as it was given, before anything was put in place of a part of it.
    given: String,
}

impl UnixAddress {
    /// The path; `None` for a name.
    pub fn path(&self) -> Option<&str> {
        (!self.is_name).then_some(&self.text[..])
    }

    /// The name; `None` for a path.
    pub fn name(&self) -> Option<&str> {
        self.is_name.then_some(&self.text[..])
    }

    /// The same with another text in place of a part of it. Fails if the result is not an address.
    pub fn with(&self, part: &str, other: &str) -> Result<Self, String> {
        let changed = Self { text: self.text.replace(part, other), ..self.clone() };
        changed.check().map(|()| changed)
    }

    /// Whether it contains this text.
    pub fn contains(&self, part: &str) -> bool {
        self.text.contains(part)
    }

    /// Whether what is sent arrives as messages, each whole (SOCK_SEQPACKET), rather than as a stream.
    pub fn has_messages(&self) -> bool {
        self.has_messages
    }

    /// As the kernel takes it.
    pub fn sockaddr(&self) -> io::Result<SockAddr> {
        if self.is_name { SockAddr::unix(format!("\0{}", self.text)) } else { SockAddr::unix(&self.text) }
    }

    fn check(&self) -> Result<(), String> {
        let Self { is_name, text, .. } = self;
        let what = if *is_name { "a name" } else { "a path" };
        if text.is_empty() {
            return Err(format!("names no socket: write `{SCHEME}/path/of.sock` or `{SCHEME}@name`"));
        }
        if text.contains('\0') {
            return Err(format!("{what} contains no NUL byte"));
        }
        if text.len() > LONGEST {
            return Err(format!(
                "{what} of a Unix socket has at most {LONGEST} bytes, and this has {}: shorten it",
                text.len()
            ));
        }
        Ok(())
    }
}

/// Whether a text is meant to be such an address.
pub fn is_meant(text: &str) -> bool {
    text.starts_with(SCHEME) || text.starts_with(PACKET_SCHEME)
}

impl FromStr for UnixAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let of = |scheme| text.strip_prefix(scheme);
        let (scheme, rest) = match (of(SCHEME), of(PACKET_SCHEME)) {
            (Some(rest), _) => (SCHEME, rest),
            (None, Some(rest)) => (PACKET_SCHEME, rest),
            (None, None) => return Err(format!("`{text}` begins with neither `{SCHEME}` nor `{PACKET_SCHEME}`")),
        };
        let (is_name, text) = rest.strip_prefix('@').map_or((false, rest), |name| (true, name));
        let has_messages = scheme == PACKET_SCHEME;
        let address = Self { has_messages, is_name, text: text.to_owned(), given: text.to_owned() };
        address.check()?;
        if !is_name && !rest.starts_with('/') && !rest.starts_with("{dir}/") {
            return Err(format!(
                "`{rest}` is not an absolute path, which loaders and server have in common: write `{scheme}/…`, `{scheme}{{dir}}/…` for the \
                 server's own folder, or `{scheme}@name`"
            ));
        }
        Ok(address)
    }
}

impl fmt::Display for UnixAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.has_messages { PACKET_SCHEME } else { SCHEME };
        write!(f, "{scheme}{}{}", if self.is_name { "@" } else { "" }, self.given)
    }
}

/// The name of a client with this number in a process.
pub fn client_name(process: u32, number: u16) -> io::Result<SockAddr> {
    let mut name = [0; 1 + NAME_BYTES];
    name[1..=PREFIX.len()].copy_from_slice(PREFIX);
    let digits = &mut name[1 + PREFIX.len()..];
    write_hex(&mut digits[..8], process);
    digits[8] = b'.';
    write_hex(&mut digits[9..], u32::from(number));
    SockAddr::unix(OsStr::from_bytes(&name))
}

fn write_hex(digits: &mut [u8], number: u32) {
    for (place, digit) in digits.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (4 * place) & 15) as usize];
    }
}

/// The end of a connection that a socket address stands for; `None` for one of another family. A client without a name of ours has number 0.
pub fn end(address: &SockAddr) -> Option<SocketAddr> {
    if let Some(address) = address.as_socket() {
        return Some(unmapped(address));
    }
    address.is_unix().then(|| client_end(address.as_abstract_namespace().and_then(number).unwrap_or(0)))
}

/// The end of the client with this number.
pub fn client_end(number: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, number))
}

/// The number in one of our own clients' names.
fn number(name: &[u8]) -> Option<u16> {
    let digits = name.strip_prefix(PREFIX).filter(|_| name.len() == NAME_BYTES)?.get(9..)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        text.parse::<UnixAddress>().map(|address| address.to_string())
    }

    #[test]
    fn an_address_is_a_path_or_a_name() {
        for scheme in [SCHEME, PACKET_SCHEME] {
            for rest in ["/run/app.sock", "{dir}/app.sock", "@app", "@", "", "app.sock", "@a\0b"] {
                let good = ["/run/app.sock", "{dir}/app.sock", "@app"].contains(&rest);
                let text = format!("{scheme}{rest}");
                assert_eq!(read(&text).ok(), good.then_some(text.clone()), "{text}");
                assert_eq!(
                    text.parse().is_ok_and(|one: UnixAddress| one.has_messages()),
                    good && scheme == PACKET_SCHEME
                );
            }
        }
        assert!(read("unix:app.sock").unwrap_err().contains("absolute path"));
        assert!(read("unixgram:/a").unwrap_err().contains("begins with neither"));
        let longest = format!("/{}", "x".repeat(106));
        let address: UnixAddress = format!("unix:{longest}").parse().unwrap();
        assert_eq!(address.sockaddr().unwrap().as_pathname().unwrap().to_str(), Some(&longest[..]));
        assert!(read(&format!("unix:{longest}x")).unwrap_err().contains("at most 107 bytes, and this has 108"));
        let in_folder: UnixAddress = "unix:{dir}/a".parse().unwrap();
        assert_eq!(in_folder.with("{dir}", "/tmp/b").unwrap().path(), Some("/tmp/b/a"));
        assert!(in_folder.with("{dir}", &longest).is_err());
        let name: UnixAddress = "unix:@a".parse().unwrap();
        assert_eq!(name.sockaddr().unwrap().as_abstract_namespace(), Some(&b"a"[..]));
    }

    #[test]
    fn a_clients_name_has_its_number() {
        for number in [1, 0x01ab, u16::MAX] {
            let name = client_name(0x0012_d687, number).unwrap();
            assert_eq!(end(&name), Some(client_end(number)));
        }
        for stranger in ["\0", "\0listenbench.", "\0listenbench.0012d687.01abc", "\0someoneelse.0012d687.01ab", "/a"] {
            assert_eq!(end(&SockAddr::unix(stranger).unwrap()), Some(client_end(0)), "{stranger:?}");
        }
        assert_eq!(end(&SocketAddr::from(([10, 0, 0, 1], 7)).into()), Some(([10, 0, 0, 1], 7).into()));
    }

    #[test]
    fn no_client_is_the_server() {
        assert!((0..=u16::MAX).all(|number| client_end(number) != SERVER_END));
    }
}
