//! What a reader must know of a trial's figures.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::{
    load::LoaderReport,
    record::{EventKind, LatencySummary, TrialRecord, Verdict, VerdictName, WorkerRow},
    scenario::{Scenario, Selection},
    stats,
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
/// Mean length of a worker's queue below which its changes do not matter.
const QUEUE_WORTH_A_WORD: f64 = 5.0;

/// Judges a record that is complete but for its verdicts. `connects` are the measured connections' latencies of connect.
pub(super) fn judge(
    record: &TrialRecord,
    scenario: &Scenario,
    loaders: &LoaderReport,
    connects: &Histogram<u64>,
) -> Vec<Verdict> {
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
    let meant =
        |worker: &WorkerRow| record.faults.iter().any(|f| f.kind == EventKind::Kill && f.worker == worker.worker);
    for worker in record.workers.iter().filter(|worker| !worker.exit.is_ok() && !meant(worker)) {
        say(VerdictName::WorkerDied, format!("worker {} (pid {}): {}", worker.worker, worker.pid, worker.exit));
    }
    for helper in record.helper.iter().filter(|helper| !helper.exit.is_ok()) {
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
    if kernel("TCPTimeWaitOverflow") > 0 {
        say(
            VerdictName::TimeWaitOverflow,
            format!("{} connections had no TIME_WAIT, for want of tcp_max_tw_buckets", kernel("TCPTimeWaitOverflow")),
        );
    }
    if kernel("RetransSegs") > 0 {
        say(VerdictName::SynRetries, retries(record, connects));
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
    let capacity = record.usable_ports * scenario.sources.addresses.len().max(1) as u64;
    faults(record, scenario, &mut say);
    drift(record, scenario, &mut say);
    if scenario.load.follow_up.is_some() && record.latency_ns.follow_up.is_empty() {
        say(VerdictName::NoFollowUp, "no measured connection was held when the follow-up was due".to_owned());
    }
    // A program that chooses its ports itself searches for none.
    if 2 * record.ports_peak > capacity && scenario.sources.selection != Selection::Explicit {
        say(
            VerdictName::PortsScarce,
            format!("up to {} of {capacity} ports in use or in TIME_WAIT", record.ports_peak),
        );
    }
    let failed: u64 = connections.errors.iter().map(|error| error.count).sum();
    if many_failed(failed, connections.attempted) {
        let list: Vec<String> = connections.errors.iter().map(ToString::to_string).collect();
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

/// Whether a trial's two halves differ: in what was accepted, or in how long the queues were.
fn drift(record: &TrialRecord, scenario: &Scenario, say: &mut impl FnMut(VerdictName, String)) {
    let series = &record.series;
    let Some(interval_ms) = Some(series.interval_ms).filter(|interval_ms| *interval_ms > 0) else { return };
    // Faults change a trial on purpose.
    if !scenario.faults.is_empty() {
        return;
    }
    let rows = |seconds: f64| (seconds * 1e3 / interval_ms as f64).round() as usize;
    let warmup = rows(scenario.load.warmup.as_secs_f64());
    let measured = |rows_of: &[Vec<u64>]| -> Vec<f64> {
        let window = rows_of.iter().skip(warmup).take(rows(record.duration_s));
        window.map(|row| row.iter().sum::<u64>() as f64).collect()
    };
    let mut facts = Vec::new();
    if let Some(stats::Change { before, after }) = stats::drift_within(&measured(&series.accepted)) {
        let per_second = 1e3 / interval_ms as f64;
        let (before, after) = (before * per_second, after * per_second);
        facts.push(format!("{before:.0} accepts/s in the first half, {after:.0} in the second"));
    }
    // A shared queue stands in every worker's column, which the ratio of the halves does not mind.
    if let Some(stats::Change { before, after }) = stats::drift_within(&measured(&series.queue_peak))
        && before.max(after) >= QUEUE_WORTH_A_WORD * record.workers.len() as f64
    {
        facts.push(format!("queues up to {before:.1} connections long in the first half, {after:.1} in the second"));
    }
    if !facts.is_empty() {
        say(VerdictName::DriftInTrial, facts.join("; "));
    }
}

/// How far above a whole second a connect may end and still be one whose SYN was sent again then.
const MODE_WIDTH_NS: u64 = 400_000_000;

/// Segments sent again, and what that did to connects: the kernel repeats a SYN after 1, 2, 3, 4, 5, 7, 11, 19, 35 s
/// (tcp_syn_linear_timeouts, since Linux 6.5), so that their latency has modes at whole seconds.
fn retries(record: &TrialRecord, connects: &Histogram<u64>) -> String {
    let kernel = |name: &str| record.kernel.get(name).copied().unwrap_or(0);
    let mut modes: BTreeMap<u64, u64> = BTreeMap::new();
    for value in connects.iter_recorded() {
        let (seconds, over_ns) = (value.value_iterated_to() / 1_000_000_000, value.value_iterated_to() % 1_000_000_000);
        if seconds > 0 && over_ns < MODE_WIDTH_NS {
            *modes.entry(seconds).or_default() += value.count_at_value();
        }
    }
    let mut text = format!("{} segments sent again, {} of them SYNs", kernel("RetransSegs"), kernel("TCPSynRetrans"));
    if !modes.is_empty() {
        let modes: Vec<String> =
            modes.iter().map(|(seconds, count)| format!("{count} connects took {seconds} s")).collect();
        text += &format!("; {}: {} segments were dropped at full queues", modes.join(", "), kernel("ListenOverflows"));
    }
    text
}

/// What was done to workers, and what was not.
fn faults(record: &TrialRecord, scenario: &Scenario, say: &mut impl FnMut(VerdictName, String)) {
    let facts = scenario.faults.iter().map(|fault| {
        let (kind, worker) = (fault.kind.event(), fault.worker);
        match record.faults.iter().find(|row| row.fault == fault.number) {
            Some(row) => format!("{kind} of worker {worker} at {:.2} s for {:.2} s", row.at_s, row.lasted_s),
            None => format!("{kind} of worker {worker} not carried out: the load, or the fault, was over first"),
        }
    });
    let facts: Vec<String> = facts.collect();
    if !facts.is_empty() {
        say(VerdictName::Faults, facts.join(", "));
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
    let lag = &record.latency_ns.send_lag;
    // The shorter of the two, where connections and datagrams have each their own.
    let responses = [&record.latency_ns.response, &record.latency_ns.udp_response];
    let known = responses.into_iter().filter(|response| !response.is_empty());
    let Some(response) = known.min_by_key(|response| response.p50) else { return };
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
