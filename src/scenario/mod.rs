//! From a scenario file to an ordered list of trials.
//!
//! `file` reads TOML and overrides into flat values, `folder` and `rulesets` the files they name, `keys` declares every key, `variant` are named sets of values, `limits` says how large they may be, `settings` gives one
//! cell's values by key,
//! `whole` is what no cell has of its own, `model`, `subject`, `server`, `strategy`, `load`, `engine`, `security`, `schedule`, `arrivals`, `times`, `placement`, `ports`,
//! `bind`, `firewall`, `nat`, `event` and `crew` are the result, valid by construction, and `plan` expands the matrix. Everything that is wrong with a scenario is
//! found before any of it is reported.

mod arrivals;
mod bind;
mod crew;
mod effective;
mod engine;
mod error;
mod event;
mod file;
mod firewall;
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
mod nat;
mod placement;
mod plan;
mod population;
mod ports;
mod replay;
mod rulesets;
mod schedule;
mod security;
mod server;
mod settings;
mod strategy;
mod subject;
mod times;
mod variant;
mod whole;

pub use arrivals::{Mmpp, Ramp, Rates};
pub use bind::{LOOPBACK, MOST_BOUND};
pub use crew::{Crew, CrewMember, ListenerSet, Turn};
pub use engine::Engine;
pub use error::ScenarioError;
pub use event::{Act, Event, Reload};
pub use firewall::{Firewall, FirewallAction, GeneratedRules, RuleMatch, RuleShape};
pub use limits::LIMITS;
pub use load::{CloseBy, CloseHow, Connect, HttpRequest, LineExchange, Load, ReplyEnd, Sockets};
pub use model::{Admit, Headers, Kind, Network, Probe, Protocol, Scenario, Stamps, Transport};
pub use nat::{Nat, NatPorts};
pub use plan::{Cell, Plan, Source, Trial, interleaved, label};
pub use ports::{Fill, Selection, Sources};
pub use replay::Replay;
pub use schedule::{Arrivals, Asking, Bound, Mode, Pacer, Span, Spread};
pub use security::{CertificateFiles, Security, TlsVersion};
pub use server::{AcceptBatch, AcceptFlags, App, AtOpenFiles, ListenOptions, Server, ServiceTime};
pub use strategy::{Balance, Dispatch, PRESETS, Queues, Steering, Strategy, Trigger, Waiting, Wake, sharers};
pub use subject::{ServerCommand, ServerFile, UnderTest};
pub use times::{Distribution, Times};
pub use whole::{Limit, Search, Stop, Until, Whole};
