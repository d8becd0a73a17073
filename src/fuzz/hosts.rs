//! What arrives between hosts, from whoever connects.

use std::io::{self, Read};

use serde::Deserialize;
use serde_json::Value;

use super::pieces;
use crate::hosts::{
    Frame,
    frame::{self, Any},
    hello::{Hello, VERSION},
    inbox::{Broken, Inbox},
};

/// What a host of the job would send.
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// Payloads that are not longer.
const LIMIT: usize = 4 << 10;

/// A connection's bytes, preceded by how they are cut into pieces.
pub fn arriving(input: &[u8]) {
    let Some((seed, bytes)) = input.split_first() else { return };
    let (whole, end) = frames(&mut std::iter::once(bytes));
    let (cut, same_end) = frames(&mut pieces(bytes, *seed));
    assert_eq!((shown(&cut), &same_end), (shown(&whole), &end));
    // What arrived can be sent on.
    let again: Vec<u8> = whole.iter().flat_map(sent).collect();
    assert_eq!(shown(&frames(&mut std::iter::once(&again[..])).0), shown(&whole));
    for frame in whole {
        let Any::Sent(Frame::Value(value)) = frame else { continue };
        let Ok(hello) = Hello::deserialize(&value) else { continue };
        let (token, rank) = (hello.token.clone(), hello.rank);
        // Other versions say other things of their hosts, and are refused for that alone.
        let hello = Hello { version: VERSION.to_owned(), ..hello };
        match hello.check(TOKEN, |rank| (1..3).contains(&rank)) {
            Ok(facts) => assert!(token == TOKEN && (1..3).contains(&rank) && facts.rank == rank),
            Err(refusal) => assert!(!refusal.to_string().contains(TOKEN)),
        }
    }
}

/// All frames, and why there are no more.
fn frames(pieces: &mut dyn Iterator<Item = &[u8]>) -> (Vec<Any<Value>>, String) {
    let mut connection = Connection { pieces, rest: &[], waited: true };
    let (mut inbox, mut frames) = (Inbox::new(LIMIT), Vec::new());
    loop {
        match inbox.next(&mut connection) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => {}
            Err(Broken::Cut(cut)) => panic!("nobody waits: {cut}"),
            Err(Broken::Ended(how) | Broken::Garbled(how)) => return (frames, how),
        }
    }
}

/// Pieces that arrive one at a time, and then the end.
struct Connection<'a, 'b> {
    pieces: &'a mut dyn Iterator<Item = &'b [u8]>,
    rest: &'b [u8],
    waited: bool,
}

impl Read for Connection<'_, '_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            self.waited = !self.waited;
            if !self.waited {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.rest = self.pieces.next().unwrap_or_default();
        }
        self.rest.read(to)
    }
}

/// A frame as it is sent.
fn sent(frame: &Any<Value>) -> Vec<u8> {
    match frame {
        Any::Sent(Frame::Value(value)) => frame::of_value(value).expect("a value that arrived"),
        Any::Sent(Frame::Histogram(name, histogram)) => {
            frame::of_histogram(name, histogram).expect("a histogram that arrived")
        }
        Any::Ping(asked_ns) => frame::ping(*asked_ns),
        Any::Pong { asked_ns, now_ns } => frame::pong(*asked_ns, *now_ns),
    }
}

fn shown(frames: &[Any<Value>]) -> Vec<Vec<u8>> {
    frames.iter().map(sent).collect()
}
