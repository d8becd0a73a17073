//! io_uring: one ring for accepting, one for a client's connections, one for a worker's.

mod accept;
mod client;
mod enter;
mod incoming;
mod outgoing;
mod server;

pub use accept::AcceptRing;
pub use client::{ClientRing, Done, Operation};
pub use outgoing::{Outgoing, Receive};
pub use server::{Done as Served, ServerRing};

/// IORING_RECVSEND_POLL_FIRST from the kernel's include/uapi/linux/io_uring.h (Linux 5.19).
const POLL_FIRST: u16 = 1;
