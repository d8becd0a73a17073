//! The client's side of each app: the requests it makes, and how it recognises replies.

mod close;
mod echo;
mod http;

use crate::{
    ipc::receipt::Receipt,
    record::Cause,
    scenario::{App, CloseBy, Scenario},
};

/// A protocol, from the client's side. One client serves many connections; the state of a single connection belongs in its session.
pub trait Client {
    /// Appends a request to the empty `request`, or nothing if the server speaks first. `last`: it is the last request on its
    /// connection.
    fn ask(&mut self, nonce: u32, last: bool, request: &mut Vec<u8>);

    /// Looks for a whole reply in `input`. `ended`: the server has closed, so no more bytes will come.
    fn take(&mut self, input: &[u8], ended: bool) -> Reply;
}

/// What the bytes received so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// Not yet a whole reply.
    Partial,
    /// A reply of `length` bytes, with its receipt where the server gives one.
    Whole { length: usize, receipt: Option<Receipt> },
    /// Not a reply, or one that refuses the request.
    Bad(Cause),
}

/// The client for a scenario's app, connecting to `host` (for HTTP's Host header).
pub fn build(scenario: &Scenario, host: &str) -> Box<dyn Client> {
    match scenario.server.app {
        App::Close => Box::new(close::Close),
        App::Echo { request_bytes, reply_bytes } => Box::new(echo::Echo::new(request_bytes, reply_bytes)),
        App::Http { .. } => {
            Box::new(http::Http::new(&scenario.load.path, host, scenario.load.close_by == CloseBy::Server))
        }
    }
}

/// The bytes of a connection's first request.
pub fn first_request(scenario: &Scenario, host: &str) -> Vec<u8> {
    let mut request = Vec::new();
    build(scenario, host).ask(0, scenario.load.requests <= 1, &mut request);
    request
}
