//! What the processes of one trial share: a control block and a port ledger in memory, messages over pipes, and the
//! receipt by which a reply proves to which connection it belongs.

pub mod control;
pub mod histogram;
pub mod known;
pub mod ledger;
pub mod message;
pub mod receipt;
pub mod tally;
