//! Memory of held connections.

use super::{
    Better::{Higher, Lower, Neither},
    Metric,
    Unit::{Bytes, Count, Share},
    exact, sampled,
};
use crate::record::{Memory, TrialRecord};

/// The most connections known to have been open at once. Memory is read at thousands only, and a ramp takes connections that are all
/// held; with neither, samples would tell only how many there were at least.
fn held(trial: &TrialRecord) -> Option<u64> {
    let at_reading = trial.memory.as_ref().map(|memory| memory.open);
    let after_ramp = trial.ramp.as_ref().and_then(|ramp| Some(ramp.steps.last()?.accepted));
    at_reading.max(after_ramp)
}

/// Memory of both ends of the connections, which only the one machine that has both can tell.
fn both_ends(trial: &TrialRecord) -> Option<&Memory> {
    trial.memory.as_ref().filter(|_| trial.hosts.is_empty())
}

pub(super) const METRICS: &[Metric] = &[
    exact("open_peak", "connections held", "Most connections known to have been open at once.", Count, Neither, |trial| held(trial).map(|held| held as f64))
        .column("most\nopen")
        .only_with("bytes_per_connection"),
    exact("held_share", "share of the connections held at once", "Part of the connections attempted that were open at once.", Share, Higher, |trial| {
        Some(held(trial)? as f64 / Some(trial.connections.attempted).filter(|attempted| *attempted > 0)? as f64)
    }),
    sampled("bytes_per_connection", "memory per connection", "Memory that an open connection takes: kernel, both ends, and processes.", Bytes, Lower, |trial| {
        both_ends(trial).map(|memory| memory.kernel_bytes_per_connection + memory.user_bytes_per_connection)
    })
    .compared()
    .column("memory\nB/connection"),
    sampled("kernel_bytes_per_connection", "kernel memory per connection", "Growth of the kernel's memory per open connection, both ends of it.", Bytes, Lower, |trial| {
        both_ends(trial).map(|memory| memory.kernel_bytes_per_connection)
    })
    .compared()
    .column("kernel\nB/connection"),
    sampled("user_bytes_per_connection", "user memory per connection", "Growth of the memory of loaders and workers per open connection, what they share included.", Bytes, Lower, |trial| {
        both_ends(trial).map(|memory| memory.user_bytes_per_connection)
    })
    .compared()
    .column("user\nB/connection"),
    sampled("loader_bytes_per_connection", "loaders' memory per connection", "Growth of the loaders' private memory per open connection.", Bytes, Lower, |trial| {
        both_ends(trial).map(|memory| memory.loader_bytes_per_connection)
    })
    .column("loaders'\nB/connection"),
    sampled("worker_bytes_per_connection", "server's memory per connection", "Growth of the workers' private memory per open connection.", Bytes, Lower, |trial| {
        trial.memory.as_ref().map(|memory| memory.worker_bytes_per_connection)
    })
    .column("server's\nB/connection"),
    sampled("shared_bytes_per_connection", "shared memory per connection", "Growth, per open connection, of the shared memory in which loaders and workers register connections for each other.", Bytes, Lower, |trial| {
        trial.memory.as_ref().map(|memory| memory.shared_bytes_per_connection)
    })
    .column("shared\nB/connection"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Connections, HostRow, Ramp, RampStep};

    #[test]
    fn of_several_hosts_only_the_servers_memory_is_known() {
        let memory = Memory { kernel_bytes_per_connection: 5.0, worker_bytes_per_connection: 7.0, ..Memory::default() };
        let mut trial = TrialRecord { memory: Some(memory), ..TrialRecord::default() };
        let read =
            |trial: &TrialRecord, name: &str| METRICS.iter().find(|metric| metric.name == name).unwrap().read(trial);
        assert_eq!(read(&trial, "kernel_bytes_per_connection"), Some(5.0));
        trial.hosts = vec![HostRow::default()];
        assert_eq!(read(&trial, "worker_bytes_per_connection"), Some(7.0));
        for name in ["bytes", "kernel_bytes", "user_bytes", "loader_bytes"] {
            assert_eq!(read(&trial, &format!("{name}_per_connection")), None, "{name}");
        }
    }

    #[test]
    fn connections_held_are_known_without_a_reading_of_memory() {
        let step = RampStep { accepted: 500, ..RampStep::default() };
        let mut trial = TrialRecord {
            connections: Connections { attempted: 500, ..Connections::default() },
            ramp: Some(Ramp { steps: vec![step], ..Ramp::default() }),
            ..TrialRecord::default()
        };
        let share = |trial: &TrialRecord| METRICS[1].read(trial);
        assert_eq!((held(&trial), share(&trial)), (Some(500), Some(1.0)));
        trial.memory = Some(Memory { open: 499, ..Memory::default() });
        assert_eq!(held(&trial), Some(500));
        trial.ramp = None;
        assert_eq!(held(&trial), Some(499));
        trial.memory = None;
        assert_eq!((held(&trial), share(&trial)), (None, None));
    }
}
