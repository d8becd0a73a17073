//! Exact accept waits: the time at which the kernel put each connection into ESTABLISHED on the server's side.
//!
//! A sock_ops program (`src/bpf/stamp.bpf.c`), attached to the cgroup of the process that creates the listeners, stores the time of
//! connections to their address, in memory that workers and loaders map: reading it takes neither a system call nor an allocation. Each
//! slot belongs to one client port and is tagged with the client's address and a count, so that a worker can tell the stamp of its
//! connection from earlier and later ones. Nothing has a name: the program ends with the last process that holds it.

use std::{
    collections::BTreeSet,
    fs::File,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed},
        },
    },
};

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf,
    maps::{HashMap, Map},
    programs::{CgroupAttachMode, SockOps},
};

use crate::{
    ipc::places::Places,
    observe::reach::demand_local,
    sys::{bpf, cgroup, clock, shared::SharedSlice, socket},
};

const PORTS: usize = 1 << 16;

/// The mapped stamps. Create before the first fork.
#[derive(Debug)]
pub struct Stamps {
    /// `struct stamp` of `src/bpf/stamp.bpf.c`: tag and time.
    slots: SharedSlice<[AtomicU64; 2]>,
    /// For each slot, the count at which a worker last took a stamp.
    taken: SharedSlice<AtomicU32>,
    /// Who has which slots; `None` if the low bits of an address say.
    places: Option<Arc<Places>>,
    addresses: usize,
    /// Keeps the program attached.
    _program: Ebpf,
}

/// The clients that have slots.
#[derive(Debug, Clone, Copy)]
pub enum Room<'a> {
    /// Any, at so many addresses if these follow on one another.
    Any(usize),
    /// These, and if they are closed, no others.
    Of(&'a Arc<Places>),
}

impl Stamps {
    /// Attaches a program that stamps connections to a TCP address of the calling process's network, to listeners that this process and
    /// its children create. The error names the cause and the remedy.
    pub fn load(clients: Room<'_>, at: SocketAddr) -> Result<Self> {
        // The program stamps by the kernel's clock, and workers read the stamps by their own.
        ensure!(
            clock::ahead_of_kernel_ns() == 0,
            "CLOCK_MONOTONIC of this time namespace differs from the kernel's: run in the machine's own (nsenter -T -t 1)"
        );
        let folder = cgroup::open_own()?;
        Self::attach(clients, at, folder).map_err(|error| {
            let required =
                "5.15 or later is required, with CONFIG_CGROUP_BPF, for sock_ops programs that know the network";
            bpf::explained(error, "stamp", required)
        })
    }

    fn attach(clients: Room<'_>, at: SocketAddr, folder: File) -> Result<Self> {
        let (addresses, places) = match clients {
            Room::Any(addresses) => (addresses.next_power_of_two(), None),
            Room::Of(places) if places.are_closed() => (places.len(), Some(places)),
            Room::Of(places) => (places.len().next_power_of_two(), None),
        };
        let slots = addresses * PORTS;
        let network = socket::network_cookie().context("getsockopt SO_NETNS_COOKIE")?;
        let mut bpf = bpf::loader()
            .override_global("addresses", &(addresses as u32), true)
            .override_global("listed", &u32::from(places.is_some()), true)
            .override_global("network", &network, true)
            .override_global("port", &u32::from(at.port()), true)
            .override_global("at", &folded(at.ip()), true)
            .map_max_entries("stamps", slots as u32)
            .map_max_entries("places", addresses as u32)
            .load(aya::include_bytes_aligned!("../bpf/stamp.bpf.o"))
            .context("loading its object")?;
        if let Some(places) = places {
            let map = bpf.map_mut("places").context("the object has no map `places`")?;
            let mut map = HashMap::<_, [u8; 16], u32>::try_from(map).context("map `places`")?;
            for (place, address) in places.addresses().iter().enumerate() {
                map.insert(whole(*address), place as u32, 0).context("filling map `places`")?;
            }
        }
        let program = bpf.program_mut("stamp").context("the object has no program `stamp`")?;
        let program: &mut SockOps = program.try_into().context("program `stamp`")?;
        program.load().context("verifying program `stamp`")?;
        // Attached by a link, which runs alongside other programs, of this cgroup and of those above. Links have no other mode in the
        // kernel.
        program
            .attach(folder, CgroupAttachMode::Single)
            .context("attaching program `stamp` to this process's cgroup")?;
        let Some(Map::Array(map)) = bpf.map("stamps") else { anyhow::bail!("the object has no array `stamps`") };
        let slots = SharedSlice::of_bpf_array(map, slots).context("mapping map `stamps`")?;
        let taken = SharedSlice::new(slots.len()).context("mapping shared memory")?;
        Ok(Self { slots, taken, places: places.cloned(), addresses, _program: bpf })
    }

    /// Tries stamps on a connection of the calling process's own over its loopback device.
    pub fn try_out() -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").context("binding to 127.0.0.1")?;
        let address = listener.local_addr().context("getsockname")?;
        let stamps = Self::load(Room::Any(1), address)?;
        demand_local(address)?;
        // Without a loopback device that is up, there is nothing to try them on. A trial's own network has one.
        let Ok(client) = TcpStream::connect(address) else { return Ok(()) };
        let stamped = stamps.take(client.local_addr().context("getsockname")?);
        ensure!(
            stamped.is_some(),
            "a connection was not stamped: this process's cgroup (/proc/self/cgroup) is not below the mounted hierarchy"
        );
        Ok(())
    }

    #[inline]
    fn slot(&self, client: SocketAddr) -> Option<(usize, u32)> {
        let address = folded(client.ip());
        let place = match &self.places {
            Some(places) => places.place(client.ip())?,
            None => address as usize & (self.addresses - 1),
        };
        Some((place * PORTS + usize::from(client.port()), address))
    }

    /// When the connection just accepted from this client was established, in nanoseconds of CLOCK_MONOTONIC. `None` if
    /// another connection on the same port has used the slot since, or the client is a stranger.
    ///
    /// The kernel holds the new socket's lock until the program has run, and accept takes that lock, so the stamp is
    /// there.
    #[inline]
    pub fn take(&self, client: SocketAddr) -> Option<u64> {
        let (slot, address) = self.slot(client)?;
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
        let (slot, address) = self.slot(client)?;
        let [tag, ns] = &self.slots[slot];
        (tag.load(Acquire) as u32 == address).then(|| ns.load(Relaxed))
    }

    /// The addresses that connections were stamped from, of a server that listens on an IPv4 address: those of IPv6 are not kept whole.
    /// Walks all slots, which takes milliseconds.
    pub fn clients(&self) -> BTreeSet<Ipv4Addr> {
        let tags = self.slots.iter().map(|[tag, _]| tag.load(Acquire) as u32);
        tags.filter(|address| *address != 0).map(Ipv4Addr::from_bits).collect()
    }
}

/// An address as the kernel's IPv6 sockets have it, in network order.
fn whole(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
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
