//! When the kernel completed the accepts of the workers' io_urings, of which a completion itself says nothing.
//!
//! A program on the tracepoint `io_uring_complete` (`src/bpf/completion.bpf.c`) stores the time in memory that workers map, in a slot
//! for the worker and the new descriptor. It can be no other connection's: the kernel gives a descriptor away again only after the
//! worker has closed it, and the worker empties the slot before that, when it takes the completion from its ring.

use std::{
    os::fd::RawFd,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use anyhow::{Context, Result};
use aya::{Ebpf, maps::Map, programs::RawTracePoint};

use super::host;
use crate::sys::{bpf, shared::SharedSlice};

/// Slots of each worker. A completion with a higher descriptor has no known time.
const DESCRIPTORS: usize = 1 << 16;

/// The mapped times. Create before the first fork; the program is gone when the last process that has them is.
#[derive(Debug)]
pub struct Completions {
    slots: SharedSlice<AtomicU64>,
    /// 48 bits that tell this trial's accepts from all other operations on the machine.
    trial: u64,
    /// Keeps the program attached.
    _program: Ebpf,
}

impl Completions {
    /// Attaches the program, with slots for this many workers. The error names the cause and the remedy.
    pub fn load(workers: usize) -> Result<Self> {
        Self::attach(workers).map_err(|error| {
            let required = "5.19 or later is required, with CONFIG_BPF_EVENTS, for programs on tracepoints";
            bpf::explained(error, "completion", required)
        })
    }

    fn attach(workers: usize) -> Result<Self> {
        let digits = host::unique_id().context("/proc/sys/kernel/random/uuid")?.replace('-', "");
        // These digits are random, and the next is not.
        let trial = u64::from_str_radix(digits.get(..12).unwrap_or_default(), 16).context("random/uuid")?;
        let slots = workers * DESCRIPTORS;
        let mut bpf = bpf::loader()
            .override_global("trial", &trial, true)
            .map_max_entries("completions", slots as u32)
            .load(aya::include_bytes_aligned!("../bpf/completion.bpf.o"))
            .context("loading its object")?;
        // Where the tracepoint has too few arguments for the first, the second is meant.
        attach(&mut bpf, "of_fields").or_else(|_| attach(&mut bpf, "of_entry"))?;
        let Some(Map::Array(map)) = bpf.map("completions") else {
            anyhow::bail!("the object has no array `completions`")
        };
        let slots = SharedSlice::of_bpf_array(map, slots).context("mapping map `completions`")?;
        Ok(Self { slots, trial, _program: bpf })
    }

    /// The user_data by which the program knows a worker's accepts.
    pub fn user_data(&self, worker: usize) -> u64 {
        self.trial << 16 | worker as u64
    }

    /// When the accept that gave a worker this descriptor completed, in nanoseconds of CLOCK_MONOTONIC. To be called once, when the
    /// worker takes the completion from its ring, at `now_ns`. `None` if that is not known.
    #[inline]
    pub fn take(&self, worker: usize, descriptor: RawFd, now_ns: u64) -> Option<u64> {
        let slot = usize::try_from(descriptor).ok().filter(|descriptor| *descriptor < DESCRIPTORS)?;
        taken(self.slots.get(worker * DESCRIPTORS + slot)?, now_ns)
    }
}

/// Empties a slot, and returns its time if it has one that is not in the future.
#[inline]
fn taken(slot: &AtomicU64, now_ns: u64) -> Option<u64> {
    let completed_ns = slot.load(Relaxed);
    // Only the kernel writes otherwise, and not before this descriptor is closed.
    slot.store(0, Relaxed);
    (completed_ns != 0 && completed_ns <= now_ns).then_some(completed_ns)
}

fn attach(bpf: &mut Ebpf, name: &str) -> Result<()> {
    let program = bpf.program_mut(name).with_context(|| format!("the object has no program `{name}`"))?;
    let program: &mut RawTracePoint = program.try_into().with_context(|| format!("program `{name}`"))?;
    program.load().with_context(|| format!("verifying program `{name}`"))?;
    program.attach("io_uring_complete").with_context(|| format!("attaching program `{name}`"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_taken_once_and_never_from_the_future() {
        let slot = AtomicU64::new(0);
        assert_eq!(taken(&slot, 100), None);
        for (completed_ns, found) in [(99, Some(99)), (100, Some(100)), (101, None)] {
            slot.store(completed_ns, Relaxed);
            assert_eq!(taken(&slot, 100), found);
            assert_eq!(taken(&slot, u64::MAX), None);
        }
    }
}
