//! The load generator: forked loaders, each a mio loop that follows a pacer.

mod client;
mod connection;
mod exchange;
pub mod fill;
mod loader;
mod measures;
mod pacer;
mod report;
mod sizing;
pub mod source;
mod stages;

pub use client::first_request;
pub use loader::Loader;
pub use measures::{LATENCIES, Measures, Waits, histogram};
pub use pacer::Part;
pub use report::{Flows, LoaderReport, total};
pub use sizing::{Sizing, held_at_once, size};
pub use stages::STAGES;
