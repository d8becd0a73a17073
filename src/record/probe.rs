//! What was seen of accepts from outside the server.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LatencySummary, ProbeLevel};

/// The probe of a trial: BPF programs at the kernel's tracepoints, which see the accepts of any server. Counts are `null` if the level
/// cannot know them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeRow {
    /// How accepts were seen.
    pub level: ProbeLevel,
    /// Connections seen to be accepted on the server's address, over the whole trial.
    pub accepts: Option<u64>,
    /// Those of them whose exact wait is unknown, because nobody saw them become established.
    pub unstamped: Option<u64>,
    /// Events of the watched listeners that were missed: a map was full, or an accept showed nowhere. Must be 0.
    pub lost_events: Option<u64>,
    /// Runs of the probe's programs that the kernel skipped, because another BPF program or a bpf(2) call was busy on that processor.
    /// They were for any socket of the machine: if the connections add up, none of theirs was missed.
    #[serde(default)]
    pub missed_runs: Option<u64>,
    /// Connections seen to become established that nobody accepted in time to be matched.
    pub aged_out: Option<u64>,
    /// Connections that waited to be accepted when their listener was closed, and were reset with it, over the whole trial; without those
    /// of other programs, if there are loaders. Only the level `btf` tells them from those that their clients gave up.
    #[serde(default)]
    pub reset_in_queue: Option<u64>,
    /// What cannot be known at this level, why, and how to get it; `null` if nothing is missing.
    pub missing: Option<String>,
    /// What was seen of listenbench's own workers, if the probe watched them beside their own counts; empty for another server, whose
    /// members are the trial's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<ProbedMember>,
}

/// What the probe saw of one of listenbench's own workers, all of its threads together, or of the strategy's helper process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbedMember {
    /// Number of the member; `null` for the helper process, which accepts for all of them.
    pub member: Option<usize>,
    /// Process id.
    pub pid: i32,
    /// Connections it was seen to accept, over the whole trial; `null`, like the other figures, if it accepts by io_uring and the level
    /// does not see that.
    pub accepted: Option<u64>,
    /// Calls of accept(2) that were seen to return EAGAIN.
    pub accept_eagain: Option<u64>,
    /// Most connections open at once; `null` if the level does not tell connections apart.
    pub open_peak: Option<u64>,
    /// Waits of what it accepted from the measured window's begin on, unless another program connected, in buckets of at most 0.8 % of their values;
    /// `null` if the level does not see them.
    pub accept_wait: Option<LatencySummary>,
}
