//! The server: forked workers, each an event loop with one strategy, one engine and one app.

pub mod accept;
pub mod app;
mod burn;
mod datagrams;
mod descriptors;
mod listen;
mod service;
mod spin;
mod worker;

pub use descriptors::{Descriptors, check as check_descriptors};
pub use listen::{ListenError, Listener, Listeners, Site, SocketFile};
pub use worker::{Intake, Worker, WorkerSetUp, try_rings};
