//! Options of `listenbench observe`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueHint};

use super::Target;

/// `listenbench observe`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sudo listenbench observe                     every TCP listener of this machine, until q or Ctrl-C\n  \
                        sudo listenbench observe 127.0.0.1:8080 --for 10s\n  \
                        sudo listenbench observe :443 --json | jq '.listeners[].members[].accepts_per_s'\n  \
                        sudo listenbench observe --pid $(pidof -s nginx)    in a container's network namespace\n  \
                        sudo listenbench observe :80 --for 1m --out before    and later: compare before after\n  \
                        sudo listenbench observe --interval 15s --metrics /var/lib/node_exporter/listenbench.prom\n\n\
                        Rates, waits, drops and queue peaks are those of the interval; accepts, shares, EAGAINs per accept and verdicts count \
                        from the beginning; queues and open connections are as at the interval's end. Lines and the screen end with the \
                        figures of the whole observation. A process that supervises has the listener, and started others that have it, but \
                        accepts nothing itself. Without root, queues, limits and drops are seen; who accepts, and accept waits, are not, nor \
                        are other users' processes. \
                        Verdicts do not change the exit code: it is 0 when --for has passed or, without it, when q or a signal ends \
                        the observation, and 130 if a signal or q cuts --for short."
)]
pub struct Observe {
    /// Watch only the listeners that get connections to this address, name or URL, or with `:PORT` all on a port; several may be
    /// given [default: all]
    #[arg(value_name = "ADDR:PORT")]
    pub listeners: Vec<Target>,
    /// Look into the network namespace of this process, such as one in a container; requires root
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub pid: Option<i32>,
    /// End after this time, such as 10s [default: at q or a signal]
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub length: Option<Duration>,
    /// Length of an interval, from 100ms to 1h
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    pub interval: Duration,
    /// Print a JSON object per interval (results/observe.schema.json)
    #[arg(long)]
    pub json: bool,
    /// Leave a record in this new folder, for `report` and `compare`
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,
    /// Keep this file up to date with OpenMetrics text, replaced at each interval, such as node_exporter's textfile collector reads
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub metrics: Option<PathBuf>,
}
