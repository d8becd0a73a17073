//! The server: forked workers, each a mio loop with one strategy and one app.

pub mod accept;
pub mod app;
mod listen;
mod service;
mod worker;

pub use listen::{ListenError, Listeners};
pub use worker::{Worker, WorkerReport};
