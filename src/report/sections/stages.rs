//! Where the time to the first reply goes, stage by stage.

use maud::{Markup, html};
use strum::VariantArray;

use super::{Content, In};
use crate::{
    format::{duration, percent, plural},
    record::Stage,
    report::{
        Grid, Ranked,
        html::{parts::folded, tracks::at},
        ranked::{Cell, keys},
        ranking::plain,
    },
    stats::{CellSummary, Summary},
};

/// Bars beyond these are folded.
const OPEN: usize = 15;

/// What the stages are.
const LEGEND: &str = "Stages: lag, the loader's own lateness; handshake, from the connect call to ESTABLISHED; queue, until the worker \
    that takes the connection wakes up; accept, until accept returns; read, until the first byte of the request; serve, until the \
    reply is written; return, until its last byte reaches the client; close, until the end. All but the last add up to the response.";

/// The chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Stages {
    /// The finding.
    pub title: String,
    /// The stages that any cell has, in order.
    pub names: Vec<Stage>,
    /// One for each cell, in the order of the matrix.
    pub bars: Vec<Bar>,
}

/// A cell's bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// Its name.
    pub name: String,
    /// Mean response, ns: the stages' sum.
    pub response_ns: f64,
    /// Index into the chart's names, mean length in ns, share of the response.
    pub parts: Vec<(usize, f64, f64)>,
}

impl Bar {
    /// The longest part.
    pub fn longest(&self) -> Option<&(usize, f64, f64)> {
        self.parts.iter().max_by(|one, other| one.1.total_cmp(&other.1))
    }
}

pub(super) fn section(ranked: &Ranked<'_>) -> Option<Content> {
    let chart = stages(ranked)?;
    let bars = |bars: &[Bar]| html! { div.tracks { @for bar in bars { (row(&chart, bar)) } } };
    let (open, more) = chart.bars.split_at(chart.bars.len().min(OPEN));
    let figure = html! {
        div.legend {
            @for (number, name) in chart.names.iter().enumerate() {
                button type="button" data-s={ "t" (number) } { i.block.{ "st" (number) } {} (named(*name)) }
            }
        }
        (bars(open))
        @if !more.is_empty() { (folded(&plural(more.len(), "more cell"), &bars(more))) }
    };
    let note = "Means over the first replies of all valid trials, from the intended start to the last byte of the reply. All bars have \
                the same length: their parts are shares of the cell's response.";
    Some(Content {
        title: "Where the time to the first reply goes".to_owned(),
        finding: chart.title,
        figure: Some(figure),
        notes: vec![(In::Page, note.to_owned()), (In::Text, LEGEND.to_owned())],
        tables: vec![(In::All, table(ranked.summary))],
        ..Content::default()
    })
}

/// `None` where no cell has stages.
fn stages(ranked: &Ranked<'_>) -> Option<Stages> {
    let means = |stage: Stage| ranked.cells.iter().filter_map(move |cell| cell.summary.stage_means_ns.get(&stage));
    let of_response = |stage: &Stage| stage.is_of_response() && means(*stage).any(|ns| *ns > 0.0);
    let names: Vec<Stage> = Stage::VARIANTS.iter().copied().filter(of_response).collect();
    let bar = |cell: &Cell<'_>| {
        let of = |stage: &Stage| cell.summary.stage_means_ns.get(stage).copied().unwrap_or(0.0);
        let response_ns: f64 = names.iter().map(of).sum();
        let parts = names.iter().enumerate().map(|(number, stage)| (number, of(stage), of(stage) / response_ns));
        (response_ns > 0.0).then(|| Bar { name: cell.full_name.clone(), response_ns, parts: parts.collect() })
    };
    let bars: Vec<Bar> = ranked.cells.iter().filter_map(bar).collect();
    (!bars.is_empty()).then(|| Stages { title: title(&names, &bars), names, bars })
}

fn title(names: &[Stage], bars: &[Bar]) -> String {
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

/// The stage table: means over all first replies of a cell's valid trials, so that they add up.
fn table(summary: &Summary) -> Grid {
    let names = keys(summary);
    let known = |stage: &Stage| summary.cells.iter().any(|cell| cell.stage_means_ns.contains_key(stage));
    let shown: Vec<Stage> = Stage::VARIANTS.iter().copied().filter(known).collect();
    let mut head = names.clone();
    head.extend(shown.iter().map(|stage| named(*stage)));
    head.push("response".to_owned());
    let row = |cell: &CellSummary| {
        let means = &cell.stage_means_ns;
        let show = |stage: &Stage| means.get(stage).map_or_else(|| "–".to_owned(), |ns| duration(*ns));
        let mut row: Vec<String> = cell.cell.values().map(plain).collect();
        row.extend(shown.iter().map(show));
        let response: f64 = means.iter().filter(|(stage, _)| stage.is_of_response()).map(|(_, ns)| ns).sum();
        row.push(if means.is_empty() { "–".to_owned() } else { duration(response) });
        row
    };
    Grid {
        title: "Where the time to the first reply goes (means)".to_owned(),
        labels: names.len(),
        words: 0,
        head,
        rows: summary.cells.iter().map(row).collect(),
    }
}

fn row(chart: &Stages, bar: &Bar) -> Markup {
    let longest = bar.longest().map(|(stage, _, part)| format!("{} {}", named(chart.names[*stage]), percent(*part)));
    let parts = bar
        .parts
        .iter()
        .map(|(stage, ns, part)| format!("{}: {}, {}", named(chart.names[*stage]), duration(*ns), percent(*part)));
    let tip = format!("{}: {}\n{}", bar.name, duration(bar.response_ns), parts.collect::<Vec<_>>().join("\n"));
    html! {
        div.row tabindex="0" data-tip=(tip) {
            span.who { (bar.name) }
            span.track.stack { @for (stage, _, part) in &bar.parts { i class={ "s st" (stage) " st" (stage) } style={ "width:" (at(*part)) } {} } }
            span.value { (duration(bar.response_ns)) }
            span.remark { (longest.unwrap_or_default()) }
        }
    }
}

/// A stage for display.
fn named(stage: Stage) -> String {
    stage.name().replace('_', " ")
}
