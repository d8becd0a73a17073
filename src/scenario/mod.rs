//! From a scenario file to an ordered list of trials.
//!
//! `file` reads TOML and overrides into flat values, `keys` declares every key, `settings` gives one cell's values by key,
//! `whole` is what no cell has of its own, `model`, `server`, `strategy`, `load`, `schedule`, `placement`, `ports` and
//! `fault` are the result, valid by construction, and `plan` expands the matrix. Everything that is wrong with a scenario is
//! found before any of it is reported.

mod error;
mod fault;
mod file;
pub mod keys;
mod load;
#[cfg(test)]
mod mistakes;
mod model;
mod placement;
mod plan;
mod ports;
mod schedule;
mod server;
mod settings;
mod strategy;
mod whole;

pub use error::ScenarioError;
pub use fault::{Fault, FaultKind};
pub use load::{CloseBy, CloseHow, Engine, Load, Sockets};
pub use model::{Network, Protocol, Scenario, Stamps, Transport};
pub use plan::{Cell, Plan, Source, Trial, label};
pub use ports::{Fill, Selection, Sources};
pub use schedule::{Arrivals, Bound, Mode, Pacer};
pub use server::{AcceptBatch, AcceptFlags, App, ListenOptions, Server, ServiceTime};
pub use strategy::{Dispatch, PRESETS, Queues, Steering, Strategy, Trigger, Waiting, Wake};
pub use whole::{Limit, Search, Whole};
