//! HTTP: what clients send to our own server, and what servers send to a loader.

use super::pieces;
use crate::{
    ipc::receipt::{Told, Tuple},
    load::client::{self, Client, Reading, Reply, Whole},
    record::Cause,
    scenario::{App, Plan, Source},
    server::app::{Caller, Take, protocol},
};

const BODY_BYTES: usize = 3;

/// What a client sends on a connection, preceded by how it is cut into pieces.
pub fn requests(input: &[u8]) {
    let Some((seed, bytes)) = input.split_first() else { return };
    let (whole, replies) = served(&mut std::iter::once(bytes));
    assert_eq!(served(&mut pieces(bytes, *seed)), (whole, replies.clone()));
    check_replies(&replies);
}

/// The lengths of the requests answered, whether one was refused, and the replies.
fn served(pieces: &mut dyn Iterator<Item = &[u8]>) -> ((Vec<usize>, bool), Vec<u8>) {
    let end = ([127, 0, 0, 1], 80).into();
    let caller =
        Caller { worker: 3, accept_ns: 5, tuple: Tuple { client: end, server: end }, told: Told::Nothing, id: None };
    let mut protocol = protocol(App::Http { body_bytes: BODY_BYTES }).expect("a protocol");
    let (mut input, mut lengths, mut replies, mut reply) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        while !input.is_empty() {
            reply.clear();
            match protocol.take(&input, &caller, false, &mut reply) {
                Take::Partial => {
                    assert!(reply.is_empty());
                    break;
                }
                Take::Ignored => panic!("HTTP ignores nothing"),
                Take::Bad => {
                    replies.extend_from_slice(&reply);
                    return ((lengths, true), replies);
                }
                Take::Request { length, close } => {
                    assert!(0 < length && length <= input.len());
                    input.drain(..length);
                    lengths.push(length);
                    replies.extend_from_slice(&reply);
                    if close {
                        return ((lengths, false), replies);
                    }
                }
            }
        }
    }
    ((lengths, false), replies)
}

/// Replies are HTTP, and as long as they say.
fn check_replies(mut replies: &[u8]) {
    while !replies.is_empty() {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut headers);
        let Ok(httparse::Status::Complete(head)) = response.parse(replies) else { panic!("not a response's head") };
        let length = response.headers.iter().find(|header| header.name == "Content-Length").expect("a length");
        let length: usize = str::from_utf8(length.value).unwrap().parse().unwrap();
        replies = &replies[head..];
        // A reply to HEAD has none of the body it speaks of.
        if !replies.is_empty() && !replies.starts_with(b"HTTP/") {
            replies = &replies[length..];
        }
    }
}

/// What a server sends on a connection, preceded by the client's settings and by how it is cut into pieces.
pub fn responses(input: &[u8]) {
    let [settings, seed, bytes @ ..] = input else { return };
    CLIENTS.with(|clients| {
        let client = &*clients[usize::from(*settings) % clients.len()];
        let whole = read(client, bytes, &mut std::iter::once(bytes));
        assert_eq!(read(client, bytes, &mut pieces(bytes, *seed)), whole);
    });
}

thread_local! {
    /// A client of each app, and one whose replies have no body.
    static CLIENTS: Vec<Box<dyn Client>> = [
        "http",
        "http\"\nload.method=\"HEAD",
        "echo",
        "close",
        "line\"\nnetwork=\"host\"\nserver.subject=\"running\"\nload.expect=\"HTTP\"\nload.last_line=\"a",
        "line\"\nnetwork=\"host\"\nserver.subject=\"running\"\nload.reply_bytes=9\nload.expect=\"HTTP",
    ]
        .map(|app| {
            let text = format!("server.app=\"{app}\"");
            let plan = Plan::read(&Source { name: "client", text: &text }, &[]).expect("a scenario");
            { let scenario = &plan.cells[0].scenario; client::build(scenario, &scenario.loads[0], "localhost") }
        })
        .into();
}

/// Where each reply ends, what it says, and how the conversation ends.
fn read(
    client: &dyn Client,
    bytes: &[u8],
    pieces: &mut dyn Iterator<Item = &[u8]>,
) -> (Vec<(usize, Whole)>, Option<Cause>) {
    let (mut replies, mut reading, mut at) = (Vec::new(), Reading::default(), 0);
    for piece in pieces {
        let mut fresh = piece;
        while !fresh.is_empty() {
            match client.take(&mut reading, fresh) {
                Reply::Partial => {
                    at += fresh.len();
                    break;
                }
                Reply::Bad(cause) => return (replies, Some(cause)),
                Reply::Whole(whole) => {
                    assert!(whole.used <= fresh.len());
                    fresh = &fresh[whole.used..];
                    at += whole.used;
                    let (closes, useless) = (whole.closes, whole.used == 0);
                    replies.push((at, Whole { used: 0, ..whole }));
                    reading = Reading::default();
                    if closes || useless {
                        return (replies, None);
                    }
                }
            }
        }
    }
    assert_eq!(at, bytes.len(), "no byte is left out or taken twice");
    match client.end(&reading) {
        Reply::Partial => (replies, None),
        Reply::Bad(cause) => (replies, Some(cause)),
        Reply::Whole(whole) => {
            replies.push((at, Whole { used: 0, ..whole }));
            (replies, None)
        }
    }
}
