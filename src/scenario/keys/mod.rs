//! Every key of a scenario, once: path, type, range, unit, default and meaning.
//!
//! Code reads `settings.get(keys::SERVER_WORKERS)` and gets the typed value; parser, error messages, limits and the tables
//! of `bench-configs/README.md` follow from the constant. To add a key, add an entry to one of the lists here.

#![cfg_attr(not(test), allow(dead_code, reason = "some of it serves the documentation, which tests compare"))]

mod bytes;
#[cfg(test)]
pub mod documentation;
mod domain;
mod events;
mod firewall;
mod key;
mod lists;
mod load;
mod nat;
pub(super) mod paths;
mod ports;
mod rows;
mod server;
mod trial;
mod whole;

use std::borrow::Cow;

pub(super) use self::domain::{Choice, Domain, Number, Optional, Span, alternatives, quoted, shown as shortened};
pub use self::{
    domain::Integer,
    events::*,
    firewall::*,
    key::*,
    lists::{Listens, WordOrList},
    load::*,
    nat::*,
    ports::*,
    server::*,
    trial::*,
    whole::*,
};

/// The default of texts that may be empty.
const EMPTY: Cow<'static, str> = Cow::Borrowed("");

/// Declares a list of keys: a constant for each, and one that holds them all.
macro_rules! keys {
    ($list:ident: $($name:ident: $domain:ty = $path:literal, $values:expr, $default:expr, $meaning:literal;)*) => {
        $(
            #[doc = $meaning]
            pub const $name: &$crate::scenario::keys::Key<$domain> =
                &$crate::scenario::keys::Key::new($path, $values, $default, $meaning);
        )*

        /// All keys of this file, in the order of the documentation.
        pub const $list: &[&dyn $crate::scenario::keys::AnyKey] = &[$($name),*];
    };
}
use keys;

/// All keys, in the order of the documentation.
pub fn all() -> impl Iterator<Item = &'static dyn AnyKey> {
    [WHOLE, TRIAL, SERVER, LOAD, PORTS, FIREWALL, NAT, EVENT].into_iter().flatten().copied()
}

/// The tables of a scenario, each with its meaning.
pub const TABLES: &[(&str, &str)] = &[
    ("[server]", "The server under test: whose it is, how it accepts, and what it does with a connection."),
    ("[load]", "What connects to the server: when, how often, from where, and what it asks for."),
    (
        "[[load]]",
        "One of several populations of connections that load the server at once. Each has a `name`, keys of its own as in `load.NAME.rate`, \
         and metrics of its own as `NAME.response_p99_ns`.",
    ),
    ("[ports]", "With `kind = \"ports\"`, which fills the ephemeral ports in place of loading a server: how."),
    ("[firewall]", "The rules that packets pass on their way to the server."),
    ("[nat]", "Source NAT between the clients and the server."),
    (
        "[[event]]",
        "What happens to the server during a trial; of several, the first one's keys are `event.0.at` and so on in `--set`. Not in a job of \
         several hosts: what an event did to clients is not known of loaders elsewhere.",
    ),
    (
        "[hosts]",
        "In a job that a launcher such as mpirun or srun started on several hosts: which of them have servers, and whom those serve.",
    ),
    ("[matrix]", "Keys with lists of values in place of one: every combination of the lists is a cell."),
    (
        "[[variant]]",
        "A cell with a `name` and values of its own for any keys. The matrix, if there is one, is run for each variant; \
         `--set variant=NAME` chooses among them.",
    ),
    ("[stop]", "Repeats trials until the question is decided, or the intervals are as narrow as asked."),
    ("[search]", "Searches for the highest value of a key at which a metric stays within a limit."),
    (
        "[sysctl]",
        "Sysctls of the trial's network namespaces, by their names, such as `tcp_tw_reuse` or `net.ipv4.tcp_rmem`.",
    ),
];

/// The key that a path of a scenario names.
pub fn find(path: &str) -> Option<&'static dyn AnyKey> {
    paths::find(path)
}

/// The path of a sysctl, by its name as scenarios write it.
pub fn sysctl_path(name: &str) -> String {
    format!("{}{name}", paths::prefix(paths::SYSCTL))
}

/// Whether a key describes the whole scenario and cannot be swept.
pub fn is_of_whole(path: &str) -> bool {
    WHOLE.iter().any(|key| key.path() == path)
}
