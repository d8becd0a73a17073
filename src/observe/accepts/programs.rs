//! Loads and attaches the programs.

use std::{
    collections::BTreeSet,
    fs::{self, Metadata},
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::Path,
};

use anyhow::{Context, Result, bail};
use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{HashMap, MapData},
    programs::{BtfTracePoint, RawTracePoint, TracePoint},
};

use super::{
    Filter, Level, Ours,
    filter::{Endpoint, Host, host},
    tables::Tables,
};
use crate::sys::{bpf, tracing::Tracefs};

/// How many connections that died unaccepted are remembered, in case the server accepts them after all.
const UNCLAIMED: u32 = 1 << 14;
/// Inode of the first process namespace (PROC_PID_INIT_INO), whose numbers programs get without a search.
const FIRST_PROCESSES: u64 = 0xefff_fffc;

const STATES: &str = "sock/inet_sock_set_state";
/// Events of system calls, with the programs that run at them.
const RETURNS: [(&str, &str); 2] = [("accept", "syscalls/sys_exit_accept"), ("accept4", "syscalls/sys_exit_accept4")];
/// On Unix sockets, which have no change of state when a connection begins.
const CONNECTS: [(&str, &str); 2] =
    [("connect_unix", "syscalls/sys_enter_connect"), ("connected_unix", "syscalls/sys_exit_connect")];
const CALLS: [(&str, &str); 2] =
    [("call_accept", "syscalls/sys_enter_accept"), ("call_accept4", "syscalls/sys_enter_accept4")];

/// Programs that are attached until they are dropped.
pub struct Programs {
    bpf: Ebpf,
    tables: Tables,
    rings_error: Option<anyhow::Error>,
    queued_error: Option<anyhow::Error>,
    _events: Vec<OwnedFd>,
}

impl Programs {
    /// Attaches the programs of a level. The error names the cause and the remedy.
    pub fn attach(level: Level, filter: &Filter, members: usize) -> Result<Self> {
        let attached = match level {
            Level::Tracepoints | Level::Counts if filter.on_unix => {
                bail!(
                    "accepts on a Unix socket are seen at the level `btf` only: set `probe` to `btf`, `auto` or `off`"
                )
            }
            Level::Btf => with_btf(types_of_kernel()?, filter, members),
            Level::Tracepoints => plain(filter, members, true),
            Level::Counts => plain(filter, members, false),
        };
        attached.map_err(|error| {
            let required = match level {
                Level::Btf => "5.15 or later is required, with CONFIG_DEBUG_INFO_BTF and CONFIG_FTRACE_SYSCALLS",
                Level::Tracepoints | Level::Counts => "5.12 or later is required, with CONFIG_FTRACE_SYSCALLS",
            };
            bpf::explained(error, "observe", required)
        })
    }

    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Why accepts by io_uring are not seen; `None` if they are.
    pub fn rings_error(&self) -> Option<&anyhow::Error> {
        self.rings_error.as_ref()
    }

    /// Why it is not seen when a Unix socket's connection is queued; `None` if it is, or of no interest.
    pub fn queued_error(&self) -> Option<&anyhow::Error> {
        self.queued_error.as_ref()
    }

    /// Tells the programs whose connections are ours.
    pub fn ours(&mut self, ours: Ours<'_>) -> Result<()> {
        let map = self.bpf.map_mut("ours").context("the object has no map `ours`")?;
        let mut processes: HashMap<&mut MapData, i32, u32> = HashMap::try_from(map).context("map `ours`")?;
        for pid in ours.processes {
            processes.insert(pid, 1, 0).context("adding a process to map `ours`")?;
        }
        let map = self.bpf.map_mut("hosts").context("the object has no map `hosts`")?;
        let mut hosts: HashMap<&mut MapData, Host, u32> = HashMap::try_from(map).context("map `hosts`")?;
        for address in ours.hosts {
            hosts.insert(host(*address), 1, 0).context("adding a host to map `hosts`")?;
        }
        self.tables.ask_whose();
        Ok(())
    }

    /// Tells the programs which listeners on Unix sockets count.
    pub fn listen(&mut self, inodes: &BTreeSet<u32>) -> Result<()> {
        let map = self.bpf.map_mut("unix_listeners").context("the object has no map `unix_listeners`")?;
        let mut listeners: HashMap<&mut MapData, u64, u32> = HashMap::try_from(map).context("map `unix_listeners`")?;
        for inode in inodes {
            listeners.insert(u64::from(*inode), 1, 0).context("adding a listener to map `unix_listeners`")?;
        }
        Ok(())
    }

    /// Runs that the kernel skipped.
    pub fn missed_runs(&self) -> Result<u64> {
        // A program that was not loaded has no descriptor.
        let loaded = self.bpf.programs().filter_map(|(_, program)| program.fd().ok());
        loaded.map(|program| bpf::missed_runs(program).context("bpf(BPF_OBJ_GET_INFO_BY_FD) of a program")).sum()
    }
}

/// A loader for either object, with room for this many members.
fn loader<'a>(filter: &Filter, capacity: &'a u32, filtered: &'a u32) -> EbpfLoader<'a> {
    debug_assert_eq!(*filtered == 0, filter.listeners.is_empty());
    let mut loader = bpf::loader();
    loader
        .override_global("capacity", capacity, true)
        .override_global("filtered", filtered, true)
        .override_global("unclaimed_limit", &UNCLAIMED, true)
        .map_max_entries("numbers", *capacity)
        .map_max_entries("members", *capacity)
        .map_max_entries("waits", *capacity)
        .map_max_entries("unclaimed", UNCLAIMED);
    loader
}

/// The process namespace in which members are named; `None` for the first.
fn processes() -> Result<Option<Metadata>> {
    let file = "/proc/self/ns/pid";
    let namespace = fs::metadata(file).context(file)?;
    Ok(Some(namespace).filter(|namespace| namespace.ino() != FIRST_PROCESSES))
}

/// The kernel's description of its own types.
fn types_of_kernel() -> Result<&'static Btf> {
    const FILE: &str = "/sys/kernel/btf/vmlinux";
    if !Path::new("/sys/kernel").exists() {
        bail!("{FILE} cannot be read, because /sys is not mounted: run `mount -t sysfs none /sys`");
    }
    bpf::types().with_context(|| format!("{FILE} cannot be read: a kernel with CONFIG_DEBUG_INFO_BTF is required"))
}

fn with_btf(btf: &Btf, filter: &Filter, members: usize) -> Result<Programs> {
    let processes = processes()?.map_or(0, |namespace| namespace.ino() as u32);
    let (capacity, filtered) = (members as u32, u32::from(!filter.listeners.is_empty()));
    let mut bpf = loader(filter, &capacity, &filtered)
        .btf(Some(btf))
        .override_global("network", &(filter.netns as u32), true)
        .override_global("processes", &processes, true)
        .load(aya::include_bytes_aligned!("../../bpf/observe.bpf.o"))
        .context("loading its object")?;
    let tables = Tables::of(&bpf, members)?;
    enter_filter(&mut bpf, filter)?;
    // Accepts last: a connection that one returns has been seen before.
    let changed: &mut BtfTracePoint = program(&mut bpf, "changed")?;
    changed.load("inet_sock_set_state", btf).context("verifying program `changed`")?;
    changed.attach().context("attaching program `changed`")?;
    let rings_error = rings(&mut bpf).err();
    let queued_error = if filter.on_unix { at_queued(&mut bpf, btf).err() } else { None };
    let tracefs = Tracefs::open().context("opening tracefs")?;
    let connects: &[_] = if filter.on_unix { &CONNECTS } else { &[] };
    let events = at_events(&mut bpf, &tracefs, &[connects, &RETURNS].concat())?;
    Ok(Programs { bpf, tables, rings_error, queued_error, _events: events })
}

/// Since Linux 6.3, waking a listener is an event.
fn at_queued(bpf: &mut Ebpf, btf: &Btf) -> Result<()> {
    let queued: &mut BtfTracePoint = program(bpf, "queued_unix")?;
    queued.load("sk_data_ready", btf).context("verifying program `queued_unix`")?;
    queued.attach().context("attaching program `queued_unix`")?;
    Ok(())
}

fn rings(bpf: &mut Ebpf) -> Result<()> {
    // Where the tracepoint has too few arguments for the first, the second is meant.
    at_raw(bpf, "of_fields", "io_uring_complete").or_else(|_| at_raw(bpf, "of_entry", "io_uring_complete"))?;
    at_raw(bpf, "overflowed", "io_uring_cqe_overflow")
}

fn plain(filter: &Filter, members: usize, with_waits: bool) -> Result<Programs> {
    let tracefs = Tracefs::open().context("opening tracefs")?;
    let offset = |event: &str, field: &str| {
        tracefs.offset(event, field).with_context(|| format!("reading the format of the event {event}"))
    };
    let in_calls = [("at_descriptor", "fd"), ("at_address", "upeer_sockaddr")];
    let mut offsets = vec![("at_result", offset(RETURNS[1].1, "ret")?)];
    for (global, field) in in_calls {
        offsets.push((global, offset(CALLS[1].1, field)?));
    }
    if with_waits {
        for (global, field) in IN_STATES {
            offsets.push((global, offset(STATES, field)?));
        }
    }
    let namespace = processes()?;
    let (device, inode) = namespace.map_or((0, 0), |namespace| (namespace.dev(), namespace.ino()));
    let (capacity, filtered) = (members as u32, u32::from(!filter.listeners.is_empty()));
    let mut loader = loader(filter, &capacity, &filtered);
    loader.override_global("processes_device", &device, true).override_global("processes", &inode, true);
    for (global, offset) in &offsets {
        loader.override_global(global, offset, true);
    }
    let object = aya::include_bytes_aligned!("../../bpf/observe_plain.bpf.o");
    let mut bpf = loader.load(object).context("loading its object")?;
    let tables = Tables::of(&bpf, members)?;
    enter_filter(&mut bpf, filter)?;
    let states: &[_] = if with_waits { &[("changed", STATES)] } else { &[] };
    let events = at_events(&mut bpf, &tracefs, &[states, &CALLS, &RETURNS].concat())?;
    Ok(Programs { bpf, tables, rings_error: None, queued_error: None, _events: events })
}

/// Where the program for changes of state finds the event's fields.
const IN_STATES: [(&str, &str); 9] = [
    ("at_sk", "skaddr"),
    ("at_before", "oldstate"),
    ("at_after", "newstate"),
    ("at_local_port", "sport"),
    ("at_remote_port", "dport"),
    ("at_family", "family"),
    ("at_protocol", "protocol"),
    ("at_local", "saddr_v6"),
    ("at_remote", "daddr_v6"),
];

fn enter_filter(bpf: &mut Ebpf, filter: &Filter) -> Result<()> {
    let map = bpf.map_mut("wanted").context("the object has no map `wanted`")?;
    let mut wanted: HashMap<&mut MapData, Endpoint, u32> = HashMap::try_from(map).context("map `wanted`")?;
    for entry in filter.entries() {
        wanted.insert(entry, 1, 0).context("adding a listener to map `wanted`")?;
    }
    Ok(())
}

fn at_raw(bpf: &mut Ebpf, name: &str, tracepoint: &str) -> Result<()> {
    let raw: &mut RawTracePoint = program(bpf, name)?;
    raw.load().with_context(|| format!("verifying program `{name}`"))?;
    raw.attach(tracepoint).with_context(|| format!("attaching program `{name}`"))?;
    Ok(())
}

/// Runs programs at trace events, until the result is dropped.
fn at_events(bpf: &mut Ebpf, tracefs: &Tracefs, programs: &[(&str, &str)]) -> Result<Vec<OwnedFd>> {
    let attached = programs.iter().map(|(name, event)| {
        let program: &mut TracePoint = program(bpf, name)?;
        program.load().with_context(|| format!("verifying program `{name}`"))?;
        let loaded = program.fd().with_context(|| format!("program `{name}`"))?;
        tracefs.attach(event, loaded).with_context(|| format!("attaching program `{name}` to the event {event}"))
    });
    attached.collect()
}

fn program<'a, P>(bpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = aya::programs::ProgramError>,
{
    let program = bpf.program_mut(name).with_context(|| format!("the object has no program `{name}`"))?;
    program.try_into().with_context(|| format!("program `{name}`"))
}
