//! TLS, between sockets and apps: certificates, and sessions of either side, which are state machines without input or output. Bytes off
//! the wire go in, and what they say comes out; what is said goes in, and bytes for the wire come out.
//!
//! The library is rustls. A session allocates, as it must to decrypt and to keep what is not yet whole: with app `https`, so do the
//! loops of loaders and workers.

mod client;
mod identity;
mod server;
mod tickets;
mod trust;

use std::io::Read;

use rustls::{CertificateError, Connection, Error, HandshakeKind, ProtocolVersion};

pub use self::{
    client::{Client, Offer},
    identity::Identity,
    server::Server,
};
use crate::{
    record::Cause,
    scenario::{
        Scenario,
        keys::{self, AnyKey},
    },
};

/// Reads the files that a scenario names. Returns the key of one that is of no use, and why.
pub fn check(scenario: &Scenario) -> Result<(), (&'static dyn AnyKey, anyhow::Error)> {
    if scenario.server.certificate.is_some() {
        Server::of(scenario).map_err(|error| (keys::SERVER_CERTIFICATE as &dyn AnyKey, error))?;
    }
    for path in scenario.loads.iter().flat_map(|load| &load.security).filter_map(|security| security.trust.as_ref()) {
        identity::certificates(path).map_err(|error| (keys::LOAD_TRUST as &dyn AnyKey, error))?;
    }
    Ok(())
}

/// One side of a connection's TLS.
pub struct Session {
    connection: Connection,
    /// Whether the peer has said that nothing more will come.
    is_ended: bool,
}

/// How a handshake went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Secured {
    /// Whether it resumed an earlier session, and so took no certificate.
    pub resumed: bool,
    /// Whether the version agreed on is 1.3, and not 1.2.
    pub is_1_3: bool,
    /// Whether an application protocol was agreed on (ALPN).
    pub alpn: bool,
}

impl Session {
    fn new(mut connection: Connection) -> Self {
        // What is to be written is bounded by the size of requests and replies.
        connection.set_buffer_limit(None);
        Self { connection, is_ended: false }
    }

    /// Takes bytes off the wire, and appends what they say to `said`.
    pub fn take(&mut self, mut wire: &[u8], said: &mut Vec<u8>) -> Result<(), Cause> {
        while !wire.is_empty() && !self.is_ended {
            // Reading from memory fails only where the session's own buffer is full of what is no handshake.
            let length = self.connection.read_tls(&mut wire).map_err(|_| Cause::NotTls)?;
            let state = self.connection.process_new_packets().map_err(|error| cause(&error))?;
            self.is_ended = state.peer_has_closed() || length == 0;
            let (at, more) = (said.len(), state.plaintext_bytes_to_read());
            said.resize(at + more, 0);
            self.connection.reader().read_exact(&mut said[at..]).map_err(|_| Cause::NotTls)?;
        }
        Ok(())
    }

    /// Says something, once the handshake is over.
    pub fn say(&mut self, mut what: &[u8]) {
        while !what.is_empty() {
            // The session's buffer has no limit.
            let length = std::io::Write::write(&mut self.connection.writer(), what).unwrap_or(what.len());
            what = &what[length..];
        }
    }

    /// Appends what is to go out on the wire.
    pub fn give(&mut self, wire: &mut Vec<u8>) {
        while self.connection.wants_write() && self.connection.write_tls(wire).is_ok() {}
    }

    /// Says that nothing more will be said (close_notify).
    pub fn end(&mut self) {
        self.connection.send_close_notify();
    }

    /// Whether the peer has said that nothing more will come. If a connection ends without, what it said may have been cut.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// How the handshake went, once it is over.
    pub fn secured(&self) -> Option<Secured> {
        (!self.connection.is_handshaking()).then(|| Secured {
            resumed: self.connection.handshake_kind() == Some(HandshakeKind::Resumed),
            is_1_3: self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_3),
            alpn: self.connection.alpn_protocol().is_some(),
        })
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("is_ended", &self.is_ended).finish_non_exhaustive()
    }
}

/// The cryptography that both sides use.
fn provider() -> std::sync::Arc<rustls::crypto::CryptoProvider> {
    std::sync::Arc::new(rustls::crypto::ring::default_provider())
}

/// Why TLS fails, in the words of records.
fn cause(error: &Error) -> Cause {
    use CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext,
        UnknownIssuer,
    };
    match error {
        Error::InvalidCertificate(UnknownIssuer) => Cause::Untrusted,
        Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => Cause::Misnamed,
        Error::InvalidCertificate(Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }) => {
            Cause::Expired
        }
        Error::InvalidCertificate(_) | Error::NoCertificatesPresented => Cause::BadCertificate,
        Error::AlertReceived(_) => Cause::Alert,
        Error::NoApplicationProtocol | Error::PeerIncompatible(_) => Cause::NoCommonTls,
        _ => Cause::NotTls,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::scenario::{Security, TlsVersion};

    const LOCALHOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn security() -> Security {
        Security {
            version: TlsVersion::Any,
            resumption: 0.0,
            verify: true,
            trust: None,
            server_name: None,
            alpn: Some("http/1.1".to_owned()),
        }
    }

    /// Moves bytes between two sessions until neither has more. Returns what each has heard.
    fn exchange(client: &mut Session, server: &mut Session) -> Result<[Vec<u8>; 2], (Cause, Cause)> {
        let (mut at_client, mut at_server) = (Vec::new(), Vec::new());
        loop {
            let mut wire = Vec::new();
            client.give(&mut wire);
            let sent = !wire.is_empty();
            // In pieces, as the network likes.
            let heard = wire.chunks(7).try_for_each(|piece| server.take(piece, &mut at_server));
            wire.clear();
            server.give(&mut wire);
            let answered = !wire.is_empty();
            let told = client.take(&wire, &mut at_client);
            if heard.is_err() || told.is_err() {
                return Err((told.err().unwrap_or(Cause::Alert), heard.err().unwrap_or(Cause::Alert)));
            }
            if !sent && !answered {
                return Ok([at_client, at_server]);
            }
        }
    }

    fn sides(security: &Security) -> (Client, Server) {
        let identity = Identity::generate(LOCALHOST, &[]).unwrap();
        let server = Server::new(identity).unwrap();
        (Client::new(security, LOCALHOST, Some(server.identity()), (1, 2)).unwrap(), server)
    }

    #[test]
    fn both_sides_agree_on_what_is_said_and_how() {
        for (version, is_1_3) in [(TlsVersion::Any, true), (TlsVersion::Tls13, true), (TlsVersion::Tls12, false)] {
            let (mut client, server) = sides(&Security { version, ..security() });
            let (mut one, mut other) = (client.open().0, server.accept());
            assert_eq!(one.secured(), None);
            exchange(&mut one, &mut other).unwrap();
            let secured = Secured { resumed: false, is_1_3, alpn: true };
            assert_eq!((one.secured(), other.secured()), (Some(secured), Some(secured)));
            let long = vec![7; 100_000];
            one.say(&long);
            other.say(b"pong");
            other.end();
            assert_eq!(exchange(&mut one, &mut other).unwrap(), [b"pong".to_vec(), long]);
            assert!(one.is_ended() && !other.is_ended());
        }
    }

    #[test]
    fn sessions_are_resumed_as_often_as_is_asked_for() {
        for version in [TlsVersion::Tls13, TlsVersion::Tls12] {
            let (mut client, server) = sides(&Security { version, resumption: 0.5, ..security() });
            let mut counts = [0; 3];
            for _ in 0..200 {
                let ((mut one, offer), mut other) = (client.open(), server.accept());
                exchange(&mut one, &mut other).unwrap();
                let (here, there) = (one.secured().unwrap(), other.secured().unwrap());
                assert_eq!((here, here.resumed), (there, offer == Offer::Made), "{version:?}");
                counts[offer as usize] += 1;
            }
            // The first may have nothing to resume; the seed decides the rest.
            let [none, made, without] = counts;
            assert!(without <= 1 && (70..=130).contains(&made) && (70..=130).contains(&none), "{counts:?}");
        }
    }

    #[test]
    fn a_certificate_must_be_trusted_and_name_the_server() {
        let identity = Identity::generate(LOCALHOST, &["www.example".to_owned()]).unwrap();
        let server = Server::new(identity).unwrap();
        let identity = server.identity();
        let found = |security: &Security, ip: IpAddr, trusted: &Identity| {
            let mut client = Client::new(security, ip, Some(trusted), (0, 0)).unwrap();
            exchange(&mut client.open().0, &mut server.accept()).map(drop).map_err(|(client, _)| client)
        };
        let elsewhere: IpAddr = "127.0.0.9".parse().unwrap();
        assert_eq!(found(&security(), LOCALHOST, identity), Ok(()));
        assert_eq!(found(&security(), elsewhere, identity), Err(Cause::Misnamed));
        let named = |name: &str| Security { server_name: Some(name.to_owned()), ..security() };
        assert_eq!(found(&named("www.example"), elsewhere, identity), Ok(()));
        assert_eq!(found(&named("example"), LOCALHOST, identity), Err(Cause::Misnamed));
        let another = Identity::generate(LOCALHOST, &[]).unwrap();
        assert!(matches!(found(&security(), LOCALHOST, &another), Err(Cause::Untrusted | Cause::BadCertificate)));
        let careless = Security { verify: false, ..security() };
        assert_eq!(found(&careless, elsewhere, &another), Ok(()));
    }

    #[test]
    fn what_is_not_tls_is_refused_on_either_side() {
        let (mut client, server) = sides(&security());
        let mut said = Vec::new();
        assert_eq!(client.open().0.take(b"HTTP/1.1 400 Bad Request\r\n\r\n", &mut said), Err(Cause::NotTls));
        assert_eq!(server.accept().take(b"GET / HTTP/1.1\r\n\r\n", &mut said), Err(Cause::NotTls));
        assert!(said.is_empty());
        // A protocol that our server does not speak.
        let (mut other, server) = sides(&Security { alpn: Some("acme-tls/1".to_owned()), ..security() });
        let (mut one, mut two) = (other.open().0, server.accept());
        assert_eq!(exchange(&mut one, &mut two).err(), Some((Cause::Alert, Cause::NoCommonTls)));
    }
}
