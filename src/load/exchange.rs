//! What a loader does on a connection's way from established over requests and replies to the close, whichever engine moves
//! the bytes.

use std::io::{self, ErrorKind};

use super::{
    client::Reply,
    connection::{Exchange, Phase, Stream},
    verify::Acceptance,
    work::Work,
};
use crate::{
    ipc::{control::LoaderCount, receipt::Receipt},
    record::{Cause, Latency, Step},
    scenario::{App, CloseBy, CloseHow, Protocol},
    sys::clock,
};

/// Whether a connection goes on or has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Goes,
    Completed,
    Failed(Step, Cause),
}

impl Work {
    /// A flow has nothing to wait for before its first request.
    pub(super) fn begin_flow(&mut self, key: usize) -> Progress {
        self.report.flows.begun += 1;
        let connect_ns = self.connections[key].connect_ns;
        self.connections.enter(key, Phase::Exchanging, connect_ns);
        self.ask(key)
    }

    pub(super) fn established(&mut self, key: usize, now_ns: u64) {
        self.connections.enter(key, Phase::Exchanging, now_ns);
        self.report.established += 1;
        self.loader.context.control.add_loader(self.loader.part.loader, LoaderCount::Established);
        let connection = &self.connections[key];
        if let Some(ledger) = &self.loader.context.ledger {
            ledger.established(self.client(connection));
        }
        if connection.measured {
            self.measures.record(Latency::Connect, now_ns - connection.connect_ns);
            self.measures.record(Latency::ConnectFromIntended, now_ns - connection.intended_ns);
        }
    }

    /// Sends the next request.
    pub(super) fn ask(&mut self, key: usize) -> Progress {
        let connection = &mut self.connections[key];
        connection.requests_left = connection.requests_left.saturating_sub(1);
        self.nonce = self.nonce.wrapping_add(1);
        connection.nonce = self.nonce;
        self.request.clear();
        self.client.ask(self.nonce, connection.requests_left == 0, &mut self.request);
        if !connection.stream.is_udp() {
            return self.transmit(key);
        }
        match connection.stream.write(&self.request) {
            Ok(_) => {
                self.report.flows.sent += 1;
                self.loader.context.control.add_loader(self.loader.part.loader, LoaderCount::Sent);
                Progress::Goes
            }
            // A datagram that the kernel does not take is lost: it is not for the loader to try again.
            Err(error) => Progress::Failed(Step::Send, Cause::from(&error)),
        }
    }

    /// Judges bytes that have come.
    pub(super) fn take(&mut self, key: usize, fresh: &[u8], now_ns: u64) -> Progress {
        let connection = &mut self.connections[key];
        if connection.phase != Phase::Exchanging {
            return Progress::Failed(Step::Close, Cause::BadReply);
        }
        let waited = !connection.input().is_empty();
        if waited {
            self.connections.buffer(key, |buffers| buffers.input.extend_from_slice(fresh));
        }
        let input = if waited { self.connections[key].input() } else { fresh };
        let (had, reply) = (input.len(), self.client.take(input, false));
        match (waited, reply == Reply::Partial) {
            (false, true) => self.connections.buffer(key, |buffers| buffers.input.extend_from_slice(fresh)),
            (true, false) => self.connections.buffer(key, |buffers| buffers.input.clear()),
            _ => {}
        }
        let connection = &self.connections[key];
        if let (true, Reply::Whole { receipt: Some(receipt), .. }) = (connection.stream.is_udp(), &reply)
            && receipt.nonce != connection.nonce
            && receipt.is_of(&self.tuple(key))
        {
            // The late reply to an earlier flow that had this port and was given up.
            self.report.flows.stale += 1;
            return Progress::Goes;
        }
        match reply {
            Reply::Partial => Progress::Goes,
            Reply::Bad(cause) => Progress::Failed(Step::Receive, cause),
            Reply::Whole { length: whole, receipt } => {
                // A client that has asked once is owed one reply.
                if whole != had {
                    return Progress::Failed(Step::Receive, Cause::BadReply);
                }
                self.replied(key, receipt, now_ns)
            }
        }
    }

    /// The server has closed or reset the connection: as planned, as a reply's end, or too early.
    pub(super) fn server_ended(&mut self, key: usize, cause: Cause, now_ns: u64) -> Progress {
        if self.connections[key].stream.is_udp() {
            // Nobody has the port, by ICMP; or an empty datagram, which is no reply.
            let cause = if cause == Cause::EndOfFile { Cause::BadReply } else { cause };
            return Progress::Failed(Step::Receive, cause);
        }
        let load = &self.loader.context.scenario.load;
        let reset = cause == Cause::Errno(libc::ECONNRESET);
        let as_agreed = load.close_by == CloseBy::Server && reset == (load.close_how == CloseHow::Rst);
        // A close without a word is the reply of app `close`, but only from a worker: the kernel, too, resets what it
        // aborts.
        if self.loader.context.scenario.server.app == App::Close && self.acceptance(key) == Acceptance::Never {
            return Progress::Failed(Step::Receive, cause);
        }
        let connection = &self.connections[key];
        match connection.phase {
            Phase::AwaitingClose if as_agreed => Progress::Completed,
            Phase::Exchanging if as_agreed || cause == Cause::EndOfFile => {
                match self.client.take(connection.input(), true) {
                    Reply::Whole { receipt, .. } => match self.replied(key, receipt, now_ns) {
                        Progress::Goes if self.connections[key].phase == Phase::Exchanging => {
                            Progress::Failed(Step::Receive, Cause::EndOfFile)
                        }
                        // The reply's end was the connection's end.
                        Progress::Goes => Progress::Completed,
                        progress => progress,
                    },
                    Reply::Bad(Cause::EndOfFile) | Reply::Partial => Progress::Failed(Step::Receive, cause),
                    Reply::Bad(cause) => Progress::Failed(Step::Receive, cause),
                }
            }
            _ => Progress::Failed(connection.step(), cause),
        }
    }

    /// A whole reply has come: checks whose it is, records it, goes on to what follows.
    fn replied(&mut self, key: usize, receipt: Option<Receipt>, now_ns: u64) -> Progress {
        self.report.replies += 1;
        if !self.verify(key, receipt, now_ns) {
            self.report.misdelivered += 1;
            return Progress::Failed(Step::Receive, Cause::BadReply);
        }
        self.record_response(key, now_ns);
        let connection = &mut self.connections[key];
        if connection.requests_left > 0 {
            connection.exchange = Exchange::Further;
            self.connections.enter(key, Phase::Exchanging, now_ns);
            return self.ask(key);
        }
        let load = &self.loader.context.scenario.load;
        if load.close_by == CloseBy::Server && !connection.stream.is_udp() {
            self.connections.enter(key, Phase::AwaitingClose, now_ns);
            return Progress::Goes;
        }
        if connection.exchange == Exchange::FollowUp {
            connection.waiting_since_ns = now_ns;
            if connection.hold_until_ns <= now_ns {
                return Progress::Completed;
            }
            // It has kept its place among those that are held.
            connection.phase = Phase::Holding;
            return Progress::Goes;
        }
        if load.hold.is_zero() {
            connection.waiting_since_ns = now_ns;
            return Progress::Completed;
        }
        connection.hold_until_ns = now_ns + clock::nanoseconds(load.hold);
        self.connections.enter(key, Phase::Holding, now_ns);
        Progress::Goes
    }

    /// Records how long a reply took, under the name of its kind.
    fn record_response(&mut self, key: usize, now_ns: u64) {
        let connection = &self.connections[key];
        if !connection.measured {
            return;
        }
        let (response_from_ns, service_from_ns) = match connection.exchange {
            Exchange::First => (connection.intended_ns, connection.connect_ns),
            Exchange::Further => (connection.waiting_since_ns, connection.waiting_since_ns),
            Exchange::FollowUp => {
                self.measures.record(Latency::FollowUp, now_ns - self.follow_up_ns);
                return;
            }
        };
        // Beside connections, flows have names of their own: a percentile over both would be of neither.
        let (response, service) =
            if connection.stream.is_udp() && self.loader.context.scenario.protocol == Protocol::Both {
                (Latency::UdpResponse, Latency::UdpService)
            } else {
                (Latency::Response, Latency::Service)
            };
        self.measures.record(response, now_ns - response_from_ns);
        self.measures.record(service, now_ns - service_from_ns);
    }

    /// Sends as much of the request as the socket takes, and keeps the rest.
    fn transmit(&mut self, key: usize) -> Progress {
        if !self.connections[key].unsent().is_empty() {
            // A server has answered before it had read everything: one after the other all the same.
            self.connections.buffer(key, |buffers| buffers.unsent.extend_from_slice(&self.request));
            return Progress::Goes;
        }
        match send(&mut self.connections[key].stream, &self.request) {
            Ok(sent) if sent == self.request.len() => Progress::Goes,
            Ok(sent) => {
                self.connections.buffer(key, |buffers| buffers.unsent.extend_from_slice(&self.request[sent..]));
                Progress::Goes
            }
            Err(error) => Progress::Failed(Step::Send, Cause::from(&error)),
        }
    }

    /// Sends as much as the socket takes of what it did not take before.
    pub(super) fn transmit_rest(&mut self, key: usize) -> Progress {
        let connection = &mut self.connections[key];
        let Some(buffers) = &connection.buffers else { return Progress::Goes };
        match send(&mut connection.stream, &buffers.unsent) {
            Ok(sent) => {
                self.connections.sent(key, sent);
                Progress::Goes
            }
            Err(error) => Progress::Failed(Step::Send, Cause::from(&error)),
        }
    }
}

/// Sends as much as the socket takes. Returns how many bytes that was.
fn send(stream: &mut Stream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(length) => sent += length,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}
