//! A server as a command line names it: `http://host:port/path`, the same with `https`, `tcp://host:port`, `host:port`, `address:port`,
//! `[v6]:port`, a port of this machine, `unix:/path` or `unix:@name`, or the same with `unixpacket`.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    str::FromStr,
};

use anyhow::{Context, Result};
use indexmap::IndexSet;

use crate::sys::unix::{self, SERVER_END, UnixAddress};

/// The port of a URL that names none.
const HTTP_PORT: u16 = 80;
/// The same with TLS.
const HTTPS_PORT: u16 = 443;
/// The most bytes of a host name (RFC 1035, section 2.3.4).
const NAME_LIMIT_BYTES: usize = 253;

/// A server as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    given: String,
    /// The machine.
    pub host: Host,
    /// Never 0, unless it is a Unix socket, which has none.
    pub port: u16,
    /// What a URL says about requests; `None` without one of HTTP.
    pub url: Option<Url>,
    /// Whether it is a URL of a connection, which leaves open what is spoken on it.
    pub is_bare: bool,
}

/// The machine of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A name for the system's resolver.
    Name(String),
    /// Only a port was given: this machine.
    ThisMachine,
    /// A Unix socket, which has no port.
    Unix(UnixAddress),
}

/// The part of a URL that goes into requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Path and query, beginning with `/`; `None` if the URL ends with its host or port.
    pub path: Option<String>,
    /// Whether its scheme asks for TLS.
    pub is_secured: bool,
}

impl Url {
    fn default_port(&self) -> u16 {
        if self.is_secured { HTTPS_PORT } else { HTTP_PORT }
    }
}

impl Target {
    /// Every address that it stands for, in the resolver's order, each once.
    ///
    /// Fails if the resolver knows none; the error names the remedy.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>> {
        let port = self.port;
        let addresses = match &self.host {
            Host::Address(address) => return Ok(vec![SocketAddr::new(*address, port)]),
            Host::Unix(_) => return Ok(vec![SERVER_END]),
            Host::ThisMachine => {
                return Ok([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
                    .map(|ip| SocketAddr::new(ip, port))
                    .into());
            }
            Host::Name(name) => (name.as_str(), port).to_socket_addrs().and_then(|addresses| {
                let distinct: IndexSet<SocketAddr> = addresses.collect();
                if distinct.is_empty() { Err(io::Error::other("no address")) } else { Ok(Vec::from_iter(distinct)) }
            }),
        };
        addresses.with_context(|| {
            format!("{self}: the system's resolver does not know this host: check the name, or give an address")
        })
    }

    /// Host and port as a Host header writes them (RFC 9110, section 7.2); `None` if only a port was given.
    pub fn authority(&self) -> Option<String> {
        let host = match &self.host {
            Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
            Host::Address(IpAddr::V4(address)) => address.to_string(),
            Host::Name(name) => name.clone(),
            Host::ThisMachine | Host::Unix(_) => return None,
        };
        let default = self.url.as_ref().is_some_and(|url| self.port == url.default_port());
        Some(if default { host } else { format!("{host}:{}", self.port) })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.given)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if unix::is_meant(text) {
            let host = Host::Unix(unix_address(text)?);
            return Ok(Self { given: text.to_owned(), host, port: 0, url: None, is_bare: false });
        }
        let (host, port, url, is_bare) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("tcp") => {
                let (host, port) = of_connection(rest)?;
                (host, port, None, true)
            }
            Some((scheme, rest)) => {
                let (host, port, url) = of_url(scheme, rest)?;
                (host, port, url, false)
            }
            None => {
                let (host, port) = endpoint(text)?;
                let port =
                    port.ok_or_else(|| format!("names no port: write `{text}:80`, or a URL such as `http://{text}/`"))?;
                (host, port, None, false)
            }
        };
        Ok(Self { given: text.to_owned(), host, port, url, is_bare })
    }
}

/// An address with its scheme.
fn unix_address(text: &str) -> Result<UnixAddress, String> {
    // A URL without an authority may have two more slashes.
    match text.replacen("://", ":", 1).parse::<UnixAddress>()? {
        address if address.contains("{dir}") => {
            Err("{dir} is the folder of a trial's own server: write the path".to_owned())
        }
        address => Ok(address),
    }
}

/// What follows `tcp://`.
fn of_connection(rest: &str) -> Result<(Host, u16), String> {
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#', '@']) {
        return Err(format!("tcp:// names a host and a port, and nothing else: `{rest}` does not"));
    }
    match endpoint(authority)? {
        (Host::ThisMachine, _) => Err("names no host: write e.g. `tcp://localhost:6379`".to_owned()),
        (_, None) => Err(format!("names no port: write e.g. `tcp://{authority}:6379`")),
        (host, Some(port)) => Ok((host, port)),
    }
}

fn of_url(scheme: &str, rest: &str) -> Result<(Host, u16, Option<Url>), String> {
    let is_secured = scheme.eq_ignore_ascii_case("https");
    if !is_secured && !scheme.eq_ignore_ascii_case("http") {
        return Err(format!("unknown scheme `{scheme}`: use http:// or https://, or tcp:// for what is not HTTP"));
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err(
            "credentials in a URL are not sent: remove what precedes `@`, and set the header `load.headers.Authorization`"
                .to_owned(),
        );
    }
    if path.contains('#') {
        return Err("a fragment is never sent to a server: remove `#` and what follows".to_owned());
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            "the path may contain only visible ASCII characters: percent-encode the others, e.g. `%20`".to_owned()
        );
    }
    let path = match path.as_bytes() {
        [] => None,
        [b'/', ..] => Some(path.to_owned()),
        _ => Some(format!("/{path}")),
    };
    // A URL may end its host with a colon and no port (RFC 3986, section 3.2.3).
    let authority = authority.strip_suffix(':').unwrap_or(authority);
    if authority.is_empty() {
        return Err("names no host: write e.g. `http://localhost:8080/`".to_owned());
    }
    // Digits alone are a host here, not a port.
    let is_number = authority.bytes().all(|byte| byte.is_ascii_digit());
    let (host, port) = if is_number { (name(authority)?, None) } else { endpoint(authority)? };
    if host == Host::ThisMachine {
        return Err("names no host: write e.g. `http://localhost:8080/`".to_owned());
    }
    let url = Url { path, is_secured };
    Ok((host, port.unwrap_or(url.default_port()), Some(url)))
}

/// `host:port`, `address:port`, `[v6]:port`, `:port` or `port`; or a host without its port.
fn endpoint(text: &str) -> Result<(Host, Option<u16>), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or("an IPv6 address lacks its `]`")?;
        if address.contains('%') {
            return Err("an address with a zone (`%`) exists on one link only: use another of the server's addresses"
                .to_owned());
        }
        let address: Ipv6Addr = address.parse().map_err(|_| format!("`{address}` is not an IPv6 address"))?;
        let port = match rest.strip_prefix(':') {
            Some(digits) => Some(port(digits)?),
            None if rest.is_empty() => None,
            None => return Err(format!("`{rest}` follows the address: write `[{address}]:PORT`")),
        };
        return Ok((Host::Address(address.into()), port));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("an IPv6 address stands in brackets: write `[{text}]:PORT`"));
    }
    match text.rsplit_once(':') {
        Some(("" | "*", digits)) => Ok((Host::ThisMachine, Some(port(digits)?))),
        Some((host, digits)) => Ok((address_or_name(host)?, Some(port(digits)?))),
        None if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok((Host::ThisMachine, Some(port(text)?)))
        }
        None => Ok((address_or_name(text)?, None)),
    }
}

fn address_or_name(host: &str) -> Result<Host, String> {
    if let Ok(address) = host.parse::<Ipv4Addr>() { Ok(Host::Address(address.into())) } else { name(host) }
}

fn name(host: &str) -> Result<Host, String> {
    if host.is_empty() {
        return Err("names no host: write e.g. `localhost:8080`".to_owned());
    }
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if let Some(c) = host.chars().find(|c| !is_allowed(*c)) {
        return Err(format!(
            "`{}` is not allowed in a host name, which consists of letters, digits, `-`, `_` and `.` (other letters have an \
             ASCII form that begins with `xn--`)",
            c.escape_default()
        ));
    }
    if host.len() > NAME_LIMIT_BYTES {
        return Err(format!("a host name has at most {NAME_LIMIT_BYTES} characters, this one has {}", host.len()));
    }
    Ok(Host::Name(host.to_owned()))
}

fn port(digits: &str) -> Result<u16, String> {
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.parse().ok().filter(|port| all_digits && *port > 0);
    port.ok_or_else(|| format!("`{}` is not a port: ports are 1 to 65535", digits.escape_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn every_form_is_read() {
        let address = |text: &str| Host::Address(text.parse().unwrap());
        let named = |text: &str| Host::Name(text.to_owned());
        for (text, host, port, path) in [
            ("127.0.0.1:80", address("127.0.0.1"), 80, None),
            ("0.0.0.0:65535", address("0.0.0.0"), 65_535, None),
            ("[::1]:8080", address("::1"), 8_080, None),
            ("[::ffff:127.0.0.1]:8080", address("::ffff:127.0.0.1"), 8_080, None),
            ("localhost:8080", named("localhost"), 8_080, None),
            ("127.1:8080", named("127.1"), 8_080, None),
            ("my_host.example.:1", named("my_host.example."), 1, None),
            ("8080", Host::ThisMachine, 8_080, None),
            (":8080", Host::ThisMachine, 8_080, None),
            ("*:8080", Host::ThisMachine, 8_080, None),
            ("http://localhost", named("localhost"), 80, Some(None)),
            ("http://localhost:", named("localhost"), 80, Some(None)),
            ("HTTP://Example.test:81", named("Example.test"), 81, Some(None)),
            ("http://localhost/", named("localhost"), 80, Some(Some("/"))),
            ("http://127.0.0.1:8080/a/b?c=d&e=%20", address("127.0.0.1"), 8_080, Some(Some("/a/b?c=d&e=%20"))),
            ("http://[::1]/x", address("::1"), 80, Some(Some("/x"))),
            ("http://[::1]:81?q", address("::1"), 81, Some(Some("/?q"))),
            ("http://h/a:b@c://d", named("h"), 80, Some(Some("/a:b@c://d"))),
            ("https://localhost", named("localhost"), 443, Some(None)),
            ("https://localhost:8443/x", named("localhost"), 8_443, Some(Some("/x"))),
            ("http://2130706433/", named("2130706433"), 80, Some(Some("/"))),
        ] {
            let is_secured = text.starts_with("https");
            let url = path.map(|path| Url { path: path.map(str::to_owned), is_secured });
            assert_eq!(target(text), Target { given: text.to_owned(), host, port, url, is_bare: false }, "{text}");
        }
        for (text, host, port) in [
            ("tcp://localhost:6379", named("localhost"), 6_379),
            ("TCP://127.0.0.1:25/", address("127.0.0.1"), 25),
            ("tcp://[::1]:11211", address("::1"), 11_211),
        ] {
            let given = text.to_owned();
            assert_eq!(target(text), Target { given, host, port, url: None, is_bare: true }, "{text}");
        }
    }

    #[test]
    fn a_unix_socket_is_a_path_or_a_name() {
        for (text, shown) in [
            ("unix:/run/a.sock", "unix:/run/a.sock"),
            ("unix:///run/a.sock", "unix:/run/a.sock"),
            ("unix:@a", "unix:@a"),
        ] {
            let target = target(text);
            let Host::Unix(address) = &target.host else { panic!("{text}") };
            assert_eq!((address.to_string(), target.authority()), (shown.to_owned(), None));
        }
        for (text, says) in [
            ("unix:a.sock", "not an absolute path"),
            ("unix:", "names no socket"),
            ("unix:@", "names no socket"),
            ("unix:{dir}/a", "{dir} is the folder"),
            ("unix://a", "not an absolute path"),
        ] {
            let error = text.parse::<Target>().expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_remedy() {
        for (text, says) in [
            ("", "names no host"),
            ("localhost", "names no port: write `localhost:80`, or a URL such as `http://localhost/`"),
            ("127.0.0.1", "names no port: write `127.0.0.1:80`"),
            ("[::1]", "names no port: write `[::1]:80`"),
            ("0", "`0` is not a port"),
            ("localhost:0", "`0` is not a port: ports are 1 to 65535"),
            ("http://localhost:0/", "`0` is not a port"),
            ("localhost:65536", "`65536` is not a port"),
            ("localhost:+80", "`+80` is not a port"),
            ("localhost:http", "`http` is not a port"),
            ("localhost:", "`` is not a port"),
            ("::1", "an IPv6 address stands in brackets: write `[::1]:PORT`"),
            ("::1:8080", "in brackets"),
            ("[::1:80", "lacks its `]`"),
            ("[::1]80", "write `[::1]:PORT`"),
            ("[127.0.0.1]:80", "`127.0.0.1` is not an IPv6 address"),
            ("[fe80::1%eth0]:80", "zone"),
            ("a:b:80", "`:` is not allowed in a host name"),
            ("a b:80", "` ` is not allowed"),
            ("a\r\nb:80", "`\\r` is not allowed"),
            ("bücher.example:80", "xn--"),
            ("ftp://localhost/", "unknown scheme `ftp`: use http:// or https://, or tcp:// for what is not HTTP"),
            ("tcp://localhost", "names no port: write e.g. `tcp://localhost:6379`"),
            ("tcp://", "names no host"),
            ("tcp://:6379", "names no host: write e.g. `tcp://localhost:6379`"),
            ("tcp://localhost:6379/0", "names a host and a port, and nothing else"),
            ("tcp://user@localhost:6379", "names a host and a port, and nothing else"),
            ("://localhost/", "unknown scheme ``"),
            ("http://", "names no host"),
            ("http:///x", "names no host"),
            ("http://:80/", "names no host"),
            ("http://*:80/", "names no host"),
            ("http://user:secret@localhost/", "`load.headers.Authorization`"),
            ("http://localhost/#top", "fragment"),
            ("http://localhost#top", "fragment"),
            ("http://localhost/a b", "percent-encode"),
            ("http://localhost/a\r\nX: y", "percent-encode"),
            ("http://localhost/ä", "percent-encode"),
            ("http:localhost", "`localhost` is not a port"),
        ] {
            let error = text.parse::<Target>().expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(format!("{}:80", "a".repeat(253)).parse::<Target>().is_ok());
        assert!(format!("{}:80", "a".repeat(254)).parse::<Target>().is_err());
    }

    #[test]
    fn a_host_header_leaves_out_the_port_of_its_scheme() {
        for (text, expected) in [
            ("http://localhost/", Some("localhost")),
            ("http://localhost:80/", Some("localhost")),
            ("https://localhost/", Some("localhost")),
            ("https://localhost:80/", Some("localhost:80")),
            ("http://localhost:8080/", Some("localhost:8080")),
            ("http://[::1]:81/", Some("[::1]:81")),
            ("localhost:80", Some("localhost:80")),
            ("127.0.0.1:80", Some("127.0.0.1:80")),
            ("8080", None),
        ] {
            assert_eq!(target(text).authority().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn addresses_are_those_of_the_resolver_each_once() {
        let of = |text: &str| target(text).addresses().unwrap();
        assert_eq!(of("127.0.0.1:80"), ["127.0.0.1:80".parse().unwrap()]);
        assert_eq!(of("[::]:80"), ["[::]:80".parse().unwrap()]);
        assert_eq!(of("80"), ["127.0.0.1:80".parse().unwrap(), "[::1]:80".parse().unwrap()]);
        // Without a network: by the rules of inet_aton(3).
        assert_eq!(of("127.1:80"), ["127.0.0.1:80".parse().unwrap()]);
    }
}
