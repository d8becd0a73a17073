//! What the processes of one trial share: a control block and a port ledger in memory, messages over pipes, and the receipt
//! that proves which connection a reply belongs to. [`family`] forks, watches and ends processes.

pub mod board;
pub mod connection_id;
pub mod control;
pub mod draws;
pub mod family;
pub mod histogram;
pub mod interner;
pub mod ledger;
pub mod message;
pub mod places;
pub mod proxy_header;
pub mod receipt;
pub mod tally;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Adds to a word with one writer: a plain load and store suffice, and cost less than a locked add.
#[inline]
pub fn increase(word: &AtomicU64, by: u64) {
    word.store(word.load(Relaxed).wrapping_add(by), Relaxed);
}
