//! listenbench: a benchmark harness for multi-process listeners on Linux.
//!
//! Data flows one way: `scenario → trial {server, load, observe} → record → stats → report`. [`sys`] is below all and
//! holds every `unsafe`; [`ipc`] is what the processes of one trial share; [`live`] looks at a trial while it runs;
//! [`calibrate`] finds out what the harness itself costs;
//! [`commands`] sees everything and nothing sees it.

pub mod calibrate;
pub mod cli;
pub mod commands;
pub mod context;
pub mod format;
pub mod ipc;
pub mod live;
pub mod load;
pub mod observe;
pub mod record;
pub mod report;
pub mod scenario;
pub mod server;
pub mod stats;
#[allow(unsafe_code)]
pub mod sys;
pub mod trial;
