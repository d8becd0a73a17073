//! Scheduling policy of the calling thread: sched_setscheduler(2). By system calls, because musl's functions of these names only fail.

use std::io;

use anyhow::{Context, Result};
use strum::{EnumString, IntoStaticStr, VariantNames};

#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum Policy {
    /// SCHED_OTHER.
    Normal,
    /// SCHED_BATCH: the same shares, but a process that wakes up preempts no other.
    Batch,
    /// SCHED_FIFO at its lowest priority: runs before all normal and batch processes.
    Fifo,
}

impl Policy {
    fn number(self) -> libc::c_int {
        match self {
            Self::Normal => libc::SCHED_OTHER,
            Self::Batch => libc::SCHED_BATCH,
            Self::Fifo => libc::SCHED_FIFO,
        }
    }
}

/// Sets the policy of the calling thread and of those it starts. The error names the cause and the remedy.
pub fn set(policy: Policy) -> Result<()> {
    let priority = libc::c_int::from(policy == Policy::Fifo);
    // The kernel's struct sched_param has this one member.
    // SAFETY: the kernel reads one integer, which lives until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy.number(), &raw const priority) };
    if result != -1 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    Err(match (policy, error.raw_os_error()) {
        (Policy::Fifo, Some(libc::EPERM)) => anyhow::Error::new(error).context(
            "sched_setscheduler(SCHED_FIFO) requires root or the limit RLIMIT_RTPRIO (`ulimit -r 1`), and with \
             CONFIG_RT_GROUP_SCHED a cgroup with real-time runtime: run as root, or use \"batch\"",
        ),
        _ => anyhow::Error::new(error).context(format!("sched_setscheduler({policy:?})")),
    })
}

/// The calling thread's policy; `None` if it is not one of these.
pub fn in_force() -> Result<Option<Policy>> {
    // SAFETY: the call accesses no memory of this process.
    let number = unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
    if number == -1 {
        return Err(io::Error::last_os_error()).context("sched_getscheduler");
    }
    Ok([Policy::Normal, Policy::Batch, Policy::Fifo].into_iter().find(|policy| i64::from(policy.number()) == number))
}
