//! What the processes of one trial share: a control block and a port ledger in memory, messages over pipes, and the receipt
//! that proves which connection a reply belongs to. [`family`] forks, watches and ends processes.

pub mod board;
pub mod control;
pub mod family;
pub mod histogram;
pub mod interner;
pub mod ledger;
mod message;
pub mod receipt;
pub mod tally;
