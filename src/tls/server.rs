//! The server's side.

use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::{ServerConfig, ServerConnection, crypto::ring::Ticketer, server::NoServerSessionStorage, version};

use super::{Identity, Session, provider};
use crate::scenario::{Scenario, UnderTest};

/// Accepts the sessions of our own server's clients. It is made before the workers are forked, so that they have the key of tickets in
/// common: each can resume a session that began at another.
#[derive(Debug, Clone)]
pub struct Server {
    config: Arc<ServerConfig>,
    identity: Arc<Identity>,
}

/// The most bytes of a session that a ticket stands for: keys, times and names. They are never more than a few hundred, as clients
/// present no certificates.
const LONGEST_TICKET_BYTES: usize = 4_096;
/// The application protocol that our server speaks.
const HTTP: &[u8] = b"http/1.1";

impl Server {
    /// What a scenario's own server presents, or a command's may: its certificate, or one made for the purpose, which also has the names that clients
    /// ask for. `None` if its app is without TLS, or the server runs already.
    pub fn of(scenario: &Scenario) -> Result<Option<Self>> {
        if !scenario.server.app.is_secured() || scenario.subject == UnderTest::Running {
            return Ok(None);
        }
        let names = || scenario.loads.iter().flat_map(|load| &load.security).filter_map(|one| one.server_name.clone());
        let identity = match &scenario.server.certificate {
            Some(files) => Identity::read(files)?,
            None => Identity::generate(scenario.address.ip(), &names().collect::<Vec<_>>())?,
        };
        Self::new(identity).map(Some)
    }

    /// A server that presents this certificate.
    pub fn new(identity: Identity) -> Result<Self> {
        let (chain, key) = identity.parts();
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .context("choosing versions of TLS")?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .with_context(|| format!("{identity}: the key does not fit the certificate, or is of an unknown kind"))?;
        config.alpn_protocols = vec![HTTP.to_vec()];
        // What a worker kept, another would not find.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Ticketer::new().context("making a key for tickets")?;
        // It reads no ticket longer than any that its process has written: a worker would refuse those of others until then.
        config.ticketer.encrypt(&[0; LONGEST_TICKET_BYTES]);
        let config = Arc::new(config);
        ServerConnection::new(Arc::clone(&config)).context("opening a TLS session")?;
        Ok(Self { config, identity: Arc::new(identity) })
    }

    /// What it presents.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// A session with a client that has connected.
    pub fn accept(&self) -> Session {
        let connection = ServerConnection::new(Arc::clone(&self.config));
        Session::new(connection.expect("a configuration from which a session was made before the load began").into())
    }
}
