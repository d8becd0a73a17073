//! Keys of the packet filter in front of the server.

use toml::{Table, Value};

use super::{
    domain::{Boolean, Choice, Domain, Integer, Optional, Text, choice, integer, shown, text},
    keys,
};
use crate::scenario::firewall::{FirewallAction, RuleMatch, RuleShape, Ruleset};

const NAME_OF_FILE: Text = text("file", |name| name.is_empty().then_some("must be the name of a file"));

keys! { FIREWALL:
    FIREWALL_RULES: Optional<Text> = "firewall.rules", Optional(NAME_OF_FILE), None,
        "A ruleset of your own: a file in the language of nft, by its path from the scenario's folder. `nft -f` loads it in the server's network \
         before the trial, ahead of what the other keys generate. Requires nft, and network `netns` or `veth`.";
    FIREWALL_FILES: Rulesets = "firewall.files", Rulesets, Vec::new(),
        "The texts of the rulesets by the names in `firewall.rules`, in place of files. A record's `scenario.toml` has them here, so that it \
         repeats the run without the files.";
    FIREWALL_COUNT: Integer<u32> = "firewall.count", integer(0, 60_000), 0,
        "Rules, or entries of a set or map, that every packet to the server's port is compared with. None of them matches. They are in the input hook of the \
         server's network, where replies to clients do not pass them. Requires nft, and network `netns` or `veth`.";
    FIREWALL_SHAPE: Choice<RuleShape> = "firewall.shape", choice(), RuleShape::Chain,
        "How they are arranged. `chain`: a rule for each, one after the other. `set`: a single rule that looks for the packet in a set of all of them. \
         `map`: a single rule that looks its verdict up in a map.";
    FIREWALL_MATCH: Choice<RuleMatch> = "firewall.match", choice(), RuleMatch::Port,
        "What of a packet they compare. `port`: its destination port. `address`: its source address.";
    FIREWALL_CONNTRACK: Boolean = "firewall.conntrack", Boolean, false,
        "Tracks connections, and accepts what belongs to an established one before any other rule is asked: these then see only the packets that \
         begin a connection.";
    FIREWALL_ACTION: Choice<FirewallAction> = "firewall.action", choice(), FirewallAction::Accept,
        "What becomes of packets to the server's port that no rule matches. `accept`: they reach the server. `drop`: nothing answers. `reset`: a RST answers, as it \
         does from a port on which nothing listens. `reject`: ICMP answers, port unreachable. `prohibit`: ICMP answers, administratively prohibited. \
         The client cannot tell `reset` from `reject`: both give ECONNREFUSED. Between two networks (`veth`), the kernel sends one address few ICMP messages per second, and \
         no answer to what is beyond: `sysctl.icmp_ratelimit = 0` and `sysctl.\"net.ipv6.icmp.ratelimit\" = 0` lift that.";
}

/// More texts are a mistake.
const RULESETS_LIMIT: usize = 1_000;

/// Rulesets by name.
#[derive(Debug, Clone, Copy)]
pub struct Rulesets;

impl Domain for Rulesets {
    type Value = Vec<Ruleset>;

    fn parse(&self, value: &Value) -> Result<Vec<Ruleset>, String> {
        let table = value
            .as_table()
            .ok_or_else(|| format!("must be a table of names and texts of rulesets, not {}", shown(value)))?;
        if table.len() > RULESETS_LIMIT {
            return Err(format!("names more than {RULESETS_LIMIT} rulesets"));
        }
        let ruleset = |(name, text): (&String, &Value)| match text {
            Value::String(text) => Ok(Ruleset { name: name.clone(), text: text.clone() }),
            Value::Table(inner) => Err(format!(
                "a name that contains a dot must be in quotes: \"{name}.{}\"",
                inner.keys().next().map_or("…", |inner| inner)
            )),
            other => {
                let name = shown(&Value::String(name.clone()));
                Err(format!("the text of {name} must be a string, not {}", shown(other)))
            }
        };
        table.iter().map(ruleset).collect()
    }

    fn to_toml(&self, value: &Vec<Ruleset>) -> Option<Value> {
        let table: Table = value.iter().map(|one| (one.name.clone(), Value::String(one.text.clone()))).collect();
        Some(Value::Table(table))
    }

    fn describe(&self) -> String {
        "table of names and texts".to_owned()
    }
}
