//! What the processes of one trial share: a control block and a port ledger in memory, messages over pipes, and the receipt
//! that proves to which connection a reply belongs. [`family`] is how processes are forked, watched and ended.

pub mod board;
pub mod control;
pub mod family;
pub mod histogram;
pub mod interner;
pub mod ledger;
mod message;
pub mod receipt;
pub mod tally;
