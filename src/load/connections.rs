//! The connections of a loader, by key.
//!
//! A key is used again only once its engine has released it, and the one released last first: so an engine may keep things of
//! its own by key, such as a socket for the next connection.

use std::ops::{Index, IndexMut};

use super::connection::Connection;

/// Connections under way.
#[derive(Debug, Default)]
pub(super) struct Connections {
    entries: Vec<Option<Connection>>,
    /// Keys that may be used, the next last.
    free: Vec<usize>,
    open: usize,
}

impl Connections {
    pub fn with_capacity(capacity: usize) -> Self {
        Self { entries: Vec::with_capacity(capacity), free: Vec::with_capacity(capacity), open: 0 }
    }

    /// Takes a key for a connection that is about to begin.
    pub fn reserve(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() - 1
        })
    }

    /// A connection has begun under a key that was reserved for it.
    pub fn begin(&mut self, key: usize, connection: Connection) {
        self.entries[key] = Some(connection);
        self.open += 1;
    }

    /// A connection is over. Its key is not free before [`Self::release`].
    pub fn take(&mut self, key: usize) -> Connection {
        self.open -= 1;
        self.entries[key].take().expect("only a connection under way ends")
    }

    /// A key may be used again.
    pub fn release(&mut self, key: usize) {
        self.free.push(key);
    }

    /// The connection of a key, if one is under way.
    #[inline]
    pub fn get(&self, key: usize) -> Option<&Connection> {
        self.entries.get(key)?.as_ref()
    }

    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// All with their keys.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Connection)> {
        self.entries.iter().enumerate().filter_map(|(key, entry)| Some((key, entry.as_ref()?)))
    }
}

impl Index<usize> for Connections {
    type Output = Connection;

    #[inline]
    fn index(&self, key: usize) -> &Connection {
        self.entries[key].as_ref().expect("a connection under way")
    }
}

impl IndexMut<usize> for Connections {
    #[inline]
    fn index_mut(&mut self, key: usize) -> &mut Connection {
        self.entries[key].as_mut().expect("a connection under way")
    }
}
