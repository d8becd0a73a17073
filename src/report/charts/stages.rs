//! Where the time of first replies goes, stage by stage.

use super::Subject;
use crate::{
    format::{duration, percent},
    load::STAGES,
    report::{Grid, model},
};

/// The chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Stages {
    /// The finding.
    pub title: String,
    /// The stages that some cell has, in order.
    pub names: Vec<&'static str>,
    /// In the order of the matrix.
    pub bars: Vec<Bar>,
    /// The same in numbers: a row a cell.
    pub table: Grid,
}

/// A cell's bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// Its name.
    pub name: String,
    /// Mean response, ns: the stages' sum.
    pub response_ns: f64,
    /// Index into the chart's names, mean length in ns, part of the response.
    pub parts: Vec<(usize, f64, f64)>,
}

impl Bar {
    /// The longest part.
    pub fn longest(&self) -> Option<&(usize, f64, f64)> {
        self.parts.iter().max_by(|one, other| one.1.total_cmp(&other.1))
    }
}

/// The last stage comes after the reply.
const AFTER_REPLY: &str = "close";

/// The chart; `None` where no cell knows its stages.
pub fn stages(subject: &Subject<'_>) -> Option<Stages> {
    let table = model::stages(subject.summary)?;
    let means =
        |stage: &'static str| subject.cells.iter().filter_map(move |cell| cell.summary.stage_means_ns.get(stage));
    let names: Vec<&'static str> =
        STAGES.into_iter().filter(|stage| *stage != AFTER_REPLY && means(stage).any(|ns| *ns > 0.0)).collect();
    let bar = |cell: &super::Cell<'_>| {
        let of = |stage: &&str| cell.summary.stage_means_ns.get(*stage).copied().unwrap_or(0.0);
        let response_ns: f64 = names.iter().map(of).sum();
        let parts = names.iter().enumerate().map(|(number, stage)| (number, of(stage), of(stage) / response_ns));
        (response_ns > 0.0).then(|| Bar { name: cell.full_name.clone(), response_ns, parts: parts.collect() })
    };
    let bars: Vec<Bar> = subject.cells.iter().filter_map(bar).collect();
    (!bars.is_empty()).then(|| Stages { title: title(&names, &bars), names, bars, table })
}

fn title(names: &[&str], bars: &[Bar]) -> String {
    let longest = |bar: &Bar| bar.longest().map_or((0, 0.0, 0.0), |part| *part);
    let mut counts = vec![0; names.len()];
    for bar in bars {
        counts[longest(bar).0] += 1;
    }
    let most = (0..names.len()).max_by_key(|stage| counts[*stage]).unwrap_or(0);
    let Some(example) =
        bars.iter().filter(|bar| longest(bar).0 == most).max_by(|a, b| longest(a).2.total_cmp(&longest(b).2))
    else {
        return String::new();
    };
    let name = named(names[most]);
    let (_, ns, part) = longest(example);
    let of = |part: f64| format!("{} of the response ({})", percent(part), duration(ns));
    if bars.len() == 1 {
        return format!("The longest stage is {name}: {}", of(part));
    }
    format!(
        "The longest stage is {name} in {} of {} cells: up to {}, in {}",
        counts[most],
        bars.len(),
        of(part),
        example.name
    )
}

/// A stage as people read it.
pub fn named(stage: &str) -> String {
    stage.replace('_', " ")
}
