//! Ways to choose the queue of a connection.

use anyhow::{Context, Result};
use aya::include_bytes_aligned;

use super::{
    bpf::{self, Program},
    publish::States,
};
use crate::{
    scenario::Steering,
    server::Listeners,
    sys::{affinity, clock, reuseport_bpf},
};

/// What a queue must be marked with before it is opened.
pub(super) fn mark(steering: &Steering, listeners: &Listeners) -> Result<()> {
    match steering {
        Steering::IncomingCpu { cpus } => mark_with_cpus(listeners, cpus.as_deref()),
        _ => Ok(()),
    }
}

/// Makes the kernel choose queues as the scenario says. Returns the program that does, if it is one that can be turned to others, and the
/// memory in which workers publish their load, if the choice depends on it.
pub(super) fn steer(steering: &Steering, listeners: &Listeners) -> Result<(Option<Program>, Option<States>)> {
    let (program, states) = match steering {
        // Its queues are marked.
        Steering::Hash | Steering::IncomingCpu { .. } => return Ok((None, None)),
        Steering::ReceivingCpu => return by_receiving_cpu(listeners).map(|()| (None, None)),
        Steering::RoundRobin => {
            bpf::steer("round_robin", include_bytes_aligned!("../../bpf/round_robin.bpf.o"), listeners, &[])?
        }
        Steering::Random => bpf::steer("random", include_bytes_aligned!("../../bpf/random.bpf.o"), listeners, &[])?,
        Steering::ConnectionId => bpf::steer("cid", include_bytes_aligned!("../../bpf/cid.bpf.o"), listeners, &[])?,
        Steering::Least => bpf::steer("least", include_bytes_aligned!("../../bpf/least.bpf.o"), listeners, &[])?,
        Steering::Hermes { hang, theta } => {
            let globals =
                [("hang_ns", clock::nanoseconds(*hang)), ("theta_permille", (theta * 1_000.0).round() as u64)];
            let object = include_bytes_aligned!("../../bpf/hermes.bpf.o");
            let (program, states) = bpf::steer("hermes", object, listeners, &globals)?;
            // An idle worker's loop turns four times per `hang`, so that it is not mistaken for one that hangs.
            (program, states.map(|states| states.with_heartbeat(*hang / 4)))
        }
    };
    Ok((Some(program), states))
}

/// A classic BPF program picks queue (receiving processor mod queues). The receiving processor is the one that handled the
/// SYN: on loopback, the client's own.
fn by_receiving_cpu(listeners: &Listeners) -> Result<()> {
    let queues = listeners.queues() as u32;
    listeners
        .groups()
        .flat_map(|mut group| group.next())
        .try_for_each(|socket| reuseport_bpf::pick_by_cpu(&*socket, queues))
        .context("setsockopt SO_ATTACH_REUSEPORT_CBPF, which requires Linux 4.5 or later")
}

/// Marks each queue with a processor (SO_INCOMING_CPU); the kernel prefers the queue whose processor received the SYN. Queue k gets
/// the k-th processor of the scenario's list, or of those that this process may use, wrapping around. If several queues carry that
/// processor's mark, or none does, the hash decides among them.
fn mark_with_cpus(listeners: &Listeners, cpus: Option<&[usize]>) -> Result<()> {
    let cpus = match cpus {
        Some(cpus) => cpus.to_vec(),
        None => affinity::allowed_cpus().context("sched_getaffinity")?,
    };
    for group in listeners.groups() {
        for (socket, cpu) in group.zip(cpus.iter().cycle()) {
            socket
                .set_cpu_affinity(*cpu)
                .context("setsockopt SO_INCOMING_CPU, which for listeners requires Linux 6.2 or later")?;
        }
    }
    Ok(())
}
