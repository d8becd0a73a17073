//! What open connections cost in memory.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Memory at the sample with the most open connections, less what was in use before the start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Memory {
    /// Connections open, by the workers' count.
    pub open: u64,
    /// Growth of the machine's slabs, both ends of a loopback connection included, bytes. Leaves out inodes of /proc, which other
    /// programs create by looking at descriptors, if the user may see their number (root).
    pub kernel_bytes: u64,
    /// loader_bytes + worker_bytes + shared_bytes.
    pub user_bytes: u64,
    /// Growth of the loaders' own memory, bytes.
    #[serde(default)]
    pub loader_bytes: u64,
    /// Growth of the workers' own memory, bytes.
    #[serde(default)]
    pub worker_bytes: u64,
    /// Growth of the machine's shared memory, where loaders and workers record each connection for the other side, bytes.
    #[serde(default)]
    pub shared_bytes: u64,
    /// kernel_bytes ÷ open.
    pub kernel_bytes_per_connection: f64,
    /// user_bytes ÷ open.
    pub user_bytes_per_connection: f64,
    /// loader_bytes ÷ open.
    #[serde(default)]
    pub loader_bytes_per_connection: f64,
    /// worker_bytes ÷ open.
    #[serde(default)]
    pub worker_bytes_per_connection: f64,
    /// shared_bytes ÷ open.
    #[serde(default)]
    pub shared_bytes_per_connection: f64,
    /// The kernel's caches that grew most, the largest growth first: `kernel_bytes` by kind of object. Absent unless root ran the trial.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slabs: Vec<SlabGrowth>,
}

/// How one of the kernel's caches grew with the connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlabGrowth {
    /// Its name in /proc/slabinfo.
    pub cache: String,
    /// Other caches whose objects the kernel keeps in this one, because they are as large.
    pub merged: Vec<String>,
    /// Objects that it has more room for.
    pub objects: u64,
    /// Growth of its slabs, what no object uses included, bytes.
    pub bytes: u64,
}
