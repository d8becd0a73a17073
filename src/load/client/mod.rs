//! The client's side of each app: the requests it makes, and how it recognises replies.

mod close;
mod connect;
mod echo;
mod http;
mod line;

pub use self::line::EXAMPLE_BYTES;
use crate::{
    ipc::{connection_id::ConnectionId, receipt::Receipt},
    record::Cause,
    scenario::{App, CloseBy, Load, Scenario},
};

/// A protocol, from the client's side. One client serves many connections; what it has read of a single connection's reply is in a
/// [`Reading`].
pub trait Client {
    /// Appends a request to `request`, or nothing if the server speaks first. `last`: it is the last request on its
    /// connection.
    fn ask(&mut self, nonce: u32, last: bool, request: &mut Vec<u8>);

    /// Takes the next bytes of a reply, each only once.
    fn take(&self, reading: &mut Reading, fresh: &[u8]) -> Reply;

    /// The server has closed, so no more bytes will come.
    fn end(&self, reading: &Reading) -> Reply;

    /// Whether bytes that answer no request may be ignored.
    fn may_ignore(&self, _unasked: &[u8]) -> bool {
        false
    }
}

/// What has been read of a reply that is not yet whole: of one kind, as a load has one client. No reply makes it grow.
#[derive(Debug, Default)]
pub struct Reading {
    echo: echo::Progress,
    http: http::Progress,
    line: line::Progress,
}

impl Reading {
    /// The beginning of a reply that is not as the scenario expects.
    pub fn beginning(&self) -> &[u8] {
        self.line.beginning()
    }
}

/// What the bytes received so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// Not yet a whole reply.
    Partial,
    /// A whole reply.
    Whole(Whole),
    /// Not a reply.
    Bad(Cause),
}

/// A whole reply.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Whole {
    /// How many of the fresh bytes belong to it.
    pub used: usize,
    /// Its receipt, if the server gives one.
    pub receipt: Option<Receipt>,
    /// What the server calls the flow from now on, if it says so.
    pub id: Option<ConnectionId>,
    /// HTTP's status code.
    pub status: Option<u16>,
    /// Whether the server answers no further request on this connection.
    pub closes: bool,
}

/// A population's client for the scenario's app, connecting to `host` (for HTTP's Host header).
pub fn build(scenario: &Scenario, load: &Load, host: &str) -> Box<dyn Client> {
    match scenario.server.app {
        App::Close => Box::new(close::Close),
        App::Connect => Box::new(connect::Connect),
        App::Line => Box::new(line::Line(load.line.clone())),
        App::Echo { request_bytes, reply_bytes } => Box::new(echo::Echo::new(request_bytes, reply_bytes)),
        App::Http { .. } | App::Https { .. } => {
            Box::new(http::Http::new(&load.http, host, load.close_by == CloseBy::Server))
        }
    }
}

/// The bytes of a connection's first request.
pub fn first_request(scenario: &Scenario, load: &Load, host: &str) -> Vec<u8> {
    let mut request = Vec::new();
    build(scenario, load, host).ask(0, load.requests <= 1, &mut request);
    request
}
