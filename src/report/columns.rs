//! What the columns of tables hold. Metrics' columns are explained where the metrics are, swept values by their keys.

use super::sections::replies;

/// A column of a report's tables.
#[derive(Debug, Clone, Copy)]
pub struct TableColumn {
    /// The section that has the table.
    pub table: &'static str,
    /// The head. `N` stands for a number, and `…` at the end for what follows.
    pub head: &'static str,
    /// What it holds, as a sentence.
    pub meaning: &'static str,
}

/// All of them.
pub fn table_columns() -> impl Iterator<Item = TableColumn> {
    let of_replies = replies::COLUMNS.iter().map(|column| {
        let meaning =
            column.meaning.split_once(": ").map_or("Replies with a status of success.", |(_, meaning)| meaning);
        TableColumn { table: "Replies", head: column.head, meaning }
    });
    let all = COLUMNS
        .iter()
        .flat_map(|(table, columns)| columns.iter().map(|(head, meaning)| TableColumn { table, head, meaning }));
    all.chain(of_replies)
}

/// The columns of each table.
const COLUMNS: &[(&str, &[(&str, &str)])] = &[
    (
        "every table",
        &[
            ("cell", "The cell: its swept values."),
            ("trials", "Trials that the row is about."),
            ("verdicts", "Names of the verdicts on the cell's trials; `listenbench explain` has each."),
            ("member", "Whatever accepts: a worker, or a process or thread of another server."),
            ("worker", "The worker, by its number."),
            (
                "response",
                "Mean time from the intended start to the last byte of the reply; elsewhere the response latency.",
            ),
        ],
    ),
    (
        "Medians of all cells",
        &[
            (
                "share by\nregistration",
                "Shares of the accepts, in the order in which workers added their listeners to epoll.",
            ),
            ("valid\ntrials", "Valid trials of the cell, of all."),
        ],
    ),
    (
        "Ranking",
        &[
            ("median", "Median over the cell's valid trials."),
            (
                "interval",
                "95 % interval of what stands before it: of the median, or of the ratio. A range if there are too few trials.",
            ),
            ("× best", "The cell's median ÷ that of the best cell."),
            ("p", "p-value of the test against the best cell (exact Mann–Whitney U)."),
            (
                "p adjusted",
                "The same after Holm's correction for all comparisons, and for all looks of `[stop]`: what is claimed depends on it.",
            ),
            ("verdict", "Whether a difference was shown, and in which direction."),
        ],
    ),
    (
        "Firewall",
        &[
            (
                "rules\nto pass",
                "Generated rules, or entries, that packets are compared with, besides a ruleset of your own; if none are generated, all that the kernel holds.",
            ),
            ("connect\np50", "Median time from connect() until the connection is established."),
            (
                "connect\n+",
                "The difference from the cell without generated rules, or without any; in parentheses if no test shows it.",
            ),
            ("time per\nconnection", "In a closed loop, the measured window ÷ connections completed in it."),
            (
                "time per\nconnection +",
                "The difference from the cell without generated rules, or without any; in parentheses if no test shows it.",
            ),
            ("packets", "Packets that passed all generated rules ÷ connections begun."),
        ],
    ),
    (
        "Answers to connects",
        &[
            ("open", "Connections established."),
            ("closed", "ECONNREFUSED: by a reset, or by ICMP's port unreachable."),
            ("filtered", "No answer within `load.connect_timeout`."),
            ("unreachable", "EHOSTUNREACH or ENETUNREACH: no route, or ICMP said so."),
            ("prohibited", "EACCES or EPERM: ICMPv6's administratively prohibited, or a rule on the client's machine."),
            ("ICMP", "ICMP destination-unreachable messages received."),
            ("datagrams", "Datagrams that clients sent and rules refused."),
            ("failed\nconnect", "Median time from connect() until the client learned that it had failed."),
        ],
    ),
    (
        "Source NAT",
        &[
            ("clients", "Addresses of clients, all of which the server sees as one."),
            ("ports to\nchoose from", "Ports that NAT may take; – for the kernel's choice."),
            ("begun", "Packets that began a connection and came to NAT."),
            ("established", "Connections that reached the server."),
            ("established\nin a trial", "The most connections that reached the server in any trial."),
            ("ports\ntaken", "The most ports that connections had at once in any trial, by samples."),
            ("filtered", "Connections without an answer within `load.connect_timeout`."),
            ("insert_failed", "Packets dropped because another connection had the port."),
        ],
    ),
    ("Search", &[("value tried", "The value of the searched key."), ("valid", "Valid trials at this value.")]),
    (
        "Listeners",
        &[
            ("curve", "What the points of a curve have in common."),
            ("listeners", "The number of listeners that the workers share (`server.listeners`)."),
        ],
    ),
    (
        "Populations",
        &[
            ("population", "The name of its [[load]]."),
            ("connections", "Connections begun, warm-up included."),
            ("completed", "Of those, the ones that ended as planned."),
            ("failed", "Of those, the ones that failed."),
            (
                "unserved",
                "Connections that ended without a sign that a member accepted them; with app `connect`, another server gives none.",
            ),
            ("requests answered", "Replies to the population's requests."),
            ("response p50", "Median over trials of the population's median response latency."),
            ("response p99", "Median over trials of the 99th percentile of the population's response latency."),
            ("longest (median)", "Median over trials of the population's longest response."),
        ],
    ),
    (
        "Percentiles",
        &[
            ("values", "Values of the cell's valid trials, all together."),
            (
                "N %",
                "The value that this part of all attempts due does not exceed; those that failed count as slower than any.",
            ),
            ("longest", "The longest of all values."),
            (
                "99 %, median of trials",
                "Median over trials of each trial's 99th percentile: what cells are compared by.",
            ),
        ],
    ),
    (
        "Shares",
        &[
            ("of all …", "The member's part of all accepts, or datagrams, of the cell's valid trials."),
            ("of all draws", "The member's part of what fell on members by chance: distinct 4-tuples, or connections."),
            ("lowest trial", "The member's smallest part in a trial."),
            ("highest trial", "The member's largest part in a trial."),
            ("chance allows in a trial", "Between which parts chance alone leaves a member in 95 % of trials."),
            ("in all trials", "The same for all trials together."),
        ],
    ),
    (
        "Events",
        &[
            ("event", "The event's kind, with how, and its worker."),
            ("times", "How often it happened in the cell's valid trials."),
            ("lost", "Connections that the event cost: reset in a queue, refused or cut off."),
            ("reset in\na queue", "Connections that waited in a listener that was closed."),
            ("refused", "Connections refused because nothing listened."),
            ("cut off", "Connections that were accepted, and ended before the reply was complete."),
            ("queued", "Connections in the queues of the listeners that were closed, just before."),
            ("migrated", "Connections that the kernel moved to another listener (TCPMigrateReqSuccess)."),
            ("open", "Connections that were open when the event began."),
            ("accepted\nby old", "Accepts during the event by members that were there before it."),
            ("wait\np99", "99th percentile of their accept waits; the median over the events."),
            ("accepted\nby new", "Accepts during the event by members that it brought."),
            ("their wait\np99", "99th percentile of the accept waits of new members; the median over the events."),
            (
                "drain",
                "How long those that were to leave took to serve what they had open; the median over the events.",
            ),
            ("longest\ndrain", "The longest of these times."),
            ("flows", "Flows of datagrams that went on after the event began."),
            ("moved", "Of those, flows that another worker then received."),
        ],
    ),
    (
        "Members",
        &[
            ("pid", "The member's process."),
            ("thread", "The member's thread, where it is not its process's first."),
            ("accepted", "Connections that the member accepted over the whole trial, warm-up included."),
            ("datagrams", "Datagrams that the member received over the whole trial, warm-up included."),
            ("flows", "Flows of datagrams that the member answered first."),
            ("share", "The member's part of all accepts or, of datagrams alone, of all flows."),
            ("generation", "After how many events the member appeared."),
            ("EAGAIN\n/accept", "Calls of accept that found nothing, per accepted connection."),
            ("wait\np50", "Median accept wait of the member's connections."),
            ("wait\np99", "99th percentile of the accept wait of the member's connections."),
            ("wait\nmax", "Longest accept wait of the member's connections."),
            ("receive\nwait p50", "Median of the time from a client's send to the member's receive of the datagram."),
            ("receive\nwait p99", "99th percentile of the same."),
            ("seen by\nthe probe", "Accepts of this worker of ours that the probe saw from outside."),
            ("its wait\np50", "Median of the accept waits that the probe measured."),
            ("its wait\np99", "99th percentile of the accept waits that the probe measured."),
            ("CPU", "CPU time that the member used."),
            ("sleeps", "Times that the member went to sleep (voluntary context switches)."),
            ("preempted", "Times that the kernel took the processor from the member (involuntary context switches)."),
            ("most\nopen", "Most connections that the member had open at once."),
            (
                "free\nfiles",
                "Descriptors below the limit of open files of the member's process before its first connection.",
            ),
            ("refused\naccepts", "Accepts that failed because no descriptor was left."),
            ("closed\nat once", "Connections that the member accepted with its spare descriptor, and closed."),
            ("ended", "How the member ended; empty if it still ran at the trial's end."),
        ],
    ),
    (
        "Requests and CPU time per worker",
        &[
            ("requests", "The worker's part of all requests answered."),
            ("CPU time", "The worker's part of the CPU time that all workers used."),
        ],
    ),
    (
        "Replies",
        &[
            ("replies", "Replies received."),
            ("connections", "Connections by worker, as receipts say of a server that runs elsewhere."),
            ("share", "The worker's part of these connections."),
        ],
    ),
    (
        "Hosts",
        &[
            ("host", "The host of the job, by its name; with its rank where several have that name."),
            ("role", "Whether the host has the server under test (`server`) or generates load (`load`)."),
            ("loaders", "Number of its loaders in a trial."),
            ("attempted", "Connections and datagram flows that its loaders began, over the cell's valid trials."),
            ("completed", "Those that ran to their planned end."),
            ("failed", "Those that failed, or were in progress when their loader was lost."),
            (
                "connect\np99",
                "99th percentile of the connect latency that its own loaders measured: the median over trials.",
            ),
            ("response\np99", "The same of the response latency."),
            ("send lag\np99", "The same of its loaders' own lateness."),
            (
                "busiest",
                "The share of its available processor time that the busiest loader used: the median over trials.",
            ),
            ("CPU", "CPU time of its loaders, or of the server's members, in a trial: the median over trials."),
        ],
    ),
    (
        "Clocks and connections of the hosts",
        &[
            ("host", "As in Hosts."),
            ("address", "Where the server listened, or from where the host reached the server's."),
            ("processors", "Processors that listenbench may use on the host."),
            (
                "clock\nahead",
                "How far its CLOCK_MONOTONIC was ahead of that of the server's host: the median over trials.",
            ),
            ("bound", "The most by which that could be wrong in any trial."),
            ("drift", "The largest change of the offset during a trial, and the most by which that could be wrong."),
            ("bytes per\ntrial", "Bytes that its connection to the server's host carried: the median over trials."),
        ],
    ),
    (
        "MPTCP",
        &[
            ("established", "Connections for which clients asked for MPTCP."),
            ("fell\nback", "Those of them that are plain TCP."),
            ("share", "Their share."),
            ("unknown", "Those that were reset before it could be seen what they are."),
            ("accepted\nas TCP", "Connections that our own server's workers found to be plain TCP."),
        ],
    ),
    (
        "Connection tracking",
        &[
            (
                "network",
                "Whose network the table is of: `shared` by server and loaders, the `server`'s, or the `loaders`'.",
            ),
            ("entries", "The most entries at once, among the samples."),
            ("limit", "The most entries that the table takes: net.netfilter.nf_conntrack_max."),
            ("fill", "Entries ÷ limit."),
            ("dropped", "Packets dropped because no entry could be made for them, over all trials."),
            ("evicted", "Entries removed to make room for others, over all trials."),
            ("clashes", "Entries that met another with the same tuple, over all trials: insert_failed."),
            ("at the end", "TCP entries by their state, once load and server had ended."),
        ],
    ),
    (
        "Replayed traces",
        &[
            (
                "starts due",
                "Starts of the trace before the load ended, in all valid trials of the cell, warm-up included.",
            ),
            ("started", "Those of them that were made, whatever became of them."),
            ("missed", "Those of them that were never made."),
            ("late p99", "99th percentile of how late starts of the measured window were: the worst of the trials."),
            ("latest", "The latest of them, in any of the trials."),
        ],
    ),
    (
        "TLS handshakes",
        &[
            ("TLS\nhandshakes", "TLS handshakes that clients completed."),
            ("TLS\nhandshakes/s", "The same per second of the measured window: the median over trials."),
            ("resumed", "Those of them that resumed an earlier session."),
            ("ticket", "Those that began with a ticket of an earlier session."),
            ("no\nticket", "Those that were to resume a session when their loader had no ticket."),
            ("TLS 1.3", "Those completed with TLS 1.3."),
            ("server", "Those that listenbench's own server completed, by its own count."),
            ("time\np50", "Median of the handshake, from established until it is over at the client."),
            ("time\np99", "99th percentile of the same."),
        ],
    ),
    (
        "Towards the upstream",
        &[
            ("conn", "Connections that the proxy opened to its upstream."),
            ("conn/s", "The same per second of the measured window."),
            ("requests\n/conn", "Requests answered on each of them: how often the proxy uses a connection."),
            ("sources", "Addresses that the proxy connected from."),
            ("ports\ntaken", "Most source ports taken at once from one address, by samples."),
            ("of", "Source ports that one address can use."),
            ("knee", "Ports in use from which connect() becomes slow."),
            ("TIME_WAIT\nproxy", "Most of the proxy's ports in TIME_WAIT at once, by samples."),
            ("TIME_WAIT\nupstream", "Most sockets in TIME_WAIT at the upstream's side, which take no port."),
            ("wait\np50", "Median of the upstream's accept wait."),
            ("wait\np99", "99th percentile of the upstream's accept wait."),
            ("out\nafter", "When no source address had a port left."),
        ],
    ),
    (
        "Over time",
        &[
            ("until", "End of the interval, from the trial's start."),
            ("accepts/s, …", "Accepts per second in the interval."),
            ("longest queue, …", "Most connections in the accept queue, by the interval's samples."),
            ("open connections, …", "Open connections at the interval's end."),
            ("datagrams/s, …", "Datagrams received per second in the interval."),
            ("bytes in the sockets, …", "Most bytes queued in the socket, by the interval's samples."),
        ],
    ),
    (
        "Over the ramp",
        &[
            ("open", "Connections open by the end of the step: a tenth of all, or several."),
            ("after", "Time from the start to the end of the step."),
            ("accepts/s", "Accepts per second within the step."),
            ("CPU\n/connection", "CPU time of workers and loaders per connection within the step."),
            ("wait\np50", "Median accept wait of the step's connections."),
            ("wait\np99", "99th percentile of the accept wait of the step's connections."),
            ("wait\nmax", "Longest accept wait of the step's connections."),
        ],
    ),
    (
        "How late the loaders were",
        &[
            ("starts", "Starts due in the measured window that were made: the median over trials."),
            ("send lag\np50", "Median of the time from the intended start until the connect() call."),
            ("send lag\np99", "99th percentile of the same."),
            ("queued", "Part of the starts that were due before the loader had made the one before them."),
            ("queued\np99", "99th percentile of their send lag."),
            ("others\np50", "Median send lag of all others: how late the timer and the loader's wake-up were."),
            ("others\np99", "99th percentile of the same."),
        ],
    ),
    (
        "Kernel memory per connection",
        &[
            ("kernel\ncache", "The kernel's name of the cache that holds the objects, in /proc/slabinfo."),
            ("objects", "Objects of the cache per open connection, both ends of it."),
            ("bytes\n/object", "Memory of the cache per object, what none uses included."),
            ("bytes\n/connection", "Memory of the cache per open connection."),
            ("for", "What a connection needs the objects for, as far as it is known."),
        ],
    ),
    (
        "Ports",
        &[
            ("capacity", "Connections that the ports can hold."),
            ("knee", "Connections open from which connect() was slower for good."),
            ("wall", "Connections open when no port was left."),
            ("at N %", "Median time of a connect() with this part of the ports in use."),
            ("failing", "Median time that a connect() takes to fail once no port is left."),
        ],
    ),
    (
        "What the harness itself costs",
        &[
            (
                "contestant",
                "What ran the same load: the bare loop of system calls, or listenbench with parts of its measuring.",
            ),
            ("connections/s", "Median of its connections per second."),
            ("CPU per\nconnection", "Median of its CPU time per connection."),
            (
                "connections/s,\nratio",
                "Its connections per second ÷ those of what it is compared with, with the interval.",
            ),
            ("CPU,\nratio", "Its CPU time per connection ÷ that of what it is compared with, with the interval."),
            ("compared with", "The contestant that it is compared with."),
            ("costs at most 3 %", "Whether a cost of at most 3 % was shown."),
            ("operation", "A piece of measuring, timed by itself."),
            ("median", "Median time of the operation."),
            ("p99", "99th percentile of the operation's time, where it has one."),
        ],
    ),
    (
        "Comparison of records",
        &[
            ("metric", "The metric's label."),
            ("a", "Median and interval of the baseline."),
            ("b", "Median and interval of the other side."),
            ("ratio", "b ÷ a, with its interval."),
            ("p", "p-value after Holm's correction; – where nothing was tested."),
            ("verdict", "Whether a difference was shown, and in which direction."),
        ],
    ),
    (
        "Verdicts",
        &[
            ("what it means", "The verdict's meaning and remedy."),
            ("for example", "The numbers that one trial's verdict rests on."),
        ],
    ),
];

/// Demands that every column of these sections is explained.
#[cfg(test)]
pub(super) fn all_explained(sections: &[super::sections::Content]) {
    use crate::{
        record::Stage,
        scenario::keys::{self, AnyKey},
        stats::{METRICS, Metric},
    };
    let digits = |head: &str| {
        let parts: Vec<String> = head
            .split(' ')
            .map(|word| if word.parse::<f64>().is_ok() { "N".to_owned() } else { word.to_owned() })
            .collect();
        parts.join(" ")
    };
    let named = |head: &str| {
        let heads: Vec<&str> = table_columns().map(|column| column.head).collect();
        heads.iter().any(|known| match known.strip_suffix('…') {
            Some(begin) => head.starts_with(begin),
            None => *known == head || *known == digits(head),
        })
    };
    // A population's name may stand before.
    let of_metric = |head: &str| {
        let is = |metric: &Metric, head: &str| {
            head == metric.label || metric.column.is_some_and(|column| column.head == head)
        };
        METRICS.iter().any(|metric| {
            is(metric, head)
                || head.split_once('\n').is_some_and(|(_, rest)| is(metric, rest))
                || head.starts_with(metric.label)
        })
    };
    let of_key = |head: &str| {
        let leaf = head.rsplit('.').next().unwrap_or_default();
        head == "variant" || keys::all().map(AnyKey::path).any(|path| path.rsplit('.').next() == Some(leaf))
    };
    let of_stage = |head: &str| Stage::explained().any(|(stage, _)| stage.replace('_', " ") == head);
    for (_, grid) in sections.iter().flat_map(|section| &section.tables) {
        for head in &grid.head {
            let is_known = named(head) || of_metric(head) || of_key(head) || of_stage(head);
            assert!(is_known, "`{head}` of {:?} is not explained: add it to report/columns.rs", grid.title);
        }
    }
}
