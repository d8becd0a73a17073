//! io_uring: a ring that accepts, and a ring for a client's connections.

mod accept;

pub use accept::AcceptRing;
