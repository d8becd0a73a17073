//! The load generator: forked loaders, each a loop that follows a pacer and has an engine move the bytes.

mod client;
mod connection;
mod connections;
mod drive;
mod engine;
mod exchange;
pub mod fill;
mod loader;
mod measures;
mod pacer;
mod report;
mod sizing;
pub mod source;
mod stages;
mod verify;
mod work;

pub use client::first_request;
pub use engine::try_ring;
pub use loader::Loader;
pub use measures::{Measures, histogram};
pub use pacer::Part;
pub use report::{Flows, LoaderReport, total};
pub use sizing::{Sizing, held_at_once, size};
