//! The client's side.

use std::{net::IpAddr, sync::Arc};

use anyhow::{Context, Result, anyhow};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustls::{ClientConfig, ClientConnection, client::Resumption, pki_types::ServerName, version};

use super::{
    Identity, Session, provider,
    tickets::{Store, Tickets},
    trust,
};
use crate::scenario::{Security, TlsVersion};

/// Opens the sessions of a loader.
pub struct Client {
    name: ServerName<'static>,
    /// For a full handshake.
    full: Arc<ClientConfig>,
    /// For one that resumes a session if it can.
    resuming: Arc<ClientConfig>,
    tickets: Arc<Tickets>,
    share: f64,
    draws: ChaCha8Rng,
}

/// Whether a session began with the offer to resume an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It was to be a new one.
    None,
    /// A ticket was offered.
    Made,
    /// There was no ticket to offer.
    Impossible,
}

impl Client {
    /// A client of the server at this address, which presents `identity` if it is a trial's own. The numbers are a seed, and the stream of it
    /// that decides which sessions are resumed.
    pub fn new(
        security: &Security,
        address: IpAddr,
        identity: Option<&Identity>,
        (seed, stream): (u64, u64),
    ) -> Result<Self> {
        let name = match &security.server_name {
            Some(name) => ServerName::try_from(name.clone()).map_err(|_| anyhow!("`{name}` is not a server's name"))?,
            None => ServerName::from(address.to_canonical()),
        };
        let versions = match security.version {
            TlsVersion::Any => &[&version::TLS13, &version::TLS12][..],
            TlsVersion::Tls13 => &[&version::TLS13],
            TlsVersion::Tls12 => &[&version::TLS12],
        };
        let mut full = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .context("choosing versions of TLS")?
            .dangerous()
            .with_custom_certificate_verifier(trust::verifier(security, identity)?)
            .with_no_client_auth();
        full.alpn_protocols = security.alpn.iter().map(|name| name.clone().into_bytes()).collect();
        let tickets = Arc::new(Tickets::default());
        let store = |offers| Resumption::store(Arc::new(Store { tickets: Arc::clone(&tickets), offers }));
        // A session can be resumed only with the verifier that accepted its certificate, so they share it.
        let mut resuming = full.clone();
        resuming.resumption = store(true);
        full.resumption = store(false);
        let mut draws = ChaCha8Rng::seed_from_u64(seed);
        draws.set_stream(stream);
        Ok(Self {
            name,
            full: Arc::new(full),
            resuming: Arc::new(resuming),
            tickets,
            share: security.resumption,
            draws,
        })
    }

    /// Opens a session, and draws whether it is to resume an earlier one.
    pub fn open(&mut self) -> (Session, Offer) {
        let resumes = self.share > 0.0 && self.draws.random::<f64>() < self.share;
        let config = if resumes { &self.resuming } else { &self.full };
        let before = self.tickets.taken();
        let connection = ClientConnection::new(Arc::clone(config), self.name.clone())
            .expect("a configuration from which a session was made before the load began");
        let offer = match (resumes, self.tickets.taken() > before) {
            (false, _) => Offer::None,
            (true, true) => Offer::Made,
            (true, false) => Offer::Impossible,
        };
        (Session::new(connection.into()), offer)
    }

    /// Makes a session and forgets it, so that what cannot work fails before the load begins.
    pub fn rehearse(&self) -> Result<()> {
        ClientConnection::new(Arc::clone(&self.full), self.name.clone()).context("opening a TLS session").map(drop)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("name", &self.name).field("share", &self.share).finish_non_exhaustive()
    }
}
