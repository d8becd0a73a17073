//! The packet filter in front of the server: a ruleset of the user's, and rules that are generated.

use strum::{EnumString, IntoStaticStr, VariantNames};

use super::{
    keys::{self, AnyKey},
    model::{Network, Protocol, Transport},
    rulesets,
    settings::Settings,
};

/// What packets to the server pass before they reach it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Firewall {
    /// The user's ruleset, which is loaded first.
    pub ruleset: Option<Ruleset>,
    /// What is generated.
    pub generated: GeneratedRules,
}

/// Rules in the language of nft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// The name of their file.
    pub name: String,
    pub text: String,
}

/// Rules, none of which matches a packet of the trial, and what becomes of the packets after them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GeneratedRules {
    /// Rules, or entries of a set or map.
    pub count: u32,
    pub shape: RuleShape,
    pub matches: RuleMatch,
    /// Whether packets of established connections are accepted before the rules.
    pub conntrack: bool,
    pub action: FirewallAction,
}

/// How rules are arranged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum RuleShape {
    /// One after the other.
    #[default]
    Chain,
    /// A single rule and a set.
    Set,
    /// A single rule and a map of verdicts.
    Map,
}

/// What of a packet rules compare.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum RuleMatch {
    /// Its destination port.
    #[default]
    Port,
    /// Its source address.
    Address,
}

/// What becomes of packets to the server that no rule matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum FirewallAction {
    /// They reach the server.
    #[default]
    Accept,
    /// Nothing answers.
    Drop,
    /// A RST answers.
    Reset,
    /// ICMP answers: port unreachable.
    Reject,
    /// ICMP answers: administratively prohibited.
    Prohibit,
}

impl GeneratedRules {
    /// Whether there is anything to generate.
    pub fn any(&self) -> bool {
        self.count > 0 || self.conntrack || self.action != FirewallAction::Accept
    }
}

impl Firewall {
    /// Whether it has any rule.
    pub fn any(&self) -> bool {
        self.ruleset.is_some() || self.generated.any()
    }

    /// Whether no packet reaches the server.
    pub fn refuses(&self) -> bool {
        self.generated.action != FirewallAction::Accept
    }

    /// The key that asks for rules, if one does.
    pub fn key(&self) -> Option<&'static dyn AnyKey> {
        let GeneratedRules { count, conntrack, action, .. } = self.generated;
        let asks: [(bool, &'static dyn AnyKey); 4] = [
            (self.ruleset.is_some(), keys::FIREWALL_RULES),
            (count > 0, keys::FIREWALL_COUNT),
            (conntrack, keys::FIREWALL_CONNTRACK),
            (action != FirewallAction::Accept, keys::FIREWALL_ACTION),
        ];
        asks.into_iter().find(|(asks, _)| *asks).map(|(_, key)| key)
    }

    pub(super) fn read(settings: &Settings<'_>, network: Network, protocol: Protocol) -> Self {
        if settings.is_unix() {
            return Self::default();
        }
        let ruleset = settings.get(keys::FIREWALL_RULES).map(|name| {
            // Its text was put there when the scenario was read, unless that is among the problems.
            let text = settings.get(keys::FIREWALL_FILES).into_iter().find(|one| one.name == name);
            text.unwrap_or_else(|| Ruleset { name: name.into_owned(), text: String::new() })
        });
        if let Some((ruleset, problem)) =
            ruleset.as_ref().and_then(|ruleset| Some((ruleset, rulesets::objection(&ruleset.text)?)))
        {
            settings.conflict(keys::FIREWALL_RULES, &[keys::FIREWALL_FILES], format!("{}: {problem}", ruleset.name));
        }
        let count = settings.get(keys::FIREWALL_COUNT);
        let (shape, matches) = if count > 0 {
            (settings.get(keys::FIREWALL_SHAPE), settings.get(keys::FIREWALL_MATCH))
        } else {
            Default::default()
        };
        let conntrack = settings.get(keys::FIREWALL_CONNTRACK);
        let action = settings.get(keys::FIREWALL_ACTION);
        if action == FirewallAction::Reset && protocol.has(Transport::Udp) {
            let problem = "\"reset\" is TCP's, and nothing of the kind answers datagrams: set \"reject\" or another";
            settings.conflict(keys::FIREWALL_ACTION, &[keys::PROTOCOL], problem);
        }
        let firewall = Self { ruleset, generated: GeneratedRules { count, shape, matches, conntrack, action } };
        if let Some(key) = firewall.key().filter(|_| network == Network::Host) {
            let problem = "network = \"host\" loads no rules, which every connection of this machine would pass: set network = \"netns\" or \"veth\"";
            settings.conflict(key, &[keys::NETWORK], problem);
        }
        firewall
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Plan, Source};

    fn read(text: &str) -> Result<Plan, String> {
        Plan::read(&Source { name: "t", text }, &[]).map_err(|error| error.to_string())
    }

    #[test]
    fn a_scenario_without_the_table_has_no_rules() {
        let plan = read("").unwrap();
        assert!(!plan.cells[0].scenario.firewall.any());
        let plan = read("[matrix]\nfirewall.count = [0, 10]\nfirewall.shape = [\"chain\", \"map\"]").unwrap();
        let any: Vec<bool> = plan.cells.iter().map(|cell| cell.scenario.firewall.any()).collect();
        assert_eq!(any, [false, false, true, true]);
        assert_eq!(plan.cells[3].scenario.firewall.generated.shape, RuleShape::Map);
    }

    #[test]
    fn what_rules_cannot_do_is_refused_with_the_reason() {
        for (text, says) in [
            ("network = \"host\"\nfirewall.count = 1", "`firewall.count`: network = \"host\" loads no rules"),
            ("network = \"host\"\nfirewall.conntrack = true", "`firewall.conntrack`: network = \"host\" loads"),
            ("protocol = \"udp\"\nfirewall.action = \"reset\"", "`firewall.action`: \"reset\" is TCP's"),
            (
                "firewall.shape = \"set\"",
                "`firewall.shape` has no effect without `firewall.count`: set that, or remove it",
            ),
            ("firewall.files.a = \"\"", "`firewall.files` has no effect without `firewall.rules`: set that"),
            ("kind = \"ports\"\nfirewall.count = 5", "`firewall.count` has no effect with `kind = \"ports\"`"),
            ("address = \"unix:@t\"\nfirewall.count = 5", "`firewall.count` has no effect with a Unix socket"),
            ("firewall.count = 60001", "from 0 to 60000"),
            (
                "firewall.rules = \"a\"\nfirewall.files.a = \"# x\\ninclude \\\"b\\\"\"",
                "`firewall.rules`: a: line 2 includes another file",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_text_in_the_scenario_needs_no_file_and_a_plan_repeats_it() {
        let text = "[firewall]\nrules = \"my.nft\"\n[firewall.files]\n\"my.nft\" = \"add table inet x\"";
        let plan = read(text).unwrap();
        let ruleset = plan.cells[0].scenario.firewall.ruleset.clone().unwrap();
        assert_eq!((&ruleset.name[..], &ruleset.text[..]), ("my.nft", "add table inet x"));
        let again = read(&plan.effective).unwrap();
        assert_eq!(again.cells[0].scenario.firewall, plan.cells[0].scenario.firewall);
        let error = read("firewall.rules = \"/nowhere/my.nft\"").unwrap_err();
        assert!(error.contains("`firewall.rules`: /nowhere/my.nft: No such file"), "{error}");
    }
}
