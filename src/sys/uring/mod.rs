//! io_uring: one ring for accepting, one for a client's connections.

mod accept;
mod client;

pub use accept::AcceptRing;
pub use client::{ClientRing, Done, Operation};
