//! The load generator: forked loaders, each a loop that follows a pacer while an engine moves the bytes and a session per connection
//! decides what they mean.
//!
//! A module imports only from those listed before it:
//!
//! | module | what it knows |
//! |---|---|
//! | `buffers`, `clock`, `stages`, `course`, `busy`, `report` | nothing of the rest |
//! | `client` | a protocol: what to ask, and what a whole reply is |
//! | `source`, `dialler` | ports and sockets |
//! | `times`, `schedule`, `kept`, `pacer`, `sizing`, `fill` | times drawn at random; the schedule, of connections and of requests; how many loaders; filling ports without a schedule |
//! | `measures`, `observer` | a loader's histograms; what it shows the trial, and learns from it |
//! | `engine` | bytes: sockets under keys, commands in, events out |
//! | `session` | decisions: events in, actions out; no socket and no clock |
//! | `table` | sessions by key and in order of waiting |
//! | `driver` | the loop between engine, sessions and pacer |
//! | `loader` | the process around it |
//! | `dead` | what a loader that died left out of its account |

mod buffers;
mod busy;
pub mod client;
mod clock;
mod course;
mod dead;
mod dialler;
mod driver;
mod engine;
#[cfg(test)]
mod fakes;
pub mod fill;
mod kept;
mod loader;
mod measures;
mod observer;
mod pacer;
mod report;
mod schedule;
mod session;
mod sizing;
pub mod source;
mod stages;
mod table;
mod times;

pub use busy::Busy;
pub use client::first_request;
pub use dead::Dead;
pub use engine::try_rings;
pub use loader::{Loader, SetUp};
pub use measures::{Measures, counts, histogram, make_room};
pub use report::{LoaderReport, total};
pub use sizing::{Room, Sizing, held_at_once, held_by_each, largest, reasons, size};
