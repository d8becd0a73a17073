//! eBPF programs that pick a member of a SO_REUSEPORT group.
//!
//! The programs are C in `src/bpf`, their objects committed; `scripts/build-bpf` rebuilds them.

use anyhow::{Context, Result};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, ReusePortSockArray},
    programs::SkReuseport,
};

use super::publish::States;
use crate::{server::Listeners, sys::bpf};

const WANTED: &str = "4.19 or later is required, with BPF_PROG_TYPE_SK_REUSEPORT and BPF_MAP_TYPE_REUSEPORT_SOCKARRAY";

/// A program that picks the members of a group, as long as this process may make it pick others.
pub struct Program {
    bpf: Ebpf,
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
    let count = listeners.each().len();
    let members = u32::try_from(count)?;
    let mut loader = EbpfLoader::new();
    loader.override_global("queues", &members, true);
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
    let mut program = Program { bpf };
    program.turn_to(listeners)?;
    Ok((program, states))
}

impl Program {
    /// Makes it pick from these listeners, in place of those that it picked from before, and attaches it to their group. The group keeps
    /// the program, the program its maps, and closing the last listener frees them all unless this is kept.
    pub fn turn_to(&mut self, listeners: &Listeners) -> Result<()> {
        let members = self.bpf.map_mut("members").context("the object has no map `members`")?;
        let mut members = ReusePortSockArray::try_from(members).context("map `members`")?;
        for (number, socket) in listeners.each().enumerate() {
            members
                .set(number as u32, &*socket, 0)
                .with_context(|| format!("adding listener {number} to map `members`"))?;
        }
        let program = self.bpf.program_mut("pick").context("the object has no program `pick`")?;
        let program: &mut SkReuseport = program.try_into().context("program `pick`")?;
        program.attach(listeners.any()).context("attaching program `pick` to the listeners")
    }
}
