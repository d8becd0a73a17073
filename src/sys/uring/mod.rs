//! io_uring: a ring that accepts, and a ring for a client's connections.

mod accept;
mod client;

pub use accept::AcceptRing;
pub use client::{ClientRing, Done, Operation};
