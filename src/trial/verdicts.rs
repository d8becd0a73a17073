//! What a reader must know of a trial's figures.

use crate::{
    load::LoaderReport,
    record::{FaultRow, LatencySummary, TrialRecord, Verdict, VerdictName, WorkerRow},
};

/// Starts that came too late, or not at all, are worth a word beyond this share.
const STARTS_MISSED: f64 = 0.01;
/// The loader's own lateness (p99) may be this part of the response's median.
const SEND_LAG_PART: u64 = 10;
const STEAL_SHARE: f64 = 0.05;
/// Clearing away and the kernel's own threads stay well below.
const OTHERS_SHARE: f64 = 0.15;
/// A window cuts a few connections off; an overload leaves more.
const MET_SHARE: f64 = 0.95;
const ERROR_SHARE: f64 = 0.001;

/// Judges a record that is complete but for its verdicts.
pub(super) fn judge(record: &TrialRecord, loaders: &LoaderReport) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let mut say = |name: VerdictName, detail: String| {
        verdicts.push(Verdict { name, detail, invalidates: name.invalidates() });
    };
    let connections = &record.connections;
    if connections.unaccounted != 0 {
        say(
            VerdictName::Unaccounted,
            format!(
                "{} established ≠ {} accepted + {} left in queue + {} aborted; {} accepts are of connections that no \
                 loader established",
                connections.established,
                connections.accepted,
                connections.left_in_queue,
                connections.aborted,
                connections.foreign
            ),
        );
    }
    if connections.misdelivered != 0 {
        say(VerdictName::Misdelivered, format!("{} replies belong to another connection", connections.misdelivered));
    }
    if let Some(datagrams) = record.datagrams.as_ref().filter(|datagrams| datagrams.unaccounted != 0) {
        say(
            VerdictName::Unaccounted,
            format!(
                "{} datagrams sent ≠ {} received + {} left in queue + {} lost + {} aborted",
                datagrams.sent, datagrams.received, datagrams.left_in_queue, datagrams.lost, datagrams.aborted
            ),
        );
    }
    if record.measured.stamps_impossible != 0 {
        say(
            VerdictName::StampsImpossible,
            format!("{} stamps lie outside of their connection's handshake", record.measured.stamps_impossible),
        );
    }
    // A worker that the scenario kills is meant to die.
    let meant = |worker: &WorkerRow| record.faults.iter().any(|f| f.kind == "kill" && f.worker == worker.worker);
    for worker in record.workers.iter().filter(|worker| worker.exit != "ok" && !meant(worker)) {
        say(VerdictName::WorkerDied, format!("worker {} (pid {}): {}", worker.worker, worker.pid, worker.exit));
    }
    for helper in record.helper.iter().filter(|helper| helper.exit != "ok") {
        say(VerdictName::WorkerDied, format!("the strategy's own process (pid {}): {}", helper.pid, helper.exit));
    }
    if loaders.gave_up {
        say(VerdictName::Deadline, "the load had not ended at the deadline".to_owned());
    }
    if record.measured.planned == 0 {
        say(VerdictName::NothingMeasured, "no connection was due in the measured window".to_owned());
    }
    saturation(record, &mut say);
    let kernel = |name: &str| record.kernel.get(name).copied().unwrap_or(0);
    if kernel("ListenOverflows") > 0 {
        say(
            VerdictName::QueueOverflow,
            format!(
                "{} segments dropped at a full accept queue (limit {})",
                kernel("ListenOverflows"),
                record.workers.iter().map(|worker| worker.queue_limit).max().unwrap_or(0)
            ),
        );
    }
    if kernel("RetransSegs") > 0 {
        say(
            VerdictName::SynRetries,
            format!("{} segments sent again, {} of them SYNs", kernel("RetransSegs"), kernel("TCPSynRetrans")),
        );
    }
    if record.cpu_steal_share > STEAL_SHARE {
        say(VerdictName::CpuSteal, format!("the host took {:.1} % of the processors", 100.0 * record.cpu_steal_share));
    }
    if record.cpu_others_share > OTHERS_SHARE {
        say(
            VerdictName::CpuContended,
            format!("other processes used {:.0} % of the processors", 100.0 * record.cpu_others_share),
        );
    }
    rate_unmet(record, &mut say);
    if let Some(datagrams) = record.datagrams.as_ref().filter(|datagrams| datagrams.lost > 0) {
        let share = 100.0 * datagrams.lost as f64 / datagrams.sent.max(1) as f64;
        say(VerdictName::DatagramsLost, format!("{} datagrams, {share:.1} % of all, found no room", datagrams.lost));
    }
    if !record.faults.is_empty() {
        let fault =
            |f: &FaultRow| format!("{} of worker {} at {:.2} s for {:.2} s", f.kind, f.worker, f.at_s, f.lasted_s);
        say(VerdictName::Faults, record.faults.iter().map(fault).collect::<Vec<_>>().join(", "));
    }
    if 2 * record.ports_peak > record.usable_ports {
        say(
            VerdictName::PortsScarce,
            format!("up to {} of {} ports in use or in TIME_WAIT", record.ports_peak, record.usable_ports),
        );
    }
    let failed: u64 = connections.errors.iter().map(|error| error.count).sum();
    if many_failed(failed, connections.attempted) {
        let list: Vec<String> =
            connections.errors.iter().map(|e| format!("{} {} ×{}", e.phase, e.errno, e.count)).collect();
        say(VerdictName::Errors, list.join(", "));
    }
    if loaders.overflows > 0 {
        say(VerdictName::BeyondRange, format!("{} latencies over 60 s were recorded as 60 s", loaders.overflows));
    }
    verdicts
}

/// An open loop's starts that were not served in the window: accepts, or with datagrams, what was completed.
fn rate_unmet(record: &TrialRecord, say: &mut impl FnMut(VerdictName, String)) {
    let Some(offered) = record.offered_per_s else { return };
    let (met, what) = match &record.datagrams {
        Some(_) if record.duration_s > 0.0 => (record.measured.completed as f64 / record.duration_s, "completed"),
        Some(_) => return,
        None => (record.accepted_per_s, "accepted"),
    };
    if met < MET_SHARE * offered {
        say(VerdictName::RateUnmet, format!("{met:.0}/s {what} of {offered:.0}/s offered"));
    }
}

/// Whether so many connections failed that a reader must know.
pub fn many_failed(failed: u64, attempted: u64) -> bool {
    failed as f64 > ERROR_SHARE * attempted as f64
}

/// Whether the loaders' lateness is too large beside what they measured.
pub fn late(send_lag: &LatencySummary, response: &LatencySummary) -> bool {
    response.count > 0 && send_lag.p99 > response.p50 / SEND_LAG_PART
}

/// The loader's own saturation: starts that missed the window, or came late. How busy the loaders were tells whether
/// that is load or only the lateness of timers.
fn saturation(record: &TrialRecord, say: &mut impl FnMut(VerdictName, String)) {
    let measured = &record.measured;
    let missed = measured.planned.saturating_sub(measured.in_time);
    let (lag, response) = (&record.latency_ns.send_lag, &record.latency_ns.response);
    let rate =
        record.offered_per_s.map_or_else(|| "in a closed loop".to_owned(), |offered| format!("at {offered:.0}/s"));
    let detail = if missed as f64 > STARTS_MISSED * measured.planned as f64 {
        format!("{missed} of {} starts {rate} came after the window's end", measured.planned)
    } else if late(lag, response) {
        format!(
            "send lag p99 {:.3} ms {rate}, over a tenth of the response p50 {:.3} ms",
            lag.p99 as f64 / 1e6,
            response.p50 as f64 / 1e6
        )
    } else {
        return;
    };
    let trial_ns = record.series.interval_ms as f64 * 1e6 * record.series.accepted.len() as f64;
    let busiest = record.loaders.iter().map(|loader| loader.cpu_user_ns + loader.cpu_system_ns).max().unwrap_or(0);
    let busy = if trial_ns > 0.0 {
        format!("; the busiest loader used {:.0} % of a processor", (100.0 * busiest as f64 / trial_ns).min(100.0))
    } else {
        String::new()
    };
    say(VerdictName::LoaderSaturated, detail + &busy);
}
