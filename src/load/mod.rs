//! The load generator: forked loaders, each a loop that follows a pacer while an engine moves the bytes and a session per connection
//! decides what they mean.
//!
//! A module imports only from those listed before it:
//!
//! | module | what it knows |
//! |---|---|
//! | `buffers`, `clock`, `stages`, `report` | nothing of the rest |
//! | `client` | a protocol: what to ask, and what a whole reply is |
//! | `source`, `dialler` | ports and sockets |
//! | `pacer`, `sizing`, `fill` | the schedule; how many loaders; filling ports without a schedule |
//! | `measures`, `observer` | a loader's histograms; what it shows the trial, and learns from it |
//! | `engine` | bytes: sockets under keys, commands in, events out |
//! | `session` | decisions: events in, actions out; no socket and no clock |
//! | `table` | sessions by key and in order of waiting |
//! | `driver` | the loop between engine, sessions and pacer |
//! | `loader` | the process around it |

mod buffers;
mod client;
mod clock;
mod dialler;
mod driver;
mod engine;
#[cfg(test)]
mod fakes;
pub mod fill;
mod loader;
mod measures;
mod observer;
mod pacer;
mod report;
mod session;
mod sizing;
pub mod source;
mod stages;
mod table;

pub use client::first_request;
pub use engine::try_ring;
pub use loader::Loader;
pub use measures::histogram;
pub use pacer::Part;
pub use report::{Flows, LoaderReport, total};
pub use sizing::{Sizing, held_at_once, size};
