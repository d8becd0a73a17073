//! From a scenario file to an ordered list of trials.
//!
//! `file` reads TOML and overrides into flat values, `folder` the files they name, `keys` declares every key, `variant` are named sets of values, `limits` says how large they may be, `settings` gives one
//! cell's values by key,
//! `whole` is what no cell has of its own, `model`, `subject`, `server`, `strategy`, `load`, `security`, `schedule`, `placement`, `ports`,
//! `bind`, `event` and `crew` are the result, valid by construction, and `plan` expands the matrix. Everything that is wrong with a scenario is
//! found before any of it is reported.

mod bind;
mod crew;
mod effective;
mod error;
mod event;
mod file;
mod folder;
mod forecast;
mod idle;
pub mod keys;
mod limits;
mod load;
mod local;
#[cfg(test)]
mod mistakes;
mod model;
mod placement;
mod plan;
mod population;
mod ports;
mod replay;
mod schedule;
mod security;
mod server;
mod settings;
mod strategy;
mod subject;
mod variant;
mod whole;

pub use bind::{LOOPBACK, MOST_BOUND};
pub use crew::{Crew, CrewMember, ListenerSet, Turn};
pub use error::ScenarioError;
pub use event::{Act, Event, Reload};
pub use limits::LIMITS;
pub use load::{CloseBy, CloseHow, Connect, Engine, HttpRequest, LineExchange, Load, ReplyEnd, Sockets};
pub use model::{Admit, Headers, Kind, Network, Probe, Protocol, Scenario, Stamps, Transport};
pub use plan::{Cell, Plan, Source, Trial, interleaved, label};
pub use ports::{Fill, Selection, Sources};
pub use replay::Replay;
pub use schedule::{Arrivals, Asking, Bound, Mode, Pacer, Span, Spread};
pub use security::{CertificateFiles, Security, TlsVersion};
pub use server::{AcceptBatch, AcceptFlags, App, AtOpenFiles, ListenOptions, Server, ServiceTime};
pub use strategy::{Balance, Dispatch, PRESETS, Queues, Steering, Strategy, Trigger, Waiting, Wake, sharers};
pub use subject::{ServerCommand, ServerFile, UnderTest};
pub use whole::{Limit, Search, Whole};
