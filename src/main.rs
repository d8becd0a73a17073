//! listenbench: a benchmark harness for the ways Linux lets processes share a listening port.
//!
//! # Process tree
//!
//! ```text
//! listenbench run      reads scenarios, plans, shows progress, writes records
//! └─ trial             one per trial: networks, sysctls, BPF programs, sampling, gathering
//!    ├─ worker 0..n    the server: an event loop each, with one strategy and one app
//!    ├─ dispatcher     only with the strategy of that name: accepts for the workers
//!    ├─ threads        only with `shared-threads`, in place of the workers: they are its threads, and one more accepts
//!    ├─ keeper         only with a command in place of our own server: starts it, and ends everything that it forks
//!    └─ loader 0..m    the load: a pacer, an engine that moves bytes, a session per connection
//! ```
//!
//! Under a launcher, each host of the job has such a tree: rank 0 has all of it but the loaders, and each load host `listenbench run`, which
//! serves rank 0, a trial and its loaders. With several servers, the host of a cell's server conducts its trials, and rank 0 writes them down.
//!
//! Everything that a trial makes disappears with its process. Children die with their parent. No process starts a thread
//! before its last fork. A trial has a deadline, and all of its processes start at one agreed instant of CLOCK_MONOTONIC.
//!
//! # Data flow
//!
//! ```text
//! scenario → trial { server, load, observe } → record → stats → report
//! ```
//!
//! A scenario is a TOML file; [`scenario`] turns it into an ordered list of trials. A [`trial`] forks the server and the load,
//! watches both through [`observe`], and writes one [`record`]. [`stats`] and [`report`] see nothing but records.
//!
//! # Layers
//!
//! A module imports only from those above it in this table. A test reads the order from here.
//!
//! | module | what it holds |
//! |---|---|
//! | [`sys`] | the operating system, and every `unsafe` |
//! | [`mod@format`] | numbers as people read them |
//! | [`json`] | JSON read into types, with the key at which it is wrong |
//! | [`suggest`] | which known names a misspelt one may have meant |
//! | [`record`] | what a run writes to disk: words, sections, verdicts, one writer, one reader |
//! | [`ipc`] | what the processes of a trial share: families of children, messages, counters, the port ledger |
//! | [`hosts`] | the hosts of a job: who a launcher started, the connections between them, their clocks |
//! | [`trace`] | traces of connections: access logs, tables, captures; the schedule that replays one |
//! | [`scenario`] | from TOML to an ordered list of trials: keys, strategies, the matrix |
//! | [`tls`] | TLS between sockets and apps: certificates, and sessions of either side |
//! | [`stats`] | mathematics on records: medians, tests, metrics |
//! | [`observe`] | what the kernel says: queues, counters, sockets, ports, the host |
//! | [`context`] | what a trial makes before its first fork, and every process of it inherits |
//! | [`server`] | our own server: the worker loop, the ways to accept, the apps |
//! | [`load`] | the load generator: pacer, sessions, engines, source ports |
//! | [`trial`] | one trial: networks, the subject, supervision, the rules behind verdicts |
//! | [`watch`] | servers that run, watched without load |
//! | [`calibrate`] | what the harness itself costs |
//! | [`report`] | sections and exporters |
//! | [`live`] | the view of a run in progress |
//! | [`cli`] | the command line, one command a file |
//! | [`commands`] | one command a file |
//! | `fuzz` | what fuzzers feed to parsers, and what they assert; in no build but theirs and the tests' |
//!
//! # Vocabulary
//!
//! One word has one meaning, in code, keys and reports alike.
//!
//! | word | meaning |
//! |---|---|
//! | scenario | one TOML file, which asks one question |
//! | cell | one combination of the values that a scenario sweeps |
//! | trial | one execution of a cell |
//! | repetition | one of several trials of a cell, interleaved with those of the other cells |
//! | job, host | what a launcher started on several machines, and one of its processes there, by its rank: a server host or a load host |
//! | record | what a run leaves on disk, with a line for each trial |
//! | subject | the server under test |
//! | member | whatever accepts in the subject: a worker of ours, or a process or thread of another server |
//! | load, population | what load generators are asked to do; the connections of one of several such tasks, by its name |
//! | loader | one forked process that generates load, for one population |
//! | strategy | queues (one, several, one per worker) × steering (which queue a connection goes to) × wake-up (how a worker learns of it) |
//! | accept wait | from ESTABLISHED in the kernel until the member that will serve the connection has it; exact or an upper bound |
//! | hand-over | the part of the accept wait after accept(2) returned in a thread or an acceptor process, or an io_uring completed it; 0 if the serving member accepts itself |
//! | connect latency | from the call of connect() until the socket is writable |
//! | response latency | from the intended start until the last byte of the reply; a failed attempt counts as slower than any other |
//! | send lag | how late the loader itself was; part of the response latency, and reported by itself too |
//! | fill | ports in use ÷ usable ports |
//! | tuple group | the connections that share source address, destination address and destination port, and so one range of source ports |
//! | ramp | a part of a load in which it grows, or shrinks, steadily: its rate of starts (`load.arrivals`), or the connections that it holds (`ramp` in records) |
//! | trace | a file that says when connections once started: an access log, a table of times, a capture of SYNs |
//! | replay | a load that starts connections at the times recorded in a trace (`load.arrivals = "trace"`) |
//! | index of dispersion | the variance of the starts in windows of some length ÷ their mean: 1 if they are independent, more in bursts |
//! | knee | the fill at which connect() becomes slow |
//! | wall | the fill at which connect() fails with EADDRNOTAVAIL |
//! | share | a member's part of all accepts |
//! | imbalance | the busiest member's accepts ÷ the mean |
//! | packet filter, firewall | rules of the kernel that packets pass: those of nftables or iptables, a scenario's own among them (`firewall`) |
//! | connection tracking, conntrack | the kernel's table of connections, by which rules recognise packets of established connections, and NAT those it translates |
//! | source NAT | rewriting clients' addresses to a single one, and their ports to ports of that address (`nat`; nft's masquerade) |
//! | fallback | a connection that asked for MPTCP and got plain TCP |
//! | draw | what falls on a random member each time: a distinct 4-tuple where the kernel hashes them, a connection where a program draws |
//! | exact metric | a number that one trial settles: a wall, a balance |
//! | counted metric | a count that is complete in each trial, but may depend on chance: connections lost |
//! | sampled metric | a number that only repetitions settle: a time, a rate |
//! | event | what happens to the subject during a trial, such as a stall or a kill |
//!
//! # Where to start reading
//!
//! 1. [`commands::run`] shows a run from the plan to the report.
//! 2. [`mod@trial`] shows what happens in a trial; its `process` module has the order of events.
//! 3. `server::worker` and `load::driver` are the two hot loops.
//! 4. [`record::TrialRecord`] names every number that a trial may leave.
//!
//! `CONTRIBUTING.md` says how to add a strategy, a key, a metric and whatever else was meant to grow.

// A fuzzer's `main` is libFuzzer's, and its targets reach only a part of the crate.
#![cfg_attr(fuzzing, no_main, allow(dead_code, unused_imports))]

mod calibrate;
mod cli;
mod commands;
mod context;
mod format;
#[cfg(any(test, fuzzing))]
mod fuzz;
mod hosts;
mod ipc;
mod json;
mod live;
mod load;
mod observe;
mod record;
mod report;
mod scenario;
mod server;
mod stats;
mod suggest;
#[allow(unsafe_code)]
mod sys;
mod tls;
mod trace;
mod trial;
mod watch;

use std::{env, ffi::OsString, process::ExitCode};

use clap::ColorChoice;

use crate::{
    cli::{Cli, Command},
    commands::Ended,
};

fn main() -> ExitCode {
    if let Err(error) = sys::signals::outlive_file_size_limit() {
        commands::note(format_args!("listenbench: ignoring SIGXFSZ: {error}"));
    }
    let here = commands::demand_proc;
    let Cli { command, color } =
        Cli::read(&env::args_os().collect::<Vec<OsString>>()).unwrap_or_else(|error| error.exit());
    match color {
        ColorChoice::Auto => {}
        ColorChoice::Always => live::use_colours(true),
        ColorChoice::Never => live::use_colours(false),
    }
    let ended = match command {
        Command::Run(options) => here().and_then(|()| commands::run::run(&options)),
        Command::List(options) => commands::list::run(&options),
        Command::Show(options) => commands::show::run(&options),
        Command::New(options) => commands::new::run(&options),
        Command::Explain(options) => commands::explain::run(&options),
        Command::Serve(options) => here().and_then(|()| commands::serve::run(&options)),
        Command::Load(options) => here().and_then(|()| commands::load::run(&options)),
        Command::Observe(options) => here().and_then(|()| commands::observe::run(&options)),
        Command::Ports(options) => here().and_then(|()| commands::ports::run(&options)),
        Command::Compare(options) => commands::compare::run(&options),
        Command::Report(options) => commands::report::run(&options),
        Command::Index(options) => commands::index::run(&options),
        Command::Trace(options) => commands::trace::run(&options),
        Command::Doctor(options) => here().and_then(|()| commands::doctor::run(&options)),
        Command::Calibrate(options) => here().and_then(|()| commands::calibrate::run(&options)),
        Command::Complete(options) => commands::complete::run(&options),
        Command::Completions(options) => commands::completions::run(&options),
        Command::Man(options) => commands::man::run(&options),
    };
    match ended {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::Flawed) => ExitCode::from(3),
        Ok(Ended::Undecided) => ExitCode::from(4),
        Ok(Ended::Interrupted) => ExitCode::from(130),
        Err(error) if commands::is_interrupt(&error) => ExitCode::from(130),
        Err(error) => {
            // A scenario's error has a line for everything that is wrong with it.
            for line in format::causes(&error).lines() {
                commands::note(format_args!("listenbench: {line}"));
            }
            ExitCode::from(if commands::is_usage(&error) { 2 } else { 1 })
        }
    }
}
