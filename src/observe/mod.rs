//! Reads what the kernel knows: accept queues, counters, processor time, limits, ports and their holders.

pub mod counters;
pub mod datagrams;
mod file;
pub mod holder;
pub mod host;
pub mod limits;
pub mod memory;
pub mod ports;
pub mod queues;
pub mod services;
pub mod sockets;
pub mod stamps;
pub mod sysctl;
pub mod tuples;
