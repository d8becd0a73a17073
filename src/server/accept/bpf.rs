//! eBPF programs that pick a member of a SO_REUSEPORT group.
//!
//! The programs are C in `src/bpf`, their objects committed; `scripts/build-bpf` rebuilds them.

use std::{io::ErrorKind, ops::Range};

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf,
    maps::{Array, Map, MapData, MapError, ReusePortSockArray},
    programs::SkReuseport,
};

use super::publish::States;
use crate::{server::Listeners, sys::bpf};

const WANTED: &str = "4.19 or later is required, with BPF_PROG_TYPE_SK_REUSEPORT and BPF_MAP_TYPE_REUSEPORT_SOCKARRAY";

/// A program that picks the members of a group, as long as this process may make it pick others.
pub struct Program {
    bpf: Ebpf,
    /// By set of listeners that it was turned to: the numbers of its queues.
    sets: Vec<Range<u32>>,
    /// The addresses on which each queue has a listener.
    addresses: u32,
}

/// The most queues, as in `src/bpf/reuseport.h`.
const MOST_QUEUES: u32 = 512;

/// Where map `members` has a queue's listener on one of the addresses.
fn place(address: u32, queue: u32) -> Result<u32> {
    ensure!(queue < MOST_QUEUES, "listener {queue}: map `members` has room for {MOST_QUEUES} on each address");
    Ok(address * MOST_QUEUES + queue)
}

/// Makes a program pick the members of a group. Returns the memory through which workers direct it, if it reads any.
pub(super) fn steer(
    name: &str,
    object: &[u8],
    listeners: &Listeners,
    globals: &[(&str, u64)],
) -> Result<(Program, Option<States>)> {
    attach(object, listeners, globals).map_err(|error| bpf::explained(error, name, WANTED))
}

fn attach(object: &[u8], listeners: &Listeners, globals: &[(&str, u64)]) -> Result<(Program, Option<States>)> {
    let queues = u32::try_from(listeners.queues())?;
    let addresses = u32::try_from(listeners.groups().len())?;
    let mut loader = bpf::loader();
    loader.override_global("queues", &queues, true);
    loader.override_global("addresses", &addresses, true);
    loader.map_max_entries("members", MOST_QUEUES * addresses);
    for (name, value) in globals {
        loader.override_global(name, value, true);
    }
    let mut bpf: Ebpf = loader.load(object).context("loading its object")?;
    let program = bpf.program_mut("pick").context("the object has no program `pick`")?;
    let program: &mut SkReuseport = program.try_into().context("program `pick`")?;
    program.load().context("verifying program `pick`")?;
    let states = match bpf.map("state") {
        Some(Map::Array(data)) => Some(States::of_bpf_array(data, listeners.sharers()).context("mapping map `state`")?),
        _ => None,
    };
    let mut program = Program { bpf, sets: Vec::new(), addresses };
    program.turn_to(listeners)?;
    Ok((program, states))
}

impl Program {
    /// Makes it pick from these listeners, in place of those that it picked from before, and attaches it to their group on each address. A
    /// program that knows flows by their ids goes on to send what belongs to the others there. The groups keep the program, the program its
    /// maps, and closing the last listener frees them all unless this is kept.
    pub fn turn_to(&mut self, listeners: &Listeners) -> Result<()> {
        let count = u32::try_from(listeners.queues())?;
        let keeps = self.bpf.map("takers").is_some();
        let first = self.sets.last().filter(|_| keeps).map_or(0, |last| last.end);
        let mut members = self.members()?;
        for (row, group) in (0..).zip(listeners.groups()) {
            for (number, socket) in (first..).zip(group) {
                members
                    .set(place(row, number)?, &*socket, 0)
                    .with_context(|| format!("adding listener {number} to map `members`"))?;
            }
        }
        if let Some(takers) = self.bpf.map_mut("takers") {
            let mut takers: Array<_, u64> = takers.try_into().context("map `takers`")?;
            takers.set(0, u64::from(first) << 32 | u64::from(count), 0).context("setting map `takers`")?;
        }
        self.sets.push(first..first + count);
        let program = self.bpf.program_mut("pick").context("the object has no program `pick`")?;
        let program: &mut SkReuseport = program.try_into().context("program `pick`")?;
        let mut any_of_each = listeners.groups().flat_map(|mut group| group.next());
        any_of_each.try_for_each(|socket| program.attach(&*socket)).context("attaching program `pick` to the listeners")
    }

    /// Makes it send no more to a set of listeners that it was turned to, counted from 0, whatever a datagram says.
    pub fn forget(&mut self, set: usize) -> Result<()> {
        let queues = self.sets.get(set).cloned().unwrap_or_default();
        let addresses = 0..self.addresses;
        let mut members = self.members()?;
        for (address, queue) in addresses.flat_map(|address| queues.clone().map(move |queue| (address, queue))) {
            // Whoever has died has taken its own with it.
            match members.clear_index(&place(address, queue)?) {
                Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => {}
                cleared => cleared.with_context(|| format!("removing listener {queue} from map `members`"))?,
            }
        }
        Ok(())
    }

    fn members(&mut self) -> Result<ReusePortSockArray<&mut MapData>> {
        let members = self.bpf.map_mut("members").context("the object has no map `members`")?;
        ReusePortSockArray::try_from(members).context("map `members`")
    }
}
