//! Memory of held connections.

use super::{
    Better::{Lower, Neither},
    Metric,
    Unit::{Bytes, Count},
    exact, sampled,
};

pub(super) const METRICS: &[Metric] = &[
    exact("open_peak", "peak of open connections", Count, Neither, |trial| {
        trial.memory.map(|memory| memory.open as f64)
    })
    .column("most\nopen"),
    sampled("kernel_bytes_per_connection", "kernel memory per connection", Bytes, Lower, |trial| {
        trial.memory.map(|memory| memory.kernel_bytes_per_connection)
    })
    .compared()
    .column("kernel\nB/connection"),
    sampled("user_bytes_per_connection", "user memory per connection", Bytes, Lower, |trial| {
        trial.memory.map(|memory| memory.user_bytes_per_connection)
    })
    .compared(),
    sampled("loader_bytes_per_connection", "loaders' memory per connection", Bytes, Lower, |trial| {
        trial.memory.map(|memory| memory.loader_bytes_per_connection)
    })
    .column("loaders'\nB/connection"),
    sampled("worker_bytes_per_connection", "workers' memory per connection", Bytes, Lower, |trial| {
        trial.memory.map(|memory| memory.worker_bytes_per_connection)
    })
    .column("workers'\nB/connection"),
    sampled("shared_bytes_per_connection", "shared memory per connection", Bytes, Lower, |trial| {
        trial.memory.map(|memory| memory.shared_bytes_per_connection)
    })
    .column("shared\nB/connection"),
];
