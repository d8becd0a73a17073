//! The command line's types.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

/// Benchmark harness for multi-process listeners on Linux: compares accept strategies over real sockets.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done; 1 it could not be done; 2 wrong usage or scenario; 3 done, but a trial is \
                        invalid or failed; 130 interrupted."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run scenarios and leave a record of each
    Run(Run),
    /// Run a scenario's server in the foreground, for another program's load; Ctrl-C ends it
    Serve(Serve),
    /// Run a scenario's load against a server that is already there
    Load(Load),
    /// Compare the records of two or more runs, cell by cell
    Compare(Compare),
    /// Make all reports of a record again, from its files alone
    Report(Report),
    /// Show what is left of this network namespace's ephemeral ports, or explain one port
    Ports(Ports),
    /// Say what this machine allows, and what to change
    Doctor(Doctor),
    /// Measure what the harness itself costs here, against a bare loop of system calls
    Calibrate(Calibrate),
    /// Print a shell's completion script
    Completions(Completions),
    /// Print the manual page of listenbench or of one command, or write all of them
    Man(Man),
}

/// Values that replace a scenario's.
#[derive(Debug, Args)]
pub struct Overrides {
    /// Replace a value of the scenario, e.g. server.workers=4; a list sweeps the key
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Replace the scenario's seed, as --set seed=SEED does
    #[arg(long)]
    pub seed: Option<u64>,
}

impl Overrides {
    /// All of them as `key=value`.
    pub fn all(&self) -> Vec<String> {
        self.set.iter().cloned().chain(self.seed.map(|seed| format!("seed={seed}"))).collect()
    }
}

/// `listenbench run`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  listenbench run\n  listenbench run tail --set repetitions=10 --out results/tail-10\n  \
                        listenbench run my.toml --set 'server.workers=[1,2,4]' --list\n  \
                        listenbench run herd --progress plain 2> herd.log\n  \
                        DIR=$(listenbench run --quiet) && jq . \"$DIR/summary.json\""
)]
pub struct Run {
    /// Scenario files, or names of built-in scenarios: quick (the default), herd, tail, strategies, accept-order, burst,
    /// stalled-worker, udp-spread, backlog, stages,
    /// ports-fill, ports-sources, ports-recover, ports-churn, hold, million, sustain, ceiling, smoke
    #[arg(value_name = "SCENARIO", value_hint = ValueHint::FilePath)]
    pub scenarios: Vec<String>,
    /// Folder of the record; with several scenarios, of their folders [default: `results/TIME-SCENARIO`]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,
    /// Show the trials in their order, and run none
    #[arg(long)]
    pub list: bool,
    /// Run loads too that hold more connections than there are ports: into the wall, on purpose
    #[arg(long)]
    pub force: bool,
    /// Put what `calibrate --out` measured on this machine into the record; refused if it was another machine, kernel or build
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub calibration: Option<PathBuf>,
    /// How the run is shown while it goes on
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Progress::Auto)]
    pub progress: Progress,
    /// Print nothing but errors, and each record's folder on standard output
    #[arg(long, conflicts_with = "progress")]
    pub quiet: bool,
    /// Replaced values.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// How a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// A screen where standard input and standard error are a terminal (80×24 or larger; q quits and keeps what has ended),
    /// else plain lines
    Auto,
    /// A line when a trial begins, and lines for what went wrong
    Plain,
}

/// `listenbench serve`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  listenbench serve quick --set server.strategy=reuseport --set server.app=http\n  \
                        curl -i http://127.0.0.1:7000/")]
pub struct Serve {
    /// Scenario file, or name of a built-in scenario
    #[arg(value_hint = ValueHint::FilePath)]
    pub scenario: String,
    /// Replaced values.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// `listenbench load`
#[derive(Debug, Args)]
#[command(after_help = "Example, against nginx:\n  listenbench load quick --set server.strategy=reuseport --set \
                        server.app=http --target 127.0.0.1:80")]
pub struct Load {
    /// Scenario file, or name of a built-in scenario
    #[arg(value_hint = ValueHint::FilePath)]
    pub scenario: String,
    /// Where the server listens
    #[arg(long, value_name = "ADDR:PORT")]
    pub target: SocketAddr,
    /// Allow a target that is not this machine's loopback: load a server only with its owner's consent
    #[arg(long)]
    pub allow_remote: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Replaced values.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// `listenbench ports`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  listenbench ports                          how full the range is, and by whom\n  \
                        listenbench ports --to 192.0.2.7:443       as connections to one destination see it\n  \
                        listenbench ports 8080                     what port 8080 is, and who listens on it\n  \
                        sudo ip netns exec blue listenbench ports  of another network namespace"
)]
pub struct Ports {
    /// Explain this port instead: its class, whether clients may take it, who listens on it
    #[arg(value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Count only connections to this destination
    #[arg(long, value_name = "ADDR:PORT", conflicts_with = "port")]
    pub to: Option<SocketAddr>,
    /// Print JSON instead of lines
    #[arg(long)]
    pub json: bool,
}

/// `listenbench compare`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  listenbench compare results/before results/after\n  \
                        listenbench compare old new --metric accept_wait_p99 --metric accepted_per_s --markdown\n  \
                        listenbench compare main branch --fail-if 'accept_wait_p99 worse than 5%'\n\n\
                        A --fail-if is met, and the exit code is 3, where a cell's difference is shown (p ≤ 0.05 after Holm's \
                        correction) and its median is worse by more than so much. Where there are too few trials to show \
                        any difference, the exit code is 1.")]
pub struct Compare {
    /// Folders of records; the first is the baseline
    #[arg(value_name = "DIR", num_args = 2.., required = true, value_hint = ValueHint::DirPath)]
    pub records: Vec<PathBuf>,
    /// Compare by this metric; can be given several times [default: those that say most of what was run]
    #[arg(long = "metric", value_name = "METRIC")]
    pub metrics: Vec<String>,
    /// Fail when the condition is met: METRIC worse than N%; can be given several times
    #[arg(long, value_name = "CONDITION")]
    pub fail_if: Vec<String>,
    /// Print JSON instead of tables
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,
    /// Print Markdown instead of tables
    #[arg(long)]
    pub markdown: bool,
}

/// `listenbench report`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  listenbench report results/20260131T120000Z-quick")]
pub struct Report {
    /// Folders of records
    #[arg(value_name = "DIR", required = true, value_hint = ValueHint::DirPath)]
    pub records: Vec<PathBuf>,
}

/// `listenbench doctor`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  listenbench doctor\n  listenbench doctor --json | jq '.[] | select(.status != \"ok\")'\n  \
                        sudo listenbench doctor    what root would be allowed"
)]
pub struct Doctor {
    /// Print JSON instead of lines
    #[arg(long)]
    pub json: bool,
}

/// `listenbench calibrate`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sudo listenbench calibrate --out here.json    as root, so that exact stamps take part\n  \
                        sudo listenbench run --calibration here.json  host.json and the reports have it\n  \
                        listenbench calibrate --rounds 20 --seconds 2 on a machine that others use too\n  \
                        listenbench calibrate my.toml --set server.workers=4 --json | jq .ratios"
)]
pub struct Calibrate {
    /// Scenario file, or name of a built-in scenario, of one cell; without one, `quick` with strategy reuseport
    #[arg(value_hint = ValueHint::FilePath)]
    pub scenario: Option<String>,
    /// Rounds: in each, every contestant runs once
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rounds: u32,
    /// Length of each run's measured window
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    pub seconds: f64,
    /// Keep the result in this new file, for `run --calibration`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
    /// Replaced values.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// `listenbench completions`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  source <(listenbench completions bash)    in this bash, until it ends\n  \
                        listenbench completions bash > ~/.local/share/bash-completion/completions/listenbench\n  \
                        listenbench completions fish > ~/.config/fish/completions/listenbench.fish\n  \
                        listenbench completions zsh > ~/.zfunc/_listenbench    where $fpath has ~/.zfunc")]
pub struct Completions {
    /// Of which shell
    pub shell: Shell,
}

/// `listenbench man`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  listenbench man | man -l -         read the page of listenbench\n  \
                        listenbench man run | man -l -     read that of one command\n  \
                        listenbench man --dir ~/.local/share/man/man1")]
pub struct Man {
    /// Page of this command instead of that of listenbench
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
    /// Write the pages of listenbench and of all its commands into this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "command")]
    pub dir: Option<PathBuf>,
}
