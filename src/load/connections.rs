//! The connections of a loader, by key, and in the order of their waits.
//!
//! A key is used again only once its engine has released it, and the one released last first: so an engine may keep things of
//! its own by key, such as a socket for the next connection.
//!
//! Those that wait for the same stand in a list, the longest waiting first, so that looking for time-outs and ended holds costs
//! nothing for the others, however many are held. The lists go through the entries themselves.

use std::ops::{Index, IndexMut};

use super::connection::{Buffers, Connection, Phase, Wait};

/// No key.
const NOBODY: u32 = u32::MAX;

/// Connections under way.
#[derive(Debug)]
pub(super) struct Connections {
    entries: Vec<Option<Entry>>,
    /// Keys that may be used, the next last.
    free: Vec<u32>,
    open: usize,
    /// By [`Wait`].
    lists: [List; Wait::ALL.len()],
    /// Buffers that are not in use, with what they have allocated.
    #[expect(clippy::vec_box, reason = "connections take them as they are, boxed: one that has none stays small")]
    spare: Vec<Box<Buffers>>,
}

#[derive(Debug)]
struct Entry {
    connection: Connection,
    /// Its neighbours in the list in which it waits.
    before: u32,
    after: u32,
}

/// The ends of a list.
#[derive(Debug, Clone, Copy)]
struct List {
    first: u32,
    last: u32,
}

impl Connections {
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            entries: Vec::with_capacity(capacity),
            free: Vec::with_capacity(capacity),
            open: 0,
            lists: [List { first: NOBODY, last: NOBODY }; Wait::ALL.len()],
            spare: Vec::new(),
        }
    }

    /// Takes a key for a connection that is about to begin.
    pub fn reserve(&mut self) -> usize {
        self.free.pop().map_or_else(
            || {
                self.entries.push(None);
                self.entries.len() - 1
            },
            |key| key as usize,
        )
    }

    /// A connection has begun under a key that was reserved for it, and waits to be established.
    pub fn begin(&mut self, key: usize, connection: Connection) {
        self.entries[key] = Some(Entry { connection, before: NOBODY, after: NOBODY });
        self.open += 1;
        self.join(key, Wait::Connect);
    }

    /// A connection enters a phase now, and with that waits anew.
    pub fn enter(&mut self, key: usize, phase: Phase, now_ns: u64) {
        let connection = &mut self[key];
        connection.phase = phase;
        connection.waiting_since_ns = now_ns;
        let wait = match phase {
            Phase::Connecting => Wait::Connect,
            Phase::Exchanging | Phase::AwaitingClose => Wait::Reply,
            Phase::Holding => Wait::Hold,
        };
        self.leave(key);
        self.join(key, wait);
    }

    /// The connection that has waited longest for something.
    pub fn longest(&self, wait: Wait) -> Option<usize> {
        let first = self.lists[wait as usize].first;
        (first != NOBODY).then_some(first as usize)
    }

    /// Takes a connection out of the list that it stands in.
    pub fn leave(&mut self, key: usize) {
        let entry = self.entry(key);
        let Some(wait) = entry.connection.wait.take() else { return };
        let (before, after) = (entry.before, entry.after);
        if before == NOBODY {
            self.lists[wait as usize].first = after;
        } else {
            self.entry(before as usize).after = after;
        }
        if after == NOBODY {
            self.lists[wait as usize].last = before;
        } else {
            self.entry(after as usize).before = before;
        }
    }

    fn join(&mut self, key: usize, wait: Wait) {
        let own = u32::try_from(key).expect("fewer connections than descriptors");
        let list = &mut self.lists[wait as usize];
        let last = std::mem::replace(&mut list.last, own);
        if last == NOBODY {
            list.first = own;
        } else {
            self.entry(last as usize).after = own;
        }
        let entry = self.entry(key);
        entry.connection.wait = Some(wait);
        (entry.before, entry.after) = (last, NOBODY);
    }

    /// A connection is over. Its key is not free before [`Self::release`].
    pub fn take(&mut self, key: usize) -> Connection {
        self.leave(key);
        self.open -= 1;
        let entry = self.entries[key].take().expect("only a connection under way ends");
        let mut connection = entry.connection;
        if let Some(mut buffers) = connection.buffers.take() {
            buffers.input.clear();
            buffers.unsent.clear();
            self.spare.push(buffers);
        }
        connection
    }

    /// A key may be used again.
    pub fn release(&mut self, key: usize) {
        self.free.push(key as u32);
    }

    /// The connection of a key, if one is under way.
    #[inline]
    pub fn get(&self, key: usize) -> Option<&Connection> {
        self.entries.get(key)?.as_ref().map(|entry| &entry.connection)
    }

    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// All with their keys.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Connection)> {
        self.entries.iter().enumerate().filter_map(|(key, entry)| Some((key, &entry.as_ref()?.connection)))
    }

    /// Changes a connection's buffers, which it has only while there is something in them.
    pub fn buffer(&mut self, key: usize, change: impl FnOnce(&mut Buffers)) {
        let spare = &mut self.spare;
        let entry = self.entries[key].as_mut().expect("a connection under way");
        let mut buffers = entry.connection.buffers.take().or_else(|| spare.pop()).unwrap_or_default();
        change(&mut buffers);
        if buffers.is_empty() {
            spare.push(buffers);
        } else {
            entry.connection.buffers = Some(buffers);
        }
    }

    /// So many of a connection's unsent bytes have gone out.
    pub fn sent(&mut self, key: usize, length: usize) {
        self.buffer(key, |buffers| drop(buffers.unsent.drain(..length)));
    }

    #[inline]
    fn entry(&mut self, key: usize) -> &mut Entry {
        self.entries[key].as_mut().expect("a connection under way")
    }
}

impl Index<usize> for Connections {
    type Output = Connection;

    #[inline]
    fn index(&self, key: usize) -> &Connection {
        &self.entries[key].as_ref().expect("a connection under way").connection
    }
}

impl IndexMut<usize> for Connections {
    #[inline]
    fn index_mut(&mut self, key: usize) -> &mut Connection {
        &mut self.entry(key).connection
    }
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};

    use super::*;
    use crate::{load::connection::Stream, scenario::Transport};

    fn connection(now_ns: u64) -> Connection {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        Connection::begun(Stream::new(Transport::Tcp, socket), (0, 0), (now_ns, now_ns))
    }

    fn begun(count: usize) -> Connections {
        let mut connections = Connections::with_capacity(0);
        for now_ns in 0..count as u64 {
            let key = connections.reserve();
            connections.begin(key, connection(now_ns));
        }
        connections
    }

    /// Takes the longest waiting ones out, one after the other.
    fn drained(connections: &mut Connections, wait: Wait) -> Vec<usize> {
        std::iter::from_fn(|| {
            let key = connections.longest(wait)?;
            connections.leave(key);
            Some(key)
        })
        .collect()
    }

    #[test]
    fn an_idle_connection_is_small() {
        // A loader that holds connections shall have at most 128 bytes of each, its key and the pages' ends included.
        assert!(size_of::<Option<Entry>>() <= 80, "{}", size_of::<Option<Entry>>());
    }

    #[test]
    fn the_longest_waiting_comes_first_whoever_leaves() {
        let mut connections = begun(6);
        for (key, phase) in [(4, Phase::Exchanging), (0, Phase::Holding), (2, Phase::Exchanging), (5, Phase::Holding)] {
            connections.enter(key, phase, 10);
        }
        connections.enter(4, Phase::AwaitingClose, 11);
        // The last, and one in between.
        connections.take(3);
        connections.leave(2);
        assert_eq!(drained(&mut connections, Wait::Connect), [1]);
        assert_eq!(drained(&mut connections, Wait::Reply), [4]);
        assert_eq!(drained(&mut connections, Wait::Hold), [0, 5]);
        connections.enter(1, Phase::Holding, 12);
        assert_eq!(drained(&mut connections, Wait::Hold), [1]);
    }

    #[test]
    fn buffers_are_there_only_while_they_are_wanted_and_serve_again() {
        let mut connections = begun(2);
        connections.buffer(0, |buffers| buffers.unsent.extend_from_slice(b"abc"));
        assert_eq!(connections[0].unsent(), b"abc");
        connections.buffer(0, |buffers| drop(buffers.unsent.drain(..3)));
        assert!(connections[0].buffers.is_none() && connections.spare.len() == 1);
        connections.buffer(1, |buffers| buffers.input.push(7));
        assert!(connections.spare.is_empty());
        connections.take(1);
        assert!(connections.spare[0].is_empty());
    }
}
