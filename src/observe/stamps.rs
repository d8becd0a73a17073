//! Exact accept waits: the time at which the kernel put each connection into ESTABLISHED on the server's side.
//!
//! A sock_ops program (`src/bpf/stamp.bpf.c`) stores the time of connections to listeners created in its cgroup, in
//! memory that workers and loaders map: reading it takes neither a system call nor an allocation. Each slot belongs to
//! one client port and is tagged with the client's address and a count, so that a worker can tell the stamp of its
//! connection from earlier and later ones.

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

/// The mapped stamps. Create before the first fork.
#[derive(Debug)]
pub struct Stamps {
    /// `struct stamp` of `src/bpf/stamp.bpf.c`: tag and time.
    slots: SharedSlice<[AtomicU64; 2]>,
    /// For each slot, the count at which a worker last took a stamp.
    taken: SharedSlice<AtomicU32>,
    addresses: usize,
}

/// Keeps the program and its map loaded.
pub struct Stamper {
    bpf: Ebpf,
}

impl Stamps {
    /// Loads the program and maps its memory, with separate slots for this many client addresses. The error names the
    /// cause and the remedy.
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

    #[inline]
    fn slot(&self, client: SocketAddr) -> (usize, u32) {
        let address = folded(client.ip());
        ((address as usize & (self.addresses - 1)) * PORTS + usize::from(client.port()), address)
    }

    /// When the connection just accepted from this client was established, in nanoseconds of CLOCK_MONOTONIC. `None` if
    /// another connection on the same port has used the slot since.
    ///
    /// The kernel holds the new socket's lock until the program has run, and accept takes that lock, so the stamp is
    /// there.
    #[inline]
    pub fn take(&self, client: SocketAddr) -> Option<u64> {
        let (slot, address) = self.slot(client);
        let [tag, ns] = &self.slots[slot];
        let tag = tag.load(Acquire);
        let count = (tag >> 32) as u32;
        // Only one writer per slot: a port's next connection is accepted after this one.
        let before = self.taken[slot].load(Relaxed);
        self.taken[slot].store(count, Relaxed);
        (tag as u32 == address && count == before.wrapping_add(1)).then(|| ns.load(Relaxed))
    }

    /// Like [`Self::take`], for a client's own connection: while its socket holds the port, the stamp can belong to no
    /// other.
    #[inline]
    pub fn look(&self, client: SocketAddr) -> Option<u64> {
        let (slot, address) = self.slot(client);
        let [tag, ns] = &self.slots[slot];
        (tag.load(Acquire) as u32 == address).then(|| ns.load(Relaxed))
    }
}

impl Stamper {
    /// Runs `body` in a cgroup of that name with the program attached: connections to listeners created by `body` are
    /// stamped. The cgroup is removed afterwards; the program stays with the listeners.
    pub fn inside<T>(&mut self, cgroup: &str, body: impl FnOnce() -> T) -> Result<T> {
        let cgroup = Cgroup::create(cgroup)?;
        let program = self.bpf.program_mut("stamp").context("the object has no program `stamp`")?;
        let program: &mut SockOps = program.try_into().context("program `stamp`")?;
        let folder = cgroup.open().context("opening the cgroup")?;
        program
            // Attached by a link, which runs alongside programs of the cgroups above. Links have no other mode in the
            // kernel.
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

/// Folds an address into 32 bits: IPv4 unchanged, the four words of IPv6 xor-ed.
fn folded(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(v4) => v4.to_bits(),
        IpAddr::V6(v6) => {
            let words = v6.to_bits();
            (0..4).fold(0, |sum, word| sum ^ (words >> (32 * word)) as u32)
        }
    }
}
