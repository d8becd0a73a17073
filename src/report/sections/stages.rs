//! Where the time to the first reply goes, stage by stage.

use std::cmp::Reverse;

use maud::{Markup, html};
use strum::VariantArray;

use super::{Content, In};
use crate::{
    format::{all_of, duration, percent, plural},
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
const LEGEND: &str = "Stages: lag, the loader's own lateness; handshake, TCP's, from the connect call to ESTABLISHED (a Unix socket has none: connect() queues the connection); queue, until the worker, \
    or the thread or process that accepts for it, wakes up, or its io_uring completes the accept; accept, until accept returns; hand \
    over, until the worker has what its io_uring, another thread or process accepted (where the time of the completion is unknown, \
    queue lasts until the worker wakes up, and accept until it takes the connection from its io_uring); read, until the first byte of the request, \
    or of its TLS handshake; tls, until that handshake is over at the client; serve, until the reply is written; return, until its last byte reaches the client. These add up to the response, and \
    queue, accept and hand over to the accept wait.";
/// The same for the stage that comes after the response.
const CLOSE: &str = " After it, close lasts until the end.";

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
    let closes = shown(ranked.summary).contains(&Stage::Close);
    let legend = if closes { format!("{LEGEND}{CLOSE}") } else { LEGEND.to_owned() };
    Some(Content {
        title: "Where the time to the first reply goes".to_owned(),
        finding: chart.title,
        figure: Some(figure),
        notes: [(In::Page, note.to_owned()), (In::Text, legend)].into_iter().chain(unknown(ranked)).collect(),
        tables: vec![(In::All, table(ranked.summary))],
        ..Content::default()
    })
}

/// That another server's stages are unknown, if there are such cells.
fn unknown(ranked: &Ranked<'_>) -> Option<(In, String)> {
    ranked.cells.iter().any(|cell| !cell.is_own()).then(|| {
        let text = "Stages are known of listenbench's own server only: no other says when it wakes up, reads a request and writes its reply.";
        (In::All, text.to_owned())
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

/// The longest stage of most cells; without a majority, every stage that is the longest of some cell, the most frequent first.
fn title(names: &[Stage], bars: &[Bar]) -> String {
    let of = |(_, ns, part): &(usize, f64, f64)| format!("{} of the response ({})", percent(*part), duration(*ns));
    if let [bar] = bars {
        let Some(longest) = bar.longest() else { return String::new() };
        return format!("The longest stage is {}: {}", named(names[longest.0]), of(longest));
    }
    let longest: Vec<(&Bar, &(usize, f64, f64))> = bars.iter().filter_map(|bar| Some((bar, bar.longest()?))).collect();
    // For each stage, the cells in which it is the longest, and the one with its largest share.
    let stages = (0..names.len()).filter_map(|stage| {
        let cells = longest.iter().filter(|(_, part)| part.0 == stage);
        let example = cells.clone().max_by(|one, other| one.1.2.total_cmp(&other.1.2))?;
        Some((cells.count(), stage, example))
    });
    let mut stages: Vec<_> = stages.collect();
    stages.sort_by_key(|(count, ..)| Reverse(*count));
    let all = bars.len();
    match &stages[..] {
        [] => String::new(),
        [(count, stage, (bar, part)), ..] if 2 * count > all => {
            let name = named(names[*stage]);
            let cells =
                if *count == all { format!("{} cells", all_of(all)) } else { format!("{count} of {all} cells") };
            format!("The longest stage is {name} in {cells}: up to {}, in {}", of(part), bar.name)
        }
        several => {
            let parts: Vec<String> = several
                .iter()
                .map(|(count, stage, (_, part))| format!("{} in {count}: up to {}", named(names[*stage]), of(part)))
                .collect();
            format!("The longest stage differs between the {all} cells: {}", parts.join("; "))
        }
    }
}

/// The stages of the table: those that any cell has. Clients that close as soon as they have the reply spend no time on it.
fn shown(summary: &Summary) -> Vec<Stage> {
    let mean = |stage, cell: &CellSummary| cell.stage_means_ns.get(&stage).copied();
    let is_shown = |stage: &Stage| {
        let mut means = summary.cells.iter().filter_map(|cell| mean(*stage, cell));
        means.any(|ns| *stage != Stage::Close || ns > 0.0)
    };
    Stage::VARIANTS.iter().copied().filter(is_shown).collect()
}

/// The stage table: means over all first replies of a cell's valid trials, so that they add up.
fn table(summary: &Summary) -> Grid {
    let names = keys(summary);
    let shown = shown(summary);
    let mut head = names.clone();
    head.extend(shown.iter().map(|stage| named(*stage)));
    head.push("response".to_owned());
    let row = |cell: &CellSummary| {
        let means = &cell.stage_means_ns;
        let show = |stage: &Stage| means.get(stage).map_or_else(|| "–".to_owned(), |ns| duration(*ns));
        let mut row: Vec<String> = cell.cell.values().map(plain).collect();
        row.extend(shown.iter().map(show));
        let response: f64 = means.iter().filter(|(stage, _)| stage.is_of_response()).map(|(_, ns)| ns).sum();
        row.push(duration(response));
        row
    };
    Grid {
        title: "Where the time to the first reply goes (means)".to_owned(),
        labels: names.len(),
        words: 0,
        head,
        rows: summary.cells.iter().filter(|cell| !cell.stage_means_ns.is_empty()).map(row).collect(),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The title of cells whose response of 1 ms is divided into these shares of queue, serve and return.
    fn titled(cells: &[[f64; 3]]) -> String {
        let bar = |(number, shares): (usize, &[f64; 3])| Bar {
            name: format!("cell {number}"),
            response_ns: 1e6,
            parts: shares.iter().enumerate().map(|(stage, share)| (stage, 1e6 * share, *share)).collect(),
        };
        let bars: Vec<Bar> = cells.iter().enumerate().map(bar).collect();
        title(&[Stage::Queue, Stage::Serve, Stage::Return], &bars)
    }

    #[test]
    fn a_stage_without_a_majority_is_not_the_only_one_named() {
        let [queue, serve, back] = [[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.2, 0.3, 0.5]];
        for (cells, expected) in [
            (&[queue][..], "The longest stage is queue: 60.0 % of the response (600 µs)"),
            (
                &[queue, queue],
                "The longest stage is queue in both cells: up to 60.0 % of the response (600 µs), in cell 1",
            ),
            (
                &[queue, serve, serve],
                "The longest stage is serve in 2 of 3 cells: up to 70.0 % of the response (700 µs), in cell 2",
            ),
            (
                &[queue, serve],
                "The longest stage differs between the 2 cells: queue in 1: up to 60.0 % of the response (600 µs); \
                 serve in 1: up to 70.0 % of the response (700 µs)",
            ),
            (
                &[queue, serve, back, back],
                "The longest stage differs between the 4 cells: return in 2: up to 50.0 % of the response (500 µs); \
                 queue in 1: up to 60.0 % of the response (600 µs); serve in 1: up to 70.0 % of the response (700 µs)",
            ),
        ] {
            assert_eq!(titled(cells), expected);
        }
    }
}
