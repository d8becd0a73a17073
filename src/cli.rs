//! The command line, as clap parses it.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

/// Benchmark harness for multi-process listeners on Linux: compares accept strategies over real sockets.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 success; 1 failure; 2 wrong usage or scenario; 3 success, but at least one trial is \
                        invalid or failed; 130 interrupted."
)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run scenarios and write a record of each
    Run(Run),
    /// Run a scenario's server in the foreground for another program to load; stop it with Ctrl-C
    Serve(Serve),
    /// Run a scenario's load against a server that is already running
    Load(Load),
    /// Compare the records of two or more runs, cell by cell
    Compare(Compare),
    /// Regenerate all reports of a record from its files
    Report(Report),
    /// Show how many ephemeral ports are left in this network namespace, or explain one port
    Ports(Ports),
    /// Check what this machine allows, and say what to change
    Doctor(Doctor),
    /// Measure the harness's own overhead against a bare loop of system calls
    Calibrate(Calibrate),
    /// Print a shell's completion script
    Completions(Completions),
    /// Print a manual page, or write all of them to a folder
    Man(Man),
}

/// Values that override the scenario's.
#[derive(Debug, Args)]
pub struct Overrides {
    /// Override a value of the scenario, e.g. server.workers=4; a list sweeps the key
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Override the scenario's seed; short for --set seed=SEED
    #[arg(long)]
    pub seed: Option<u64>,
}

impl Overrides {
    /// All overrides as `key=value`.
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
    /// Folder for the record, or for one folder per scenario if there are several [default: `results/TIME-SCENARIO`]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,
    /// List the trials in order without running them
    #[arg(long)]
    pub list: bool,
    /// Run even if the load needs more ports, files or memory than this machine has
    #[arg(long)]
    pub force: bool,
    /// Add the overhead measured by `calibrate --out` to the record; it must come from this machine, kernel and build
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub calibration: Option<PathBuf>,
    /// How to show progress
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Progress::Auto)]
    pub progress: Progress,
    /// Print only errors, and each record's folder on standard output
    #[arg(long, conflicts_with = "progress")]
    pub quiet: bool,
    /// Values that override the scenario's.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// How to show a run's progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// A full-screen view if standard input and standard error are a terminal of at least 80×24 (q quits and keeps finished
    /// trials), plain lines otherwise
    Auto,
    /// One line per trial, plus a line for every problem
    Plain,
}

/// `listenbench serve`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  listenbench serve quick --set server.strategy=reuseport --set server.app=http\n  \
                        curl -i http://127.0.0.1:7000/")]
pub struct Serve {
    /// Scenario file, or the name of a built-in scenario
    #[arg(value_hint = ValueHint::FilePath)]
    pub scenario: String,
    /// Values that override the scenario's.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// `listenbench load`
#[derive(Debug, Args)]
#[command(after_help = "Example, against nginx:\n  listenbench load quick --set server.strategy=reuseport --set \
                        server.app=http --target 127.0.0.1:80")]
pub struct Load {
    /// Scenario file, or the name of a built-in scenario
    #[arg(value_hint = ValueHint::FilePath)]
    pub scenario: String,
    /// Address of the server
    #[arg(long, value_name = "ADDR:PORT")]
    pub target: SocketAddr,
    /// Allow a target outside this machine's loopback; get its owner's consent first
    #[arg(long)]
    pub allow_remote: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Values that override the scenario's.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// `listenbench ports`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  listenbench ports                          how full the range is, and who uses it\n  \
                        listenbench ports --to 192.0.2.7:443       counting only connections to one destination\n  \
                        listenbench ports 8080                     what port 8080 is for, and who listens on it\n  \
                        sudo ip netns exec blue listenbench ports  in another network namespace"
)]
pub struct Ports {
    /// Explain this port: its class, whether clients may take it, who listens on it
    #[arg(value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Count only connections to this destination
    #[arg(long, value_name = "ADDR:PORT", conflicts_with = "port")]
    pub to: Option<SocketAddr>,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// `listenbench compare`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  listenbench compare results/before results/after\n  \
                        listenbench compare old new --metric accept_wait_p99 --metric accepted_per_s --markdown\n  \
                        listenbench compare main branch --fail-if 'accept_wait_p99 worse than 5%'\n\n\
                        A --fail-if condition is met (exit code 3) if in any cell the difference is significant (p ≤ 0.05 after \
                        Holm's correction) and the median is worse by more than the limit. If there are too few trials to \
                        show any difference, the exit code is 1.")]
pub struct Compare {
    /// Folders of records; the first is the baseline
    #[arg(value_name = "DIR", num_args = 2.., required = true, value_hint = ValueHint::DirPath)]
    pub records: Vec<PathBuf>,
    /// Metric to compare; repeatable [default: the most relevant ones]
    #[arg(long = "metric", value_name = "METRIC")]
    pub metrics: Vec<String>,
    /// Exit with code 3 if this condition is met: METRIC worse than N%; repeatable
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
                        sudo listenbench doctor    what root could do"
)]
pub struct Doctor {
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// `listenbench calibrate`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sudo listenbench calibrate --out here.json    as root, to include exact stamps\n  \
                        sudo listenbench run --calibration here.json  add it to host.json and the reports\n  \
                        listenbench calibrate --rounds 20 --seconds 2  on a machine shared with others\n  \
                        listenbench calibrate my.toml --set server.workers=4 --json | jq .ratios"
)]
pub struct Calibrate {
    /// Scenario file or built-in scenario with a single cell [default: `quick` with strategy reuseport]
    #[arg(value_hint = ValueHint::FilePath)]
    pub scenario: Option<String>,
    /// Number of rounds; each runs every contestant once
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rounds: u32,
    /// Length of each run's measured window, in seconds
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    pub seconds: f64,
    /// Write the result to this new file, for `run --calibration`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
    /// Values that override the scenario's.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// `listenbench completions`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  source <(listenbench completions bash)    for the current bash session\n  \
                        listenbench completions bash > ~/.local/share/bash-completion/completions/listenbench\n  \
                        listenbench completions fish > ~/.config/fish/completions/listenbench.fish\n  \
                        listenbench completions zsh > ~/.zfunc/_listenbench    if ~/.zfunc is in $fpath")]
pub struct Completions {
    /// Shell to generate the script for
    pub shell: Shell,
}

/// `listenbench man`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  listenbench man | man -l -         read listenbench's page\n  \
                        listenbench man run | man -l -     read the page of one command\n  \
                        listenbench man --dir ~/.local/share/man/man1")]
pub struct Man {
    /// Print the page of this command instead of listenbench's own
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
    /// Write the pages of listenbench and all its commands to this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "command")]
    pub dir: Option<PathBuf>,
}
