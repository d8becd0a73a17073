//! Exact accept waits: when the kernel had each connection ESTABLISHED on the server's side.
//!
//! A sock_ops program (`src/bpf/stamp.bpf.c`) notes the time, for connections of listeners that were created in its cgroup,
//! in memory that workers and loaders map: reading it costs neither a system call nor an allocation. A slot belongs to one
//! client port, and is tagged with the client's address and a count, so that a worker can tell the stamp of its connection
//! from one that came before or after it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed},
    },
};

use anyhow::{Context, Result};
use aya::{
    Ebpf, EbpfLoader,
    maps::Map,
    programs::{CgroupAttachMode, SockOps},
};

use crate::sys::{bpf, cgroup::Cgroup, shared::SharedSlice};

const PORTS: usize = 1 << 16;

/// The stamps, mapped. Made before the first fork.
#[derive(Debug)]
pub struct Stamps {
    /// `struct stamp` of `src/bpf/stamp.bpf.c`: tag and time.
    slots: SharedSlice<[AtomicU64; 2]>,
    /// By slot: the count at which a worker last took a stamp.
    taken: SharedSlice<AtomicU32>,
    addresses: usize,
}

/// The program and its map, alive as long as this is.
pub struct Stamper {
    bpf: Ebpf,
}

impl Stamps {
    /// Loads the program and maps its memory, with slots of their own for so many client addresses. Fails with reason and
    /// remedy where this kernel or this user may not.
    pub fn load(addresses: usize) -> Result<(Self, Stamper)> {
        let load = || -> Result<(Self, Stamper)> {
            let addresses = addresses.next_power_of_two();
            let slots = addresses * PORTS;
            let object = aya::include_bytes_aligned!("../bpf/stamp.bpf.o");
            let mut bpf = EbpfLoader::new()
                .override_global("addresses", &(addresses as u32), true)
                .map_max_entries("stamps", slots as u32)
                .load(object)
                .context("loading its object")?;
            let program = bpf.program_mut("stamp").context("the object has no program `stamp`")?;
            let program: &mut SockOps = program.try_into().context("program `stamp`")?;
            program.load().context("verifying program `stamp`")?;
            let Some(Map::Array(map)) = bpf.map("stamps") else { anyhow::bail!("the object has no array `stamps`") };
            let slots = SharedSlice::of_bpf_array(map, slots).context("mapping map `stamps`")?;
            let taken = SharedSlice::new(slots.len()).context("mapping shared memory")?;
            Ok((Self { slots, taken, addresses }, Stamper { bpf }))
        };
        load().map_err(explained)
    }

    /// The slot of a client.
    #[inline]
    fn slot(&self, client: SocketAddr) -> (usize, u32) {
        let address = folded(client.ip());
        ((address as usize & (self.addresses - 1)) * PORTS + usize::from(client.port()), address)
    }

    /// When the connection that accept has just returned for this client was established, in nanoseconds of
    /// CLOCK_MONOTONIC. `None` when its slot does not tell: another connection of the same port has been there since.
    ///
    /// The kernel holds the new socket's lock until the program has run, and accept takes that lock: the stamp is there.
    #[inline]
    pub fn take(&self, client: SocketAddr) -> Option<u64> {
        let (slot, address) = self.slot(client);
        let [tag, ns] = &self.slots[slot];
        let tag = tag.load(Acquire);
        let count = (tag >> 32) as u32;
        // One writer a slot at a time: a port's next connection is accepted after this one.
        let before = self.taken[slot].load(Relaxed);
        self.taken[slot].store(count, Relaxed);
        (tag as u32 == address && count == before.wrapping_add(1)).then(|| ns.load(Relaxed))
    }

    /// The same for a client that asks for its own connection. While its socket has the port, the stamp can be nobody else's.
    #[inline]
    pub fn look(&self, client: SocketAddr) -> Option<u64> {
        let (slot, address) = self.slot(client);
        let [tag, ns] = &self.slots[slot];
        (tag.load(Acquire) as u32 == address).then(|| ns.load(Relaxed))
    }
}

impl Stamper {
    /// Runs something in a cgroup of that name, with the program attached: connections of listeners that it creates are
    /// stamped from then on. The cgroup is gone afterwards, and the program stays with the listeners.
    pub fn inside<T>(&mut self, cgroup: &str, body: impl FnOnce() -> T) -> Result<T> {
        let cgroup = Cgroup::create(cgroup)?;
        let program = self.bpf.program_mut("stamp").context("the object has no program `stamp`")?;
        let program: &mut SockOps = program.try_into().context("program `stamp`")?;
        let folder = cgroup.open().context("opening the cgroup")?;
        program
            // A link, and so beside programs of the cgroups above: their kernel knows no other mode for links.
            .attach(folder, CgroupAttachMode::Single)
            .context("attaching program `stamp` to the cgroup")
            .map_err(explained)?;
        cgroup.inside(body)
    }
}

fn explained(error: anyhow::Error) -> anyhow::Error {
    let remedy = bpf::remedy(
        &error,
        "5.5 or later is required, with CONFIG_CGROUP_BPF, for sock_ops programs and arrays that can be mapped",
    );
    error.context(format!("BPF program stamp: {remedy}"))
}

/// An address in 32 bits: IPv4 as it is, the four words of IPv6 xor-ed.
fn folded(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(v4) => v4.to_bits(),
        IpAddr::V6(v6) => {
            let words = v6.to_bits();
            (0..4).fold(0, |sum, word| sum ^ (words >> (32 * word)) as u32)
        }
    }
}
