//! Every key of a scenario, once: path, type, range, unit, default and meaning.
//!
//! Code reads `settings.get(keys::SERVER_WORKERS)` and gets the typed value; parser, error messages, limits and the tables
//! of `bench-configs/README.md` follow from the constant. To add a key, add an entry to one of the lists here.

#![cfg_attr(not(test), allow(dead_code, reason = "some of it serves the documentation, which tests compare"))]

#[cfg(test)]
mod documentation;
mod domain;
mod faults;
mod key;
mod lists;
mod load;
pub(super) mod paths;
mod ports;
mod server;
mod trial;
mod whole;

use std::borrow::Cow;

pub(super) use self::domain::Domain;
pub use self::{
    domain::Integer, faults::*, key::*, lists::WordOrList, load::*, ports::*, server::*, trial::*, whole::*,
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
    [WHOLE, TRIAL, SERVER, LOAD, PORTS, FAULT].into_iter().flatten().copied()
}

/// Whether a key describes the whole scenario and cannot be swept.
pub fn is_of_whole(path: &str) -> bool {
    WHOLE.iter().any(|key| key.path() == path)
}
