//! Options of `listenbench run`.

use clap::{Args, ValueHint};

use super::{Recording, ServerShorthands};

/// `listenbench run`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  listenbench run\n  listenbench run tail --repetitions 10 -o results/tail-10\n  \
                        listenbench run my.toml --workers 1,2,4 --dry-run\n  \
                        listenbench run --interleave before.toml after.toml -o results/change\n  \
                        listenbench run herd --progress plain 2> herd.log\n  \
                        listenbench run -q --json | jq -r 'select(.summary).summary.answers[].sentence'\n  \
                        sed s/reuseport/shared-epoll/ my.toml | listenbench run -\n  \
                        DIR=$(listenbench run -q) && jq . \"$DIR/summary.json\"")]
pub struct Run {
    /// Scenario files (`-` is standard input), or names of built-in scenarios: quick (the default), herd, tail, shards, strategies, accept-order, burst, burstiness, storm,
    /// tls-storm, stalled-worker, udp-spread, quic-rebinding, backlog, firewall, filtered, nat, conntrack, stages, ports-fill, ports-sources, ports-recover, ports-churn, hold, million,
    /// sustain, ceiling, nginx, haproxy, nginx-upstream, haproxy-upstream, reload, nginx-reload, haproxy-reload, gunicorn, redis, beside, smoke
    #[arg(value_name = "SCENARIO", value_hint = ValueHint::FilePath)]
    pub scenarios: Vec<String>,
    /// Run the scenarios as one experiment: each repetition is a block of all their cells in random order, so that `compare` can
    /// attribute differences between the records to the settings; a scenario may be given twice
    #[arg(long)]
    pub interleave: bool,
    /// Values that override the scenario's, about listenbench's own server.
    #[command(flatten)]
    pub server: ServerShorthands,
    /// How to run and record.
    #[command(flatten)]
    pub recording: Recording,
}
