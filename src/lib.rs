//! listenbench: a benchmark harness for multi-process listeners on Linux.
//!
//! Data flows one way: `scenario → trial {server, load, observe} → record → stats → report`.
//!
//! A module imports only from those before it in this list, which a test enforces:
//!
//! | module | what it is |
//! |---|---|
//! | [`sys`] | system calls, and every `unsafe` |
//! | [`format`] | numbers as people read them |
//! | [`record`] | what is written to disk: its words, sections, writer and reader |
//! | [`ipc`] | what the processes of one trial share |
//! | [`scenario`] | the choices of a TOML file, and the plan of its trials |
//! | [`stats`] | records read back with their scenario, and what follows from them |
//! | [`observe`] | readings of the kernel, of its tables and of the machine |
//! | [`context`] | what all processes of one trial inherit |
//! | [`server`] | the workers |
//! | [`load`] | the loaders |
//! | [`trial`] | one trial's process tree, from the fork to the finished record |
//! | [`calibrate`] | what the harness itself costs |
//! | [`report`] | a record for people, and for other programs |
//! | [`live`] | a trial while it runs |
//! | [`cli`], [`commands`] | what a user asks for |

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
