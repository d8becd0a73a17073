//! What has been seen so far as OpenMetrics text, for tools that read Prometheus formats, such as node_exporter's textfile collector.

use std::{collections::BTreeMap, fmt::Write};

use super::tally::{MemberTally, Tally, Who};
use crate::{
    format::label_value,
    observe::processes::is_stopped,
    record::{ConntrackTable, Counts, Verdict},
};

/// Bounds of the buckets of accept waits, in nanoseconds, with the same in seconds.
const BOUNDS: [(u64, &str); 10] = [
    (10_000, "1e-05"),
    (30_000, "3e-05"),
    (100_000, "0.0001"),
    (300_000, "0.0003"),
    (1_000_000, "0.001"),
    (3_000_000, "0.003"),
    (10_000_000, "0.01"),
    (100_000_000, "0.1"),
    (1_000_000_000, "1.0"),
    (10_000_000_000, "10.0"),
];

/// A family of metrics.
struct Family {
    name: &'static str,
    kind: &'static str,
    unit: Option<&'static str>,
    help: &'static str,
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: "gauge", unit: None, help }
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: "counter", unit: None, help }
}

/// The exposition. Counters begin with the observation; families without samples are left out.
pub(super) fn render(
    tally: &Tally,
    syn_retries: u64,
    lost_events: Option<u64>,
    tracked: Option<ConntrackTable>,
    verdicts: &[Verdict],
) -> String {
    let mut text = String::new();
    let sockets = || {
        tally.sockets.iter().filter(|(_, socket)| socket.present).map(|(cookie, socket)| {
            let address = label_value(&socket.listener.place.address.to_string());
            (format!("{{listener=\"{address}\",socket=\"{cookie}\"}}"), socket)
        })
    };
    let members = || {
        let alive = tally.members.iter().filter(|(_, member)| member.alive || member.accepted() > 0);
        alive.map(|(who, member)| (labels(who, member), member))
    };
    let mut add = |family: &Family, samples: Vec<(String, u64)>| {
        let suffix = if family.kind == "counter" { "_total" } else { "" };
        if !samples.is_empty() {
            head(&mut text, family);
        }
        for (labels, value) in samples {
            let _ = writeln!(text, "{}{suffix}{labels} {value}", family.name);
        }
    };
    add(
        &gauge("listenbench_queue_connections", "Connections in an accept queue."),
        sockets().map(|(labels, socket)| (labels, u64::from(socket.listener.queue.length))).collect(),
    );
    add(
        &gauge("listenbench_queue_limit_connections", "The backlog in effect; the queue holds one more."),
        sockets().map(|(labels, socket)| (labels, u64::from(socket.listener.queue.limit))).collect(),
    );
    add(
        &counter("listenbench_drops", "Segments that a listener dropped for want of room in its queues."),
        sockets().map(|(labels, socket)| (labels, socket.all.drops)).collect(),
    );
    add(
        &counter("listenbench_accepts", "Connections accepted."),
        members().filter_map(|(labels, member)| Some((labels, member.count.as_ref()?.accepted))).collect(),
    );
    add(
        &counter("listenbench_accept_eagain", "Calls of accept that found nothing."),
        members().filter_map(|(labels, member)| Some((labels, member.count.as_ref()?.eagain))).collect(),
    );
    add(
        &counter("listenbench_accept_emfile", "Calls of accept that failed for want of a descriptor."),
        members().filter_map(|(labels, member)| Some((labels, member.count.as_ref()?.emfile))).collect(),
    );
    add(
        &gauge("listenbench_open_connections", "Connections that a member has open."),
        members().filter_map(|(labels, member)| Some((labels, member.open?))).collect(),
    );
    let stopped = |member: &MemberTally| member.task.as_ref().is_some_and(|task| is_stopped(task.state));
    add(
        &gauge("listenbench_stopped", "Whether a member is stopped."),
        members().filter(|(_, member)| member.alive).map(|(labels, member)| (labels, stopped(member).into())).collect(),
    );
    add(
        &counter("listenbench_syn_retries", "SYNs and SYN/ACKs that the network namespace sent again."),
        vec![(String::new(), syn_retries)],
    );
    add(
        &counter("listenbench_lost_events", "Events of accepting members that could not be counted."),
        lost_events.map(|lost| (String::new(), lost)).into_iter().collect(),
    );
    let of_table = |value: Option<u64>| value.map(|value| (String::new(), value)).into_iter().collect::<Vec<_>>();
    let counts = tracked.and_then(|table| table.counts);
    add(
        &gauge("listenbench_conntrack_entries", "Entries in the network namespace's table of tracked connections."),
        of_table(tracked.map(|table| table.entries)),
    );
    add(
        &gauge("listenbench_conntrack_limit_entries", "The most that it may have (nf_conntrack_max)."),
        of_table(tracked.and_then(|table| table.limit)),
    );
    add(
        &counter("listenbench_conntrack_drops", "Packets that it dropped."),
        of_table(counts.map(|counts| counts.drop)),
    );
    add(
        &counter("listenbench_conntrack_early_drops", "Entries removed to make room."),
        of_table(counts.map(|counts| counts.early_drop)),
    );
    add(
        &counter("listenbench_conntrack_insert_failed", "Entries that met another."),
        of_table(counts.map(|counts| counts.insert_failed)),
    );
    let mut by_name: BTreeMap<&str, u64> = BTreeMap::new();
    verdicts.iter().for_each(|verdict| *by_name.entry(verdict.name.into()).or_default() += 1);
    add(
        &gauge("listenbench_verdicts", "Verdicts by name."),
        by_name.into_iter().map(|(name, count)| (format!("{{verdict=\"{name}\"}}"), count)).collect(),
    );
    waits(&mut text, members().filter_map(|(labels, member)| Some((labels, member.count.as_ref()?.waits.as_ref()?))));
    text + "# EOF\n"
}

fn waits<'a>(text: &mut String, members: impl Iterator<Item = (String, &'a Counts)>) {
    let name = "listenbench_accept_wait_seconds";
    let help = "From ESTABLISHED in the kernel to accept's return, or to its completion in an io_uring.";
    let mut members = members.peekable();
    if members.peek().is_some() {
        head(text, &Family { name, kind: "histogram", unit: Some("seconds"), help });
    }
    for (labels, waits) in members {
        let with = |bound: &str| format!("{},le=\"{bound}\"}}", labels.trim_end_matches('}'));
        for (ns, bound) in BOUNDS {
            let _ = writeln!(text, "{name}_bucket{} {}", with(bound), waits.up_to(ns));
        }
        let _ = writeln!(text, "{name}_bucket{} {}", with("+Inf"), waits.len());
        let _ = writeln!(text, "{name}_count{labels} {}", waits.len());
        let _ = writeln!(text, "{name}_sum{labels} {}", waits.mean() * waits.len() as f64 / 1e9);
    }
}

fn head(text: &mut String, family: &Family) {
    let Family { name, kind, unit, help } = family;
    let _ = writeln!(text, "# TYPE {name} {kind}");
    if let Some(unit) = unit {
        let _ = writeln!(text, "# UNIT {name} {unit}");
    }
    let _ = writeln!(text, "# HELP {name} {help}");
}

fn labels(who: &Who, member: &MemberTally) -> String {
    format!(
        "{{listener=\"{}\",comm=\"{}\",pid=\"{}\",tid=\"{}\"}}",
        label_value(&who.place.address.to_string()),
        label_value(&member.comm),
        who.pid,
        who.tid
    )
}
