//! How held connections were opened.

use super::{
    Better::{Higher, Lower},
    Metric,
    Unit::{Ratio, Seconds},
    sampled,
};

pub(super) const METRICS: &[Metric] = &[
    sampled("ramp_s", "time until all connections were open", "Time from the start until all connections of a load that holds them were accepted.", Seconds, Lower, |trial| {
        trial.ramp.as_ref().map(|ramp| ramp.seconds)
    })
    .compared()
    .column("ramp\ns"),
    sampled("ramp_rate_ratio", "accept rate in the ramp's last tenth ÷ first", "Whether accepting becomes slower as connections are open: the rate while the last tenth was opened ÷ that of the first.", Ratio, Higher, |trial| {
        trial.ramp.as_ref()?.rate_ratio
    })
    .column("last ÷ first tenth\naccepts/s"),
    sampled("ramp_cpu_ratio", "CPU per connection in the ramp's last tenth ÷ first", "Whether a connection becomes dearer as others are open: CPU time per connection of the last tenth ÷ that of the first.", Ratio, Lower, |trial| {
        trial.ramp.as_ref()?.cpu_ratio
    })
    .column("CPU"),
];
