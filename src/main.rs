//! listenbench: a benchmark harness for multi-process listeners on Linux.
//!
//! Data flows one way: `scenario → trial {server, load, observe} → record → stats → report`. [`sys`] is below all and
//! holds every `unsafe`; [`ipc`] is what the processes of one trial share; [`live`] looks at a trial while it runs;
//! [`calibrate`] finds out what the harness itself costs;
//! [`commands`] sees everything and nothing sees it.

mod calibrate;
mod cli;
mod commands;
mod context;
mod format;
mod ipc;
mod live;
mod load;
mod observe;
mod record;
mod report;
mod scenario;
mod server;
mod stats;
#[allow(unsafe_code)]
mod sys;
mod trial;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    cli::{Cli, Command},
    commands::Ended,
};

fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Run(options) => commands::run::run(&options),
        Command::Serve(options) => commands::serve::run(&options),
        Command::Load(options) => commands::load::run(&options),
        Command::Ports(options) => commands::ports::run(&options),
        Command::Compare(options) => commands::compare::run(&options),
        Command::Report(options) => commands::report::run(&options),
        Command::Doctor(options) => commands::doctor::run(&options),
        Command::Calibrate(options) => commands::calibrate::run(&options),
        Command::Completions(options) => commands::completions::run(&options),
        Command::Man(options) => commands::man::run(&options),
    };
    match ended {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::Flawed) => ExitCode::from(3),
        Ok(Ended::Interrupted) => ExitCode::from(130),
        Err(error) if commands::is_interrupt(&error) => ExitCode::from(130),
        Err(error) => {
            // A scenario's error has a line for everything that is wrong with it.
            for line in format!("{error:#}").lines() {
                eprintln!("listenbench: {line}");
            }
            ExitCode::from(if commands::is_usage(&error) { 2 } else { 1 })
        }
    }
}
