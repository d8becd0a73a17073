//! Metrics' names without their unit, for formats that have units of their own.

use crate::stats::{Metric, Unit};

/// `accept_wait_p99` of `accept_wait_p99_ns`.
pub fn bare(metric: &Metric) -> String {
    let own = match metric.unit {
        Unit::Nanoseconds => "_ns",
        Unit::Seconds => "_s",
        Unit::PerSecond => "_per_s",
        Unit::Bytes => "_bytes",
        Unit::Share => "_share",
        Unit::Count | Unit::Ratio => "",
    };
    // The unit may be in the middle, as in `connect_p50_ns_at_25`. Only whole words match.
    let bare = format!("{}_", metric.name).replacen(&format!("{own}_"), "_", 1);
    bare.trim_end_matches('_').to_owned()
}
