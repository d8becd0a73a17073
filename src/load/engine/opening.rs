//! From connect(2) to the first request, for every engine.
//!
//! On loopback, and wherever else the handshake is over when connect(2) returns, the first request goes out at once: there is
//! no event to wait for, and the worker that accepts finds it there.

use socket2::SockRef;

use crate::{
    ipc::tally::{Cause, Step},
    load::{exchange::Progress, work::Work},
    scenario::App,
    sys::{clock, socket},
};

/// Sends the first request of a connection that has just begun, if the kernel takes it: then it is established. Otherwise it
/// waits for [`connecting`].
pub(super) fn ask_early(work: &mut Work, key: usize) -> Progress {
    let server = &work.loader.scenario.server;
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
    if connection.stream.is_udp() {
        return Progress::Goes;
    }
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
    let fastopen = work.loader.scenario.server.listen.fastopen > 0;
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
