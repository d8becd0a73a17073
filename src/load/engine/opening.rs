//! From the socket to the first request, for every engine.
//!
//! On loopback, and wherever else the handshake is over when connect(2) returns, the first request goes out at once: there is
//! no event to wait for, and the worker that accepts finds it there.

use std::io;

use socket2::{SockRef, Socket};

use crate::{
    load::{connection::Stream, exchange::Progress, work::Work},
    record::{Cause, Step},
    scenario::{App, Transport},
    sys::{clock, socket},
};

/// Begins a connection, or flow, that the schedule wanted at `intended_ns`, under a key: on the socket that an earlier one has
/// left, or on a new one, of which the engine makes a stream.
pub(super) fn begin(
    work: &mut Work,
    key: usize,
    transport: Transport,
    intended_ns: u64,
    left: Option<Stream>,
    stream_of: impl Fn(Socket) -> Stream,
) -> Begun {
    let try_begin = || -> Result<Begun, (Step, io::Error)> {
        let recycled = left.is_some();
        work.report.recycled += u64::from(recycled);
        let stream = left.map_or_else(|| work.socket(transport).map(&stream_of), Ok);
        // The socket is there, or is known not to be: what follows is the connect.
        let attempt = work.connects(transport, intended_ns);
        let stream = stream.map_err(|error| (Step::Socket, error))?;
        let (stream, begun) = match work.connect(&SockRef::from(&stream), &attempt)? {
            Some(another) => (stream_of(another), Begun::Fresh),
            None => (stream, if recycled { Begun::Recycled } else { Begun::Fresh }),
        };
        let client = stream.local_addr().map_err(|error| (Step::Connect, error))?;
        work.begin(key, &attempt, client, stream);
        Ok(begun)
    };
    try_begin().unwrap_or_else(|(step, error)| {
        work.connections.release(key);
        work.failed_to_start(step, &error);
        Begun::Not
    })
}

/// What became of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    /// There is no connection: that is counted, and the key is free again.
    Not,
    /// On a new socket.
    Fresh,
    /// On the socket that was left.
    Recycled,
}

/// Sends the first request of a connection that has just begun, if the kernel takes it: then it is established. Otherwise it
/// waits for [`connecting`].
pub(super) fn ask_early(work: &mut Work, key: usize) -> Progress {
    let server = &work.loader.context.scenario.server;
    // With TCP_FASTOPEN the kernel takes bytes that it will only send with the SYN.
    if server.app == App::Close || server.listen.fastopen > 0 {
        return Progress::Goes;
    }
    let now_ns = clock::monotonic_ns();
    let progress = work.ask(key);
    let connection = &mut work.connections[key];
    connection.asked_early = true;
    match progress {
        Progress::Goes if connection.unsent().len() < work.request.len() => work.established(key, now_ns),
        // Established and then reset, which is for the exchange to judge.
        Progress::Failed(_, reset @ Cause::Errno(libc::ECONNRESET)) => {
            work.established(key, now_ns);
            return work.server_ended(key, reset, now_ns);
        }
        Progress::Failed(_, cause) => return Progress::Failed(Step::Connect, cause),
        Progress::Goes | Progress::Completed => {}
    }
    progress
}

/// Something happened on a connection that was not established when the loader last looked.
pub(super) fn connecting(work: &mut Work, key: usize, now_ns: u64) -> Progress {
    let connection = &mut work.connections[key];
    let reset = match SockRef::from(&connection.stream).take_error() {
        // A reset in place of a refusal: the connection was established and then reset, which is for the exchange to
        // judge.
        Ok(Some(error)) if error.raw_os_error() != Some(libc::ECONNRESET) => {
            return Progress::Failed(Step::Connect, Cause::from(&error));
        }
        Err(error) => return Progress::Failed(Step::Connect, Cause::from(&error)),
        Ok(reset) => reset.is_some(),
    };
    // With TCP_FASTOPEN_CONNECT, a socket that knows the server's cookie is writable at once, and its SYN goes out
    // with the first bytes written.
    let fastopen = work.loader.context.scenario.server.listen.fastopen > 0;
    if fastopen && !reset && socket::is_connecting(&connection.stream).unwrap_or(false) {
        let asked = std::mem::replace(&mut connection.asked_early, true);
        return if asked { Progress::Goes } else { work.ask(key) };
    }
    work.established(key, now_ns);
    if reset {
        return work.server_ended(key, Cause::Errno(libc::ECONNRESET), now_ns);
    }
    let connection = &mut work.connections[key];
    if !connection.asked_early {
        return work.ask(key);
    }
    // What the kernel did not take before.
    work.transmit_rest(key)
}
