//! The load generator: forked loaders, each a mio loop that follows a pacer.

mod client;
mod connection;
mod loader;
mod measures;
mod pacer;
mod sizing;

pub use loader::{Loader, LoaderReport};
pub use measures::{LATENCIES, Measures, histogram};
pub use pacer::Part;
pub use sizing::{Sizing, size};
