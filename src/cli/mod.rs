//! The command line, as clap parses it.

mod calibrate;
mod compare;
mod complete;
mod completions;
mod doctor;
mod exit_codes;
mod explain;
mod index;
mod list;
mod load;
mod man;
mod new;
mod observe;
mod overrides;
mod parse;
mod ports;
mod recording;
mod report;
mod run;
mod serve;
mod shorthands;
mod show;
mod target;
mod trace;

use clap::{ColorChoice, Parser, Subcommand};

pub use self::{
    calibrate::Calibrate,
    compare::Compare,
    complete::Complete,
    completions::Completions,
    doctor::Doctor,
    exit_codes::{EXIT_CODES, paragraph as exit_codes_in_words},
    explain::Explain,
    index::Index,
    list::List,
    load::Load,
    man::Man,
    new::{New, Whose},
    observe::Observe,
    overrides::Overrides,
    ports::Ports,
    recording::{Progress, Recording},
    report::Report,
    run::Run,
    serve::Serve,
    shorthands::{AppShorthands, ServerShorthands, Shorthand, Shorthands},
    show::Show,
    target::{Host, Target},
    trace::Trace,
};

/// Benchmark harness for multi-process listeners on Linux: compares accept strategies over real sockets.
#[derive(Debug, Parser)]
#[command(version = env!("LISTENBENCH_VERSION"), about, max_term_width = 100)]
#[command(after_help = exit_codes::paragraph())]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
    /// Whether to use colours: in help, and in the live views. Without it, NO_COLOR and CLICOLOR_FORCE decide, then the terminal
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    pub color: ColorChoice,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run scenarios and write a record of each
    Run(Run),
    /// List the built-in scenarios: what each asks, how long it takes, what it requires
    List(List),
    /// Print a scenario
    Show(Show),
    /// Write a commented scenario to start from
    New(New),
    /// Explain keys, metrics, verdicts, strategies, columns, exit codes and other names, with the remedy where there is one
    Explain(Explain),
    /// Run a scenario's server in the foreground for another program to load; stop it with Ctrl-C
    Serve(Serve),
    /// Measure a server that is already running: the short form of `run` for nginx, HAProxy or any other
    Load(Load),
    /// Watch what already listens on this machine: queues, members, accept waits. Generates no load
    Observe(Observe),
    /// Compare the records of two runs, or of several a side, cell by cell
    Compare(Compare),
    /// Regenerate all reports of a record from its files
    Report(Report),
    /// Write a page over all records below a folder: runs over time, and where they changed
    Index(Index),
    /// Show how many ephemeral ports are left in this network namespace, or explain one port
    Ports(Ports),
    /// Preview a trace of connections that a load may replay: rate, burstiness, gaps. Generates no load
    Trace(Trace),
    /// Check what this machine allows, and say what to change
    Doctor(Doctor),
    /// Measure the harness's own overhead against a bare loop of system calls
    Calibrate(Calibrate),
    /// Print what can stand at the cursor of a command line, for completion scripts
    #[command(hide = true)]
    Complete(Complete),
    /// Print a shell's completion script
    Completions(Completions),
    /// Print a manual page, or write all of them to a folder
    Man(Man),
}
