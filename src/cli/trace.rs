//! Options of `listenbench trace`.

use std::time::Duration;

use clap::{Args, ValueHint};

/// `listenbench trace`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  listenbench trace access.log                    what replaying it would be like\n  \
                        listenbench trace access.log --from 10m --to 20m --speed 4\n  \
                        listenbench trace capture.pcapng --json | jq .dispersion\n  \
                        listenbench trace app.log --format '$remote_addr:$remote_port [$msec] $request_time'\n  \
                        zstdcat access.log.zst | listenbench trace -\n  \
                        listenbench run my.toml --set load.arrivals=trace --set load.trace=access.log --set load.rate=\n\n\
                        Formats: access logs of nginx and Apache (common, combined, and others by their log_format), JSON lines with the names of \
                        nginx's variables, CSV with the columns time, requests and hold, and the SYNs of pcap and pcapng captures. A log has the \
                        time at which each request ended; with $request_time, or request_time in JSON, it is known when it began. Requests are \
                        told to share a connection by $connection, or by the client's address and port.\n\n\
                        The index of dispersion is the variance of the starts in windows of a length, divided by their mean: 1 if they are \
                        independent (Poisson), close to 0 if they are evenly spaced and the windows much longer than their gaps, more than 1 if \
                        they come in bursts.\n\n\
                        Exit codes: 0 done, 1 the trace cannot be read, 2 wrong options"
)]
pub struct Trace {
    /// The trace; `-` for standard input. gzip is unpacked
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: String,
    /// Its format, if the content does not show it: access-log, json, csv, pcap, pcapng, or a log_format with nginx's variables
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    pub format: String,
    /// Speed-up of the replay: 2 halves the time between starts (load.trace_speed)
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub speed: f64,
    /// Where the part begins that is to be replayed, from the trace's first start, such as 10m (load.trace_from)
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    pub from: Duration,
    /// Where it ends [default: with the trace] (load.trace_to)
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub to: Option<Duration>,
    /// How often it is to be replayed (load.trace_repeat)
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub repeat: u64,
    /// The share of malformed lines above which the trace is refused (load.trace_max_malformed)
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    pub max_malformed: f64,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}
