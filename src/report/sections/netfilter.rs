//! What netfilter did to a record's trials, in lines of their conditions.

use super::in_cells::lines;
use crate::{format::thousands, record::NetworkRules, stats::Record};

/// More lines about rules than this become one: where cells have rules of their own, sections compare them.
const LINES: usize = 3;

/// The rules that packets met, and the table of tracked connections: `packet filter: 2 rules of nftables in base chains at input; …`.
pub(super) fn conditions(record: &Record) -> Vec<String> {
    let mut rules = lines(record, |trial| {
        let of: Vec<String> = trial.rules.iter().filter_map(NetworkRules::in_words).collect();
        (!of.is_empty()).then(|| ("packet filter".to_owned(), of.join("; ")))
    });
    if rules.len() > LINES {
        let cells = format!("packet filter: {} different sets of rules; trials.jsonl has each trial's", rules.len());
        rules = vec![cells];
    }
    rules.extend(lines(record, |trial| {
        let table = trial.conntrack.first()?;
        let limit = table.limit.map_or_else(
            || "no limit of entries".to_owned(),
            |limit| format!("at most {} entries", thousands(limit as f64)),
        );
        let kept = table.time_wait_s.map(|seconds| format!(", those closed by FIN kept for {seconds} s"));
        Some(("connection tracking".to_owned(), format!("{limit}{}", kept.unwrap_or_default())))
    }));
    rules
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        record::{BaseChain, Conntrack, Rules, Whose},
        report::sample::Sample,
    };

    fn rules(count: u64) -> NetworkRules {
        let [family, table, chain, hook] = ["inet", "t", "c", "input"].map(str::to_owned);
        let chains = vec![BaseChain { family, table, chain, hook, rules: count, drops: false }];
        NetworkRules { rules: Some(Rules { chains, ..Rules::default() }), ..NetworkRules::default() }
    }

    #[test]
    fn conditions_name_rules_and_the_table() {
        let of = |counts: &[u64]| {
            let mut sample = Sample::new("");
            for count in counts {
                let trial = sample.trial(json!({ "count": count }), &[1], 1);
                trial.rules = vec![rules(*count)];
                trial.conntrack =
                    vec![Conntrack { limit: Some(262_144), time_wait_s: Some(120), ..Conntrack::default() }];
            }
            conditions(&sample.reading().record)
        };
        assert_eq!(
            of(&[2, 2]),
            [
                "packet filter: 2 rules of nftables in base chains at input; none of them tracks connections",
                "connection tracking: at most 262,144 entries, those closed by FIN kept for 120 s"
            ]
        );
        let several = of(&[1, 2, 2]);
        assert!(several[0].starts_with("packet filter (with count=1): 1 rule of nftables"), "{several:?}");
        assert!(several[1].starts_with("packet filter (with count=2): 2 rules of nftables"), "{several:?}");
        assert!(several[2].starts_with("connection tracking: at most"), "{several:?}");
        assert!(of(&[1, 2, 3, 4])[0].starts_with("packet filter: 4 different sets of rules; "));
        let unknown = NetworkRules { network: Whose::Server, rules: None, missing: Some("only root".to_owned()) };
        assert_eq!(unknown.in_words().unwrap(), "unknown in the server's network (only root)");
    }
}
