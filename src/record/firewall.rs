//! The rules that packets passed on their way to the server.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The rules in the server's network, and the packets that passed them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Firewall {
    /// Name of the user's ruleset, whose text is in `scenario.toml`; `null` if there is none.
    pub ruleset: Option<String>,
    /// Rules that the kernel held once all had been loaded, as nft listed them: the user's and the generated ones.
    pub rules: u64,
    /// Elements of sets and maps that it held.
    pub elements: u64,
    /// Rules, or elements of a set or map, that were generated for packets to be compared with (`firewall.count`).
    pub compared: u64,
    /// How long it took to load them all, ns.
    pub load_ns: u64,
    /// Packets to the server's port that came to the generated rules, over the whole trial. `null`, like `passed`, if nothing was
    /// generated.
    pub arrived: Option<u64>,
    /// Packets among those that no rule matched: all of them, unless the user's rules are in between.
    pub passed: Option<u64>,
    /// Packets that the counters of the user's ruleset counted, all together; `null` if it has none.
    pub counted: Option<u64>,
}
