//! The fence around the operating system: every `unsafe` of the crate is below this module.
//!
//! Each file wraps one concept of Linux and hands out owned, safe values. Nothing here knows what a scenario, a
//! worker or a record is.

pub mod affinity;
pub mod bpf;
pub mod cgroup;
pub mod clock;
pub mod fd_passing;
pub mod limits;
mod mapping;
pub mod namespace;
pub mod pages;
pub mod process;
pub mod reuseport_bpf;
pub mod robust_mutex;
pub mod scheduler;
pub mod shared;
pub mod signals;
pub mod socket;
pub mod terminal;
pub mod thread;
pub mod uring;
pub mod veth;
