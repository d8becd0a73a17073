//! The boundary to the operating system: all of the crate's `unsafe` code is below this module.
//!
//! Each file wraps one concept of Linux and returns owned, safe values. Nothing here knows about scenarios, workers or
//! records.

pub mod addresses;
pub mod affinity;
#[cfg(fuzzing)]
pub mod allocation;
pub mod bpf;
pub mod cgroup;
pub mod clock;
pub mod fd_passing;
pub mod folder;
pub mod futex;
#[cfg(target_arch = "x86_64")]
pub mod hypervisor;
pub mod limits;
mod mapping;
pub mod namespace;
pub mod nfnetlink;
pub mod nft;
pub mod parallel;
pub mod pmix;
pub mod process;
pub mod random;
pub mod reuseport_bpf;
pub mod robust_mutex;
pub mod rtmessage;
pub mod rtnetlink;
pub mod scheduler;
pub mod shared;
pub mod signals;
pub mod socket;
pub mod terminal;
pub mod thread;
pub mod tracing;
pub mod unix;
pub mod uring;
pub mod veth;
