//! Whether workers hand connections over to each other.

use strum::{EnumString, IntoStaticStr, VariantNames};

/// Who serves a connection that a worker has accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum Balance {
    /// The worker itself.
    Off,
    /// The worker with the fewest connections, if the one that has accepted it has more than the mean.
    Least,
}
