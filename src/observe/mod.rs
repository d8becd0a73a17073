//! Reads what the kernel knows: accept queues, counters, processor time, limits, ports and their holders.

pub mod accepts;
pub mod cgroup;
pub mod completions;
pub mod conntrack;
pub mod counters;
pub mod datagrams;
mod file;
pub mod holder;
pub mod host;
pub mod limits;
pub mod listeners;
pub mod memory;
pub mod mptcp;
pub mod nftables;
pub mod ports;
pub mod processes;
pub mod queues;
pub mod reach;
pub mod rules;
pub mod services;
pub mod slabs;
pub mod sockets;
pub mod stamps;
pub mod sysctl;
pub mod tracking;
pub mod tuples;
mod unix;
