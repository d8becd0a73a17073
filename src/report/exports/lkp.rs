//! `lkp.txt`: the cells' figures as `key: value`, as the statistics scripts of the Linux kernel's test robot (LKP) print them.

use std::fmt::Write;

use super::{
    Exporter, Render,
    named::named,
    percentiles::{slug, slugs},
};
use crate::stats::Summary;

pub(super) const EXPORTER: Exporter =
    Exporter { name: "lkp.txt", render: Render::File(|report| Ok(Some(render(report.ranked.summary)))) };

/// Keys are `listenbench.SCENARIO.CELL.METRIC`, with medians; those that were not reached are left out.
fn render(summary: &Summary) -> String {
    let scenario = slug(&summary.scenario);
    let mut text = String::new();
    for (cell, slug) in named(summary).iter().zip(slugs(&summary.cells)) {
        let place = format!("listenbench.{scenario}.{slug}");
        for (outcome, count) in
            [("valid", cell.cell.valid), ("invalid", cell.cell.invalid), ("failed", cell.cell.failed)]
        {
            let _ = writeln!(text, "{place}.trials_{outcome}: {count}");
        }
        for (metric, values) in cell.figures.iter().filter(|(_, values)| values.median.is_finite()) {
            let _ = writeln!(text, "{place}.{}: {}", metric.name, values.median);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        record::Outcome,
        stats::{fixture, summarize},
    };

    #[test]
    fn a_line_for_each_figure() {
        let trial = |number, outcome| fixture::trial(number, &json!({"strategy": "a: b\n#"}), outcome);
        let record =
            fixture::record(vec![trial(0, Outcome::Valid), trial(1, Outcome::Valid), trial(2, Outcome::Failed)]);
        let text = render(&summarize(&record));
        let place = "listenbench.made-up.strategy-a-_b";
        assert!(
            text.starts_with(&format!(
                "{place}.trials_valid: 2\n{place}.trials_invalid: 0\n{place}.trials_failed: 1\n"
            )),
            "{text}"
        );
        assert!(text.contains(&format!("\n{place}.accepted_per_s: 100.5\n")), "{text}");
        for line in text.lines() {
            let (key, value) = line.split_once(": ").unwrap();
            assert!(!key.contains([' ', ':', '#']) && value.parse::<f64>().is_ok(), "{line}");
        }
    }
}
