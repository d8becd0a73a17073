//! From a scenario file to an ordered list of trials.
//!
//! `file` reads TOML and overrides into flat settings, `keys` knows every key, its type and its default, `settings`
//! parses one cell's values, `model` is the result, valid by construction, and `plan` expands the matrix.

mod error;
mod file;
pub mod keys;
mod model;
mod plan;
mod settings;

pub use error::ScenarioError;
pub use model::{
    AcceptBatch, App, Arrivals, Bound, CloseBy, CloseHow, Load, Mode, Network, Pin, Scenario, Server, ServiceTime,
    Strategy,
};
pub use plan::{Cell, Plan, Source, Trial, label};
