//! The client's side of each app: what it asks, and what it makes of the bytes that come.

mod close;
mod echo;
mod http;

use crate::{
    ipc::receipt::Receipt,
    record::Cause,
    scenario::{App, CloseBy, Scenario},
};

/// The client's side of an app.
pub trait Client {
    /// Appends a request to the empty `request`; nothing where the server speaks first. `last`: none follows on this
    /// connection.
    fn ask(&mut self, nonce: u32, last: bool, request: &mut Vec<u8>);

    /// Looks for a whole reply in `input`. `ended`: the server has closed, no more bytes will come.
    fn take(&mut self, input: &[u8], ended: bool) -> Reply;
}

/// What the input is.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// Not yet a whole reply.
    Partial,
    /// A reply of `length` bytes, with its receipt where the server gives one.
    Whole { length: usize, receipt: Option<Receipt> },
    /// No reply, or one that refuses.
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
