//! How held connections were opened.

use super::{
    Better::{Higher, Lower},
    Metric,
    Unit::{Ratio, Seconds},
    sampled,
};

pub(super) const METRICS: &[Metric] = &[
    sampled("ramp_s", "time until all connections were open", Seconds, Lower, |trial| {
        trial.ramp.as_ref().map(|ramp| ramp.seconds)
    })
    .compared()
    .column("ramp\ns"),
    sampled("ramp_rate_ratio", "accept rate in the ramp's last tenth ÷ first", Ratio, Higher, |trial| {
        trial.ramp.as_ref()?.rate_ratio
    })
    .column("last ÷ first tenth\naccepts/s"),
    sampled("ramp_cpu_ratio", "CPU per connection in the ramp's last tenth ÷ first", Ratio, Lower, |trial| {
        trial.ramp.as_ref()?.cpu_ratio
    })
    .column("CPU"),
];
