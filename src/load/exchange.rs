//! What a loader does with a connection's events: from established over requests and replies to the close.

use std::io::ErrorKind;

use mio::event::Event;

use super::{
    client::Reply,
    connection::{Connection, Phase, Stream},
    loader::{FIRST_CONNECTION, Loop, SCRATCH_BYTES},
    measures::Latency,
    stages::{self, Instants},
};
use crate::{
    ipc::{
        control::{LoaderCount, LoaderKept},
        ledger::Entry,
        receipt::Receipt,
        tally::{Cause, Step},
    },
    scenario::{App, CloseBy, CloseHow, Protocol},
    sys::{clock, socket},
};

/// Whether a connection goes on or has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Goes,
    Completed,
    Failed(Step, Cause),
}

impl Loop {
    /// Something happened on a connection.
    pub(super) fn follow(&mut self, event: &Event) {
        let key = event.token().0 - FIRST_CONNECTION;
        // It may have ended in this round already.
        if !self.connections.contains(key) {
            return;
        }
        let now_ns = clock::monotonic_ns();
        let progress = self.advance(key, event, now_ns);
        if progress != Progress::Goes {
            self.end(key, progress, now_ns);
        }
    }

    fn advance(&mut self, key: usize, event: &Event, now_ns: u64) -> Progress {
        let connection = &mut self.connections[key];
        if connection.phase == Phase::Connecting {
            let progress = self.connecting(key, now_ns);
            // A server that closes at once may be in the same event as the establishment, and then no other comes.
            if progress != Progress::Goes || self.connections[key].phase == Phase::Connecting || !event.is_readable() {
                return progress;
            }
        } else if !connection.unsent.is_empty() {
            let unsent = std::mem::take(&mut connection.unsent);
            let progress = transmit(connection, &unsent);
            if progress != Progress::Goes || !self.connections[key].unsent.is_empty() {
                return progress;
            }
        }
        self.receive(key, event.is_read_closed(), now_ns)
    }

    /// A connection that was not established when the loader last looked.
    fn connecting(&mut self, key: usize, now_ns: u64) -> Progress {
        let connection = &mut self.connections[key];
        let Stream::Tcp(stream) = &connection.stream else { return Progress::Goes };
        let reset = match stream.take_error() {
            // A reset in place of a refusal: the connection was established and then reset, which is for the exchange to
            // judge.
            Ok(Some(error)) if error.kind() != ErrorKind::ConnectionReset => {
                return Progress::Failed(Step::Connect, Cause::from(&error));
            }
            Err(error) => return Progress::Failed(Step::Connect, Cause::from(&error)),
            Ok(reset) => reset.is_some(),
        };
        // With TCP_FASTOPEN_CONNECT, a socket that knows the server's cookie is writable at once, and its SYN goes out
        // with the first bytes written.
        let fastopen = self.loader.scenario.server.listen.fastopen > 0;
        if fastopen && !reset && socket::is_connecting(stream).unwrap_or(false) {
            let asked = std::mem::replace(&mut connection.asked_early, true);
            return if asked { Progress::Goes } else { self.ask(key) };
        }
        self.established(key, now_ns);
        if reset {
            return self.server_ended(key, Cause::Errno(libc::ECONNRESET), now_ns);
        }
        if self.connections[key].asked_early { Progress::Goes } else { self.ask(key) }
    }

    /// A flow has nothing to wait for before its first request.
    pub(super) fn begin_flow(&mut self, key: usize, now_ns: u64) {
        self.report.flows.begun += 1;
        self.connections[key].phase = Phase::Exchanging;
        let progress = self.ask(key);
        if progress != Progress::Goes {
            self.end(key, progress, now_ns);
        }
    }

    pub(super) fn established(&mut self, key: usize, now_ns: u64) {
        let connection = &mut self.connections[key];
        connection.phase = Phase::Exchanging;
        connection.waiting_since_ns = now_ns;
        self.report.established += 1;
        self.loader.control.add_loader(self.loader.part.loader, LoaderCount::Established);
        if let Some(ledger) = &self.loader.ledger {
            ledger.established(connection.tuple.client);
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
            return transmit(connection, &self.request);
        }
        match connection.stream.write(&self.request) {
            Ok(_) => {
                self.report.flows.sent += 1;
                self.loader.control.add_loader(self.loader.part.loader, LoaderCount::Sent);
                Progress::Goes
            }
            // A datagram that the kernel does not take is lost: it is not for the loader to try again.
            Err(error) => Progress::Failed(Step::Send, Cause::from(&error)),
        }
    }

    /// Reads what has come. `ended`: the event says that the server has closed, so the end is there to be read.
    fn receive(&mut self, key: usize, ended: bool, now_ns: u64) -> Progress {
        loop {
            let connection = &mut self.connections[key];
            let length = match connection.stream.read(&mut self.scratch) {
                Ok(0) => return self.server_ended(key, Cause::EndOfFile, now_ns),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Goes,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return self.server_ended(key, Cause::from(&error), now_ns),
            };
            let progress = self.take(key, length, now_ns);
            // A read that did not fill the buffer emptied the socket; what comes later makes an event of its own. The
            // server's close that came with the data does not, and of datagrams there may be more.
            if progress != Progress::Goes
                || (length < SCRATCH_BYTES && !ended && !self.connections[key].stream.is_udp())
            {
                return progress;
            }
        }
    }

    /// Judges `length` new bytes in the scratch buffer.
    fn take(&mut self, key: usize, length: usize, now_ns: u64) -> Progress {
        let connection = &mut self.connections[key];
        if connection.phase != Phase::Exchanging {
            return Progress::Failed(Step::Close, Cause::BadReply);
        }
        let fresh = &self.scratch[..length];
        let reply = if connection.input.is_empty() {
            let reply = self.client.take(fresh, false);
            if reply == Reply::Partial {
                connection.input.extend_from_slice(fresh);
            }
            reply
        } else {
            connection.input.extend_from_slice(fresh);
            self.client.take(&connection.input, false)
        };
        if let (true, Reply::Whole { receipt: Some(receipt), .. }) = (connection.stream.is_udp(), &reply)
            && receipt.is_of(&connection.tuple)
            && receipt.nonce != connection.nonce
        {
            // The late reply to an earlier flow that had this port and was given up.
            self.report.flows.stale += 1;
            connection.input.clear();
            return Progress::Goes;
        }
        match reply {
            Reply::Partial => Progress::Goes,
            Reply::Bad(cause) => Progress::Failed(Step::Receive, cause),
            Reply::Whole { length: whole, receipt } => {
                let had = if connection.input.is_empty() { length } else { connection.input.len() };
                connection.input.clear();
                // A client that has asked once is owed one reply.
                if whole != had {
                    return Progress::Failed(Step::Receive, Cause::BadReply);
                }
                self.replied(key, receipt, now_ns)
            }
        }
    }

    /// The server has closed or reset the connection: as planned, as a reply's end, or too early.
    fn server_ended(&mut self, key: usize, cause: Cause, now_ns: u64) -> Progress {
        if self.connections[key].stream.is_udp() {
            // Nobody has the port, by ICMP; or an empty datagram, which is no reply.
            let cause = if cause == Cause::EndOfFile { Cause::BadReply } else { cause };
            return Progress::Failed(Step::Receive, cause);
        }
        let load = &self.loader.scenario.load;
        let reset = cause == Cause::Errno(libc::ECONNRESET);
        let as_agreed = load.close_by == CloseBy::Server && reset == (load.close_how == CloseHow::Rst);
        // A close without a word is the reply of app `close`, but only from a worker: the kernel, too, resets what it
        // aborts.
        if self.loader.scenario.server.app == App::Close && self.acceptance(key) == Acceptance::Never {
            return Progress::Failed(Step::Receive, cause);
        }
        let connection = &mut self.connections[key];
        match connection.phase {
            Phase::AwaitingClose if as_agreed => Progress::Completed,
            Phase::Exchanging if as_agreed || cause == Cause::EndOfFile => {
                let input = std::mem::take(&mut connection.input);
                match self.client.take(&input, true) {
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
        connection.waiting_since_ns = now_ns;
        if connection.requests_left > 0 {
            connection.response_from_ns = now_ns;
            connection.service_from_ns = now_ns;
            return self.ask(key);
        }
        let load = &self.loader.scenario.load;
        if load.close_by == CloseBy::Server && !connection.stream.is_udp() {
            connection.phase = Phase::AwaitingClose;
            return Progress::Goes;
        }
        if !std::mem::take(&mut connection.following_up) {
            if load.hold.is_zero() {
                return Progress::Completed;
            }
            connection.hold_until_ns = now_ns + clock::nanoseconds(load.hold);
            self.held.push_back((connection.hold_until_ns, key, connection.id));
        } else if connection.hold_until_ns <= now_ns {
            return Progress::Completed;
        }
        connection.phase = Phase::Holding;
        Progress::Goes
    }

    /// Records how long a reply took, under the name of its kind.
    fn record_response(&mut self, key: usize, now_ns: u64) {
        let connection = &self.connections[key];
        if !connection.measured {
            return;
        }
        if connection.following_up {
            self.measures.record(Latency::FollowUp, now_ns - connection.response_from_ns);
            return;
        }
        // Beside connections, flows have names of their own: a percentile over both would be of neither.
        let (response, service) = if connection.stream.is_udp() && self.loader.scenario.protocol == Protocol::Both {
            (Latency::UdpResponse, Latency::UdpService)
        } else {
            (Latency::Response, Latency::Service)
        };
        self.measures.record(response, now_ns - connection.response_from_ns);
        self.measures.record(service, now_ns - connection.service_from_ns);
    }

    /// Checks a reply's receipt and records the accept wait of the connection's first; false when it is not ours.
    fn verify(&mut self, key: usize, receipt: Option<Receipt>, now_ns: u64) -> bool {
        if self.connections[key].stream.is_udp() {
            return self.verify_datagram(key, receipt);
        }
        let connection = &mut self.connections[key];
        let first = !std::mem::replace(&mut connection.served, true);
        let measured = connection.measured;
        let (worker, wait_ns) = match receipt {
            Some(receipt) => {
                self.report.verified += 1;
                // Only this machine's clock can be compared with ours.
                if !connection.tuple.server.ip().is_loopback() && self.loader.ledger.is_none() {
                    return receipt.belongs_to(connection.nonce, &connection.tuple);
                }
                match receipt.wait_since(connection.connect_ns) {
                    Some(wait_ns) if receipt.belongs_to(connection.nonce, &connection.tuple) => {
                        (receipt.worker, wait_ns)
                    }
                    _ => return false,
                }
            }
            None if self.loader.scenario.server.app == App::Close => match self.acceptance(key) {
                Acceptance::By(entry) => (entry.worker, entry.accept_ns - self.connections[key].connect_ns),
                Acceptance::Never | Acceptance::Unknown => return true,
            },
            // Another server's reply. Ours always has a receipt, so within a trial it is not a worker's.
            None => return self.loader.ledger.is_none(),
        };
        let connection = &mut self.connections[key];
        connection.answered.by(worker);
        let accept_ns = connection.connect_ns + wait_ns;
        if first {
            self.note_stranded(key, worker, wait_ns);
            let established_ns = self.established_ns(key);
            self.judge_stamp(key, established_ns, accept_ns);
            if measured {
                self.record_stages(key, worker, established_ns, accept_ns, now_ns);
            }
        }
        if !(measured && first) {
            return true;
        }
        if self.loader.waits.bound {
            self.show(LoaderKept::AcceptWait, wait_ns);
        }
        self.measures.record_accept_wait(worker, wait_ns)
    }

    /// Counts a wait where whoever watches can see it, and whether anybody does or not: so watching costs nothing.
    #[inline]
    fn show(&self, kept: LoaderKept, wait_ns: u64) {
        self.loader.control.keep_of_loader(self.loader.part.loader, kept, wait_ns);
    }

    /// When the kernel had a connection of ours established on the server's side, where that is stamped.
    fn established_ns(&self, key: usize) -> Option<u64> {
        self.loader.stamps.as_ref()?.look(self.connections[key].tuple.client)
    }

    /// The stamp must lie between the connect call and accept's return, or something is wrong with it, or with us.
    fn judge_stamp(&mut self, key: usize, established_ns: Option<u64>, accept_ns: u64) {
        if let Some(established_ns) = established_ns {
            let possible = self.connections[key].connect_ns..=accept_ns;
            self.report.stamps_impossible += u64::from(!possible.contains(&established_ns));
        }
    }

    /// Records where the time of a first reply went, as far as worker and loader agree whose it is.
    fn record_stages(&mut self, key: usize, worker: u16, established_ns: Option<u64>, accept_ns: u64, replied_ns: u64) {
        let connection = &self.connections[key];
        let Some(ledger) = &self.loader.ledger else { return };
        let instants = Instants {
            intended_ns: connection.intended_ns,
            connect_ns: connection.connect_ns,
            established_ns,
            accept_ns,
            replied_ns,
        };
        let journey = ledger.journey(connection.tuple.client);
        let Some(lengths) = stages::lengths(&instants, &journey) else { return };
        for (stage, length_ns) in lengths {
            self.measures.record_stage(worker, stage, length_ns);
        }
        self.connections[key].staged = true;
    }

    /// Records the accept wait of a connection that had to wait for the end of a worker's fault.
    fn note_stranded(&mut self, key: usize, worker: u16, wait_ns: u64) {
        if !self.strands {
            return;
        }
        let connect_ns = self.connections[key].connect_ns;
        for (number, fault) in self.loader.scenario.faults.iter().enumerate() {
            let over_ns = self.loader.control.fault(number).over_ns;
            if fault.worker == usize::from(worker) && (connect_ns + 1..=connect_ns + wait_ns).contains(&over_ns) {
                self.measures.record_stranded(number, wait_ns);
            }
        }
    }

    /// The same for a datagram: each has waited for its own reception.
    fn verify_datagram(&mut self, key: usize, receipt: Option<Receipt>) -> bool {
        let connection = &mut self.connections[key];
        // Another server's reply.
        let Some(receipt) = receipt else { return self.loader.ledger.is_none() };
        if !receipt.belongs_to(connection.nonce, &connection.tuple) {
            return false;
        }
        self.report.verified += 1;
        self.report.flows.replies += 1;
        connection.answered.by(receipt.worker);
        if !connection.tuple.server.ip().is_loopback() && self.loader.ledger.is_none() {
            return true;
        }
        match receipt.wait_since(connection.service_from_ns) {
            Some(wait_ns) if connection.measured => {
                self.show(LoaderKept::ReceiveWait, wait_ns);
                self.measures.record_receive_wait(receipt.worker, wait_ns)
            }
            wait_ns => wait_ns.is_some(),
        }
    }

    /// What the ledger knows of the accept of a connection, for an app whose workers say nothing.
    fn acceptance(&self, key: usize) -> Acceptance {
        let connection = &self.connections[key];
        match (&self.loader.ledger, connection.tuple.client) {
            (None, _) => Acceptance::Unknown,
            (_, client) if client.port() == 0 => Acceptance::Unknown,
            (Some(ledger), client) => {
                ledger.entry(client, connection.connect_ns).map_or(Acceptance::Never, Acceptance::By)
            }
        }
    }
}

/// Who accepted a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Acceptance {
    By(Entry),
    /// Nobody has.
    Never,
    /// There is no ledger, or the connection was over before its port could be read.
    Unknown,
}

/// Sends as much as the socket takes, and keeps the rest.
fn transmit(connection: &mut Connection, mut bytes: &[u8]) -> Progress {
    while !bytes.is_empty() {
        match connection.stream.write(bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Progress::Failed(Step::Send, Cause::from(&error)),
        }
    }
    connection.unsent.extend_from_slice(bytes);
    Progress::Goes
}
