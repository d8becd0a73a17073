//! Distinct 4-tuples, by the member that the kernel's hash gave them to. A trial's client ends are numbered as in its port ledger;
//! its server end is always the same.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::ledger::PORTS;
use crate::sys::shared::SharedSlice;

/// How many distinct 4-tuples each member has got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drawn {
    /// By member.
    pub by_member: Vec<u64>,
    /// Those that no earlier trial had, by member; empty if that was not asked.
    pub new_by_member: Vec<u64>,
}

/// The client ends that trials of a cell have had so far: memory for the trials of one network, whose hash they share.
#[derive(Debug)]
pub struct Seen {
    /// A bit for each TCP port of each address, then for each UDP port.
    bits: SharedSlice<AtomicU64>,
    places: usize,
}

impl Seen {
    /// Nothing yet, for clients with this many addresses. Make it before a trial is forked.
    pub fn new(addresses: usize) -> io::Result<Self> {
        let places = PORTS * addresses.max(1);
        Ok(Self { bits: SharedSlice::new(2 * places / u64::BITS as usize)?, places })
    }

    /// Marks a client end; true if it is new.
    fn mark(&self, udp: bool, place: usize) -> bool {
        let place = place + if udp { self.places } else { 0 };
        let bit = 1 << (place % u64::BITS as usize);
        self.bits[place / u64::BITS as usize].fetch_or(bit, Relaxed) & bit == 0
    }
}

impl Drawn {
    /// Counts client ends, each with the members that got its connections or flows. Marks them in `seen`.
    pub(super) fn count<M: IntoIterator<Item = u16>>(
        members: usize,
        seen: Option<&Seen>,
        udp: bool,
        ends: impl Iterator<Item = (usize, M)>,
    ) -> Self {
        let new_by_member = vec![0; if seen.is_some() { members } else { 0 }];
        let mut drawn = Self { by_member: vec![0; members], new_by_member };
        for (place, got) in ends {
            let new = seen.is_some_and(|seen| seen.mark(udp, place));
            for member in got.into_iter().map(usize::from).filter(|member| *member < members) {
                drawn.by_member[member] += 1;
                if new {
                    drawn.new_by_member[member] += 1;
                }
            }
        }
        drawn
    }
}
