//! What the kernel knows: accept queues, counters, processor time, limits, and who holds a port.

pub mod counters;
pub mod datagrams;
pub mod holder;
pub mod host;
pub mod ports;
pub mod queues;
pub mod stamps;
pub mod sysctl;
