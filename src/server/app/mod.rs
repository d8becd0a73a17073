//! What workers serve. A protocol finds requests in bytes and turns them into bytes of replies; the application around it burns the
//! service time, keeps what has not arrived whole, and decides who closes. What moves the bytes is the worker's.

mod connect;
mod echo;
mod http;

use std::{io, net::SocketAddr, sync::Arc};

use mio::{Interest, net::TcpStream};

use super::service::Service;
use crate::{
    ipc::{
        connection_id::ConnectionId,
        interner::Interner,
        ledger::Ledger,
        proxy_header::{self, Read as HeaderRead},
        receipt::{End, Told, Tuple},
    },
    record::Cause,
    scenario::{App, CloseBy, CloseHow, Headers, Scenario},
    sys::clock,
    tls::{self, Secured},
};

/// Most bytes of a reply: what follows its head is at most 64 KiB.
const REPLY_BYTES: usize = 65_536 + 1_024;

/// Finds requests and writes replies.
pub trait Protocol {
    /// Looks at the beginning of `input`; if it is a whole request, writes the reply to the empty `reply`. `last`: the
    /// worker closes the connection after this request.
    fn take(&mut self, input: &[u8], caller: &Caller, last: bool, reply: &mut Vec<u8>) -> Take;
}

/// What the input begins with.
#[derive(Debug, PartialEq, Eq)]
pub enum Take {
    /// Not yet a whole request.
    Partial,
    /// A request of `length` bytes. `close`: the protocol requires the connection to be closed after the reply.
    Request { length: usize, close: bool },
    /// Nothing that is ever answered, and all of it is dropped.
    Ignored,
    /// Not a request: what is in `reply` is sent, and the connection closed.
    Bad,
}

/// The protocol of an app; `None` for app `close`.
pub fn protocol(app: App) -> Option<Box<dyn Protocol>> {
    match app {
        App::Close => None,
        App::Connect => Some(Box::new(connect::Connect)),
        App::Line => unreachable!("a scenario with our own server cannot have app `line`"),
        App::Echo { request_bytes, reply_bytes } => Some(Box::new(echo::Echo { request_bytes, reply_bytes })),
        App::Http { body_bytes } | App::Https { body_bytes } => Some(Box::new(http::Http::new(body_bytes))),
    }
}

/// The connection that a reply goes to.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// Number of the worker that accepted the connection.
    pub worker: u16,
    /// When the worker had the connection, or received the datagram, in nanoseconds of CLOCK_MONOTONIC.
    pub accept_ns: u64,
    /// The connection's ends as the worker sees them, or a PROXY protocol header names them.
    pub tuple: Tuple,
    /// Where the worker has them from.
    pub told: Told,
    /// What the worker calls a flow of datagrams, if its client has given it an id.
    pub id: Option<ConnectionId>,
}

impl Caller {
    /// The connection's ends, as a receipt states them.
    fn ends(&self) -> (&Tuple, Told) {
        (&self.tuple, self.told)
    }
}

/// A connection that the worker has just got.
#[derive(Debug)]
pub struct Arrival {
    pub stream: TcpStream,
    /// The connection's ends as the worker sees them.
    pub tuple: Tuple,
    /// When the worker had it, in nanoseconds of CLOCK_MONOTONIC.
    pub accept_ns: u64,
}

/// A connection that a worker serves. A worker may hold tens of thousands of idle ones, so it is kept small.
#[derive(Debug)]
pub struct Connection {
    pub stream: TcpStream,
    /// What the worker's epoll instance watches it for; `None` if it is not registered.
    pub watched: Option<Interest>,
    closing: bool,
    opening: Opening,
    /// The number of its server end among those that the application knows.
    server: u16,
    client: End,
    accept_ns: u64,
    /// Requests answered, as far as that can matter: no worker closes after more than this can count.
    served: u32,
    /// What it must keep, if anything.
    buffers: Option<Box<Buffers>>,
}

/// What a connection must keep, because a request has not arrived whole or a reply is stuck.
#[derive(Debug, Default)]
struct Buffers {
    /// When the first byte was read, of a connection that has not been answered yet; 0 if none was.
    read_ns: u64,
    /// Input that is not yet a whole request.
    input: Vec<u8>,
    /// The rest of a reply that the socket has not taken, where the worker writes it itself.
    unsent: Vec<u8>,
    /// The ends of the connection that a proxy passes on over this one.
    passed_on: Option<Tuple>,
    /// Its TLS, if it has any.
    tls: Option<tls::Session>,
    /// Whether the handshake is over.
    is_secured: bool,
}

/// Whether a connection may still begin with a PROXY protocol header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    /// It has begun without, or with one that told this.
    Over(Told),
    /// A header may come first.
    Open,
    /// A header must come first.
    Due,
}

impl Connection {
    /// What it waits for. Writability matters only while a reply is stuck: watching for it always would cause a useless event with
    /// every registration.
    pub fn awaits(&self) -> Interest {
        if self.has_unsent() { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
    }

    /// Whether any request has been answered.
    pub fn is_served(&self) -> bool {
        self.served > 0
    }

    /// Whether it is to be closed once what was said has gone out.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Bytes that the socket did not take, for [`Self::keep_unsent`] to add to.
    pub fn take_unsent(&mut self) -> Vec<u8> {
        self.buffers.as_mut().map(|buffers| std::mem::take(&mut buffers.unsent)).unwrap_or_default()
    }

    /// Keeps bytes that the socket did not take.
    pub fn keep_unsent(&mut self, bytes: &[u8]) {
        self.buffers.get_or_insert_default().unsent.extend_from_slice(bytes);
    }

    fn take_input(&mut self) -> Vec<u8> {
        self.buffers.as_mut().map(|buffers| std::mem::take(&mut buffers.input)).unwrap_or_default()
    }

    /// Whether it keeps bytes that the socket did not take.
    pub fn has_unsent(&self) -> bool {
        self.buffers.as_ref().is_some_and(|buffers| !buffers.unsent.is_empty())
    }

    /// Whether part of its PROXY protocol header has arrived.
    fn has_part_of_header(&self) -> bool {
        !matches!(self.opening, Opening::Over(_))
            && self.buffers.as_ref().is_some_and(|buffers| !buffers.input.is_empty())
    }

    /// When the first byte was read of a connection whose bytes are at hand and that has not been answered yet: now, unless it has been
    /// noted before.
    fn first_read_ns(&self) -> u64 {
        let noted_ns = self.buffers.as_ref().map_or(0, |buffers| buffers.read_ns);
        if noted_ns > 0 { noted_ns } else { clock::monotonic_ns() }
    }

    /// Keeps what is not yet a whole request, and when the first byte was read.
    fn keep_input(&mut self, bytes: &[u8], read_ns: u64) {
        let buffers = self.buffers.get_or_insert_default();
        buffers.input.extend_from_slice(bytes);
        buffers.read_ns = read_ns;
    }

    /// Gives up buffers that hold nothing.
    fn release_buffers(&mut self) {
        match &mut self.buffers {
            Some(buffers) if buffers.passed_on.is_some() || buffers.tls.is_some() => {
                (buffers.input, buffers.unsent) = (Vec::new(), Vec::new());
            }
            buffers => *buffers = None,
        }
    }
}

/// What happens to a connection next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Serve again when the socket is ready.
    Wait,
    /// The worker closes it first.
    Close,
    /// The client has closed it.
    Gone,
}

/// Where the bytes go that an application says.
pub trait Outlet {
    /// Sends bytes on a connection, after all earlier ones. What cannot leave now is kept, and leaves later.
    fn send(&mut self, connection: &mut Connection, bytes: &[u8]) -> io::Result<()>;

    /// Whether another request is to be answered before what was sent has left.
    fn is_free(&self, connection: &Connection) -> bool;
}

/// An app in a worker.
pub struct Application {
    worker: u16,
    /// The server's ends of connections: one, or a few where the server listens on all addresses.
    servers: Interner<SocketAddr>,
    /// `None` for app `close`.
    protocol: Option<Box<dyn Protocol>>,
    /// Which connections begin with a PROXY protocol header.
    headers: Headers,
    service: Service,
    /// The worker closes a connection after this many requests; `None` if the client closes.
    requests: Option<u32>,
    /// Requests answered on all connections.
    answered: u64,
    /// Whether the service time is of a connection, whose client asks for nothing.
    burns_at_accept: bool,
    reply: Vec<u8>,
    /// Where the loader looks up each connection's journey; `None` for other programs' clients.
    ledger: Option<Arc<Ledger>>,
    /// Accepts TLS sessions, if connections have them.
    tls: Option<tls::Server>,
    /// What clients have said within TLS, and what is to be sent for what is said to them.
    said: Vec<u8>,
    wire: Vec<u8>,
    /// Whether the worker says so before it closes a connection with TLS: not if it resets it.
    says_end: bool,
    /// How the handshake went that has just been completed.
    secured: Option<Secured>,
}

impl Application {
    /// The scenario's app, for one worker. `stream` gives this worker its own random numbers.
    pub fn new(scenario: &Scenario, worker: u16, ledger: Option<Arc<Ledger>>, seed: u64, stream: u64) -> Self {
        let closing = scenario.closing();
        let requests = match closing.close_by {
            CloseBy::Client => None,
            CloseBy::Server => Some(closing.requests),
        };
        Self {
            worker,
            servers: Interner::default(),
            protocol: protocol(scenario.server.app),
            headers: scenario.headers,
            service: Service::new(scenario.server.service_time, seed, stream),
            requests,
            answered: 0,
            burns_at_accept: scenario.server.app == App::Connect,
            reply: Vec::with_capacity(REPLY_BYTES),
            ledger,
            tls: None,
            said: Vec::new(),
            wire: Vec::new(),
            says_end: closing.close_how == CloseHow::Fin || closing.close_by == CloseBy::Client,
            secured: None,
        }
    }

    /// The same for connections with TLS, whose sessions this accepts.
    pub fn with_tls(self, tls: Option<tls::Server>) -> Self {
        Self { tls, ..self }
    }

    /// Requests answered on all connections so far.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// How a handshake went that was completed since the last call.
    pub fn take_secured(&mut self) -> Option<Secured> {
        self.secured.take()
    }

    /// Starts serving a connection that was just accepted.
    pub fn take_up(&mut self, arrival: Arrival) -> Connection {
        let Arrival { stream, tuple, accept_ns } = arrival;
        Connection {
            stream,
            watched: None,
            closing: false,
            opening: match self.headers {
                Headers::None => Opening::Over(Told::Nothing),
                Headers::Some => Opening::Open,
                Headers::All => Opening::Due,
            },
            server: self.servers.number(tuple.server),
            client: tuple.client.into(),
            accept_ns,
            served: 0,
            buffers: self.tls.as_ref().map(|tls| Box::new(Buffers { tls: Some(tls.accept()), ..Buffers::default() })),
        }
    }

    /// Begins with a connection before anything is read. `Some` if that was all.
    pub fn begin(&mut self, connection: &mut Connection) -> Option<Next> {
        if self.protocol.is_none() && matches!(connection.opening, Opening::Over(_)) {
            self.settle(connection, clock::monotonic_ns());
            return Some(Next::Close);
        }
        if self.burns_at_accept {
            self.service.burn();
        }
        None
    }

    /// Takes bytes that have arrived: answers the whole requests among them, as long as the outlet is free, and keeps the rest.
    pub fn hear(&mut self, connection: &mut Connection, fresh: &[u8], outlet: &mut impl Outlet) -> Result<(), Cause> {
        if self.tls.is_some() {
            return self.hear_secured(connection, fresh, outlet);
        }
        let mut input = connection.take_input();
        if input.is_empty() {
            return self.consume(connection, fresh, outlet);
        }
        input.extend_from_slice(fresh);
        self.consume(connection, &input, outlet)
    }

    /// Goes on with what was kept, once the outlet is free; false if that is nothing.
    pub fn resume(&mut self, connection: &mut Connection, outlet: &mut impl Outlet) -> Result<bool, Cause> {
        let input = connection.take_input();
        if input.is_empty() {
            return Ok(false);
        }
        self.consume(connection, &input, outlet)?;
        Ok(true)
    }

    /// What becomes of a connection whose client says no more.
    pub fn end(&self, connection: &Connection) -> Result<Next, Cause> {
        if connection.has_part_of_header() { Err(Cause::BadHeader) } else { Ok(Next::Gone) }
    }

    /// Takes bytes of TLS, after the PROXY protocol header if there is one: goes on with the handshake, and answers what is said.
    fn hear_secured(
        &mut self,
        connection: &mut Connection,
        fresh: &[u8],
        outlet: &mut impl Outlet,
    ) -> Result<(), Cause> {
        let read_ns = connection.first_read_ns();
        let before = if matches!(connection.opening, Opening::Over(_)) { Vec::new() } else { connection.take_input() };
        let all = if before.is_empty() { Vec::new() } else { [&before, fresh].concat() };
        let wire = if all.is_empty() { fresh } else { &all };
        let Some((_, length)) = self.take_header(connection, wire)? else {
            connection.keep_input(wire, read_ns);
            return Ok(());
        };
        let Some(Buffers { tls: Some(session), is_secured, read_ns: noted_ns, .. }) = connection.buffers.as_deref_mut()
        else {
            return Ok(());
        };
        *noted_ns = read_ns;
        let mut said = std::mem::take(&mut self.said);
        said.clear();
        let taken = session.take(&wire[length..], &mut said);
        if !*is_secured && let Some(secured) = session.secured() {
            *is_secured = true;
            self.secured = Some(secured);
        }
        let answered = say(connection, &[], &mut self.wire, false, outlet);
        let served = match (taken, answered) {
            // The client may not be there any more to hear why.
            (Err(cause), _) => Err(cause),
            (Ok(()), Err(error)) => Err(error.into()),
            (Ok(()), Ok(())) if said.is_empty() => Ok(()),
            (Ok(()), Ok(())) => {
                let mut input = connection.take_input();
                input.extend_from_slice(&said);
                self.consume(connection, &input, outlet)
            }
        };
        self.said = said;
        served
    }

    /// Answers one datagram; `None` if it is not a request.
    pub fn answer(&mut self, datagram: &[u8], caller: &Caller) -> Option<&[u8]> {
        let protocol = self.protocol.as_mut()?;
        self.reply.clear();
        match protocol.take(datagram, caller, false, &mut self.reply) {
            Take::Request { length, .. } if length == datagram.len() => {}
            _ => return None,
        }
        self.service.burn();
        Some(&self.reply)
    }

    /// App `close`'s answer is the close.
    fn settle(&mut self, connection: &Connection, read_ns: u64) {
        self.service.burn();
        enter(self.ledger.as_deref(), connection, read_ns);
    }

    /// The connection's ends as its socket has them.
    fn ends(&self, connection: &Connection) -> Tuple {
        Tuple { client: connection.client.into(), server: self.servers[connection.server] }
    }

    /// Takes a connection's PROXY protocol header off the head of its input, if one may still come. Returns what it has told, and its length;
    /// `None` while it is not whole.
    fn take_header(&self, connection: &mut Connection, input: &[u8]) -> Result<Option<(Told, usize)>, Cause> {
        let is_due = match connection.opening {
            Opening::Over(told) => return Ok(Some((told, 0))),
            Opening::Open => false,
            Opening::Due => true,
        };
        let (told, length) = match proxy_header::read(input) {
            HeaderRead::Partial => return Ok(None),
            HeaderRead::Bad => return Err(Cause::BadHeader),
            HeaderRead::Absent if is_due => return Err(Cause::NoHeader),
            HeaderRead::Absent => (Told::Nothing, 0),
            HeaderRead::Whole(header) => match header.ends {
                None => (Told::Unnamed(header.version), header.length),
                Some(ends) if ends.is(&self.ends(connection)) => (Told::Own(header.version), header.length),
                Some(ends) => {
                    connection.buffers.get_or_insert_default().passed_on = Some(ends);
                    (Told::Another(header.version), header.length)
                }
            },
        };
        connection.opening = Opening::Over(told);
        Ok(Some((told, length)))
    }

    /// Answers the whole requests in `input`, after the header if there is one, and keeps the rest.
    fn consume(
        &mut self,
        connection: &mut Connection,
        mut input: &[u8],
        outlet: &mut impl Outlet,
    ) -> Result<(), Cause> {
        let read_ns = if connection.is_served() { 0 } else { connection.first_read_ns() };
        let Some((told, length)) = self.take_header(connection, input)? else {
            connection.keep_input(input, read_ns);
            return Ok(());
        };
        input = &input[length..];
        if self.protocol.is_none() {
            self.settle(connection, read_ns);
            connection.closing = true;
            return Ok(());
        }
        let passed_on = connection.buffers.as_ref().and_then(|buffers| buffers.passed_on);
        let tuple = passed_on.unwrap_or_else(|| self.ends(connection));
        let caller = Caller { worker: self.worker, accept_ns: connection.accept_ns, tuple, told, id: None };
        let Some(protocol) = self.protocol.as_mut() else { return Ok(()) };
        while !input.is_empty() && !connection.closing && outlet.is_free(connection) {
            self.reply.clear();
            let last = self.requests.is_some_and(|requests| connection.served.saturating_add(1) >= requests);
            let (length, close) = match protocol.take(input, &caller, last, &mut self.reply) {
                Take::Partial => break,
                Take::Ignored => return Ok(()),
                Take::Request { length, close } => (length, close),
                Take::Bad => (input.len(), true),
            };
            self.service.burn();
            if !connection.is_served() {
                enter(self.ledger.as_deref(), connection, read_ns);
            }
            connection.served = connection.served.saturating_add(1);
            self.answered += 1;
            connection.closing = close || last;
            input = &input[length..];
            let says_end = self.says_end && connection.closing;
            say(connection, &self.reply, &mut self.wire, says_end, outlet)?;
        }
        if !input.is_empty() || !connection.is_served() {
            connection.keep_input(input, read_ns);
        } else if !connection.has_unsent() {
            connection.release_buffers();
        }
        Ok(())
    }
}

/// Records the end of a connection's journey in the ledger, where its client looks it up.
fn enter(ledger: Option<&Ledger>, connection: &Connection, read_ns: u64) {
    if let Some(ledger) = ledger {
        ledger.answered(connection.client.into(), connection.accept_ns, read_ns, clock::monotonic_ns());
    }
}

/// Says something, within TLS if the connection has it; `says_end`: and nothing after it.
fn say(
    connection: &mut Connection,
    what: &[u8],
    wire: &mut Vec<u8>,
    says_end: bool,
    outlet: &mut impl Outlet,
) -> io::Result<()> {
    let Some(session) = connection.buffers.as_mut().and_then(|buffers| buffers.tls.as_mut()) else {
        return outlet.send(connection, what);
    };
    session.say(what);
    if says_end {
        session.end();
    }
    wire.clear();
    session.give(wire);
    outlet.send(connection, wire)
}

#[cfg(test)]
mod tests {
    use std::net;

    use super::*;
    use crate::{
        ipc::proxy_header::{Template, Version},
        scenario::{Plan, Source},
    };

    /// Takes everything at once.
    struct Everywhere;

    impl Outlet for Everywhere {
        fn send(&mut self, _: &mut Connection, _: &[u8]) -> io::Result<()> {
            Ok(())
        }

        fn is_free(&self, _: &Connection) -> bool {
            true
        }
    }

    #[test]
    fn the_first_byte_was_read_when_the_first_piece_came() {
        let source = Source { name: "t", text: "[load]\nproxy_protocol = 1" };
        let plan = Plan::read(&source, &[]).unwrap();
        let ledger = Arc::new(Ledger::new(Arc::default()).unwrap());
        let mut application = Application::new(&plan.cells[0].scenario, 3, Some(Arc::clone(&ledger)), 1, 1);
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        // In the header, behind it, and in the request.
        for (answered, piece) in [Some(1), None, Some(50)].into_iter().enumerate() {
            let _client = net::TcpStream::connect(server).unwrap();
            let (stream, client) = listener.accept().unwrap();
            let mut bytes = Vec::new();
            Template::new(Version::Text, client.ip(), server).write(client.port(), &mut bytes);
            let piece = piece.unwrap_or(bytes.len());
            bytes.extend_from_slice(&[7; 64]);
            let accept_ns = clock::monotonic_ns();
            ledger.accepted(client, 3, accept_ns);
            ledger.arrived(client, accept_ns, accept_ns, accept_ns);
            let arrival = Arrival { stream: TcpStream::from_std(stream), tuple: Tuple { client, server }, accept_ns };
            let mut connection = application.take_up(arrival);
            application.hear(&mut connection, &bytes[..piece], &mut Everywhere).unwrap();
            assert_eq!((application.answered(), ledger.journey(client)), (answered as u64, None));
            let between_ns = clock::monotonic_ns();
            application.hear(&mut connection, &bytes[piece..], &mut Everywhere).unwrap();
            assert_eq!(application.answered(), answered as u64 + 1);
            let journey = ledger.journey(client).unwrap();
            assert!((accept_ns..=between_ns).contains(&journey.read_ns) && between_ns <= journey.replied_ns, "{piece}");
            assert!(connection.buffers.is_none() && connection.is_served());
        }
    }

    #[test]
    #[cfg_attr(debug_assertions, ignore = "with debug assertions, mio's sockets are larger")]
    fn an_idle_connection_is_small() {
        // A worker may use 128 bytes for a held connection, the ledger's slot of 64 and the unused ends of pages included.
        assert_eq!(size_of::<Connection>(), 48);
        // As a slab has it.
        #[allow(dead_code, reason = "only its size matters")]
        enum Entry {
            Vacant(usize),
            Occupied(Connection),
        }
        assert_eq!(size_of::<Entry>(), 48);
    }
}
