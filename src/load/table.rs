//! The sessions of a loader, by key and in order of waiting.
//!
//! Sessions that wait for the same thing form a list, the longest waiting first, so that checking for time-outs and ended holds costs
//! nothing for the others, however many are held. The lists are linked through the entries themselves.

use std::ops::{Index, IndexMut};

use super::session::{Session, Wait};

/// Marks the absence of a key in a list.
const NOBODY: u32 = u32::MAX;

/// The open sessions.
#[derive(Debug)]
pub(super) struct Table {
    entries: Vec<Option<Entry>>,
    open: usize,
    /// By [`Wait`].
    lists: [List; Wait::ALL.len()],
}

#[derive(Debug)]
struct Entry {
    session: Session,
    /// The list in which it waits, if any.
    wait: Option<Wait>,
    /// Its neighbours in that list.
    before: u32,
    after: u32,
}

/// The ends of a list.
#[derive(Debug, Clone, Copy)]
struct List {
    first: u32,
    last: u32,
}

impl Table {
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            entries: Vec::with_capacity(capacity),
            open: 0,
            lists: [List { first: NOBODY, last: NOBODY }; Wait::ALL.len()],
        }
    }

    /// Adds a session, which waits to be established.
    pub fn insert(&mut self, key: usize, session: Session) {
        if self.entries.len() <= key {
            self.entries.resize_with(key + 1, || None);
        }
        self.entries[key] = Some(Entry { session, wait: None, before: NOBODY, after: NOBODY });
        self.open += 1;
        self.join(key, Wait::Connect);
    }

    /// Removes a session that has ended.
    pub fn take(&mut self, key: usize) -> Session {
        self.leave(key);
        self.open -= 1;
        self.entries[key].take().expect("only an open session ends").session
    }

    /// Makes a session wait, as the last in that list.
    pub fn wait(&mut self, key: usize, wait: Wait) {
        self.leave(key);
        self.join(key, wait);
    }

    /// The session that has waited longest for something.
    pub fn longest(&self, wait: Wait) -> Option<usize> {
        let first = self.lists[wait as usize].first;
        (first != NOBODY).then_some(first as usize)
    }

    /// Removes a session from its list.
    pub fn leave(&mut self, key: usize) {
        let entry = self.entry(key);
        let Some(wait) = entry.wait.take() else { return };
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
        entry.wait = Some(wait);
        (entry.before, entry.after) = (last, NOBODY);
    }

    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// The keys of the sessions that meet a condition.
    pub fn keys(&self, which: impl Fn(&Session) -> bool) -> Vec<usize> {
        let sessions = self.entries.iter().enumerate();
        sessions
            .filter(|(_, entry)| entry.as_ref().is_some_and(|entry| which(&entry.session)))
            .map(|(key, _)| key)
            .collect()
    }

    #[inline]
    fn entry(&mut self, key: usize) -> &mut Entry {
        self.entries[key].as_mut().expect("an open session")
    }
}

impl Index<usize> for Table {
    type Output = Session;

    #[inline]
    fn index(&self, key: usize) -> &Session {
        &self.entries[key].as_ref().expect("an open session").session
    }
}

impl IndexMut<usize> for Table {
    #[inline]
    fn index_mut(&mut self, key: usize) -> &mut Session {
        &mut self.entry(key).session
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{load::session::Start, scenario::Transport};

    fn filled(count: usize) -> Table {
        let mut table = Table::with_capacity(0);
        for key in 0..count {
            let start = Start { intended_ns: key as u64, connect_ns: key as u64 };
            table.insert(key, Session::new(Transport::Tcp, (0, 0), start, 1, true));
        }
        table
    }

    /// Removes sessions in order of waiting, until none is left.
    fn drained(table: &mut Table, wait: Wait) -> Vec<usize> {
        std::iter::from_fn(|| {
            let key = table.longest(wait)?;
            table.leave(key);
            Some(key)
        })
        .collect()
    }

    #[test]
    fn an_idle_connection_is_small() {
        // A loader may use 128 bytes for a held connection, its key, its engine's seat and unused ends of pages included. TLS has more.
        assert!(size_of::<Option<Entry>>() <= 88, "{}", size_of::<Option<Entry>>());
    }

    #[test]
    fn the_longest_waiting_comes_first_even_after_others_leave() {
        let mut table = filled(6);
        for (key, wait) in [(4, Wait::Reply), (0, Wait::Hold), (2, Wait::Reply), (5, Wait::Hold)] {
            table.wait(key, wait);
        }
        table.wait(4, Wait::Reply);
        // The last, and one in between.
        table.take(3);
        table.leave(2);
        assert_eq!(drained(&mut table, Wait::Connect), [1]);
        assert_eq!(drained(&mut table, Wait::Reply), [4]);
        assert_eq!(drained(&mut table, Wait::Hold), [0, 5]);
        table.wait(1, Wait::Hold);
        assert_eq!(drained(&mut table, Wait::Hold), [1]);
    }
}
