//! Options of `listenbench load`.

use clap::{Args, ValueHint};

use super::{AppShorthands, Recording};

/// `listenbench load`
#[derive(Debug, Args)]
#[command(
    override_usage = "listenbench load [OPTIONS] [SCENARIO] <TARGET>",
    after_help = "Examples:\n  listenbench load http://localhost:8080/ --rate 2000 --for 5s\n  \
                        listenbench load http://localhost:8080/ --rate 1000,2000,4000 -o results/nginx\n  \
                        listenbench load my.toml localhost:8080 --set load.method=HEAD\n  \
                        listenbench load tcp://localhost:6379 --app line --send 'PING\\r\\n' --expect +PONG\n  \
                        listenbench load https://localhost:8443/ --rate 200 -s load.verify=false -s load.resumption=0.5\n  \
                        listenbench load tcp://localhost:5672 --app connect --rate 100 --set load.hold=2s\n  \
                        listenbench load unix:/run/gunicorn.sock --rate 200\n  \
                        listenbench load quick 7000    while `listenbench serve quick -s server.strategy=reuseport` runs\n\n\
                        `load` is the short form of `run` with server.subject = \"running\": it leaves the same record, and `run` \
                        repeats it from the record's scenario.toml."
)]
pub struct Load {
    /// The server: a URL (http:// or https://, whose path is requested, or tcp://HOST:PORT with --app), HOST:PORT, ADDRESS:PORT, `[IPv6]:PORT`, a port of this machine, or unix:/PATH or unix:@NAME for a Unix socket. Before it, a
    /// scenario file or the name of a built-in scenario, of which what it says about listenbench's own server is left out [default:
    /// five repetitions of 1,000 HTTP requests/s for 2 s, each on a connection of its own]
    // With two arguments, the first of them optional, clap would mistake which is which where options stand between them.
    #[arg(value_name = "TARGET", num_args = 1..=2, required = true, value_hint = ValueHint::FilePath)]
    pub scenario_and_target: Vec<String>,
    /// What to say to the server.
    #[command(flatten)]
    pub app: AppShorthands,
    /// How to run and record.
    #[command(flatten)]
    pub recording: Recording,
}
